# SPDX-License-Identifier: Apache-2.0
"""Expressions in gateware against the same ones in Python."""

import random
import zlib

import pytest
from amaranth.hdl import Const as Constant
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from pisa_example import BALANCER
from pisa_random import expression

from rackgate.pisa.declare import Header, Metadata
from rackgate.pisa.expr import Expr, Op, crc32
from rackgate.pisa.hoist import early_parts, regroup
from rackgate.pisa.layout import control_layout, name_of, phv_layout, value_in
from rackgate.pisa.liveness import reads_of
from rackgate.pisa.lower import first_of, lower
from rackgate_sim.pisa.evaluate import define, source

FIELDS = list(Metadata("m", a=1, b=3, c=8, d=18, e=33).fields.values())


def compare(expressions, rng, rounds):
    """All expressions in one design, on random values, against their Python source."""
    signals = {item: Signal(item.width, name=item.name) for item in FIELDS}
    m = Module()
    values = [lower(expr, signals.__getitem__) for expr in expressions]
    outs = [Signal(expr.width) for expr in expressions]
    m.d.comb += [out.eq(value) for out, value in zip(outs, values, strict=True)]
    assert [len(value) for value in values] == [expr.width for expr in expressions]
    places = {item: place for place, item in enumerate(FIELDS)}
    models = [define("f", "p", [f"return {source(expr, lambda item: f'p[{places[item]}]')}"]) for expr in expressions]

    async def bench(ctx):
        for _ in range(rounds):
            given = [rng.choice([0, (1 << item.width) - 1, rng.getrandbits(item.width)]) for item in FIELDS]
            for item, value in zip(FIELDS, given, strict=True):
                ctx.set(signals[item], value)
            await ctx.delay(1e-9)
            for expr, out, model in zip(expressions, outs, models, strict=True):
                assert ctx.get(out) == int(model(given)), (expr, given)

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_random_expressions(seed):
    rng = random.Random(seed)
    compare([expression(rng, FIELDS, rng.choice([1, 1, 2, 8, 17, 32, 40])) for _ in range(40)], rng, 15)


def test_crc32_is_zlibs():
    number = 0x0A00_0001_1F90
    out = Signal(32)
    m = Module()
    m.d.comb += out.eq(lower(crc32(FIELDS[2], FIELDS[4].resize(40)), {
        FIELDS[2]: Constant(number >> 40, 8), FIELDS[4]: Constant(number & 0x1_FFFF_FFFF, 33)}.__getitem__))

    async def bench(ctx):
        await ctx.delay(1e-9)
        assert ctx.get(out) == zlib.crc32(number.to_bytes(6, "big"))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_layout():
    layout = phv_layout(BALANCER, slot_bits=3)
    assert layout["ipv4__destination"].width == 32 and layout["ipv4__is_valid"].width == 1
    assert layout["payload_slot"].width == 3
    assert {name for name, _ in layout} == {*map(name_of, BALANCER.phv), "payload_slot", "has_payload", "owns_slot",
                                            "control"}
    assert control_layout(BALANCER)["data"].width == 64 and control_layout(BALANCER)["index"].width == 2
    with pytest.raises(ValueError, match="slot_bits must be 1 to 16, not 0"):
        phv_layout(BALANCER, slot_bits=0)
    header = Header("ethernet", destination=48)
    value_of = value_in(Signal(layout))
    assert len(value_of(header.destination)) == 48 and len(value_of(Metadata("absent", x=5).x)) == 5


def test_values_must_fit():
    with pytest.raises(ValueError, match=r"m.b has 3 bits, but the value given for it has 4"):
        lower(FIELDS[1], lambda item: Constant(0, 4))
    with pytest.raises(ValueError, match="no such operator: 'mul'"):
        lower(Op("mul", (), 1), lambda item: Constant(0, 1))
    with pytest.raises(TypeError, match="no such expression"):
        lower(Expr(1), lambda item: Constant(0, 1))


def test_first_of():
    conditions, out = Signal(4), Signal(4)
    m = Module()
    m.d.comb += [out[k].eq(value) for k, value in enumerate(first_of(list(conditions)))]

    async def bench(ctx):
        for number in range(16):
            ctx.set(conditions, number)
            await ctx.delay(1e-9)
            assert ctx.get(out) == number & -number

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_regrouped_expressions_have_the_same_value(seed):
    rng = random.Random(seed)
    places = {item: place for place, item in enumerate(FIELDS)}

    def model(expr):
        return define("f", "p", [f"return {source(expr, lambda item: f'p[{places[item]}]')}"])

    moved = 0
    for _ in range(300):
        late = frozenset(rng.sample(FIELDS, 2))
        expr = expression(rng, FIELDS, rng.choice([1, 1, 8, 33]), 5)
        other = regroup(expr, late)
        moved += repr(other) != repr(expr)
        for part in early_parts([other], late):
            assert isinstance(part, Op) and not reads_of(part) & late
        before, after = model(expr), model(other)
        for _ in range(10):
            given = [rng.choice([0, (1 << item.width) - 1, rng.getrandbits(item.width)]) for item in FIELDS]
            assert int(before(given)) == int(after(given)), (expr, other, given)
    assert moved > 30


def test_what_comes_early_is_worked_out_early():
    one, three, byte, word, wide = FIELDS
    expr = (byte == 3) & (word == 7) & (wide == word.resize(33)) & (one == 1)
    parts = early_parts([regroup(expr, {word})], {word})
    assert sorted(map(repr, parts)) == ["(& (& (== m.c 8'd3) (== m.e[18:33] 15'd0)) (== m.a 1'd1))", "m.e[0:18]"]
    count = word + (byte == 1).resize(18)
    assert repr(regroup(count, {word})) == "(mux (== m.c 8'd1) (+ m.d 18'd1) m.d)"
    assert early_parts([three, three + 1], {word})[0].kind == "+"
