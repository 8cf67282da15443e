# SPDX-License-Identifier: Apache-2.0
"""The work queues: descriptors in one block RAM, and where each queue's are."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import DESCRIPTOR_SIZE, QUEUES

__all__ = ["Queues"]

class Queues(wiring.Component):
    """Keep the descriptors of all queues, each queue's in the order in which they were put in.

    A queue uses the entries from ``first`` to ``last`` of a common storage as a ring; the regions of queues in use
    must not overlap. A descriptor is staged word by word into the entry behind the last one, in any order and as
    often as one likes, and belongs to the queue with ``put``. The state is in registers, so one descriptor can be
    put and one be taken each cycle; ``has_work``, ``occupancy`` and ``head`` show it in the next cycle, ``is_full``
    and ``is_limited`` in the one after (a descriptor takes 16 cycles to stage). Reset empties all queues; the storage
    keeps its contents, which no longer count.

    Parameters
    ----------
    queues:
        Number of queues, 1 to 8.
    entries:
        Descriptors of the storage, 2 to 1024.
    words:
        Words of 64 bits of a descriptor; proofs make it small.

    Members
    -------
    first, last:
        First and last entry of each queue, constant while a queue is in use.
    threshold:
        Of each queue.
    clear:
        Bit per queue: begin, empty, at ``first``.
    stage, queue, word, value:
        Write ``value`` (32 bits) as ``word`` (0 to 15) of the entry that comes next in ``queue``, which is not full.
    put:
        Append what has been staged in ``queue``, which is not full.
    take, take_queue:
        Remove the oldest descriptor of a queue that has one.
    head:
        Entry of each queue's oldest descriptor.
    read_entry, read_word:
        Address (8-byte words) of ``data`` in the next cycle.
    occupancy:
        Descriptors in each queue.
    has_work, is_full, is_limited:
        Bit per queue: it has a descriptor; it has no place; ``occupancy`` has reached ``threshold``.
    """

    def __init__(self, queues: int, *, entries: int = 64, words: int = DESCRIPTOR_SIZE // 8):
        self.queues = operator.index(queues)
        self.entries = operator.index(entries)
        self.words = operator.index(words)
        if not 1 <= self.queues <= QUEUES:
            raise ValueError(f"queues must be 1 to {QUEUES}, not {queues}")
        if not 2 <= self.entries <= 1024:
            raise ValueError(f"entries must be 2 to 1024, not {entries}")
        if self.words not in (1, 2, 4, 8):
            raise ValueError(f"words must be 1, 2, 4 or 8, not {words}")
        entry, queue = range(self.entries), range(self.queues)
        super().__init__({
            "first": In(entry).array(self.queues),
            "last": In(entry).array(self.queues),
            "threshold": In(16).array(self.queues),
            "clear": In(self.queues),
            "stage": In(1),
            "queue": In(queue),
            "word": In(range(2 * self.words)),
            "value": In(32),
            "put": In(1),
            "take": In(1),
            "take_queue": In(queue),
            "head": Out(entry).array(self.queues),
            "read_entry": In(entry),
            "read_word": In(range(self.words)),
            "data": Out(64),
            "occupancy": Out(range(self.entries + 1)).array(self.queues),
            "has_work": Out(self.queues),
            "is_full": Out(self.queues),
            "is_limited": Out(self.queues),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._memory = Memory(shape=data.ArrayLayout(32, 2), depth=self.words * self.entries, init=[])
        self._w_port = self._memory.write_port(granularity=1)
        self._r_port = self._memory.read_port()
        self._tail = [Signal(entry, name=f"tail_{number}") for number in queue]

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = self._memory
        tail = Signal(range(self.entries))
        m.d.comb += [
            tail.eq(Array(self._tail)[self.queue]),
            self._w_port.addr.eq(Cat(self.word[1:], tail)),
            self._w_port.en.eq(Cat(self.stage & ~self.word[0], self.stage & self.word[0])),
            self._w_port.data[0].eq(self.value),
            self._w_port.data[1].eq(self.value),
            self._r_port.addr.eq(Cat(self.read_word, self.read_entry)),
            self.data.eq(self._r_port.data),
        ]
        for queue in range(self.queues):
            self._keep(m, queue)
        return m

    def _keep(self, m, queue):
        """Where the ring of a queue begins and ends, and how much is in it."""
        head, tail, occupancy = self.head[queue], self._tail[queue], self.occupancy[queue]
        first, last = self.first[queue], self.last[queue]
        put, take = Signal(name=f"put_{queue}"), Signal(name=f"take_{queue}")
        m.d.comb += [
            put.eq(self.put & (self.queue == queue)),
            take.eq(self.take & (self.take_queue == queue)),
        ]
        m.d.sync += [
            occupancy.eq(occupancy + put - take),
            self.is_full[queue].eq(occupancy > last - first),
            self.is_limited[queue].eq(occupancy >= self.threshold[queue]),
            Assert(~put | (occupancy <= last - first), "a descriptor is put into a full queue"),
            Assert(~take | (occupancy != 0), "a descriptor is taken from an empty queue"),
        ]
        with m.If(put):
            m.d.sync += tail.eq(Mux(tail == last, first, tail + 1))
        with m.If(take):
            m.d.sync += head.eq(Mux(head == last, first, head + 1))
        with m.If(put):  # a register, for what follows from it is much
            m.d.sync += self.has_work[queue].eq(1)
        with m.Elif(take):
            m.d.sync += self.has_work[queue].eq(occupancy != 1)
        with m.If(self.clear[queue]):
            m.d.sync += [head.eq(first), tail.eq(first), occupancy.eq(0), self.has_work[queue].eq(0)]
