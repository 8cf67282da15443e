# SPDX-License-Identifier: Apache-2.0
"""Translations that were found, kept."""

import operator

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["PAGE_WIDTH", "TLB", "Translation"]

#: Bits of a page's number, virtual or physical.
PAGE_WIDTH = ADDR_WIDTH - 12


class Translation(data.Struct):
    """A page of 4 KiB of the address space of a work queue, and where it lies in memory."""

    page: PAGE_WIDTH
    frame: PAGE_WIDTH
    writable: 1
    queue: 3


class TLB(wiring.Component):
    """Keep translations by page and queue: direct mapped, in LUT RAM.

    The answer comes in the cycle after the question. Pages of 2 MiB are kept in pieces of 4 KiB. A translation may
    push out another at any time. Reset and ``invalidate`` forget all; one that comes with ``invalidate`` is not kept.

    Parameters
    ----------
    entries:
        Translations, a power of two from 2 to 256.

    Members
    -------
    page, queue: what is asked for.
    found: the translation, when ``is_found``; both are of the page and queue of the cycle before.
    insert, translation: keep it.
    invalidate: forget all.
    """

    page: In(PAGE_WIDTH)
    queue: In(3)
    found: Out(Translation)
    is_found: Out(1)
    insert: In(1)
    translation: In(Translation)
    invalidate: In(1)

    def __init__(self, *, entries: int = 64):
        self.entries = operator.index(entries)
        if self.entries not in (2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"entries must be a power of two from 2 to 256, not {entries}")
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=Translation, depth=self.entries, init=[])
        r_port, w_port = memory.read_port(domain="comb"), memory.write_port()
        valid = Array(Signal(name=f"valid_{k}") for k in range(self.entries))
        asked = Signal(data.StructLayout({"page": PAGE_WIDTH, "queue": 3}))
        place, was_valid = Signal(range(self.entries)), Signal()
        m.d.comb += [
            place.eq(self._place(self.page, self.queue)),
            r_port.addr.eq(place),
            w_port.addr.eq(self._place(self.translation.page, self.translation.queue)),
            w_port.data.eq(self.translation),
            w_port.en.eq(self.insert),
            self.is_found.eq(was_valid & (self.found.page == asked.page) & (self.found.queue == asked.queue)),
        ]
        m.d.sync += [
            self.found.eq(r_port.data),
            was_valid.eq(valid[place] & ~self.invalidate),
            asked.page.eq(self.page),
            asked.queue.eq(self.queue),
        ]
        with m.If(self.insert):
            m.d.sync += valid[w_port.addr].eq(1)
        with m.If(self.invalidate):
            m.d.sync += [bit.eq(0) for bit in valid]
        return m

    def _place(self, page, queue):
        """Queues with the same pages get places apart."""
        bits = exact_log2(self.entries)
        return (page[:bits] ^ (queue << max(bits - 3, 0)))[:bits]
