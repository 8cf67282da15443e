# SPDX-License-Identifier: Apache-2.0
"""Lists of receive buffers, linked in one table."""

import operator

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["SlotLists"]


class SlotLists(wiring.Component):
    """Keep slots in lists, each slot in one list at most.

    One operation a cycle, on ``list``, seen in the next. What is shown of ``list`` and ``slot`` is combinational, from
    LUT RAM. Reset empties all lists; the RAM keeps its contents, which no longer count.

    Parameters
    ----------
    lists:
        Number of lists, at least 1.
    slots:
        Number of slots, at least 2.

    Members
    -------
    list:
        The list that is meant by what follows.
    first, last:
        Its first and last slot, if it is not empty.
    slot:
        The slot that is meant.
    next:
        The slot behind it, if it is not the last of its list.
    append:
        Put ``slot``, which is in no list, behind the last of ``list``.
    remove, has_previous, previous:
        Take ``slot`` out of ``list``; ``previous`` is the one before it, if there is one.
    has_slots:
        Bit per list: it is not empty.
    """

    def __init__(self, lists: int, *, slots: int):
        self.lists, self.slots = operator.index(lists), operator.index(slots)
        if self.lists < 1:
            raise ValueError(f"lists must be at least 1, not {lists}")
        if self.slots < 2:
            raise ValueError(f"slots must be at least 2, not {slots}")
        slot = range(self.slots)
        super().__init__({
            "list": In(range(self.lists)), "first": Out(slot), "last": Out(slot),
            "slot": In(slot), "next": Out(slot),
            "append": In(1),
            "remove": In(1), "has_previous": In(1), "previous": In(slot),
            "has_slots": Out(self.lists),
        })
        self._firsts = Memory(shape=self.first.shape(), depth=self.lists, init=[])
        self._lasts = Memory(shape=self.first.shape(), depth=self.lists, init=[])
        self._nexts = Memory(shape=self.first.shape(), depth=self.slots, init=[])

    def elaborate(self, platform):
        m = Module()
        m.submodules.firsts, m.submodules.lasts, m.submodules.nexts = self._firsts, self._lasts, self._nexts
        for memory, place, shown in ((self._firsts, self.list, self.first), (self._lasts, self.list, self.last),
                                     (self._nexts, self.slot, self.next)):
            port = memory.read_port(domain="comb")
            m.d.comb += [port.addr.eq(place), shown.eq(port.data)]
        first, last, link = (memory.write_port() for memory in (self._firsts, self._lasts, self._nexts))
        has_slots = self.has_slots.bit_select(self.list, 1)
        is_last = self.slot == self.last
        m.d.comb += [
            first.addr.eq(self.list),
            last.addr.eq(self.list),
            first.data.eq(Mux(self.append, self.slot, self.next)),
            last.data.eq(Mux(self.append, self.slot, self.previous)),
            link.addr.eq(Mux(self.append, self.last, self.previous)),
            link.data.eq(Mux(self.append, self.slot, self.next)),
        ]
        with m.If(self.append):
            m.d.comb += [first.en.eq(~has_slots), link.en.eq(has_slots), last.en.eq(1)]
            m.d.sync += has_slots.eq(1)
        with m.Elif(self.remove):
            m.d.comb += [
                first.en.eq(~self.has_previous),
                link.en.eq(self.has_previous),
                last.en.eq(self.has_previous & is_last),
            ]
            with m.If(is_last & ~self.has_previous):
                m.d.sync += has_slots.eq(0)
        return m
