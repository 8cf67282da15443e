# SPDX-License-Identifier: Apache-2.0
"""Binary search in lists of segments."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = ["SegmentSearch", "check_flows", "check_lists", "found_layout", "sought_layout"]

#: Searches that are under way at the same time: as many as a step has cycles.
_SLOTS = 3


def check_flows(flows) -> int:
    """Number of flows, or an error."""
    flows = operator.index(flows)
    if flows & (flows - 1) or not 2 <= flows <= 1024:
        raise ValueError(f"flows must be a power of two from 2 to 1024, not {flows}")
    return flows


def check_lists(flows, segments) -> tuple[int, int]:
    """Numbers of lists and of segments in each, or an error."""
    flows, segments = check_flows(flows), operator.index(segments)
    if segments & (segments - 1) or not 2 <= segments <= 64:
        raise ValueError(f"segments must be a power of two from 2 to 64, not {segments}")
    return flows, segments


def sought_layout(flows: int, segments: int) -> data.StructLayout:
    """What is searched: ``position`` in the list of ``flow``, its ``count`` segments from number ``head`` on."""
    return data.StructLayout({"flow": range(flows), "head": range(segments), "count": range(segments + 1),
                              "position": 32})


def found_layout(flows: int, segments: int) -> data.StructLayout:
    """Where a position may be: in the segment at ``place`` (number in bits from 0 on, flow above) or in none.

    It is the last that does not begin after the position, or the first of the list; ``left`` segments follow it.
    ``none``: the list is empty.
    """
    return data.StructLayout({"place": range(flows * segments), "left": range(segments), "none": 1})


class SegmentSearch(wiring.Component):
    """Find the segment where a position may be, by halving, with one read port.

    A step of a search takes 3 cycles: address, memory, comparison. As many searches are under way in turn, so that the
    port reads in each cycle. With n steps, a search takes 3 * n cycles, at least 3, and 2 for the way in and out; a
    new one begins every n cycles when all have as many. A list of ``count`` segments takes log2(``count``) steps,
    rounded up. Positions are compared by the sign of their difference. Order is kept. Reset forgets all.

    Parameters
    ----------
    flows, segments:
        Numbers of lists, and of segments in each: powers of two.
    turn:
        Which slot begins. Engines that are served one after the other get on best when each begins a slot later.

    Members
    -------
    i:
        What to search (:func:`sought_layout`).
    o:
        Where to look (:func:`found_layout`).
    place:
        Read the start of this segment.
    start:
        It, in the next cycle.
    denied:
        The port is used for something else: in this cycle nothing is read; a search loses a turn.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, flows: int, segments: int, *, turn: int = 0):
        self.flows, self.segments = check_lists(flows, segments)
        super().__init__({
            "i": In(stream.Signature(sought_layout(self.flows, self.segments))),
            "o": Out(stream.Signature(found_layout(self.flows, self.segments))),
            "place": Out(range(self.flows * self.segments)), "start": In(32), "denied": In(1),
        })
        bits = exact_log2(self.segments)
        # ``index``: from the head on, what has been found not to begin after the position; ``bit``: one-hot, how much
        # further to look, 0 when nothing is left to do; ``number``: that of the segment to look at.
        search = data.StructLayout({"valid": 1, "sought": sought_layout(self.flows, self.segments), "index": bits,
                                    "bit": bits, "number": bits})
        choice = data.StructLayout({"index": bits, "number": bits})
        self._address, self._memory, self._compare = Signal(search), Signal(search), Signal(search)
        self._was_denied = Signal()  # of the search whose read is in the memory
        # What is compared: the start, and what comes of it.
        self._start, self._moves = Signal(32), Signal()
        self._same, self._further = Signal(choice), Signal(choice)
        self._rest, self._is_done = Signal(bits), Signal()  # ``bit`` after this step; it is 0
        # Slots take turns: which one is being compared, gets the next search, gives the next answer.
        self._phase = Signal(range(_SLOTS))
        self._enters, self._leaves = (Signal(range(_SLOTS), init=turn % _SLOTS, name=name)
                                      for name in ("enters", "leaves"))

    def elaborate(self, platform):
        m = Module()
        self._look(m)
        search, o, free = self._compare, self.o, Signal()
        next_search, chosen, leaves, is_after = Signal.like(search), Signal.like(self._same), Signal(), Signal()
        m.d.comb += [
            is_after.eq((search.sought.position - self._start)[31]),
            chosen.eq(Mux(self._moves & ~is_after, self._further, self._same)),
            next_search.eq(search),
            next_search.index.eq(chosen.index), next_search.number.eq(chosen.number), next_search.bit.eq(self._rest),
            leaves.eq(search.valid & self._is_done & (self._phase == self._leaves) & (~o.valid | o.ready)),
            free.eq((~search.valid | leaves) & (self._phase == self._enters)),
            self.i.ready.eq(free),
        ]
        m.d.sync += [self._phase.eq(_after(self._phase)), self._address.eq(next_search)]
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(leaves):
            m.d.sync += [
                self._leaves.eq(_after(self._leaves)),
                o.valid.eq(1),
                o.payload.place.eq(Cat(chosen.number, search.sought.flow)),
                o.payload.left.eq(search.sought.count - 1 - chosen.index),
                o.payload.none.eq(search.sought.count == 0),
                self._address.valid.eq(0),
            ]
        with m.If(free & self.i.valid):
            self._enter(m)
        return m

    def _enter(self, m):
        """Begin a search with the highest power of two that is less than the number of segments."""
        sought, first = self.i.payload, Signal(len(self._rest))
        m.d.comb += first.eq(Cat((sought.count > 1 << k) & (sought.count <= 2 << k) for k in range(len(first))))
        m.d.sync += [
            self._enters.eq(_after(self._enters)),
            self._address.valid.eq(1), self._address.sought.eq(sought),
            self._address.index.eq(0), self._address.bit.eq(first), self._address.number.eq(sought.head + first),
        ]

    def _look(self, m):
        """Read the start of a segment; while the memory works, see what either answer would lead to."""
        search, compare = self._memory, self._compare
        index, half = Signal.like(search.index), Signal.like(search.bit)
        reads = ~self._was_denied & (search.bit != 0)
        rest = Mux(reads, half, search.bit)
        m.d.comb += [
            self.place.eq(Cat(self._address.number, self._address.sought.flow)),
            index.eq(search.index | search.bit),
            half.eq(search.bit >> 1),
        ]
        m.d.sync += [
            self._memory.eq(self._address), self._was_denied.eq(self.denied),
            compare.eq(search), self._start.eq(self.start),
            self._moves.eq(reads & (index < search.sought.count)),
            self._rest.eq(rest), self._is_done.eq(rest == 0),
            self._same.index.eq(search.index),
            self._same.number.eq(Mux(reads, search.sought.head + (search.index | half), search.number)),
            self._further.index.eq(index),
            self._further.number.eq(search.sought.head + (index | half)),
        ]


def _after(slot):
    return Mux(slot == _SLOTS - 1, 0, slot + 1)
