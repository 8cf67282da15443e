# SPDX-License-Identifier: Apache-2.0
"""One simulated device, driven from Python."""

import enum
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .binding import freed_with, load
from .build import Library
from .errors import AssertionFailure, ProtocolError, RegisterError, SimulationError, SimulationTimeout
from .memory import MemoryPort
from .streams import InputStream, OutputStream

__all__ = ["DEFAULT_LIMIT", "FAILURE", "Event", "Scheduler", "Simulation", "in_slices"]

#: Cycles that a register access may take, unless told otherwise.
DEFAULT_LIMIT = 10_000
_SLICE = 1 << 18
_RESET_CYCLES = 8
# Status of a register access beyond the bus's own responses (``rg_transfer`` in the harness).
_BUSY, _LATE, _BROKEN = 4, 5, 6
_RESPONSES = {1: "EXOKAY", 2: "SLVERR", 3: "DECERR"}
_LOCATION = re.compile(r"(?P<text>.*) \[(?P<file>[^\[\]]+):(?P<line>\d+)\]\s*$", re.DOTALL)


class Event(enum.IntFlag):
    """Reasons for :meth:`Simulation.run` to return. Each stays set until it has been reported.

    ``PACKET`` an output stream delivered something; ``IRQ`` the interrupt rose; ``DRAIN`` an input stream's queue
    ran empty; ``WATCH`` the device wrote into a watched range; ``REGISTER`` a register access ended; ``FAULT`` a
    memory access was answered with an error; ``LIMIT`` none of those asked for came within the limit.
    """

    NONE = 0
    PACKET = 1
    IRQ = 2
    DRAIN = 4
    WATCH = 8
    REGISTER = 16
    FAULT = 32
    LIMIT = 128


#: Event bit of the library: something broke, and :meth:`Simulation.check` raises it.
FAILURE = 64


def in_slices(run: Callable[[int], int], cycles: int, *, devices: int = 1) -> int:
    """Call ``run(cycles)`` in slices, so that ^C is heard soon, until it returns another event than the limit.

    The more ``devices`` a call runs, the shorter the slices.
    """
    step = max(1, _SLICE // devices)
    while cycles > step:
        if (events := run(step)) != Event.LIMIT:
            return events
        cycles -= step
    return run(cycles)


class Scheduler(Protocol):
    """Whoever lets a simulation's clock run: itself, or the cluster it belongs to."""

    def advance(self, simulation: "Simulation", cycles: int, mask: int) -> int:
        """Run one simulation until an event of the mask, at most so many cycles; return the events, raise failures."""
        ...


class Simulation:
    """A device built by :func:`build`, after reset, with its clock at cycle 0.

    Time passes only in :meth:`run`, :meth:`wait` and register accesses, and each of them is bounded. All random
    behaviour (stalls, jitter, reordering) comes from the seed: the same seed and the same calls give the same run.

    Parameters
    ----------
    library:
        The built device.
    seed:
        Seed of all random behaviour.
    """

    def __init__(self, library: Library, *, seed: int = 0):
        self.library, self.seed = library, seed
        self._lib = load(library.path)
        self._handle = self._lib.rg_new(seed & (1 << 64) - 1)
        self._finalizer = freed_with(self, self._lib.rg_free, self._handle)
        self.scheduler: Scheduler | None = None
        self._signals = {s.name: (index, s) for index, s in enumerate(library.signals)}
        self._ports: dict[str, MemoryPort | InputStream | OutputStream] = {}
        self._registers: dict[str, int] = {}
        for index, info in enumerate(library.ports):
            if info.kind == "register":
                self._registers[info.name] = index
            elif info.kind == "memory":
                self._ports[info.name] = MemoryPort(self, index, info)
            else:
                self._ports[info.name] = (InputStream if info.kind.endswith("_in") else OutputStream)(
                    self, index, info
                )
        self._printed = ""
        self._lib.rg_reset(self._handle, _RESET_CYCLES)
        self.check()

    def close(self) -> None:
        """Free the model, ending its trace. Using the simulation afterwards is an error."""
        if self.scheduler is not None:
            raise SimulationError("the simulation belongs to a cluster or a time travel: close that first")
        self._finalizer()

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def handle(self) -> int:
        """The model, for the library's functions."""
        if not self._finalizer.alive:
            raise SimulationError("the simulation is closed")
        return self._handle

    def _call(self, function: str, *arguments: Any) -> Any:
        return getattr(self._lib, f"rg_{function}")(self.handle, *arguments)

    def check(self) -> None:
        """Raise what broke in the device, if anything did."""
        if (failure := self._call("failure")) is None:
            return
        text, cycle = failure.decode(errors="replace"), self.cycle
        if not text.startswith("assert: "):
            raise ProtocolError(f"cycle {cycle}: {text}", cycle=cycle)
        text = text.removeprefix("assert: ")
        if match := _LOCATION.match(text):
            raise AssertionFailure(match["text"], cycle=cycle, file=match["file"], line=int(match["line"]))
        raise AssertionFailure(text.strip() or "without a message", cycle=cycle)

    # ---- time ----

    @property
    def cycle(self) -> int:
        """Clock cycles since reset."""
        return self._call("cycle")

    def run(self, cycles: int, until: Event = Event.NONE) -> Event:
        """Let the clock run for ``cycles``, or until an event.

        Returns the events of ``until`` that came (perhaps before the call, if nobody was told yet), or
        :attr:`Event.LIMIT`.

        Raises
        ------
        AssertionFailure
            If a hardware assertion failed.
        ProtocolError
            If the device broke the rules of a port.
        """
        if cycles < 0:
            raise ValueError(f"cycles must not be negative, not {cycles}")
        return Event(self._advance(cycles, int(until)))

    def _advance(self, cycles: int, mask: int) -> int:
        if self.scheduler is None:
            return self.run_alone(cycles, mask)
        return self.scheduler.advance(self, cycles, mask)

    def run_alone(self, cycles: int, mask: int) -> int:
        """What :meth:`run` does without a scheduler, in the library's terms. For schedulers."""
        events = in_slices(lambda step: self._call("run", step, mask), cycles)
        if events & FAILURE:
            self.check()
        return events

    def wait(self, until: Event, limit: int, what: str = "") -> Event:
        """Run until an event, and raise if it does not come.

        Parameters
        ----------
        until:
            Events to wait for.
        limit:
            Cycles to wait at most.
        what:
            What is waited for, in words, for the message.

        Raises
        ------
        SimulationTimeout
            If none of the events came; the message says what was waited for, for how long, and how the ports stood.
        """
        events = self.run(limit, until)
        if events & Event.LIMIT:
            raise self.timeout(what or (until.name or str(until)), limit)
        return events

    def timeout(self, what: str, limit: int) -> SimulationTimeout:
        """An error to raise when ``what`` did not happen within ``limit`` cycles."""
        return SimulationTimeout(
            f"waited {limit} cycles, until cycle {self.cycle}, for {what}\n{self.state()}", cycle=self.cycle
        )

    def state(self) -> str:
        """How the ports stand: one line each."""
        lines = [self._call("state", index).decode() for index in range(len(self.library.ports))]
        if "irq" in self._signals:
            lines.append(f"irq: {'high' if self.irq else 'low'}")
        return "\n".join(f"  {line}" for line in lines)

    # ---- registers ----

    def read_register(self, address: int, *, port: str = "csr", limit: int = DEFAULT_LIMIT) -> int:
        """Read a 32-bit register.

        Raises
        ------
        RegisterError
            If the device answers with an error.
        SimulationTimeout
            If it does not answer within ``limit`` cycles.
        """
        return self._access(port, False, address, 0, limit)

    def write_register(
        self, address: int, value: int, *, port: str = "csr", limit: int = DEFAULT_LIMIT
    ) -> None:
        """Write a 32-bit register; returns when the device has answered. Errors as with :meth:`read_register`."""
        if not 0 <= value < 1 << 32:
            raise ValueError(f"value must fit 32 bits, not {value:#x}")
        self._access(port, True, address, value, limit)

    def _access(self, port: str, write: bool, address: int, value: int, limit: int) -> int:
        index = self._index(self._registers, port, "register port")
        status, result = divmod(self._transfer(index, write, address, value, limit), 1 << 32)
        if not status:
            return result
        what = f"{'write of' if write else 'read of'} register {address:#x} at port {port}"
        if status == _BUSY:
            raise SimulationError(f"{what}: the access before it has not ended", cycle=self.cycle)
        if status == _LATE:
            raise self.timeout(what, limit)
        if status == _BROKEN:
            self.check()
        raise RegisterError(
            f"cycle {self.cycle}: {what}: the device answered {_RESPONSES[status]}", cycle=self.cycle
        )

    def _transfer(self, index: int, write: bool, address: int, value: int, limit: int) -> int:
        """One access, by the harness alone or under the scheduler; the status stands above the 32 bits of data."""
        if self.scheduler is None:
            return self._call("transfer", index, write, address, value, limit)
        if self._call("busy", index):
            return _BUSY << 32
        self._call("access", index, write, address, value)
        if self._advance(limit, Event.REGISTER) & Event.LIMIT:
            return _LATE << 32
        return self._call("response", index) << 32 | self._call("value", index)

    @staticmethod
    def _index(table: dict[str, Any], name: str, what: str) -> Any:
        if name not in table:
            raise ValueError(f"the device has no {what} {name!r}; it has {', '.join(table) or 'none'}")
        return table[name]

    # ---- other ports ----

    def memory(self, port: str = "mem") -> MemoryPort:
        """The memory behind an AXI4 port."""
        found = self._index(self._ports, port, "memory port")
        if not isinstance(found, MemoryPort):
            raise TypeError(f"port {port} is a stream, not a memory")
        return found

    def stream(self, name: str) -> InputStream | OutputStream:
        """The queue at a stream: :class:`InputStream` where the device receives, else :class:`OutputStream`."""
        found = self._index(self._ports, name, "stream")
        if isinstance(found, MemoryPort):
            raise TypeError(f"port {name} is a memory, not a stream")
        return found

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return bool(self._call("irq"))

    def peek(self, name: str) -> int:
        """Value of a plain signal (its low 64 bits)."""
        return self._call("peek", self._index(self._signals, name, "signal")[0])

    def poke(self, name: str, value: int) -> None:
        """Set an input signal from the next cycle on."""
        index, info = self._index(self._signals, name, "signal")
        if info.output:
            raise ValueError(f"signal {name} is an output of the device")
        if not 0 <= value < 1 << min(info.width, 64):
            raise ValueError(f"{name} must fit {min(info.width, 64)} bits, not {value}")
        self._call("poke", index, value)

    # ---- what happened ----

    def log_hash(self) -> int:
        """Hash of everything that crossed the ports so far, with its cycles: equal runs have equal hashes."""
        return self._call("log")

    @property
    def printed(self) -> str:
        """What the gateware printed so far (by Amaranth's ``Print``)."""
        self._printed += self._call("printed").decode(errors="replace")
        return self._printed

    @property
    def evaluations(self) -> int:
        """How often the model was evaluated: twice a cycle at most."""
        return self._call("evaluations")

    @property
    def skipped(self) -> int:
        """Cycles that were left out because they could not change anything."""
        return self._call("skipped")

    def trace(self, path: str | os.PathLike | None) -> None:
        """Write waves (FST) to a file from now on; ``None`` ends the file. Time 2n is the low phase of cycle n.

        Raises
        ------
        SimulationError
            If the library is not of the variant ``debug``.
        """
        if self._call("trace", None if path is None else os.fsencode(path)):
            raise SimulationError(
                f"{self.library.name} was built as {self.library.variant!r}: waves need variant 'debug'"
            )

    def write_coverage(self, path: str | os.PathLike) -> Path:
        """Write Verilator's coverage data (see :mod:`.coverage`); returns the path."""
        if self._call("coverage", os.fsencode(path)):
            raise SimulationError(
                f"{self.library.name} was built as {self.library.variant!r}: coverage needs variant 'coverage'"
            )
        return Path(path)
