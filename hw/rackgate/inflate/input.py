# SPDX-License-Identifier: Apache-2.0
"""The source of one context: words in, a window of the next bits out."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["WINDOW", "InputBuffer", "SourceWord"]

#: Bits that the window shows at a time.
WINDOW = 32


class SourceWord(data.Struct):
    """Eight bytes of the source at an aligned address; bit 0 is the first bit in Deflate's order.

    ``last`` marks the last word of the job's source, ``error`` a failed read (``data`` is then undefined).
    """

    data: 64
    last: 1
    error: 1


class InputBuffer(wiring.Component):
    """Shows the next 32 bits of the source and moves on by any number of them in every cycle.

    Words go into a ring (LUT RAM), from there in halves into a 64-bit shift register whose low half is the
    window. It is refilled from registers alone, so the loop from ``window`` through the user to ``consume``
    and back has nothing but one shifter in it.

    Throughput: 32 bits a cycle while at least 32 bits are in the shift register at each taking (so aligned 32-bit
    steps go on for ever); any mix of up to 16 bits a cycle for ever; any 32 bits in every other cycle.
    Latency from a restart, with the words there: 3 cycles. ``i.ready`` does not depend on ``i.valid``.

    ``end`` must be stable from the cycle of a restart to the next restart or flush. While ``flush`` is high,
    arriving words are taken and dropped, so a reader that still has words under way can be emptied into it.
    Words are asked for up to 8 ahead of the shift register. Reset does what ``flush`` does; the ring keeps
    what it holds, which is never read before it has been written again.

    Parameters
    ----------
    depth:
        Words in the ring, a power of two from 16. All but 8 of them stay behind the shift register for restarts.

    Members
    -------
    i:
        :class:`SourceWord` stream; word k holds bits 64 * k to 64 * k + 63.
    restart, restart_position:
        Goes to that bit. It may be up to 256 bits before the furthest ``position`` since the last flush, or
        anywhere after that up to ``end``. The window is empty in the next cycles. May come with a ``flush``.
    end:
        Position one past the last valid bit.
    flush:
        Forgets all words; the next one is word 0.
    window, level:
        The next bits, first bit in bit 0, of which ``level`` (0 to 32) are valid; the others are zero.
    exhausted:
        There will be no more than ``level`` bits.
    error:
        They end early, because of a read error. Stays set until a flush. To be looked at by whoever needs
        more than ``level`` bits: the failed word may not be wanted by anyone.
    position:
        Position of bit 0 of the window.
    consume:
        Bits taken in this cycle, not more than ``level``.

    Raises
    ------
    ValueError
        If ``depth`` is not a power of two of at least 16.
    """

    i: stream.Interface

    def __init__(self, *, depth: int = 16):
        self.depth = operator.index(depth)
        if self.depth < 16 or self.depth & (self.depth - 1):
            raise ValueError(f"depth must be a power of two of at least 16, not {depth}")
        super().__init__({
            "i": In(stream.Signature(SourceWord)),
            "restart": In(1),
            "restart_position": In(32),
            "end": In(32),
            "flush": In(1),
            "window": Out(WINDOW),
            "level": Out(6),
            "exhausted": Out(1),
            "error": Out(1),
            "position": Out(32),
            "consume": In(6),
        })

    def elaborate(self, platform):
        m = Module()
        written = Signal(27)  # words that have arrived
        half = Signal(27)  # index of the next half word to load
        drop = Signal(5)  # bits of the next half that precede the restart position
        staged = Signal(data.StructLayout({"bits": 32, "count": 6, "valid": 1}))
        bits = Signal(64)
        count = Signal(7)
        take = Signal()
        shift = Signal(6)

        m.d.comb += [
            take.eq(staged.valid & (count <= WINDOW)),
            # Before the first take the window is empty and nothing is consumed, so OR is enough.
            shift.eq(self.consume | Mux(take, drop, 0)),
            self.window.eq(bits[:WINDOW]),
            self.level.eq(Mux(count > WINDOW, WINDOW, count)),
        ]
        m.d.sync += [
            bits.eq((bits | Mux(take, staged.bits << count, 0)) >> shift),
            count.eq(count + Mux(take, staged.count, 0) - shift),
            self.position.eq(self.position + self.consume),
        ]
        with m.If(take):
            m.d.sync += drop.eq(0)

        self._fetch(m, written, half, staged, take, count)

        with m.If(self.restart | self.flush):
            target = Signal(32)
            m.d.comb += target.eq(Mux(self.restart, self.restart_position, 0))
            m.d.sync += [bits.eq(0), count.eq(0), staged.valid.eq(0), self.position.eq(target),
                         half.eq(target[5:]), drop.eq(target[:5])]
        m.d.sync += Assert(self.consume <= self.level, "more bits consumed than the window holds")
        with m.If(self.restart):
            m.d.sync += [
                Assert(self.restart_position <= self.end, "restart behind the end of the source"),
                Assert(self.flush | (self.restart_position[6:] + (self.depth - 1) >= written),
                       "restart at a word that has left the ring"),
            ]
        return m

    def _fetch(self, m, written, half, staged, take, count):
        """The ring, and the loading of ``staged`` from it."""
        m.submodules.ring = ring = Memory(shape=data.StructLayout({"halves": data.ArrayLayout(32, 2), "error": 1}),
                                          depth=self.depth, init=[])
        write, read = ring.write_port(), ring.read_port(domain="comb")
        jump = self.restart | self.flush

        room = Signal()  # registered; a word may arrive in the cycle it is worked out, hence 7 rather than 8
        ahead = Signal(28)
        m.d.comb += [
            ahead.eq(written - half[1:]),
            self.i.ready.eq(room | self.flush),
            write.addr.eq(written),
            write.data.halves.eq(self.i.payload.data),
            write.data.error.eq(self.i.payload.error),
            write.en.eq(self.i.valid & room),
        ]
        m.d.sync += room.eq(~jump & (ahead.as_signed() < 7))
        with m.If(self.flush):
            m.d.sync += written.eq(0)
        with m.Elif(write.en):
            m.d.sync += written.eq(written + 1)

        halves = Signal(27)  # half words that hold valid bits
        failed, drained, error = Signal(), Signal(), Signal()
        at_end, partial, load = Signal(), Signal(), Signal()
        m.d.comb += [
            read.addr.eq(half[1:]),
            at_end.eq((half == halves) | failed),
            partial.eq(half == self.end[5:]),
            load.eq((half[1:] < written) & ~at_end & (~staged.valid | take)),
            self.exhausted.eq(drained & (count <= WINDOW)),
            self.error.eq(error | (failed & self.exhausted)),
        ]
        m.d.sync += [
            halves.eq((self.end + 31)[5:]),
            drained.eq(~jump & at_end & ~staged.valid),
            error.eq(self.error & ~self.flush),
        ]
        with m.If(load):
            mask = ~(~0 << self.end[:5]).as_unsigned()
            m.d.sync += [
                failed.eq(read.data.error),
                staged.valid.eq(~read.data.error),
                half.eq(half + ~read.data.error),
                staged.bits.eq(read.data.halves[half[0]] & Mux(partial, mask[:32], ~0)),
                staged.count.eq(Mux(partial, self.end[:5], 32)),
            ]
        with m.Elif(take):
            m.d.sync += staged.valid.eq(0)
        with m.If(jump):
            m.d.sync += failed.eq(0)
