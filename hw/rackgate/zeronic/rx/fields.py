# SPDX-License-Identifier: Apache-2.0
"""What a frame's headers say."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.net.headers import ETHER_TYPE_IPV4
from rackgate.zeronic.abi import HEADER_MOST
from rackgate.zeronic.records import LENGTH_BITS, Verdict, check_width
from rackgate.zeronic.rx.profiles import ChosenProfile
from rackgate.zeronic.rx.sums import IPV4, TRANSPORT, header_beats

__all__ = ["FrameFields", "FrameKind"]

_IPV4_SIZE = TRANSPORT - IPV4
_ETHER_TYPE, _LENGTH, _FRAGMENT, _SOURCE, _DESTINATION = 12, IPV4 + 2, IPV4 + 6, IPV4 + 12, IPV4 + 16
_FIRST_BYTE = 0x45  # version 4, five words of header
#: Bytes of UDP's header, and of the shortest of TCP.
_UDP_SIZE, _TCP_SIZE = 8, 20
_UDP_LENGTH, _UDP_CHECKSUM, _TCP_OFFSET, _TCP_FLAGS = TRANSPORT + 4, TRANSPORT + 6, TRANSPORT + 12, TRANSPORT + 13


class FrameKind(data.Struct):
    """What is known of a frame at its end, but for its sums.

    ``is_bad``: it is damaged, or its length is none. ``is_packet``: it is all of an IPv4 packet without options, so the
    header's checksum must be right. With ``has_sum`` the transport's checksum must be right, too.
    """

    is_bad: 1
    is_packet: 1
    has_sum: 1


class FrameFields(wiring.Component):
    """Collect the fields of frames and weigh their lengths.

    A word a cycle, no stalls. The verdict comes a cycle after the word with the last field, which is the stream
    position or TCP's flags, or after the last word if that is before; the kind 2 cycles after the last word. Of a frame
    whose kind is not bad the verdict is right, though it was given before the end. Reset forgets what has come.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Attributes
    ----------
    latency:
        Cycles from the last word to the kind.

    Members
    -------
    i:
        Words: ``data``, number ``beat`` in the frame (:func:`~.sums.header_beats`), ``last``. With the last one:
        ``length``, bytes of the frame; ``is_bad``: it is damaged, or too long; ``lacks``: it ends before IPv4 says so.
    chosen:
        The frame's profile, from the word with the destination port until the kind is known.
    verdict, kind:
        :class:`~rackgate.zeronic.records.Verdict` and :class:`FrameKind`, one each a frame.
    """

    i: stream.Interface
    verdict: stream.Interface
    kind: stream.Interface

    def __init__(self, width: int = 8):
        self.width, self.latency = check_width(width), 2
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "data": 8 * self.width, "beat": range(header_beats(self.width) + 1), "last": 1, "length": LENGTH_BITS,
                "is_bad": 1, "lacks": 1}), always_ready=True)),
            "chosen": In(ChosenProfile),
            "verdict": Out(stream.Signature(Verdict, always_ready=True)),
            "kind": Out(stream.Signature(FrameKind, always_ready=True)),
        })
        self._is_ipv4, self._is_plain, self._is_whole, self._is_tiny, self._is_runt, self._lacks, self._is_bad = (
            Signal(name=name) for name in ("is_ipv4", "is_plain", "is_whole", "is_tiny", "is_runt", "lacks", "is_bad"))
        self._body, self._udp_fits, self._has_sum = Signal(16), Signal(), Signal()  # bytes behind IPv4's header; of UDP
        self._offset, self._flags = Signal(4), Signal(8)
        self._has_ended, self._is_told = Signal(), Signal()  # a cycle after the last word; there was a verdict

    def elaborate(self, platform):
        m = Module()
        word, out = self.i.payload, self.verdict.payload
        total, first, fragment = self._bytes(_LENGTH, 2), self._bytes(IPV4, 1), self._bytes(_FRAGMENT, 2)
        for place, size, target, value in (
                (_ETHER_TYPE, 2, self._is_ipv4, self._bytes(_ETHER_TYPE, 2) == ETHER_TYPE_IPV4),
                (IPV4, 1, self._is_plain, first == _FIRST_BYTE),
                (_LENGTH, 2, self._body, total - _IPV4_SIZE),
                (_LENGTH, 2, self._is_tiny, total < _IPV4_SIZE),
                (_FRAGMENT, 2, self._is_whole, fragment & 0x3FFF == 0),
                (_UDP_LENGTH, 2, self._udp_fits, self._bytes(_UDP_LENGTH, 2) == self._body),
                (_UDP_CHECKSUM, 2, self._has_sum, self._bytes(_UDP_CHECKSUM, 2) != 0),
                (_TCP_OFFSET, 1, self._offset, self._bytes(_TCP_OFFSET, 1)[4:]),
                (_TCP_FLAGS, 1, self._flags, self._bytes(_TCP_FLAGS, 1))):
            with m.If(self._is_there(place, size)):
                m.d.sync += target.eq(value)
        for place, size, target in ((_SOURCE, 4, out.key.source), (_DESTINATION, 4, out.key.destination),
                                    (TRANSPORT, 2, out.key.source_port), (TRANSPORT + 2, 2, out.key.destination_port)):
            for k in range(size):
                with m.If(self._is_there(place + k, 1)):
                    m.d.sync += target.word_select(size - 1 - k, 8).eq(self._bytes(place + k, 1))
        self._locate(m)
        self._tell(m)
        m.d.sync += [
            self._has_ended.eq(self.i.valid & word.last),
            self._is_bad.eq(word.is_bad | (word.length < IPV4)),
            self._is_runt.eq(word.length < TRANSPORT),
            self._lacks.eq(word.lacks),
        ]
        self._weigh(m)
        return m

    def _is_there(self, place, size):
        """Byte ``place`` of the frame, and the others of a field that is in one word, are in this word."""
        return self.i.valid & (self.i.payload.beat == place // self.width)

    def _bytes(self, place, size):
        """``size`` bytes of the word, big endian, from where byte ``place`` of the frame is when it is there."""
        at = place % self.width
        return Cat(self.i.payload.data[8 * k:8 * k + 8] for k in reversed(range(at, at + size)))

    def _locate(self, m):
        """The stream position is where the profile says, in 16-bit halves."""
        index = exact_log2(self.width // 2)
        for half, number in ((self.verdict.payload.position[16:], self.chosen.high),
                             (self.verdict.payload.position[:16], self.chosen.low)):
            with m.If(self.i.valid & (self.i.payload.beat == number[index:])):
                found = self.i.payload.data.word_select(number[:index], 16)
                m.d.sync += half.eq(Cat(found[8:], found[:8]))

    def _tell(self, m):
        """A verdict as soon as all fields have come."""
        beat, index, is_all = self.i.payload.beat, exact_log2(self.width // 2), Signal()
        m.d.comb += is_all.eq(self.i.payload.last | (beat >= _TCP_FLAGS // self.width)
                              & (beat >= self.chosen.low[index:]))
        m.d.sync += self.verdict.valid.eq(self.i.valid & is_all & ~self._is_told)
        with m.If(self.i.valid):
            m.d.sync += self._is_told.eq((self._is_told | is_all) & ~self.i.payload.last)

    def _weigh(self, m):
        """Whether the headers fit one into the other."""
        out, kind, chosen, body = self.verdict.payload, self.kind.payload, self.chosen, self._body
        size, is_packet, fits = Signal(8), Signal(), Signal()
        m.d.comb += [
            size.eq(Mux(chosen.is_tcp, self._offset << 2, chosen.size)),
            is_packet.eq(self._is_ipv4 & self._is_plain & self._is_whole),
            fits.eq((body >= size) & (size >= chosen.least) & (size <= HEADER_MOST - TRANSPORT)
                    & (~chosen.is_tcp | (size >= _TCP_SIZE)) & (~chosen.is_udp | (size >= _UDP_SIZE) & self._udp_fits)),
            out.split.eq(is_packet & chosen.any & fits),
            out.key.profile.eq(chosen.number),
            out.headers.eq(size + TRANSPORT),
            out.payload.eq(body - size),
            out.flags.eq(Mux(chosen.is_tcp, self._flags, 0)),
        ]
        m.d.sync += [
            self.kind.valid.eq(self._has_ended),
            kind.is_bad.eq(self._is_bad | self._is_ipv4 & self._is_runt | is_packet & (self._is_tiny | self._lacks)),
            kind.is_packet.eq(is_packet),
            kind.has_sum.eq(out.split & chosen.has_sum & (~chosen.is_udp | self._has_sum)),
        ]
