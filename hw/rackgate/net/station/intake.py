# SPDX-License-Identifier: Apache-2.0
"""Frames for the station, checked and taken apart."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.net.headers import PROTOCOL_UDP
from rackgate.net.station.records import (
    ECHO_SIZE,
    ETHER_TYPE_ARP,
    IPV4_SIZE,
    PARCEL_WIDTH,
    PROTOCOL_ICMP,
    UDP_SIZE,
    Kind,
    Peer,
)
from rackgate.pisa.checksum import WordSum, swapped
from rackgate.stream.packet import PacketSignature, packet_layout

__all__ = ["Intake"]

#: Words before the last half that headers reach into: of ICMP, and of UDP and ARP.
_ECHO_BEATS, _OTHER_BEATS = 10, 11
#: Bytes of a frame before what is behind the IPv4 header.
_BEFORE_DATAGRAM = 34
#: Words of the longest frame.
_MOST = 2400


class Intake(wiring.Component):
    """Make parcels of the frames that a :class:`~.classifier.Classifier` has found to be for the station.

    A parcel (see :class:`~.records.Peer`) has ``error`` if the frame is damaged, the datagram longer than it, empty or
    of another length than UDP says, if a checksum is wrong (RFC 791 3.1, RFC 792, RFC 768; UDP's may be missing), or if
    the sender's MAC or IPv4 address is one of a group (RFC 1122 3.2.1.3). What is behind the datagram is padding, and
    is cut off. The sender of an ARP request is the one in the request.

    A word a cycle, and up to 14 cycles more for a frame. ``i.ready`` depends on no input. Reset forgets the frame under
    way, and expects the begin of one.

    Members
    -------
    i:
        Frames, all of them with 42 bytes or more.
    o_message, o_reply:
        Parcels of messages, and of requests for ARP and echo replies; they cannot be stalled.
    damaged:
        Strobe, with the last word of a parcel with ``error``.
    """

    i: In(PacketSignature(PARCEL_WIDTH))
    o_message: Out(stream.Signature(packet_layout(PARCEL_WIDTH), always_ready=True))
    o_reply: Out(stream.Signature(packet_layout(PARCEL_WIDTH), always_ready=True))
    damaged: Out(1)

    def __init__(self):
        super().__init__()
        self._kind, self._peer, self._beat = Signal(Kind), Signal(Peer), Signal(range(_OTHER_BEATS + 1))
        # Bytes behind IPv4's header; length that UDP says; checksum of UDP or ICMP.
        self._length, self._said, self._checksum = Signal(16), Signal(16), Signal(16)
        # Bytes behind IPv4's header that are not yet summed up, and those of the frame so far.
        self._left, self._size, self._is_damaged = Signal(16), Signal(16), Signal()
        # Half a word from before the one that comes, and bytes of payload from there on.
        self._carry, self._payload = Signal(16), Signal(16)
        # The parcel's word that waits until it is known whether it is the last.
        self._held, self._has_held = Signal(data.StructLayout({"data": 32, "count": 3})), Signal()
        self._pushes, self._ends = Signal(), Signal()
        self._sums = {name: WordSum(PARCEL_WIDTH, _MOST) for name in ("header", "content")}

    def elaborate(self, platform):
        m = Module()
        m.submodules += self._sums.values()
        takes, word, step, is_over = Signal(), self.i.payload, Signal(2), Signal()
        is_message = self._kind == Kind.MESSAGE
        last_beat = Mux(self._kind == Kind.ECHO, _ECHO_BEATS, _OTHER_BEATS) - 1
        m.d.comb += takes.eq(self.i.valid & self.i.ready)
        self._sum(m, takes)
        is_judged, is_bad = self._judge(m, takes)
        with m.If(takes):
            m.d.sync += [
                self._carry.eq(word.data[16:]), is_over.eq(word.last),
                self._beat.eq(Mux(word.last, 0, Mux(self._beat == _OTHER_BEATS, _OTHER_BEATS, self._beat + 1))),
            ]

        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(takes):
                    self._collect(m)
                    m.d.sync += Assert(~word.last | (self._beat >= last_beat), "a frame ends within its headers")
                    with m.If(self._beat == last_beat):
                        m.next = "SENDER"
            with m.State("SENDER"):
                about = Cat(self._peer, self._checksum, self._length)
                self._push(m, about.word_select(step, 32), 4)
                m.d.sync += step.eq(step + 1)
                with m.If(step == Mux(is_message, 2, 3)):
                    m.d.sync += step.eq(0)
                    m.next = "PAYLOAD"
            with m.State("PAYLOAD"):
                m.d.comb += self.i.ready.eq(~is_over)
                with m.If((takes | is_over) & (self._payload != 0)):
                    is_end = self._payload <= 4
                    self._push(m, Cat(self._carry, word.data[:16]), Mux(is_end, self._payload, 4))
                    m.d.sync += self._payload.eq(Mux(is_end, 0, self._payload - 4))
                with m.If(is_over):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                with m.If(is_judged):
                    m.d.comb += [self._ends.eq(1), self.damaged.eq(is_bad)]
                    m.d.sync += self._has_held.eq(0)
                    m.next = "HEADER"
        for out, is_chosen in ((self.o_message, is_message), (self.o_reply, ~is_message)):
            m.d.comb += [
                out.valid.eq((self._pushes & self._has_held | self._ends) & is_chosen),
                out.payload.data.eq(self._held.data), out.payload.count.eq(self._held.count),
                out.payload.last.eq(self._ends), out.payload.error.eq(self._ends & is_bad),
            ]
        return m

    def _push(self, m, content, count):
        """A word of the parcel: it waits, and the one that has waited goes."""
        m.d.comb += self._pushes.eq(1)
        m.d.sync += [self._held.data.eq(content), self._held.count.eq(count), self._has_held.eq(1)]

    def _collect(self, m):
        """Fields of the headers, from the word that has them. Those of ARP come last where others are before."""
        content, peer, kind = self.i.payload.data, self._peer, self._kind
        first, second = swapped(content[:16]), swapped(content[16:])
        is_arp, is_echo = kind == Kind.ARP, kind == Kind.ECHO
        with m.Switch(self._beat):
            with m.Case(1):
                m.d.sync += peer.mac[32:].eq(second)
            with m.Case(2):
                m.d.sync += peer.mac[:32].eq(Cat(second, first))
            with m.Case(3):
                m.d.sync += kind.eq(Mux(first == ETHER_TYPE_ARP, Kind.ARP, Kind.MESSAGE))
            with m.Case(4):
                m.d.sync += self._length.eq(first - IPV4_SIZE)
            with m.Case(5):
                with m.If(is_arp):
                    m.d.sync += peer.mac[32:].eq(second)
                with m.Elif(second[:8] == PROTOCOL_ICMP):
                    m.d.sync += kind.eq(Kind.ECHO)
            with m.Case(6):
                m.d.sync += peer.address[16:].eq(second)
                with m.If(is_arp):
                    m.d.sync += peer.mac[:32].eq(Cat(second, first))
            with m.Case(7):
                m.d.sync += peer.address[:16].eq(first)
                with m.If(is_arp):
                    m.d.sync += peer.address.eq(Cat(second, first))
            with m.Case(8):
                m.d.sync += [
                    peer.port.eq(Mux(kind == Kind.MESSAGE, second, kind)),
                    self._payload.eq(Mux(is_arp, 0, self._length - Mux(is_echo, ECHO_SIZE, UDP_SIZE))),
                ]
            with m.Case(9):
                m.d.sync += [self._checksum.eq(first), self._said.eq(second)]
            with m.Case(10):
                m.d.sync += self._checksum.eq(first)

    def _sum(self, m, takes):
        """What of the word that comes goes into which sum. Addresses are summed up for UDP's pseudo-header."""
        word, left, is_message = self.i.payload, self._left, self._kind == Kind.MESSAGE
        header, content = Signal(PARCEL_WIDTH, name="in_header"), Signal(PARCEL_WIDTH, name="in_content")
        passed = Signal(range(PARCEL_WIDTH + 1))
        with m.Switch(self._beat):
            with m.Case(3):
                m.d.comb += header.eq(0b1100)
            with m.Case(4, 5):
                m.d.comb += header.eq(0b1111)
            with m.Case(6):
                m.d.comb += [header.eq(0b1111), content.eq(Mux(is_message, 0b1100, 0))]
            with m.Case(7):
                m.d.comb += [header.eq(0b1111), content.eq(Mux(is_message, 0b1111, 0))]
            with m.Case(8):
                m.d.comb += [header.eq(0b0011), passed.eq(2),
                             content.eq(Cat(is_message.replicate(2), left > 0, left > 1))]
            with m.Case(9, 10, 11):
                m.d.comb += [passed.eq(4), content.eq(Cat(left > place for place in range(PARCEL_WIDTH)))]
        with m.If(takes):
            m.d.sync += left.eq(Mux(self._beat < 8, self._length, Mux(left > passed, left - passed, 0)))
        for name, covered in (("header", header), ("content", content)):
            total = self._sums[name]
            m.d.comb += [
                total.i.valid.eq(takes), total.i.payload.last.eq(word.last),
                total.i.payload.data.eq(word.data & Cat(bit.replicate(8) for bit in covered)),
            ]

    def _judge(self, m, takes):
        """Look at a frame that is over. Return whether that is done, and whether the frame is bad."""
        word, kind, peer = self.i.payload, self._kind, self._peer
        header, content, total, folded = Signal(16), Signal(16), Signal(18), Signal(17)
        has_sums, has_total, is_judged, is_bad = Signal(), Signal(), Signal(), Signal()
        with m.If(takes):
            m.d.sync += [
                self._size.eq(Mux(self._beat == 0, 0, self._size) + word.count), self._is_damaged.eq(word.error),
            ]
            with m.If(self._beat == 0):
                m.d.sync += [has_sums.eq(0), has_total.eq(0), is_judged.eq(0)]
        with m.If(self._sums["header"].o.valid):  # both come at the same time
            m.d.sync += [header.eq(self._sums["header"].o.payload), content.eq(self._sums["content"].o.payload),
                         has_sums.eq(1)]
        m.d.comb += folded.eq(total[:16] + total[16:])
        # The pseudo-header has the protocol and the length beside the addresses.
        m.d.sync += [
            total.eq(content + self._said + PROTOCOL_UDP),
            has_total.eq(has_sums & ~takes), is_judged.eq(has_total & ~takes),
        ]
        is_bad_message = ((self._said != self._length) | (self._length <= UDP_SIZE)
                          | (self._checksum != 0) & (folded != 0xFFFF))
        is_bad_echo = (self._length < 2 * ECHO_SIZE) | (content != 0xFFFF)
        is_bad_datagram = (header != 0xFFFF) | (self._size < _BEFORE_DATAGRAM + self._length) | Mux(
            kind == Kind.MESSAGE, is_bad_message, is_bad_echo)
        m.d.sync += is_bad.eq(self._is_damaged | peer.mac[40] | (peer.address[28:] >= 0xE)
                              | (kind != Kind.ARP) & is_bad_datagram)  # a register: queues hang on it
        return is_judged, is_bad
