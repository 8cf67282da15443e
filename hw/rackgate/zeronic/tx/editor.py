# SPDX-License-Identifier: Apache-2.0
"""Headers of frames, from the header of their command."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rackgate.zeronic.abi import ETHERNET_SIZE
from rackgate.zeronic.records import check_width
from rackgate.zeronic.tx.intake import header_address
from rackgate.zeronic.tx.records import FrameJob, FrameTag

__all__ = ["Editor", "header_layout"]

_FIN, _PSH, _CWR = 1 << 0, 1 << 3, 1 << 7


def header_layout(width: int) -> data.StructLayout:
    """A packed word of a header; ``last`` ends it. ``has_payload``: payload follows, ``gather``: from memory."""
    return data.StructLayout({"data": 8 * width, "count": ceil_log2(width + 1), "last": 1, "has_payload": 1,
                              "gather": 1, "tag": FrameTag})


class Editor(wiring.Component):
    """Read the kept header for each frame, and change what OFFLOAD changes but for the checksums.

    These are IPv4's length and identification, and TCP's sequence number; FIN and PSH go from all frames but the last
    of a command, CWR from all but the first. Other frames keep their header.

    A word a cycle, no cycle between frames; the first word 2 cycles after its frame. ``o`` comes from registers. Reset
    cuts off the header under way.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Frames; taken with the last word of their header.
    address, read, content:
        Of the memory of headers: ``content`` is there 1 cycle after ``read``, and stays until the next.
    freed:
        Strobe: the header will not be read again.
    o:
        Words (:func:`header_layout`).
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        super().__init__({
            "i": In(stream.Signature(FrameJob)),
            "address": Out(header_address(self.width)), "read": Out(1), "content": In(8 * self.width),
            "freed": Out(1),
            "o": Out(stream.Signature(header_layout(self.width))),
        })

    def elaborate(self, platform):
        m = Module()
        index, job = Signal(self.address.word.shape()), self.i.payload
        moves, is_last = Signal(), Signal()
        shift = exact_log2(self.width)
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            is_last.eq(index == job.header_end >> shift),
            self.address.slot.eq(job.slot), self.address.word.eq(index), self.read.eq(moves),
            self.i.ready.eq(moves & is_last),
            self.freed.eq(self.i.valid & self.i.ready & job.last),
        ]
        # While the word is being read: whose it is.
        frame, number, ends, length, is_read = Signal(FrameJob), Signal.like(index), Signal(), Signal(16), Signal()
        with m.If(moves):
            m.d.sync += [
                frame.eq(job), number.eq(index), ends.eq(is_last), is_read.eq(self.i.valid),
                length.eq(job.header_end + job.payload - (ETHERNET_SIZE - 1)),
                self.o.valid.eq(is_read), self.o.payload.eq(self._word(m, frame, number, ends, length)),
            ]
            with m.If(self.i.valid):
                m.d.sync += index.eq(Mux(is_last, 0, index + 1))
        return m

    def _word(self, m, frame, number, ends, length):
        """The word that has been read, edited."""
        word, cleared = Signal(header_layout(self.width)), Signal(8)
        m.d.comb += [
            cleared.eq(Mux(frame.last, 0, _FIN | _PSH) | Mux(frame.first, 0, _CWR)),
            word.data.eq(self.content), word.last.eq(ends), word.has_payload.eq(frame.payload != 0),
            word.count.eq(Mux(ends, (frame.header_end % self.width) + 1, self.width)),
            word.gather.eq(frame.gather), word.tag.offload.eq(frame.offload), word.tag.last.eq(frame.last),
            word.tag.flow.eq(frame.flow),
        ]
        edits = {16: length[8:], 17: length[:8], 18: frame.identification[8:], 19: frame.identification[:8]}
        edits |= {38 + k: frame.sequence.word_select(3 - k, 8) for k in range(4)}
        edits[47] = self.content.word_select(47 % self.width, 8) & ~cleared
        for place, value in edits.items():
            with m.If(frame.offload & (number == place // self.width)):
                m.d.comb += word.data.word_select(place % self.width, 8).eq(value)
        return word
