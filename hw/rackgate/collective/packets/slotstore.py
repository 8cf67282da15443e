# SPDX-License-Identifier: Apache-2.0
"""Receive buffers: which are free, in which queue the others are, and what is in them."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.packets.freeslots import FreeSlots
from rackgate.collective.packets.owed import Account
from rackgate.collective.packets.postedkeys import PacketKey
from rackgate.collective.packets.slotlists import SlotLists
from rackgate.collective.records import SLOT_BITS, Packet
from rackgate.collisions import ATTRIBUTE

__all__ = ["SeenPacket", "SlotRecord", "SlotStore"]


class SlotRecord(data.Struct):
    """Of a packet in a slot. ``is_last``: of its message."""

    packet: Packet
    key: PacketKey
    is_last: 1


class SeenPacket(data.Struct):
    """What a search sees of a packet. ``is_last``: of its message."""

    key: PacketKey
    is_last: 1


class SlotStore(wiring.Component):
    """Slots in queues (:class:`~.slotlists.SlotLists`), in the pool of free ones, or with whoever took their packets.

    The user of the queues may not append or remove in a cycle with ``take``. Each slot is always in one of the three
    places, which assertions check. Reset makes all slots free.

    Parameters
    ----------
    lists, slots:
        Number of queues, and of slots (2 to 256).

    Members
    -------
    look_list, first, list, slot, is_last, next, append, remove, has_previous, previous, has_slots:
        As of SlotLists.
    has_free, free_slot, fill, record:
        A slot is free, and which; strobe: it is free no more, and has ``record``. It is appended in the same cycle.
    look, look_slot, seen:
        Strobe: show key and mark of a slot, from the next cycle to the next strobe.
    empty, owes, can_empty:
        Strobe: ``slot``, which is or was just removed, is free; if ``owes`` its account is owed a credit. Allowed
        while ``can_empty``.
    take, take_list, taken:
        Strobe: take the first packet of a queue. It shows in the cycle after, until the next strobe, or ``peek``.
    peek:
        Strobe: show the packet in ``slot`` at ``taken``, but for its slot, in the cycle after. Not with ``take``.
    free:
        Slots of packets that were taken. ``ready`` depends on ``empty``, and is high every other cycle at most.
    owe:
        Accounts that are owed a credit, a cycle after their slots came back.
    """

    free: stream.Interface
    owe: stream.Interface

    def __init__(self, lists: int, *, slots: int):
        self.slots = operator.index(slots)
        if not 2 <= self.slots <= 1 << SLOT_BITS:
            raise ValueError(f"slots must be 2 to {1 << SLOT_BITS}, not {slots}")
        self._lists = SlotLists(lists, slots=self.slots)
        self._pool = FreeSlots(self.slots)
        slot = range(self.slots)
        super().__init__({
            "look_list": In(range(lists)), "first": Out(slot),
            "list": In(range(lists)), "slot": In(slot), "is_last": Out(1), "next": Out(slot),
            "append": In(1), "remove": In(1), "has_previous": In(1), "previous": In(slot),
            "has_slots": Out(lists),
            "has_free": Out(1), "free_slot": Out(slot), "fill": In(1), "record": In(SlotRecord),
            "look": In(1), "look_slot": In(slot), "seen": Out(SeenPacket),
            "empty": In(1), "owes": In(1), "can_empty": Out(1),
            "take": In(1), "take_list": In(range(lists)), "taken": Out(Packet), "peek": In(1),
            "free": In(stream.Signature(data.StructLayout({"slot": SLOT_BITS}))),
            "owe": Out(stream.Signature(Account)),
        })
        # For assertions only.
        self._is_listed, self._is_lent = Signal(self.slots), Signal(self.slots)
        self._listed, self._lent = Signal(range(self.slots + 1)), Signal(range(self.slots + 1))
        self._moved = Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.lists, m.submodules.pool = lists, pool = self._lists, self._pool
        m.d.comb += [
            *(getattr(lists, name).eq(getattr(self, name)) for name in (
                "look_list", "list", "slot", "append", "remove", "has_previous", "previous", "take", "take_list")),
            self.first.eq(lists.first), self.next.eq(lists.next), self.is_last.eq(lists.is_last),
            self.has_slots.eq(lists.has_slots),
            self.has_free.eq(pool.o.valid), self.free_slot.eq(pool.o.payload), pool.o.ready.eq(self.fill),
        ]
        self._remember(m)
        self._release(m)
        self._check(m)
        return m

    def _remember(self, m):
        """What is in the slots: for those who take packets, and for those who look for some."""
        # What is filled is free, so nobody looks at it in that cycle.
        m.submodules.packets = packets = Memory(shape=Packet, depth=self.slots, init=[], attrs={ATTRIBUTE: 1})
        m.submodules.keys = keys = Memory(shape=SeenPacket, depth=self.slots, init=[], attrs={ATTRIBUTE: 1})
        for memory in (packets, keys):
            write = memory.write_port()
            m.d.comb += [write.addr.eq(self.free_slot), write.en.eq(self.fill)]
            if memory is packets:
                m.d.comb += write.data.eq(self.record.packet)
            else:
                m.d.comb += [write.data.key.eq(self.record.key), write.data.is_last.eq(self.record.is_last)]
        taken, seen = packets.read_port(), keys.read_port()
        taken_slot = Signal.like(self.slot)
        m.d.comb += [
            taken.addr.eq(Mux(self.take, self._lists.take_first, self.slot)), taken.en.eq(self.take | self.peek),
            self.taken.eq(taken.data), self.taken.slot.eq(taken_slot),
            seen.addr.eq(self.look_slot), seen.en.eq(self.look), self.seen.eq(seen.data),
        ]
        with m.If(self.take):
            m.d.sync += taken_slot.eq(self._lists.take_first)

    def _release(self, m):
        """Slots back to the pool, and a cycle later a credit to their accounts."""
        m.submodules.owners = owners = Memory(shape=Account, depth=self.slots, init=[])
        write, read = owners.write_port(), owners.read_port(domain="comb")
        slot = Signal.like(self.slot)
        m.d.comb += [
            write.addr.eq(self.free_slot), write.en.eq(self.fill),
            write.data.communicator.eq(self.record.key.communicator), write.data.node.eq(self.record.key.node),
            self.can_empty.eq(~self.owe.valid),  # every other cycle is often enough, and early in it
            self.free.ready.eq(self.can_empty & ~self.empty),
            slot.eq(Mux(self.empty, self.slot, self.free.payload.slot)),
            read.addr.eq(slot),
            self._pool.i.payload.eq(slot),
            self._pool.i.valid.eq(self.empty | self.free.valid & self.free.ready),
        ]
        with m.If(self.owe.ready):
            m.d.sync += self.owe.valid.eq(0)
        with m.If(self.can_empty):
            m.d.sync += [
                self.owe.valid.eq(Mux(self.empty, self.owes, self.free.valid)),
                self.owe.payload.eq(read.data),
            ]

    def _check(self, m):
        """Each slot in one place, always."""
        frees = self.free.valid & self.free.ready
        taken, freed = self._lists.take_first, self.free.payload.slot
        with m.If(self.append):
            m.d.sync += self._is_listed.bit_select(self.slot, 1).eq(1)
        with m.If(self.remove):
            m.d.sync += self._is_listed.bit_select(self.slot, 1).eq(0)
        with m.If(self.take):
            m.d.sync += [
                self._is_listed.bit_select(taken, 1).eq(0), self._is_lent.bit_select(taken, 1).eq(1),
                Assert(self.has_slots.bit_select(self.take_list, 1), "a packet is taken that is not there"),
                Assert(~self.append & ~self.remove, "two at the queues at a time"),
            ]
        with m.If(frees):
            m.d.sync += [
                self._is_lent.bit_select(freed, 1).eq(0),
                Assert(self._is_lent.bit_select(freed, 1), "a slot is freed that nobody took"),
            ]
        m.d.sync += [
            self._listed.eq(self._listed + self.append - self.remove - self.take),
            self._lent.eq(self._lent + self.take - frees),
            # One that was removed goes to another queue or to the pool.
            self._moved.eq(self._moved ^ (self.remove != self.empty) ^ (self.append & ~self.fill)),
            Assert(self._listed + self._moved + self._lent + self._pool.level == self.slots,
                   "a slot is lost or made up"),
            Assert(~self.append | ~self._is_listed.bit_select(self.slot, 1), "a slot is in two queues"),
            Assert(~self.append | ~self._is_lent.bit_select(self.slot, 1), "a slot is in a queue that was taken"),
            Assert(~self.remove | self._is_listed.bit_select(self.slot, 1), "a slot is removed that is in no queue"),
            Assert(~self.fill | self.has_free, "a slot is filled when none is free"),
            Assert(~(self.fill & self.take) | (taken != self.free_slot), "a packet is read while it is written"),
            Assert(~(self.fill & (self.look | self.peek)), "a slot is filled during a search"),
        ]
