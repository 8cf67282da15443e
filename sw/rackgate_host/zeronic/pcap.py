# SPDX-License-Identifier: Apache-2.0
"""Frames of the wire as a capture file that Wireshark and tcpdump open (libpcap's format, with nanoseconds)."""

import heapq
import select
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .control import Control
from .daemon import TRACE_HEAD
from .errors import HostFailed

__all__ = ["Capture", "record"]

_FILE = struct.Struct("<IHHiIII")
_MAGIC_NANOSECONDS, _ETHERNET = 0xA1B2_3C4D, 1
_RECORD = struct.Struct("<IIII")
_BILLION = 1_000_000_000
_LENGTH_MOST = 1 << 18
#: Nanoseconds that a frame waits for one of another host that left before it.
_ORDER = 200_000_000


class Capture:
    """A capture file that is written. Frames are brought into the order of their times.

    Raises OSError if ``path`` cannot be written.
    """

    def __init__(self, path: Path):
        self._file = path.open("wb")
        self._file.write(_FILE.pack(_MAGIC_NANOSECONDS, 2, 4, 0, 0, _LENGTH_MOST, _ETHERNET))
        self._waiting: list[tuple[int, bytes]] = []
        self.frames = 0

    def add(self, nanoseconds: int, frame: bytes) -> None:
        """Add a frame with its time since 1970."""
        heapq.heappush(self._waiting, (nanoseconds, frame))

    def write(self, before: int | None = None) -> None:
        """Write the frames up to a time, or all."""
        while self._waiting and (before is None or self._waiting[0][0] <= before):
            nanoseconds, frame = heapq.heappop(self._waiting)
            self._file.write(_RECORD.pack(*divmod(nanoseconds, _BILLION), len(frame), len(frame)) + frame)
            self.frames += 1
        self._file.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self.write()
        self._file.close()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def record(controls: Sequence[Control], capture: Capture, seconds: float | None,
           is_stopped: Callable[[], bool], most: int | None = None) -> None:
    """Record what leaves hosts for the wire, for so many seconds, until ``is_stopped()``, or ``most`` frames have come.

    Raises :class:`~rackgate_host.zeronic.errors.HostFailed` when a host ends; what was recorded so far is kept.
    """
    for control in controls:
        control.trace()
    end = None if seconds is None else time.monotonic() + seconds
    came = 0
    while not is_stopped() and (end is None or time.monotonic() < end) and (most is None or came < most):
        for control in select.select(controls, [], [], 0.1)[0]:
            for one in control.frames():
                nanoseconds, length = TRACE_HEAD.unpack_from(one)
                frame = one[TRACE_HEAD.size:]
                if len(frame) != length:
                    raise HostFailed(f"simulated host {control.host} sent a frame of {len(frame)} bytes, not {length}")
                if most is None or came < most:
                    capture.add(nanoseconds, frame)
                    came += 1
        capture.write(time.time_ns() - _ORDER)
