# SPDX-License-Identifier: Apache-2.0
"""Where entries go in their rings, and when there is room."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.abi import RINGS
from rackgate.zeronic.records import ADDRESS_BITS
from rackgate.zeronic.rx.records import UNITS_BITS

__all__ = ["LOG_SIZE_LEAST", "LOG_SIZE_MOST", "Place", "Rings", "Room"]

#: Least and greatest logarithm of a ring's size.
LOG_SIZE_LEAST, LOG_SIZE_MOST = 12, 26
#: Bytes of a unit of an entry's size.
_UNIT_BITS = 3


class Room(data.Struct):
    """An entry of ``units`` times 8 bytes for ``ring``."""

    ring: 1
    units: UNITS_BITS


class Place(data.Struct):
    """An entry's place: ``units`` times 8 bytes from ``address`` on. ``pad``: it is one that fills the end of the ring,
    before the one that was asked for; it has up to 8 KiB. ``lost``: there is no place for the entry, not ever.
    """

    ring: 1
    address: ADDRESS_BITS
    units: UNITS_BITS
    pad: 1
    lost: 1


class Rings(wiring.Component):
    """Give each entry a place that is free, and is in one part.

    An entry that would run past the end of its ring begins at the ring's begin, and a pad fills what is left; each of
    the two waits for room of its own. An entry longer than its ring, or for a ring that is not there, is lost.

    An entry takes 2 cycles, one behind a pad 4. Reset empties the rings.

    Members
    -------
    base, log_size, consumer:
        Of each ring: its address, a multiple of 64; the logarithm of its size, 12 to 26, with any other there is no
        ring, which counts for entries two cycles later; bytes that the host is done with.
    producer:
        Bytes of entries that are in memory.
    i:
        Entries that want a place (:class:`Room`).
    o:
        Their places (:class:`Place`), in order.
    written:
        Entries and pads that are in memory, in order (:class:`Room`).
    is_full:
        High in each cycle in which an entry waits for room, and in one for each entry that is lost.
    """

    i: stream.Interface
    o: stream.Interface
    written: stream.Interface

    def __init__(self):
        super().__init__({
            "base": In(ADDRESS_BITS).array(RINGS),
            "log_size": In(5).array(RINGS),
            "consumer": In(32).array(RINGS),
            "producer": Out(32).array(RINGS),
            "i": In(stream.Signature(Room)),
            "o": Out(stream.Signature(Place)),
            "written": In(stream.Signature(Room, always_ready=True)),
            "is_full": Out(1),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._heads = Array(Signal(32, name=f"head_{k}") for k in range(RINGS))  # bytes that have a place
        self._sizes = Array(Signal(LOG_SIZE_MOST + 1, name=f"size_{k}") for k in range(RINGS))  # 0: there is no ring
        self._masks = Array(Signal(LOG_SIZE_MOST, name=f"mask_{k}") for k in range(RINGS))  # a size less 1
        self._spare = Array(Signal(32, name=f"spare_{k}") for k in range(RINGS))  # bytes free in the cycle before
        # Of the cycle before, but for heads: where the next entry of a ring begins, and how much is left of the ring.
        ends = data.StructLayout({"offset": LOG_SIZE_MOST, "left": LOG_SIZE_MOST + 1, "size": LOG_SIZE_MOST + 1})
        self._ends = [Signal(ends, name=f"ends_{k}") for k in range(RINGS)]
        self._is_waiting = Signal()  # the entry at ``i`` has a place, and waits for room there
        self._is_granted = Signal()  # it had room: what is on offer stays, whatever the host says

    def elaborate(self, platform):
        m = Module()
        wanted, place, ring = self.i.payload, self.o.payload, self.i.payload.ring
        spare, ends, units = self._spare[place.ring], Signal.like(self._ends[0]), Signal(LOG_SIZE_MOST + 1)
        is_lost, is_pad, has_room, takes = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            ends.eq(Array(self._ends)[ring]),
            units.eq(wanted.units << _UNIT_BITS),
            is_lost.eq(units > ends.size),
            is_pad.eq(~is_lost & (ends.left < units)),
            # None if a host says it has read what is not written.
            has_room.eq((place.units << _UNIT_BITS <= spare) & (spare <= self._sizes[place.ring])),
        ]
        with m.If(~self._is_waiting):
            m.d.sync += [
                self._is_waiting.eq(self.i.valid),
                place.ring.eq(ring),
                place.lost.eq(is_lost),
                place.pad.eq(is_pad),
                place.units.eq(Mux(is_pad, ends.left, units) >> _UNIT_BITS),
                place.address.eq(Array(self.base)[ring] + ends.offset),
            ]
        with m.Else():
            m.d.sync += self._is_granted.eq(self.o.valid & ~self.o.ready)
            m.d.comb += [
                self.o.valid.eq(place.lost | has_room | self._is_granted),
                self.is_full.eq(~self.o.valid | place.lost & self.o.ready),
            ]
            with m.If(self.o.valid & self.o.ready):
                m.d.comb += self.i.ready.eq(~place.pad)
                m.d.sync += self._is_waiting.eq(0)
                m.d.comb += takes.eq(~place.lost)
        for k in range(RINGS):
            self._advance(m, k, takes & (place.ring == k), place.units << _UNIT_BITS)
            with m.If(self.written.valid & (self.written.payload.ring == k)):
                m.d.sync += self.producer[k].eq(self.producer[k] + (self.written.payload.units << _UNIT_BITS))
            # Before a place is wanted, so that whether there is room is one comparison behind registers.
            m.d.sync += self._spare[k].eq(self._sizes[k] + self.consumer[k] - self._heads[k])
        for size, mask, log_size in zip(self._sizes, self._masks, self.log_size, strict=True):
            is_there = (log_size >= LOG_SIZE_LEAST) & (log_size <= LOG_SIZE_MOST)
            m.d.sync += [size.eq(Mux(is_there, 1 << log_size, 0)), mask.eq((1 << log_size) - 1)]
        return m

    def _advance(self, m, k, takes, step):
        """The head of a ring, and what follows from it: ready for both ways before it is known if a place is taken."""
        head, mask, ends = self._heads[k], self._masks[k], self._ends[k]
        after, size = Signal(32, name=f"after_{k}"), self._sizes[k]
        m.d.comb += after.eq(head + step)
        m.d.sync += [ends.size.eq(size), ends.offset.eq(head & mask), ends.left.eq(size - (head & mask))]
        with m.If(takes):
            m.d.sync += [head.eq(after), ends.offset.eq(after & mask), ends.left.eq(size - (after & mask))]
