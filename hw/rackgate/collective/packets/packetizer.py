# SPDX-License-Identifier: Apache-2.0
"""Packets for the link, put together from headers and payloads."""

import functools
import operator

from amaranth.hdl import Array, Assert, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import HEADER_SIZE, NODES, PacketType
from rackgate.collective.packets.depacketizer import check_width
from rackgate.collective.packets.header import CRC_BEFORE_PADDING, CRC_PADDING, WireHeader, crc16_step, fill_header
from rackgate.collective.records import SIZE_BITS, HeaderFields
from rackgate.stream.packet import PacketSignature

__all__ = ["Packetizer"]


class Packetizer(wiring.Component):
    """Send the packets of several sources, in turns, each whole.

    A packet begins when its header and its first word (if it has any) are there, and then its words follow as they
    come; a source whose words are not there yet holds nobody up. After a packet of source k the sources are asked in
    the order k+1, ..., k. The header gets this node's number, a sequence number that counts the packets to its
    destination, and the CRC, which is computed a word at a time while the header leaves.

    Timing: the first word is at ``o`` 2 cycles after header and first word came. Nothing is between two packets if the
    next one's header came 2 cycles before the end of the last, and its first word with that end; between bare
    headers on a link as wide as a header there is a cycle. ``o`` comes from registers. ``payload[k].ready`` depends
    combinationally on ``o.ready``, ``header[k].ready`` also on the ``valid`` of both. Reset cuts off the packet under
    way, and numbers begin at 0.

    Parameters
    ----------
    width:
        Bytes of a word: 4 to 64. At 64 the header is padded to a word.
    n:
        Number of sources, 1 to 8.

    Members
    -------
    header:
        Array of the sources' headers; ``node`` is the destination. Taken when the packet begins.
    payload:
        Array of their payloads, for headers with a size, exactly as long.
    node:
        Number of this node.
    o:
        Packets.
    sent, sent_size, sent_credit, sent_clear:
        Strobe: a packet begins; the size of its payload; it is of type CREDIT, or CLEAR_TO_SEND.
    """

    def __init__(self, width: int = 8, n: int = 1):
        self.width = check_width(width)
        self.n = operator.index(n)
        if not 1 <= self.n <= 8:
            raise ValueError(f"n must be 1 to 8, not {n}")
        super().__init__({
            "header": In(stream.Signature(HeaderFields)).array(self.n),
            "payload": In(PacketSignature(self.width)).array(self.n),
            "node": In(range(NODES)),
            "o": Out(PacketSignature(self.width)),
            "sent": Out(1), "sent_size": Out(SIZE_BITS), "sent_credit": Out(1), "sent_clear": Out(1),
        })
        self._size = min(self.width, HEADER_SIZE)  # bytes of a header's word
        self._beats = HEADER_SIZE // self._size
        # The header of the packet that comes next, and the source it is from, whose header has not been taken yet.
        self._next = Signal(data.StructLayout({"source": range(self.n), "sequence": 16, "header": HeaderFields}))
        self._has_next = Signal()
        # Of the packet under way; of the last one when there is none.
        self._source = Signal(range(self.n), init=self.n - 1)
        self._beat = Signal(range(self._beats + 1))

    def elaborate(self, platform):
        m = Module()
        in_payload, begins, ends_header = Signal(), Signal(), Signal()
        moves, can_begin = Signal(), Signal()
        header, payloads = self._next.header, Array(self.payload)
        payload = payloads[self._source]
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            can_begin.eq(self._has_next & ((header.size == 0) | payloads[self._next.source].valid)),
            self.sent.eq(begins),
            self.sent_size.eq(header.size),
            self.sent_credit.eq(header.type == PacketType.CREDIT),
            self.sent_clear.eq(header.type == PacketType.CLEAR_TO_SEND),
        ]
        with m.If(moves):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM():
            with m.State("HEADER"):
                with m.If(moves & ((self._beat != 0) | can_begin)):
                    m.d.comb += [
                        begins.eq(self._beat == 0),
                        ends_header.eq(self._beat == self._beats - 1),
                    ]
                    m.d.sync += [self.o.valid.eq(1), self._beat.eq(self._beat + 1)]
                    with m.If(ends_header):
                        m.d.sync += self._beat.eq(0)
                        with m.If(header.size != 0):
                            m.next = "PAYLOAD"
                self._emit(m, moves, ends_header)
            with m.State("PAYLOAD"):
                m.d.comb += [in_payload.eq(1), payload.ready.eq(moves)]
                with m.If(moves):
                    m.d.sync += [self.o.valid.eq(payload.valid), self.o.payload.eq(payload.payload)]
                    with m.If(payload.valid & payload.payload.last):
                        m.next = "HEADER"
        for k in range(self.n):
            m.d.comb += self.header[k].ready.eq(begins & (self._next.source == k))
        with m.If(begins):
            m.d.sync += self._source.eq(self._next.source)
        self._choose(m, in_payload, begins, ends_header, can_begin)
        self._check(m, payload)
        return m

    def _emit(self, m, moves, ends_header):
        """A word of the header, and the CRC over it: in the last word it is that of the word itself."""
        wire, crc, through = Signal(WireHeader), Signal(16), Signal(16)
        content, padded = Signal(8 * self._size), Signal(8 * self._size)
        m.d.comb += fill_header(wire, self._next.header, source=self.node, sequence=self._next.sequence)
        shifted = Value.cast(wire).shift_left(8 * CRC_PADDING)
        with m.Switch(self._beat):
            for number in range(self._beats):
                part = slice(8 * self._size * number, 8 * self._size * (number + 1))
                with m.Case(number):
                    m.d.comb += [content.eq(Value.cast(wire)[part]), padded.eq(shifted[part])]
        m.d.comb += through.eq(crc16_step(Mux(self._beat == 0, CRC_BEFORE_PADDING, crc), padded))
        with m.If(moves):
            m.d.sync += [
                crc.eq(through),
                self.o.payload.data.eq(content),
                self.o.payload.count.eq(self.width),
                self.o.payload.last.eq(ends_header & (self._next.header.size == 0)),
                self.o.payload.error.eq(0),
            ]
            with m.If(ends_header):
                m.d.sync += self.o.payload.data[8 * self._size - 16:8 * self._size].eq(through)

    def _choose(self, m, in_payload, begins, ends_header, can_begin):
        """Which packet comes next. Until it begins it gives way to another that could begin before it."""
        looks_ready, choice, is_ready = Signal(self.n), Signal(range(self.n)), Signal()
        for k in range(self.n):
            # What comes behind the words under way is not known: hope.
            words = self.payload[k].valid | (self.header[k].payload.size == 0) | in_payload & (self._source == k)
            m.d.comb += looks_ready[k].eq(self.header[k].valid & words)
        m.d.comb += is_ready.eq(looks_ready.any())
        with m.Switch(self._source):
            for last in range(self.n):
                with m.Case(last):
                    for distance in reversed(range(1, self.n + 1)):
                        with m.If(looks_ready[(last + distance) % self.n]):
                            m.d.comb += choice.eq((last + distance) % self.n)

        # By gates: behind a multiplexer Yosys sees that one is read at a time, and makes the three reads one, after the
        # choice.
        sequence = functools.reduce(operator.or_, (value & (choice == k).replicate(len(value))
                                                   for k, value in enumerate(self._sequences(m, begins))))
        # Another source goes before a second packet of the one under way.
        is_stuck = Mux(in_payload, (self._next.source == self._source) & (choice != self._source), ~can_begin)
        has_begun = (self._beat != 0) | begins
        with m.If(ends_header | ~has_begun & (~self._has_next | is_stuck)):
            # At the end of a header its own is still at the source if it began just now.
            is_same = begins & (choice == self._next.source)
            m.d.sync += self._has_next.eq(is_ready & ~is_same)
            m.d.sync += [
                self._next.header.eq(Array(self.header)[choice].payload),
                self._next.source.eq(choice),
                self._next.sequence.eq(sequence),
            ]

    def _sequences(self, m, begins):
        """Packets sent before to the node of each source's header: of all, as it is late when one has been chosen."""
        m.submodules.sequences = memory = Memory(shape=16, depth=NODES, init=[])
        is_known, write, found = Signal(NODES), memory.write_port(), []  # the memory keeps its contents in reset
        destination = self._next.header.node
        m.d.comb += [write.addr.eq(destination), write.data.eq(self._next.sequence + 1), write.en.eq(begins)]
        with m.If(begins):
            m.d.sync += is_known.bit_select(destination, 1).eq(1)
        for k, header in enumerate(self.header):
            node, sequence = header.payload.node, Signal(16, name=f"sequence_{k}")
            read = memory.read_port(domain="comb")
            m.d.comb += [read.addr.eq(node), sequence.eq(Mux(is_known.bit_select(node, 1), read.data, 0))]
            with m.If(begins & (node == destination)):
                m.d.comb += sequence.eq(write.data)
            found.append(sequence)
        return found

    def _check(self, m, payload):
        left = Signal(SIZE_BITS)
        word = payload.payload
        with m.If(self.sent):
            m.d.sync += left.eq(self.sent_size)
        with m.If(payload.valid & payload.ready):
            m.d.sync += [
                left.eq(left - word.count),
                Assert(word.last == (left == word.count), "a payload is not as long as its header says"),
                Assert(word.last | (word.count == self.width), "a word within a payload is not full"),
                Assert(left != 0, "a payload without a size"),
            ]
