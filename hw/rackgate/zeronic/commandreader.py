# SPDX-License-Identifier: Apache-2.0
"""The ring of commands, as a stream of words."""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4Signature, Burst, Response
from rackgate.stream.queue import Queue
from rackgate.zeronic.abi import COMMAND_ALIGNMENT
from rackgate.zeronic.records import ADDRESS_BITS, check_width

__all__ = ["RING_BITS", "CommandReader"]

#: Least and greatest base-2 logarithm of the ring's size in bytes.
RING_BITS = (12, 26)

_PREFETCH = 1024
_FRONT = 4
_UNIT = exact_log2(COMMAND_ALIGNMENT)


class CommandReader(wiring.Component):
    """Read the ring of commands ahead, up to 1 KiB, and give its words in order.

    Bursts are aligned blocks of 32 or 64 bytes within the ring, so none crosses its end or 4 KiB. One is sent only when
    there is room for all of it: ``r.ready`` is always high. Nothing is read while ``log_size`` is none of 12 to 26, or
    while the doorbell is more than a ring ahead of what has been read.

    Timing: the first address is out 1 cycle after the doorbell; a word is at ``o`` 1 cycle after it came in when none
    waits before it, else up to 4. A burst of 64 bytes every 2 cycles, a word a cycle.

    A word that the memory answers with an error, and whatever is behind it, is never given out: ``halted`` rises and
    stays. Reset forgets everything, and begins at position 0; bursts under way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.
    id:
        The AXI id.

    Members
    -------
    enable:
        Read on.
    base, log_size, producer:
        As in registers COMMAND_BASE, COMMAND_SIZE, COMMAND_PRODUCER; bits of ``base`` below 64, of ``producer`` below
        32, do not count.
    o:
        Words.
    halted:
        See above.
    idle:
        All that the doorbell announced has been taken.
    ar, r:
        AXI4 read channels.
    """

    o: stream.Interface
    ar: stream.Interface
    r: stream.Interface

    def __init__(self, width: int = 8, *, id: int = 0):
        self.width, self.id = check_width(width), id
        bus = AXI4Signature(addr_width=ADDRESS_BITS, data_width=8 * self.width)
        if not 0 <= id < 1 << bus.id_width:
            raise ValueError(f"id must fit {bus.id_width} bits, not {id}")
        self._word = data.StructLayout({"data": 8 * self.width, "error": 1})
        super().__init__({
            "enable": In(1), "base": In(ADDRESS_BITS), "log_size": In(5), "producer": In(32),
            "o": Out(stream.Signature(8 * self.width)),
            "halted": Out(1), "idle": Out(1),
            "ar": bus.members["ar"], "r": bus.members["r"],
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it. In units of 32 bytes:
        self._position = Signal(32 - _UNIT)
        self._depth = _PREFETCH // self.width
        self._room = Signal(range(self._depth + 1), init=self._depth)  # words not spoken for
        self._queue = Queue(self._word, depth=self._depth)
        # In front of it, for a decoder that pauses now and then: block RAM takes 3 cycles once it is not empty.
        self._front = Queue(self._word, depth=_FRONT)

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue, m.submodules.front = queue, front = self._queue, self._front
        asked, is_taken = Signal(range(65)), Signal()
        self._request(m, asked)
        self._collect(m, queue, front.i, is_taken)
        m.d.sync += self._room.eq(self._room - asked + is_taken)
        m.d.comb += [
            self.o.payload.eq(front.o.payload.data),
            self.o.valid.eq(front.o.valid & ~front.o.payload.error),
            front.o.ready.eq(self.o.ready & ~front.o.payload.error),
            self.halted.eq(front.o.valid & front.o.payload.error),
            self.idle.eq((self._position == self.producer[_UNIT:]) & (self._room == self._depth) & ~front.o.valid),
        ]
        return m

    def _request(self, m, asked):
        """Ask for one unit, or for two that make an aligned block. ``asked``: words asked for now."""
        per_unit = COMMAND_ALIGNMENT // self.width
        mask, ahead, is_pair = Signal.like(self._position), Signal.like(self._position), Signal()
        addr, words = self.ar.payload.addr, Signal(range(2 * per_unit + 1))
        m.d.comb += [
            mask.eq(((1 << self.log_size) - 1) >> _UNIT),
            ahead.eq(self.producer[_UNIT:] + ~self._position),  # of the doorbell, less 1: all ones if there is nothing
            words.eq(Mux(is_pair, 2 * per_unit, per_unit)),
            self.ar.payload.id.eq(self.id),
            self.ar.payload.len.eq(words - 1),
            self.ar.payload.size.eq(exact_log2(self.width)),
            self.ar.payload.burst.eq(Burst.INCR),
        ]
        is_ring = (self.log_size >= RING_BITS[0]) & (self.log_size <= RING_BITS[1])
        with m.If(~self.ar.valid):
            m.d.sync += [
                self.ar.valid.eq(self.enable & is_ring & ((ahead & ~mask) == 0)
                                 & (self._room >= 2 * per_unit)),
                addr.eq(Cat(Const(0, 6), self.base[6:]) + ((self._position & mask) << _UNIT)),
                is_pair.eq(~self._position[0] & (ahead != 0)),
            ]
        with m.Elif(self.ar.ready):
            m.d.comb += asked.eq(words)
            m.d.sync += [self.ar.valid.eq(0), self._position.eq(self._position + Mux(is_pair, 2, 1))]

    def _collect(self, m, queue, target, is_taken):
        """Answers onwards: past the queue when it is empty, else through it."""
        answer, is_past = self.r.payload, Signal()
        m.d.comb += [
            self.r.ready.eq(1),
            is_past.eq(queue.level == 0),
            queue.i.valid.eq(self.r.valid & ~(is_past & target.ready)),
            queue.i.payload.data.eq(answer.data),
            queue.i.payload.error.eq((answer.resp == Response.SLVERR) | (answer.resp == Response.DECERR)),
            queue.o.ready.eq(target.ready),
            target.valid.eq(Mux(is_past, self.r.valid, queue.o.valid)),
            target.payload.eq(queue.o.payload),
            is_taken.eq(target.valid & target.ready),
        ]
        with m.If(is_past):
            m.d.comb += target.payload.eq(queue.i.payload)
        m.d.sync += Assert(~self.r.valid | queue.i.ready, "a word came for which there is no room")
