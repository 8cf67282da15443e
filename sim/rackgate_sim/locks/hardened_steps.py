# SPDX-License-Identifier: Apache-2.0
"""The steps of hosts, switch and network in the hardened protocol, see :mod:`.hardened_system`."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from rackgate.fisslock.abi import AGENT_PORT, Message, Mode, Type
from rackgate.fisslock.abi import State as LockState
from rackgate.fisslock.effects import Granted, Refused, Send
from rackgate.fisslock.hardened import lock, pipeline
from rackgate.fisslock.participant import HardenedParticipant
from rackgate.fisslock.record import Role
from rackgate.pisa.declare import Pipeline

from .hardened_state import DONE, HOLDING, IDLE, LOCK, WAITING, Configuration, Global, Link, Network, Task
from .messages import MessageSwitch

__all__ = ["HardenedSteps"]

#: Messages that a host sends as requester; those that it sends as agent go by another flow.
_CLIENT_FLOW = frozenset({Type.ACQUIRE, Type.RELEASE, Type.REPORT})


class HardenedSteps:
    """The steps of a :class:`Configuration`'s system.

    Parameters
    ----------
    configuration:
        What is explored.
    switch:
        A pipeline in place of the declared one: a mutant.
    participant:
        A class of hosts in place of the declared one: a mutant.
    """

    def __init__(self, configuration: Configuration, switch: Pipeline | None = None,
                 participant: type[HardenedParticipant] = HardenedParticipant):
        self.configuration = configuration
        #: The tasks, and in the end for each host one more, which asks if the lock is not free though all are through.
        self.tasks = configuration.tasks + tuple(Task(host, Mode.EXCLUSIVE) for host in configuration.hosts)
        self._sweepers = len(configuration.tasks)
        form = configuration.word
        self._shift = (form.state, form.state + form.agent, form.state + form.agent + form.count)
        self._mask = tuple((1 << width) - 1 for width in form)
        self.switch = MessageSwitch(switch or pipeline(1, form), lock, configuration.hosts)
        self.participants = [
            participant(host, configuration.hosts, timeout=1.0, longest=1.0, retries=None,
                        memory=16 if configuration.memory else 0) for host in configuration.hosts]
        self._switch_steps: dict[tuple[int, bytes], Any] = {}
        self._host_steps: dict[Any, Any] = {}
        self._numbers: dict[Hashable, int] = {}
        self._frozen: list[Hashable] = []
        self._views: list[Any] = []

    # The parts

    def _number(self, place: int) -> int:
        """The number of the state in which a host is."""
        frozen = place, self.participants[place].freeze()
        number = self._numbers.setdefault(frozen, len(self._frozen))
        if number == len(self._frozen):
            self._frozen.append(frozen[1])
            self._views.append(None)
        return number

    def word(self, value: int) -> tuple[int, int, int, int]:
        """State, agent, count and epoch of a word."""
        return (value & self._mask[0], value >> self._shift[0] & self._mask[1],
                value >> self._shift[1] & self._mask[2], value >> self._shift[2] & self._mask[3])

    def epochs_from(self, one: int, other: int) -> int:
        """How many epochs ``other`` is after ``one``, negative if it is before: less than half of those there are."""
        gone = other - one & self._mask[3]
        return gone if 2 * gone <= self._mask[3] + 1 else gone - self._mask[3] - 1

    def _switched(self, word: int, message: bytes) -> tuple[int, tuple[tuple[Link, bytes], ...]]:
        key = word, message
        if key not in self._switch_steps:
            registers = self.switch.model.registers["locks"]
            registers.clear()
            registers[LOCK] = word
            left = self.switch.send(message, AGENT_PORT)
            self._switch_steps[key] = registers[LOCK], tuple(
                (self._link(1, item.host, item.to_client), item.message) for item in left)
        return self._switch_steps[key]

    def _acted(self, place: int, number: int, what: tuple[Any, ...]) -> Any:
        """A host after it did something: its number, messages that it sent, grants and refusals."""
        key = number, what
        if key not in self._host_steps:
            host = self.participants[place]
            host.thaw(self._frozen[number])
            kind, *arguments = what
            if kind == "try":
                host.acquire(*arguments, now=0.0, wait=False)
            else:
                getattr(host, kind)(*arguments, now=0.0)
            sent, told = [], []
            for effect in host.take():
                if isinstance(effect, Send):
                    sent.append((self._link(0, host.host, Message.from_bytes(effect.payload).type not in _CLIENT_FLOW),
                                 effect.payload))
                else:
                    told.append(effect)
            self._host_steps[key] = self._number(place), tuple(sent), tuple(told)
        return self._host_steps[key]

    def _link(self, down: int, host: int, flow: int) -> Link:
        return Link(down, host, int(flow) if self.configuration.network is Network.FLOWS else 0)

    def view(self, place: int, number: int) -> tuple[Any, ...]:
        """Of a host: role, epoch, mode, seen, known, its tasks that hold (task, mode, epoch, attempt), whether it is
        at rest, timers, exclusive requests in its queue, whether it renews the epoch, holders known to it as agent."""
        if self._views[number] is None:
            host = self.participants[place]
            host.thaw(self._frozen[number])
            record = host.records.get(LOCK)
            if record is None:
                self._views[number] = (Role.NONE, -1, 0, 0, 0, (), True, host.armed, (), False, frozenset())
            else:
                # What came early for an agent that this host is not waits for a timer, and nobody waits for it.
                at_rest = not (record.pending or record.held or record.role or self.configuration.timers)
                self._views[number] = (record.role, record.epoch, record.mode, record.seen, record.known,
                                       tuple((task, item.mode, item.epoch, item.attempt)
                                             for task, item in record.held.items()),
                                       at_rest, host.armed,
                                       tuple(item.task for item in record.queue if item.kind),
                                       record.role == Role.OPEN and record.closing is not None,
                                       frozenset(record.holders.items()))
        return self._views[number]

    # The system

    def initial(self) -> Global:
        """Where it begins."""
        count = self.configuration
        return Global(0, tuple(map(self._number, range(len(self.participants)))), (),
                      tuple((IDLE if number < self._sweepers else DONE, task.rounds)
                            for number, task in enumerate(self.tasks)),
                      (count.losses, count.duplicates, count.cancels, count.hasty), ((-1, 0),) * len(self.tasks))

    def successors(self, state: Global) -> Iterator[tuple[Hashable, Global]]:
        """Every step out of a state."""
        losses, duplicates, cancels, hasty = state.budget
        over = self.is_over(state) and self.word(state.word)[0] != LockState.FREE
        for number, (task, (at, _)) in enumerate(zip(self.tasks, state.tasks, strict=True)):
            if at == IDLE or over and number >= self._sweepers:
                kind = "acquire" if task.wait else "try"
                yield ("acquire", number), self._host_step(self._begun(state, number), task.host,
                                                           (kind, LOCK, number, task.mode))
            elif at == HOLDING:
                yield ("release", number), self._host_step(self._task(state, number, DONE), task.host,
                                                           ("release", LOCK, number))
            elif at == WAITING and cancels:
                yield ("cancel", number), self._host_step(
                    state._replace(budget=(losses, duplicates, cancels - 1, hasty)), task.host,
                    ("cancel", LOCK, number))
        for link, message, rest in self._deliverable(state.under_way):
            without = state._replace(under_way=rest)
            yield ("deliver", link.down, link.host, message), self._deliver(without, link, message)
            if losses:
                yield ("lose", link.down, link.host, message), without._replace(
                    budget=(losses - 1, duplicates, cancels, hasty))
            if duplicates:
                yield ("duplicate", link.down, link.host, message), self._deliver(
                    state._replace(budget=(losses, duplicates - 1, cancels, hasty)), link, message)
        if self.configuration.timers and (hasty or not state.under_way):
            after = state if not state.under_way else state._replace(budget=(losses, duplicates, cancels, hasty - 1))
            for place, number in enumerate(state.hosts):
                for key in self.view(place, number)[7]:
                    yield ("timer", place + 1, *key[1:]), self._host_step(after, place + 1, ("fire", key))

    def _begun(self, state: Global, number: int) -> Global:
        state = self._task(state, number, WAITING)
        if self.configuration.bypasses is None:
            return state
        before = sum(1 << other for other, (count, _) in enumerate(state.passed) if count >= 0)
        passed = list(state.passed)
        passed[number] = -1, before
        return state._replace(passed=tuple(passed))

    def _task(self, state: Global, number: int, at: int) -> Global:
        tasks = list(state.tasks)
        rounds = tasks[number][1]
        if at == DONE and rounds > 1:
            tasks[number] = IDLE, rounds - 1
        else:
            tasks[number] = at, rounds
        return state._replace(tasks=tuple(tasks))

    def _deliver(self, state: Global, link: Link, message: bytes) -> Global:
        if link.down:
            return self._host_step(state, link.host, ("receive", message, bool(link.flow)))
        word, left = self._switched(state.word, message)
        return self._send(state._replace(word=word), left)

    def _host_step(self, state: Global, host: int, what: tuple[Any, ...]) -> Global:
        number, sent, told = self._acted(host - 1, state.hosts[host - 1], what)
        hosts = list(state.hosts)
        hosts[host - 1] = number
        state = self._send(state._replace(hosts=tuple(hosts)), sent)
        if self.configuration.bypasses is not None:
            state = state._replace(passed=tuple(
                (0 if count < 0 and task in self.view(host - 1, number)[8] else count, before)
                for task, (count, before) in enumerate(state.passed)))
        for effect in told:
            at = state.tasks[effect.task][0]
            if isinstance(effect, Granted):
                if at != WAITING:
                    raise AssertionError(f"task {effect.task} is granted what it does not wait for")
                state = self._pass(self._task(state, effect.task, HOLDING), effect.task)
            elif isinstance(effect, Refused):
                if at != WAITING:
                    raise AssertionError(f"task {effect.task} is refused what it does not wait for")
                state = self._task(state, effect.task, DONE)
        return state

    def _pass(self, state: Global, number: int) -> Global:
        if self.configuration.bypasses is None:
            return state
        passed = list(state.passed)
        for other in range(len(passed)):
            count, before = passed[other]
            if passed[number][1] >> other & 1 and count >= 0 and state.tasks[other][0] == WAITING \
                    and self.tasks[number].mode == Mode.SHARED:
                passed[other] = count + 1, before
        passed[number] = -1, 0
        return state._replace(passed=tuple(passed))

    def _send(self, state: Global, messages: Sequence[tuple[Link, bytes]]) -> Global:
        if not messages:
            return state
        links = dict(state.under_way)
        for link, message in messages:
            links[link] = (*links.get(link, ()), message)
        if self.configuration.network is Network.UNORDERED:
            links = {link: tuple(sorted(items)) for link, items in links.items()}
        return state._replace(under_way=tuple(sorted(links.items())))

    def _deliverable(self, under_way: tuple[tuple[Link, tuple[bytes, ...]], ...]) -> Iterator[Any]:
        anywhere = self.configuration.network is Network.UNORDERED
        for place, (link, messages) in enumerate(under_way):
            before: bytes | None = None
            for number, message in enumerate(messages if anywhere else messages[:1]):
                if message == before:
                    continue
                before = message
                rest = messages[:number] + messages[number + 1:]
                yield link, message, under_way[:place] + (((link, rest),) if rest else ()) + under_way[place + 1:]

    def is_over(self, state: Global) -> bool:
        """Every task is through, nothing is under way, and no host owes anything."""
        return not state.under_way and all(at == DONE for at, _ in state.tasks) and all(
            self.view(place, number)[6] for place, number in enumerate(state.hosts))
