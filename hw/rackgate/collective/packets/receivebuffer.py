# SPDX-License-Identifier: Apache-2.0
"""The payloads of packets, in slots of block RAM."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collective.packets.depacketizer import check_segment, check_width
from rackgate.collective.packets.receivequeues import Admission
from rackgate.collective.records import SIZE_BITS, SLOT_BITS
from rackgate.collisions import ATTRIBUTE
from rackgate.stream.packet import PacketSignature

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer(wiring.Component):
    """Write payloads into slots, and read them, a word a cycle each; a payload can be read while it is written.

    Payloads are written in the order of their admissions. A read waits for words that have not come yet. It may
    be asked for as soon as the admission has been offered, before it is taken. The first word of a read comes 3 cycles
    after its command, or after the word was written; nothing is between reads whose commands come in time. ``i.ready``
    depends on no input, ``read.ready`` on ``words.ready``. Reset forgets what is under way; the contents stay, but no
    longer count.

    Parameters
    ----------
    width:
        Bytes of a word.
    segment:
        Bytes of a slot.
    slots:
        Number of slots, a power of two from 2 to 256.

    Members
    -------
    admit:
        Where the next payload goes (:class:`~rackgate.collective.packets.receivequeues.Admission`);
        none for empty ones.
    i:
        Payloads, each to its ``last`` word.
    read:
        Which slot to read, and how many bytes of it; there are no words if ``size`` is 0.
    words:
        What is read. ``error`` on a last word is what came with the payload's last word.
    """

    def __init__(self, width: int = 8, *, segment: int = 1024, slots: int = 64):
        self.width, self.segment = check_width(width), check_segment(segment)
        self.slots = operator.index(slots)
        if self.slots not in (2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"slots must be a power of two from 2 to 256, not {slots}")
        super().__init__({
            "admit": In(stream.Signature(Admission)),
            "i": In(PacketSignature(self.width)),
            "read": In(stream.Signature(data.StructLayout({"slot": SLOT_BITS, "size": SIZE_BITS}))),
            "words": Out(PacketSignature(self.width)),
        })
        self._index_bits = exact_log2(self.segment // self.width)
        self._slot_bits = exact_log2(self.slots)
        # Being written: the slot, and the words of it that are there.
        self._is_writing, self._drops = Signal(), Signal()
        self._slot, self._written = Signal(self._slot_bits), Signal(self._index_bits + 1)

    def elaborate(self, platform):
        m = Module()
        depth = self.slots << self._index_bits
        # A word counts only when it was fetched after it was written.
        m.submodules.words = memory = Memory(shape=8 * self.width, depth=depth, init=[], attrs={ATTRIBUTE: 1})
        m.submodules.errors = errors = Memory(shape=1, depth=self.slots, init=[])
        self._write(m, memory.write_port(), errors.write_port())
        self._read(m, memory.read_port(), errors.read_port(domain="comb"))
        return m

    def _write(self, m, port, error):
        ends, takes = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(self._is_writing),
            takes.eq(self.i.valid & self._is_writing),
            ends.eq(takes & self.i.payload.last),
            self.admit.ready.eq(~self._is_writing | ends),
            port.addr.eq(Cat(self._written[:self._index_bits], self._slot)),
            port.data.eq(self.i.payload.data),
            port.en.eq(takes & ~self._drops),
            error.addr.eq(self._slot),
            error.data.eq(self.i.payload.error),
            error.en.eq(ends & ~self._drops),
        ]
        with m.If(takes):
            m.d.sync += self._written.eq(self._written + 1)
        with m.If(self.admit.ready):
            m.d.sync += [
                self._is_writing.eq(self.admit.valid),
                self._slot.eq(self.admit.payload.slot),
                self._drops.eq(self.admit.payload.drop),
                self._written.eq(0),
            ]
        m.d.sync += Assert(~takes | self._drops | ~self._written[-1], "a payload is longer than a slot")

    def _read(self, m, port, error):
        """Three stages: the place of the next word, the RAM's output, ``words``. They move on when the next one can."""
        slot, index, left, is_busy = Signal(self._slot_bits), Signal(self._index_bits), Signal(SIZE_BITS), Signal()
        fetched = Signal(data.StructLayout({"slot": self._slot_bits, "count": self.words.payload.count.shape(),
                                            "last": 1}))
        is_fetched, fetched_free, words_free = Signal(), Signal(), Signal()
        is_there, fetches, is_last = Signal(), Signal(), Signal()
        is_admitted = self.admit.valid & ~self.admit.payload.drop & (self.admit.payload.slot == slot)
        m.d.comb += [
            words_free.eq(~self.words.valid | self.words.ready),
            fetched_free.eq(~is_fetched | words_free),
            is_there.eq(~is_admitted & ~(self._is_writing & ~self._drops & (self._slot == slot)
                                         & (self._written <= index))),
            fetches.eq(is_busy & is_there & fetched_free),
            is_last.eq(left <= self.width),
            port.addr.eq(Cat(index, slot)),
            port.en.eq(fetched_free),
            error.addr.eq(fetched.slot),
            self.read.ready.eq(~is_busy | fetches & is_last),
        ]
        with m.If(fetches):
            m.d.sync += [index.eq(index + 1), left.eq(left - self.width)]
        with m.If(self.read.ready):
            m.d.sync += [
                is_busy.eq(self.read.valid & (self.read.payload.size != 0)),
                slot.eq(self.read.payload.slot), left.eq(self.read.payload.size), index.eq(0),
            ]
        with m.If(fetched_free):
            m.d.sync += [
                is_fetched.eq(fetches),
                fetched.slot.eq(slot), fetched.last.eq(is_last), fetched.count.eq(Mux(is_last, left, self.width)),
            ]
        with m.If(words_free):
            m.d.sync += [
                self.words.valid.eq(is_fetched),
                self.words.payload.data.eq(port.data),
                self.words.payload.count.eq(fetched.count),
                self.words.payload.last.eq(fetched.last),
                self.words.payload.error.eq(fetched.last & error.data),
            ]
