# SPDX-License-Identifier: Apache-2.0
"""Packets from the link, taken apart and checked."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collective.abi import COMMUNICATORS, HEADER_SIZE, NODES, VERSION, PacketType
from rackgate.collective.packets.header import CRC_INITIAL, WireHeader, crc16_step
from rackgate.collective.packets.trimmer import Trimmer, TrimOrder
from rackgate.collective.records import SIZE_BITS, HeaderFields
from rackgate.stream.packet import PacketSignature, packet_layout
from rackgate.stream.queue import Queue

__all__ = ["SEGMENTS", "WIDTHS", "Depacketizer", "check_segment", "check_width"]

#: Legal widths of the engine's data path, in bytes.
WIDTHS = (4, 8, 16, 32, 64)
#: Legal payloads of the largest packet, in bytes.
SEGMENTS = (256, 512, 1024, 2048, 4096)
_LENGTH, _OFFSET = (WireHeader.as_shape()[name].offset for name in ("length", "offset"))  # bits


def check_width(width: int) -> int:
    """The width; raises ValueError if it is not one of :data:`WIDTHS`."""
    if operator.index(width) not in WIDTHS:
        raise ValueError(f"width must be one of {WIDTHS} bytes, not {width}")
    return operator.index(width)


def check_segment(segment: int) -> int:
    """The segment; raises ValueError if it is not one of :data:`SEGMENTS`."""
    if operator.index(segment) not in SEGMENTS:
        raise ValueError(f"segment must be one of {SEGMENTS} bytes, not {segment}")
    return operator.index(segment)


class Depacketizer(wiring.Component):
    """Check the headers of packets, and give out those that are good, and their payloads.

    A header is good if its CRC, version, type, destination, source and communicator are, its offset is not above the
    length, and it is the next one of its source: packets of each source are numbered, and one that comes twice, or
    behind one that is lost, is dropped. Dropped packets leave nothing but a strobe.

    ``header.size`` follows from the header alone (``segment``, or less at the message's end), and the payload is
    cut or padded to it; then its last word has ``error``. Packets that are no DATA have none.

    Headers leave 2 cycles after their last word came, payload words 3 cycles after they came, each of both in order.
    A word a cycle; a header that stands alone takes 1 cycle more. ``i.ready`` depends on no input. A header
    that is not taken stops the link after the payload behind it, if that is short, or with it: up to 8 words of payload
    are kept. Reset forgets everything; sources then begin with sequence 0.

    Parameters
    ----------
    width:
        Bytes of a word: 4 to 64.
    segment:
        Payload bytes of the largest packet.

    Members
    -------
    i:
        Packets. At a width of 64 the header is padded to a word.
    node:
        Number of this node.
    header:
        Good headers; ``node`` in them is the source.
    o:
        Payloads of good headers with a size, byte 0 first.
    received, received_size, bad_header, bad_sequence, bad_length:
        Strobes, once a packet: good header, and its size; otherwise dropped; dropped because of its sequence; payload
        damaged or of another length.
    """

    def __init__(self, width: int = 8, *, segment: int = 1024):
        self.width = check_width(width)
        self.segment = check_segment(segment)
        super().__init__({
            "i": In(PacketSignature(self.width)),
            "node": In(range(NODES)),
            "header": Out(stream.Signature(HeaderFields)),
            "o": Out(PacketSignature(self.width)),
            "received": Out(1), "received_size": Out(SIZE_BITS),
            "bad_header": Out(1), "bad_sequence": Out(1), "bad_length": Out(1),
        })
        self._wire = Signal(WireHeader)
        self._crc = Signal(16, init=CRC_INITIAL)
        self._is_whole = Signal()  # ``_wire`` is to be checked
        self._has_words = Signal()  # payload comes behind it
        self._is_damaged = Signal()  # the link says so
        self._left = Signal(33)  # length less offset
        self._sequences = Memory(shape=16, depth=NODES, init=[])  # expected of each source...
        self._is_known = Signal(NODES)  # ...if it is known: the memory keeps its contents in reset
        self._words = Queue(packet_layout(self.width), depth=8)
        self._orders = Queue(TrimOrder, depth=2)

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = self._words
        m.submodules.orders = self._orders
        m.submodules.trimmer = trimmer = Trimmer(self.width)
        wiring.connect(m, self._words.o, trimmer.i)
        wiring.connect(m, self._orders.o, trimmer.order)
        wiring.connect(m, trimmer.o, wiring.flipped(self.o))
        m.d.comb += self.bad_length.eq(trimmer.bad_length)

        is_short = Signal()
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += self.i.ready.eq(~self._is_whole)
                with m.If(self.i.valid & self.i.ready):
                    self._collect(m, is_short)
            with m.State("PAYLOAD"):
                m.d.comb += self.i.ready.eq(self._words.i.ready)
                with m.If(self.i.valid & self.i.ready & self.i.payload.last):
                    m.next = "HEADER"
                m.d.comb += self._words.i.valid.eq(self.i.valid)
        m.d.comb += self._words.i.payload.eq(self.i.payload)
        self._check(m, is_short)
        return m

    def _collect(self, m, is_short):
        """Put a word into its place in the header, and into the CRC; its own bytes come into it the other way round."""
        size = min(self.width, HEADER_SIZE)
        beats = HEADER_SIZE // size
        beat, word, content = Signal(range(beats)), self.i.payload, self.i.payload.data[:8 * size]
        is_last_beat = beat == beats - 1
        with m.Switch(beat):
            for number in range(beats):
                with m.Case(number):
                    first = 8 * size * number
                    m.d.sync += Value.cast(self._wire)[first:first + 8 * size].eq(content)
                    if 0 <= _OFFSET - first < 8 * size:
                        length = self._wire.length if _LENGTH < first else content[_LENGTH - first:][:32]
                        m.d.sync += self._left.eq(length - content[_OFFSET - first:][:32])
        swapped = Cat(content[:-16], content[-8:], content[-16:-8])
        before = Mux(beat == 0, CRC_INITIAL, self._crc)
        m.d.sync += [
            beat.eq(beat + 1),
            self._crc.eq(crc16_step(before, Mux(is_last_beat, swapped, content))),
        ]
        with m.If(is_last_beat):
            m.d.sync += [
                beat.eq(0),
                self._is_whole.eq(1),
                self._has_words.eq(~word.last),
                self._is_damaged.eq(word.last & word.error),
            ]
            with m.If(~word.last):
                m.next = "PAYLOAD"
        with m.If(word.last & (~is_last_beat | (word.count < size))):
            m.d.comb += is_short.eq(1)
            m.d.sync += [beat.eq(0), self._is_whole.eq(0)]

    def _check(self, m, is_short):
        """Decide on the header in ``_wire``, when what follows from it has a place."""
        wire, header, order = self._wire, self.header.payload, self._orders.i.payload
        is_legal, is_next, decides, left = Signal(), Signal(), Signal(), self._left
        size, is_good = Signal(SIZE_BITS), Signal()
        accept = self._sequence(m, wire.source[:exact_log2(NODES)], wire.sequence, is_next)
        m.d.comb += [
            is_legal.eq((self._crc == 0) & (wire.version == VERSION) & (wire.type <= max(PacketType))
                        & (wire.destination == self.node) & (wire.source < NODES)
                        & (wire.communicator < COMMUNICATORS) & ~left[32] & ~self._is_damaged),
            is_good.eq(is_legal & is_next),
            size.eq(Mux(left >= self.segment, self.segment, left)),
            decides.eq(self._is_whole & self._orders.i.ready & (~self.header.valid | self.header.ready)),
            accept.eq(decides & is_good),
            order.drop.eq(~is_good),
            order.has_words.eq(self._has_words),
            self._orders.i.valid.eq(decides & (self._has_words | is_good & (order.size != 0))),
            self.received.eq(accept),
            self.received_size.eq(order.size),
            self.bad_header.eq(is_short | decides & ~is_legal),
            self.bad_sequence.eq(decides & is_legal & ~is_next),
        ]
        with m.If(wire.type == PacketType.DATA):  # for what is dropped it does not count, as that is known late
            m.d.comb += order.size.eq(size)
        with m.If(self.header.ready):
            m.d.sync += self.header.valid.eq(0)
        with m.If(decides):
            same = ("type", "flags", "communicator", "credit", "operation", "tag", "length", "offset", "element",
                    "handle")
            m.d.sync += [
                self._is_whole.eq(0),
                self.header.valid.eq(is_good),
                *(header[name].eq(wire[name]) for name in same),
                header.node.eq(wire.source),
                header.size.eq(order.size),
            ]

    def _sequence(self, m, source, sequence, is_next):
        """Whether ``sequence`` is the one that is expected of the source; returns a strobe that it has come."""
        m.submodules.sequences = self._sequences
        read, write, accept = self._sequences.read_port(domain="comb"), self._sequences.write_port(), Signal()
        m.d.comb += [
            read.addr.eq(source),
            is_next.eq(Mux(self._is_known.bit_select(source, 1), read.data == sequence, sequence == 0)),
            write.addr.eq(source),
            write.data.eq(sequence + 1),
            write.en.eq(accept),
        ]
        with m.If(accept):
            m.d.sync += self._is_known.bit_select(source, 1).eq(1)
        return accept
