# SPDX-License-Identifier: Apache-2.0
"""Waves of the last cycles before a failure, without writing waves all the time.

While a run goes on, the process forks now and then; a child is a snapshot of everything, driver and models,
and sleeps. When the run fails, the newest child that is old enough wakes, turns the waves on and does the rest
once more: the same seed, the same calls, the same failure.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from .cluster import Cluster
from .errors import SimulationError
from .simulation import Event, Scheduler, Simulation

__all__ = ["TimeTravel"]

#: Cycles that waves go on for after the failure, if the driver gets that far.
_MARGIN = 8


class _Snapshot:
    """A sleeping child and the pipe that wakes it."""

    def __init__(self, cycle: int, pid: int, pipe: int):
        self.cycle, self.pid, self.pipe = cycle, pid, pipe

    def drop(self) -> None:
        """End the child, which has nothing to lose, and bury it."""
        os.close(self.pipe)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class TimeTravel:
    """Context in which a failure leaves waves of at least the last ``every`` cycles before it.

    Any exception that leaves the ``with`` block counts as a failure: an assertion, a time-out, a driver's own check.
    The files are named in a note of the exception and in :attr:`waves`.

    What the block did since the snapshot is done again in the child: files it writes are written twice, what it
    prints is dropped. The libraries must be of the variant ``debug``, and memory windows must not be shared with
    other processes. A snapshot costs about a millisecond, and the memory that changes later. With a cluster of
    several threads, the second run uses one.

    Parameters
    ----------
    simulation:
        What to take snapshots of: a simulation, or a cluster with all its simulations.
    waves:
        File to write (FST); in a cluster, device k writes to the same name with ``-k`` before the suffix.
    every:
        Cycles between snapshots.
    keep:
        Snapshots kept, at least 2, so that one is always ``every`` cycles old.
    limit:
        Wall-clock seconds the second run may take.
    """

    def __init__(
        self,
        simulation: Simulation | Cluster,
        waves: str | os.PathLike,
        *,
        every: int = 20_000,
        keep: int = 2,
        limit: float = 300.0,
    ):
        if every < 1:
            raise ValueError(f"every must be at least 1 cycle, not {every}")
        if keep < 2:
            raise ValueError(f"keep must be at least 2 snapshots, not {keep}")
        self._clocked = simulation
        self._simulations: Sequence[Simulation] = (
            simulation.simulations if isinstance(simulation, Cluster) else (simulation,)
        )
        for one in self._simulations:
            if one.library.variant != "debug":
                raise SimulationError(
                    f"{one.library.name} was built as {one.library.variant!r}: waves need variant 'debug'"
                )
        self._path = Path(waves)
        self.every, self.keep, self.limit = every, keep, limit
        self.waves: list[Path] = []
        self._snapshots: list[_Snapshot] = []
        self._next = 0
        self._stop: int | None = None  # in a woken child: the cycle to end at
        self._inner: dict[int, Scheduler | None] = {}

    def __enter__(self) -> Self:
        for one in self._simulations:
            self._inner[id(one)] = one.scheduler
            one.scheduler = self
        if isinstance(self._clocked, Cluster):
            self._clocked.history = self
        self._next = self._clocked.cycle
        self._visit()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._stop is not None:
            self._leave()
        for one in self._simulations:
            one.scheduler = self._inner[id(one)]
        if isinstance(self._clocked, Cluster):
            self._clocked.history = None
        try:
            if isinstance(error, Exception):
                self._rerun(error)
        finally:
            for snapshot in self._snapshots:
                snapshot.drop()
            self._snapshots.clear()

    # ---- while the run goes on ----

    def advance(self, simulation: Simulation, cycles: int, mask: int) -> int:
        """Run a simulation in pieces that end where a snapshot is due (see :class:`.simulation.Scheduler`)."""
        inner = self._inner[id(simulation)]
        run = (
            simulation.run_alone
            if inner is None
            else lambda step, events: inner.advance(simulation, step, events)
        )
        return self.pieces(run, lambda: simulation.cycle, cycles, mask)

    def pieces(self, run: Callable[[int, int], int], now: Callable[[], int], cycles: int, mask: int) -> int:
        """Call ``run(cycles, mask)`` piece by piece; returns the events it ended with."""
        end = now() + cycles
        while True:
            self._visit()
            due = self._next if self._stop is None else self._stop
            events = run(min(end - now(), max(due - self._clocked.cycle, 1)), mask)
            if events != Event.LIMIT or now() >= end:
                return events

    def _visit(self) -> None:
        """Take a snapshot if one is due; in a woken child, end when the failure has been passed."""
        cycle = self._clocked.cycle
        if self._stop is not None:
            if cycle >= self._stop:
                self._leave()
        elif cycle >= self._next:
            self._next = cycle + self.every
            self._snapshot(cycle)

    def _snapshot(self, cycle: int) -> None:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            # Earlier snapshots' pipes must not stay open here, or those children would not see them close.
            os.close(writer)
            for other in self._snapshots:
                os.close(other.pipe)
            self._snapshots.clear()
            self._sleep(reader)
            return
        os.close(reader)
        self._snapshots.append(_Snapshot(cycle, pid, writer))
        if len(self._snapshots) > self.keep:
            self._snapshots.pop(0).drop()

    # ---- in the child ----

    def _sleep(self, reader: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is for the parent
        message = os.read(reader, 4096)
        os.close(reader)
        if not message:
            os._exit(0)
        self._stop = json.loads(message)["stop"]
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        for one, path in zip(self._simulations, self._paths(), strict=True):
            one.trace(path)

    def _leave(self) -> None:
        for one in self._simulations:
            one.trace(None)
        os._exit(0)

    # ---- after a failure ----

    def _paths(self) -> list[Path]:
        if not isinstance(self._clocked, Cluster):
            return [self._path]
        return [self._path.with_stem(f"{self._path.stem}-{k}") for k in range(len(self._simulations))]

    def _rerun(self, error: Exception) -> None:
        cycle = max(one.cycle for one in self._simulations)
        chosen = self._snapshots[0]
        for snapshot in self._snapshots:
            if snapshot.cycle + self.every <= cycle:
                chosen = snapshot
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for path in self._paths():
            path.unlink(missing_ok=True)
        os.write(chosen.pipe, json.dumps({"stop": cycle + _MARGIN}).encode())
        self._snapshots.remove(chosen)
        if not self._bury(chosen):
            error.add_note(f"no waves: the second run did not end within {self.limit:g} s")
            return
        self.waves = [path for path in self._paths() if path.exists()]
        if self.waves:
            error.add_note(f"waves of cycles {chosen.cycle} to {cycle}: {', '.join(map(str, self.waves))}")
        else:
            error.add_note("no waves: the second run ended before it could write any")

    def _bury(self, snapshot: _Snapshot) -> bool:
        """Wait for a woken child; false if it had to be ended."""
        os.close(snapshot.pipe)
        deadline = time.monotonic() + self.limit
        while os.waitpid(snapshot.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(snapshot.pid, signal.SIGKILL)
                os.waitpid(snapshot.pid, 0)
                return False
            time.sleep(0.005)
        return True
