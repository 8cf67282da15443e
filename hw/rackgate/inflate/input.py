# SPDX-License-Identifier: Apache-2.0
"""The source of one context: words in, a window of the next bits out."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.logic import at_least

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

    Words go into a ring (LUT RAM), from there in halves into registers that hold up to three of them as they are, and
    from those the window is cut; it is always full, and ``level`` says how much of it may be taken without emptying the
    registers. So the loop from ``window`` through the user to ``consume`` and back has one shifter in it; and
    whether bits are taken, which depends on ``level``, is not in it, but comes in at the window's enable.

    Throughput: 16 bits a cycle for ever, or 32 in every other cycle. In the last 96 bits ``level`` may be zero for a
    cycle now and then. Latency from a restart, with the words there: 6 cycles. ``i.ready`` does not depend on
    ``i.valid``.

    ``end`` must be stable from the cycle of a restart to the next restart or flush. While ``flush`` is high,
    arriving words are taken and dropped, so a reader that still has words under way can be emptied into it.
    Words are asked for up to 7 ahead of those in use. Reset does what ``flush`` does; the ring keeps
    what it holds, which is never read before it has been written again.

    Parameters
    ----------
    depth:
        Words in the ring, a power of two from 16. All but 7 of them stay behind for restarts.

    Members
    -------
    i:
        :class:`SourceWord` stream; word k holds bits 64 * k to 64 * k + 63.
    restart, restart_position:
        Goes to that bit. It may be up to 384 bits before the furthest ``position`` since the last flush, or
        anywhere after that up to ``end``. The window is empty in the next cycles. May come with a ``flush``.
    end:
        Position one past the last valid bit.
    flush:
        Forgets all words; the next one is word 0.
    window, level:
        The next bits, first bit in bit 0, of which ``level`` (0 to 32) may be taken. If ``exhausted``, the
        others are zero.
    exhausted:
        There will be no more than ``level`` bits.
    error:
        They end early, because of a read error. Stays set until a flush. To be looked at by whoever needs
        more than ``level`` bits: the failed word may not be wanted by anyone.
    position:
        Position of bit 0 of the window.
    primed:
        The window has been filled since the last restart.
    take, consume:
        Bits are taken in this cycle; how many, not more than ``level``. ``consume`` may be anything without ``take``,
        but zero until the window is ``primed``.

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
        self._written = Signal(27, name="written")  # words that have arrived
        self._at_end = Signal(name="at_end")  # no half word is left to load
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
            "primed": Out(1),
            "position": Out(32),
            "take": In(1),
            "consume": In(6),
        })

    def elaborate(self, platform):
        m = Module()
        staged = Signal(_Half)  # the half word after those in use
        halves = [Signal(32, name=f"half_{index}") for index in range(4)]  # those in use, in a circle
        first, held = Signal(2), Signal(2)  # which of them the window begins in; how many there are from there on
        ahead = Signal(3 * 32)  # as many as that, in order
        place = Signal()
        window = Signal(WINDOW)
        primed = self.primed
        offset = Signal(5)  # of the window in ``ahead``
        cross, crossed = Signal(), Signal()  # it will begin in the next half word; ``high`` lacks one
        high = Signal(27)  # of the position; its low bits are those of ``offset``
        count = Signal(7)  # valid bits from the position on, of those that are held
        prime, following = Signal(), Signal(6)
        filled, taken = Signal(7), Signal(7)  # ``count`` in the next cycle if no bits are taken, and if they are

        # Nothing is moved but the window: what depends on ``take`` comes late, and must not lead far.
        with m.Switch(first):
            for index in range(4):
                with m.Case(index):
                    m.d.comb += ahead.eq(Cat(halves[(index + further) % 4] for further in range(3)))
        m.d.comb += [
            place.eq(staged.valid & (held != 3)),
            prime.eq(~primed & held[1]),
            following.eq(offset + self.consume),
            filled.eq(count + Mux(place, staged.count, 0)), taken.eq(filled - self.consume),
            cross.eq(self.take & following[5]),
            self.window.eq(window),
            self.position.eq(Cat(offset, high + crossed)),
        ]
        m.d.sync += [
            primed.eq(primed | prime), first.eq(first + cross), held.eq(held + place - cross),
            # What follows from the carry waits a cycle where it can: ``consume`` comes late.
            crossed.eq(cross),
            high.eq(self.position[5:]),
            count.eq(Mux(self.take, taken, filled)),
        ]
        with m.If(self.take | prime):
            m.d.sync += [window.eq(_shift(ahead, following)), offset.eq(following)]
        for index, half in enumerate(halves):
            with m.If(place & ((first + held)[:2] == index)):
                m.d.sync += half.eq(staged.bits)

        # Up to the end, ``count`` less what the window holds. After it, zeros keep coming and do not count.
        full, shown, is_padding = Signal(), Signal(), Signal()  # is_padding: ``staged`` will be
        enough = [held + place >= 2 + is_padding + crosses for crosses in (0, 1)]
        # A register, as ``level`` is where the longest paths begin. All but ``cross`` is known early in the cycle.
        m.d.sync += shown.eq((primed | prime) & Mux(cross, enough[1], enough[0]) & ~(self.restart | self.flush))
        m.d.sync += full.eq(Mux(self.take, *(total[6] | (is_padding & total[5]) for total in (taken, filled))))
        m.d.comb += [
            is_padding.eq(Mux(~staged.valid | place, self._at_end, staged.is_padding)),
            self.level.eq(Mux(shown, Mux(full, WINDOW, count[:5]), 0)),
            self.exhausted.eq(shown & staged.is_padding & ~at_least(count, WINDOW + 1)),
        ]
        self._fetch(m, staged, place)
        m.d.sync += Assert(shown == (primed & (held >= 2 + staged.is_padding)),
                           "the window is shown too early or too late")

        with m.If(self.restart | self.flush):
            target = Signal(32)
            m.d.comb += target.eq(Mux(self.restart, self.restart_position, 0))
            m.d.sync += [first.eq(0), held.eq(0), primed.eq(0), crossed.eq(0),
                         Cat(offset, high).eq(target), count.eq(-target[:5])]
        self._check(m, offset)
        return m

    def _fetch(self, m, staged, place):
        """The ring, and the loading of ``staged`` from it."""
        m.submodules.ring = ring = Memory(shape=data.StructLayout({"halves": data.ArrayLayout(32, 2), "error": 1}),
                                          depth=self.depth, init=[])
        write, read = ring.write_port(), ring.read_port(domain="comb")
        jump = self.restart | self.flush
        half = Signal(27)  # index of the next half word to load
        room = Signal()  # registered; a word may arrive in the cycle it is worked out, hence 6 rather than 7
        ahead = Signal(signed(28))
        settled, has_word = Signal(), Signal()  # the two below are up to date; the word of ``half`` is in the ring
        ended, is_last = Signal(), Signal()  # the last half word has been loaded; it is the next one
        load, space = Signal(), Signal()
        m.d.comb += [
            ahead.eq(self._written - half[1:]),
            self.i.ready.eq(room | self.flush),
            write.addr.eq(self._written),
            write.data.halves.eq(self.i.payload.data),
            write.data.error.eq(self.i.payload.error),
            write.en.eq(self.i.valid & room),
        ]
        # Compared here, for the half word after this one too, as the comparisons take long.
        m.d.sync += [
            room.eq(~jump & (ahead < 6)), settled.eq(~jump),
            has_word.eq(Mux(load & half[0], ahead > 1, ahead > 0)),
            is_last.eq(Mux(load, half + 1 == self.end[5:], half == self.end[5:])),
        ]
        with m.If(self.flush):
            m.d.sync += self._written.eq(0)
        with m.Elif(write.en):
            m.d.sync += self._written.eq(self._written + 1)

        failed, error, at_end = Signal(), Signal(), self._at_end
        last = self.end[:5]
        m.d.comb += [
            read.addr.eq(half[1:]),
            at_end.eq(failed | ended | (settled & is_last & (last == 0))),
            space.eq(~staged.valid | place),
            load.eq(settled & has_word & ~at_end & space),
            self.error.eq(error | (failed & self.exhausted)),
        ]
        m.d.sync += error.eq(self.error & ~self.flush)
        owed = Signal(5)  # bits before the start in the half word that holds it, until that is loaded
        with m.If(load):
            m.d.sync += [failed.eq(read.data.error), ended.eq(is_last), half.eq(half + 1)]
        with m.If(space):
            m.d.sync += [
                staged.bits.eq(read.data.halves[half[0]] & Mux(at_end, 0, Mux(is_last, _ones(last), ~0))),
                # Without a half word before it, padding settles what ``count`` began below zero by.
                staged.count.eq(Mux(at_end, owed, Mux(is_last, last, 32))),
                staged.valid.eq(at_end | (load & ~read.data.error)),
                staged.is_padding.eq(at_end),
            ]
            with m.If(at_end | (load & ~read.data.error)):
                m.d.sync += owed.eq(0)
        with m.If(jump):
            # At the end nothing is loaded: no word may ever come, as with an empty source.
            m.d.sync += [failed.eq(0), ended.eq(self.restart & (self.restart_position == self.end)),
                         staged.valid.eq(0), staged.is_padding.eq(0),
                         half.eq(Mux(self.restart, self.restart_position[5:], 0)),
                         owed.eq(Mux(self.restart, self.restart_position[:5], 0))]

    def _check(self, m, offset):
        m.d.sync += Assert(self.primed | ~self.consume.any(), "bits are to be consumed before the window is filled")
        m.d.sync += Assert(~self.take | (self.consume <= self.level) & (offset + self.consume < 2 * WINDOW),
                           "more bits consumed than there are")
        with m.If(self.restart):
            m.d.sync += [
                Assert(self.restart_position <= self.end, "restart behind the end of the source"),
                Assert(self.flush | (self.restart_position[6:] + (self.depth - 1) >= self._written),
                       "restart at a word that has left the ring"),
            ]


class _Half(data.Struct):
    """32 bits of the source, of which ``count`` are before its end, or none of it: ``is_padding``."""

    bits: 32
    count: 6
    valid: 1
    is_padding: 1


def _shift(bits, amount):
    """The 32 bits of ``bits`` from ``amount`` (0 to 63) on; the high bits of ``amount`` apply first."""
    for place in reversed(range(6)):
        bits = Mux(amount[place], bits[1 << place:], bits)[:WINDOW + (1 << place) - 1]
    return bits


def _ones(count):
    """As many ones as ``count`` (0 to 31) says."""
    return Cat(at_least(count, place + 1) for place in range(31))
