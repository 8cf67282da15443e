# SPDX-License-Identifier: Apache-2.0
"""Sums, maxima and minima: the exact definition, NumPy, the golden functions, and the gateware."""

import itertools
import random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import data
from arith_values import array, exact, pairs, special_pairs, specials, words

from rackgate.arith.abi import ElementType, FloatFormat, Function, types_mask
from rackgate.arith.adder import FloatAdder
from rackgate.arith.integer import IntegerLanes
from rackgate.arith.lanes import LANES, FloatLanes
from rackgate.arith.reducer import Reducer
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch
from rackgate_sim.arith import canonical, compress, expand, reduce

FLOATS = [each for each in ElementType if each.format]
ARITHMETIC = [Function.SUM, Function.MAX, Function.MIN]
NUMPY = {Function.SUM: np.add, Function.MAX: np.maximum, Function.MIN: np.minimum}


def bits(values):
    return values.view(f"u{values.dtype.itemsize}")


def assert_same(result, expected, *operands):
    """Equal encodings; the first that differ are shown with their operands."""
    result, expected, *operands = (bits(each) for each in (result, expected, *operands))
    wrong = np.flatnonzero(result != expected)[:5]
    assert not len(wrong), [[hex(each[k]) for each in (*operands, result, expected)] for k in wrong]


# ---- the ABI and the golden functions ----


def test_types():
    assert [(each.name, each.value, each.size, each.dtype) for each in ElementType] == [
        ("INT32", 0, 4, "int32"), ("INT64", 1, 8, "int64"), ("FLOAT16", 2, 2, "float16"),
        ("FLOAT32", 3, 4, "float32"), ("FLOAT64", 4, 8, "float64")]
    for each in ElementType:
        assert np.dtype(each.dtype).itemsize == each.size
    for each in FLOATS:
        info = np.finfo(each.dtype)
        assert (each.format.bits, each.format.mantissa, each.format.exponent) == (info.bits, info.nmant, info.nexp)
        assert bits(np.array([np.inf], each.dtype))[0] == each.format.infinity
        assert np.isnan(array([each.format.quiet_nan], each))
    assert [(each.name, each.value) for each in Function] == [("SUM", 0), ("MAX", 1), ("MIN", 2), ("PASS", 15)]
    assert types_mask([ElementType.INT64, ElementType.FLOAT64]) == 0b10010
    assert types_mask([]) == 0


@pytest.mark.parametrize("function", ARITHMETIC)
@pytest.mark.parametrize("kind", ElementType)
def test_golden_against_numpy(kind, function, seed):
    """NumPy leaves open the payload of a NaN, and which zero a maximum of two zeros is."""
    edges, noise = special_pairs(kind), pairs(kind, 20_000, np.random.default_rng(seed))
    a, b = (np.concatenate(each) for each in zip(edges, noise, strict=True))
    with np.errstate(all="ignore"):
        expected = NUMPY[function](a, b)
    result = reduce(function, a, b)
    if kind.format:
        expected = canonical(expected)
        if function != Function.SUM:
            zeros = expected == 0
            assert np.array_equal(result == 0, zeros)
            result, expected, a, b = (each[~zeros] for each in (result, expected, a, b))
    assert len(result) > 20_000
    assert_same(result, expected, a, b)


@pytest.mark.parametrize("function", ARITHMETIC)
@pytest.mark.parametrize("kind", FLOATS)
def test_golden_against_the_definition(kind, function, seed):
    edges, noise = special_pairs(kind), pairs(kind, 2000, np.random.default_rng(seed))
    a, b = (np.concatenate(each) for each in zip(edges, noise, strict=True))
    expected = [exact(function, *map(int, pair), kind.format) for pair in zip(bits(a), bits(b), strict=True)]
    assert_same(reduce(function, a, b), array(expected, kind), a, b)
    assert_same(reduce(function, b, a), array(expected, kind), a, b)


def test_golden_of_zeros():
    zeros = np.array([0.0, -0.0], np.float32)
    for a, b in itertools.permutations((zeros[:1], zeros[1:])):
        assert bits(reduce(Function.MAX, a, b))[0] == 0
        assert bits(reduce(Function.MIN, a, b))[0] == 1 << 31
        assert bits(reduce(Function.SUM, a, b))[0] == 0


@pytest.mark.parametrize("kind", ElementType)
def test_golden_pass(kind):
    a, b = special_pairs(kind)
    assert_same(reduce(Function.PASS, a, b), b)


def test_golden_errors():
    floats = np.zeros(2, np.float32)
    with pytest.raises(TypeError, match="one type of rackgate.arith.abi, not float32 and float64"):
        reduce(Function.SUM, floats, np.zeros(2))
    with pytest.raises(TypeError, match="not int16 and int16"):
        reduce(Function.SUM, *np.zeros((2, 2), np.int16))
    with pytest.raises(ValueError, match=r"one shape, not \(2,\) and \(1,\)"):
        reduce(Function.SUM, floats, floats[:1])
    with pytest.raises(ValueError, match="7 is not a valid Function"):
        reduce(7, floats, floats)
    with pytest.raises(TypeError, match="values must be of a float type of rackgate.arith.abi, not int32"):
        canonical(np.zeros(1, np.int32))
    with pytest.raises(TypeError, match="values must be float32, not float16"):
        compress(np.zeros(1, np.float16))
    with pytest.raises(TypeError, match="values must be float16, not float32"):
        expand(floats)


# ---- the adder ----


def run_adder(dut, operands, *, rng=None, stall=0.0):
    """Results of (function, a, b), a cycle each but for random stalls."""
    results = []

    async def testbench(ctx):
        pending = []
        source = iter(operands)
        while True:
            moves = rng is None or rng.random() >= stall
            ctx.set(dut.en, moves)
            if not moves:  # must not be looked at
                for port in (dut.function, dut.a, dut.b):
                    ctx.set(port, rng.getrandbits(len(port)))
            elif (item := next(source, None)) is not None:
                for port, value in zip((dut.function, dut.a, dut.b), item, strict=True):
                    ctx.set(port, int(value))
            await ctx.tick()
            if moves:
                pending.append(item is not None)
                if len(pending) == dut.LATENCY:
                    if not pending.pop(0):
                        return
                    results.append(ctx.get(dut.o))

    simulate(dut, testbench)
    return results


@pytest.mark.thorough
@pytest.mark.parametrize("function", ARITHMETIC)
@pytest.mark.parametrize("kind", FLOATS)
def test_adder_specials(kind, function):
    a, b = special_pairs(kind)
    operands = [(function, *pair) for pair in zip(bits(a), bits(b), strict=True)]
    result = run_adder(FloatAdder(kind.format.exponent, kind.format.mantissa), operands)
    assert_same(array(result, kind), reduce(function, a, b), a, b)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", FLOATS)
def test_adder_random_with_stalls(kind, seed):
    a, b = pairs(kind, 3000, np.random.default_rng(seed))
    rng = random.Random(seed)
    functions = [rng.choice([Function.SUM, Function.SUM, Function.MAX, Function.MIN]) for _ in a]
    expected = np.concatenate([reduce(function, a[k:k + 1], b[k:k + 1]) for k, function in enumerate(functions)])
    dut = FloatAdder(kind.format.exponent, kind.format.mantissa)
    result = run_adder(dut, zip(functions, bits(a), bits(b), strict=True), rng=rng, stall=0.3)
    assert_same(array(result, kind), expected, a, b)


@pytest.mark.thorough
@pytest.mark.parametrize("function", ARITHMETIC)
@pytest.mark.parametrize("exponent,mantissa", [
    (2, 2), (3, 2), (2, 3),
    *(pytest.param(*each, marks=pytest.mark.soak) for each in [(4, 2), (3, 3), (2, 4), (4, 3)]),
])
def test_adder_exhaustive(exponent, mantissa, function):
    """All pairs of a small format, against the definition."""
    fmt = FloatFormat(exponent, mantissa)
    every = list(itertools.product(range(1 << fmt.bits), repeat=2))
    result = run_adder(FloatAdder(exponent, mantissa), [(function, a, b) for a, b in every])
    wrong = [(a, b, found) for (a, b), found in zip(every, result, strict=True)
             if found != exact(function, a, b, fmt)]
    assert not wrong


@pytest.mark.parametrize("parameters,message", [
    ((1, 10), "exponent must be at least 2 bits, not 1"), ((5, 1), "mantissa must be at least 2 bits, not 1"),
])
def test_adder_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        FloatAdder(*parameters)
    with pytest.raises(TypeError):
        FloatAdder(5.0, 10)


# ---- lanes and reducer ----

SIDEBAND = data.StructLayout({"tag": 7, "last": 1})
FITTING = {width: [each for each in ElementType if each.size <= width] for width in (4, 8, 16, 32, 64)}


def watched(dut):
    m = Module()
    m.submodules.dut = dut
    watch(m, dut.o, name="o")
    return m


def traffic(width, types, count, seed):
    """Operands for a reducer, with their results: words of every type and function, mixed."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    items, expected = [], []
    for index in range(count):
        kind, function = rng.choice(types), rng.choice(list(Function))
        number = width // kind.size
        if rng.random() < 0.5:
            a, b = (array(rng.choices(specials(kind), k=number), kind) for _ in range(2))
        else:
            a, b = pairs(kind, number, noise)
        side = {"tag": index % 128, "last": rng.randrange(2)}
        items.append({"a": words(a, width)[0], "b": words(b, width)[0], "function": function, "element_type": kind,
                      "sideband": side})
        expected.append((words(reduce(function, a, b), width)[0], side["tag"], side["last"]))
    return items, expected


@pytest.mark.thorough
@pytest.mark.parametrize("idle,stall", [(0, 0), (0.5, 0.1), (0.1, 0.5)])
@pytest.mark.parametrize("width", FITTING)
def test_reducer(width, idle, stall, seed):
    count = 2400 // width if width < 32 else 40
    items, expected = traffic(width, FITTING[width], count, seed)
    dut = Reducer(width, FITTING[width], sideband=SIDEBAND)
    out = []

    async def source(ctx):
        await send(ctx, dut.i, items, rng=random.Random(seed), idle=idle)

    async def sink(ctx):
        out.extend(await receive(ctx, dut.o, count, rng=random.Random(seed + 1), stall=stall))
        _, _, valid = await ctx.tick().sample(dut.o.valid)
        assert not valid, "more came out than went in"

    simulate(watched(dut), source, sink)
    assert [(word.data, word.sideband.tag, word.sideband.last) for word in out] == expected


@pytest.mark.parametrize("types", [*([each] for each in ElementType), [],
                                   [ElementType.INT64, ElementType.FLOAT16], [ElementType.INT32, ElementType.FLOAT32]])
def test_reducer_with_some_types(types, seed):
    """Also without a sideband. What is left out decides the latency, and is not there."""
    dut = Reducer(8, types)
    items, expected = traffic(8, types or [ElementType.INT32], 60, seed)
    if not types:
        for item in items:
            item["function"] = Function.PASS
        expected = [(item["b"], 0, 0) for item in items]
    for item in items:
        del item["sideband"]
    assert dut.latency == (5 if set(types) & set(FLOATS) else 2 if types else 1)
    assert [dut.supports(each) for each in ElementType] == [each in types for each in ElementType]

    async def source(ctx):
        await send(ctx, dut.i, items)

    async def sink(ctx):
        ctx.set(dut.o.ready, 1)
        for _ in range(dut.latency):
            _, _, valid = await ctx.tick().sample(dut.o.valid)
            assert not valid
        for word, *_ in expected:
            _, _, valid, found = await ctx.tick().sample(dut.o.valid, dut.o.payload.data)
            assert (valid, found) == (1, word)

    simulate(dut, source, sink)


def test_reducer_fills_before_it_is_asked():
    dut = Reducer(8, [ElementType.INT32, ElementType.FLOAT32])

    async def testbench(ctx):
        await send(ctx, dut.i, [{"b": word, "function": Function.PASS} for word in range(dut.latency)])
        ctx.set(dut.i.valid, 1)
        for _ in range(10):
            _, _, ready, valid = await ctx.tick().sample(dut.i.ready, dut.o.valid)
            assert (ready, valid) == (0, 1)
        ctx.set(dut.i.valid, 0)
        assert [word.data for word in await receive(ctx, dut.o, dut.latency)] == list(range(dut.latency))

    simulate(dut, testbench, limit=1000)


@pytest.mark.parametrize("item,message", [
    ({"element_type": ElementType.FLOAT64}, "no lanes for this element type"), ({"element_type": 9}, "no lanes"),
    ({"function": 3}, "no such function"),
])
def test_reducer_refuses(item, message):
    dut = Reducer(8, [ElementType.INT32, ElementType.FLOAT32])

    async def testbench(ctx):
        await send(ctx, dut.i, [item])

    with pytest.raises(AssertionError, match=message):
        simulate(dut, testbench)


def test_reducer_passes_a_type_it_lacks():
    dut, value = Reducer(8, [ElementType.INT32]), 0x7FF0_0000_0000_0001
    out = []

    async def source(ctx):
        await send(ctx, dut.i, [{"b": value, "function": Function.PASS, "element_type": ElementType.FLOAT64}])

    async def sink(ctx):
        out.extend(await receive(ctx, dut.o, 1))

    simulate(dut, source, sink)
    assert out[0].data == value


def test_parameters():
    with pytest.raises(ValueError, match=r"width must be one of \(4, 8, 16, 32, 64\) bytes, not 2"):
        Reducer(2, [])
    with pytest.raises(ValueError, match="types must fit a word of 4 bytes; INT64 has 8"):
        Reducer(4)
    with pytest.raises(ValueError, match="types must fit a word of 4 bytes; FLOAT64 has 8"):
        Reducer(4, [ElementType.FLOAT64, ElementType.INT32])
    with pytest.raises(ValueError, match="77 is not a valid ElementType"):
        Reducer(8, [77])
    with pytest.raises(ValueError, match=r"types must be some of INT32 and INT64, not \['FLOAT32'\]"):
        IntegerLanes(8, [ElementType.FLOAT32])
    with pytest.raises(ValueError, match=r"types must be some of INT32 and INT64, not \[\]"):
        IntegerLanes(8, [])
    for width in (4, 12, 0):
        with pytest.raises(ValueError, match=f"width must be a multiple of 8 bytes, not {width}"):
            IntegerLanes(width, [ElementType.INT64])
    with pytest.raises(ValueError, match="types must be one type of float, not INT32"):
        FloatLanes(8, [ElementType.INT32])
    with pytest.raises(ValueError, match="width must be a multiple of 8 bytes, not 12"):
        FloatLanes(12, [ElementType.FLOAT64])


def test_every_type_has_one_lane():
    assert sorted(each for types, _ in LANES for each in types) == sorted(ElementType)
