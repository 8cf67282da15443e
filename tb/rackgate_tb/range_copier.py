# SPDX-License-Identifier: Apache-2.0
"""Fetcher and Placer back to back on one memory port: what their bench runs on."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.dma.cutter import SIZE_BITS
from rackgate.dma.fetcher import Fetcher
from rackgate.dma.placer import Placer

from .axi_pins import AxiPins

__all__ = ["TAG_BITS", "RangeCopier", "range_copier"]

#: Bits of a command's tag.
TAG_BITS = 8


class RangeCopier(wiring.Component):
    """Copy ranges of memory: each command goes to a Fetcher and to a Placer, and the words from one to the other.

    Parameters
    ----------
    width:
        Bytes of a word.
    parameters:
        Of Fetcher and Placer both.

    Members
    -------
    mem:
        The memory.
    source, destination, size, tag, valid, ready:
        A command, by the stream rules.
    done_tag, done_error, done_valid, done_ready:
        What Placer's ``done`` says.
    """

    def __init__(self, width, **parameters):
        self.fetcher = Fetcher(width, tag=TAG_BITS, **parameters)
        self.placer = Placer(width, tag=TAG_BITS, **parameters)
        address = self.fetcher.addr_width
        bus = AXI4Signature(addr_width=address, data_width=8 * width, id_width=self.fetcher.id_width)
        super().__init__({
            "mem": Out(bus),
            "source": In(address), "destination": In(address), "size": In(SIZE_BITS), "tag": In(TAG_BITS),
            "valid": In(1), "ready": Out(1),
            "done_tag": Out(TAG_BITS), "done_error": Out(1), "done_valid": Out(1), "done_ready": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetcher, m.submodules.placer = fetcher, placer = self.fetcher, self.placer
        for name, block in (("ar", fetcher), ("r", fetcher), ("aw", placer), ("w", placer), ("b", placer)):
            wiring.connect(m, getattr(block, name), wiring.flipped(getattr(self.mem, name)))
        for block, other, address in ((fetcher, placer, self.source), (placer, fetcher, self.destination)):
            m.d.comb += [
                block.i.valid.eq(self.valid & other.i.ready),
                block.i.payload.addr.eq(address),
                block.i.payload.size.eq(self.size),
                block.i.payload.tag.eq(self.tag),
            ]
        m.d.comb += [
            self.ready.eq(fetcher.i.ready & placer.i.ready),
            placer.words.valid.eq(fetcher.o.valid),
            fetcher.o.ready.eq(placer.words.ready),
            self.done_tag.eq(placer.done.payload.tag),
            self.done_error.eq(placer.done.payload.error),
            self.done_valid.eq(placer.done.valid),
            placer.done.ready.eq(self.done_ready),
        ]
        for name in ("data", "count", "last", "error"):
            m.d.comb += placer.words.payload[name].eq(fetcher.o.payload[name])
        return m


def range_copier(**parameters: int) -> AxiPins:
    """The copier with pins."""
    return AxiPins(RangeCopier(**parameters))
