# SPDX-License-Identifier: Apache-2.0
"""Which headers may be merged, and what waits for more to come."""

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.records import FLOW_BITS
from rackgate.zeronic.rx.headerslots import slot_words
from rackgate.zeronic.rx.records import HEADERS_BITS, SLOT_BITS

__all__ = ["CONTEXTS", "FLAGS_BYTE", "Context", "Contexts", "HeaderCompare"]

#: Flows whose headers may wait.
CONTEXTS = 8
#: Byte of TCP's flags, from IPv4's first byte on.
FLAGS_BYTE = 33
_PSH = 0x08
#: Bytes that differ between segments of one burst: IPv4's length, identification, checksum; TCP's sequence number,
#: checksum.
_FREE_BYTES = (2, 3, 4, 5, 10, 11, 24, 25, 26, 27, 36, 37)


class Context(data.Struct):
    """Merged headers that wait: of ``frames`` frames with ``payload`` bytes, which the frame at position ``next`` may
    join. The headers, ``headers`` bytes with Ethernet's, are in ``slot``.
    """

    ring: 1
    slot: SLOT_BITS
    next: 32
    payload: 17
    frames: 8
    headers: HEADERS_BITS


class Contexts(wiring.Component):
    """Contexts in the order in which they were made, and which flow each is of.

    Answers show in the cycle after ``flow`` is set. At most one of ``append``, ``remove``, ``update`` in a cycle.
    Reset empties it.

    Members
    -------
    flow, has_flow, place:
        In the cycle after: whether there is a context of ``flow``, and its place in the order.
    at, found, found_flow:
        The context at place ``at``, in the same cycle, and its flow.
    is_empty, is_full:
        As it is.
    append, remove, update:
        Strobes: ``context`` of ``flow`` becomes the youngest, due in ``cycles`` cycles; the one at ``at`` goes; it
        becomes ``context``.
    cycles:
        Cycles that a context may wait, less than 2**31.
    is_due:
        The oldest one has waited so long.
    context:
        What to append, or to update to.
    """

    def __init__(self):
        place = range(CONTEXTS)
        super().__init__({
            "flow": In(FLOW_BITS), "has_flow": Out(1), "place": Out(place),
            "at": In(place), "found": Out(Context), "found_flow": Out(FLOW_BITS),
            "is_empty": Out(1), "is_full": Out(1),
            "append": In(1), "remove": In(1), "update": In(1), "context": In(Context),
            "cycles": In(32), "is_due": Out(1),
        })
        self._row = data.StructLayout({"flow": FLOW_BITS, "number": place})
        # In the order of age; rows from ``count`` on are of no flow and hold the numbers that are free.
        self._rows = Array(Signal(self._row, init={"number": k}, name=f"row_{k}") for k in place)
        self._count = Signal(range(CONTEXTS + 1))

    def elaborate(self, platform):
        m = Module()
        m.submodules.contexts = contexts = Memory(shape=Context, depth=CONTEXTS, init=[])
        m.submodules.dues = dues = Memory(shape=32, depth=CONTEXTS, init=[])
        write, read = contexts.write_port(), contexts.read_port(domain="comb")
        write_due, due = dues.write_port(), dues.read_port(domain="comb")
        now, row, free, waited = Signal(32), Signal(self._row), Signal(self._row), Signal(32)
        m.d.comb += [
            row.eq(self._rows[self.at]),
            free.eq(self._rows[self._count[:-1]]),
            read.addr.eq(row.number),
            self.found.eq(read.data),
            self.found_flow.eq(row.flow),
            write.addr.eq(Mux(self.append, free.number, row.number)),
            write.data.eq(self.context),
            write.en.eq(self.append | self.update),
            write_due.addr.eq(free.number),
            write_due.data.eq(now + self.cycles),
            write_due.en.eq(self.append),
            due.addr.eq(self._rows[0].number),
            waited.eq(now - due.data),
            self.is_empty.eq(self._count == 0),
            self.is_full.eq(self._count == CONTEXTS),
        ]
        m.d.sync += [
            now.eq(now + 1),
            self.is_due.eq(~self.is_empty & ~self.remove & ~waited[-1]),
            self._count.eq(self._count + self.append - self.remove),
            Assert(self.append + self.remove + self.update <= 1, "two changes in a cycle"),
            Assert(~self.append | ~self.is_full, "a context too many"),
            Assert(~(self.remove | self.update) | (self.at < self._count), "a context that is not there"),
        ]
        self._search(m)
        self._reorder(m, row, free)
        return m

    def _search(self, m):
        hits = Cat((row.flow == self.flow) & (self._count > k) for k, row in enumerate(self._rows))
        m.d.sync += self.has_flow.eq(hits.any())
        for k in range(CONTEXTS):
            with m.If(hits[k]):
                m.d.sync += self.place.eq(k)
        m.d.sync += Assert((hits & (hits - 1)) == 0, "a flow has two contexts")

    def _reorder(self, m, row, free):
        with m.If(self.append):
            m.d.sync += self._rows[self._count[:-1]].flow.eq(self.flow)
        with m.If(self.remove):
            for k in range(CONTEXTS - 1):
                with m.If(k >= self.at):
                    m.d.sync += self._rows[k].eq(self._rows[k + 1])
            m.d.sync += self._rows[CONTEXTS - 1].eq(row)


class HeaderCompare(wiring.Component):
    """Tell whether two headers are so alike that they may be merged: see EntryKind.HEADER.

    Words come one behind the other. Reset begins anew.

    Parameters
    ----------
    width:
        Bytes of a word.

    Members
    -------
    begin:
        Strobe, before the first word: forget what was seen.
    step, index, count, left:
        Strobe: word ``index`` of one header, from IPv4's first byte on, of which ``count`` bytes count.
    right:
        In the cycle after: the same word of the other.
    is_same:
        All words since ``begin`` were alike, up to the one of 2 cycles ago.
    """

    def __init__(self, width):
        self.width = width
        super().__init__({
            "begin": In(1), "step": In(1), "index": In(range(slot_words(width))), "count": In(range(width + 1)),
            "left": In(8 * width), "right": In(8 * width), "is_same": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        mask, counts, left = Signal(8 * self.width), Signal(8 * self.width), Signal(8 * self.width)
        differs, were_alike = Signal(4 * self.width), Signal()  # the word of 2 cycles ago, by two bits; all before it
        with m.Switch(self.index):
            for index in range(slot_words(self.width)):
                with m.Case(index):
                    m.d.comb += mask.eq(self._mask(index))
        # What counts is known before ``right``, which comes late, from a memory: between it and a register is one gate.
        difference = (left ^ self.right) & counts
        m.d.sync += [
            left.eq(self.left),
            counts.eq(Mux(self.step, mask & Cat((self.count > k).replicate(8) for k in range(self.width)), 0)),
            differs.eq(Cat(difference.word_select(k, 2).any() for k in range(4 * self.width))),
            were_alike.eq(self.begin | self.is_same),
        ]
        m.d.comb += self.is_same.eq(were_alike & ~differs.any())
        return m

    def _mask(self, index):
        mask = 0
        for lane in range(self.width):
            byte = index * self.width + lane
            wanted = 0 if byte in _FREE_BYTES else 0xFF & ~_PSH if byte == FLAGS_BYTE else 0xFF
            mask |= wanted << 8 * lane
        return mask
