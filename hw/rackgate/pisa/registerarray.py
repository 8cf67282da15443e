# SPDX-License-Identifier: Apache-2.0
"""A register array: read, modify and write one word, in one indivisible step, a packet a cycle.

Time of a packet in an array of n cycles, which are 4, or 6 if the memory has several banks (:mod:`.bankedmemory`):

=========  ==========================================================================================
cycle 0    its index is known: is that the index of a packet before it
1          which of those packets is the nearest
0 to n - 3 it is at ``i``: which action
n - 3      the result of the packet 3 to n before it, if it is one of these
n - 2      that, or the result of the packet 2 before, or the word from memory
n - 1      that, or the result of the packet just before: the action takes it to a new word
n          the packet is at ``o``, the new word is the *result* and on its way to memory
=========  ==========================================================================================

A packet that comes n + 1 cycles later, or more, reads the new word from memory; each one nearer gets it from the
result or its history. So the access is atomic whatever the distance. The history also holds what a packet only
read, so the nearest access counts, whatever it did; a packet for which no action holds reads too.

The stages before may know the index already while they still work on what the action depends on. Then the array takes
it from there, up to n - 3 cycles before the packet, and the packet spends so many cycles less in it.
"""

from functools import reduce
from operator import or_

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .bankedmemory import BankedMemory, Geometry
from .compute import hand_on
from .declare import Access
from .hoist import early_parts, regroup
from .layout import carried_layout, name_of, value_in
from .liveness import reads_of
from .lower import first_of, lower

__all__ = ["RegisterArray"]


class RegisterArray(wiring.Component):
    """Carry out an :class:`~.declare.Access`, one packet a cycle, no stalls.

    The latency is 4 cycles, or 6 with several banks, less ``lead``.

    Accesses are indivisible and in the order of the packets. An access of the control plane takes its place among
    the packets: one that is marked ``is_control`` does what ``access`` says, which must stay until it is at ``o``.

    Reset empties it. It does not clear block RAM, therefore after reset every word is written with the register's
    ``init``, one a cycle; ``ready`` is low until the last is on its way, and no packet may come before.

    Parameters
    ----------
    stage:
        The declaration.
    i_layout, o_layout:
        What of a packet comes in and goes out, :func:`~.layout.carried_layout`.
    geometry:
        How the memory is cut, if not as the ECP5 likes it best.
    known_ahead:
        Cycles before a packet is at ``i`` from which on its index is known.

    Members
    -------
    i, o:
        Packets, never stalled.
    ahead:
        If there is a ``lead``: the same packets as at ``i``, so many cycles earlier, with the fields of which the index
        is made.
    access:
        Access of the control plane: ``select`` says that it is to this register.
    found:
        What the last read of the control plane found, from the cycle after its packet was at ``o``; 0 if there is no
        such word.
    ready:
        All words are initialised.

    Attributes
    ----------
    lead:
        Cycles by which ``ahead`` is before ``i``: at most ``known_ahead``, and as many as are of use.
    """

    def __init__(self, stage: Access, i_layout: data.StructLayout, o_layout: data.StructLayout, *,
                 geometry: Geometry | None = None, known_ahead: int = 0):
        register = stage.register
        self.stage = stage
        self.geometry = geometry or Geometry(register.width, register.depth)
        if (self.geometry.width, self.geometry.depth) != (register.width, register.depth):
            raise ValueError(f"geometry must be of {register.depth} words of {register.width} bits")
        if known_ahead < 0:
            raise ValueError(f"known_ahead must not be negative: {known_ahead}")
        self.memory = BankedMemory(self.geometry)
        self._last = last = self.memory.latency + 1
        self.lead = lead = min(known_ahead, last - 3)
        self.latency = last - lead
        index_width = (register.depth - 1).bit_length()
        ahead = In(stream.Signature(carried_layout(reads_of(stage.index)), always_ready=True))
        super().__init__({
            "i": In(stream.Signature(i_layout, always_ready=True)),
            "o": Out(stream.Signature(o_layout, always_ready=True)),
            **({"ahead": ahead} if lead else {}),
            "access": In(wiring.Signature({
                "select": Out(1), "write": Out(1), "index": Out(index_width + 1), "data": Out(register.width)})),
            "found": Out(register.width),
            "ready": Out(1),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._scrubbed = Signal(index_width + 1)
        at, behind = range(last + 1), range(lead + 1, last)
        #: Of the packet in each cycle from ``lead`` on: what it brought, its action, whether it writes a word.
        self._packet = [*[self.i.payload] * (lead + 1), *(Signal(i_layout, name=f"packet_{k}") for k in behind)]
        self._valid = [*[self.i.valid] * (lead + 1), *(Signal(name=f"valid_{k}") for k in behind)]
        self._chosen = [Signal(max(1, len(stage.actions)), name=f"chosen_{k}") for k in at]
        self._writes = [Signal(name=f"writes_{k}") for k in at]
        #: In each cycle: whether it accesses a word, it comes with the word, it wants to know it, and which word.
        self._accesses = [Signal(name=f"accesses_{k}") for k in at]
        self._loads = [Signal(name=f"loads_{k}") for k in at]
        self._reads = [Signal(name=f"reads_{k}") for k in at]
        self._index = [Signal(index_width, name=f"index_{k}") for k in at]
        #: Distances at which a packet's word may come from a result; a proof takes one away.
        self._distances = frozenset(range(1, last + 1))
        #: The result, and those before it.
        self._results = [Signal(register.width, name=f"result_{k}") for k in range(last - 2)]

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = self.memory
        last, lead, results = self._last, self.lead, self._results
        self._announce(m)
        self._choose(m)
        for row in (self._packet[lead:], self._valid[lead:], self._chosen[lead:], self._writes[lead:], self._accesses,
                    self._loads, self._reads, self._index, results):
            m.d.sync += [then.eq(now) for now, then in zip(row[:-1], row[1:], strict=True)]
        m.d.comb += [
            memory.r_addr.eq(self._index[0]),
            memory.w_addr.eq(self._index[last]),
            memory.w_data.eq(results[0]),
            memory.w_en.eq(self._writes[last]),
        ]
        is_next, word = self._forward(m), Signal(self.geometry.width)
        m.d.comb += word.eq(Mux(is_next, results[0], memory.o))
        self._execute(m, word)
        with m.If(self._reads[last]):
            m.d.sync += self.found.eq(Mux(self._accesses[last], results[0], 0))
        return m

    def _announce(self, m):
        """Cycle 0: which word the packet, the control plane or the initialisation accesses."""
        stage, depth, access = self.stage, self.stage.register.depth, self.access
        comes = self.ahead if self.lead else self.i
        index = lower(stage.index, value_in(comes.payload), {})
        is_packet, is_control, scrubs = Signal(), Signal(), Signal()
        m.d.comb += [
            scrubs.eq(self._scrubbed != depth),
            self.ready.eq(~scrubs),
            is_packet.eq(comes.valid & ~comes.payload.is_control & (index < depth)),
            is_control.eq(comes.valid & comes.payload.is_control & access.select),
            self._accesses[0].eq(is_packet | is_control & (access.index < depth) | scrubs),
            self._loads[0].eq(is_control & access.write | scrubs),
            self._reads[0].eq(is_control),
            self._index[0].eq(Mux(scrubs, self._scrubbed, Mux(is_control, access.index, index))),
        ]
        with m.If(scrubs):
            m.d.sync += [
                self._scrubbed.eq(self._scrubbed + 1),
                Assert(~comes.valid, "a packet came before all words were initialised"),
            ]

    def _choose(self, m):
        """The packet is at ``i``: which action."""
        stage, lead, known = self.stage, self.lead, {}
        packet, accesses = self._packet[lead], self._accesses[lead]
        at, is_packet = value_in(packet), Signal()
        m.d.comb += is_packet.eq(self._valid[lead] & ~packet.is_control & accesses & lower(stage.when, at, known))
        whens = first_of([lower(action.when, at, known) for action in stage.actions])
        m.d.comb += [
            self._chosen[lead].eq(Mux(is_packet, Cat(whens), 0)),
            self._writes[lead].eq(
                Cat(self._chosen[lead][k] for k, action in enumerate(stage.actions) if action.update).any()
                | self._loads[lead] & accesses),
        ]

    def _forward(self, m):
        """Cycles 0 to n - 2: let what is not yet in memory stand in for it.

        Returns whether the result of the packet just before is the word to take, in cycle n - 1.
        """
        last, memory, results = self._last, self.memory, self._results
        hits = Signal(last)  # cycle 1: bit d - 1 says that the packet d before accesses the same word
        m.d.sync += hits.eq(Cat(
            self._accesses[0] & ~self._loads[0] & self._accesses[d] & (self._index[0] == self._index[d])
            if d in self._distances else 0 for d in range(1, last + 1)))
        nearest = [Signal(last, name=f"nearest_{k}") for k in range(1, last)]  # of the packet in each cycle from 1 on
        m.d.comb += nearest[0].eq(Cat(first_of(list(hits))))
        m.d.sync += [then.eq(now) for now, then in zip(nearest[:-1], nearest[1:], strict=True)]
        early, late, now = last - 3, last - 2, last - 1
        older, stands_in = Signal(self.geometry.width), nearest[early - 1]
        m.d.sync += older.eq(reduce(or_, (Mux(stands_in[d - 1], results[d - 3], 0) for d in range(3, last + 1)))
                             | Mux(self._loads[early], self._loaded(early), 0))
        m.d.comb += [
            memory.use.eq(~stands_in.any() & ~self._loads[early]),
            memory.part.eq(older | Mux(nearest[late - 1][1], results[0], 0)),
        ]
        return nearest[now - 1][0]

    def _loaded(self, cycle):
        """What the control plane, or else the initialisation, writes."""
        return Mux(self._valid[cycle], self.access.data, self.stage.register.init)

    def _execute(self, m, word):
        """Cycle n - 1: from word and packet to new word and packet. What does not need the word came a cycle before."""
        stage, before, now = self.stage, self._last - 2, self._last - 1
        parts, low = {}, 0
        for part in stage.register.word.fields.values():
            parts[id(part)] = word[low:low + part.width]
            low += part.width
        early = value_in(self._packet[before])
        known, early_known = dict(parts), {}
        late, regrouped = frozenset(stage.register.word.fields.values()), {}
        updates = [{name: regroup(value, late, regrouped) for name, value in stage.new_word(action).items()
                    if name in action.update} for action in stage.actions]
        sent = [[(item.target, regroup(item.value, late, regrouped)) for item in action.out]
                for action in stage.actions]
        for expr in early_parts([*(value for values in updates for value in values.values()),
                                 *(value for values in sent for _, value in values)], late):
            kept = Signal(expr.width, name="early")
            m.d.sync += kept.eq(lower(expr, early, early_known))
            known[id(expr)] = kept
        at, out = value_in(self._packet[now]), self.o.payload
        m.d.sync += self.o.valid.eq(self._valid[now])
        hand_on(m, self._packet[now], out)

        chosen = self._chosen[now]
        new = {name: [] for name in stage.register.word.fields}
        outs = {}
        for number in range(len(stage.actions)):
            for name, value in updates[number].items():
                new[name].append((number, lower(value, at, known)))
            for target, value in sent[number]:
                outs.setdefault(name_of(target), []).append((number, lower(value, at, known)))
        m.d.sync += self._results[0].eq(Cat(
            self._either(m, chosen, values, parts[id(stage.register.word[name])]) for name, values in new.items()))
        for name, _ in out.shape():
            if name in outs:
                old = next(at(item.target) for action in stage.actions for item in action.out
                           if name_of(item.target) == name)
                m.d.sync += out[name].eq(self._either(m, chosen, outs[name], old))

    def _either(self, m, chosen, values, old):
        """The value of the action that was chosen, or the old one."""
        if not values:
            return old
        keeps = Signal(name="keeps")
        m.d.sync += keeps.eq(~Cat(self._chosen[self._last - 2][number] for number, _ in values).any())
        return reduce(or_, (Mux(chosen[number], value, 0) for number, value in values), Mux(keeps, old, 0))
