# SPDX-License-Identifier: Apache-2.0
"""Calls that the host wants to end."""

import operator

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CALL_WORDS
from rackgate.stream.queue import Queue

__all__ = ["Aborts"]


class Aborts(wiring.Component):
    """Find the calls with an id among those that have begun and not ended, and mark them.

    Each id is compared with one call a cycle, in cycles in which the calls' words are not read by others. All calls
    with that id, of any port, are marked. Ids wait in a queue as long as there may be calls. Reset: no call is there.

    Parameters
    ----------
    slots:
        Calls, 2 to 128.

    Members
    -------
    id, write:
        An id, in the cycle in which ``write`` is high. Lost if ``slots`` ids wait.
    begin, begin_slot:
        A call begins: its words are in the store from the next cycle on.
    end, end_slot:
        A call has ended.
    may_look:
        The words can be read in this cycle, with ``look_slot`` and ``look_pair``.
    look:
        What was read.
    is_aborted:
        Bit per slot: to be ended. Falls when the slot's next call begins.
    """

    def __init__(self, slots: int):
        self.slots = operator.index(slots)
        if not 2 <= self.slots <= 128:
            raise ValueError(f"slots must be 2 to 128, not {slots}")
        slot = range(self.slots)
        super().__init__({
            "id": In(16), "write": In(1),
            "begin": In(1), "begin_slot": In(slot),
            "end": In(1), "end_slot": In(slot),
            "may_look": In(1), "look_slot": Out(slot), "look_pair": Out(range(CALL_WORDS // 2)), "look": In(64),
            "is_aborted": Out(self.slots),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.ids = ids = Queue(16, depth=self.slots, block_ram=False)
        is_live = Signal(self.slots)
        places = range(self.slots)
        looks, looked = Signal(), Signal(places)
        is_kept, kept, kept_slot = Signal(), Signal(16), Signal(places)  # a call's id
        m.d.comb += [
            ids.i.payload.eq(self.id), ids.i.valid.eq(self.write),
            self.look_pair.eq(CALL_WORDS // 2 - 1),
        ]
        # What was read comes late in its cycle, so that it is kept before it is compared. No call can end and another
        # begin in its slot meanwhile: that takes more cycles than a call has words.
        m.d.sync += [
            looks.eq(0),
            is_kept.eq(looks), kept.eq(self.look[32:48]), kept_slot.eq(looked),
        ]
        is_last = self.look_slot == self.slots - 1
        with m.FSM():
            with m.State("LOOK"):
                with m.If(ids.o.valid & self.may_look):
                    # Of a call that has not begun the words of the one before may still be there.
                    m.d.sync += [looks.eq(is_live.bit_select(self.look_slot, 1)), looked.eq(self.look_slot),
                                 self.look_slot.eq(self.look_slot + 1)]
                    with m.If(is_last):
                        m.next = "LAST"
            with m.State("LAST"):  # the last one is kept
                m.next = "COMPARE"
            with m.State("COMPARE"):
                m.d.comb += ids.o.ready.eq(1)
                m.d.sync += self.look_slot.eq(0)
                m.next = "LOOK"
        for slot in range(self.slots):
            with m.If(is_kept & (kept == ids.o.payload) & (kept_slot == slot) & is_live[slot]):
                m.d.sync += self.is_aborted[slot].eq(1)
            with m.If(self.end & (self.end_slot == slot)):
                m.d.sync += is_live[slot].eq(0)
            with m.If(self.begin & (self.begin_slot == slot)):
                m.d.sync += [is_live[slot].eq(1), self.is_aborted[slot].eq(0)]
        return m
