# SPDX-License-Identifier: Apache-2.0
"""Which earlier moves a move has to wait for."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import MOVES
from rackgate.collective.records import ADDRESS_BITS

__all__ = ["MOVES_PER_CONTEXT", "Ranges", "Scoreboard"]

#: Moves of one context under way at a time.
MOVES_PER_CONTEXT = 4


class Range(data.Struct):
    """Bytes ``first`` to ``end - 1``, if ``used``."""

    used: 1
    first: ADDRESS_BITS
    end: ADDRESS_BITS + 1


class Ranges(data.Struct):
    """Memory that a move reads (``local``, ``other``) and writes (``result``)."""

    local: Range
    other: Range
    result: Range


class Question(data.Struct):
    """The ranges of move ``move``, of which number ``move % 4`` in its context is free."""

    move: 4
    ranges: Ranges


def _overlap(one, two):
    return one.used & two.used & (one.first < two.end) & (two.first < one.end)


class Scoreboard(wiring.Component):
    """Compare a move's memory with that of the moves under way in its context, one a cycle, and remember it.

    Two moves conflict if they share a byte and at least one of them writes it. The answer comes one cycle after the
    last comparison: 1 to 5 cycles after the question. Ranges of other contexts are never looked at: calls that share
    memory must not be under way together, as in MPI.

    Members
    -------
    i:
        Questions. Ready while none is being answered.
    active:
        For each move: it is under way.
    done:
        High for a cycle: ``conflicts`` is the answer.
    conflicts:
        For each move of the context: it conflicts with the one asked for. Moves that have ended meanwhile may be
        among them.

    Reset forgets the question; the remembered ranges, in LUT RAM, count only while their moves are active.
    """

    i: stream.Interface

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(Question)),
            "active": In(MOVES),
            "done": Out(1),
            "conflicts": Out(MOVES_PER_CONTEXT),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=Ranges, depth=MOVES, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        question = Signal(Question)
        is_busy = Signal()
        left, pick = Signal(MOVES_PER_CONTEXT), Signal(range(MOVES_PER_CONTEXT))  # moves still to be compared
        context = question.move[2:]
        m.d.comb += [
            self.i.ready.eq(~is_busy),
            write.addr.eq(question.move), write.data.eq(question.ranges), write.en.eq(self.done),
            read.addr.eq(Cat(pick, context)),
        ]
        for number in reversed(range(MOVES_PER_CONTEXT)):
            with m.If(left[number]):
                m.d.comb += pick.eq(number)
        new, old = question.ranges, read.data
        m.d.sync += self.done.eq(0)
        with m.If(is_busy):
            with m.If((left & (left - 1)) == 0):
                m.d.sync += [self.done.eq(1), is_busy.eq(0)]
            with m.If(left != 0):
                m.d.sync += [left.bit_select(pick, 1).eq(0), self.conflicts.bit_select(pick, 1).eq(
                    _overlap(new.local, old.result) | _overlap(new.other, old.result)
                    | _overlap(new.result, old.local) | _overlap(new.result, old.other)
                    | _overlap(new.result, old.result))]
        with m.Elif(self.i.valid):
            others = self.active.word_select(self.i.payload.move[2:], MOVES_PER_CONTEXT)
            m.d.sync += [question.eq(self.i.payload), self.conflicts.eq(0), left.eq(others), is_busy.eq(others.any()),
                         self.done.eq(~others.any())]
        return m
