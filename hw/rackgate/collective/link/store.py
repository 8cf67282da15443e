# SPDX-License-Identifier: Apache-2.0
"""Packets that are kept until they are acknowledged."""

import operator

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import HEADER_SIZE
from rackgate.collective.link.frame import BUFFER_BITS, LENGTH_BITS, StoredPacket, check_link_width, most_bytes
from rackgate.collective.packets.depacketizer import check_segment
from rackgate.collective.packets.freeslots import FreeSlots
from rackgate.pisa.checksum import WordSum
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue

__all__ = ["PacketStore", "check_buffers"]

#: Packets whose sums are under way.
_DEPTH = 4


def check_buffers(buffers: int) -> int:
    """The number of buffers; raises ValueError if it is not 2 to 511."""
    if not 2 <= operator.index(buffers) < 1 << BUFFER_BITS:
        raise ValueError(f"buffers must be 2 to {(1 << BUFFER_BITS) - 1}, not {buffers}")
    return operator.index(buffers)


class PacketStore(wiring.Component):
    """Write the engine's packets into buffers of block RAM, and read them as often as they are sent.

    A word a cycle each way. A packet is offered at ``stored`` some 6 cycles after its last word came. The first word
    of a read comes 3 cycles after its command. ``i.ready`` depends on no input; it is low while no buffer is free.
    Reset forgets all packets; the RAM's contents stay, but no longer count.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8 or 16.
    segment:
        Payload bytes of the longest packet.
    buffers:
        Number of buffers, 2 to 511.

    Members
    -------
    i:
        Packets, with the header of :class:`rackgate.collective.abi.Header`.
    stored:
        Packets that are whole: the node they go to, and their buffer.
    freed:
        Buffers that are no longer needed.
    lookup, entry:
        A buffer, and what is known of the packet in it; combinational, from the cycle after its ``stored`` was taken.
    read, words:
        Buffer and bytes to be read, and what was read.
    """

    def __init__(self, width: int = 8, *, segment: int = 1024, buffers: int = 80):
        self.width, self.segment = check_link_width(width), check_segment(segment)
        self.buffers = check_buffers(buffers)
        self._stride = most_bytes(self.segment) // self.width
        super().__init__({
            "i": In(PacketSignature(self.width)),
            "stored": Out(stream.Signature(data.StructLayout({"peer": 4, "buffer": BUFFER_BITS}))),
            "freed": In(stream.Signature(BUFFER_BITS, always_ready=True)),
            "lookup": In(BUFFER_BITS), "entry": Out(StoredPacket),
            "read": In(stream.Signature(data.StructLayout({"buffer": BUFFER_BITS, "length": LENGTH_BITS}))),
            "words": Out(PacketSignature(self.width)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=8 * self.width, depth=self.buffers * self._stride, init=[])
        m.submodules.entries = entries = Memory(shape=StoredPacket, depth=self.buffers, init=[])
        look = entries.read_port(domain="comb")
        m.d.comb += [look.addr.eq(self.lookup), self.entry.eq(look.data)]
        self._write(m, memory.write_port(), entries.write_port())
        self._read(m, memory.read_port())
        return m

    def _base(self, buffer):
        """Address of a buffer's first word: its number times the stride, which is a sum of two powers of two."""
        payload, header = self.segment // self.width, HEADER_SIZE // self.width
        return Cat(Const(0, payload.bit_length() - 1), buffer) + Cat(Const(0, header.bit_length() - 1), buffer)

    def _write(self, m, port, entry):
        m.submodules.free = free = FreeSlots(self.buffers)
        m.submodules.sum = total = WordSum(self.width, self._stride)
        m.submodules.sums = sums = Queue(16, depth=_DEPTH)
        m.submodules.records = records = Queue(
            data.StructLayout({"peer": 4, "buffer": BUFFER_BITS, "length": LENGTH_BITS, "error": 1}), depth=_DEPTH)
        buffer, has_buffer, address = Signal(BUFFER_BITS), Signal(), Signal(range(self.buffers * self._stride))
        before, peer, takes, ends = Signal(LENGTH_BITS), Signal(4), Signal(), Signal()
        word = self.i.payload
        m.d.comb += [
            free.i.payload.eq(self.freed.payload), free.i.valid.eq(self.freed.valid),
            self.i.ready.eq(has_buffer & records.i.ready),
            takes.eq(self.i.valid & self.i.ready),
            ends.eq(takes & word.last),
            port.addr.eq(address), port.data.eq(word.data), port.en.eq(takes),
            total.i.valid.eq(takes), total.i.payload.last.eq(word.last),
            *(total.i.payload.data[8 * k:8 * k + 8].eq(Mux(word.count > k, word.data[8 * k:8 * k + 8], 0))
              for k in range(self.width)),
            records.i.valid.eq(ends),
            records.i.payload.peer.eq(peer), records.i.payload.buffer.eq(buffer),
            records.i.payload.length.eq(before + word.count), records.i.payload.error.eq(word.error),
            sums.i.payload.eq(total.o.payload), sums.i.valid.eq(total.o.valid),
            self.stored.valid.eq(records.o.valid & sums.o.valid),
            self.stored.payload.peer.eq(records.o.payload.peer),
            self.stored.payload.buffer.eq(records.o.payload.buffer),
            records.o.ready.eq(self.stored.ready & sums.o.valid),
            sums.o.ready.eq(self.stored.ready & records.o.valid),
            entry.addr.eq(records.o.payload.buffer),
            entry.data.length.eq(records.o.payload.length), entry.data.error.eq(records.o.payload.error),
            entry.data.sum.eq(sums.o.payload),
            entry.en.eq(self.stored.valid & self.stored.ready),
            free.o.ready.eq(~has_buffer | ends),
        ]
        # The destination is the packet's byte 4: never in its last word.
        place = 8 * (4 % self.width)
        with m.If(takes & (before == 4 // self.width * self.width)):
            m.d.sync += peer.eq(word.data[place:place + 4])
        with m.If(takes):
            m.d.sync += [before.eq(Mux(word.last, 0, before + word.count)), address.eq(address + 1)]
        with m.If(free.o.ready):
            m.d.sync += [has_buffer.eq(free.o.valid), buffer.eq(free.o.payload), address.eq(self._base(free.o.payload))]
        m.d.sync += [
            Assert(~sums.i.valid | sums.i.ready, "a packet's sum is lost"),
            Assert(~takes | (before + word.count <= most_bytes(self.segment)), "a packet is longer than a buffer"),
            Assert(~ends | (before + word.count >= HEADER_SIZE), "a packet without a header"),
        ]

    def _read(self, m, port):
        """Three stages: the place of the next word, the RAM's output, ``words``. They move on when the next one can."""
        address, left, is_busy = Signal(range(self.buffers * self._stride)), Signal(LENGTH_BITS), Signal()
        count, last, is_fetched = Signal(self.words.payload.count.shape()), Signal(), Signal()
        words_free, fetched_free, fetches, is_last = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            words_free.eq(~self.words.valid | self.words.ready),
            fetched_free.eq(~is_fetched | words_free),
            fetches.eq(is_busy & fetched_free),
            is_last.eq(left <= self.width),
            port.addr.eq(address), port.en.eq(fetched_free),
            self.read.ready.eq(~is_busy | fetches & is_last),
        ]
        with m.If(fetches):
            m.d.sync += [address.eq(address + 1), left.eq(left - self.width)]
        with m.If(self.read.ready):
            m.d.sync += [
                is_busy.eq(self.read.valid), left.eq(self.read.payload.length),
                address.eq(self._base(self.read.payload.buffer)),
            ]
        with m.If(fetched_free):
            m.d.sync += [is_fetched.eq(fetches), last.eq(is_last), count.eq(Mux(is_last, left, self.width))]
        with m.If(words_free):
            m.d.sync += [
                self.words.valid.eq(is_fetched),
                self.words.payload.data.eq(port.data), self.words.payload.count.eq(count),
                self.words.payload.last.eq(last), self.words.payload.error.eq(0),
            ]
