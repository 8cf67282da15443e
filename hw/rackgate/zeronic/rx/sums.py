# SPDX-License-Identifier: Apache-2.0
"""The two sums of a frame: IPv4's header, and what the transport's checksum covers."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.pisa.checksum import WordSum
from rackgate.zeronic.abi import HEADER_MOST
from rackgate.zeronic.records import FRAME_MOST, check_width

__all__ = ["IPV4", "TRANSPORT", "FrameSums", "header_beats", "sums_layout"]

#: Bytes before the headers of IPv4 and of the transport, when the former has no options.
IPV4, TRANSPORT = 14, 34
_IPV4_SIZE = TRANSPORT - IPV4
#: Bytes of the header of IPv4 that the pseudo header has too: length, protocol, addresses.
_PSEUDO = frozenset((16, 17, 23, *range(26, TRANSPORT)))

#: What the sums say: each of the two checksums is right.
sums_layout = data.StructLayout({"header": 1, "transport": 1})


def header_beats(width: int) -> int:
    """Words of a frame in which there may be headers. They are numbered; all behind them have this number."""
    return -(-(HEADER_MOST + 2) // width)


class FrameSums(wiring.Component):
    """RFC 1071's sums: of IPv4's header (RFC 791 3.1), and of its pseudo header and content (RFC 9293 3.1).

    They mean nothing for frames that have options or no IPv4. A word a cycle, no stalls; ``latency`` cycles from the
    last word to the answer. Reset forgets the frame.

    The pseudo header has the length of what is behind IPv4's header. Summed is IPv4's own length, which is greater by
    20, and the result is compared with 20 rather than 0 (modulo 65,535).

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Words: ``data``, number ``beat`` in the frame (:func:`header_beats`), ``last``. ``below``: a bit for each byte
        that is before IPv4's end.
    o:
        :data:`sums_layout`, one a frame.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        most = -(-FRAME_MOST // self.width)
        self._header, self._transport = WordSum(self.width, most), WordSum(self.width, most)
        self.latency = self._header.latency + 1
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({
                "data": 8 * self.width, "beat": range(header_beats(self.width) + 1), "last": 1, "below": self.width,
            }), always_ready=True)),
            "o": Out(stream.Signature(sums_layout, always_ready=True)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.header, m.submodules.transport = self._header, self._transport
        word, content, valid, last = self.i.payload, Signal(8 * self.width), Signal(), Signal()
        m.d.sync += [content.eq(word.data), valid.eq(self.i.valid), last.eq(word.last)]
        in_header = [frozenset(range(IPV4, TRANSPORT)), _PSEUDO]
        for total, covered, behind in zip((self._header, self._transport), in_header, (0, word.below), strict=True):
            mask = Signal(self.width)
            with m.Switch(word.beat):
                for beat in range(TRANSPORT // self.width + 1):
                    with m.Case(beat):
                        places = range(beat * self.width, (beat + 1) * self.width)
                        fixed = sum((place in covered) << k for k, place in enumerate(places))
                        variable = sum((place >= TRANSPORT) << k for k, place in enumerate(places))
                        m.d.sync += mask.eq(fixed | behind & variable)
                with m.Default():
                    m.d.sync += mask.eq(behind)
            m.d.comb += [
                total.i.valid.eq(valid),
                total.i.payload.last.eq(last),
                total.i.payload.data.eq(Cat(Mux(mask[k], content[8 * k:8 * k + 8], 0) for k in range(self.width))),
            ]
        m.d.comb += [
            self.o.valid.eq(self._header.o.valid),
            self.o.payload.header.eq(self._header.o.payload == 0xFFFF),
            self.o.payload.transport.eq(self._transport.o.payload == _IPV4_SIZE),
        ]
        return m
