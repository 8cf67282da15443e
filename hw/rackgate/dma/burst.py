# SPDX-License-Identifier: Apache-2.0
"""Aligned words of several streams into AXI4 write bursts."""

import operator
from dataclasses import dataclass, fields

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4Signature, Burst, Response
from rackgate.stream.aligner import CONTEXT_BITS, aligned_layout
from rackgate.stream.queue import Queue

__all__ = ["BurstMaker", "BurstParameters"]

#: Closed bursts that wait for the bus.
_BURSTS = 4


@dataclass(frozen=True, kw_only=True)
class BurstParameters:
    """Parameters of a :class:`BurstMaker`.

    Attributes
    ----------
    addr_width, id_width:
        As in AXI4. A stream's AXI id is ``id`` plus its context.
    id:
        AXI id of context 0.
    contexts:
        Number of streams, 1 to 8.
    burst:
        Greatest beats in a burst, a power of two up to 256.
    fifo_depth:
        Words that wait for the bus, more than ``burst``.
    outstanding:
        Greatest number of bursts closed and not yet answered, at least 2.

    Raises
    ------
    ValueError, TypeError
        When one is out of range or no integer.
    """

    addr_width: int = 40
    id_width: int = 4
    id: int = 0
    contexts: int = 2
    burst: int = 16
    fifo_depth: int = 64
    outstanding: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, operator.index(getattr(self, field.name)))
        id_width = self.bus.id_width
        if not 1 <= self.contexts <= 1 << CONTEXT_BITS:
            raise ValueError(f"contexts must be 1 to {1 << CONTEXT_BITS}, not {self.contexts}")
        if self.id < 0 or self.id + self.contexts > 1 << id_width:
            raise ValueError(f"id must leave room for {self.contexts} ids in {id_width} bits, not be {self.id}")
        if self.burst not in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"burst must be a power of two from 1 to 256, not {self.burst}")
        if self.fifo_depth <= self.burst:
            raise ValueError(f"fifo_depth must be more than burst ({self.burst}), not {self.fifo_depth}")
        if self.outstanding < 2:
            raise ValueError(f"outstanding must be at least 2, not {self.outstanding}")

    @property
    def bus(self) -> AXI4Signature:
        """The bus that the bursts go to."""
        return AXI4Signature(addr_width=self.addr_width, id_width=self.id_width)


class BurstMaker(wiring.Component):
    """Write words of several streams, each to consecutive addresses.

    ``begin`` sets a stream's address to the word of byte address ``data``. Words of one stream gather into a
    burst until a multiple of ``burst`` words is reached (so no burst crosses 4 KiB), a flush comes, or a word
    of another stream does. Then the address is sent; the data are ready by then, so a burst once offered
    never holds up the bus.

    One element a cycle; a change of stream within a burst takes a cycle more. ``i.ready`` depends
    combinationally on ``i.payload``, not on ``i.valid``. ``b.ready`` is always high. Reset forgets everything;
    bursts under way must be reset with it.

    Parameters
    ----------
    parameters:
        See :class:`BurstParameters`.

    Members
    -------
    i:
        Words (:func:`~rackgate.stream.aligner.aligned_layout`), of contexts that there are.
    is_pending:
        For each context: a burst is closed and not yet answered.
    errors:
        For each context: high in the cycle in which an answer reports an error.
    aw, w, b:
        AXI4 write channels.
    """

    i: stream.Interface
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface

    def __init__(self, parameters: BurstParameters):
        self.parameters = parameters
        bus, contexts = parameters.bus, parameters.contexts
        address, count = parameters.addr_width - 3, range(parameters.outstanding + 1)
        self._request = data.StructLayout({"word": address, "length": 9, "context": CONTEXT_BITS})
        super().__init__({
            "i": In(stream.Signature(aligned_layout(8))),
            "is_pending": Out(contexts),
            "errors": Out(contexts),
            "aw": bus.members["aw"],
            "w": bus.members["w"],
            "b": bus.members["b"],
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._next = Array(Signal(address, name=f"next_{k}") for k in range(contexts))
        self._open, self._is_open = Signal(self._request), Signal()  # the burst that gathers
        self._has_room = Signal()  # for a word and for a burst
        self._is_closing, self._was_closed = Signal(), Signal()  # a burst closes now; one did in the last cycle
        self._closing = Signal(self._request)  # what the burst is that closes now, if one does
        self._last = Signal(CONTEXT_BITS)  # whose burst closed in the last cycle
        self._bursts = Array(Signal(count, name=f"bursts_{k}") for k in range(contexts))
        self._total = Signal(count)

    def elaborate(self, platform):
        m = Module()
        word = data.StructLayout({"data": 64, "strobe": 8})
        m.submodules.words = words = Queue(word, depth=self.parameters.fifo_depth)
        m.submodules.requests = requests = Queue(self._request, depth=_BURSTS)
        m.submodules.lengths = lengths = Queue(9, depth=_BURSTS)
        self._gather(m, words, requests, lengths)
        self._send(m, words, requests, lengths)
        self._count(m)
        return m

    def _gather(self, m, words, requests, lengths):
        word = self.i.payload
        # Of a context's number only the bits that tell it from the others: the longest path begins there.
        told_by = range((self.parameters.contexts - 1).bit_length())
        place = self._next[Cat(word.context[bit] for bit in told_by)]
        take, close, is_ours, must_part, ends = Signal(), self._is_closing, Signal(), Signal(), Signal()
        closing = self._closing
        # Known a cycle ahead to keep the path short: with two places left, one is left whatever happens now.
        m.d.sync += self._has_room.eq((words.level < self.parameters.fifo_depth - 1) & (requests.level < _BURSTS - 1)
                                      & (lengths.level < _BURSTS - 1)
                                      & (self._total + self._was_closed < self.parameters.outstanding - 1))
        m.d.sync += Assert(~self.i.valid | (word.context < self.parameters.contexts), "a word of no context")
        m.d.sync += Assert(~self._has_room | words.i.ready & requests.i.ready & lengths.i.ready, "there is no room")
        m.d.comb += [
            is_ours.eq(~Cat(self._open.context[bit] ^ word.context[bit] for bit in told_by).any()),
            must_part.eq(self._is_open & ~is_ours & word.has_bytes),
            self.i.ready.eq(self._has_room & ~must_part),
            take.eq(self.i.valid & self.i.ready),
            words.i.valid.eq(take & word.has_bytes),
            words.i.payload.data.eq(word.data),
            words.i.payload.strobe.eq(word.strobe),
            ends.eq(place[:exact_log2(self.parameters.burst)].all() | word.flush),
            # The burst that is open, or the one that this word begins.
            closing.word.eq(Mux(self._is_open, self._open.word, place)),
            closing.context.eq(Mux(self._is_open, self._open.context, word.context)),
            closing.length.eq(self._open.length + (word.has_bytes & ~must_part)),
        ]
        with m.If(self.i.valid & must_part):
            m.d.comb += close.eq(self._has_room)
        with m.Elif(take & word.has_bytes):
            m.d.comb += close.eq(ends)
            m.d.sync += [self._open.eq(closing), self._is_open.eq(1)]
            m.d.sync += place.eq(place + word.strobe[-1])
        with m.Elif(take & (word.flush | word.begin)):
            m.d.comb += close.eq(self._is_open & is_ours)
            with m.If(word.begin):
                m.d.sync += place.eq(word.data >> 3)
        with m.If(close):
            m.d.sync += [self._is_open.eq(0), self._open.length.eq(0)]
        m.d.comb += [
            requests.i.valid.eq(close),
            requests.i.payload.eq(closing),
            lengths.i.valid.eq(close),
            lengths.i.payload.eq(closing.length),
        ]

    def _send(self, m, words, requests, lengths):
        """Address and data leave independently, as AXI4 demands (IHI 0022 A3.3.1)."""
        request, beat = requests.o.payload, Signal(9, init=1)
        m.d.comb += [
            self.aw.valid.eq(requests.o.valid),
            requests.o.ready.eq(self.aw.ready),
            self.aw.payload.addr.eq(request.word << 3),
            self.aw.payload.id.eq(self.parameters.id + request.context),
            self.aw.payload.len.eq(request.length - 1),
            self.aw.payload.size.eq(3),
            self.aw.payload.burst.eq(Burst.INCR),
            self.w.valid.eq(words.o.valid & lengths.o.valid),
            words.o.ready.eq(self.w.ready & lengths.o.valid),
            self.w.payload.data.eq(words.o.payload.data),
            self.w.payload.strb.eq(words.o.payload.strobe),
            self.w.payload.last.eq(beat == lengths.o.payload),
        ]
        with m.If(self.w.valid & self.w.ready):
            m.d.comb += lengths.o.ready.eq(self.w.payload.last)
            m.d.sync += beat.eq(Mux(self.w.payload.last, 1, beat + 1))

    def _count(self, m):
        answer = self.b.payload
        is_error = (answer.resp == Response.SLVERR) | (answer.resp == Response.DECERR)
        m.d.comb += self.b.ready.eq(1)
        # A cycle late, as what closes a burst comes late in its cycle. No answer comes as soon as that: the address has
        # not been offered before.
        m.d.sync += [
            self._was_closed.eq(self._is_closing), self._last.eq(self._closing.context),
            self._total.eq(self._total + self._was_closed - self.b.valid),
        ]
        for k, bursts in enumerate(self._bursts):
            is_answered = self.b.valid & (answer.id == self.parameters.id + k)
            is_new = self._was_closed & (self._last == k)
            m.d.sync += bursts.eq(bursts + is_new - is_answered)
            m.d.comb += [
                self.is_pending[k].eq((bursts != 0) | is_new),
                self.errors[k].eq(is_answered & is_error),
            ]
            m.d.sync += Assert(~is_answered | (bursts != 0), "an answer came to a write that was not sent")
