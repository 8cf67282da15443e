# SPDX-License-Identifier: Apache-2.0
"""A PHY and its cable, a byte time at a time: frames become the bytes at a MAC's pins, and bytes become frames.

Sources: IEEE 802.3 3.1.1, 3.2.9, 4.4.2; RGMII 2.0, 3.4.1.
"""

import random
import zlib
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from rackgate.mac.abi import FCS_SIZE, GAP, LEAST_SIZE, PREAMBLE, PREAMBLE_SIZE, START, Speed

__all__ = ["NO_FAULTS", "ByteTime", "Faults", "Phy", "from_rgmii", "on_the_wire", "to_rgmii"]


class ByteTime(NamedTuple):
    """What is at the pins in a byte time, either way."""

    data: int = 0
    valid: bool = False
    error: bool = False


class Faults(NamedTuple):
    """Probabilities, for each frame sent to the MAC, of what goes wrong with it; more than one may.

    ``flip``: a bit is changed. ``cut``: the end is missing. ``flag``: the PHY flags an error at a byte. ``noise``:
    carrier with random bytes comes before it. ``preamble``: the PHY has swallowed some of the preamble, which does no
    harm.
    """

    flip: float = 0
    cut: float = 0
    flag: float = 0
    noise: float = 0
    preamble: float = 0


#: Nothing goes wrong.
NO_FAULTS = Faults()


def on_the_wire(frame: bytes) -> bytes:
    """Preamble, start frame delimiter, the frame padded to its least size, and its FCS."""
    padded = frame.ljust(LEAST_SIZE, b"\0")
    return (bytes([PREAMBLE]) * (PREAMBLE_SIZE - 1) + bytes([START]) + padded
            + zlib.crc32(padded).to_bytes(FCS_SIZE, "little"))


def to_rgmii(now: ByteTime, *, speed: Speed = Speed.MBPS_1000, up: bool = True) -> tuple[int, int]:
    """Data and control of RGMII in a cycle at 1000 Mb/s: bits at the rising edge lowest.

    Between frames the data pins say what the link is.
    """
    if not now.valid and not now.error:
        return (up | speed << 1 | 1 << 3) * 0x11, 0
    return now.data, now.valid | (now.valid ^ now.error) << 1


def from_rgmii(data: int, control: int) -> ByteTime:
    """What a MAC sends, of RGMII's data and control in a cycle at 1000 Mb/s."""
    valid = bool(control & 1)
    return ByteTime(data, valid, valid != bool(control & 2))


class Phy:
    """Both directions of a cable.

    What the MAC sends is checked: an idea of its own of what a frame is on the wire must be met, but for frames that it
    flags as broken.

    Parameters
    ----------
    rng, faults:
        What goes wrong on the way to the MAC, and the source of chance.
    gap:
        Least byte times between two frames to the MAC. The standard lets a receiver see less than a sender sends.

    Attributes
    ----------
    taken:
        Good frames that the MAC has sent, without FCS, padding included.
    broken:
        Frames that the MAC has flagged as broken.
    spoiled:
        Frames sent to the MAC that something was done to, without FCS.
    """

    def __init__(self, *, rng: random.Random | None = None, faults: Faults = NO_FAULTS, gap: int = GAP):
        if gap < 1:
            raise ValueError(f"gap must be at least 1, not {gap}")
        if rng is None and any(faults):
            raise ValueError("faults need an rng")
        self.rng, self.faults, self.gap = rng or random.Random(0), faults, gap
        self.taken: deque[bytes] = deque()
        self.broken = 0
        self.spoiled: list[bytes] = []
        self._waiting: deque[bytes] = deque()
        self._coming: deque[ByteTime] = deque()
        self._going, self._is_broken, self._idle = bytearray(), False, GAP

    @property
    def is_idle(self) -> bool:
        """Nothing is left to be sent to the MAC, and it is sending nothing."""
        return not self.is_sending and not self._going

    @property
    def is_sending(self) -> bool:
        """Something is left to be sent to the MAC."""
        return bool(self._waiting or self._coming)

    def send(self, frame: bytes) -> None:
        """Send a frame, without FCS, to the MAC, behind those that wait."""
        self._waiting.append(bytes(frame))

    def send_bytes(self, times: Iterable[ByteTime]) -> None:
        """Put byte times on the wire just as they are, before the frames that wait."""
        self._coming.extend(times)

    def to_mac(self) -> ByteTime:
        """What the MAC sees in the next byte time."""
        if not self._coming and self._waiting:
            self._coming.extend(self._spoil(self._waiting.popleft()))
            self._coming.extend(ByteTime() for _ in range(self.gap))
        return self._coming.popleft() if self._coming else ByteTime()

    def _spoil(self, frame: bytes) -> list[ByteTime]:
        rng, faults = self.rng, self.faults
        times = [ByteTime(byte, True) for byte in on_the_wire(frame)]
        harm = False
        if rng.random() < faults.flip:
            place = rng.randrange(PREAMBLE_SIZE, len(times))
            times[place], harm = ByteTime(times[place].data ^ 1 << rng.randrange(8), True), True
        if rng.random() < faults.flag:
            place = rng.randrange(PREAMBLE_SIZE, len(times))
            times[place], harm = times[place]._replace(error=True), True
        if rng.random() < faults.cut:
            times, harm = times[:rng.randrange(PREAMBLE_SIZE, len(times))], True
        if rng.random() < faults.preamble:
            times = times[rng.randrange(1, PREAMBLE_SIZE):]
        if rng.random() < faults.noise:
            noise = [ByteTime(rng.getrandbits(8), True, rng.random() < 0.1) for _ in range(rng.randrange(1, 80))]
            noise[0] = ByteTime(0xFF, True)  # or it might be a good preamble
            times = [*noise, *(ByteTime() for _ in range(self.gap)), *times]
        if harm:
            self.spoiled.append(frame)
        return times

    def from_mac(self, now: ByteTime) -> None:
        """Take what the MAC sends in a byte time. Raises AssertionError if it breaks a rule of the wire."""
        if now.valid:
            if not self._going and self._idle < GAP:
                raise AssertionError(f"the MAC left a gap of {self._idle} byte times, not {GAP}")
            self._going.append(now.data)
            self._is_broken |= now.error
            return
        if not self._going:
            self._idle += 1
            return
        whole, self._going, self._idle = bytes(self._going), bytearray(), 1
        if self._is_broken:
            self._is_broken = False
            self.broken += 1
            return
        frame = whole[PREAMBLE_SIZE:-FCS_SIZE]
        if whole != on_the_wire(frame) or len(frame) < LEAST_SIZE:
            raise AssertionError(f"the MAC sent what is no frame: {whole.hex()}")
        self.taken.append(frame)
