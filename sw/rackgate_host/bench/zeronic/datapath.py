# SPDX-License-Identifier: Apache-2.0
"""Cycles of the NIC's data paths, without a transport: frames are made up, entries are only counted."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rackgate.zeronic.abi import Direction, Right
from rackgate.zeronic.messages import FlowFlag, Send, SendFlag

from ...device import Device, open_device
from ...zeronic.nic import Nic
from .bench_frames import HEADER, KEY, acknowledgement, data_frame, header

__all__ = ["Bed", "orders", "receive_rate", "reorder_rate", "response", "send_rate"]

_FLOW, _REGION = 3, 1
_START = 0xFFFF_F000  # positions wrap on the way
_LIMIT = 2_000_000
_ENTRY = 1  # bit of IRQ_STATUS
#: Cycles between two looks at what is measured, and at the rings, which takes device time.
_STEP, _LOOK = 4, 4096


class Bed:
    """A NIC with one flow whose payload has a place in memory.

    Parameters
    ----------
    url:
        The NIC.
    coalesce:
        Cycles that a header may wait for others.
    room:
        Bytes of memory for payload.
    """

    def __init__(self, url: str, *, coalesce: int = 0, room: int = 1 << 20, **options: Any):
        self.device: Device = open_device(url, **options)
        self.nic = Nic(self.device, entry_bytes=1 << 19, coalesce_cycles=coalesce)
        self.width = self.device.parameters["width"]
        self.memory = self.device.allocate(room)
        self.memory[:] = np.frombuffer(random.Random(room).randbytes(room), np.uint8)
        self.nic.set_region(_REGION, Right.READ | Right.WRITE, self.memory.device_address, room)
        self.nic.insert_key(KEY, _FLOW)
        self._looked = 0
        self.begin()

    def begin(self) -> None:
        """Begin the flow anew, with all memory posted in one segment for either direction."""
        self.nic.begin_flow(_FLOW, FlowFlag.RECEIVE | FlowFlag.COALESCE, _START)
        for direction in Direction:
            self.nic.post(_FLOW, direction, _START, self.memory.size, _REGION, 0)
        self.nic.settle()

    def frames(self, count: int, payload: int, seed: int) -> list[bytes]:
        """Frames one behind the other."""
        draw = random.Random(seed)
        return [data_frame(_START + k * payload, draw.randbytes(payload)) for k in range(count)]

    def receive(self, frames: Sequence[bytes]) -> int:
        """Cycles from the first frame's coming to the last byte's being written; all must be placed."""
        port, total = self._simulation.memory("mem__0"), sum(len(frame) - HEADER for frame in frames)
        placed, written = self.nic.counters()["placed"], port.statistics.write_bytes
        begin = self.device.cycles
        for frame in frames:
            self.nic.receive(frame)

        def is_done() -> bool:
            self._empty_rings()
            return port.statistics.write_bytes - written >= total

        took = self._cycles(is_done, "placing of all frames") - begin
        self.nic.settle()
        list(self.nic.entries())
        missing = len(frames) - (self.nic.counters()["placed"] - placed)
        if missing:
            raise RuntimeError(f"{missing} of {len(frames)} frames were not placed whole")
        return took

    def send(self, payload: int, segment: int) -> int:
        """Cycles from the doorbell to the end of the last frame on the wire."""
        flags, frames, sent = SendFlag.GATHER | SendFlag.OFFLOAD, max(1, -(-payload // segment)), 0
        self.nic.send(Send(_FLOW, flags, header(acknowledgement(KEY), _START, payload), payload, segment))
        begin = self.device.cycles
        self.nic.notify()

        def is_done() -> bool:
            nonlocal sent
            sent += len(list(self.nic.sent()))
            return sent >= frames

        took = self._cycles(is_done, "sending of all frames") - begin
        self.nic.settle()
        return took

    def first_write(self, frame: bytes) -> tuple[int, int]:
        """Cycles from the last word of a lone frame to its first burst to memory, and to its entry's being there."""
        port, registers = self._simulation.memory("mem__0"), self.device.regs
        registers.IRQ_STATUS.value = registers.IRQ_ENABLE.value = _ENTRY
        bursts, begin = port.statistics.write_bursts, self.device.cycles + -(-len(frame) // self.width)
        self.nic.receive(frame)
        beat = self._cycles(lambda: port.statistics.write_bursts > bursts, "a write to memory", 1) - begin
        entry = self._cycles(lambda: self.device.irq, "an entry", 1) - begin
        registers.IRQ_ENABLE.value = 0
        self.nic.settle()
        list(self.nic.entries())
        return beat, entry

    @property
    def _simulation(self) -> Any:
        return self.device.transport.simulation

    def _empty_rings(self) -> None:
        """Entries are taken as a host would, but only now and then: looking takes device time."""
        if self.device.cycles - self._looked > _LOOK:
            self.nic.collect()
            self._looked = self.device.cycles

    def _cycles(self, event: Callable[[], bool], what: str, step: int = _STEP) -> int:
        """The cycle in which ``event()`` becomes true, not more than ``step`` late."""
        limit = self.device.cycles + _LIMIT
        while not event():
            if self.device.cycles > limit:
                raise TimeoutError(f"no {what} within {_LIMIT} cycles")
            self._simulation.run(step)
        return self.device.cycles

    def __enter__(self) -> "Bed":
        return self

    def __exit__(self, *error: object) -> None:
        self.device.close()


def _words(size: int, width: int) -> int:
    return -(-size // width)


def _slope(measure: Callable[[int], int], few: int, many: int) -> float:
    """Cycles of one more, which leaves out what is the same for few and many."""
    return (measure(many) - measure(few)) / (many - few)


def receive_rate(bed: Bed, payload: int, *, seed: int, count: int = 48) -> Iterator[tuple[str, float, str]]:
    """Received bytes of frames and of payload a cycle, and cycles a frame above the words it has."""
    def measure(number: int) -> int:
        bed.begin()
        return bed.receive(bed.frames(number, payload, seed))

    cycles = _slope(measure, count // 3, count)
    yield "bytes_per_cycle", (HEADER + payload) / cycles, "byte/cycle"
    yield "payload_bytes_per_cycle", payload / cycles, "byte/cycle"
    yield "bubbles_per_packet", cycles - _words(HEADER + payload, bed.width), "cycle"


def send_rate(bed: Bed, payload: int, *, count: int = 24) -> Iterator[tuple[str, float, str]]:
    """As :func:`receive_rate`, of frames that one command makes."""
    count = min(count, 64000 // payload)
    cycles = _slope(lambda number: bed.send(number * payload, payload), count // 3, count)
    yield "bytes_per_cycle", (HEADER + payload) / cycles, "byte/cycle"
    yield "payload_bytes_per_cycle", payload / cycles, "byte/cycle"
    yield "bubbles_per_packet", cycles - _words(HEADER + payload, bed.width), "cycle"


def orders(window: int, seed: int) -> dict[str, list[int]]:
    """Orders in which the segments of a window may come."""
    shuffled = list(range(window))
    random.Random(seed).shuffle(shuffled)
    return {"in order": list(range(window)), "reversed": list(range(window))[::-1],
            "odd first": [*range(1, window, 2), *range(0, window, 2)], "random": shuffled}


def reorder_rate(bed: Bed, payload: int, order: Sequence[int], *, seed: int) -> float:
    """Cycles a frame when the frames of a window come in ``order``."""
    bed.begin()
    frames = bed.frames(len(order), payload, seed)
    return bed.receive([frames[k] for k in order]) / len(order)


def response(bed: Bed, payload: int, *, seed: int) -> Iterator[tuple[str, int]]:
    """Cycles of a lone frame: from its last word in to the first burst at memory, and to its entry's being there."""
    bed.begin()
    beat, entry = bed.first_write(bed.frames(1, payload, seed)[0])
    yield "last word in to first write", beat
    yield "last word in to entry", entry
