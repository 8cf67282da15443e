# SPDX-License-Identifier: Apache-2.0
"""Where the words of calls come in."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CALL_WORDS
from rackgate.stream.queue import Queue

__all__ = ["CallPort", "HostPort", "call_word_layout"]


def call_word_layout(slots: int) -> data.StructLayout:
    """A word of a call on its way to its slot."""
    return data.StructLayout({"slot": range(slots), "word": range(CALL_WORDS), "value": 32})


class CallPort(wiring.Component):
    """Give each call of a port, 16 words after one another, one of ``slots`` slots until it is released.

    A word passes in the cycle in which it comes; the first of a call only when a slot is free, the others always. The
    slots of whole calls leave at ``call`` in the order in which the calls came, from the cycle after the last word
    on. Slots are released in any order. Between the first words of two calls there are always the other words of the
    first, in which the next slot is looked for. Reset frees all slots, and a call begun is forgotten.

    Parameters
    ----------
    slots:
        Calls that have been begun and not released, 2 to 64.
    words:
        Words of a call, at least 3; proofs make it small.

    Members
    -------
    i:
        Words.
    o:
        Words with their places.
    call:
        Slots of whole calls.
    release, release_slot:
        A slot of a call that has left at ``call`` is free again.
    space:
        Calls that can be begun.
    """

    i: stream.Interface
    o: stream.Interface
    call: stream.Interface

    def __init__(self, slots: int, *, words: int = CALL_WORDS):
        self.slots, self.words = operator.index(slots), operator.index(words)
        if not 2 <= self.slots <= 64:
            raise ValueError(f"slots must be 2 to 64, not {slots}")
        if not 3 <= self.words <= CALL_WORDS:
            raise ValueError(f"words must be 3 to {CALL_WORDS}, not {words}")
        super().__init__({
            "i": In(stream.Signature(32)),
            "o": Out(stream.Signature(call_word_layout(self.slots))),
            "call": Out(stream.Signature(range(self.slots))),
            "release": In(1),
            "release_slot": In(range(self.slots)),
            "space": Out(range(self.slots + 1), init=self.slots),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._next, self._has_next = Signal(range(self.slots)), Signal(init=1)  # slot of the call that is begun next
        self._used = Signal(self.slots, init=1)  # in use, or the next
        self._calls = Queue(range(self.slots), depth=self.slots, block_ram=False)
        self._was_released = Signal()  # there is space only when the slot has been found
        self._slot, self._word = Signal(range(self.slots)), Signal(range(CALL_WORDS))

    def elaborate(self, platform):
        m = Module()
        m.submodules.calls = calls = self._calls
        wiring.connect(m, calls.o, wiring.flipped(self.call))
        is_first, is_last, put = self._word == 0, self._word == self.words - 1, Signal()
        may_pass = ~is_first | self._has_next
        m.d.comb += [
            self.i.ready.eq(self.o.ready & may_pass),
            self.o.valid.eq(self.i.valid & may_pass),
            self.o.payload.slot.eq(Mux(is_first, self._next, self._slot)),
            self.o.payload.word.eq(self._word),
            self.o.payload.value.eq(self.i.payload),
            put.eq(self.i.valid & self.i.ready),
            calls.i.valid.eq(put & is_last),
            calls.i.payload.eq(self._slot),
        ]
        with m.If(put):
            m.d.sync += self._word.eq(Mux(is_last, 0, self._word + 1))
        with m.If(put & is_first):
            m.d.sync += [self._slot.eq(self._next), self._has_next.eq(0)]
        with m.Elif(~self._has_next):
            self._look_for_next(m)
        with m.If(self.release):
            m.d.sync += self._used.bit_select(self.release_slot, 1).eq(0)
        m.d.sync += [
            self._was_released.eq(self.release),
            self.space.eq(self.space - (put & is_first) + self._was_released),
            Assert(~calls.i.valid | calls.i.ready, "there are more calls than slots"),
            Assert(~self.release | self._used.bit_select(self.release_slot, 1), "a slot is released that is free"),
        ]
        return m

    def _look_for_next(self, m):
        """The lowest free slot is the next call's."""
        for slot in reversed(range(self.slots)):
            with m.If(~self._used[slot]):
                m.d.sync += self._next.eq(slot)
        found = ~self._used & (self._used + 1)  # the bit of the lowest free slot
        m.d.sync += [
            self._has_next.eq(~self._used.all()),
            self._used.eq(self._used | found),
        ]


class HostPort(wiring.Component):
    """A register's writes as words of a :class:`CallPort`.

    A register cannot make its writer wait, so a call whose first word comes while there is no space is dropped with
    its 15 other words. Nothing is registered. Reset: the next word is the first of a call.

    Members
    -------
    word, write:
        A word, in the cycle in which ``write`` is high.
    o:
        Words; ``o.ready`` must be high but for the first word of a call.
    """

    word: In(32)
    write: In(1)
    o: Out(stream.Signature(32))

    def elaborate(self, platform):
        m = Module()
        place, is_dropping, drops = Signal(range(CALL_WORDS)), Signal(), Signal()
        m.d.comb += [
            drops.eq(Mux(place == 0, ~self.o.ready, is_dropping)),
            self.o.valid.eq(self.write & ~drops),
            self.o.payload.eq(self.word),
        ]
        with m.If(self.write):
            m.d.sync += [place.eq(place + 1), is_dropping.eq(drops)]
        m.d.sync += Assert(~self.o.valid | self.o.ready, "a word of a call is lost")
        return m
