# SPDX-License-Identifier: Apache-2.0
"""Frames are stored, get their checksums, and leave."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.pisa.checksum import delayed
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.zeronic.records import FLOW_BITS, FRAME_MOST, LENGTH_BITS, check_width
from rackgate.zeronic.tx.merger import parts_layout
from rackgate.zeronic.tx.sums import Sums, sums_layout

__all__ = ["Assembler"]

#: Frames that may be stored.
_FRAMES = 16
#: Where in a frame the checksums are.
_PLACES = {"ipv4": 24, "tcp": 50}


class Assembler(wiring.Component):
    """Store each frame, then send it if it is good.

    A frame that ends in an error is forgotten, and those behind it up to the last of its command. There is room for two
    of the longest frames, or 16 shorter ones: a frame that has begun to leave never waits for its words.

    Timing: a word a cycle goes in and one leaves, and no cycle is between frames that are stored. The first word leaves
    ``latency`` cycles after the last one came: the least for which the checksums are there when their place comes.
    ``o`` comes from registers, ``i.ready`` does not depend on ``i.valid``. Reset forgets all frames, and cuts off the
    one that leaves.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Frames, joined (:func:`~rackgate.zeronic.tx.merger.parts_layout`).
    o:
        Frames, without padding and FCS.
    unsent:
        The flow of a command that was cut off.
    done:
        Strobe: the last frame of a command has been stored, or forgotten.
    bad_region:
        Strobe: a command is cut off because a region forbids it.
    sent, sent_bytes:
        Strobe: a frame has left; its size.
    idle:
        Nothing is stored, but perhaps a part of a frame.
    """

    i: stream.Interface
    o: stream.Interface
    unsent: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        self._sums = Sums(self.width)
        # A frame may begin when the later of its checksums will be there in time: the word at ``place`` is needed
        # 1 + place // width cycles after the frame's first read, the sums are there 1 + sums.latency after its end.
        self._wait = max(0, *(self._sums.latency - 1 - place // self.width for place in _PLACES.values()))
        self.latency = 3 + self._wait
        super().__init__({
            "i": In(stream.Signature(parts_layout(self.width))), "o": Out(PacketSignature(self.width)),
            "unsent": Out(stream.Signature(FLOW_BITS)),
            "done": Out(1), "bad_region": Out(1), "sent": Out(1), "sent_bytes": Out(LENGTH_BITS), "idle": Out(1),
        })
        depth = 2 * -(-FRAME_MOST // self.width) + 1
        self._memory = Memory(shape=8 * self.width, depth=depth, init=[])
        self._room, self._has_room = Signal(range(depth + 1), init=depth), Signal()
        self._stored = Signal(range(_FRAMES + 1))  # frames that have not left
        self._index_bits = LENGTH_BITS - exact_log2(self.width)  # of a word in its frame
        frame = data.StructLayout({"size": LENGTH_BITS, "last": self._index_bits, "offload": 1})
        self._frames = Queue(frame, depth=_FRAMES)
        self._checksums = Queue(sums_layout(), depth=_FRAMES)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.sums = self._memory, self._sums
        m.submodules.frames, m.submodules.checksums = self._frames, self._checksums
        stores, keeps, rewound, reads = Signal(), Signal(), Signal.like(self._room, init=0), Signal()
        self._store(m, stores, keeps, rewound)
        self._send(m, reads)
        m.d.sync += [
            self._room.eq(self._room - stores + reads + rewound),
            # Known a cycle ahead to keep the path short: of two places one is left, whatever happens now.
            self._has_room.eq(self._room >= 2),
            self._stored.eq(self._stored + keeps - self.sent),
            Assert(~stores | (self._room != 0), "a word for which there is no room"),
        ]
        m.d.comb += self.idle.eq((self._stored == 0) & ~self.o.valid)
        return m

    def _next(self, address):
        return Mux(address == self._memory.depth - 1, 0, address + 1)

    def _store(self, m, stores, keeps, rewound):
        """Words into the memory; at the end of a frame, keep it or go back to its first word."""
        word, write, sums = self.i.payload, self._memory.write_port(), self._sums
        start, size, total, is_cut = Signal.like(write.addr), Signal(LENGTH_BITS), Signal(LENGTH_BITS), Signal()
        address, index = Signal.like(write.addr), size >> exact_log2(self.width)  # words before the last one are full
        is_good = ~word.error & ~is_cut
        m.d.comb += [
            self.i.ready.eq(self._has_room & (self._stored != _FRAMES)
                            & ~(self.unsent.valid & word.last & word.error)),
            stores.eq(self.i.valid & self.i.ready),
            total.eq(size + word.count),
            write.addr.eq(address), write.data.eq(word.data), write.en.eq(stores),
            keeps.eq(stores & word.last & is_good), self.done.eq(stores & word.last & word.tag.last),
            sums.i.payload.eq(word), sums.i.valid.eq(stores),
        ]
        with m.If(self.unsent.ready):
            m.d.sync += self.unsent.valid.eq(0)
        with m.If(stores):
            m.d.sync += [address.eq(self._next(address)), size.eq(Mux(word.last, 0, total))]
            with m.If(word.last):
                m.d.sync += is_cut.eq((is_cut | word.error) & ~word.tag.last)
                with m.If(is_good):
                    m.d.sync += start.eq(self._next(address))
                with m.Else():
                    m.d.sync += address.eq(start)
                    m.d.comb += rewound.eq(index + 1)
                with m.If(word.error & ~is_cut):
                    m.d.comb += self.bad_region.eq(word.bad_region)
                    m.d.sync += [self.unsent.valid.eq(1), self.unsent.payload.eq(word.tag.flow)]

        frame = self._frames.i.payload
        m.d.comb += [
            self._frames.i.valid.eq(delayed(m, keeps, self._wait, "keeps")),
            frame.size.eq(delayed(m, total, self._wait, "size")),
            frame.last.eq(delayed(m, index, self._wait, "last")),
            frame.offload.eq(delayed(m, word.tag.offload, self._wait, "offload")),
            # Of the others none: a short one may leave before its sums would come.
            self._checksums.i.valid.eq(delayed(m, keeps & word.tag.offload, sums.latency, "summed")),
            self._checksums.i.payload.eq(sums.o.payload),
        ]
        m.d.sync += [
            Assert(~self._frames.i.valid | self._frames.i.ready, "a frame for which there is no room"),
            Assert(~self._checksums.i.valid | self._checksums.i.ready, "sums for which there is no room"),
            Assert(~self._checksums.i.valid | sums.o.valid, "a frame without sums"),
            Assert(~stores | word.last | (word.count == self.width), "a word within a frame is not full"),
        ]

    def _send(self, m, reads):
        """Read the oldest frame, and put its checksums into their places."""
        frames, read = self._frames.o, self._memory.read_port()
        moves, number, is_last = Signal(), Signal(self._index_bits), Signal()
        frame, address = frames.payload, Signal.like(read.addr)
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            is_last.eq(number == frame.last),
            read.addr.eq(address), read.en.eq(moves),
            reads.eq(frames.valid & moves), frames.ready.eq(moves & is_last),
        ]
        # While the word is being read: where in which frame it is.
        had, index, ends, was_read = Signal.like(frame), Signal.like(number), Signal(), Signal()
        with m.If(moves):
            m.d.sync += [had.eq(frame), index.eq(number), ends.eq(is_last), was_read.eq(frames.valid)]
        with m.If(reads):
            m.d.sync += [address.eq(self._next(address)), number.eq(Mux(is_last, 0, number + 1))]

        word, checksums, size = Signal(8 * self.width), self._checksums.o, Signal(LENGTH_BITS)
        m.d.comb += [word.eq(read.data), checksums.ready.eq(moves & was_read & ends & had.offload)]
        for name, place in _PLACES.items():
            with m.If(had.offload & (index == place // self.width)):
                value = checksums.payload[name]
                for lane, byte in enumerate((value[8:], value[:8]), place % self.width):
                    m.d.comb += word.word_select(lane, 8).eq(byte)
                m.d.sync += Assert(~was_read | checksums.valid, "a frame leaves before its checksums are there")
        out = self.o.payload
        with m.If(moves):
            m.d.sync += [
                self.o.valid.eq(was_read), out.data.eq(word), out.last.eq(ends), size.eq(had.size),
                out.count.eq(Mux(ends, ((had.size - 1) % self.width) + 1, self.width)),
            ]
        m.d.comb += [self.sent.eq(self.o.valid & self.o.ready & out.last), self.sent_bytes.eq(size)]
