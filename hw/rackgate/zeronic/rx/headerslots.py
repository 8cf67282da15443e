# SPDX-License-Identifier: Apache-2.0
"""Headers of entries that are not yet written."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.abi import ETHERNET_SIZE, HEADER_MOST
from rackgate.zeronic.rx.records import HEADERS_BITS, SLOT_BITS

__all__ = ["HeaderSlots", "slot_words"]

#: Reads that wait.
_READS = 2


def slot_words(width: int) -> int:
    """Words of ``width`` bytes that the longest headers of an entry take, those from IPv4's on."""
    return -(-(HEADER_MOST - ETHERNET_SIZE) // width)


class HeaderSlots(wiring.Component):
    """Slots for headers, each with one of three owners: it is free, its filler has it, or it waits to be read.

    A word a cycle at each side. The first word leaves 3 cycles after ``read``, which may be ahead of ``o`` by two:
    ``read.ready`` and ``o`` come from registers. A slot is free 2 cycles after its last word is
    read. Reset frees all slots.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    has_free, free_slot, take, taken_slot:
        A slot is free, and which; strobe: a slot that was shown as free is so no more. It may be written before.
    put, put_slot, put_index, put_data, put_bytes:
        Write the bytes ``put_bytes`` of a word of a slot.
    look_slot, look_index, looked:
        Show a word of a slot in the next cycle.
    read:
        Give out the first ``size`` bytes of ``slot``, and free it.
    o:
        Those bytes as packets; for none, a word with ``count`` 0.
    """

    read: stream.Interface
    o: stream.Interface

    def __init__(self, width):
        self.width = operator.index(width)
        index = range(slot_words(self.width))
        super().__init__({
            "has_free": Out(1), "free_slot": Out(SLOT_BITS), "take": In(1), "taken_slot": In(SLOT_BITS),
            "put": In(1), "put_slot": In(SLOT_BITS), "put_index": In(index), "put_data": In(8 * self.width),
            "put_bytes": In(self.width),
            "look_slot": In(SLOT_BITS), "look_index": In(index), "looked": Out(8 * self.width),
            "read": In(stream.Signature(data.StructLayout({"slot": SLOT_BITS, "size": HEADERS_BITS}))),
            "o": Out(PacketSignature(self.width)),
        })
        self._is_free = Signal(1 << SLOT_BITS, init=-1)

    def elaborate(self, platform):
        m = Module()
        bits = ceil_log2(slot_words(self.width))
        m.submodules.memory = memory = Memory(shape=8 * self.width, depth=1 << SLOT_BITS + bits, init=[])
        write, look = memory.write_port(granularity=8), memory.read_port()
        m.d.comb += [
            write.addr.eq(Cat(self.put_index, self.put_slot)),
            write.data.eq(self.put_data),
            write.en.eq(Mux(self.put, self.put_bytes, 0)),
            look.addr.eq(Cat(self.look_index, self.look_slot)),
            self.looked.eq(look.data),
            self.has_free.eq(self._is_free.any()),
        ]
        for slot in reversed(range(1 << SLOT_BITS)):
            with m.If(self._is_free[slot]):
                m.d.comb += self.free_slot.eq(slot)
        self._fetch(m, memory.read_port())
        with m.If(self.take):
            m.d.sync += [
                self._is_free.bit_select(self.taken_slot, 1).eq(0),
                Assert(self._is_free.bit_select(self.taken_slot, 1), "a slot is taken that is not free"),
            ]
        return m

    def _fetch(self, m, port):
        m.submodules.reads = reads = Queue(self.read.payload.shape(), depth=_READS, block_ram=False)
        wiring.connect(m, wiring.flipped(self.read), reads.i)
        wanted, index, is_last, can_fetch = reads.o.payload, Signal(self.put_index.shape()), Signal(), Signal()
        left, frees, freed_slot = Signal(HEADERS_BITS), Signal(), Signal(SLOT_BITS)
        m.submodules.words = words = SkidBuffer(self.o.payload.shape())  # the memory's output comes late
        wiring.connect(m, words.o, wiring.flipped(self.o))
        m.d.comb += [
            left.eq(wanted.size - (index << exact_log2(self.width))),
            is_last.eq(left <= self.width),
            can_fetch.eq(~words.i.valid | words.i.ready),
            reads.o.ready.eq(can_fetch & is_last),
            port.addr.eq(Cat(index, wanted.slot)),
            port.en.eq(can_fetch),
            words.i.payload.data.eq(port.data),
        ]
        with m.If(can_fetch):
            m.d.sync += [
                words.i.valid.eq(reads.o.valid),
                words.i.payload.count.eq(Mux(is_last, left, self.width)),
                words.i.payload.last.eq(is_last),
            ]
        with m.If(reads.o.valid & can_fetch):
            m.d.sync += index.eq(Mux(is_last, 0, index + 1))
        m.d.sync += [frees.eq(reads.o.valid & reads.o.ready), freed_slot.eq(wanted.slot)]
        with m.If(frees):
            m.d.sync += [
                self._is_free.bit_select(freed_slot, 1).eq(1),
                Assert(~self._is_free.bit_select(freed_slot, 1), "a slot is read that is free"),
            ]
