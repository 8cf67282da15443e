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
    PLAIN,
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

from rackgate.iaa.abi import (
    PAGE_SIZE,
    WRITE_FAULT,
    Command,
    Completion,
    Descriptor,
    Flag,
    Opcode,
    PageResponse,
    Status,
)
from rackgate.iaa.aecs import Aecs, saved_size
from rackgate.inflate.abi import ErrorCode
from rackgate_sim.devices import component
from rackgate_sim.inflate.assembler import Assembler
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


def test_ignored_bits_are_not_looked_at(library, seed):
    """Streams that end at each bit of a byte, with each number of bits behind them ignored: those may be anything."""
    bench = IaaBench(library, seed=seed, window=BUILD["window"])
    for letters in range(8):  # of 9 bits each
        asm = Assembler().fixed([200] * letters, True)
        spare, data = -len(asm) % 8, bytearray(asm.data())
        for ignored in range(8):
            if ignored <= spare:
                data[-1] |= 0xFF << 8 - ignored & 0xFF
            put(bench, SOURCE, data + bytes(64))
            want = bench.compare(job(source_size=len(data), operation_flags=PLAIN | ignored << 6))
            assert (want.error == ErrorCode.NONE) == (ignored <= spare), (letters, ignored)


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


def test_no_translation_outlives_an_invalidation(library, seed):
    """As many pages as the TLB has entries, then others in their places: in whatever order, all writes go to these."""
    rng = random.Random(seed)
    bench = IaaBench(library, seed=seed, window=BUILD["window"])
    pages = [TARGET + PAGE_SIZE * number for number in range(64)]

    def write(places):
        for page in rng.sample(pages, len(pages)):
            fill = Descriptor(Opcode.FILL, 0, 0, 0, page + 8, source2=page, destination_size=8)
            bench.submit_when_taken(fill, VIRTUAL)
        bench.command(Command.DRAIN_ALL)
        for page, place in places.items():
            assert int.from_bytes(bench.array[place + 8:place + 16].tobytes(), "little") == page, hex(page)

    write(dict(zip(pages, pages, strict=True)))
    places = dict(zip(pages, rng.sample(pages, len(pages)), strict=True))
    for page, place in places.items():
        bench.map(page, place)
    bench.write("TLB_INVALIDATE", 1)
    write(places)


@pytest.mark.parametrize("opcode", [Opcode.DECOMPRESS, Opcode.FILL], ids=["decompress", "fill"])
def test_how_far_it_came_before_a_missing_page(library, seed, opcode):
    """Of the pages that output goes to one is missing: the record says how many bytes there are before it."""
    rng = random.Random(f"{seed} {opcode}")
    bench = IaaBench(library, seed=seed, window=BUILD["window"])
    data = rng.randbytes(4 * PAGE_SIZE - 200)
    stream, source = deflate(data, level=0), TARGET - 5 * PAGE_SIZE
    put(bench, source, stream)
    for number in rng.sample(range(4), 4):
        at, page = TARGET + 1 + rng.randrange(100), TARGET + PAGE_SIZE * number
        bench.unmap({page})
        want = bench.compare({
            Opcode.DECOMPRESS: job(source=source, source_size=len(stream), destination=at, destination_size=len(data)),
            Opcode.FILL: Descriptor(opcode, ASKED, RECORD, 0, at, source2=rng.getrandbits(64),
                                    destination_size=len(data)),
        }[opcode], VIRTUAL)
        assert want.status == Status.PAGE_FAULT | WRITE_FAULT and want.output_size == max(page - at, 0)


def test_each_page_request_has_its_own_time(library, seed):
    """Two that nobody answers end when the time of each is over; the next one is answered within its time."""
    bench = IaaBench(library, seed=seed, window=BUILD["window"])
    bench.write("PAGE_TIMEOUT", 3000)
    bench.unmap({TARGET})
    fill = Descriptor(Opcode.FILL, ASKED | Flag.BLOCK_ON_FAULT, RECORD, 0, TARGET, source2=0x55, destination_size=100)

    def finish():
        for _ in range(100):
            if bench.array[RECORD]:
                return Completion.unpack(bench.array[RECORD:RECORD + 64].tobytes())
            bench.simulation.run(64)
        raise AssertionError("no record")

    for _ in range(2):
        put(bench, RECORD, bytes(64))
        assert bench.submit(fill, VIRTUAL)
        record = finish()
        assert record.status == Status.PAGE_REQUEST_TIMEOUT and record.fault_address == TARGET
        assert 3000 <= record.cycles < 3500
    put(bench, RECORD, bytes(64))
    assert bench.submit(fill, VIRTUAL)
    bench.simulation.run(2000)
    assert bench.read("PAGE_REQUEST") & 3 == 3 and bench.read("PAGE_ADDRESS_LO") == TARGET
    bench.unmap(set())
    bench.write("PAGE_RESPONSE", PageResponse.SUCCESS)
    assert finish().status == Status.SUCCESS
    assert not bench.read("PAGE_REQUEST") & 1


def test_page_requests_come_one_by_one(library, seed):
    """Descriptors that wait for pages at once: each page is asked for once, and each descriptor gets its own answer."""
    rng = random.Random(seed)
    bench = IaaBench(library, seed=seed, window=BUILD["window"])
    text = rng.randbytes(300)
    stream = deflate(text)
    descriptors, wanted, refused, unlucky = [], {}, set(), rng.sample(range(16), 4)  # wanted: whether to write there
    kinds = [Opcode.DECOMPRESS] * 8 + [Opcode.CRC64] * 4 + [Opcode.FILL] * 4
    for number, kind in enumerate(rng.sample(kinds, len(kinds))):
        source, target = SOURCE + PAGE_SIZE * number, TARGET + PAGE_SIZE * number
        put(bench, source, stream)
        places = {
            Opcode.DECOMPRESS: {"source": source, "destination": target},
            Opcode.CRC64: {"source": source, "destination": 0},
            Opcode.FILL: {"source": 0, "destination": target},
        }[kind]
        descriptors.append(replace({
            Opcode.DECOMPRESS: job(source_size=len(stream), destination_size=len(text)),
            Opcode.CRC64: Descriptor(kind, ASKED, 0, 0, 0, len(stream), filter_flags=27),
            Opcode.FILL: Descriptor(kind, ASKED, 0, 0, 0, source2=number, destination_size=8),
        }[kind], flags=ASKED | Flag.BLOCK_ON_FAULT, completion=RECORD + 64 * number, **places))
        wanted |= {place: name == "destination" for name, place in places.items() if place}
        if number in unlucky:
            refused.add(places["destination"] or source)
    bench.unmap(set(wanted))
    put(bench, RECORD, bytes(64 * len(descriptors)))
    completed = bench.read("COMPLETED")
    for descriptor in descriptors:
        assert bench.submit(descriptor, VIRTUAL)
    asked = []
    while (bench.read("COMPLETED") - completed) & 0xFFFFFFFF < len(descriptors):
        assert bench.simulation.cycle < bench.limit, f"{len(asked)} of {len(wanted)} pages were asked for"
        if (request := bench.read("PAGE_REQUEST")) & 1:
            page = bench.read("PAGE_ADDRESS_LO") | bench.read("PAGE_ADDRESS_HI") << 32
            asked.append(page)
            assert request >> 8 & 7 == VIRTUAL and request >> 1 & 1 == wanted[page], hex(page)
            if page not in refused:
                bench.map(page, page)
            bench.write("PAGE_RESPONSE", PageResponse.INVALID if page in refused else PageResponse.SUCCESS)
        bench.simulation.run(rng.choice([20, 500]))
    assert sorted(asked) == sorted(wanted) and len(asked) > 16, "more than are kept"
    for descriptor in descriptors:
        at, place = descriptor.completion, descriptor.destination
        status = bench.array[at]
        if descriptor.opcode == Opcode.CRC64:
            assert status == (Status.PAGE_FAULT if descriptor.source in refused else Status.SUCCESS)
            continue
        assert status == (Status.PAGE_FAULT | WRITE_FAULT if place in refused else Status.SUCCESS)
        data = text if descriptor.opcode == Opcode.DECOMPRESS else descriptor.source2.to_bytes(8, "little")
        assert bench.array[place:place + len(data)].tobytes() == (bytes(len(data)) if place in refused else data)


@pytest.mark.soak
@pytest.mark.parametrize("memory", MEMORIES, ids=["near", "far"])
def test_many_random_descriptors(library, seed, memory):
    random_descriptors(library, seed + 1000, 6000, memory)
