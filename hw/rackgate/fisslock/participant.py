# SPDX-License-Identifier: Apache-2.0
"""A host of the hardened protocol: requester for its own tasks, agent where the switch makes it one.

Plain Python without clock, socket or thread, see :class:`~rackgate.fisslock.effects.Participant`. The protocol and
the reasons for it are in ``docs/fisslock.md``.
"""

from .abi import LARGEST_NUMBER, Entry, Flag, Listed, Message, Mode, Type
from .agent import Agent
from .effects import Why
from .record import WITH_AGENT, Record, Request, Role, Timer

__all__ = ["HardenedParticipant"]


class HardenedParticipant(Agent):
    """A host of the hardened protocol. Its parameters are :class:`~rackgate.fisslock.core.Core`'s."""

    # What tasks want

    def acquire(self, lock: int, task: int, mode: Mode, now: float, *, wait: bool = True) -> None:
        """Ask for a lock; ends in one Granted or Refused. ``wait`` False: refused as BUSY instead of waiting.

        Raises
        ------
        ValueError
            The task waits for the lock or holds it already, or a number does not fit 32 bits.
        """
        for name, value in (("lock", lock), ("task", task)):
            if not 0 <= value <= LARGEST_NUMBER:
                raise ValueError(f"{name} must fit 32 bits, not {value}")
        mode = Mode(mode)
        known = self.records.get(lock)
        if known is not None and (task in known.pending or task in known.held):
            raise ValueError(f"task {task} has asked for lock {lock} already")
        record = self.record(lock)
        record.pending[task] = Request(mode, self.new_attempt(), wait)
        if record.role == Role.OPEN and (record.mode == Mode.EXCLUSIVE or mode == Mode.SHARED or not wait):
            self.arm(record, Timer.ASK, now, self.most_doublings, task)
            self.serve(record, self._request(record, task, 0), now)
        else:  # an exclusive request to a lock that is shared here goes to the switch too: it closes it to others
            self._ask(record, task, 0, now)
        self.tidy(record)

    def release(self, lock: int, task: int, now: float) -> None:
        """Give back a lock. Raises ValueError if the task does not hold it."""
        record = self.records.get(lock)
        if record is None or task not in record.held:
            raise ValueError(f"task {task} does not hold lock {lock}")
        held = record.held.pop(task)
        message = Message(Type.RELEASE, 0, held.count, lock, held.epoch, self.host, 0, task, held.attempt)
        if record.role == Role.OPEN:
            self.released(record, message, now)
        elif record.role == Role.CLOSING and record.epoch == held.epoch:
            self.keep(record, message, now)
        else:
            self.send(message)
            self.consider(record, now)
        self.tidy(record)

    def cancel(self, lock: int, task: int, now: float) -> None:
        """Stop waiting. Raises ValueError if the task does not wait."""
        record = self.records.get(lock)
        if record is None or task not in record.pending:
            raise ValueError(f"task {task} does not wait for lock {lock}")
        self._withdraw(record, task, Why.CANCELLED, now)
        self.tidy(record)

    # What comes from the network

    def receive(self, message: bytes, to_client: bool, now: float) -> None:
        """Take a UDP payload. What is malformed or not for this host is ignored, and counted."""
        try:
            content = Message.from_bytes(message)
        except ValueError:
            self.malformed += 1
            return
        kind = content.type
        if kind in (Type.ACQUIRE, Type.RELEASE):
            mine = content.agent == self.host
        elif kind in (Type.ACK, Type.REJECT):
            mine = content.agent == self.host
        else:
            mine = content.machine_id == self.host
        handler = self._HANDLERS.get(kind)
        if handler is None or not mine:
            self.ignored += 1
            return
        if kind == Type.QUERY and content.lock not in self.records:
            self._report(None, content)
            return
        record = self.record(content.lock)
        handler(self, record, content, now)
        self.tidy(record)

    def tick(self, now: float) -> None:
        """Do whatever is due."""
        while (deadline := self.deadline) is not None and deadline <= now:
            self.fire(self._heap[0][1], now)

    def fire(self, key: tuple[int, int, int], now: float) -> None:
        """Let one of the timers that are :attr:`armed` go off."""
        del self._due[key]
        lock, timer, task = key
        record = self.records[lock]
        if timer == Timer.ASK:
            self._ask_again(record, task, now)
        elif timer == Timer.CLOSE:
            self.close_again(record, now)
        elif timer == Timer.ADOPT:
            self.adopt_late(record, now)
        else:
            self.poll(record, now)
        self.tidy(record)

    # The requester

    def _request(self, record: Record, task: int, flags: int) -> Message:
        request = record.pending[task]
        return Message(Type.ACQUIRE, flags | request.mode | (0 if request.wait else Flag.TRY), 0, record.lock, 0,
                       self.host, 0, task, request.attempt)

    def _ask(self, record: Record, task: int, flags: int, now: float) -> None:
        self.send(self._request(record, task, flags))
        self.arm(record, Timer.ASK, now, record.pending[task].tries, task)

    def _ask_again(self, record: Record, task: int, now: float) -> None:
        request = record.pending[task]
        if record.role == Role.OPEN:
            self.arm(record, Timer.ASK, now, self.most_doublings, task)
            self.serve(record, self._request(record, task, Flag.RETRY), now)
            return
        tries = request.tries + 1
        if self.retries is None:
            tries = min(tries, self.most_doublings)
        elif tries >= self.retries:
            self._withdraw(record, task, Why.UNREACHABLE, now)
            return
        record.pending[task] = request._replace(tries=tries)
        self._ask(record, task, Flag.RETRY, now)

    def _withdraw(self, record: Record, task: int, why: Why, now: float) -> None:
        request = record.pending[task]
        self.give_up(record, task, why)
        message = Message(Type.RELEASE, Flag.CANCEL, 0, record.lock, 0, self.host, 0, task, request.attempt)
        if record.role == Role.OPEN:
            self.released(record, message, now)
        else:
            self.send(message)

    def _granted_with_agent(self, record: Record, message: Message, now: float) -> None:
        if self._is_asked_for(record, message) and record.role != Role.OPEN:
            self.accept(record, message.task_id, message.epoch, 0)
            self.open(record, message.epoch, message.flags & Flag.EXCLUSIVE, message.entries, now)
        elif (record.role == Role.OPEN or record.was_agent(message.epoch)
              or record.is_void(message.epoch, WITH_AGENT)):
            self.ignored += 1
        else:
            self.keep(record, message, now)

    def _granted_without_agent(self, record: Record, message: Message, now: float) -> None:
        held = record.held.get(message.task_id)
        if self._is_asked_for(record, message):
            self.accept(record, message.task_id, message.epoch, message.count)
            if record.role == Role.OPEN and record.epoch == message.epoch:
                self.take_in(record, now)
            else:
                self.consider(record, now)
        elif held is not None and held.attempt == message.attempt or record.is_void(message.epoch, message.count):
            self.ignored += 1
        else:
            back = Message(Type.RELEASE, 0, message.count, record.lock, message.epoch, self.host, 0, message.task_id,
                           message.attempt)
            if record.role == Role.OPEN:
                self.released(record, back, now)
            else:
                self.send(back)

    def _is_asked_for(self, record: Record, message: Message) -> bool:
        request = record.pending.get(message.task_id)
        exclusive, count = Mode.SHARED, message.count
        if message.type == Type.GRANT_W_AGENT:
            exclusive, count = message.flags & Flag.EXCLUSIVE, WITH_AGENT
        return (request is not None and request.attempt == message.attempt and request.mode == exclusive
                and not record.is_void(message.epoch, count))

    def _waits(self, record: Record, message: Message, now: float) -> None:
        request = record.pending.get(message.task_id)
        if request is not None and request.attempt == message.attempt:
            record.pending[message.task_id] = request._replace(tries=0)
            self.arm(record, Timer.ASK, now, self.most_doublings, message.task_id)

    def _refused(self, record: Record, message: Message, now: float) -> None:
        request = record.pending.get(message.task_id)
        if request is not None and request.attempt == message.attempt:
            self.give_up(record, message.task_id, Why.FULL if message.flags & Flag.FULL else Why.BUSY)

    def _asked_who_holds(self, record: Record, message: Message, now: float) -> None:
        if message.flags & Flag.VOID:
            record.void(message.epoch, message.count, self.next_attempt)
        self._report(record, message)

    def _report(self, record: Record | None, message: Message) -> None:
        entries = []
        if record is not None:
            entries = [Entry(Listed.HELD, item.count if item.epoch == message.epoch else 0, task, item.attempt)
                       for task, item in record.held.items()]
            entries += [Entry(Listed.WAITING, 0, task, item.attempt) for task, item in record.pending.items()
                        if item.mode == Mode.SHARED]
        if len(entries) <= Entry.MOST:  # else the agent learns of them one by one, as they are released
            self.send(Message(Type.REPORT, message.flags & Flag.VOID, message.count, message.lock, message.epoch,
                              message.agent, self.host, 0, self.next_attempt, tuple(entries)))

    # Messages to the agent

    def _asked(self, record: Record, message: Message, now: float) -> None:
        granted = message.flags & Flag.GRANTED
        if record.role == Role.OPEN:
            if not granted:
                record.turned_away(message)
            (self.count if granted else self.serve)(record, message, now)
        elif record.role == Role.CLOSING:
            self.keep(record, message, now)
        elif not record.was_agent(message.epoch):
            self.keep(record, message, now)
        elif not granted:
            self.hand_back(record, message, now)

    def _given_back(self, record: Record, message: Message, now: float) -> None:
        if record.role == Role.OPEN:
            self.released(record, message, now)
        elif record.role == Role.CLOSING or not record.was_agent(message.epoch):
            self.keep(record, message, now)

    def _reported(self, record: Record, message: Message, now: float) -> None:
        if record.role == Role.OPEN and message.epoch == record.epoch:
            self.reported(record, message, now)

    _HANDLERS = {
        Type.ACQUIRE: _asked, Type.RELEASE: _given_back, Type.GRANT_W_AGENT: _granted_with_agent,
        Type.GRANT_WO_AGENT: _granted_without_agent, Type.WAITING: _waits, Type.REFUSE: _refused,
        Type.QUERY: _asked_who_holds, Type.REPORT: _reported, Type.ACK: Agent.ended, Type.REJECT: Agent.rejected,
    }
