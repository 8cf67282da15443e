# SPDX-License-Identifier: Apache-2.0
"""Checksums of IPv4 and TCP of frames that pass."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.pisa.checksum import WordSum
from rackgate.zeronic.records import FRAME_MOST, check_width
from rackgate.zeronic.tx.merger import parts_layout

__all__ = ["Sums", "sums_layout"]

#: Bytes that IPv4's checksum covers, and TCP's after its pseudo header; the checksums themselves count as 0.
_IPV4 = {*range(14, 34)} - {24, 25}
# Of the pseudo header, the addresses are bytes 26 to 33. Its protocol is byte 23 of the frame, at an odd place as it
# must be; its length is IPv4's, bytes 16 and 17, less the 20 bytes of IPv4's header.
_PSEUDO = {16, 17, 23}
_LESS = {18: (0xFFFF - 20) >> 8, 19: (0xFFFF - 20) & 0xFF}
_TCP = range(26, FRAME_MOST)
_TCP_CHECKSUM = {50, 51}
_EDITED = 52  # from here on all bytes are TCP's


def sums_layout() -> data.StructLayout:
    """The two checksums, as numbers (byte 24 of the frame is the upper half of ``ipv4``)."""
    return data.StructLayout({"ipv4": 16, "tcp": 16})


class Sums(wiring.Component):
    """Compute IPv4's header checksum, and TCP's with its pseudo header (RFC 9293, 3.1), of each frame.

    The frames are Ethernet, IPv4 without options, and TCP, with all in place but the checksums (of others the result
    means nothing). A word a cycle, no stalls; ``latency`` cycles from the last word. Reset expects the begin of a
    frame.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Words of frames (:func:`~rackgate.zeronic.tx.merger.parts_layout`), joined.
    o:
        A result for each frame.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        self._sums = {name: WordSum(self.width, -(-FRAME_MOST // self.width)) for name in ("ipv4", "tcp")}
        self.latency = self._sums["tcp"].latency
        super().__init__({
            "i": In(stream.Signature(parts_layout(self.width), always_ready=True)),
            "o": Out(stream.Signature(sums_layout(), always_ready=True)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules += self._sums.values()
        words = -(-_EDITED // self.width)
        word, number = self.i.payload, Signal(range(words + 1))  # which word of the frame; ``words``: one behind those
        with m.If(self.i.valid):
            m.d.sync += number.eq(Mux(word.last, 0, Mux(number == words, words, number + 1)))
        for name, total in self._sums.items():
            m.d.comb += [
                total.i.valid.eq(self.i.valid), total.i.payload.last.eq(word.last),
                self.o.payload[name].eq(~total.o.payload), self.o.valid.eq(total.o.valid),
            ]
            for lane in range(self.width):
                here = word.data.word_select(lane, 8)
                with m.Switch(number):
                    for index in range(words):
                        with m.Case(index):
                            m.d.comb += total.i.payload.data.word_select(lane, 8).eq(
                                _counted(name, self.width * index + lane, here))
                    with m.Default():
                        m.d.comb += total.i.payload.data.word_select(lane, 8).eq(here if name == "tcp" else 0)
                with m.If(lane >= word.count):
                    m.d.comb += total.i.payload.data.word_select(lane, 8).eq(0)
        return m


def _counted(name, place, byte):
    """What byte ``place`` of a frame adds to a sum."""
    if name == "ipv4":
        return byte if place in _IPV4 else Const(0, 8)
    if place in _LESS:
        return Const(_LESS[place], 8)
    return byte if place in _PSEUDO or place in _TCP and place not in _TCP_CHECKSUM else Const(0, 8)
