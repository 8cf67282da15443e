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
from rackgate.stream.skid import SkidBuffer

__all__ = ["ReceiveBuffer"]


class ReceiveBuffer(wiring.Component):
    """Write payloads into slots, and read them, a word a cycle each; a payload can be read while it is written.

    Payloads are written in the order of their admissions. A read waits for words that have not come yet. It may
    be asked for as soon as the admission has been offered, before it is taken. The first word of a read comes 3 cycles
    after its command, or after the word was written; nothing is between reads whose commands come in time. ``i.ready``
    and ``read.ready`` depend on no input. Reset forgets what is under way; the contents stay, but no longer count.

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
        """Three stages: the place of the next word, the RAM's output, ``words``. They move on when the next one can.

        The last is a skid buffer: who takes the words knows late in a cycle whether it can.
        """
        slot, index, left, is_busy = Signal(self._slot_bits), Signal(self._index_bits), Signal(SIZE_BITS), Signal()
        fetched = Signal(data.StructLayout({"slot": self._slot_bits, "count": self.words.payload.count.shape(),
                                            "last": 1}))
        m.submodules.last = last = SkidBuffer(self.words.payload.shape())
        wiring.connect(m, last.o, wiring.flipped(self.words))
        is_fetched, fetched_free = Signal(), Signal()
        is_there, fetches, is_last, ends = Signal(), Signal(), Signal(), Signal()
        is_admitted = self.admit.valid & ~self.admit.payload.drop & (self.admit.payload.slot == slot)
        m.d.comb += [
            fetched_free.eq(~is_fetched | last.i.ready),
            is_there.eq(~is_admitted & ~(self._is_writing & ~self._drops & (self._slot == slot)
                                         & (self._written <= index))),
            fetches.eq(is_busy & is_there & fetched_free),
            is_last.eq(left <= self.width),
            port.addr.eq(Cat(index, slot)),
            port.en.eq(fetched_free),
            error.addr.eq(fetched.slot),
            ends.eq(~is_busy | fetches & is_last),
        ]
        command = self._next_command(m, ends)
        with m.If(fetches):
            m.d.sync += [index.eq(index + 1), left.eq(left - self.width)]
        with m.If(ends):
            m.d.sync += [
                is_busy.eq(command.valid & (command.payload.size != 0)),
                slot.eq(command.payload.slot), left.eq(command.payload.size), index.eq(0),
            ]
        with m.If(fetched_free):
            m.d.sync += [
                is_fetched.eq(fetches),
                fetched.slot.eq(slot), fetched.last.eq(is_last), fetched.count.eq(Mux(is_last, left, self.width)),
            ]
        m.d.comb += [
            last.i.valid.eq(is_fetched),
            last.i.payload.data.eq(port.data),
            last.i.payload.count.eq(fetched.count),
            last.i.payload.last.eq(fetched.last),
            last.i.payload.error.eq(fetched.last & error.data),
        ]

    def _next_command(self, m, ends):
        """The next read, in the cycle in which it is asked for. One that comes while another is under way is held, as
        it is known late in a cycle whether that ends.
        """
        held, command = Signal(self.read.payload.shape()), stream.Signature(self.read.payload.shape()).create()
        is_held = Signal()
        m.d.comb += [
            self.read.ready.eq(~is_held),
            command.valid.eq(is_held | self.read.valid),
            command.payload.eq(Mux(is_held, held, self.read.payload)),
        ]
        m.d.sync += is_held.eq(command.valid & ~ends)
        with m.If(~is_held):
            m.d.sync += held.eq(self.read.payload)
        return command
