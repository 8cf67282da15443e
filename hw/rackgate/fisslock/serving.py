# SPDX-License-Identifier: Apache-2.0
"""The agent's decisions on requests in the hardened protocol: grant, queue or refuse."""

from .abi import Entry, Flag, Message, Mode, Type
from .core import Core
from .effects import Granted, Refused, Why
from .record import Held, Record, Timer, is_newer

__all__ = ["Serving"]


class Serving(Core):
    """What an agent decides on requests, those of its host's own tasks among them; and what it tells those tasks."""

    def _drop_own(self, record: Record) -> None:
        """This host's own requests: whether they still stand is known here."""
        record.queue = [
            item for item in record.queue if item.host != self.host
            or ((request := record.pending.get(item.task)) is not None and request.attempt == item.attempt)]
        for key in [key for key in record.holders if key[0] == self.host]:
            task, attempt = key[1], record.holders[key]
            held, request = record.held.get(task), record.pending.get(task)
            if request is not None and request.attempt == attempt:
                self.accept(record, task, record.epoch, 0)
            elif held is None or held.attempt != attempt:
                del record.holders[key]

    def _decide(self, record: Record, message: Message) -> bool:
        """Whether anything changed."""
        entry = Entry(message.flags & Flag.EXCLUSIVE, message.machine_id, message.task_id, message.attempt)
        key = entry.host, entry.task
        held = record.holders.get(key)
        if held is not None:
            if is_newer(held, entry.attempt):
                return False
            if held == entry.attempt:
                if record.mode == Mode.SHARED:
                    self._grant(record, entry)
                return True
            del record.holders[key]  # the task asks anew: it holds no more
        known = next((item.attempt for item in record.queue if (item.host, item.task) == key), None)
        if known is None:
            waits = any(item.kind for item in record.queue)
            if record.mode == Mode.SHARED and entry.kind == Mode.SHARED and not waits:
                self._admit(record, entry)
                return True
            if message.flags & Flag.TRY or len(record.queue) >= self.most_waiters:
                self._refuse(record, message)
                return True
        if record.enqueue(entry) or known == entry.attempt:
            if message.flags & Flag.RETRY and entry.host != self.host:
                self.send(Message(Type.WAITING, 0, 0, record.lock, record.epoch, entry.host, self.host, entry.task,
                                  entry.attempt))
        return True

    def _admit(self, record: Record, entry: Entry) -> None:
        record.hold(entry.host, entry.task, entry.attempt)
        self._grant(record, entry)

    def _grant(self, record: Record, entry: Entry) -> None:
        if entry.host == self.host:
            request = record.pending.get(entry.task)
            if request is not None and request.attempt == entry.attempt:
                self.accept(record, entry.task, record.epoch, 0)
        else:
            self.send(Message(Type.GRANT_WO_AGENT, 0, 0, record.lock, record.epoch, entry.host, self.host, entry.task,
                              entry.attempt))

    def _refuse(self, record: Record, message: Message) -> None:
        full = not message.flags & Flag.TRY
        if message.machine_id == self.host:
            request = record.pending.get(message.task_id)
            if request is not None and request.attempt == message.attempt:
                self.give_up(record, message.task_id, Why.FULL if full else Why.BUSY)
        else:
            self.send(Message(Type.REFUSE, Flag.FULL if full else 0, 0, record.lock, record.epoch, message.machine_id,
                              self.host, message.task_id, message.attempt))

    # This host's own tasks

    def accept(self, record: Record, task: int, epoch: int, count: int) -> None:
        """A task of this host holds the lock from now on."""
        request = record.take(task)
        self.disarm(record, Timer.ASK, task)
        record.held[task] = Held(request.mode, request.attempt, epoch, count)
        self.effect(Granted(record.lock, task, Mode(request.mode), epoch))

    def give_up(self, record: Record, task: int, why: Why) -> None:
        """A task of this host does not wait any more."""
        record.take(task)
        self.disarm(record, Timer.ASK, task)
        self.effect(Refused(record.lock, task, why))
