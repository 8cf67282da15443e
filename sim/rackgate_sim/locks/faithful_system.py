# SPDX-License-Identifier: Apache-2.0
"""FissLock as published, as a system that can be explored: tasks, hosts, links and the switch.

One lock; every task asks for it once. The switch is the reference model of its declared pipeline, which the gateware
is held to packet for packet; the hosts are :class:`~rackgate_sim.locks.faithful_host.FaithfulHost`.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rackgate.fisslock.abi import AGENT_PORT, Mode
from rackgate.fisslock.effects import Granted, Send
from rackgate.fisslock.faithful import lock as lock_header
from rackgate.fisslock.faithful import pipeline

from .explore import Outcome, explore
from .faithful_host import FaithfulHost
from .messages import Left, MessageSwitch

__all__ = ["ENDED", "GIVEN_UP", "HOLDING", "IDLE", "LOCK", "WAITING", "Configuration", "FaithfulSystem", "State",
           "SwitchRules"]

#: What a task is at.
IDLE, WAITING, HOLDING, ENDED, GIVEN_UP = "idle", "waiting", "holding", "ended", "given up"

#: The lock of all tasks.
LOCK = 0


@dataclass(frozen=True)
class Configuration:
    """A system to explore.

    Parameters
    ----------
    tasks:
        Host (from 1) and mode of each.
    ordered:
        Whether a link is one queue. Otherwise what goes to a host's port for grants and to its port for agents may
        overtake each other, as it does where the paper's hosts steer them to different cores.
    aborts:
        How many waiting tasks may give up.
    duplicates, losses:
        How many messages may come twice, or never.
    count_width:
        Bits of the switch's counter of shared grants.
    """

    tasks: tuple[tuple[int, Mode], ...]
    ordered: bool = True
    aborts: int = 0
    duplicates: int = 0
    losses: int = 0
    count_width: int = 8

    @property
    def hosts(self) -> int:
        """How many there are."""
        return max(host for host, _ in self.tasks)


class State(NamedTuple):
    """A state of the whole system.

    ``links`` are queues of messages: of each host the one to the switch, then the one from it (two, for agents and for
    grants, if they are not ordered). A message is its bytes and whether it is for the port for grants.
    """

    switch: tuple[int, ...]
    hosts: tuple[Hashable, ...]
    links: tuple[tuple[tuple[bool, bytes], ...], ...]
    tasks: tuple[str, ...]
    aborts: int
    duplicates: int
    losses: int


class SwitchRules:
    """What the switch does with a message, from the reference model of its pipeline; answers are remembered."""

    def __init__(self, count_width: int, hosts: int):
        self.switch = MessageSwitch(pipeline(locks=1, count_width=count_width), lock_header, range(1, hosts + 1))
        self.names = [register.name for register in self.switch.model.pipeline.registers]
        self.free = tuple(0 for _ in self.names)
        self._known: dict[Any, Any] = {}

    def step(self, words: tuple[int, ...], message: bytes) -> tuple[tuple[int, ...], list[Left]]:
        """The registers' words after a message, and what leaves."""
        key = words, message
        if key not in self._known:
            registers = self.switch.model.registers
            for name, word in zip(self.names, words, strict=True):
                registers[name][LOCK] = word
            left = self.switch.send(message, AGENT_PORT)
            self._known[key] = tuple(registers[name][LOCK] for name in self.names), left
        return self._known[key]


class FaithfulSystem:
    """The system of a configuration: its initial state, its steps, and what is wrong with a state.

    Labels of steps are ``acquire``, ``release`` or ``abort`` and a task, or ``deliver``, ``duplicate`` or ``lose`` and
    a link: ``1>`` from host 1 to the switch, ``>1`` from the switch to host 1, and ``>1 grants`` where grants have a
    link of their own.
    """

    def __init__(self, configuration: Configuration):
        self.configuration = configuration
        self.rules = SwitchRules(configuration.count_width, configuration.hosts)
        self._known: dict[Any, Any] = {}
        numbers = range(1, configuration.hosts + 1)
        #: Names of the links, in the order of :attr:`State.links`.
        self.links = [f"{number}>" for number in numbers] + [f">{number}" for number in numbers]
        if not configuration.ordered:
            self.links += [f">{number} grants" for number in numbers]

    @property
    def initial(self) -> State:
        """Nothing has been asked for, the lock is free."""
        its = self.configuration
        nothing = FaithfulHost(1).freeze()
        return State(self.rules.free, (nothing,) * its.hosts, ((),) * len(self.links),
                     (IDLE,) * len(its.tasks), its.aborts, its.duplicates, its.losses)

    # Steps

    def successors(self, state: State) -> Iterator[tuple[str, State]]:
        """Every step that can be made."""
        for task, (_, mode) in enumerate(self.configuration.tasks):
            status = state.tasks[task]
            if status == IDLE:
                yield f"acquire {task}", self._call(state, task, WAITING, "acquire", LOCK, task, mode)
            elif status == HOLDING:
                yield f"release {task}", self._call(state, task, ENDED, "release", LOCK, task)
            elif status == WAITING and state.aborts:
                rest = state._replace(aborts=state.aborts - 1)
                yield f"abort {task}", self._call(rest, task, GIVEN_UP, "cancel", LOCK, task)
        for link, queue in enumerate(state.links):
            if queue:
                rest = state._replace(links=_with(state.links, link, queue[1:]))
                yield f"deliver {self.links[link]}", self._deliver(rest, link, queue[0])
                if state.duplicates:
                    twice = _with(state.links, link, (queue[0], *queue))
                    yield f"duplicate {self.links[link]}", state._replace(links=twice, duplicates=state.duplicates - 1)
                if state.losses:
                    yield f"lose {self.links[link]}", rest._replace(losses=state.losses - 1)

    def _call(self, state: State, task: int, status: str, call: str, *arguments: Any) -> State:
        begun = state._replace(tasks=_with(state.tasks, task, status))
        return self._at_host(begun, self.configuration.tasks[task][0], call, *arguments)

    def _deliver(self, state: State, link: int, message: tuple[bool, bytes]) -> State:
        host = link % self.configuration.hosts + 1
        if link >= self.configuration.hosts:
            return self._at_host(state, host, "receive", message[1], message[0])
        words, sent = self.rules.step(state.switch, message[1])
        links = list(state.links)
        for target, to_client, content in sent:
            place = self.configuration.hosts * (1 + (to_client and not self.configuration.ordered)) + target - 1
            links[place] = (*links[place], (to_client, content))
        return state._replace(switch=words, links=tuple(links))

    def _at_host(self, state: State, number: int, call: str, *arguments: Any) -> State:
        before = state.hosts[number - 1]
        key = number, before, call, arguments
        if key not in self._known:
            host = FaithfulHost.thaw(number, before)
            getattr(host, call)(*arguments)
            self._known[key] = host.freeze(), host.take()
        after, effects = self._known[key]
        tasks, links = list(state.tasks), list(state.links)
        for effect in effects:
            if isinstance(effect, Send):
                links[number - 1] = (*links[number - 1], (False, effect.payload))
            elif isinstance(effect, Granted) and tasks[effect.task] == WAITING:
                tasks[effect.task] = HOLDING
        return state._replace(hosts=_with(state.hosts, number - 1, after), tasks=tuple(tasks), links=tuple(links))

    # What must be true

    def exclusion(self, state: State) -> str | None:
        """Mutual exclusion: who holds the lock exclusively holds it alone."""
        holding = [task for task, status in enumerate(state.tasks) if status == HOLDING]
        if len(holding) > 1 and any(self.configuration.tasks[task][1] == Mode.EXCLUSIVE for task in holding):
            return f"tasks {' and '.join(map(str, holding))} hold the lock together"
        return None

    def one_agent(self, state: State) -> str | None:
        """At most one host takes itself for the agent."""
        agents = [number for number, host in enumerate(state.hosts, 1) if self._host(number, host).is_agent]
        return f"hosts {' and '.join(map(str, agents))} are agents" if len(agents) > 1 else None

    def served(self, state: State) -> bool:
        """An end: everybody has had the lock, or has given up, and nothing is on its way."""
        return all(status in (ENDED, GIVEN_UP) for status in state.tasks) and not any(state.links)

    def freed(self, state: State) -> bool:
        """An end: the lock is free, and no host thinks otherwise, unless there is a task left that could see to it."""
        return not self.served(state) or state.switch == self.rules.free and not any(
            record.is_agent or record.holders or record.queue
            for record in (self._host(number, host) for number, host in enumerate(state.hosts, 1)))

    def served_and_freed(self, state: State) -> bool:
        """An end as it should be."""
        return self.served(state) and self.freed(state)

    def _host(self, number: int, frozen: Hashable) -> Any:
        return FaithfulHost.thaw(number, frozen).record(LOCK)

    def explore(self, *invariants: str, end: str | None = "served_and_freed", **limits: Any) -> Outcome:
        """Explore it.

        ``invariants`` are of ``exclusion`` and ``one_agent``; ``end`` is
        ``served``, ``freed``, ``served_and_freed`` or None. The rest are limits of
        :func:`~rackgate_sim.locks.explore.explore`.
        """
        return explore([self.initial], self.successors,
                       invariants=[getattr(self, name) for name in invariants],
                       good_end=getattr(self, end) if end else None, **limits)


def _with(values: Sequence[Any], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1:])
