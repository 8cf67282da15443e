# SPDX-License-Identifier: Apache-2.0
"""Lists of receive buffers, linked in one table."""

import operator

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["SlotLists"]


class SlotLists(wiring.Component):
    """Keep slots in lists, each slot in one list at most.

    One operation a cycle, seen in the next. What is shown is combinational, from LUT RAM; each part of it has a read
    port of its own, so that what it is shown for has no long way. Reset empties all lists; the RAM keeps its contents,
    which no longer count.

    Parameters
    ----------
    lists:
        Number of lists, at least 1.
    slots:
        Number of slots, at least 2.

    Members
    -------
    look_list, first:
        A list, and its first slot, if it is not empty.
    list, slot:
        The list and the slot that are meant by what follows.
    is_last, next:
        The slot is the last of the list; else the one behind it.
    append:
        Put ``slot``, which is in no list, behind the last of ``list``.
    remove, has_previous, previous:
        Take ``slot`` out of ``list``; ``previous`` is the one before it, if there is one.
    take, take_list, take_first:
        Take the first slot, which is shown, out of that list, which is not empty. What is shown for ``list`` is then of
        this one.
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
            "look_list": In(range(self.lists)), "first": Out(slot),
            "list": In(range(self.lists)), "slot": In(slot), "is_last": Out(1), "next": Out(slot),
            "append": In(1),
            "remove": In(1), "has_previous": In(1), "previous": In(slot),
            "take": In(1), "take_list": In(range(self.lists)), "take_first": Out(slot),
            "has_slots": Out(self.lists),
        })
        self._firsts = Memory(shape=self.first.shape(), depth=self.lists, init=[])
        self._lasts = Memory(shape=self.first.shape(), depth=self.lists, init=[])
        self._nexts = Memory(shape=self.first.shape(), depth=self.slots, init=[])

    def elaborate(self, platform):
        m = Module()
        m.submodules.firsts, m.submodules.lasts, m.submodules.nexts = self._firsts, self._lasts, self._nexts
        target, first, behind = Signal.like(self.list), Signal.like(self.first), Signal.like(self.first)
        last = Signal.like(self.first)
        for memory, place, shown in ((self._firsts, self.look_list, self.first), (self._firsts, self.take_list, first),
                                     (self._lasts, target, last),
                                     (self._nexts, self.slot, self.next), (self._nexts, first, behind)):
            port = memory.read_port(domain="comb")
            m.d.comb += [port.addr.eq(place), shown.eq(port.data)]
        put_first, put_last, link = (memory.write_port() for memory in (self._firsts, self._lasts, self._nexts))
        has_slots, has_previous = self.has_slots.bit_select(target, 1), self.has_previous & ~self.take
        m.d.comb += [
            target.eq(Mux(self.take, self.take_list, self.list)),
            self.take_first.eq(first),
            self.is_last.eq(Mux(self.take, first, self.slot) == last),
            put_first.addr.eq(target),
            put_last.addr.eq(target),
            put_first.data.eq(Mux(self.take, behind, Mux(self.append, self.slot, self.next))),
            put_last.data.eq(Mux(self.append, self.slot, self.previous)),
            link.addr.eq(Mux(self.append, last, self.previous)),
            link.data.eq(Mux(self.append, self.slot, self.next)),
        ]
        with m.If(self.append):
            m.d.comb += [put_first.en.eq(~has_slots), link.en.eq(has_slots), put_last.en.eq(1)]
            m.d.sync += has_slots.eq(1)
        with m.Elif(self.remove | self.take):
            m.d.comb += [
                put_first.en.eq(~has_previous),
                link.en.eq(has_previous),
                put_last.en.eq(has_previous & self.is_last),
            ]
            with m.If(self.is_last & ~has_previous):
                m.d.sync += has_slots.eq(0)
        return m
