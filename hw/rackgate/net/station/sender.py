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
_STEPS = 12
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
                    header = self._header()
                    ends = {kind: len(header[kind]) // 4 for kind in Kind}
                    is_end = step == Mux(is_echo, ends[Kind.ECHO], ends[Kind.MESSAGE])
                    m.d.sync += step.eq(step + 1)
                    for kind, content in header.items():
                        with m.If(self._kind == kind):
                            whole = Cat(content, Const(0, 16))
                            m.d.sync += [out.data.eq(whole.word_select(step, 32)), carry.eq(Cat(content[-2:]))]
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
        """A word to each checksum a cycle; the last two cycles take the carries in."""
        own, peer, is_echo = self.address, self._peer, self._kind == Kind.ECHO
        header = [
            _VERSION, _DONT_FRAGMENT, _HOPS << 8 | Mux(is_echo, PROTOCOL_ICMP, PROTOCOL_UDP), self._length + IPV4_SIZE,
            own.address[16:], own.address[:16], peer.address[16:], peer.address[:16], 0, 0, 0, 0,
        ]
        # UDP's length is there twice: in its header, and in the pseudo-header.
        content = [
            self._sum, Mux(is_echo, _ECHO_DIFFERENCE, PROTOCOL_UDP), self._length, self._length,
            own.address[16:], own.address[:16], peer.address[16:], peer.address[:16], own.port, peer.port, 0, 0,
        ]
        content[2:10] = [Mux(is_echo, 0, item) for item in content[2:10]]
        for total, items in ((self._header_sum, header), (self._content_sum, content)):
            item = Signal(16)
            with m.Switch(step):
                for number, value in enumerate(items):
                    with m.Case(number):
                        m.d.comb += item.eq(value)
            m.d.sync += total.eq(Mux(step == 0, 0, total[:16] + total[16]) + item)

    def _header(self):
        """Bytes before the payload for each kind, in the order of the wire; two beyond whole words."""
        own, peer = self.address, self._peer
        own_mac, own_address = wire_bytes(own.mac, 6), wire_bytes(own.address, 4)
        peer_mac, peer_address = wire_bytes(peer.mac, 6), wire_bytes(peer.address, 4)

        def number(value, size=2):
            return wire_bytes(Const(value, 8 * size), size)

        def ipv4(protocol):
            length = (self._length + IPV4_SIZE)[:16]
            checksum = ~self._header_sum[:16]
            return [*peer_mac, *own_mac, *number(ETHER_TYPE_IPV4), *number(_VERSION), *wire_bytes(length, 2),
                    *number(0), *number(_DONT_FRAGMENT), *number(_HOPS << 8 | protocol), *wire_bytes(checksum, 2),
                    *own_address, *peer_address]

        checksum = ~self._content_sum[:16]
        udp_checksum = Mux(checksum == 0, 0xFFFF, checksum)
        return {
            Kind.ARP: [*peer_mac, *own_mac, *number(ETHER_TYPE_ARP), *number(1), *number(ETHER_TYPE_IPV4),
                       *number(0x0604), *number(2), *own_mac, *own_address, *peer_mac, *peer_address],
            Kind.ECHO: [*ipv4(PROTOCOL_ICMP), *number(0), *wire_bytes(self._content_sum[:16], 2)],
            Kind.MESSAGE: [*ipv4(PROTOCOL_UDP), *wire_bytes(own.port, 2), *wire_bytes(peer.port, 2),
                           *wire_bytes(self._length, 2), *wire_bytes(udp_checksum, 2)],
        }
