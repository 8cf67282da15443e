# SPDX-License-Identifier: Apache-2.0
"""The station's own frames."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.net.headers import ETHER_TYPE_IPV4, PROTOCOL_UDP
from rackgate.net.station.answers import Answer
from rackgate.net.station.records import (
    ETHER_TYPE_ARP,
    IPV4_SIZE,
    PARCEL_WIDTH,
    PROTOCOL_ICMP,
    UDP_SIZE,
    Address,
    Kind,
    Peer,
    wire_bytes,
)
from rackgate.stream.packet import PacketSignature

__all__ = ["Sender"]

#: The two words of an IPv4 header that are always the same, but for the protocol: no options, no fragments, 64 hops.
_VERSION, _DONT_FRAGMENT, _HOPS = 0x4500, 0x4000, 64
#: Cycles that the checksums take.
_STEPS = 13
#: Words of the header of an echo reply, and of others: of the last, half belongs to it.
_ECHO_BEATS, _OTHER_BEATS = 10, 11
#: What a checksum of ICMP changes by, when an echo request (type 8) becomes a reply (type 0): RFC 1624.
_ECHO_DIFFERENCE = 0x0800


class Sender(wiring.Component):
    """Make frames of requests, and of the bridge's answers (RFC 826, RFC 791, RFC 792, RFC 768; RFC 1122 3.2.2.6).

    An ARP request gets a reply, an echo request one with the same data, and an answer goes as a UDP datagram with its
    checksum. The two sources take turns.

    A word a cycle, the first some 15 cycles after a frame's source is there. ``o`` comes from registers. Reset cuts off
    the frame under way, and expects the begin of a parcel.

    Members
    -------
    address:
        Who the station is.
    i_reply:
        Parcels of requests.
    record, words:
        Answers, as :class:`~.answers.AnswerStore` has them.
    o:
        Frames without padding and FCS.
    sent:
        Strobes, a bit for each :class:`~.records.Kind`: a frame begins.
    """

    address: In(Address)
    i_reply: In(PacketSignature(PARCEL_WIDTH))
    record: In(stream.Signature(Answer))
    words: In(PacketSignature(PARCEL_WIDTH))
    o: Out(PacketSignature(PARCEL_WIDTH))
    sent: Out(3)

    def __init__(self):
        super().__init__()
        self._kind, self._peer = Signal(Kind), Signal(Peer)
        # Bytes behind the IPv4 header; checksum of a request, or sum of an answer's words.
        self._length, self._sum = Signal(16), Signal(16)
        self._header_sum, self._content_sum = Signal(17), Signal(17)

    def elaborate(self, platform):
        m = Module()
        step, carry, was_answer = Signal(4), Signal(16), Signal()
        is_echo, is_arp, is_answer = self._kind == Kind.ECHO, self._kind == Kind.ARP, self._kind == Kind.MESSAGE
        moves, out = Signal(), self.o.payload
        word, has_word, is_tail = Signal(self.words.payload.shape()), Signal(), Signal()
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            word.eq(Mux(is_answer, self.words.payload, self.i_reply.payload)),
            has_word.eq(Mux(is_answer, self.words.valid, self.i_reply.valid)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += step.eq(0)
                m.d.comb += self.record.ready.eq(~self.i_reply.valid | ~was_answer)
                with m.If(self.record.valid & self.record.ready):
                    found = self.record.payload
                    m.d.sync += [
                        self._kind.eq(Kind.MESSAGE), self._peer.eq(found.peer), self._sum.eq(found.sum),
                        self._length.eq(found.length + UDP_SIZE), was_answer.eq(1),
                    ]
                    m.next = "SUM"
                with m.Elif(self.i_reply.valid):
                    m.d.sync += was_answer.eq(0)
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.i_reply.ready.eq(1)
                about = Cat(self._peer, self._sum, self._length)
                with m.If(self.i_reply.valid):
                    m.d.sync += [about.word_select(step[:2], 32).eq(self.i_reply.payload.data), step.eq(step + 1)]
                    with m.If(step == 3):
                        m.d.sync += [step.eq(0), self._kind.eq(self._peer.port)]
                        m.next = "SUM"
            with m.State("SUM"):
                self._add_up(m, step)
                m.d.sync += step.eq(step + 1)
                with m.If(step == _STEPS - 1):
                    m.d.sync += step.eq(0)
                    m.d.comb += [self.sent[kind.value].eq(self._kind == kind) for kind in Kind]
                    m.next = "HEADER"
            with m.State("HEADER"):
                with m.If(moves):
                    is_end = step == Mux(is_echo, _ECHO_BEATS, _OTHER_BEATS) - 1
                    content = Cat(*self._header(), Const(0, 16)).word_select(step, 32)
                    m.d.sync += [step.eq(step + 1), out.data.eq(content), carry.eq(content[:16])]
                    m.d.sync += [self.o.valid.eq(~is_end | is_arp), out.count.eq(Mux(is_end, 2, 4)),
                                 out.last.eq(is_end), out.error.eq(0)]
                    with m.If(is_end):
                        m.d.sync += step.eq(0)
                        m.next = "PAYLOAD"
                        with m.If(is_arp):
                            m.next = "IDLE"
            with m.State("PAYLOAD"):
                with m.If(moves & is_tail):
                    m.d.sync += [self.o.valid.eq(1), out.data.eq(carry), out.count.eq(step), out.last.eq(1),
                                 is_tail.eq(0)]
                    m.next = "IDLE"
                with m.Elif(moves):
                    m.d.comb += [self.words.ready.eq(is_answer), self.i_reply.ready.eq(~is_answer)]
                    fits = word.count <= 2
                    with m.If(has_word):
                        m.d.sync += [
                            self.o.valid.eq(1), out.data.eq(Cat(carry, word.data[:16])), carry.eq(word.data[16:]),
                            out.count.eq(Mux(fits, word.count + 2, 4)), out.last.eq(word.last & fits),
                            is_tail.eq(word.last & ~fits), step.eq(word.count - 2),
                        ]
                        with m.If(word.last & fits):
                            m.next = "IDLE"
        return m

    def _add_up(self, m, step):
        """A word a cycle, to the checksum of the IPv4 header, to that of what is behind it, or to both.

        UDP's length is in its header and in the pseudo-header. The last two cycles take the carries in.
        """
        own, peer, is_echo = self.address, self._peer, self._kind == Kind.ECHO
        constant = _VERSION + _DONT_FRAGMENT + (_HOPS << 8) + IPV4_SIZE
        is_udp, item = ~is_echo, Signal(16)
        in_header, in_content = Signal(), Signal()
        items = [
            (constant + Mux(is_echo, PROTOCOL_ICMP, PROTOCOL_UDP), 1, 0), (self._length, 1, is_udp),
            (self._length, 0, is_udp), (self._sum, 0, 1), (Mux(is_echo, _ECHO_DIFFERENCE, PROTOCOL_UDP), 0, 1),
            *((word, 1, is_udp) for word in (own.address[16:], own.address[:16], peer.address[16:], peer.address[:16])),
            (own.port, 0, is_udp), (peer.port, 0, is_udp),
        ]
        with m.Switch(step):
            for number, (value, is_in_header, is_in_content) in enumerate(items):
                with m.Case(number):
                    m.d.comb += [item.eq(value), in_header.eq(is_in_header), in_content.eq(is_in_content)]
        for total, takes in ((self._header_sum, in_header), (self._content_sum, in_content)):
            m.d.sync += total.eq(Mux(step == 0, 0, total[:16] + total[16]) + Mux(takes, item, 0))

    def _header(self):
        """Bytes before the payload in the order of the wire, up to the end of ARP and of UDP's header."""
        own, peer = self.address, self._peer
        is_arp, is_echo = self._kind == Kind.ARP, self._kind == Kind.ECHO
        own_mac, own_address = wire_bytes(own.mac, 6), wire_bytes(own.address, 4)
        peer_mac, peer_address = wire_bytes(peer.mac, 6), wire_bytes(peer.address, 4)
        content_checksum = self._content_sum[:16]
        udp_checksum = Mux(content_checksum == 0xFFFF, 0xFFFF, ~content_checksum)  # 0 would say that there is none

        def number(value, size=2):
            return wire_bytes(Const(value, 8 * size), size)

        def choice(condition, one, other):
            return [Mux(condition, first, second) for first, second in zip(one, other, strict=True)]

        arp = [*number(1), *number(ETHER_TYPE_IPV4), *number(0x0604), *number(2), *own_mac, *own_address, *peer_mac,
               *peer_address]
        udp = [own.port, peer.port, self._length, udp_checksum]
        behind = [byte for field in udp for byte in wire_bytes(field, 2)]
        behind[:4] = choice(is_echo, [*number(0), *wire_bytes(content_checksum, 2)], behind[:4])
        ipv4 = [*number(_VERSION), *wire_bytes((self._length + IPV4_SIZE)[:16], 2), *number(0), *number(_DONT_FRAGMENT),
                Const(_HOPS, 8), Mux(is_echo, Const(PROTOCOL_ICMP, 8), Const(PROTOCOL_UDP, 8)),
                *wire_bytes(~self._header_sum[:16], 2), *own_address, *peer_address, *behind]
        return [*peer_mac, *own_mac, *choice(is_arp, number(ETHER_TYPE_ARP), number(ETHER_TYPE_IPV4)),
                *choice(is_arp, arp, ipv4)]
