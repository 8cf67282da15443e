# SPDX-License-Identifier: Apache-2.0
"""Memory to packed words: read ranges of bytes of any alignment, one close behind the other."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4Signature, Burst, Response
from rackgate.dma.packer import Packer
from rackgate.dma.planner import Planner
from rackgate.stream.queue import Queue

__all__ = ["Fetcher"]


class Fetcher(wiring.Component):
    """Read ranges of memory over AXI4 as packed words.

    A command yields ``ceil(size / width)`` packed words, with ``size`` 0 a single one of ``count`` 0: the consumer
    sees an end for each command, in order. Only words of memory that hold a byte of the range are read, each once, in
    INCR bursts that never cross 4 KiB. A range must not run past the end of the address space: that fails an
    assertion. After an error response the command goes on; its last packed word says that there was one.

    Bursts of the next commands are requested while data of the earlier ones come. A burst is sent only when the FIFO
    has room for all of it: ``r.ready`` is always high, and a stalled ``o`` never blocks the other users of the bus.

    Timing: the first address is out 3 cycles after the command; a packed word leaves 2 cycles after the last
    word of memory that it needs came in, when none waits before it (see :class:`~rackgate.dma.packer.Packer`).
    A command of n packed words takes n cycles at ``o``, or n + 1 when ``addr`` is no multiple of ``width``, without
    a gap between commands, while the memory's latency in cycles is below ``fifo_depth - burst`` and below what
    ``outstanding`` bursts and commands last. A FIFO in block RAM (``fifo_depth`` above 32) adds up to 2 cycles once
    after each time it was empty. No output depends combinationally on an input. Reset forgets the commands; bursts
    under way must be reset with it.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8, 16, 32 or 64; the bus has ``8 * width`` data bits.
    tag:
        Shape of a tag that is carried from the command to each of its words.
    addr_width:
        Address bits.
    id_width:
        Bits of the AXI id.
    id:
        The AXI id.
    fifo_depth:
        Words that may be requested or waiting, at least ``burst``.
    burst:
        Greatest beats in a burst, a power of two up to 256 that fits 4 KiB.
    outstanding:
        Greatest number of bursts under way, and of commands whose words are not yet at ``o``, at least 1.

    Members
    -------
    i:
        Commands (:func:`~rackgate.dma.planner.command_layout`).
    o:
        Packed words (:func:`~rackgate.dma.packer.packed_layout`).
    ar, r:
        AXI4 read channels.

    Raises
    ------
    ValueError, TypeError
        When a parameter is out of range or no integer.
    """

    i: stream.Interface
    o: stream.Interface
    ar: stream.Interface
    r: stream.Interface

    def __init__(self, width, *, tag=1, addr_width=40, id_width=4, id=0, fifo_depth=128, burst=16, outstanding=8):
        self.outstanding = operator.index(outstanding)
        if self.outstanding < 1:
            raise ValueError(f"outstanding must be at least 1, not {outstanding}")
        # Made here, not in elaborate, so that a proof can state invariants about it.
        self._planner = Planner(width, tag=tag, addr_width=addr_width, burst=burst, commands=self.outstanding)
        self.width, self.tag = self._planner.width, tag
        self.addr_width, self.burst = self._planner.addr_width, self._planner.burst
        bus = AXI4Signature(addr_width=addr_width, data_width=8 * self.width, id_width=id_width)
        self.id_width, self.id, self.fifo_depth = bus.id_width, operator.index(id), operator.index(fifo_depth)
        if not 0 <= self.id < 1 << self.id_width:
            raise ValueError(f"id must fit {self.id_width} bits, not {id}")
        if self.fifo_depth < self.burst:
            raise ValueError(f"fifo_depth must be at least burst ({self.burst}), not {fifo_depth}")
        self._packer = Packer(self.width, tag=tag)
        self._queue = Queue(self._packer.i.payload.shape(), depth=self.fifo_depth)
        self._lasts = Queue(1, depth=self.outstanding, block_ram=False)  # for each burst under way: its command's last
        self._room = Signal(range(self.fifo_depth + 1), init=self.fifo_depth)  # FIFO places not spoken for
        # A place is given back a cycle late, which keeps the path from o.ready short.
        self._is_freed = Signal()
        super().__init__({
            "i": In(self._planner.i.signature.flip()),
            "o": Out(self._packer.o.signature),
            "ar": bus.members["ar"],
            "r": bus.members["r"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.planner, m.submodules.packer = self._planner, self._packer
        m.submodules.queue, m.submodules.lasts = self._queue, self._lasts
        wiring.connect(m, wiring.flipped(self.i), self._planner.i)
        wiring.connect(m, self._planner.plans, self._packer.plans)
        wiring.connect(m, self._packer.o, wiring.flipped(self.o))
        grant = self._request(m)
        is_taken = self._collect(m)

        left = Signal(len(self._room) + 1)
        burst = self._planner.bursts.payload
        m.d.comb += left.eq(self._room - burst.beats)
        m.d.sync += [
            self._is_freed.eq(is_taken),
            self._room.eq(Mux(grant, left, self._room) + self._is_freed),
            Assert(self._room + self._queue.level + self._is_freed <= self.fifo_depth, "more room than the FIFO has"),
        ]
        return m

    def _request(self, m):
        """Bursts to the bus, while there is room for their data."""
        bursts, is_ready, grant = self._planner.bursts, Signal(), Signal()
        m.d.comb += [
            is_ready.eq((self._room >= bursts.payload.beats) & self._lasts.i.ready & (~self.ar.valid | self.ar.ready)),
            bursts.ready.eq(is_ready),
            grant.eq(bursts.valid & is_ready),
            self._lasts.i.valid.eq(grant),
            self._lasts.i.payload.eq(bursts.payload.last),
        ]
        with m.If(self.ar.ready):
            m.d.sync += self.ar.valid.eq(0)
        with m.If(grant):
            m.d.sync += [
                self.ar.valid.eq(1),
                self.ar.payload.addr.eq(bursts.payload.word << exact_log2(self.width)),
                self.ar.payload.id.eq(self.id),
                self.ar.payload.len.eq(bursts.payload.beats - 1),
                self.ar.payload.size.eq(exact_log2(self.width)),
                self.ar.payload.burst.eq(Burst.INCR),
            ]
        return grant

    def _collect(self, m):
        """Answers to the packer: past the FIFO when it is empty, else through it. Returns whether one is taken."""
        answer, queue, words, is_past, is_taken = self.r.payload, self._queue, self._packer.i, Signal(), Signal()
        m.d.comb += [
            self.r.ready.eq(1),
            self._lasts.o.ready.eq(self.r.valid & answer.last),
            is_past.eq(queue.level == 0),
            queue.i.valid.eq(self.r.valid & ~(is_past & words.ready)),
            queue.i.payload.data.eq(answer.data),
            queue.i.payload.last.eq(answer.last & self._lasts.o.payload),
            queue.i.payload.error.eq((answer.resp == Response.SLVERR) | (answer.resp == Response.DECERR)),
            queue.o.ready.eq(words.ready),
            words.valid.eq(Mux(is_past, self.r.valid, queue.o.valid)),
            words.payload.eq(queue.o.payload),
            is_taken.eq(words.valid & words.ready),
        ]
        with m.If(is_past):
            m.d.comb += words.payload.eq(queue.i.payload)
        m.d.sync += [
            Assert(~self.r.valid | queue.i.ready, "a word came for which the FIFO has no room"),
            Assert(~self.r.valid | self._lasts.o.valid, "a word came that nobody asked for"),
        ]
        return is_taken
