# SPDX-License-Identifier: Apache-2.0
"""A queue that gives out whole, good packets only."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature, packet_layout

__all__ = ["PacketQueue"]


class PacketQueue(wiring.Component):
    """Store packets; give out each one when all of it is there, and drop it whole if it ends with ``error``.

    Once a packet's first word is on offer, its words come one a cycle, as fast as they are taken. A packet of more
    than ``longest`` words is dropped. When there is no room, a queue that ``waits`` stalls ``i`` until older packets
    have left, and another one drops the packet that comes: its ``i.ready`` is always high.

    A word a cycle goes in and one comes out; the first word of a packet can be taken from the third cycle after its
    last word went in. Order is kept. ``o`` comes from registers, ``i.ready`` depends on no input. Reset empties it;
    the RAM's contents stay, but no longer count.

    Parameters
    ----------
    width:
        Bytes of a word.
    depth:
        Words that there is room for, at least 2.
    waits:
        Stall, rather than drop, for want of room.
    longest:
        Words of the longest packet, 1 to ``depth``; by default ``depth``.

    Members
    -------
    i, o:
        The two ends; ``error`` is never set at ``o``.
    kept, dropped:
        Strobe, the cycle after a packet's last word was taken: what became of it.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int, *, depth: int, waits: bool, longest: int | None = None):
        self.width, self.depth, self.waits = width, operator.index(depth), bool(waits)
        if self.depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth}")
        self.longest = self.depth if longest is None else operator.index(longest)
        if not 1 <= self.longest <= self.depth:
            raise ValueError(f"longest must be 1 to the depth, {self.depth}, not {longest}")
        super().__init__({
            "i": In(PacketSignature(width)), "o": Out(PacketSignature(width)), "kept": Out(1), "dropped": Out(1),
        })
        # Without ``error``: words of 4 bytes then fit the 36 bits of a block RAM.
        layout = packet_layout(width).members
        kept = data.StructLayout({name: shape for name, shape in layout.items() if name != "error"})
        self._memory = Memory(shape=kept, depth=self.depth, init=[])
        self._w_port, self._r_port = self._memory.write_port(), self._memory.read_port()
        # Places: of the next word, of the packet's first word, of the next to be read. Words of whole packets, of the
        # packet that is coming, and free ones.
        self._w_addr, self._begin, self._r_addr = (Signal(range(self.depth)) for _ in range(3))
        self._stored, self._pending = Signal(range(self.depth + 1)), Signal(range(self.depth + 1))
        self._room = Signal(range(self.depth + 1), init=self.depth)
        self._is_skipping, self._is_fetched = Signal(), Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = self._memory
        word, takes, put, fetch = self.i.payload, Signal(), Signal(), Signal()
        is_full, is_lost, commit, undo = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            is_full.eq(self._room == 0),
            # With nothing stored, the packet alone fills the queue: it would wait for ever.
            is_lost.eq(self._is_skipping | (self._pending == self.longest)
                       | (is_full & ((self._stored == 0) if self.waits else 1))),
            self.i.ready.eq(~is_full | is_lost),
            takes.eq(self.i.valid & self.i.ready),
            put.eq(takes & ~is_lost),
            commit.eq(put & word.last & ~word.error),
            undo.eq(takes & (is_lost | word.last & word.error)),
            self._w_port.addr.eq(self._w_addr), self._w_port.en.eq(put),
            *(self._w_port.data[name].eq(word[name]) for name in ("data", "count", "last")),
        ]
        m.d.sync += [
            self.kept.eq(commit), self.dropped.eq(takes & word.last & ~commit),
            self._room.eq(self._room + fetch + Mux(undo, self._pending, 0) - Mux(undo, 0, put)),
            self._stored.eq(self._stored - fetch + Mux(commit, self._pending + 1, 0)),
            self._pending.eq(Mux(undo | commit, 0, self._pending + put)),
        ]
        with m.If(takes):
            m.d.sync += self._is_skipping.eq(is_lost & ~word.last)
        with m.If(undo):
            m.d.sync += self._w_addr.eq(self._begin)
        with m.Elif(put):
            m.d.sync += self._w_addr.eq(self._after(self._w_addr))
        with m.If(commit):
            m.d.sync += self._begin.eq(self._after(self._w_addr))
        self._read(m, fetch)
        m.d.sync += Assert(self._room + self._stored + self._pending == self.depth, "words are lost or doubled")
        return m

    def _read(self, m, fetch):
        """Two registers after the RAM: its own output, then ``o``. Each moves on when the next one can."""
        o_free, fetched_free = ~self.o.valid | self.o.ready, Signal()
        m.d.comb += [
            fetched_free.eq(~self._is_fetched | o_free),
            fetch.eq((self._stored != 0) & fetched_free),
            self._r_port.addr.eq(self._r_addr), self._r_port.en.eq(fetched_free),
        ]
        with m.If(fetched_free):
            m.d.sync += self._is_fetched.eq(fetch)
        with m.If(fetch):
            m.d.sync += self._r_addr.eq(self._after(self._r_addr))
        with m.If(o_free):
            m.d.sync += [
                self.o.valid.eq(self._is_fetched),
                *(self.o.payload[name].eq(self._r_port.data[name]) for name in ("data", "count", "last")),
            ]

    def _after(self, address):
        return Mux(address == self.depth - 1, 0, address + 1)
