# SPDX-License-Identifier: Apache-2.0
"""Memory to stream: read a range of bytes as aligned words."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4Signature, Burst, Response
from rackgate.stream.queue import Queue

__all__ = ["Reader", "ReadWord"]


class ReadWord(data.Struct):
    """An aligned word of memory: byte k of ``data`` is from the address 8 * n + k.

    ``last`` marks the last word of the command. ``error``: the memory answered with an error, and ``data``
    means nothing.
    """

    data: 64
    last: 1
    error: 1


class Reader(wiring.Component):
    """Read ranges of memory over AXI4, one command after the other.

    A command yields the aligned 64-bit words that cover the bytes ``addr`` to ``addr + size - 1``, in order,
    and no other word is read; with ``size`` 0 it yields nothing. The addresses of a command must not run
    past the end of the address space. Bursts end at multiples of their greatest length, so they never
    cross 4 KiB. A burst is sent only when the FIFO has room for all of it: ``r.ready`` is always high, and
    a stalled ``o`` never blocks the other users of the bus. After an error response the command goes on.

    Timing: the first address is out 3 cycles after the command; a word leaves at ``o`` 3 cycles after it came
    in (1 when ``fifo_depth`` is at most 32). One word a cycle is sustained if the memory's latency in cycles
    is below both ``fifo_depth - burst`` and ``burst * (outstanding - 1)``. The next command is taken
    2 cycles after the last word has been. No output depends combinationally on an input, except
    ``i.ready`` on ``cancel``. Reset forgets the command; bursts under way must be reset with it.

    Parameters
    ----------
    addr_width:
        Address bits.
    id_width:
        Bits of the AXI id.
    id:
        The AXI id.
    fifo_depth:
        Words that may be requested or waiting, at least ``burst``.
    burst:
        Greatest beats in a burst, a power of two up to 256.
    outstanding:
        Greatest number of bursts under way, at least 1.

    Members
    -------
    i:
        Commands: ``addr`` and ``size`` in bytes, of any alignment.
    o:
        Words (:class:`ReadWord`).
    cancel:
        Drop what is left of the command under way, if there is one. A word taken in this very cycle still
        counts; from the next on ``o`` offers none (here, and only here, an offered word is withdrawn).
        Bursts already sent are drained and thrown away.
    busy:
        A command has been accepted and is not yet wholly delivered or drained.
    ar, r:
        AXI4 read channels.
    """

    def __init__(self, *, addr_width=40, id_width=4, id=0, fifo_depth=64, burst=16, outstanding=4):
        bus = AXI4Signature(addr_width=addr_width, id_width=id_width)
        self.addr_width, self.id_width = bus.addr_width, bus.id_width
        self.id = operator.index(id)
        self.fifo_depth = operator.index(fifo_depth)
        self.burst = operator.index(burst)
        self.outstanding = operator.index(outstanding)
        if not 0 <= self.id < 1 << self.id_width:
            raise ValueError(f"id must fit {self.id_width} bits, not {id}")
        if self.burst not in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"burst must be a power of two from 1 to 256, not {burst}")
        if self.fifo_depth < self.burst:
            raise ValueError(f"fifo_depth must be at least burst ({self.burst}), not {fifo_depth}")
        if self.outstanding < 1:
            raise ValueError(f"outstanding must be at least 1, not {outstanding}")
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"addr": self.addr_width, "size": 32}))),
            "o": Out(stream.Signature(ReadWord)),
            "cancel": In(1),
            "busy": Out(1),
            "ar": bus.members["ar"],
            "r": bus.members["r"],
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._word = Signal(self.addr_width - 3)  # next word to request
        self._unsent = Signal(30)  # words not yet requested
        self._length = Signal(range(self.burst + 1))  # of the next burst
        self._room = Signal(range(self.fifo_depth + 1), init=self.fifo_depth)  # FIFO places not spoken for
        self._bursts = Signal(range(self.outstanding + 1))  # not yet answered
        self._waiting = Signal(range(self.fifo_depth + 1))  # words in the FIFO
        self._is_cut = Signal()  # ``_length`` counts, and the burst is not yet requested
        self._is_last = Signal()  # the word that comes in is the command's last
        self._is_cancelled = Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(ReadWord, depth=self.fifo_depth)
        grant = Signal()

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(~self.cancel)
                m.d.sync += self._is_cancelled.eq(0)
                with m.If(self.i.valid & self.i.ready):
                    self._load(m)
                    with m.If(self.i.payload.size != 0):
                        m.next = "CUT"
            with m.State("CUT"):
                self._cut(m)
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [
                    self._is_cut.eq(1),
                    grant.eq((self._room >= self._length) & (self._bursts != self.outstanding) & ~self._is_cancelled),
                ]
                with m.If(grant):
                    self._request(m)
                    m.next = "SEND"
                with m.Elif(self._is_cancelled):
                    m.next = "FINISH"
            with m.State("SEND"):
                m.d.comb += self.ar.valid.eq(1)
                with m.If(self.ar.ready):
                    m.next = "FINISH"
                    with m.If((self._unsent != 0) & ~self._is_cancelled):
                        m.next = "CUT"
            with m.State("FINISH"):
                m.d.sync += Assert(self._is_cancelled | (self._unsent == 0), "a command ends with words not requested")
                # All room is back: every word requested has come and has been taken out.
                with m.If(self._room == self.fifo_depth):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        with m.If(self.cancel & self.busy):
            m.d.sync += self._is_cancelled.eq(1)

        self._collect(m, queue, grant)
        return m

    def _load(self, m):
        command = self.i.payload
        m.d.sync += [
            self._word.eq(command.addr[3:]),
            # 33 bits, as the sum of any offset and any size needs.
            self._unsent.eq((command.addr[:3] + command.size + 7)[3:]),
        ]

    def _cut(self, m):
        """The next burst ends with the command or at the next multiple of ``burst`` words."""
        offset = self._word[:exact_log2(self.burst)]
        to_border = Signal(range(self.burst + 1))
        m.d.comb += to_border.eq(self.burst - offset)
        m.d.sync += self._length.eq(Mux(self._unsent < to_border, self._unsent, to_border))

    def _request(self, m):
        m.d.sync += [
            self.ar.payload.addr.eq(self._word << 3),
            self.ar.payload.id.eq(self.id),
            self.ar.payload.len.eq(self._length - 1),
            self.ar.payload.size.eq(3),
            self.ar.payload.burst.eq(Burst.INCR),
            self._word.eq(self._word + self._length),
            self._unsent.eq(self._unsent - self._length),
        ]

    def _collect(self, m, queue, grant):
        """Answers into the FIFO, the FIFO to the output, and the accounts of both."""
        answer, is_burst_end, is_taken = self.r.payload, Signal(), Signal()
        m.d.comb += [
            self.r.ready.eq(1),
            is_burst_end.eq(self.r.valid & answer.last),
            queue.i.valid.eq(self.r.valid),
            queue.i.payload.data.eq(answer.data),
            self._is_last.eq(answer.last & (self._bursts == 1) & (self._unsent == 0)),
            queue.i.payload.last.eq(self._is_last),
            queue.i.payload.error.eq((answer.resp == Response.SLVERR) | (answer.resp == Response.DECERR)),
            self.o.payload.eq(queue.o.payload),
            self.o.valid.eq(queue.o.valid & ~self._is_cancelled),
            queue.o.ready.eq(self.o.ready | self._is_cancelled),
            is_taken.eq(queue.o.valid & queue.o.ready),
            self._waiting.eq(queue.level),
        ]
        m.d.sync += [
            self._bursts.eq(self._bursts + grant - is_burst_end),
            self._room.eq(self._room + is_taken - Mux(grant, self._length, 0)),
            Assert(self._room + self._waiting <= self.fifo_depth, "more room than the FIFO has"),
            Assert(~self.r.valid | queue.i.ready, "a word came for which the FIFO has no room"),
            Assert(~self.r.valid | (self._bursts != 0), "a word came that nobody asked for"),
        ]
