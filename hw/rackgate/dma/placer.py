# SPDX-License-Identifier: Apache-2.0
"""Packed words to memory: write ranges of bytes of any alignment, one close behind the other."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4Signature, Burst
from rackgate.dma.answers import Answers
from rackgate.dma.planner import Planner
from rackgate.dma.unpacker import Unpacker
from rackgate.stream.queue import Queue

__all__ = ["Placer"]

#: Bursts whose data are there that wait for the address channel.
_REQUESTS = 4

#: Commands that wait for their words.
_COMMANDS = 4


class Placer(wiring.Component):
    """Write packed words to ranges of memory over AXI4.

    A command takes ``ceil(size / width)`` packed words from ``words`` (with ``size`` 0 a single one, of ``count`` 0, as
    :class:`~rackgate.dma.fetcher.Fetcher` gives it) and writes exactly the bytes ``addr`` to ``addr + size - 1``:
    strobes are low for the rest of the first and the last word. Bursts are INCR and never cross 4 KiB. A range must not
    run past the end of the address space, and ``count`` and ``last`` of the words must agree with ``size``: else
    an assertion fails. When all writes of a command have been answered, ``done`` gives its tag, in the order of the
    commands; one of size 0 is done as soon as those before it are.

    Commands may come before their words, 4 of them and more. A burst is offered when its data are in the FIFO, so it
    does not hold up the bus: its data begin at most 2 cycles after its address. An address is out 2 cycles after
    the packed word that completes the burst (3, if bytes of that word are left for one more word of memory), when
    nothing is in the way. ``done`` comes a cycle after the last response, with ``size`` 0 three cycles after the packed
    word. A command takes as many cycles as it covers words of memory, without a gap between commands, while the
    memory keeps up and answers within ``outstanding`` bursts. ``b.ready`` is high but for a cycle as each command of
    size 0 ends. No output depends combinationally on an input. Reset forgets everything; bursts under way must be
    reset with it.

    With ``is_eager`` a burst is offered with its first word, 2 cycles after the packed word that this needs, and holds
    up the bus if ``words`` does. So these must come without a gap, or at least whatever else waits for the bus.

    Parameters
    ----------
    width, tag, addr_width, id_width, id, burst:
        As in :class:`~rackgate.dma.fetcher.Fetcher`.
    fifo_depth:
        Words that wait for the bus, more than ``burst``.
    outstanding:
        Greatest number of bursts whose data are there and that are not yet answered, and of commands not yet taken at
        ``done``, at least 2.
    is_eager:
        Offer a burst with its first word, not its last.

    Members
    -------
    i:
        Commands (:func:`~rackgate.dma.planner.command_layout`).
    words:
        Packed words (:func:`~rackgate.stream.packet.packet_layout`). ``error`` of the last one goes to ``done``; the
        bytes are written all the same.
    done:
        ``tag`` of a command, and ``error``: a write was answered with an error, or the packed words ended in one.
    aw, w, b:
        AXI4 write channels.

    Raises
    ------
    ValueError, TypeError
        When a parameter is out of range or no integer.
    """

    i: stream.Interface
    words: stream.Interface
    done: stream.Interface
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface

    def __init__(self, width, *, tag=1, addr_width=40, id_width=4, id=0, fifo_depth=64, burst=16, outstanding=16,
                 is_eager=False):
        self.is_eager = bool(is_eager)
        self.outstanding = operator.index(outstanding)
        if self.outstanding < 2:
            raise ValueError(f"outstanding must be at least 2, not {outstanding}")
        # Made here, not in elaborate, so that a proof can state invariants about it.
        self._planner = Planner(width, tag=tag, addr_width=addr_width, burst=burst, commands=_COMMANDS)
        self.width, self.tag = self._planner.width, tag
        self.addr_width, self.burst = self._planner.addr_width, self._planner.burst
        bus = AXI4Signature(addr_width=addr_width, data_width=8 * self.width, id_width=id_width)
        self.id_width, self.id, self.fifo_depth = bus.id_width, operator.index(id), operator.index(fifo_depth)
        if not 0 <= self.id < 1 << self.id_width:
            raise ValueError(f"id must fit {self.id_width} bits, not {id}")
        if self.fifo_depth <= self.burst:
            raise ValueError(f"fifo_depth must be more than burst ({self.burst}), not {fifo_depth}")
        self._unpacker = Unpacker(self.width, tag=tag)
        self._answers = Answers(tag=tag, id_width=self.id_width, outstanding=self.outstanding)
        self._queue = Queue(bus.members["w"].signature.members["payload"].shape, depth=self.fifo_depth)
        self._requests = Queue(data.StructLayout({"word": self.addr_width - exact_log2(self.width), "len": 8}),
                               depth=_REQUESTS, block_ram=False)
        self._beat = Signal(range(self.burst))  # of the burst that gathers
        self._whole = Signal(range(self.fifo_depth + 1))  # bursts whose data are all in the FIFO, or have left in part
        self._has_room = Signal()  # for a word, and for the burst that it may end
        super().__init__({
            "i": In(self._planner.i.signature.flip()),
            "words": In(self._unpacker.i.signature.flip()),
            "done": Out(self._answers.done.signature),
            "aw": bus.members["aw"],
            "w": bus.members["w"],
            "b": bus.members["b"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.planner, m.submodules.unpacker = self._planner, self._unpacker
        m.submodules.queue, m.submodules.requests, m.submodules.answers = self._queue, self._requests, self._answers
        wiring.connect(m, wiring.flipped(self.i), self._planner.i)
        wiring.connect(m, self._planner.plans, self._unpacker.plans)
        wiring.connect(m, wiring.flipped(self.words), self._unpacker.i)
        wiring.connect(m, self._answers.done, wiring.flipped(self.done))
        wiring.connect(m, wiring.flipped(self.b), self._answers.b)
        is_whole = self._gather(m)
        self._send(m, is_whole)
        return m

    def _gather(self, m):
        """Words into the FIFO, and their burst to the address channel when it is whole. Returns whether one is."""
        word, bursts, answers = self._unpacker.o, self._planner.bursts, self._answers
        is_put, is_whole = Signal(), Signal()
        # Known a cycle ahead to keep the path short: with two places left, one is left whatever happens now.
        m.d.sync += [
            self._has_room.eq((self._queue.level < self.fifo_depth - 1) & (self._requests.level < _REQUESTS - 1)
                              & answers.has_room),
            Assert(~self._has_room | self._queue.i.ready & self._requests.i.ready, "there is no room"),
            Assert(~(word.valid & word.ready) | (word.payload.last == (is_whole & bursts.payload.last
                                                                       | ~word.payload.has_bytes)),
                   "packed words end before or after their command"),
        ]
        m.d.comb += [
            word.ready.eq(self._has_room & (bursts.valid | ~word.payload.has_bytes)),
            is_put.eq(word.valid & word.ready & word.payload.has_bytes),
            is_whole.eq(is_put & (self._beat + 1 == bursts.payload.beats)),
            bursts.ready.eq(is_whole),
            self._queue.i.valid.eq(is_put),
            self._queue.i.payload.data.eq(word.payload.data),
            self._queue.i.payload.strb.eq(word.payload.strobe),
            self._queue.i.payload.last.eq(is_whole),
            self._requests.i.valid.eq(is_put & (self._beat == 0) if self.is_eager else is_whole),
            self._requests.i.payload.word.eq(bursts.payload.word),
            self._requests.i.payload.len.eq(bursts.payload.beats - 1),
            answers.i.valid.eq(is_whole | word.valid & word.ready & ~word.payload.has_bytes),
            answers.i.payload.is_burst.eq(word.payload.has_bytes),
            answers.i.payload.last.eq(word.payload.last),
            answers.i.payload.error.eq(word.payload.error),
            answers.i.payload.tag.eq(word.payload.tag),
        ]
        with m.If(is_put):
            m.d.sync += self._beat.eq(Mux(is_whole, 0, self._beat + 1))
        return is_whole

    def _send(self, m, is_whole):
        """Address and data leave independently, as AXI4 demands (IHI 0022 A3.3.1)."""
        queue, request, can_go = self._queue, self._requests.o, Signal()
        m.d.comb += [
            can_go.eq(self.is_eager | (self._whole != 0)),
            self.aw.valid.eq(request.valid),
            request.ready.eq(self.aw.ready),
            self.aw.payload.addr.eq(request.payload.word << exact_log2(self.width)),
            self.aw.payload.id.eq(self.id),
            self.aw.payload.len.eq(request.payload.len),
            self.aw.payload.size.eq(exact_log2(self.width)),
            self.aw.payload.burst.eq(Burst.INCR),
            self.w.valid.eq(queue.o.valid & can_go),
            queue.o.ready.eq(self.w.ready & can_go),
            self.w.payload.eq(queue.o.payload),
        ]
        m.d.sync += self._whole.eq(self._whole + is_whole - (self.w.valid & self.w.ready & self.w.payload.last))
