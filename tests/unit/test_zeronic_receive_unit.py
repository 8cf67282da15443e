# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""zeronic.rx.unit against the golden model: the same entries, the same memory, the same counts."""

import random

import pytest
from zeronic_frames import random_frame
from zeronic_packets import ACK, FIN, PSH, SYN, Tcp, udp_frame
from zeronic_receive_bench import DATA, DATA_SIZE, Damaged, flow_of, run

from rackgate.zeronic.abi import Direction, Right
from rackgate.zeronic.messages import Cursor, Fence, Flow, FlowFlag, Post, Region, Retire

WIDTHS = (8, 16, 32)
BASE = Tcp(options=bytes(12))
REGION = Region(0, Right.WRITE | Right.READ, DATA, DATA_SIZE)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_one_flow(width, seed):
    """Headers when all is in memory, whole frames when not, in order."""
    rng = random.Random(seed)
    frames = [BASE.but(seq=1000 + 300 * number, payload=rng.randbytes(300)).frame() for number in range(8)]
    script = [REGION, *flow_of(3, BASE.key, 1000, FlowFlag.RECEIVE), Post(3, Direction.RECEIVE, 1000, 700, 0, 5),
              Post(3, Direction.RECEIVE, 1700, 1000, 0, 0x1003), *frames, BASE.but(seq=1000).frame(),
              BASE.but(seq=900, payload=bytes(7)).frame(), BASE.but(dport=81, payload=bytes(90)).frame(), Fence(0, 77)]
    reference, _ = run(width, script, seed=seed)
    assert [entry.kind for entry, _ in reference.entries(0)] == [1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 2, 3]


class Streams:
    """Scripts of some flows with segments, holes, old and repeated bytes, and frames that are of none of them."""

    def __init__(self, rng, flags, count=3):
        self.rng, self.flags, self.place = rng, flags, 0
        self.flows = {}  # number: (headers, next position, end of what is posted)
        for number in rng.sample(range(16), count):
            tcp = Tcp(options=bytes(rng.choice([0, 12, 20, 40])), sport=rng.getrandbits(16), source=rng.getrandbits(32))
            begin = rng.choice([0, (1 << 32) - 1000, rng.getrandbits(32)])
            self.flows[number] = [tcp, begin, begin]

    def begin(self):
        """The commands at the begin."""
        script = [REGION, Region(1, Right.WRITE, DATA, 3000), Region(2, Right.READ, DATA, DATA_SIZE)]
        for number, (tcp, begin, _) in self.flows.items():
            flags = self.flags | FlowFlag(self.rng.choice([0, FlowFlag.RING_1]))
            script += flow_of(number, tcp.key, begin, flags)
        return script

    def command(self):
        """Some command for a flow."""
        rng, number = self.rng, self.rng.choice(list(self.flows))
        _, position, posted = self.flows[number]
        kind = rng.choice(["post"] * 8 + ["retire", "cursor", "cursor", "begin", "fence"])
        match kind:
            case "post":
                length = rng.choice([1, 100, 1000, rng.randrange(1, 3000)])
                start, region = (posted + rng.choice([0, 0, 0, 50])) % (1 << 32), rng.choice([0] * 8 + [1, 2, 5])
                self.flows[number][2] = start + length
                place, self.place = self.place, self.place + length + rng.randrange(40)
                assert self.place <= DATA_SIZE, "segments would lie on each other"
                return Post(number, Direction.RECEIVE, start, length, region, place)
            case "retire":
                return Retire(number, Direction.RECEIVE, rng.randrange(3))
            case "cursor":
                return Cursor(number, (position + rng.randrange(-500, 300)) % (1 << 32))
            case "begin":
                self.flows[number][2] = position
                return Flow(number, self.flags, position)
            case _:
                return Fence(rng.randrange(2), rng.getrandbits(16))

    def frame(self):
        """Some frame."""
        rng, number = self.rng, self.rng.choice(list(self.flows))
        tcp, position, _ = self.flows[number]
        if rng.random() < 0.1:
            frame = random_frame(rng)
            return Damaged(frame) if rng.random() < 0.2 else frame
        size = rng.choice([0, 1, 100, rng.randrange(400), rng.randrange(1, 1500)])
        seq = position + rng.choice([0] * 6 + [-1, 1, -size // 2, -size, rng.randrange(-2000, 2000)])
        if seq == position:
            self.flows[number][1] = position + size
        flags = rng.choice([ACK] * 6 + [ACK | PSH, ACK | FIN, SYN])
        return tcp.but(seq=seq, flags=flags, payload=rng.randbytes(size), padding=rng.choice([0, 0, 6])).frame()

    def script(self, parts):
        """Commands and frames by turns."""
        steps = self.begin()
        for _ in range(parts):
            steps += [self.command() for _ in range(self.rng.randrange(4))]
            steps += [self.frame() for _ in range(self.rng.choice([1, 2, 6]))]
        return [*steps, Fence(1, 1)]


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variant", range(3))
def test_random(width, variant, seed):
    """With memory that is fast, or slow and late; with rings that are read at once, or late so that they fill."""
    seed = 1000 * seed + 10 * width + variant
    print(f"seed {seed}")
    streams = Streams(random.Random(seed), FlowFlag.RECEIVE)
    run(width, streams.script(12), seed=seed, **[{}, {"idle": 0.2, "stall": 0.3, "latency": 20, "pace": 0.1}, {
        "latency": 60, "pace": 0.005, "log_size": 13}][variant], limit=12_000)


@pytest.mark.soak
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("variant", range(20))
def test_random_long(width, variant, seed):
    seed = 100_000 * seed + 100 * width + variant
    rng = random.Random(seed)
    print(f"seed {seed}")
    streams = Streams(rng, FlowFlag.RECEIVE | rng.choice([0, FlowFlag.COALESCE]), count=rng.choice([1, 3, 9]))
    run(width, streams.script(60), seed=seed, idle=rng.choice([0, 0.3]), stall=rng.choice([0, 0.3]),
        latency=rng.choice([0, 10, 60]), pace=rng.choice([1, 0.1, 0.01]), log_size=rng.choice([14, 15]),
        cycles=(1 << 31) - 1, limit=100_000)


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_merged(width, seed):
    """Headers of a burst go up as one, with all the payload in memory before."""
    rng = random.Random(seed)
    burst = [BASE.but(seq=1000 + 100 * number, payload=rng.randbytes(100), identification=number,
                      flags=ACK | (PSH if number == 7 else 0)).frame() for number in range(8)]
    other = BASE.but(sport=9)
    script = [REGION, *flow_of(3, BASE.key, 1000, FlowFlag.RECEIVE | FlowFlag.COALESCE),
              *flow_of(4, other.key, 0, FlowFlag.RECEIVE), Post(3, Direction.RECEIVE, 1000, 4000, 0, 5),
              Post(4, Direction.RECEIVE, 0, 4000, 0, 0x4000), *burst[:5],
              other.but(payload=bytes(range(30))).frame(), *burst[5:],
              BASE.but(seq=1800, payload=bytes(10)).frame(), Fence(0, 5)]
    reference, _ = run(width, script, seed=seed, cycles=(1 << 31) - 1)
    assert [(entry.kind, entry.flow, entry.frames, entry.payload) for entry, _ in reference.entries(0)] == [
        (1, 4, 1, 30), (1, 3, 8, 800), (1, 3, 1, 10), (3, 5, 0, 0)]


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_a_write_that_is_refused_marks_its_frame(width, seed):
    script = [REGION, *flow_of(3, BASE.key, 0, FlowFlag.RECEIVE), Post(3, Direction.RECEIVE, 0, 1000, 0, 0),
              *(BASE.but(seq=200 * number, payload=bytes(200)).frame() for number in range(5)), Fence(0, 1)]
    reference, _ = run(width, script, seed=seed, bad=[DATA + 450])
    assert [entry.flags for entry, _ in reference.entries(0)] == [3, 3, 7, 3, 3, 0]


@pytest.mark.thorough
@pytest.mark.parametrize("width", [8])
def test_a_damaged_frame_leaves_no_trace(width, seed):
    """Its place is looked for before it has ended; nothing of it is written, granted or told."""
    rng = random.Random(seed)
    frames = [BASE.but(seq=300 * number, payload=rng.randbytes(300)).frame() for number in range(4)]
    wrong = [BASE.but(seq=300 * number, payload=bytes(300)).frame() for number in range(4)]
    script = [REGION, *flow_of(3, BASE.key, 0, FlowFlag.RECEIVE), Post(3, Direction.RECEIVE, 0, 5000, 0, 3)]
    for number, frame in enumerate(frames):
        corrupt = bytearray(wrong[number])
        corrupt[100] ^= 1
        script += [Damaged(wrong[number]), bytes(corrupt), wrong[number][:200], frame]
    reference, probe = run(width, [*script, Fence(0, 1)], seed=seed)
    assert [entry.placed for entry, _ in reference.entries(0)] == [300] * 4 + [0]
    # The places were known: a lone frame's first word is at memory soon after its last has come.
    assert 0 < probe.beats[0] - probe.last_words[3] <= 24


@pytest.mark.thorough
@pytest.mark.parametrize("width", WIDTHS)
def test_the_longest_and_the_shortest_frames(width, seed):
    """Jumbo frames that fill the frame buffer, and frames of no payload close behind one another."""
    rng = random.Random(seed)
    script = [REGION, *flow_of(0, BASE.key, 0, FlowFlag.RECEIVE), Post(0, Direction.RECEIVE, 0, 40000, 0, 3),
              *(BASE.but(seq=9216 * number, payload=rng.randbytes(9216)).frame() for number in range(2)),
              *(BASE.but(options=b"", seq=18432, ack=number, padding=6).frame() for number in range(20)),
              udp_frame(bytes(5), BASE), Fence(0, 1)]
    run(width, script, seed=seed, log_size=16)
