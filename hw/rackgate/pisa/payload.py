# SPDX-License-Identifier: Apache-2.0
"""Slots: where frames wait while their headers go through a pipeline."""

import operator
from functools import reduce
from operator import or_

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.stream.packet import WIDTHS

__all__ = ["LEAST_SIZE", "MOST_SLOTS", "FrameStore", "SlotPool", "about_layout", "check_slots"]

#: Slots that a pool has at most, and bytes that a slot has at least.
MOST_SLOTS, LEAST_SIZE = 64, 64


def check_slots(slots: int) -> int:
    """``slots`` if it is a legal number of slots. Raises ValueError: it must be a power of two, 2 to 64."""
    slots = operator.index(slots)
    if not 2 <= slots <= MOST_SLOTS or slots & slots - 1:
        raise ValueError(f"slots must be a power of two from 2 to {MOST_SLOTS}, not {slots}")
    return slots


def about_layout(slot_size: int) -> data.StructLayout:
    """What is known of a slot's payload: its first byte, its bytes, and the sum of its words (RFC 1071)."""
    bits = slot_size.bit_length()
    return data.StructLayout({"start": bits, "length": bits, "sum": 16})


class SlotPool(wiring.Component):
    """Numbers of slots that nobody uses.

    A number is given out at ``free`` and comes back at one of ``put``; between that it is given to nobody else. One a
    cycle goes out, one comes back at each of ``put``; one that comes back at cycle t can be taken from t + 2 on. A
    number that comes back twice fails an assertion. After reset all are free.

    Parameters
    ----------
    slots:
        How many: a power of two, 2 to 64.
    returns:
        Ways by which they come back.

    Members
    -------
    free:
        Slots to take.
    put:
        Slots that come back; always ready.
    is_idle:
        All slots are here.
    """

    free: stream.Interface

    def __init__(self, slots: int, *, returns: int = 2):
        self.slots = check_slots(slots)
        self.returns = operator.index(returns)
        if self.returns < 1:
            raise ValueError(f"returns must be at least 1, not {returns}")
        number = stream.Signature(range(self.slots))
        super().__init__({
            "free": Out(number),
            "put": In(stream.Signature(range(self.slots), always_ready=True)).array(self.returns),
            "is_idle": Out(1),
        })
        # Made here so that a proof can state invariants about it: free ones but for the one on offer.
        self._is_free = Signal(self.slots, init=(1 << self.slots) - 1)

    def elaborate(self, platform):
        m = Module()
        taken, back = Signal(self.slots), [Signal(self.slots, name=f"back_{k}") for k in range(self.returns)]
        moves = ~self.free.valid | self.free.ready
        with m.If(moves):
            m.d.comb += taken.eq(self._is_free & -self._is_free)
            m.d.sync += self.free.valid.eq(self._is_free.any())
            m.d.sync += self.free.payload.eq(Cat(Cat(taken[k] for k in range(self.slots) if k >> bit & 1).any()
                                                 for bit in range(exact_log2(self.slots))))
        offered, all_back = Signal(self.slots), Signal(self.slots)
        m.d.comb += [
            *(mine.eq((put.valid << put.payload)[:self.slots]) for mine, put in zip(back, self.put, strict=True)),
            all_back.eq(reduce(or_, back)),
            offered.eq((self.free.valid << self.free.payload)[:self.slots]),
            self.is_idle.eq((self._is_free | offered).all()),
        ]
        m.d.sync += self._is_free.eq(self._is_free & ~taken | all_back)
        m.d.sync += Assert((all_back & (self._is_free | offered)) == 0, "a slot is given back that nobody has")
        for number, mine in enumerate(back[1:], 1):
            m.d.sync += Assert((mine & reduce(or_, back[:number])) == 0, "a slot is given back twice at once")
        return m


class FrameStore(wiring.Component):
    """Memory of the slots: words of frames, and what is known of each frame's payload.

    One word goes in and one comes out a cycle; so with ``about``. Reset changes nothing: what a slot holds does not
    count until it is written.

    Parameters
    ----------
    width:
        Bytes of a word.
    slots, slot_size:
        How many slots, and their bytes: powers of two.

    Members
    -------
    write, write_slot, write_index, write_data:
        Put a word into a slot.
    read, read_slot, read_index, read_data:
        ``read_data`` is the word asked for in the last cycle with ``read``.
    tell, tell_slot, told:
        Keep what is known of a payload.
    ask_slot, about:
        What is known of the payload in ``ask_slot``, at once.
    """

    def __init__(self, width: int, slots: int, slot_size: int):
        self.width, self.slots, self.slot_size = operator.index(width), check_slots(slots), operator.index(slot_size)
        if self.width not in WIDTHS:
            raise ValueError(f"width must be one of {WIDTHS} bytes, not {width}")
        if self.slot_size < LEAST_SIZE or self.slot_size & self.slot_size - 1:
            raise ValueError(f"slot_size must be a power of two of at least {LEAST_SIZE}, not {slot_size}")
        self.words = self.slot_size // self.width
        number, about = range(self.slots), about_layout(self.slot_size)
        super().__init__({
            "write": In(1), "write_slot": In(number), "write_index": In(range(self.words)),
            "write_data": In(8 * self.width),
            "read": In(1), "read_slot": In(number), "read_index": In(range(self.words)),
            "read_data": Out(8 * self.width),
            "tell": In(1), "tell_slot": In(number), "told": In(about),
            "ask_slot": In(number), "about": Out(about),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.content = content = Memory(shape=8 * self.width, depth=self.slots * self.words, init=[])
        m.submodules.known = known = Memory(shape=about_layout(self.slot_size), depth=self.slots, init=[])
        write, read = content.write_port(), content.read_port()
        tell, ask = known.write_port(), known.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.write), write.addr.eq(Cat(self.write_index, self.write_slot)),
            write.data.eq(self.write_data),
            read.en.eq(self.read), read.addr.eq(Cat(self.read_index, self.read_slot)), self.read_data.eq(read.data),
            tell.en.eq(self.tell), tell.addr.eq(self.tell_slot), tell.data.eq(self.told),
            ask.addr.eq(self.ask_slot), self.about.eq(ask.data),
        ]
        return m
