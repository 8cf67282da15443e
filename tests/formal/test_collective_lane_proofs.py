# SPDX-License-Identifier: Apache-2.0
"""Proofs that the collective engine's lanes lose no word, double none, and keep their order.

Bounded, for some cycles after reset: that a Detour keeps words in order and on their way, whatever the converter does;
that a MessageOperand makes a packet of exactly the size asked for of whatever packet comes.
"""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cover, Mux, Signal
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.collective.lanes.detour import Detour
from rackgate.collective.lanes.message import MessageOperand
from rackgate.stream.packet import packet_layout
from rackgate.stream.queue import Queue

pytestmark = pytest.mark.formal

WIDTH = 4


def detour(fault=None):
    """Words are numbered; the converter is a queue that stands still as it likes and inverts the top bit."""
    m = specification()
    m.submodules.dut = dut = Detour(WIDTH, packets=2)
    m.submodules.converter = converter = Queue(packet_layout(WIDTH), depth=3)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    pauses, word, way = AnySeq(2), dut.i.payload.word, Signal()
    is_inside, puts = Signal(), Signal()
    # To hold what it offers, the converter may begin to offer late but not stop.
    is_offered, offers = Signal(), Signal()
    m.d.comb += [
        puts.eq(dut.converter_i.valid & dut.converter_i.ready),
        dut.converter_i.ready.eq(converter.i.ready & pauses[0]),
        converter.i.valid.eq(puts),
        converter.i.payload.eq(dut.converter_i.payload),
        converter.i.payload.data[-1].eq(1),
        offers.eq(converter.o.valid & (is_offered | pauses[1])),
        dut.converter_o.valid.eq(offers),
        dut.converter_o.payload.eq(converter.o.payload),
        converter.o.ready.eq(dut.converter_o.ready & offers),
    ]
    m.d.sync += is_offered.eq(offers & ~dut.converter_o.ready)

    given, taken, was_converted = Signal(4), Signal(4), Signal()
    m.d.comb += [
        Assume(~dut.i.valid | (word.data == given)),
        Assume((word.count == WIDTH) | word.last & (word.count <= WIDTH)),
        Assume((word.count != 0) | ~is_inside),
        Assume(~is_inside | (dut.i.payload.convert == way)),
    ]
    with m.If(dut.i.valid & dut.i.ready):
        m.d.sync += [given.eq(given + 1), is_inside.eq(~word.last), way.eq(dut.i.payload.convert)]
    with m.If(dut.o.valid):
        m.d.comb += Assert(dut.o.payload.data[:4] == taken + (fault == "skip"), "a word out of order")
    with m.If(dut.o.valid & dut.o.ready):
        m.d.sync += taken.eq(taken + 1)
        m.d.comb += Assert((dut.o.payload.count != 0) | ~dut.o.payload.data[-1], "an empty packet was converted")
        m.d.sync += was_converted.eq(was_converted | dut.o.payload.data[-1])
    m.d.comb += Cover(was_converted & dut.o.valid & ~dut.o.payload.data[-1])
    return m


def message(fault=None):
    """Any packets, and segments of up to three words."""
    m = specification()
    m.submodules.dut = dut = MessageOperand(WIDTH)
    for name in ("i", "packet", "memory"):
        drive(m, getattr(dut, name), name=name)
    stall(m, dut.o, name="o")
    m.submodules.sizes = sizes = Queue(4, depth=4)
    command, word, done, rest = dut.i.payload, dut.o.payload, Signal(4), Signal(4)
    m.d.comb += [
        Assume(~command.from_memory),
        Assume(command.size <= 3 * WIDTH),
        sizes.i.payload.eq(command.size),
        sizes.i.valid.eq(dut.i.valid & dut.i.ready),
        sizes.o.ready.eq(dut.o.valid & dut.o.ready & word.last),
        rest.eq(sizes.o.payload - done + (fault == "longer")),
        Assert(~sizes.i.valid | sizes.i.ready, "more segments inside than there are places"),
    ]
    with m.If(dut.o.valid):
        m.d.comb += [
            Assert(sizes.o.valid, "a word for no segment"),
            Assert(word.last == (rest <= WIDTH), "the end is misplaced"),
            Assert(word.count == Mux(word.last, rest, WIDTH), "a word of the wrong size"),
        ]
    with m.If(dut.o.valid & dut.o.ready):
        m.d.sync += done.eq(Mux(word.last, 0, done + WIDTH))
    # A packet that is cut, and the segment behind it.
    was_cut, ended = Signal(), Signal(2)
    with m.If(dut.packet.valid & dut.packet.ready & dut._is_out):
        m.d.sync += was_cut.eq(1)
    m.d.sync += ended.eq(ended + (sizes.o.ready & was_cut))
    m.d.comb += Cover(ended == 1)
    return m


def test_detour():
    prove(detour(), "collective_detour", mode="bmc", depth=8)


def test_detour_fault():
    with pytest.raises(ProofFailed, match="test_collective_lane_proofs.py"):
        prove(detour("skip"), "collective_detour_fault", mode="bmc", depth=6)


def test_detour_can_pass_and_convert():
    prove(detour(), "collective_detour_cover", mode="cover", depth=8)


def test_message():
    prove(message(), "collective_message", mode="bmc", depth=9)


def test_message_fault():
    with pytest.raises(ProofFailed, match="test_collective_lane_proofs.py"):
        prove(message("longer"), "collective_message_fault", mode="bmc", depth=8)


def test_message_can_cut():
    prove(message(), "collective_message_cover", mode="cover", depth=8)
