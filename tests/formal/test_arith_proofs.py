# SPDX-License-Identifier: Apache-2.0
"""Proofs: the float adder does not care about the order of its operands, and adds what the definition says; the
reducer keeps the rules and the order of streams.

Each property is also shown to be able to fail.
"""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cat, Cover, Mux, Signal
from amaranth.lib import data
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.arith.abi import ElementType, Function
from rackgate.arith.adder import FloatAdder, float_layout
from rackgate.arith.convert import Compress, Expand
from rackgate.arith.reducer import Reducer

pytestmark = pytest.mark.formal


def commutes(exponent, mantissa, fault=None):
    """Two adders with the operands swapped, stage by stage the same."""
    m = specification()
    adders = [FloatAdder(exponent, mantissa) for _ in range(2)]
    bits = adders[0].format.bits
    en, function, a, b = AnySeq(1), AnySeq(4), AnySeq(bits), AnySeq(bits)
    legal = Signal()
    m.d.comb += [legal.eq((function == Function.SUM) | (function == Function.MAX) | (function == Function.MIN)),
                 Assume(legal)]
    for index, adder in enumerate(adders):
        m.submodules[f"adder_{index}"] = adder
        m.d.comb += [adder.en.eq(en), adder.function.eq(function)]
    m.d.comb += [
        adders[0].a.eq(a), adders[0].b.eq(b), adders[1].a.eq(b), adders[1].b.eq(~a if fault else a),
        Assert(adders[0].o == adders[1].o, "the order of the operands counts"),
    ]
    return m


def rounded(m, name, value, fmt):
    """A magnitude in units of the smallest denormal, as a float: the definition, bit by bit, in no hurry."""
    steps = len(value)
    place, exponent, kept, rest = (Signal(width, name=f"{name}_{part}") for part, width in (
        ("place", range(steps)), ("exponent", fmt.exponent + 1), ("kept", fmt.mantissa + 2), ("rest", steps)))
    for k in range(steps):
        with m.If(value[k]):
            m.d.comb += place.eq(k)
    with m.Switch(place):
        for k in range(steps):
            drop = max(k - fmt.mantissa, 0)
            with m.Case(k):
                m.d.comb += [exponent.eq(drop), kept.eq(value[drop:k + 1] if k else value[0])]
                if drop:
                    m.d.comb += rest.eq(value[:drop] << steps - drop)
    half = 1 << steps - 1
    is_up = (rest > half) | (rest == half) & kept[0]
    # Encodings follow each other in units of the last place, from the denormals on to infinity.
    total = Signal(fmt.bits + 1, name=f"{name}_total")
    m.d.comb += total.eq((exponent << fmt.mantissa) + kept + is_up)
    return Mux(total >= fmt.infinity, fmt.infinity, total)[:fmt.bits - 1]


def adds(exponent, mantissa, fault=None):
    """The sum of two finite floats, five cycles later, is the exact sum in fixed point, rounded."""
    m = specification()
    m.submodules.dut = dut = FloatAdder(exponent, mantissa)
    fmt = dut.format
    a, b = AnySeq(fmt.bits), AnySeq(fmt.bits)
    m.d.comb += [dut.en.eq(1), dut.function.eq(Function.SUM), dut.a.eq(a), dut.b.eq(b)]
    fixed = []
    for index, value in enumerate((a, b)):
        x = data.View(float_layout(fmt), value)
        magnitude = Signal(fmt.mantissa + 1 + (1 << fmt.exponent) - 3, name=f"magnitude_{index}")
        significand = Cat(x.mantissa, x.exponent != 0)
        m.d.comb += [
            magnitude.eq(significand << Mux(x.exponent == 0, 0, x.exponent - 1)[:fmt.exponent]),
            Assume(x.exponent != (1 << fmt.exponent) - 1),
        ]
        fixed.append(Mux(x.sign, -magnitude, magnitude))
    total = Signal.like(fixed[0] + fixed[1], name="total")
    is_negative = Signal()
    m.d.comb += [total.eq(fixed[0] + fixed[1]),
                 is_negative.eq(Mux(total == 0, a[-1] & b[-1], total < 0))]
    magnitude = Signal(len(total))
    m.d.comb += magnitude.eq(abs(total))
    expected = Cat(rounded(m, "sum", magnitude[:-1], fmt), is_negative)
    if fault:
        expected = expected ^ (magnitude == 5)
    cycles = Signal(range(dut.LATENCY + 1))
    m.d.sync += cycles.eq(Mux(cycles == dut.LATENCY, cycles, cycles + 1))
    for _ in range(dut.LATENCY):
        later = Signal(fmt.bits)
        m.d.sync += later.eq(expected)
        expected = later
    m.d.comb += Assert((cycles != dut.LATENCY) | (dut.o == expected), "not the rounded sum")
    return m


# Nothing in an adder remembers more than its latency: so many cycles are all there is to see.
@pytest.mark.parametrize("exponent,mantissa", [(3, 2), (5, 10),
                                               pytest.param(8, 23, marks=pytest.mark.soak)])
def test_adder_commutes(exponent, mantissa):
    prove(commutes(exponent, mantissa), f"arith_commutes_{exponent}", mode="bmc", depth=7)


@pytest.mark.parametrize("exponent,mantissa", [(3, 2), pytest.param(4, 3, marks=pytest.mark.soak),
                                               pytest.param(4, 5, marks=pytest.mark.soak)])
def test_adder_adds(exponent, mantissa):
    prove(adds(exponent, mantissa), f"arith_adds_{exponent}_{mantissa}", mode="bmc", depth=7)


@pytest.mark.parametrize("proof", [commutes, adds])
def test_adder_fault(proof):
    with pytest.raises(ProofFailed, match="test_arith_proofs.py"):
        prove(proof(3, 2, fault=True), f"arith_fault_{proof.__name__}", mode="bmc", depth=7)


def order(fault=None):
    """Words of a reducer carry a running number; it must come out without a gap."""
    m = specification()
    m.submodules.dut = dut = Reducer(4, [ElementType.INT32], sideband=3)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    put, got = Signal(3), Signal(3)
    operands, is_got = dut.i.payload, dut.o.valid & (dut.o.ready | (fault == "counts without ready"))
    m.d.sync += [put.eq(put + (dut.i.valid & dut.i.ready)), got.eq(got + is_got)]
    m.d.comb += [
        Assume(operands.sideband == put), Assume(operands.element_type == ElementType.INT32),
        Assume(operands.function == Function.PASS),
        Assume(operands.b[:3] == operands.sideband + (fault == "other data")),
    ]
    with m.If(dut.o.valid):
        m.d.comb += Assert((dut.o.payload.sideband == got) & (dut.o.payload.data[:3] == got),
                             "a word is lost or doubled")
    return m


def test_reducer_keeps_order():
    prove(order(), "arith_order", mode="bmc", depth=14)


@pytest.mark.parametrize("fault", ["counts without ready", "other data"])
def test_reducer_order_fault(fault):
    with pytest.raises(ProofFailed, match="test_arith_proofs.py"):
        prove(order(fault), f"arith_order_{fault.replace(' ', '_')}", mode="bmc", depth=10)


def conversion(block, fault=None):
    """Bytes of packets behind a converter, counted: half or twice as many, or the same."""
    m = specification()
    m.submodules.dut = dut = block(4)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    word, convert, was_convert, is_begun = dut.i.payload.word, dut.i.payload.convert, Signal(), Signal()
    is_put, is_got = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    part = 4 if block is Compress else 2
    with m.If(dut.i.valid):
        m.d.comb += [
            Assume((word.count != 0) & (word.count <= 4)), Assume(word.last | (word.count == 4)),
            Assume(~convert | (word.count % part == 0)), Assume(~is_begun | (convert == was_convert)),
        ]
    size, now, expected, found, pending = Signal(8), Signal(8), Signal(8), Signal(8), Signal()
    # The next packet waits until the bytes of one are counted.
    m.d.comb += [now.eq(size + word.count), Assume(~(dut.i.valid & pending))]
    with m.If(is_put):
        m.d.sync += [size.eq(Mux(word.last, 0, now)), is_begun.eq(~word.last), was_convert.eq(convert)]
        with m.If(word.last):
            m.d.sync += [pending.eq(1), expected.eq(Mux(
                convert, now >> 1 if block is Compress else now << 1, now) + (1 if fault else 0))]
    with m.If(is_got):
        m.d.comb += Assert(dut.o.payload.last | (dut.o.payload.count == 4), "a word before the last is not full")
        m.d.sync += found.eq(Mux(dut.o.payload.last, 0, found + dut.o.payload.count))
        with m.If(dut.o.payload.last):
            m.d.comb += Assert(pending & (found + dut.o.payload.count == expected), "bytes are lost or doubled")
            m.d.sync += pending.eq(0)
    m.d.comb += Cover(is_got & dut.o.payload.last & (found == 8))
    return m


@pytest.mark.parametrize("block", [Compress, Expand])
def test_converter_keeps_bytes(block):
    prove(conversion(block), f"arith_{block.__name__}", mode="bmc", depth=12)
    prove(conversion(block), f"arith_{block.__name__}_cover", mode="cover", depth=18)


@pytest.mark.parametrize("block", [Compress, Expand])
def test_converter_fault(block):
    with pytest.raises(ProofFailed, match="test_arith_proofs.py"):
        prove(conversion(block, fault=True), f"arith_{block.__name__}_fault", mode="bmc", depth=10)
