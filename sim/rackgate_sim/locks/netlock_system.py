# SPDX-License-Identifier: Apache-2.0
"""NetLock as a system for the model checker: switch, server, hosts, and links that keep order and lose nothing.

The transition functions are those that run: the pipeline's model, one pass a step, and the hosts' participants. A
packet that recirculates may be overtaken by any number of others. Between two hosts, and between a host's two ports,
no order is kept. A lock manager in one server is the same system without a switch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from rackgate.fisslock.abi import Mode
from rackgate.fisslock.effects import Granted, Refused, Send
from rackgate.netlock.abi import PORT
from rackgate.netlock.participant import Participant
from rackgate.netlock.pipeline import LOCAL, PARTITIONS, SERVER, lock, pipeline
from rackgate.netlock.placement import uniform

from .messages import MessageSwitch, Passing

__all__ = ["NetLockSystem", "Task"]

_SWITCH = 0
_LOCK = 7
_IDLE, _WAITS, _HOLDS, _DONE = range(4)


@dataclass(frozen=True)
class Task:
    """One task: it asks for the lock once, holds it, and gives it back. ``may_cancel``: or gives up at any time."""

    host: int
    mode: Mode
    may_cancel: bool = False


class _State(NamedTuple):
    tasks: tuple[int, ...]
    hosts: tuple[Any, ...]
    #: By (from, to, to the client's port): messages on their way, the oldest first.
    links: tuple[tuple[tuple[int, int, bool], tuple[bytes, ...]], ...]
    registers: tuple[tuple[tuple[int, int], ...], ...]
    rounds: tuple[tuple[int, ...], ...]


class NetLockSystem:
    """One lock, and tasks that want it.

    Parameters
    ----------
    tasks:
        Who wants the lock, and how; task k has the number k.
    slots:
        Of the lock in the switch; 0: the switch does not have the lock, its server does.
    one_server:
        All goes to one server, which is its own lock manager.

    Attributes
    ----------
    server:
        Number of the server's host: the one above all clients'.
    """

    def __init__(self, tasks: tuple[Task, ...], slots: int, *, one_server: bool = False):
        self.tasks, self.slots, self.one_server = tasks, slots, one_server
        self.server = max(task.host for task in tasks) + 1
        self._hosts = [Participant(number, server=self.server if one_server else None)
                       for number in range(1, self.server + 1)]
        self._switch = MessageSwitch(pipeline(locks=1, slots=max(1, slots)), lock, range(1, self.server + 1))
        model = self._switch.model
        for number in range(PARTITIONS):
            model.tables["servers"].insert(number, SERVER, host=self.server)
        for place in uniform([_LOCK] if slots else [], slots):
            for name, fields in place.registers.items():
                model.write(name, place.index, **fields)
            model.tables["locks"].insert(place.lock, LOCAL, index=place.index)
        self._names = tuple(model.registers)
        self._fresh = {name: dict(words) for name, words in model.registers.items()}

    @property
    def initial(self) -> _State:
        """Nobody has asked yet."""
        return self._state([_IDLE] * len(self.tasks), [host.freeze() for host in self._hosts], {},
                           {name: dict(words) for name, words in self._fresh.items()}, [])

    def successors(self, state: _State) -> Iterator[tuple[Any, _State]]:
        """Every step out of a state."""
        for number, (task, phase) in enumerate(zip(self.tasks, state.tasks, strict=True)):
            if phase == _IDLE:
                yield self._step(state, ("acquire", number), task.host,
                                 lambda host, n=number, t=task: host.acquire(_LOCK, n, t.mode, 0.0), {number: _WAITS})
            elif phase == _HOLDS:
                yield self._step(state, ("release", number), task.host,
                                 lambda host, n=number: host.release(_LOCK, n, 0.0), {number: _DONE})
            elif phase == _WAITS and task.may_cancel:
                yield self._step(state, ("cancel", number), task.host,
                                 lambda host, n=number: host.cancel(_LOCK, n, 0.0), {number: _DONE})
        for way, waiting in state.links:
            source, target, to_client = way
            rest = {**dict(state.links), way: waiting[1:]}
            if target == _SWITCH:
                packet = self._switch.enter(waiting[0], PORT, source)
                assert packet is not None
                yield ("switch", source), self._pass(state, packet, rest, list(state.rounds))
            else:
                yield self._step(state._replace(links=tuple(rest.items())), ("deliver", *way), target,
                                 lambda host, m=waiting[0], c=to_client: host.receive(m, c, 0.0), {})
        for place, vector in enumerate(state.rounds):
            others = [*state.rounds[:place], *state.rounds[place + 1:]]
            yield ("round", vector), self._pass(state, Passing(list(vector), b""), dict(state.links), others)

    def _pass(self, state: _State, packet: Passing, links: dict[Any, tuple[bytes, ...]],
              rounds: list[tuple[int, ...]]) -> _State:
        registers = {name: dict(words) for name, words in zip(self._names, state.registers, strict=True)}
        left, again = self._switch.one_pass(packet, registers)
        for one in left:
            way = _SWITCH, one.host, one.to_client
            links[way] = (*links.get(way, ()), one.message)
        return self._state(list(state.tasks), list(state.hosts), links, registers,
                           [*rounds, tuple(again.vector)] if again else rounds)

    def _step(self, state: _State, label: Any, number: int, act: Any, phases: dict[int, int]) -> tuple[Any, _State]:
        host = self._hosts[number - 1]
        host.thaw(state.hosts[number - 1])
        act(host)
        tasks, hosts, links = list(state.tasks), list(state.hosts), dict(state.links)
        for task, phase in phases.items():
            tasks[task] = phase
        for effect in host.take():
            if isinstance(effect, Send):
                way = number, _SWITCH if effect.host is None else effect.host, effect.to_client
                links[way] = (*links.get(way, ()), effect.payload)
            elif isinstance(effect, Granted):
                assert tasks[effect.task] == _WAITS, "a grant for a task that does not wait"
                tasks[effect.task] = _HOLDS
            elif isinstance(effect, Refused):
                tasks[effect.task] = _DONE
        hosts[number - 1] = host.freeze()
        registers = {name: dict(words) for name, words in zip(self._names, state.registers, strict=True)}
        return label, self._state(tasks, hosts, links, registers, list(state.rounds))

    def _state(self, tasks: list[int], hosts: list[Any], links: dict[Any, tuple[bytes, ...]],
               registers: dict[str, dict[int, int]], rounds: list[tuple[int, ...]]) -> _State:
        if not rounds and self.slots and self._queued(registers) == 0:
            # Where in its ring an empty queue begins, and what its slots held, means nothing any more.
            for name in ("head", "tail", "slots"):
                registers[name] = dict(self._fresh[name])
        return _State(tuple(tasks), tuple(hosts), tuple(sorted((way, m) for way, m in links.items() if m)),
                      tuple(tuple(sorted(registers[name].items())) for name in self._names), tuple(sorted(rounds)))

    def _queued(self, registers: dict[str, dict[int, int]]) -> int:
        return self.slots - (registers["spaces"].get(0, 0) & 0xFFFF_FFFF)

    def mutual_exclusion(self, state: _State) -> str | None:
        """Invariant: who holds the lock exclusively holds it alone."""
        modes = [task.mode for task, phase in zip(self.tasks, state.tasks, strict=True) if phase == _HOLDS]
        return "an exclusive holder is not alone" if len(modes) > 1 and Mode.EXCLUSIVE in modes else None

    def one_round(self, state: _State) -> str | None:
        """Invariant: at most one packet goes round for a lock."""
        return "two packets go round" if len(state.rounds) > 1 else None

    def good_end(self, state: _State) -> bool:
        """All tasks are done, all hosts idle, no message is on its way, the switch is as it was."""
        if any(phase != _DONE for phase in state.tasks) or state.links or state.rounds:
            return False
        for host, frozen in zip(self._hosts, state.hosts, strict=True):
            host.thaw(frozen)
        return all(host.idle for host in self._hosts) and state.registers == self.initial.registers
