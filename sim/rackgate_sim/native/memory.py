# SPDX-License-Identifier: Apache-2.0
"""The memory behind a simulated device's AXI4 port."""

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from .ports import PortInfo

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["MemoryPort", "MemoryStatistics"]

_CHANNELS = ("aw", "w", "b", "ar", "r")


@dataclass(frozen=True)
class MemoryStatistics:
    """What a device did to its memory since the simulation began.

    Bytes read count whole beats; bytes written count those whose strobe was set. ``read_errors`` and ``write_errors``
    count bursts answered with an error, ``outside`` those of them that no window covers; ``outstanding_*`` are the
    most bursts that were under way at a time. (A broken protocol raises instead of being counted.)
    """

    read_bursts: int
    write_bursts: int
    read_bytes: int
    write_bytes: int
    read_errors: int
    write_errors: int
    outside: int
    outstanding_reads: int
    outstanding_writes: int


class MemoryPort:
    """Memory of one AXI4 initiator port; the bytes are those of the NumPy arrays attached to it.

    A burst outside all windows is answered with DECERR. The defaults are a latency of 20 cycles to read and 4 to
    write, no limit to the bandwidth but the bus, 16 bursts outstanding a direction, and answers in order.
    """

    def __init__(self, simulation: "Simulation", index: int, info: PortInfo):
        self._simulation, self._index, self.name = simulation, index, info.name
        self.bytes_per_beat = info.streams["w"].fields["data"][1] // 8
        self._windows: dict[int, np.ndarray] = {}
        self._settings = {
            "latency": 20,
            "write_latency": 4,
            "jitter": 0,
            "outstanding": 16,
            "bytes_per_cycle": 0.0,
            "reorder": False,
            "interleave": False,
        }

    def attach(self, array: np.ndarray, base: int) -> None:
        """Make an array visible to the device at address ``base``, a multiple of the bus width.

        The array must be contiguous, of ``uint8``, writeable, and a multiple of the bus width long. It stays
        shared: what one side writes, the other sees. The simulation keeps a reference to it.
        """
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
            raise TypeError(
                f"array must be a NumPy array of uint8, not {getattr(array, 'dtype', type(array).__name__)}"
            )
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError("array must be contiguous and writeable")
        for what, value in (("base", base), ("the array's size", array.nbytes)):
            if value % self.bytes_per_beat or value < 0:
                raise ValueError(
                    f"{what} must be a multiple of the bus width, {self.bytes_per_beat} bytes, not {value:#x}"
                )
        if array.nbytes == 0:
            raise ValueError("array must not be empty")
        for other, taken in self._windows.items():
            if base < other + taken.nbytes and other < base + array.nbytes:
                raise ValueError(f"the window at {base:#x} overlaps that at {other:#x}")
        self._windows[base] = array
        self._simulation._call("attach", self._index, array.ctypes.data, base, array.nbytes)

    def detach(self, base: int) -> None:
        """Take the window at ``base`` away."""
        if base not in self._windows:
            raise ValueError(f"no window begins at {base:#x}")
        self._simulation._call("detach", self._index, base)
        del self._windows[base]

    def configure(
        self,
        *,
        latency: int | None = None,
        write_latency: int | None = None,
        jitter: int | None = None,
        outstanding: int | None = None,
        bytes_per_cycle: float | None = None,
        reorder: bool | None = None,
        interleave: bool | None = None,
        stall: float | dict[str, float] | None = None,
    ) -> None:
        """Change how the memory behaves; what is not given stays as it is.

        Parameters
        ----------
        latency, write_latency:
            Cycles from a read's address to its first data; from a write's last data to its answer.
        jitter:
            Up to so many cycles more, drawn for each burst.
        outstanding:
            Bursts accepted and not answered, a direction.
        bytes_per_cycle:
            Bandwidth of each direction; 0 for what the bus carries.
        reorder:
            Answer bursts of different ids in any order.
        interleave:
            Mix the data of reads with different ids, too.
        stall:
            Probability that a channel pauses in a cycle: one number, or by channel (``aw w b ar r``).
        """
        given = {
            "latency": latency,
            "write_latency": write_latency,
            "jitter": jitter,
            "outstanding": outstanding,
            "bytes_per_cycle": bytes_per_cycle,
            "reorder": reorder,
            "interleave": interleave,
        }
        settings = self._settings | {name: value for name, value in given.items() if value is not None}
        for name in ("latency", "write_latency", "jitter", "bytes_per_cycle"):
            if settings[name] < 0:
                raise ValueError(f"{name} must not be negative, not {settings[name]}")
        if settings["outstanding"] < 1:
            raise ValueError(f"outstanding must be at least 1, not {settings['outstanding']}")
        stalls = (
            stall if isinstance(stall, dict) else dict.fromkeys(_CHANNELS, stall) if stall is not None else {}
        )
        for channel, probability in stalls.items():
            if channel not in _CHANNELS:
                raise ValueError(f"stall must name channels among {', '.join(_CHANNELS)}, not {channel!r}")
            if not 0 <= probability < 1:
                raise ValueError(f"stall must be a probability below 1, not {probability}")
        rate = settings["bytes_per_cycle"]
        cost = round(self.bytes_per_beat * 256 / rate) if rate else 0
        self._settings = settings
        self._simulation._call(
            "configure",
            self._index,
            settings["latency"],
            settings["write_latency"],
            settings["jitter"],
            settings["outstanding"],
            cost,
            settings["reorder"],
            settings["interleave"],
        )
        for channel, probability in stalls.items():
            self._simulation._call("stall_memory", self._index, _CHANNELS.index(channel), probability)

    def inject(
        self,
        start: int,
        end: int,
        *,
        response: Literal["SLVERR", "DECERR"] = "SLVERR",
        read: bool = True,
        write: bool = True,
        after: int = 0,
        count: int | None = None,
    ) -> None:
        """Answer bursts that touch ``[start, end)`` with an error.

        Such a write changes nothing, such a read gives zeros.

        Parameters
        ----------
        start, end:
            Addresses in bytes.
        response:
            Which error.
        read, write:
            Which bursts.
        after:
            So many bursts pass first.
        count:
            So many bursts fail then; all of them by default.
        """
        if response not in ("SLVERR", "DECERR"):
            raise ValueError(f"response must be SLVERR or DECERR, not {response!r}")
        if end <= start:
            raise ValueError(f"end must be above start, not {end:#x} <= {start:#x}")
        self._simulation._call(
            "inject",
            self._index,
            start,
            end,
            {"SLVERR": 2, "DECERR": 3}[response],
            read,
            write,
            after,
            (1 << 64) - 1 if count is None else count,
        )

    def clear_faults(self) -> None:
        """Forget all injected errors."""
        self._simulation._call("clear_faults", self._index)

    def watch(self, low: int, high: int) -> None:
        """Report :attr:`Event.WATCH` when the device writes into ``[low, high)``; ranges add up."""
        if high <= low:
            raise ValueError(f"high must be above low, not {high:#x} <= {low:#x}")
        self._simulation._call("watch", self._index, low, high)

    def clear_watches(self) -> None:
        """Watch nothing."""
        self._simulation._call("clear_watches", self._index)

    @property
    def statistics(self) -> MemoryStatistics:
        """Counters since the simulation began."""
        values = (ctypes.c_uint64 * 9)()
        self._simulation._call("statistics", self._index, values)
        return MemoryStatistics(*values)
