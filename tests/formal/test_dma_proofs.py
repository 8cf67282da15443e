# SPDX-License-Identifier: Apache-2.0
"""Proofs that DMA stays within what it was told: Reader, Aligner, BurstMaker, Writer.

By induction, so for all time: every address of Reader and BurstMaker; that Reader's FIFO never overflows, its count
of words, and the mark on the last. Bounded, for some cycles after reset: every byte
of an Aligner, every byte address of a Writer.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Cover, Mux, Signal
from axi_memory import answer_reads
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.dma.burst import BurstMaker, BurstParameters
from rackgate.dma.reader import Reader
from rackgate.dma.writer import Writer
from rackgate.stream.aligner import Aligner

pytestmark = pytest.mark.formal

ADDR_WIDTH = 14  # four pages of 4 KiB
PAGE_WORDS = 512


def reader(fault=None):
    """A reader with free commands, free cancels, and a memory that answers what was asked, when it likes."""
    m = specification()
    m.submodules.dut = dut = Reader(addr_width=ADDR_WIDTH, id_width=1, fifo_depth=6, burst=4, outstanding=2)
    drive(m, dut.i, name="i")
    stall(m, dut.ar, name="ar")
    command, address = dut.i.payload, dut.ar.payload
    m.d.comb += [
        dut.cancel.eq(AnySeq(1)),
        dut.o.ready.eq(AnySeq(1)),
        Assume(command.addr + command.size <= 1 << ADDR_WIDTH),
    ]

    count, beats = answer_reads(m, dut.ar, dut.r, bursts=2)
    is_asked = dut.ar.valid & dut.ar.ready

    # What may be read: from the word of the first byte to that of the last, each once, in order.
    first, end, expected = Signal(12), Signal(12), Signal(12)
    with m.If(dut.i.valid & dut.i.ready):
        m.d.sync += [first.eq(command.addr >> 3), expected.eq(command.addr >> 3)]
        m.d.sync += end.eq((command.addr + command.size + (0 if fault == "ends early" else 7)) >> 3)
    start, length = Signal(12), Signal(9)
    page = 2 if fault == "small page" else PAGE_WORDS
    m.d.comb += [start.eq(address.addr >> 3), length.eq(address.len + 1)]
    with m.If(dut.ar.valid):
        m.d.comb += [
            Assert(start == expected, "a word is skipped or read twice"),
            Assert((start >= first) & (start + length <= end), "an address outside the command"),
            Assert(start // page == (start + length - 1) // page, "a burst crosses a page"),
            Assert(address.addr[:3] == 0),
        ]
    with m.If(is_asked):
        m.d.sync += expected.eq(expected + length)

    # The words that come in: as many as there are, the last one marked, and nothing under way at the end.
    received, was_busy, is_cancelled = Signal(12), Signal(), Signal()
    is_accepted = dut.i.valid & dut.i.ready
    with m.If(is_accepted):
        m.d.sync += received.eq(0)
    with m.Elif(dut.r.valid):
        m.d.sync += received.eq(received + 1)
        left = end - first - received
        m.d.comb += Assert(dut._is_last == (left == (2 if fault == "last" else 1)), "last is misplaced")
    m.d.sync += [was_busy.eq(dut.busy), is_cancelled.eq(~is_accepted & (is_cancelled | dut.cancel))]
    with m.If(was_busy & ~dut.busy):
        m.d.comb += Assert((count == 0) & ~dut.ar.valid & (dut._waiting == 0), "done while words are under way")
        m.d.comb += Assert(is_cancelled | (received == end - first), "words are missing")
    m.d.comb += Cover(was_busy & ~dut.busy & ~is_cancelled & (received == 3))
    return m, dut, {"count": count, "beats": beats, "first": first, "end": end, "expected": expected, "start": start,
                    "length": length, "received": received, "is_cancelled": is_cancelled}


def test_reader():
    m, dut, s = reader()
    # Induction: how the block's state hangs together with the specification's.
    in_flight = Mux(s["count"] > 0, s["beats"][0], 0) + Mux(s["count"] > 1, s["beats"][1], 0)
    requested = Mux(dut.ar.valid, s["length"], 0)
    m.d.comb += [
        Assert(dut._bursts == s["count"] + dut.ar.valid),
        Assert(dut._bursts <= 2),
        Assert((s["count"] < 1) | (s["beats"][0].any() & (s["beats"][0] <= 4))),
        Assert((s["count"] < 2) | (s["beats"][1].any() & (s["beats"][1] <= 4))),
        Assert(dut._room + dut._waiting + in_flight + requested == 6),
        Assert(dut.busy | (dut._room == 6)),
    ]
    with m.If(dut.busy):
        m.d.comb += [
            Assert(dut._is_cancelled == s["is_cancelled"]),
            Assert(s["received"] + in_flight == s["expected"] - s["first"]),
            Assert(dut._word == (s["expected"] + requested)[:11]),
            Assert(s["expected"] + requested + dut._unsent == s["end"]),
            Assert((s["first"] <= s["expected"]) & (s["end"] <= 1 << (ADDR_WIDTH - 3))),
        ]
    with m.If(dut._is_cut):
        border = 4 - dut._word[:2]
        m.d.comb += Assert((dut._unsent != 0) & ~dut.ar.valid)
        m.d.comb += Assert(dut._length == Mux(dut._unsent < border, dut._unsent, border))
    with m.If(dut.ar.valid):
        m.d.comb += Assert(s["start"][:2] + s["length"] <= 4)
        m.d.comb += Assert(s["length"] <= 4)
    prove(m, "reader", depth=4)


@pytest.mark.parametrize("fault", ["ends early", "small page", "last"])
def test_reader_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_proofs.py"):
        prove(reader(fault)[0], f"reader_fault_{fault.replace(' ', '_')}", mode="bmc", depth=8)


def test_reader_can_end():
    prove(reader()[0], "reader_cover", mode="cover", depth=14)


def burst_maker(fault=None):
    """A burst maker fed as an aligner would, but else freely."""
    m = specification()
    parameters = BurstParameters(addr_width=ADDR_WIDTH, id_width=2, contexts=2, burst=4, fifo_depth=5, outstanding=3)
    m.submodules.dut = dut = BurstMaker(parameters)
    drive(m, dut.i, name="i")
    m.d.comb += [dut.aw.ready.eq(AnySeq(1)), dut.w.ready.eq(AnySeq(1))]
    word = dut.i.payload
    is_taken, has_bytes = dut.i.valid & dut.i.ready, word.strobe != 0
    m.d.comb += [
        Assume(word.context < 2),
        Assume(word.has_bytes == has_bytes),
        Assume(~(has_bytes & ~word.strobe[-1]) | word.flush),
        Assume(~word.begin | ~has_bytes),
        dut.b.payload.eq(AnySeq(len(dut.b.payload.as_value()))),
        dut.b.valid.eq(AnySeq(1)),
        Assume(~dut.b.valid | (Array(dut._bursts)[dut.b.payload.id[0]] != 0) & (dut.b.payload.id < 2)),
    ]

    # From each context's begin on, bursts must follow each other without a gap: ``sent`` words of them so far.
    place = [Signal(11, name=f"place_{k}") for k in range(2)]  # of the next word to come in
    closed = [Signal(11, name=f"closed_{k}") for k in range(2)]  # of the first word in no closed burst yet
    for k in range(2):
        is_ours, closes = is_taken & (word.context == k), dut._is_closing & (dut._closing.context == k)
        with m.If(is_ours & word.begin):
            m.d.sync += [place[k].eq(word.data >> 3), closed[k].eq(word.data >> 3)]
        with m.Elif(is_ours & has_bytes):
            m.d.sync += place[k].eq(place[k] + word.strobe[-1])
        with m.If(closes & ~(is_ours & word.begin)):
            # A partial last word stays the next one.
            is_partial = is_ours & has_bytes & ~word.strobe[-1]
            m.d.sync += closed[k].eq(closed[k] + dut._closing.length - is_partial)
        with m.If(closes):
            m.d.comb += Assert(dut._closing.word == closed[k], "a burst is not where its words belong")
    page = 2 if fault == "small page" else 4
    last = Signal(11)
    m.d.comb += last.eq(dut._closing.word + dut._closing.length - (0 if fault == "length" else 1))
    with m.If(dut._is_closing):
        m.d.comb += [
            Assert((dut._closing.length != 0) & (dut._closing.length <= 4), "a burst of no legal length"),
            Assert(dut._closing.word // page == last // page, "a burst crosses a border"),
        ]
    return m, dut, place, closed


def test_burst_addresses():
    m, dut, place, closed = burst_maker()
    m.d.comb += [
        Assert(dut._open.context < 2),
        Assert(dut._total == dut._bursts[0] + dut._bursts[1]),
        Assert(dut._total + dut._was_closed <= 3),
        Assert(~dut._has_room | (dut._total + dut._was_closed < 3)),
        Assert(dut._is_open | (dut._open.length == 0)),
        Assert(~dut._was_closed | (dut._last < 2)),
    ]
    for k in range(2):
        m.d.comb += Assert(dut._next[k] == place[k])
        with m.If(dut._is_open & (dut._open.context == k)):
            m.d.comb += [
                Assert(dut._open.word == closed[k]),
                Assert((dut._open.word + dut._open.length)[:11] == place[k]),
                Assert((dut._open.length != 0) & (dut._open.word[:2] + dut._open.length < 4)),
            ]
        with m.Else():
            m.d.comb += Assert(closed[k] == place[k])
    prove(m, "burst_addresses", depth=3)


@pytest.mark.parametrize("fault", ["small page", "length"])
def test_burst_addresses_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_proofs.py"):
        prove(burst_maker(fault)[0], f"burst_fault_{fault.replace(' ', '_')}", mode="bmc", depth=8)


def aligner(fault=None):
    """Follow one byte of one stream: it comes out once, at its place, with what went in, and before a flush does.

    Two streams of words of 2 bytes. A stream's bytes are numbered from the byte address of its begin.
    """
    m = specification()
    m.submodules.dut = dut = Aligner(2, contexts=2)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    piece, word = dut.i.payload, dut.o.payload
    is_taken, is_out = dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready
    place = Array(Signal(4, name=f"place_{k}") for k in range(2))[piece.context[0]]
    is_unflushed = Array(Signal(name=f"is_unflushed_{k}") for k in range(2))[piece.context[0]]
    m.d.comb += [
        Assume(piece.context < 2),
        Assume(piece.first + piece.count <= 2),
        Assume(~piece.begin | (piece.count == 0) & ~is_unflushed),
    ]
    with m.If(is_taken):
        m.d.sync += place.eq(Mux(piece.begin, piece.data[0], place + piece.count))
        m.d.sync += is_unflushed.eq(~piece.flush & (is_unflushed | (piece.count != 0)))

    # The tracked byte: number ``tracked`` of ``stream``, from a begin that may be any.
    tracked, stream = Signal(4), Signal()
    is_given, byte, offset = Signal(), Signal(8), Signal(4)
    is_ours = is_taken & (piece.context == stream)
    m.d.comb += [
        tracked.eq(AnyConst(4)),
        stream.eq(AnyConst(1)),
        offset.eq(tracked - place + piece.first),
        Assume(place < 12),
    ]
    with m.If(is_ours & piece.begin):
        m.d.sync += is_given.eq(0)
    with m.Elif(is_ours & (tracked >= place) & (tracked < place + piece.count)):
        m.d.sync += [is_given.eq(1), byte.eq(piece.data.word_select(offset[0], 8))]
    # A stream begins anew only when its elements are out, so that its numbers are not mixed up with old ones.
    in_flight = Signal(4)
    m.d.sync += in_flight.eq(in_flight + is_taken - (is_out & word.end))
    m.d.comb += Assume(~(is_ours & piece.begin) | (in_flight == 0))

    at, is_written = Signal(4), Signal()  # the number of the first byte of the word at the output
    is_word = is_out & (word.context == stream)
    hit = is_word & (at[1:] == tracked[1:]) & word.strobe.bit_select(tracked[0], 1)
    with m.If(is_word):
        m.d.sync += at.eq(Mux(word.begin, 0, at + Mux(word.strobe[-1], 2, 0)))
        m.d.sync += is_written.eq(Mux(word.begin, 0, is_written | hit))
    expected = ~byte if fault == "data" else byte
    with m.If(hit):
        m.d.comb += [
            Assert(is_given, "a byte comes out that was not given"),
            Assert(~is_written, "a byte comes out twice"),
            Assert(word.data.word_select(tracked[0], 8) == expected, "a wrong byte comes out"),
        ]
    with m.If(is_word & word.flush & (in_flight == 1)):
        m.d.comb += Assert(~is_given | is_written | hit, "a byte is not out with the flush")
    m.d.comb += Cover(is_written & is_out & word.flush & (tracked == 2))
    return m


def test_aligner():
    prove(aligner(), "aligner", mode="bmc", depth=9)


def test_aligner_can_flush():
    prove(aligner(), "aligner_cover", mode="cover", depth=12)


def test_aligner_fault():
    with pytest.raises(ProofFailed, match="test_dma_proofs.py"):
        prove(aligner("data"), "aligner_fault", mode="bmc", depth=9)


def writer(fault=None):
    """Follow one byte address: written only if it was given, and once; and no burst crosses a page.

    What is written there is left to the proofs of Aligner and Queue: with 64-bit words it is too much for a solver.
    """
    m = specification()
    m.submodules.dut = dut = Writer(addr_width=ADDR_WIDTH, id_width=1, contexts=1, burst=2, fifo_depth=3, outstanding=2)
    drive(m, dut.i, name="i")
    stall(m, dut.aw, name="aw")
    m.d.comb += dut.w.ready.eq(AnySeq(1))
    piece, is_taken = dut.i.payload, dut.i.valid & dut.i.ready
    tracked, place, is_unflushed = AnyConst(ADDR_WIDTH), Signal(ADDR_WIDTH), Signal()
    m.d.comb += [
        dut.address[0].eq(AnySeq(ADDR_WIDTH)),
        Assume(piece.context == 0),
        Assume(piece.first + piece.count <= 8),
        Assume(~piece.begin | (piece.count == 0)),
        Assume(~(piece.begin & is_unflushed)),
        Assume(place + piece.count < 1 << ADDR_WIDTH),
    ]
    is_given = Signal()
    covers = is_taken & (tracked >= place + (1 if fault == "shifted" else 0)) & (tracked < place + piece.count)
    m.d.comb += Assume(~(covers & is_given))
    with m.If(is_taken):
        m.d.sync += place.eq(Mux(piece.begin, dut.address[0], place + piece.count))
        m.d.sync += is_unflushed.eq(~piece.flush & (is_unflushed | (piece.count != 0)))
    with m.If(covers):
        m.d.sync += is_given.eq(1)

    # Bursts on the bus: the data of one may come before its address, so keep the written word until both are there.
    # Here the n-th address belongs to the n-th run of data up to LAST.
    heads = Array(Signal(ADDR_WIDTH - 3, name=f"head_{k}") for k in range(4))
    head_count, burst_index, beat = Signal(3), Signal(3), Signal(2)
    with m.If(dut.aw.valid & dut.aw.ready):
        m.d.sync += [heads[head_count[:2]].eq(dut.aw.payload.addr >> 3), head_count.eq(head_count + 1)]
    with m.If(dut.aw.valid):
        start = dut.aw.payload.addr >> 3
        page = 1 if fault == "small page" else PAGE_WORDS
        m.d.comb += Assert(start // page == (start + dut.aw.payload.len) // page, "a burst crosses a page")
    m.d.comb += Assume(~dut.w.valid | ~dut.w.ready | (head_count > burst_index))  # so that the address is known
    at = heads[burst_index[:2]] + beat
    lane = tracked[:3]
    hit = dut.w.valid & dut.w.ready & dut.w.payload.strb.bit_select(lane, 1) & (at == tracked >> 3)
    is_written = Signal()
    with m.If(dut.w.valid & dut.w.ready):
        m.d.sync += beat.eq(Mux(dut.w.payload.last, 0, beat + 1))
        m.d.sync += burst_index.eq(burst_index + dut.w.payload.last)
    with m.If(hit):
        m.d.sync += is_written.eq(1)
        m.d.comb += [
            Assert(is_given, "a byte is written that was not given"),
            Assert(~is_written, "a byte is written twice"),
        ]
    m.d.comb += [
        dut.b.valid.eq(0),
        Assert(~dut.idle[0] | ~is_given | is_written, "idle before the byte is written"),
        Cover(is_written & (burst_index == 2)),
    ]
    return m


def test_writer_bytes():
    prove(writer(), "writer_bytes", mode="bmc", depth=12)


def test_writer_can_write():
    prove(writer(), "writer_cover", mode="cover", depth=18)


@pytest.mark.parametrize("fault", ["small page", "shifted"])
def test_writer_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_proofs.py"):
        prove(writer(fault), f"writer_fault_{fault.replace(' ', '_')}", mode="bmc", depth=12)
