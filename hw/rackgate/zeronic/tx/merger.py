# SPDX-License-Identifier: Apache-2.0
"""Headers and the payload behind each."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.dma.packer import packed_layout
from rackgate.zeronic.records import check_width
from rackgate.zeronic.tx.editor import header_layout
from rackgate.zeronic.tx.gather import gathered_layout
from rackgate.zeronic.tx.records import FrameTag

__all__ = ["Merger", "parts_layout"]


def parts_layout(width: int) -> data.StructLayout:
    """A word of which the first ``count`` bytes go on with a frame; ``last`` ends it.

    ``error`` on the last word: the frame must not be sent; ``bad_region``: it is because a region forbids it.
    """
    return data.StructLayout({"data": 8 * width, "count": ceil_log2(width + 1), "last": 1, "error": 1, "bad_region": 1,
                              "tag": FrameTag})


class Merger(wiring.Component):
    """Give out the words of each header, then those of its payload. No latency; all is combinational.

    Reset expects a header.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    header:
        Headers (:func:`~rackgate.zeronic.tx.editor.header_layout`).
    gathered:
        Payloads from memory (:func:`~rackgate.zeronic.tx.gather.gathered_layout`).
    inline:
        Payloads from commands (:func:`~rackgate.dma.packer.packed_layout`), never with an error.
    o:
        Frames (:func:`parts_layout`).
    """

    header: stream.Interface
    gathered: stream.Interface
    inline: stream.Interface
    o: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        super().__init__({
            "header": In(stream.Signature(header_layout(self.width))),
            "gathered": In(stream.Signature(gathered_layout(self.width))),
            "inline": In(stream.Signature(packed_layout(self.width, 0))),
            "o": Out(stream.Signature(parts_layout(self.width))),
        })

    def elaborate(self, platform):
        m = Module()
        is_payload, is_gathered, tag = Signal(), Signal(), Signal(FrameTag)
        header, gathered, inline, out = self.header.payload, self.gathered.payload, self.inline.payload, self.o.payload
        with m.If(is_payload):
            m.d.comb += [
                self.o.valid.eq(Mux(is_gathered, self.gathered.valid, self.inline.valid)),
                self.gathered.ready.eq(self.o.ready & is_gathered),
                self.inline.ready.eq(self.o.ready & ~is_gathered),
                *(out[name].eq(Mux(is_gathered, gathered[name], inline[name])) for name in ("data", "count", "last")),
                out.error.eq(is_gathered & gathered.error), out.bad_region.eq(is_gathered & gathered.bad_region),
                out.tag.eq(tag),
            ]
        with m.Else():
            m.d.comb += [
                self.o.valid.eq(self.header.valid), self.header.ready.eq(self.o.ready),
                out.data.eq(header.data), out.count.eq(header.count), out.last.eq(header.last & ~header.has_payload),
                out.tag.eq(header.tag),
            ]
        with m.If(self.header.valid & self.header.ready & header.last):
            m.d.sync += [is_payload.eq(header.has_payload), is_gathered.eq(header.gather), tag.eq(header.tag)]
        with m.If(is_payload & self.o.valid & self.o.ready & out.last):
            m.d.sync += is_payload.eq(0)
        return m
