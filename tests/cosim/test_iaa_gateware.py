# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The IAA gateware against its golden model, descriptor by descriptor, all of memory compared."""

import random
from dataclasses import replace

import pytest
from iaa_bench import MEMORY, PHYSICAL, VIRTUAL, IaaBench
from test_iaa_model import (
    AECS,
    ASKED,
    RECORD,
    SOURCE,
    STATES,
    TARGET,
    TEXT,
    canned,
    deflate,
    job,
    random_descriptor,
)

from rackgate.iaa.abi import PAGE_SIZE, Command, Descriptor, Opcode, Status
from rackgate.iaa.aecs import Aecs, saved_size
from rackgate.inflate.abi import ErrorCode
from rackgate_sim.devices import component
from rackgate_sim.inflate.streams import NEGATIVES
from rackgate_sim.native import build

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("iaa")]

#: The gateware is built small, and with two contexts so that descriptors overlap.
BUILD = {"contexts": 2, "window": 4096, "lanes": 8}
LIST = SOURCE + 0x40000
MEMORIES = (
    {"latency": 1, "write_latency": 0},
    {"latency": 30, "write_latency": 40, "jitter": 30, "reorder": True, "interleave": True, "stall": 0.2},
)


@pytest.fixture(scope="module")
def library():
    return build(component("iaa", **BUILD), name="iaa", key=sorted(BUILD.items()))


def put(bench, address, data):
    bench.array[address:address + len(data)] = list(data)


def test_negative_list(library, seed):
    """Every stream of the negative list through a descriptor: status and error byte."""
    bench = IaaBench(library, seed=seed, window=BUILD["window"])
    for negative in NEGATIVES:
        put(bench, SOURCE, negative.data + bytes(64))
        want = bench.compare(job(source_size=len(negative.data)))
        error = ErrorCode.NONE if negative.strict is None else negative.strict
        assert want.error == error or negative.small_window is not None, negative.name


def random_descriptors(library, seed, count, memory):
    """Random descriptors on both queues, pages of the virtual one missing at random. The statuses seen."""
    rng = random.Random(f"{seed} {memory}")
    bench = IaaBench(library, seed=seed, window=BUILD["window"], memory=memory)
    header, body = canned()
    letters = bytes(rng.choices(b"abcdefgh ", [1, 2, 3, 4, 5, 6, 7, 8, 30], k=20000))  # whose body is pages long
    sources = [deflate(TEXT), body, deflate(letters), deflate(rng.randbytes(6000)),
               *(negative.data for negative in NEGATIVES),
               b"".join(job(completion=0x10000 + 64).pack() for _ in range(10)), rng.randbytes(9000)]
    seen = set()
    for number in range(count):
        bench.array[:MEMORY] = 0
        put(bench, AECS, Aecs(header).pack())
        for place in (STATES, STATES + saved_size(BUILD["window"])):
            put(bench, place, Aecs(rng.choice([header, b""])).pack())
        put(bench, SOURCE, rng.choice(sources))
        bench.write("AECS_GENERATION", number)
        queue = rng.choice([PHYSICAL, VIRTUAL])
        bench.unmap({PAGE_SIZE * rng.randrange(MEMORY // PAGE_SIZE) for _ in range(rng.choice([0, 0, 40]))})
        seen.add(bench.compare(random_descriptor(rng, BUILD["window"]), queue).status)
    return seen


@pytest.mark.parametrize("memory", MEMORIES, ids=["near", "far"])
def test_random_descriptors(library, seed, memory):
    seen = random_descriptors(library, seed, 250, memory)
    assert len(seen) >= 10, seen


@pytest.mark.parametrize("queue", [PHYSICAL, VIRTUAL])
@pytest.mark.parametrize("opcode", [Opcode.DECOMPRESS, Opcode.CRC64, Opcode.FILL, Opcode.LIST])
def test_abort_in_the_middle(library, seed, opcode, queue):
    """What runs and what is queued ends with ABORTED, soon; what comes after is done as ever."""
    bench = IaaBench(library, seed=seed, window=BUILD["window"])
    long = bytes(range(256)) * 256
    stream = deflate(long, level=0)
    put(bench, SOURCE, stream)
    doing = {
        Opcode.DECOMPRESS: job(source_size=len(stream), destination_size=len(long)),
        Opcode.CRC64: Descriptor(opcode, ASKED, 0, SOURCE, 0, len(long), filter_flags=27),
        Opcode.FILL: Descriptor(opcode, ASKED, 0, 0, TARGET, source2=1, destination_size=len(long)),
        Opcode.LIST: Descriptor(opcode, ASKED, 0, LIST, 0, 64),
    }[opcode]
    put(bench, LIST, replace(doing, opcode=Opcode.NOOP, flags=0).pack() if opcode != Opcode.LIST else job(
        completion=RECORD + 0x800, source_size=len(stream), destination_size=len(long)).pack())
    records = [RECORD + 64 * number for number in range(6)]
    put(bench, RECORD, bytes(64 * 6))
    for record in records:
        assert bench.submit(replace(doing, completion=record), queue)
    bench.simulation.run(600)
    begin = bench.simulation.cycle
    bench.command(Command.ABORT_WQ, 1 << queue)
    assert bench.simulation.cycle - begin < 4000
    statuses = [bench.array[record] for record in records]
    assert statuses.count(Status.ABORTED) >= len(records) - 1 and set(statuses) <= {Status.ABORTED, Status.SUCCESS}
    assert bench.compare(job(source_size=len(stream), destination_size=len(long)), queue).status == Status.SUCCESS


@pytest.mark.soak
@pytest.mark.parametrize("memory", MEMORIES, ids=["near", "far"])
def test_many_random_descriptors(library, seed, memory):
    random_descriptors(library, seed + 1000, 6000, memory)
