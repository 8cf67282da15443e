# SPDX-License-Identifier: Apache-2.0
"""The agent's side of the hardened protocol: who holds a lock, who waits, when it is handed on."""

from collections.abc import Iterable

from .abi import Entry, Flag, Listed, Message, Mode, Type
from .record import WITH_AGENT, Record, Role, Timer, is_newer
from .serving import Serving

__all__ = ["Agent"]


def _request(lock: int, epoch: int, entry: Entry) -> Message:
    """A waiter's request as it came by way of the switch."""
    return Message(Type.ACQUIRE, Flag.RETRY | entry.kind, 0, lock, epoch, entry.host, 0, entry.task, entry.attempt)


class Agent(Serving):
    """What a host does as agent of locks, see ``docs/fisslock.md``. Its own tasks' requests come here as others' do."""

    # Becoming the agent

    def open(self, record: Record, epoch: int, mode: int, queue: Iterable[Entry], now: float) -> None:
        """Be the agent of an epoch that the switch has made this host's."""
        held_over = record.early
        if record.role == Role.CLOSING:
            held_over = [*self._left_over(record), *held_over]
        self._leave(record)
        record.enter(epoch)
        record.role, record.mode, record.early = Role.OPEN, mode, []
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
        record.enter(epoch)
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
        if self._is_ahead(record, message):
            self.keep(record, message, now)
        elif record.count(message):
            self.settle(record, now)

    def take_in(self, record: Record, now: float) -> None:
        """A task of this host was let in by the switch."""
        record.take_in_held()
        self.settle(record, now)

    def released(self, record: Record, message: Message, now: float) -> None:
        """A task holds no more and waits no more, whatever is known of it here."""
        if self._is_ahead(record, message):
            self.keep(record, message, now)
            return
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
        """Ask for news: hosts whose tasks hold the lock; all of them, when a grant by the switch is unaccounted for
        and the epoch is to end."""
        if record.role != Role.OPEN:
            return
        asked = {host for host, _ in record.holders} - {self.host}
        flags = 0
        if record.gap and (record.shut or not record.holders):
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
        if not record.holders and not record.gap and record.closing is None:
            self._close(record, now)
        elif record.gap or any(host != self.host for host, _ in record.holders):
            if not self.is_armed(record, Timer.POLL):
                self.arm(record, Timer.POLL, now, 2 + record.polls)
        else:
            record.polls = 0
            self.disarm(record, Timer.POLL)
        if record.may_renew(self.most_renewals):
            self._renew(record, now)

    # Ending it

    def close_again(self, record: Record, now: float) -> None:
        """Send TRANSFER, FREE or RENEW again."""
        if record.closing is not None:
            record.closes = min(record.closes + 1, self.most_doublings)
            self.send(record.closing)
            self.arm(record, Timer.CLOSE, now, record.closes)

    def ended(self, record: Record, message: Message, now: float) -> None:
        """The switch says that the epoch is over."""
        if record.closing is None or message.epoch != record.epoch:
            self.ignored += 1
            return
        if record.role == Role.OPEN:  # and that this host is the agent of the next one
            self.renewals += 1
            record.renew(message.task_id)
            self._go_on(record, now)
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
                if record.was_agent(item.epoch) or not item.flags & Flag.RETRY:  # for nothing once at most
                    self._return(record, item)
                else:
                    record.early.append(item)
            elif not record.was_agent(item.epoch):
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
        record.role, record.mode = Role.OPEN, Mode.SHARED
        record.known = max(record.known, message.count)
        self._go_on(record, now)

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
    def _is_ahead(record: Record, message: Message) -> bool:
        """Whether a message numbers a grant of the epoch after the one that this agent is about to renew."""
        return record.closing is not None and message.count != 0 and message.epoch != record.epoch

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
        record.answered = record.elders = frozenset()
        record.shut, record.renewals = False, 0
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

    def _renew(self, record: Record, now: float) -> None:
        """Have the switch count from 0 again, and let readers in again that a writer kept out which waits no more.

        Where the switch has granted nothing in this epoch, its count is not what keeps readers out.
        """
        flags = 0 if record.known else Flag.CANCEL
        record.closing = Message(Type.RENEW, flags, record.known, record.lock, record.epoch, 0, self.host)
        self.send(record.closing)
        self.arm(record, Timer.CLOSE, now, 0)

    def _go_on(self, record: Record, now: float) -> None:
        """Be the agent still."""
        record.closing, record.closes = None, 0
        self.disarm(record, Timer.CLOSE)
        early, record.early = record.early, []
        record.take_in_held()
        self._work_off(record, early, now)

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
