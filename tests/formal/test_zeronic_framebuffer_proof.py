# SPDX-License-Identifier: Apache-2.0
"""A proof, for all time, that the frame buffer never writes over a word of a frame that may still be read.

It is shown to be able to fail, and not to be about a buffer that stands still.
"""

import pytest
from amaranth.asserts import AnySeq
from amaranth.hdl import Assert, Assume, Cover, Mux, Signal
from runner import ProofFailed, prove, specification

from rackgate.zeronic.rx.framebuffer import FrameBuffer

pytestmark = pytest.mark.formal

WORDS, FRAMES = 16, 2


def buffer(fault=None, *, cover=False):
    """Any frames, judged and released when the contract allows; one of them, any, is followed.

    It is picked with its last word; then ``is_whole``, and when it is judged ``is_kept`` or forgotten. ``ahead`` frames
    are before it. Content does not matter here, nor do reads, which change nothing.
    """
    m = specification()
    m.submodules.dut = dut = FrameBuffer(8, words=WORDS, frames=FRAMES, tag=1)
    is_whole, is_kept, first, end, ahead = Signal(), Signal(), Signal(4), Signal(4), Signal(5)
    puts, judges, frees = dut.write.valid & dut.write.ready, dut.judged.valid, dut.release.valid
    freed, level = dut.release.payload, dut._ends.level

    def distance(word):
        """Words from the oldest on."""
        return (word - dut._oldest)[:4]

    # The ends of frames that are not judged, in order; behind the last of them is the frame that comes.
    ends = []
    for number in range(FRAMES):
        port = dut._ends._memory.read_port(domain="comb")
        m.d.comb += port.addr.eq(dut._ends._r_addr + number)
        ends.append(port.data)
    begin = Signal(4)  # of the frame that comes
    m.d.comb += begin.eq(dut._unjudged)
    for number in range(FRAMES):
        with m.If(level > number):
            m.d.comb += begin.eq(ends[number])

    freed_end = (freed.word + (freed.size + 7 >> 3))[:4]
    m.d.comb += [
        dut.write.valid.eq(AnySeq(1)), dut.write.payload.last.eq(AnySeq(1)),
        judges.eq(AnySeq(1) & (level != 0)), dut.judged.payload.keep.eq(AnySeq(1)),
        frees.eq(AnySeq(1) & (dut._kept != 0)), freed.word.eq(AnySeq(4)), freed.size.eq(AnySeq(7)),
        # What is released ends among what has been judged, and leaves a word for each other frame that is kept.
        Assume(~frees | (distance(freed_end) != 0) & (distance(freed_end) <= distance(dut._unjudged))),
        Assume(~frees | (distance(dut._unjudged) - distance(freed_end) >= (dut._kept - 1)[:5])),
        Assume((distance(dut._next) != WORDS - 1) | (level != 0) | (dut._kept != 0) | (dut._oldest != dut._unjudged)),
    ]
    with m.If(is_kept & frees & (ahead == 0)):
        m.d.comb += Assume(freed_end == end)
    if fault != "frames released out of order":
        with m.If(is_kept & frees & (ahead != 0)):
            m.d.comb += Assume(distance(freed_end) <= distance(first))

    with m.If(~is_whole & ~is_kept & puts & dut.write.payload.last & AnySeq(1)):
        m.d.sync += [is_whole.eq(1), first.eq(begin), end.eq(dut._next + 1), ahead.eq(level - judges)]
    with m.If(is_whole & judges):
        m.d.sync += ahead.eq(ahead - 1)
        with m.If(ahead == 0):
            m.d.sync += [is_whole.eq(0), is_kept.eq(dut.judged.payload.keep), ahead.eq(dut._kept - frees)]
    with m.If(is_kept & frees):
        m.d.sync += [ahead.eq(ahead - 1), is_kept.eq(ahead != 0)]

    is_inside = (distance(dut._next) >= distance(first)) & (distance(dut._next) < distance(end))
    m.d.comb += Assert(~((is_whole | is_kept) & puts & is_inside), "a word in use is written over")

    # What an induction needs to know of the state: all pointers stand in the circle in their order.
    m.d.comb += [
        Assert(level <= FRAMES), Assert(dut._ends._w_addr == (dut._ends._r_addr + level)[:1]),
        Assert(distance(begin) <= distance(dut._next)),
        Assert(~dut._has_room | (distance(dut._next) != WORDS - 1) & (level != FRAMES)),
        Assert((dut._now.left == 0) & ~dut._has_ahead & (dut._plans.level == 0)),
        Assert(~is_whole | (ahead < level)), Assert(~is_kept | (ahead < dut._kept)), Assert(~(is_whole & is_kept)),
        Assert(~is_kept | (distance(first) < distance(end)) & (distance(end) <= distance(dut._unjudged))),
        Assert(dut._kept <= distance(dut._unjudged), "more frames than words"),
    ]
    for number, (before, this) in enumerate(zip([dut._unjudged, *ends], ends, strict=False)):
        m.d.comb += Assert((level <= number) | (distance(before) < distance(this)), "ends are not in order")
        with m.If(is_whole & (ahead == number)):
            m.d.comb += Assert((first == before) & (end == this))
    if cover:
        laps = Signal(2)
        m.d.sync += laps.eq(laps + (puts & (dut._next == WORDS - 1)))
        m.d.comb += Cover((laps == 1) & is_kept & (dut._next == Mux(first == 0, 1, first - 1)))
    return m


def test_words_in_use_stay():
    prove(buffer(), "zeronic_framebuffer", depth=2)


def test_it_goes_round():
    prove(buffer(cover=True), "zeronic_framebuffer_cover", mode="cover", depth=24)


def test_the_proof_can_fail():
    with pytest.raises(ProofFailed):
        prove(buffer("frames released out of order"), "zeronic_framebuffer_fault", depth=2)
