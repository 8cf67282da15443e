# SPDX-License-Identifier: Apache-2.0
"""Several simulated devices on one time line, whose drivers wait at the same time."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..errors import Unavailable, UsageError
from . import SharedMemory, Turns
from .sim import SimTransport

__all__ = ["JoinedSimulations"]

_NEVER = 1 << 62


class _Access:
    """What a rank has asked of its node: to run until an event of ``mask``, to cycle ``end`` at most."""

    def __init__(self, end: int, mask: int):
        self.end, self.mask = end, mask
        self.events: int | None = None
        self.is_abandoned = False


class JoinedSimulations:
    """Simulations at a crossbar, on one time line.

    While ranks take turns, a rank that accesses a register of its device, or waits for it, gives up its turn until
    that is over, unless its node may run that far without the others. So what ranks do in between costs no device
    time, and their accesses pass at the same time, as those of hosts would that are truly apart.

    Parameters
    ----------
    fabric:
        The :class:`rackgate_sim.native.Fabric`. Closed with this.
    memories:
        The nodes' memories.

    Attributes
    ----------
    fabric:
        As given: for the crossbar's counters, and what else a driver must not know of.
    transports:
        Access to each node.
    turns:
        Who gives ranks their turns now, if anybody does.
    """

    def __init__(self, fabric: Any, memories: Sequence[SharedMemory]):
        from rackgate_sim.native import Event

        self._irq, self._register, self._limit = Event.IRQ, Event.REGISTER, Event.LIMIT
        self.fabric = fabric
        self.turns: Turns | None = None
        self._accesses: list[_Access | None] = [None] * len(memories)
        self._numbers = {id(one): number for number, one in enumerate(fabric.simulations)}
        for one in fabric.simulations:
            one.scheduler = self
        self.transports = [_JoinedTransport(self, number, memory) for number, memory in enumerate(memories)]

    @property
    def cycle(self) -> int:
        """Clock cycles that all nodes have passed."""
        return self.fabric.cycle

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Let all pass at most ``cycles``, with ``until_interrupt`` none once an interrupt is high.

        Ends early as well when an access of a rank has ended.
        """
        simulations = self.fabric.simulations
        if not any(self._accesses):
            if not until_interrupt:
                self.fabric.cluster.run(cycles)
            elif not any(one.irq for one in simulations):
                self.fabric.run(cycles, self._irq)
            return
        end = self.cycle + cycles
        waits = []
        for access, one in zip(self._accesses, simulations, strict=True):
            if access is None:
                waits.append((max(end, one.cycle + 1), self._irq if until_interrupt and not one.irq else 0))
            else:
                waits.append((access.end, access.mask))
        found = self.fabric.cluster.race(waits)
        for access, one, events in zip(self._accesses, simulations, found, strict=True):
            if access is not None:
                access.events = events
            elif events is not None:
                one.check()

    def traffic(self, source: int, destination: int) -> tuple[int, int]:
        """Packets that one node has sent to another, and their bytes with headers."""
        found = self.fabric.crossbar.traffic(source, destination)
        return found.packets, found.bytes

    def advance(self, simulation: Any, cycles: int, mask: int) -> int:
        """Run one simulation until an event, for its own methods (see :class:`rackgate_sim.native`)."""
        number, turns = self._numbers[id(simulation)], self.turns
        if turns is None or not turns.has_turn:
            return self.fabric.cluster.advance(simulation, cycles, mask)
        if self._accesses[number] is not None:
            raise UsageError(f"node {number} must not be used by two ranks at a time")
        # A node that is behind the others may catch up without them, and the turn is kept.
        if (own := min(cycles, self.fabric.cluster.horizon - simulation.cycle)) > 0:
            events = simulation.run_alone(own, mask)
            if events != self._limit or own == cycles:
                return events
            cycles -= own
        access = self._accesses[number] = _Access(simulation.cycle + cycles, mask)
        try:
            turns.wait(lambda: access.events is not None, _NEVER)
        except BaseException:
            access.is_abandoned = True
            raise
        self._accesses[number] = None
        simulation.check()
        assert access.events is not None
        return access.events

    def is_engaged(self, number: int) -> bool:
        """Whether a rank is in the middle of an access to this node, and the calling thread is another."""
        return self._accesses[number] is not None

    def settle(self, number: int) -> None:
        """Bring an access to its end that a rank left behind when it was given up."""
        access = self._accesses[number]
        if access is None or not access.is_abandoned:
            return
        self._accesses[number] = None
        simulation = self.fabric.simulations[number]
        if access.events is None and access.mask & self._register:
            self.fabric.cluster.advance(simulation, max(0, access.end - simulation.cycle), self._register)

    def close(self) -> None:
        """Free the nodes, ending their waves."""
        for one in self.fabric.simulations:
            one.scheduler = None
        self.fabric.close()


class _JoinedTransport(SimTransport):
    """Access to one of several nodes."""

    def __init__(self, joined: JoinedSimulations, number: int, memory: SharedMemory):
        super().__init__(joined.fabric.simulations[number], memory)
        self._joined, self._number = joined, number

    @property
    def irq(self) -> bool:
        """Level of the interrupt, low for everybody while a rank is in the middle of an access.

        Otherwise an interrupt handler would come between a register access of its own node and its answer.
        """
        return not self._joined.is_engaged(self._number) and super().irq

    def _access(self, method: Callable[..., Any], *arguments: int) -> Any:
        self._joined.settle(self._number)
        return super()._access(method, *arguments)

    def waves_on_failure(self, path: Path) -> AbstractContextManager[Any]:
        """Not to be had: snapshots of a process do not take its ranks' threads along."""
        raise Unavailable("sim: waves of a failure are for single devices; joined ones have the option waves")

    def close(self) -> None:
        """Nothing: the node is freed with the others."""
