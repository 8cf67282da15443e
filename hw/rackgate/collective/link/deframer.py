# SPDX-License-Identifier: Apache-2.0
"""Frames from the network, taken apart and checked."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import HEADER_SIZE
from rackgate.collective.link.abi import FRAME_HEADER_SIZE, LINK_VERSION, MAC_PREFIX, LinkFlag
from rackgate.collective.link.frame import LINK_HEADER_SIZE, Arrival, LinkSettings, check_link_width, most_bytes
from rackgate.collective.packets.depacketizer import check_segment
from rackgate.net.headers import ETHER_TYPE_IPV4, PROTOCOL_UDP
from rackgate.pisa.checksum import WordSum
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue

__all__ = ["Deframer"]

#: Bytes before what the sum of IPv4 covers, before the addresses, and before the UDP header.
_IPV4, _ADDRESSES, _UDP = 14, 26, 34
_DEPTH = 8


class Deframer(wiring.Component):
    """Check a frame's headers, lengths and checksums, and hand on the words of the packet in it.

    A frame is for this node if its addresses, protocols, port, version and session (other than 0) are; it is good if
    its lengths and both checksums are too (UDP's must be there), and has a packet if it says so. Words are cut at the
    length in the UDP header; what is longer than any packet has none.

    A word a cycle. An arrival comes some 7 cycles after the frame's last word; the words come before it.
    ``i.ready`` depends on no input. Reset forgets the frame; the next word is taken for a frame's first.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8 or 16.
    segment:
        Payload bytes of the longest packet.

    Members
    -------
    i:
        Ethernet frames without FCS.
    node, settings:
        This node, and what the host has set.
    words:
        What is in the place of packets, good or not.
    o:
        Frames, in order.
    """

    def __init__(self, width: int = 8, *, segment: int = 1024):
        self.width, self.segment = check_link_width(width), check_segment(segment)
        super().__init__({
            "i": In(PacketSignature(self.width)),
            "node": In(4), "settings": In(LinkSettings),
            "words": Out(PacketSignature(self.width)),
            "o": Out(stream.Signature(Arrival, always_ready=True)),
        })
        self._beats = FRAME_HEADER_SIZE // self.width
        self._header = Signal(8 * FRAME_HEADER_SIZE)
        self._beat = Signal(range(self._beats + 1))
        # Bytes of the packet still to come; of a frame that is over, what was found: the frame's end lacks bytes, words
        # have been passed on, the frame is over.
        self._left, self._lacks, self._has_words, self._is_over = Signal(16), Signal(), Signal(), Signal()
        most = -(-(FRAME_HEADER_SIZE + most_bytes(self.segment)) // self.width)
        self._ipv4, self._udp = WordSum(self.width, most), WordSum(self.width, most)
        self._records = Queue(data.StructLayout({"arrival": Arrival, "length": 16}), depth=_DEPTH)

    def _field(self, offset, size):
        """``size`` bytes of the header, big endian."""
        return Cat(self._header[8 * k:8 * k + 8] for k in reversed(range(offset, offset + size)))

    def elaborate(self, platform):
        m = Module()
        m.submodules.ipv4, m.submodules.udp, m.submodules.records = self._ipv4, self._udp, self._records
        takes, in_header = Signal(), Signal()
        m.d.comb += [
            in_header.eq(self._beat != self._beats),
            self.i.ready.eq(self.words.ready & (self._records.level < _DEPTH - 1)),
            takes.eq(self.i.valid & self.i.ready),
        ]
        self._collect(m, takes, in_header)
        self._judge(m)
        self._join(m)
        return m

    def _collect(self, m, takes, in_header):
        """Words to their places, and into the sums."""
        word = self.i.payload
        length, packet, left, counted = Signal(16), Signal(16), Signal(16), Signal(self.width)
        is_first = Signal()  # first word behind the headers
        m.d.comb += [
            length.eq(self._field(38, 2)),
            packet.eq(length - (8 + LINK_HEADER_SIZE)),
            left.eq(Mux(is_first, Mux((length < 8 + LINK_HEADER_SIZE) | (packet > most_bytes(self.segment)), 0, packet),
                        self._left)),
            self.words.valid.eq(self.i.valid & (self._records.level < _DEPTH - 1) & ~in_header & (left != 0)),
            self.words.payload.data.eq(word.data),
            self.words.payload.last.eq(word.last | (left <= self.width)),
            self.words.payload.count.eq(Mux(left < word.count, left, word.count)),
            *(counted[k].eq((word.count > k) & (in_header | (left > k))) for k in range(self.width)),
        ]
        m.d.sync += self._is_over.eq(takes & word.last)
        with m.If(takes):
            with m.If(in_header):
                m.d.sync += [self._beat.eq(self._beat + 1), self._has_words.eq(0), is_first.eq(1)]
                with m.Switch(self._beat):
                    for number in range(self._beats):
                        with m.Case(number):
                            place = slice(8 * self.width * number, 8 * self.width * (number + 1))
                            m.d.sync += self._header[place].eq(word.data)
                m.d.sync += self._lacks.eq((self._beat != self._beats - 1) | (word.count != self.width) | word.error)
            with m.Else():
                m.d.sync += [
                    is_first.eq(0),
                    self._left.eq(Mux(left <= word.count, 0, left - word.count)),
                    self._has_words.eq(self._has_words | (left != 0)),
                    self._lacks.eq((left > word.count) | word.error),
                ]
            with m.If(word.last):
                m.d.sync += [self._beat.eq(0), is_first.eq(0)]
        for total, first, behind in ((self._ipv4, _IPV4, _UDP), (self._udp, _ADDRESSES, None)):
            m.d.comb += [total.i.valid.eq(takes), total.i.payload.last.eq(word.last)]
            for k in range(self.width):
                covered = Signal(name=f"covered_{first}_{k}")
                beats = [number for number in range(self._beats)
                         if first <= number * self.width + k < (behind or FRAME_HEADER_SIZE)]
                beats += [] if behind else [self._beats]
                with m.Switch(self._beat):
                    with m.Case(*beats):
                        m.d.comb += covered.eq(counted[k])
                m.d.comb += total.i.payload.data[8 * k:8 * k + 8].eq(Mux(covered, word.data[8 * k:8 * k + 8], 0))

    def _judge(self, m):
        """A frame is over: what its header says, but for the sums."""
        record, address = self._records.i.payload, self.settings.address
        found, length, flags = record.arrival, self._field(38, 2), self._field(43, 1)
        packet, has_packet = Signal(16), Signal()
        is_ours = [
            self._field(0, 5) == MAC_PREFIX, self._field(5, 1) == self.node,
            self._field(12, 2) == ETHER_TYPE_IPV4, self._field(14, 1) == 0x45,
            self._field(20, 2) & 0xBFFF == 0, self._field(23, 1) == PROTOCOL_UDP,
            self._field(26, 4)[4:] == address[4:], self._field(30, 4) == Cat(self.node, address[4:]),
            self._field(34, 2) == self.settings.port, self._field(36, 2) == self.settings.port,
            self._field(42, 1) == LINK_VERSION, flags[4:] == self.settings.session, self.settings.session != 0,
        ]
        m.d.comb += [
            packet.eq(length - (8 + LINK_HEADER_SIZE)),
            has_packet.eq(flags[LinkFlag.PACKET.bit_length() - 1]),
            found.is_foreign.eq(~Cat(is_ours).all()),
            found.is_damaged.eq(
                self._lacks | (self._field(16, 2) != length + 20) | (length < 8 + LINK_HEADER_SIZE)
                | (self._field(40, 2) == 0) | ((packet != 0) & ~self._has_words)
                | Mux(has_packet, packet < HEADER_SIZE, packet != 0)),
            found.has_words.eq(self._has_words),
            found.peer.eq(self._field(29, 1)), found.flags.eq(flags),
            found.sequence.eq(self._field(44, 2)), found.acknowledgement.eq(self._field(46, 2)),
            record.length.eq(length),
            self._records.i.valid.eq(self._is_over),
        ]

    def _join(self, m):
        """The sums are there: they come in order, as the records do."""
        record, total, folded = self._records.o.payload, Signal(18), Signal(17)
        arrival, is_there, is_wrong, has_sum = Signal(Arrival), Signal(), Signal(), Signal()
        # The pseudo-header's addresses are in the sum already; its protocol and length are not.
        m.d.comb += [has_sum.eq(self._udp.o.valid), self._records.o.ready.eq(has_sum)]
        m.d.sync += [
            total.eq(self._udp.o.payload + record.length + PROTOCOL_UDP),
            arrival.eq(record.arrival), is_there.eq(has_sum), is_wrong.eq(self._ipv4.o.payload != 0xFFFF),
        ]
        m.d.comb += folded.eq(total[:16] + total[16:])
        m.d.sync += [
            self.o.valid.eq(is_there),
            self.o.payload.eq(arrival),
            self.o.payload.is_damaged.eq(arrival.is_damaged | is_wrong | (folded != 0xFFFF)),
        ]
