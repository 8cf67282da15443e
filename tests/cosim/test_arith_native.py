# SPDX-License-Identifier: Apache-2.0
"""Reducer and converters, compiled, against the golden functions over many more numbers than the unit tests."""

import random

import numpy as np
import pytest
from arith_packets import converted, random_packet, split
from arith_values import pairs, special_pairs, words

from rackgate.arith.abi import ElementType, Function
from rackgate.arith.convert import Compress, Expand
from rackgate.arith.reducer import Reducer
from rackgate_sim.arith import reduce
from rackgate_sim.native import Simulation, build

pytestmark = pytest.mark.cosim

WIDTH, TAG = 8, 16
SIZES = [20_000, pytest.param(500_000, marks=pytest.mark.soak)]
EVERY_HALF = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


@pytest.fixture(scope="module")
def reducer():
    return build(Reducer(WIDTH, sideband=TAG), name="reducer", key=())


@pytest.fixture(scope="module")
def compressor():
    return build(Compress(WIDTH), name="compress", key=())


@pytest.fixture(scope="module")
def expander():
    return build(Expand(WIDTH), name="expand", key=())


def run(library, items, count, *, seed, stall):
    """Send payloads; return the ``count`` payloads or packets that come out."""
    with Simulation(library, seed=seed) as simulation:
        entry, end = simulation.stream("i"), simulation.stream("o")
        entry.stall(stall)
        end.stall(stall)
        entry.push(items)
        for _ in range(1000):
            simulation.run(len(items) // 100 + 100)
            if not entry.pending:
                break
        simulation.run(1000)
        assert entry.pending == 0
        assert end.available == count
        return end.pop_all()


def operations(kind, count, rng):
    """Words with any function, specials among them: as payloads, with what must come out."""
    noise = pairs(kind, count, rng)
    a, b = (np.concatenate(each) for each in zip(special_pairs(kind), noise, strict=True))
    number = WIDTH // kind.size
    spare = len(a) % number
    a, b = (each[:len(each) - spare].reshape(-1, number) for each in (a, b))
    chosen = rng.choice(np.array(Function), size=len(a))
    expected = np.empty_like(a)
    for function in Function:
        here = chosen == function
        expected[here] = reduce(function, a[here], b[here])
    tags = rng.integers(1 << TAG, size=len(a))
    items, results = [], []
    for left, right, function, tag, result in zip(words(a, WIDTH), words(b, WIDTH), chosen.tolist(), tags.tolist(),
                                                  words(expected, WIDTH), strict=True):
        items.append(left | right << 64 | function << 128 | kind << 132 | tag << 136)
        results.append(result | tag << 64)
    return items, results


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("kind", ElementType)
def test_reducer(reducer, kind, count, seed):
    items, results = operations(kind, count, np.random.default_rng(seed))
    assert len(items) * (WIDTH // kind.size) >= count
    found = run(reducer, items, len(items), seed=seed, stall=0)
    wrong = [(hex(a), hex(b), hex(c)) for a, b, c in zip(items, results, found, strict=True) if b != c]
    assert not wrong, wrong[:5]


@pytest.mark.parametrize("count", SIZES)
def test_reducer_of_mixed_types(reducer, count, seed):
    """Types, functions and tags change from word to word, and both sides stall."""
    rng = np.random.default_rng(seed)
    both = [pair for kind in ElementType for pair in zip(*operations(kind, count // 5, rng), strict=True)]
    random.Random(seed).shuffle(both)
    found = run(reducer, [item for item, _ in both], len(both), seed=seed, stall=0.3)
    assert found == [result for _, result in both]


def singles(count, rng):
    """float32 numbers, three of four of them in the range of float16."""
    value = rng.integers(1 << 32, size=count, dtype=np.uint32)
    near = rng.random(count) < 0.75
    exponent = rng.integers(98, 146, count).astype(np.uint32)
    return np.where(near, value & 0x807FFFFF | exponent << 23, value).astype(np.uint32).view(np.float32)


def check_packets(library, packets, dtype, *, seed, stall):
    """Packets, each with whether to convert it, through a converter."""
    items = []
    for raw, convert in packets:
        items += [data | count << 64 | last << 68 | convert << 70 for data, count, last, _ in split(raw, WIDTH)]
    found = run(library, items, len(packets), seed=seed, stall=stall)
    for index, (packet, (raw, convert)) in enumerate(zip(found, packets, strict=True)):
        assert packet == converted(raw, convert, dtype), f"packet {index}, converted: {convert}"


def test_every_half_expands(expander, seed):
    check_packets(expander, [(EVERY_HALF.tobytes(), True)], np.float16, seed=seed, stall=0)


def test_borders_of_every_half_compress(compressor, seed):
    """What lies at, just below and just above every float16 and every middle between two of them."""
    positive = EVERY_HALF[:0x7C01].copy().view(np.uint16)
    finite = positive[:-1].view(np.float16).astype(np.float64)
    above = np.append(finite[1:], 65536.0)
    middles = ((finite + above) / 2).astype(np.float32).view(np.uint32)
    places = np.concatenate([finite.astype(np.float32).view(np.uint32), middles])
    around = np.concatenate([places + np.uint32(1), places, np.maximum(places, 1) - np.uint32(1)])
    values = np.concatenate([around, around | np.uint32(1 << 31)]).view(np.float32)
    check_packets(compressor, [(values.tobytes(), True)], np.float32, seed=seed, stall=0)


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name,dtype", [("compressor", np.float32), ("expander", np.float16)])
def test_packets(name, dtype, count, seed, request):
    """Packets of all lengths, converted and not, mixed; both sides stall."""
    rng = random.Random(seed)
    values = singles(count, np.random.default_rng(seed)) if dtype == np.float32 else EVERY_HALF
    packets = [(values.tobytes(), True)]
    while len(packets) < count // 50:
        raw, convert = random_packet(rng, dtype, values, longest=60)
        if raw:  # the simulation's queues know no empty packets
            packets.append((raw, convert))
    check_packets(request.getfixturevalue(name), packets, dtype, seed=seed, stall=0.2)
