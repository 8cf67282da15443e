# SPDX-License-Identifier: Apache-2.0
"""A match-action stage with constant entries."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.hdl import Const as Constant
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .compute import hand_on
from .declare import Action, Entry, Table
from .layout import name_of, value_in
from .lower import first_of, lower

__all__ = ["FEW_ENTRIES", "MatchAction", "apply_actions"]

#: With more entries than these, finding one and acting on it take a cycle each.
FEW_ENTRIES = 16


def apply_actions(m: Module, packet: data.View, out: data.View, actions: Sequence[tuple[Action, Value]],
                  argument_of: dict[int, Value]) -> None:
    """Register in ``out`` what becomes of ``packet``.

    Parameters
    ----------
    m:
        Module to add to.
    packet, out:
        The packet before and after. ``out`` may lack what is no longer needed.
    actions:
        Actions, each with the bit that says that it is taken; at most one bit is 1.
    argument_of:
        By ``id`` of an action's parameter its value.
    """
    at, members = value_in(packet), {name for name, _ in out.shape()}
    hand_on(m, packet, out)
    new: dict[str, list[tuple[Value, Value]]] = {}
    for action, taken in actions:
        known = dict(argument_of)
        for item in action.assigns:
            if name_of(item.target) in members:
                new.setdefault(name_of(item.target), []).append((taken, lower(item.value, at, known)))
    for name, values in new.items():
        with m.If(Cat(taken for taken, _ in values).any()):
            m.d.sync += out[name].eq(reduce(or_, (Mux(taken, value, 0) for taken, value in values)))


def _matches(keys: Sequence[Value], entry: Entry) -> Value:
    found: Value = Constant(1, 1)
    for key, want in zip(keys, entry.key, strict=True):
        if want is not None:
            value, mask = want if isinstance(want, tuple) else (want, (1 << len(key)) - 1)
            found &= (key & mask) == (value & mask)
    return found


def _are_disjoint(table: Table) -> bool:
    """Whether no key matches two entries, so that their order does not matter."""
    wants = [[(0, 0) if want is None else want if isinstance(want, tuple) else (want, -1) for want in entry.key]
             for entry in table.entries]
    return all(any((value ^ other) & mask & other_mask for (value, mask), (other, other_mask) in zip(a, b, strict=True))
               for number, a in enumerate(wants) for b in wants[:number])


class MatchAction(wiring.Component):
    """A :class:`~.declare.Table` with constant entries, one packet a cycle, no stalls.

    The latency is 1 cycle, or 2 with more than :data:`FEW_ENTRIES` entries. Reset empties it.

    Parameters
    ----------
    table:
        The declaration; exact or ternary.
    i_layout, o_layout:
        What of a packet comes in and goes out, :func:`~.layout.carried_layout`.

    Members
    -------
    i, o:
        Packets, never stalled.
    """

    def __init__(self, table: Table, i_layout: data.StructLayout, o_layout: data.StructLayout):
        if table.size:
            raise ValueError(f"table {table.name} must have constant entries: it is filled at run time")
        self.table = table
        self.latency = 1 if len(table.entries) <= FEW_ENTRIES else 2
        super().__init__({
            "i": In(stream.Signature(i_layout, always_ready=True)),
            "o": Out(stream.Signature(o_layout, always_ready=True)),
        })

    def elaborate(self, platform):
        m = Module()
        table, packet, valid, known = self.table, self.i.payload, self.i.valid, {}
        at = value_in(packet)
        keys = [lower(key, at, known) for key in table.keys]
        matches = [_matches(keys, entry) for entry in table.entries]
        if not _are_disjoint(table):
            matches = first_of(matches)
        applies, hits = Signal(), Signal(len(matches))
        if self.latency == 1:
            m.d.comb += [applies.eq(lower(table.when, at, known)), hits.eq(Cat(matches))]
        else:
            m.d.sync += [applies.eq(lower(table.when, at, known)), hits.eq(Cat(matches))]
            packet, valid = Signal(packet.shape()), Signal()
            m.d.sync += [packet.eq(self.i.payload), valid.eq(self.i.valid)]
        m.d.sync += self.o.valid.eq(valid)
        taken = [self._taken(action, applies, hits) for action in table.all_actions]
        apply_actions(m, packet, self.o.payload, list(zip(table.all_actions, taken, strict=True)),
                      self._arguments(hits))
        return m

    def _taken(self, action, applies, hits):
        """Whether this action is the packet's."""
        own = Cat(hits[k] for k, entry in enumerate(self.table.entries) if entry.action is action).any()
        return applies & (own | ~hits.any() if action is self.table.default else own)

    def _arguments(self, hits):
        """The constants of the entry that is hit, by parameter."""
        values = {}
        for action in self.table.all_actions:
            for name, parameter in (action.parameters.fields.items() if action.parameters else ()):
                values[id(parameter)] = reduce(or_, (
                    Mux(hits[k], Constant(entry.arguments[name], parameter.width), 0)
                    for k, entry in enumerate(self.table.entries) if entry.action is action))
        return values
