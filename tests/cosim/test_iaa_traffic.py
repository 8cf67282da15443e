# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Queues that overflow, much traffic over several of them, and commands in its midst."""

import random
from dataclasses import replace

import numpy as np
import pytest
from iaa_bench import MEMORY, PHYSICAL, IaaBench
from test_iaa_model import ASKED, deflate
from test_iaa_model import canned as canned_page

from rackgate.iaa.abi import (
    Command,
    CommandError,
    Completion,
    DecompressFlag,
    Descriptor,
    DeviceState,
    Flag,
    Opcode,
    Status,
)
from rackgate.iaa.aecs import AECS_SIZE, Aecs
from rackgate_sim.devices import component
from rackgate_sim.iaa.model import Rules, difference, run
from rackgate_sim.inflate.model import FlatMemory
from rackgate_sim.native import RegisterError, build

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("iaa")]

BUILD = {"contexts": 2, "window": 4096, "lanes": 8}
LANES = BUILD["contexts"]
PLAIN = DecompressFlag.ENABLE | DecompressFlag.STOP_ON_EOB | DecompressFlag.CHECK_FOR_EOB | DecompressFlag.EOB_IS_BFINAL
AECS, SOURCES, LISTS, RECORDS, OUTPUT = 0x1000, 0x2000, 0x8000, 0x20000, 0x40000
KINDS = ("plain", "canned", "crc", "fill", "noop", "bad")
QUEUES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def library():
    return build(component("iaa", **BUILD), name="iaa", key=sorted(BUILD.items()))


class Traffic:
    """Descriptors with records and destinations of their own, and what must come of them."""

    def __init__(self, library, seed, **queues):
        self.rng = random.Random(seed)
        self.bench = IaaBench(library, seed=seed, window=BUILD["window"])
        self.bench.port.configure(latency=25, write_latency=15, jitter=20, reorder=True, interleave=True, stall=0.1)
        self.initial = np.zeros(MEMORY, np.uint8)  # the memory without what the device has written
        header, body = canned_page()
        text = bytes(self.rng.choices(b"abcdefgh", k=700))
        self.sources = []
        place = SOURCES
        for data in (deflate(text), body, deflate(self.rng.randbytes(300))):
            self._put(place, data)
            self.sources.append((place, len(data)))
            place += len(data) + 77
        self._put(AECS, Aecs(header).pack())
        self.record, self.output, self.lists = RECORDS, OUTPUT, LISTS
        self.members = {}  # of each LIST
        self.configure(**queues)
        self.fill_memory()

    def _put(self, address, data):
        for memory in (self.bench.array, self.initial):
            memory[address:address + len(data)] = np.frombuffer(data, np.uint8)

    def configure(self, *, count=4, size=8, threshold=None, dedicated=False, priorities=(1, 5, 5, 15)):
        """Queues of physical addresses in place of the bench's."""
        bench = self.bench
        bench.command(Command.DISABLE_DEVICE)
        for queue in range(count):
            mode = dedicated | priorities[queue] << 4
            for name, value in (("SIZE", size), ("THRESHOLD", threshold or size), ("MODE", mode), ("LIMITS", 21)):
                bench.write(f"WQ{queue}_{name}", value)
        bench.write("GRP0_WQS", (1 << count) - 1)
        bench.command(Command.ENABLE_DEVICE)
        for queue in range(count):
            bench.command(Command.ENABLE_WQ, queue)
        self.before = bench.read("COMPLETED")

    def descriptor(self, opcode=None, size=None):
        """A descriptor of any kind, with a guard between its destination and the next one's."""
        kind = self.rng.choice([*KINDS, "list"]) if opcode is None else opcode
        if kind == "list":
            return self._list(size)
        rng, record, target = self.rng, self.record, self.output + self.rng.randrange(1, 16)
        plain = Descriptor(Opcode.DECOMPRESS, ASKED, record, *self.sources[0][:1], target, self.sources[0][1], 0, PLAIN,
                           destination_size=700)
        canned = replace(plain, flags=ASKED | Flag.READ_SOURCE2_AECS, source=self.sources[1][0],
                         source_size=self.sources[1][1], source2=AECS, source2_size=AECS_SIZE,
                         destination_size=rng.choice([9000, 1000]))
        made = {
            "plain": plain, "canned": canned,
            "crc": Descriptor(Opcode.CRC64, ASKED, record, self.sources[2][0], 0, rng.randrange(1, 300),
                              filter_flags=27),
            "fill": Descriptor(Opcode.FILL, ASKED, record, 0, target, source2=rng.getrandbits(64),
                               destination_size=size or rng.randrange(1, 600)),
            "noop": Descriptor(Opcode.NOOP, ASKED, record), "bad": Descriptor(0x77, ASKED, record),
        }[kind]
        self.record, self.output = record + 64, target + made.destination_size + 16
        assert self.output < MEMORY and self.record < OUTPUT
        return made

    def _list(self, count=None):
        """A LIST of a few descriptors."""
        rng, place = self.rng, self.lists
        members = [self.descriptor(rng.choice(KINDS)) for _ in range(count or rng.randrange(1, 6))]
        raw = b"".join(member.pack() for member in members)
        self._put(place, raw)
        self.lists += len(raw)
        assert self.lists <= RECORDS
        self.record += 64
        made = Descriptor(Opcode.LIST, ASKED, self.record - 64, place, 0, len(raw))
        self.members[made] = members
        return made

    def send(self, descriptor, queue=PHYSICAL, *, dropped=False):
        """Submit, and remember what must come of it; whether the queue answered OKAY."""
        try:
            taken = self.bench.submit(descriptor, queue)
        except RegisterError:  # a queue that drains, or is not enabled, refuses every word
            taken = False
        if taken and not dropped:
            self.accepted += 1 + len(self.members.get(descriptor, ()))
        self.sent.append((descriptor, taken and not dropped))
        return taken

    def drain(self):
        self.bench.command(Command.DRAIN_ALL)

    def check(self):
        """Every descriptor that was taken has completed, exactly once; no other has, and no other byte is written."""
        bench = self.bench
        assert bench.read("COMPLETED") - self.before & 0xFFFFFFFF == self.accepted
        model = FlatMemory(self.initial.copy(), 0)
        actual = bench.array[:MEMORY].copy()
        for descriptor, taken in self.sent:
            if not taken:
                continue
            run(descriptor, model, rules=Rules(BUILD["window"], 21))
            for one in (descriptor, *self.members.get(descriptor, ())):
                at = one.completion
                want = Completion.unpack(model.read(at, 64))
                got = Completion.unpack(actual[at:at + 64].tobytes())
                assert not (text := difference(want, got)), f"{text}\n{one}"
                actual[at:at + 64] = model.array[at:at + 64] = 0
        wrong = np.flatnonzero(actual != model.array)
        assert not len(wrong), f"memory differs at {wrong[0]:#x}"

    def fill_memory(self):
        """Records and destinations are full of noise, and nothing has been sent yet."""
        self.sent, self.accepted = [], 0
        self._put(RECORDS, self.rng.randbytes(MEMORY - RECORDS))

    def occupy(self):
        """All lanes are busy for a while, and nothing waits."""
        for _ in range(LANES):
            assert self.send(self.descriptor("fill", 40_000), 0)
        self.bench.simulation.run(150)
        assert all(self.bench.read(f"WQ{queue}_STATE") & 0xFFFF == 0 for queue in QUEUES)


@pytest.mark.parametrize("threshold", [1, 3, 8])
def test_shared_queue_overflows(library, seed, threshold):
    """At the threshold a submission is answered with "retry", and taken later; what was refused leaves no trace."""
    traffic = Traffic(library, seed, threshold=threshold)
    traffic.occupy()
    for _ in range(threshold):
        assert traffic.send(traffic.descriptor("noop"), 1)
    assert traffic.bench.read("WQ1_STATE") & 0xFFFF == threshold
    refused = [traffic.descriptor("fill") for _ in range(3)]
    assert not any(traffic.bench.submit(descriptor, 1) for descriptor in refused)
    assert traffic.send(traffic.descriptor("noop"), 2), "another queue is not full"
    assert not traffic.bench.read("SWERR0") & 1
    for descriptor in refused[:2]:
        for _ in range(5000):
            if traffic.send(descriptor, 1):
                break
            traffic.sent.pop()
            traffic.bench.simulation.run(64)
        else:
            raise AssertionError("the queue stays full")
    traffic.drain()
    traffic.check()


def test_dedicated_queue_overflows(library, seed):
    """A descriptor for which there is no place is dropped; SWERR says so, and OVERFLOW that it was not the only one."""
    traffic = Traffic(library, seed, size=3, dedicated=True)
    traffic.occupy()
    for _ in range(3):
        assert traffic.send(traffic.descriptor("fill"), 2)
    for number in range(3):
        assert traffic.send(traffic.descriptor("fill"), 2, dropped=True)
        traffic.bench.simulation.run(20)
        swerr = traffic.bench.read("SWERR0")
        assert swerr & 0xFF2F == 1 | (number > 0) << 1 | 1 << 3 | Status.QUEUE_FULL << 8, hex(swerr)
        assert swerr >> 16 & 0xFF == 2
    traffic.bench.write("SWERR0", 3)
    traffic.drain()
    assert not traffic.bench.read("SWERR0") & 3
    assert traffic.send(traffic.descriptor("crc"), 2)
    traffic.drain()
    traffic.check()


def flood(library, seed, count, kinds=(None,), most=None):
    """Send ``count`` descriptors of ``kinds`` (None: any) and check them; returns how many had to be sent again.

    FILL writes less than ``most`` bytes.
    """
    traffic = Traffic(library, seed)
    retries = 0
    for _ in range(count):
        size = None if most is None else traffic.rng.randrange(1, most)
        descriptor, queue = traffic.descriptor(traffic.rng.choice(kinds), size), traffic.rng.choice(QUEUES)
        while not traffic.send(descriptor, queue):
            traffic.sent.pop()
            retries += 1
            traffic.bench.simulation.run(100)
        traffic.bench.simulation.run(traffic.rng.choice([0, 0, 0, 200]))
    traffic.drain()
    assert traffic.accepted > count or None not in kinds, "no LIST was among them"
    traffic.check()
    return retries


def test_much_traffic(library, seed):
    """Descriptors of all kinds over queues of several priorities: each completes exactly once."""
    assert flood(library, seed, 120) > 5


def test_lanes_take_turns_at_the_utility(library, seed):
    """Short checksums and fills alone, so that the unit that lanes share is asked all the time: each is done once."""
    flood(library, seed, 300, ("crc", "fill"), 40)


def test_queues_of_one_priority_take_turns(library, seed):
    """While all of them wait, none gets two descriptors ahead of another."""
    traffic = Traffic(library, seed, priorities=(7,) * len(QUEUES))
    traffic.occupy()
    for queue in traffic.rng.choices(QUEUES, k=200):
        if traffic.bench.read(f"WQ{queue}_STATE") & 0xFFFF < 8:
            assert traffic.send(traffic.descriptor("fill", 1000), queue)
    waiting = [8] * len(QUEUES)
    seen = set()
    while min(waiting) > 1:
        waiting = [traffic.bench.read(f"WQ{queue}_STATE") & 0xFFFF for queue in QUEUES]
        assert max(waiting) - min(waiting) <= 1, waiting
        seen.add(tuple(waiting))
        traffic.bench.simulation.run(16)
    assert len(seen) > 20, "a look for nearly each that is served"
    traffic.drain()
    traffic.check()


def test_a_list_shares_the_lanes(library, seed):
    """Its descriptors and those of the queues take turns, and none is lost."""
    traffic = Traffic(library, seed)
    traffic.occupy()
    for queue in (3, 3, 3, 2):
        assert traffic.send(traffic.descriptor("list", 25), queue)
    for number in range(22):
        assert traffic.send(traffic.descriptor(), number % 3)
    traffic.drain()
    traffic.check()


@pytest.mark.soak
@pytest.mark.parametrize("part", range(20))
def test_very_much_traffic(library, seed, part):
    flood(library, 1000 * seed + part, 150)


@pytest.mark.parametrize("command", [Command.DRAIN_WQ, Command.DRAIN_ALL, Command.DISABLE_WQ, Command.DISABLE_DEVICE])
def test_commands_that_wait(library, seed, command):
    """They end when all is done; until then nothing is taken, and what runs is not disturbed."""
    traffic = Traffic(library, seed)
    bench = traffic.bench
    for _ in range(12):
        assert traffic.send(traffic.descriptor(), traffic.rng.choice(QUEUES[:2]))
    assert traffic.send(traffic.descriptor("fill", 9000), 0)
    bench.write("CMD", command << 20 | (3 if command in (Command.DRAIN_WQ, Command.DISABLE_WQ) else 0))
    assert bench.read("CMDSTS") >> 31
    assert not traffic.send(traffic.descriptor("fill"), 0)
    is_partial = command in (Command.DRAIN_WQ, Command.DISABLE_WQ)
    assert traffic.send(traffic.descriptor("noop"), 3) == is_partial
    for _ in range(2000):
        if not bench.read("CMDSTS") >> 31:
            break
        bench.simulation.run(64)
    assert bench.read("CMDSTS") == 0
    assert is_partial or bench.read("COMPLETED") - traffic.before == traffic.accepted
    is_enabled = command in (Command.DRAIN_WQ, Command.DRAIN_ALL)
    assert traffic.send(traffic.descriptor("crc"), 0) == is_enabled
    state = DeviceState.DISABLED if command == Command.DISABLE_DEVICE else DeviceState.ENABLED
    assert bench.read("GENSTS") & 3 == state
    if state == DeviceState.ENABLED:
        traffic.drain()
    traffic.check()


def test_commands_that_are_refused(library, seed):
    """Each says why, and changes nothing: what is under way ends as ever, and a good command after it has no error."""
    traffic = Traffic(library, seed)
    bench = traffic.bench
    assert traffic.send(traffic.descriptor("fill", 9000), 0)
    for command, operand, why in (
            (Command.ENABLE_DEVICE, 0, CommandError.DEVICE_ENABLED), (31, 0, CommandError.UNKNOWN_COMMAND),
            (Command.ENABLE_WQ, 1, CommandError.QUEUE_ENABLED), (Command.ENABLE_WQ, 4, CommandError.BAD_QUEUE),
            (Command.DRAIN_WQ, 0, CommandError.BAD_QUEUE), (Command.ABORT_WQ, 1 << 4, CommandError.BAD_QUEUE),
            (Command.DISABLE_WQ, 1 << 2, CommandError.NONE),
            (Command.DRAIN_WQ, 1 << 2, CommandError.QUEUE_NOT_ENABLED)):
        bench.command(command, operand, error=why)
        assert traffic.send(traffic.descriptor("noop"), 3)
    for name, wrong, why in (
            ("GRP0_WQS", 0b1011, CommandError.QUEUE_IN_NO_GROUP), ("WQ2_SIZE", 0, CommandError.BAD_QUEUE_SIZE),
            ("WQ2_SIZE", 49, CommandError.BAD_QUEUE_SIZE), ("WQ2_MODE", 0, CommandError.BAD_QUEUE_PRIORITY),
            ("WQ2_THRESHOLD", 9, CommandError.BAD_QUEUE_MODE), ("WQ2_LIMITS", 31, CommandError.BAD_TRANSFER_SIZE)):
        right = bench.read(name)
        bench.write(name, wrong)
        bench.command(Command.ENABLE_WQ, 2, error=why)
        assert not traffic.send(traffic.descriptor("noop"), 2)
        bench.write(name, right)
    bench.command(Command.ENABLE_WQ, 2)
    for _ in range(10):
        assert traffic.send(traffic.descriptor(), traffic.rng.choice(QUEUES))
    bench.command(Command.DISABLE_DEVICE)
    traffic.check()
    for command in (Command.DISABLE_DEVICE, Command.DRAIN_ALL, Command.ABORT_ALL):
        bench.command(command, error=CommandError.DEVICE_DISABLED)
    bench.command(Command.ENABLE_WQ, 1, error=CommandError.DEVICE_NOT_ENABLED)
    bench.command(Command.RESET_WQ, 2, error=CommandError.QUEUE_NOT_ENABLED)
    bench.write("GRP0_ENGINES", 0)
    bench.command(Command.ENABLE_DEVICE, error=CommandError.NO_GROUPS)
    assert bench.read("GENSTS") & 3 == DeviceState.DISABLED


@pytest.mark.parametrize("after", [0, 7, 60, 300, 1000, 2500])
def test_reset_in_the_middle(library, seed, after):
    """The bus is left clean, nothing is written from then on, and the device works as if nothing had been."""
    traffic = Traffic(library, seed)
    bench = traffic.bench
    for _ in range(16):
        traffic.send(traffic.descriptor(), traffic.rng.choice(QUEUES))
    bench.simulation.run(after)
    bench.write("CMD", Command.RESET_DEVICE << 20)
    for _ in range(200):
        if not bench.read("CMDSTS") >> 31:
            break
        bench.simulation.run(16)
    assert bench.read("CMDSTS") == 0
    image, port = bench.array[:MEMORY].copy(), bench.port.statistics
    bench.simulation.run(3000)
    assert np.array_equal(image, bench.array[:MEMORY]) and bench.port.statistics == port
    for name in ("COMPLETED", "GENSTS", "INTCAUSE", "WQ0_SIZE", "GRP0_WQS", "BUSY_CYCLES", "SWERR0"):
        assert bench.read(name) == 0, name
    with pytest.raises(RegisterError):
        bench.write("WQ0_STATE", 0)
    # A record is whole, or its first word is as it was.
    for descriptor, _ in traffic.sent:
        at = descriptor.completion
        if not np.array_equal(image[at:at + 8], traffic.initial[at:at + 8]):
            want = run(descriptor, FlatMemory(traffic.initial.copy(), 0), rules=Rules(BUILD["window"], 21))
            assert not difference(want, Completion.unpack(image[at:at + 64].tobytes()))
    bench.setup()
    traffic.configure()
    traffic.fill_memory()
    for _ in range(10):
        assert traffic.send(traffic.descriptor(), traffic.rng.choice(QUEUES))
    traffic.drain()
    traffic.check()
