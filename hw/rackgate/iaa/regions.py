# SPDX-License-Identifier: Apache-2.0
"""Which entries of the common storage belong to which work queue."""

import operator

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import QUEUES

__all__ = ["Regions"]


class Regions(wiring.Component):
    """Give a queue its entries when it is enabled.

    The regions lie in the order of the queues, each as large as its ``size`` says at that time. One is refused if
    it is empty, reaches past the storage, or meets that of a queue that is open (whose place may be from when the
    sizes were others). An answer takes ``2 * queues + 1`` cycles at most. The places of open queues do not change.

    Parameters
    ----------
    queues:
        Number of queues, 1 to 8.
    entries:
        Entries that they share, 1 to 1024.

    Members
    -------
    size:
        Sizes, each in ``size[queue]``.
    is_open:
        Queues whose entries are in use.
    start, queue:
        Strobe: find a place for ``queue``, which is not open. ``queue`` holds until ``done``.
    done, fits:
        Strobe: the answer. If it fits, ``first`` and ``last`` are of the new place from the next cycle on.
    first, last:
        First and last entry of each queue.
    """

    def __init__(self, queues: int, *, entries: int = 64):
        self.queues = operator.index(queues)
        self.entries = operator.index(entries)
        if not 1 <= self.queues <= QUEUES:
            raise ValueError(f"queues must be 1 to {QUEUES}, not {queues}")
        if not 1 <= self.entries <= 1024:
            raise ValueError(f"entries must be 1 to 1024, not {entries}")
        super().__init__({
            "size": In(16).array(self.queues),
            "is_open": In(self.queues),
            "start": In(1),
            "queue": In(range(self.queues)),
            "done": Out(1),
            "fits": Out(1),
            "first": Out(range(self.entries)).array(self.queues),
            "last": Out(range(self.entries)).array(self.queues),
        })

    def elaborate(self, platform):
        m = Module()
        index, is_bad = Signal(range(self.queues)), Signal()
        first, end = Signal(16 + 3), Signal(16 + 4)  # sums of 8 sizes fit
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [index.eq(0), first.eq(0)]
                with m.If(self.start):
                    m.next = "ADD"
            with m.State("ADD"):  # what the queues before it take
                size = Array(self.size)[index]
                m.d.sync += index.eq(index + 1)
                with m.If(index == self.queue):
                    m.d.sync += [end.eq(first + size), is_bad.eq(size == 0), index.eq(0)]
                    m.next = "COMPARE"
                with m.Else():
                    m.d.sync += first.eq(first + size)
            with m.State("COMPARE"):
                is_apart = (Array(self.last)[index] < first) | (Array(self.first)[index] >= end)
                with m.If(Array(self.is_open)[index] & ~is_apart):
                    m.d.sync += is_bad.eq(1)
                m.d.sync += index.eq(index + 1)
                with m.If(index == self.queues - 1):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += [self.done.eq(1), self.fits.eq(~is_bad & (end <= self.entries))]
                with m.If(self.fits):
                    m.d.sync += [Array(self.first)[self.queue].eq(first), Array(self.last)[self.queue].eq(end - 1)]
                m.next = "IDLE"
        return m
