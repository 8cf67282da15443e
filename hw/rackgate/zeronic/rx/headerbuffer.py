# SPDX-License-Identifier: Apache-2.0
"""The headers of the frames that are in the frame buffer."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rackgate.dma.packer import Packer
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.zeronic.abi import ETHERNET_SIZE, HEADER_MOST
from rackgate.zeronic.rx.records import HEADERS_BITS

__all__ = ["HeaderBuffer", "header_words"]

#: Ranges on their way from the memory to the packer.
_RANGES = 4


def header_words(width: int) -> int:
    """Words of ``width`` bytes that the longest headers of a frame take."""
    return -(-HEADER_MOST // width)


class HeaderBuffer(wiring.Component):
    """Keep the first words of each frame, so that reading headers costs the frame buffer nothing.

    It is written in step with the frame buffer, whose streams ``write`` and ``judged`` it shares. Each frame has a
    slot; the slot of a frame that is dropped is a hole, freed with the ones around it.

    Headers of n packed words take n cycles, or n + 1, without a gap between frames; the first word leaves 4 cycles
    after ``read``. A frame of which nothing is wanted takes a cycle. ``write.ready`` comes from registers;
    ``read.ready`` depends combinationally on ``o.ready``. Reset forgets all frames.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.
    slots:
        Frames that fit, a power of two from 2 on.

    Members
    -------
    write:
        Words of frames, ``last`` on each one's last.
    judged:
        Whether the oldest frame that is written and not judged is to be kept.
    read:
        One for each frame that is kept, in order: whether its headers are ``wanted``, and the place of their ``end``,
        the last byte, from Ethernet's first on, which is left out. The slot is free then.
    o:
        What is wanted, as packets.
    """

    write: stream.Interface
    judged: stream.Interface
    read: stream.Interface
    o: stream.Interface

    def __init__(self, width, *, slots=64):
        self.width, self.slots = operator.index(width), operator.index(slots)
        if self.slots < 2 or self.slots & self.slots - 1:
            raise ValueError(f"slots must be a power of two from 2 on, not {slots}")
        super().__init__({
            "write": In(stream.Signature(data.StructLayout({"data": 8 * self.width, "last": 1}))),
            "judged": In(stream.Signature(data.StructLayout({"keep": 1}), always_ready=True)),
            "read": In(stream.Signature(data.StructLayout({"wanted": 1, "end": HEADERS_BITS}))),
            "o": Out(PacketSignature(self.width)),
        })
        bits = exact_log2(self.slots)
        # Slots in use: from ``oldest`` to before ``filling``, one more bit than needed to tell full from empty.
        self._filling, self._judging, self._oldest = (Signal(bits + 1, name=name) for name in (
            "filling", "judging", "oldest"))
        self._kept = Queue(bits, depth=self.slots, block_ram=False)
        self._has_room = Signal(init=1)  # a slot is free

    def elaborate(self, platform):
        m = Module()
        words = header_words(self.width)
        m.submodules.kept = self._kept
        m.submodules.memory = memory = Memory(shape=8 * self.width, depth=self.slots << ceil_log2(words), init=[])
        self._store(m, memory.write_port(), words)
        self._fetch(m, memory.read_port())
        return m

    def _store(self, m, port, words):
        index, puts, used = Signal(range(words + 1)), Signal(), Signal.like(self._filling)
        m.d.comb += [
            self.write.ready.eq(self._has_room),
            puts.eq(self.write.valid & self.write.ready),
            used.eq(self._filling - self._oldest),
            port.addr.eq(Cat(index[:ceil_log2(words)], self._filling[:-1])),
            port.data.eq(self.write.payload.data),
            port.en.eq(puts & (index != words)),
            self._kept.i.payload.eq(self._judging[:-1]),
            self._kept.i.valid.eq(self.judged.valid & self.judged.payload.keep),
        ]
        # Known a cycle ahead to keep the path short.
        m.d.sync += self._has_room.eq((used < self.slots - 1)
                                      | (used == self.slots - 1) & ~(puts & self.write.payload.last))
        with m.If(puts):
            m.d.sync += index.eq(Mux(self.write.payload.last, 0, Mux(index == words, words, index + 1)))
            m.d.sync += self._filling.eq(self._filling + self.write.payload.last)
        with m.If(self.judged.valid):
            m.d.sync += [
                self._judging.eq(self._judging + 1),
                Assert(self._judging != self._filling, "a frame is judged that is not there"),
            ]

    def _fetch(self, m, port):
        """Words from the memory, then packed without Ethernet's header."""
        m.submodules.packer = packer = Packer(self.width, tag=0)
        m.submodules.ends = ends = Queue(exact_log2(self.width), depth=_RANGES, block_ram=False)
        index = Signal(ceil_log2(header_words(self.width)), init=ETHERNET_SIZE // self.width)
        can_fetch, fetches, is_first, is_last = Signal(), Signal(), Signal(init=1), Signal()
        m.d.comb += [
            is_last.eq(index == self.read.payload.end >> exact_log2(self.width)),
            can_fetch.eq((~packer.i.valid | packer.i.ready) & ends.i.ready & self._kept.o.valid),
            fetches.eq(self.read.valid & self.read.payload.wanted & can_fetch),
            self.read.ready.eq(can_fetch & (~self.read.payload.wanted | is_last)),
            self._kept.o.ready.eq(self.read.valid & self.read.ready),
            port.addr.eq(Cat(index, self._kept.o.payload)),
            port.en.eq(fetches),
            packer.i.payload.data.eq(port.data),
            ends.i.payload.eq(self.read.payload.end),
            ends.i.valid.eq(fetches & is_first),
            packer.plans.valid.eq(ends.o.valid),
            packer.plans.payload.shift.eq(ETHERNET_SIZE),
            packer.plans.payload.end.eq(ends.o.payload),
            ends.o.ready.eq(packer.plans.ready),
            self.o.valid.eq(packer.o.valid),
            *(self.o.payload[name].eq(packer.o.payload[name]) for name in ("data", "count", "last")),
            packer.o.ready.eq(self.o.ready),
        ]
        with m.If(~packer.i.valid | packer.i.ready):
            m.d.sync += [packer.i.valid.eq(fetches), packer.i.payload.last.eq(is_last)]
        with m.If(fetches):
            m.d.sync += [
                is_first.eq(is_last),
                index.eq(Mux(is_last, ETHERNET_SIZE // self.width, index + 1)),
            ]
        with m.If(self._kept.o.valid & self._kept.o.ready):
            # Not from ``oldest``: holes before it go, too.
            distance = Signal(exact_log2(self.slots))
            m.d.comb += distance.eq(self._kept.o.payload - self._oldest[:-1])
            m.d.sync += self._oldest.eq(self._oldest + distance + 1)
        with m.Elif(~self._kept.o.valid & ~self._kept.i.valid):
            m.d.sync += self._oldest.eq(self._judging)
