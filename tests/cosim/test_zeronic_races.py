# SPDX-License-Identifier: Apache-2.0
"""Frames and commands at the same time, at the NIC's gateware: what no order can be told of still keeps the rules."""

import random

import pytest
from zeronic_nic import DATA, Nic
from zeronic_packets import Tcp

from rackgate.csr.map import Access
from rackgate.zeronic.abi import Direction
from rackgate.zeronic.messages import Cursor, EntryKind, Fence, FlowFlag, Post, Retire

pytestmark = pytest.mark.cosim

WORLDS = {
    "quick": {},
    "slow": {"latency": 60, "write_latency": 90, "jitter": 60, "reorder": 1, "stall": 0.1},
}
_FLOWS, _SPAN = 3, 1 << 17
_SEGMENTS = 8


class Watched:
    """One flow, and what is known of its bytes. Positions count from its begin; each has one place in memory."""

    def __init__(self, nic, number, draw):
        self.nic, self.number, self.draw = nic, number, draw
        self.base = Tcp(sport=1000 + number)
        self.begin = draw.choice((0, (1 << 32) - 5000, draw.randrange(1 << 32)))
        self.place = DATA + number * _SPAN
        nic.begin(number, self.base.key, self.begin, FlowFlag.RECEIVE | FlowFlag.RING_1 * (number == 2))
        self.posted = self.asked = self.settled = 0  # asked, settled: cursors that were set, and fenced
        self.held = 0
        self.sent = []  # offset and payload of frames that have no entry yet
        self.placed = {}  # byte by position
        self.frozen = []  # end of what a fence has closed, and its memory then

    def commands(self):
        """Post, retire and move the cursor."""
        draw, commands = self.draw, []
        if self.held < _SEGMENTS and self.posted < _SPAN - 8000:
            size = draw.choice((1, 50, draw.randrange(1, 4000)))
            if draw.random() < 0.9:
                commands.append(Post(self.number, Direction.RECEIVE, (self.begin + self.posted) % (1 << 32), size, 0,
                                     self.place - DATA + self.posted))
                self.held += 1
            self.posted += size
        elif draw.random() < 0.5 and self.held:
            commands.append(Retire(self.number, Direction.RECEIVE, 1))
            self.held -= 1
        if draw.random() < 0.5:
            # Not past the flow's memory, which a fence's answer is compared with.
            self.asked = min(self.asked + draw.choice((1, draw.randrange(300), draw.randrange(2000))), _SPAN)
            commands.append(Cursor(self.number, (self.begin + self.asked) % (1 << 32)))
        return commands

    def frame(self):
        """A frame somewhere around the cursor."""
        offset = max(0, self.asked + self.draw.randrange(-1000, 5000))
        payload = self.draw.randbytes(self.draw.choice((0, 1, 10, self.draw.randrange(1, 1461))))
        self.sent.append((offset, payload))
        return self.base.but(seq=self.begin + offset, payload=payload).frame()

    def memory(self, size):
        """Memory of its first bytes."""
        return self.nic.memory(self.place, size)

    def hear(self, up):
        """An entry, that of the oldest frame without one."""
        offset, payload = self.sent.pop(0)
        entry = up.entry
        assert entry.payload == len(payload)
        for at in range(offset + entry.placed_offset, offset + entry.placed_offset + entry.placed):
            assert at not in self.placed and at >= self.settled
            self.placed[at] = payload[at - offset]
        if entry.kind == EntryKind.HEADER:
            rest = {*range(offset, offset + len(payload))} - {
                *range(offset + entry.placed_offset, offset + entry.placed_offset + entry.placed)}
            assert all(at < self.asked for at in rest)
        # It follows the data.
        begin = offset + entry.placed_offset
        part = self.nic.memory(self.place + begin, entry.placed)
        assert part == bytes(self.placed[at] for at in range(begin, begin + entry.placed))

    def settle(self, cursor):
        """A fence behind a cursor was answered."""
        self.settled = cursor
        self.frozen.append((cursor, self.memory(cursor)))

    def finish(self):
        """Memory has what the entries said, and nothing else."""
        assert not self.sent
        whole = self.memory(_SPAN)
        assert whole == bytes(self.placed.get(at, 0) for at in range(_SPAN))
        for end, content in self.frozen:
            assert whole[:end] == content
        return len(self.placed)


def play(seed, rounds, world, **options):
    """Rounds without a pause between them; bytes placed."""
    draw = random.Random(seed)
    nic = Nic(world, seed=draw.randrange(1 << 30), **options) if world == "sim" else Nic(world)
    flows = [Watched(nic, number, draw) for number in range(_FLOWS)]
    fences, cookie = {}, 0

    def hear():
        for ring in range(2):
            for up in nic.entries(ring):
                if up.entry.kind == EntryKind.FENCE:
                    for flow, cursor in fences.pop((ring, up.entry.flow)):
                        flow.settle(max(flow.settled, cursor))
                else:
                    flows[up.entry.flow].hear(up)

    for _ in range(rounds):
        for _ in range(draw.randrange(6)):
            nic.transport.push("net_rx", draw.choice(flows).frame())
        nic.queue(*(command for flow in flows if draw.random() < 0.7 for command in flow.commands()))
        if draw.random() < 0.2:
            ring = draw.randrange(2)
            cookie += 1
            # What a fence says of a flow, it says in the order of that flow's ring.
            fences[ring, cookie] = [(flow, flow.asked) for flow in flows if (flow.number == 2) == ring]
            nic.queue(Fence(ring, cookie))
        nic.ring()
        nic.transport.run(draw.choice((10, 100, 400)), False)
        hear()
    nic.settle()
    hear()
    assert not fences
    return sum(flow.finish() for flow in flows)


@pytest.mark.parametrize("world", WORLDS)
def test_rules_hold_while_all_goes_on(seed, world):
    assert play(f"{seed}/{world}", 300, "sim", **WORLDS[world]) > 5000


def test_rules_hold_in_the_model(seed):
    assert play(seed, 300, "model") > 5000


@pytest.mark.soak
@pytest.mark.parametrize("width", [8, 16, 32])
@pytest.mark.parametrize("world", WORLDS)
def test_rules_hold_for_long(seed, width, world):
    for run in range(20):
        play(f"{seed}/{width}/{world}/{run}", 2000, "sim", width=width, **WORLDS[world])


def test_registers_keep_what_is_written(seed):
    """Each what was written to it, whatever is written to the others, while the NIC stands still."""
    draw, nic = random.Random(seed), Nic("sim")
    nic.write("CONTROL", 0)
    names = [one.name for one in nic.device.map.values() if one.access == Access.RW
             and one.name not in ("CONTROL", "COMMAND_PRODUCER", "IRQ_ENABLE")]
    assert len(names) >= 13
    for _ in range(3):
        values = {name: draw.getrandbits(32) for name in draw.sample(names, len(names))}
        for name, value in values.items():
            nic.write(name, value)
        read = {name: nic.read(name) for name in draw.sample(names, len(names))}
        assert read == values
