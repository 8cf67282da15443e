# SPDX-License-Identifier: Apache-2.0
"""Stored blocks and dictionaries: source bytes that go to the output as they are."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.entry import Entry, Kind, Mark
from rackgate.stream.queue import Queue

__all__ = ["Stored"]

_BYTES = 4


class Stored(wiring.Component):
    """Turn the bytes of a stored block (RFC 1951 3.2.4), or of a whole source, into RAW entries and a MARK.

    Four bytes a cycle, the last ones in two cycles. The length is set once with ``set_length``; a run of entries begins
    with ``start`` and ends when its MARK is taken, with one cycle of ``done``. The MARK is END_OF_BLOCK, DRY when the
    source ends too early, or ABORT when ``fault`` was seen. Afterwards ``retire`` takes the bits that were really put
    out off the length, so that a later run goes on from there.

    With ``whole`` all of the source is the block, and is final. ``o`` keeps the stream rules, and comes from a queue;
    ``take`` depends combinationally on ``level``. Reset forgets the run; the queue's LUT RAM keeps what it holds.

    Members
    -------
    start, whole, final : In
        Begin a run; kind of run, and whether its block is the last. Stable until ``done``.
    set_length, length : In
        Take ``length`` as the number of bytes of a new block.
    retire, bits : In
        Take ``bits`` off the length, 8 for each byte.
    left : Out(16)
        The length, while no run is under way.
    fault : In(1)
        What is sent now is thrown away.
    window, level, exhausted, take, consume
        The input buffer; the source stands at a byte boundary. ``consume`` is zero outside a run.
    """

    start: In(1)
    whole: In(1)
    final: In(1)
    set_length: In(1)
    length: In(16)
    retire: In(1)
    bits: In(32)
    left: Out(16)
    fault: In(1)
    window: In(32)
    level: In(6)
    exhausted: In(1)
    take: Out(1)
    consume: Out(6)
    o: Out(stream.Signature(Entry))
    done: Out(1)
    mark: Out(Mark)

    def elaborate(self, platform):
        m = Module()
        length, left = Signal(16), Signal(16)  # of the block at the start of the run, and now
        m.d.comb += self.left.eq(length)
        with m.If(self.set_length):
            m.d.sync += length.eq(self.length)
        with m.Elif(self.retire):
            m.d.sync += length.eq(length - self.bits[3:19])

        # What is sent passes a queue, so that the way from its far end does not lead into the input buffer.
        m.submodules.queue = queue = Queue(Entry, depth=2)
        entry = queue.i
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        m.d.comb += self.done.eq(self.o.valid & self.o.ready & (self.o.p.kind == Kind.MARK))
        # Four bytes are taken at once. How many of the last ones there are is found out in a cycle of its own. What is
        # taken, and that four are left, are registers, zero outside SEND: they lead into the buffer's loop.
        count, more, some = Signal(3), Signal(), Signal()  # some: ``count`` of the last ones are there
        wanted, present, few = Signal(3), Signal(3), Signal(3)
        enough, has_some = Signal(), Signal()
        full = self.level[5] & more & ~some
        m.d.comb += [
            wanted.eq(Mux(more, _BYTES, left[:2])),
            present.eq(self.level[3:]),
            enough.eq(present >= wanted),
            few.eq(Mux(enough, wanted, present)),
            has_some.eq(~full & ~(some & entry.ready) & (enough | (self.exhausted & (present != 0)))),
            self.take.eq((full | some) & entry.ready), self.consume.eq(count << 3),
            entry.p.kind.eq(Kind.RAW), entry.p.literals.eq(count), entry.p.bits.eq(count << 3),
            entry.p.mark.eq(self.mark), entry.p.final.eq(self.final | self.whole),
        ]
        for index in range(_BYTES):
            m.d.comb += entry.p.bytes[index].eq(self.window.word_select(index, 8))

        def end(mark):
            m.d.sync += [self.mark.eq(mark), more.eq(0), some.eq(0), count.eq(0)]
            m.next = "MARK"

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += left.eq(length)
                with m.If(self.start):
                    m.d.sync += [more.eq(self.whole | length[2:].any()), count.eq(_BYTES)]
                    m.next = "SEND"
            with m.State("SEND"):
                after = Mux(self.take, left - count, left)
                m.d.sync += [left.eq(after), more.eq(self.whole | after[2:16].any()),
                             some.eq(has_some), count.eq(Mux(has_some, few, _BYTES))]
                with m.If(full | some):
                    m.d.comb += entry.valid.eq(1)
                    with m.If(entry.ready & self.fault):
                        end(Mark.ABORT)
                with m.Elif((wanted == 0) | (self.whole & self.exhausted & (present == 0))):
                    end(Mark.END_OF_BLOCK)
                with m.Elif(self.fault):
                    end(Mark.ABORT)
                with m.Elif(self.exhausted & (present == 0)):
                    end(Mark.DRY)
            with m.State("MARK"):
                m.d.comb += [entry.p.kind.eq(Kind.MARK), entry.valid.eq(1)]
                with m.If(entry.ready):
                    m.next = "LAST"
            with m.State("LAST"):
                with m.If(self.done):
                    m.next = "IDLE"
        return m
