# SPDX-License-Identifier: Apache-2.0
"""The model of the NIC writes a byte of a stream at most once, whatever comes."""

import random
from collections import deque

import pytest
from zeronic_nic import DATA, MEMORY_SIZE, REGION_SIZE, SMALL, Nic
from zeronic_packets import Tcp

from rackgate.zeronic.abi import Direction
from rackgate.zeronic.messages import EntryKind, Retire
from rackgate_host.device import Device
from rackgate_host.devices import DEVICES
from rackgate_host.transport import MEMORY_BASE, SharedMemory
from rackgate_host.transport.model import ModelTransport
from rackgate_sim.inflate.model import FlatMemory
from rackgate_sim.zeronic.device import ZeronicModel

WRAP = 1 << 32


class Recorded(FlatMemory):
    """Memory that keeps what the device writes to region 0: offset and bytes."""

    def __init__(self, array, base):
        super().__init__(array, base)
        self.writes = []

    def write(self, address, data):
        super().write(address, data)
        if address >= self.base + DATA:
            self.writes.append((address - self.base - DATA, data))


def recorded_nic(**parameters):
    """A NIC on a memory that records."""
    shared = SharedMemory(MEMORY_SIZE)
    memory = Recorded(shared.array, MEMORY_BASE)
    model = ZeronicModel(memory, **{**SMALL, **parameters})
    return Nic(device=Device(ModelTransport(model, shared), DEVICES["zeronic"], "model:zeronic")), memory


def signed(distance):
    """Bytes from one place of the region to another, by the shorter way: positions go on at its begin."""
    return (distance + REGION_SIZE // 2) % REGION_SIZE - REGION_SIZE // 2


class Oracle:
    """What may happen to one flow's bytes, counted from the stream's begin; position p is at p modulo a region."""

    def __init__(self, begin):
        self.begin, self.cursor = begin, 0
        self.placed = set()
        self.segments = deque()

    def is_posted(self, offset):
        return any(start <= offset < end for start, end in self.segments)

    def check(self, up, offset, payload, writes):
        """One frame's entry and writes."""
        written = {}
        for at, data in writes:
            for k, byte in enumerate(data):
                stream = offset + signed(at + k - (self.begin + offset) % REGION_SIZE)
                assert stream not in written
                written[stream] = byte
        entry = up.entry
        reported = {offset + entry.placed_offset + k for k in range(entry.placed)}
        assert set(written) == reported
        for at, byte in written.items():
            assert byte == payload[at - offset]
            assert at >= self.cursor and at not in self.placed and self.is_posted(at)
        rest = {at for at in range(offset, offset + len(payload)) if at >= self.cursor} - reported
        assert (entry.kind == EntryKind.HEADER) == (not rest)
        first = max(offset, self.cursor)
        if not reported and rest and self.is_posted(first) and first not in self.placed:
            # Only for want of intervals: there must be as many as that.
            begins = {at for at in self.placed if at - 1 not in self.placed and at > self.cursor}
            assert len(begins) >= SMALL["intervals"]
        self.placed |= reported


def attack(seed, steps):
    """Frames of any kind against a flow whose host posts, retires and moves the cursor as it likes."""
    draw = random.Random(seed)
    nic, memory = recorded_nic()
    begin = draw.choice((0, 1000, WRAP - 1, WRAP - 3000, draw.randrange(WRAP)))
    base = Tcp(sport=draw.randrange(1, 60000))
    nic.begin(1, base.key, begin)
    oracle = Oracle(begin)
    posted = 0
    for _ in range(steps):
        match draw.randrange(10):
            case 0 if len(oracle.segments) < SMALL["segments"]:
                posted += draw.choice((0, 0, draw.randrange(300)))
                size = draw.choice((1, draw.randrange(1, 2000), draw.randrange(1, 200)))
                where = (begin + posted) % REGION_SIZE
                if where + size <= REGION_SIZE:
                    nic.post(1, begin + posted, size, where)
                    oracle.segments.append((posted, posted + size))
                posted += size
            case 1 if oracle.segments and draw.random() < 0.5:
                nic.do(Retire(1, Direction.RECEIVE, 1))
                oracle.segments.popleft()
            case 2:
                to = max(0, oracle.cursor + draw.choice((-50, 0, draw.randrange(100), draw.randrange(800))))
                nic.cursor(1, begin + to)
                oracle.cursor = max(oracle.cursor, to)
            case _:
                offset = max(0, oracle.cursor + draw.randrange(-1500, 4000))
                payload = draw.randbytes(draw.choice((1, 2, draw.randrange(1, 1461), draw.randrange(1, 100))))
                frame = base.but(seq=begin + offset, payload=payload).frame()
                memory.writes.clear()
                oracle.check(nic.one(frame), offset, payload, memory.writes)
    return len(oracle.placed)


def test_at_most_once(seed):
    assert sum(attack(f"{seed}/{run}", 250) for run in range(8)) > 10_000


@pytest.mark.soak
def test_at_most_once_for_long(seed):
    for run in range(300):
        attack(f"{seed}/{run}", 1000)
