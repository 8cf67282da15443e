# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the hardened protocol: who holds a lock, who waits, when it is handed on."""

from collections.abc import Iterable

from .abi import Entry, Flag, Listed, Message, Mode, Type
from .core import Core
from .effects import Granted, Refused, Why
from .record import WITH_AGENT, Held, Record, Role, Timer, is_newer

__all__ = ["Agent"]


def _request(lock: int, epoch: int, entry: Entry) -> Message:
    """A waiter's request as it came by way of the switch."""
    return Message(Type.ACQUIRE, Flag.RETRY | entry.kind, 0, lock, epoch, entry.host, 0, entry.task, entry.attempt)


class Agent(Core):
    """What a host does as agent of locks, see ``docs/fisslock.md``. Its own tasks' requests come here as others' do."""

    # Becoming the agent

    def open(self, record: Record, epoch: int, mode: int, queue: Iterable[Entry], now: float) -> None:
        """Be the agent of an epoch that the switch has made this host's."""
        held_over = record.early
        if record.role == Role.CLOSING:
            held_over = [*self._left_over(record), *held_over]
        self._leave(record)
        record.role, record.epoch, record.mode, record.early = Role.OPEN, epoch, mode, []
        record.queue = list(queue)
        record.take_in_held()
        self._work_off(record, held_over, now)

    def assume(self, record: Record, epoch: int, now: float) -> None:
        """Be the agent though its grant did not come: a task here holds the lock in that very epoch.

        While it does, the epoch goes on, and the switch has sent something to this host as its agent.
        """
        record.void(epoch, WITH_AGENT, self.next_attempt)
        self.open(record, epoch, Mode.SHARED, (), now)

    def adopt(self, record: Record, epoch: int, waiting: Iterable[Entry], now: float) -> None:
        """Have the switch say whether this host is the agent of an epoch of which it knows nothing: free the lock.

        Nobody holds the lock here, and nobody shall on account of the epoch's first grant, which may still be on its
        way. Afterwards who waits asks the switch anew; if the lock cannot be freed, this host is the agent indeed.
        """
        record.void(epoch, WITH_AGENT, self.next_attempt)
        record.early = [*(_request(record.lock, epoch, entry) for entry in waiting),
                        *(item for item in record.early if item.type != Type.GRANT_W_AGENT or item.epoch != epoch)]
        self._leave(record)
        record.epoch = epoch
        self._close(record, now, self.new_attempt())

    def consider(self, record: Record, now: float) -> None:
        """What came too early for the agent that this host is not: find out whether it is."""
        if record.role or not record.early:
            return
        held = {item.epoch for item in record.held.values()}
        for item in record.early:
            if item.epoch in held:
                self.assume(record, item.epoch, now)
                return
        grant = next((item for item in record.early if item.type == Type.GRANT_W_AGENT), None)
        if grant is not None and not held:
            self.adopt(record, grant.epoch, grant.entries, now)
        elif not self.is_armed(record, Timer.ADOPT):
            self.arm(record, Timer.ADOPT, now, 0)

    def adopt_late(self, record: Record, now: float) -> None:
        """The grant did not come in time."""
        if record.role or not record.early:
            return
        if record.held:
            self.arm(record, Timer.ADOPT, now, 0)
        else:
            self.adopt(record, record.early[-1].epoch, (), now)

    def keep(self, record: Record, message: Message, now: float) -> None:
        """Put a message for the agent off until it is known who that is."""
        if message not in record.early and len(record.early) < self.most_waiters:
            record.early.append(message)
        self.consider(record, now)

    # Being the agent

    def serve(self, record: Record, message: Message, now: float) -> None:
        """Decide on a request: grant, queue or refuse."""
        if self._decide(record, message):
            self.settle(record, now)

    def count(self, record: Record, message: Message, now: float) -> None:
        """Take note of a holder that the switch has let in."""
        if record.count(message):
            self.settle(record, now)

    def take_in(self, record: Record, now: float) -> None:
        """A task of this host was let in by the switch."""
        record.take_in_held()
        self.settle(record, now)

    def released(self, record: Record, message: Message, now: float) -> None:
        """A task holds no more and waits no more, whatever is known of it here."""
        record.drop(message)
        self.settle(record, now)

    def reported(self, record: Record, message: Message, now: float) -> None:
        """A host has said which of its tasks hold the lock."""
        listed: dict[int, int] = {}
        for item in message.entries:
            listed[item.task] = item.attempt
            if item.kind == Listed.HELD:
                record.see(item.host)
                record.hold(message.agent, item.task, item.attempt)
        for (host, task), attempt in list(record.holders.items()):
            if host == message.agent and listed.get(task) != attempt and is_newer(message.attempt, attempt):
                del record.holders[host, task]
        if message.flags & Flag.VOID and message.count == record.asked:
            record.answered |= {message.agent}
            if record.answered >= self.hosts - {self.host}:
                record.seen |= (1 << record.asked) - 1
                record.asked, record.answered = 0, frozenset()
        self.settle(record, now)

    def poll(self, record: Record, now: float) -> None:
        """Ask for news: hosts whose tasks hold the lock; all of them, when a grant by the switch is unaccounted for."""
        if record.role != Role.OPEN:
            return
        asked = {host for host, _ in record.holders} - {self.host}
        flags = 0
        if record.gap and not record.holders:
            flags = Flag.VOID
            if record.asked != record.known:
                record.asked, record.answered = record.known, frozenset()
                record.void(record.epoch, record.known, self.next_attempt)
            asked = self.hosts - {self.host} - record.answered
            if not asked:
                record.seen, record.asked = record.seen | (1 << record.asked) - 1, 0
        for host in sorted(asked):
            self.send(Message(Type.QUERY, flags, record.known, record.lock, record.epoch, host, self.host))
        record.polls = min(record.polls + 1, self.most_doublings)
        self.settle(record, now)

    def settle(self, record: Record, now: float) -> None:
        """Grant what can be granted, and hand the lock on if nobody holds it."""
        if record.role != Role.OPEN:
            return
        self._drop_own(record)
        while record.mode == Mode.SHARED and record.queue and record.queue[0].kind == Mode.SHARED:
            self._admit(record, record.queue.pop(0))
        if not record.holders and not record.gap:
            self._close(record, now)
        elif record.gap or any(host != self.host for host, _ in record.holders):
            if not self.is_armed(record, Timer.POLL):
                self.arm(record, Timer.POLL, now, 2 + record.polls)
        else:
            record.polls = 0
            self.disarm(record, Timer.POLL)

    # Ending it

    def close_again(self, record: Record, now: float) -> None:
        """Send TRANSFER or FREE again."""
        if record.closing is not None:
            record.closes = min(record.closes + 1, self.most_doublings)
            self.send(record.closing)
            self.arm(record, Timer.CLOSE, now, record.closes)

    def ended(self, record: Record, message: Message, now: float) -> None:
        """The switch says that the epoch is over."""
        if record.role != Role.CLOSING or message.epoch != record.epoch:
            self.ignored += 1
            return
        left, early, closing = self._left_over(record), record.early, record.closing
        self._leave(record)
        if closing is not None and closing.type == Type.TRANSFER and closing.machine_id == self.host:
            record.early = [*left, *early]  # the next agent is this host: who waits keeps his place
            self.consider(record, now)
            return
        record.early = []
        for item in (*left, *early):
            if self._asks(item):
                if item.epoch == record.epoch or not item.flags & Flag.RETRY:  # it goes round for nothing once at most
                    self._return(record, item)
                else:
                    record.early.append(item)
            elif item.epoch != record.epoch:
                record.early.append(item)
        self.consider(record, now)

    def rejected(self, record: Record, message: Message, now: float) -> None:
        """The switch has let in holders that this agent did not know of: go on."""
        sent = record.closing
        if sent is None or message.count <= sent.count or (
                message.epoch, message.machine_id, message.task_id, message.attempt) != (
                sent.epoch, sent.machine_id, sent.task_id, sent.attempt):
            self.ignored += 1
            return
        record.role, record.closing, record.mode = Role.OPEN, None, Mode.SHARED
        self.disarm(record, Timer.CLOSE)
        record.closes = 0
        record.known = max(record.known, message.count)
        early, record.early = record.early, []
        record.take_in_held()
        self._work_off(record, early, now)

    def hand_back(self, record: Record, message: Message, now: float) -> None:
        """A request that went to this host after it had ceased to be the agent: once more to the switch."""
        if not message.flags & Flag.RETRY:
            self._return(record, message)
            return
        self.keep(record, message, now)  # it has been round: have the switch say whether this host is the agent
        if record.role == Role.NONE and not record.held:
            self.adopt(record, message.epoch, (), now)

    # Details

    @staticmethod
    def _asks(message: Message) -> bool:
        return message.type == Type.ACQUIRE and not message.flags & Flag.GRANTED

    def _return(self, record: Record, message: Message) -> None:
        if message.machine_id == self.host:
            request = record.pending.get(message.task_id)
            if request is None or request.attempt != message.attempt:
                return  # of no use any more
        self.send(message._replace(flags=message.flags | Flag.RETRY, epoch=0, agent=0, count=0))

    @staticmethod
    def _left_over(record: Record) -> list[Message]:
        """Waiters that the TRANSFER had no room for, as the requests that they made."""
        return [_request(record.lock, record.epoch, entry) for entry in record.queue[1 + Entry.MOST:]]

    def _leave(self, record: Record) -> None:
        record.role, record.closing, record.holders, record.queue = Role.NONE, None, {}, []
        record.seen = record.known = record.asked = record.polls = record.closes = 0
        record.answered = frozenset()
        for timer in (Timer.CLOSE, Timer.POLL, Timer.ADOPT):
            self.disarm(record, timer)

    def _close(self, record: Record, now: float, attempt: int = 0) -> None:
        if record.queue:
            first, *rest = record.queue
            flags = first.kind | (Flag.WRITER if any(item.kind for item in rest) else 0)
            message = Message(Type.TRANSFER, flags, record.known, record.lock, record.epoch, first.host, self.host,
                              first.task, first.attempt, tuple(rest[:Entry.MOST]))
        else:
            message = Message(Type.FREE, 0, record.known, record.lock, record.epoch, 0, self.host, 0, attempt)
        record.role, record.closing = Role.CLOSING, message
        for timer in (Timer.POLL, Timer.ADOPT):
            self.disarm(record, timer)
        self.send(message)
        self.arm(record, Timer.CLOSE, now, 0)

    def _work_off(self, record: Record, early: Iterable[Message], now: float) -> None:
        early = list(early)
        for item in early:  # grants first: a request that the switch has granted must not be queued
            if item.type == Type.ACQUIRE and item.flags & Flag.GRANTED:
                record.count(item)
        for item in early:
            if self._asks(item):
                self._decide(record, item)
            elif item.type == Type.RELEASE:
                record.drop(item)
        if record.is_void(record.epoch, WITH_AGENT):  # one of these was granted the lock in vain
            for task, request in record.pending.items():
                if request.wait:
                    record.enqueue(Entry(request.mode, self.host, task, request.attempt))
        self.settle(record, now)

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
