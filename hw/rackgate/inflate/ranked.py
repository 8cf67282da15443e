# SPDX-License-Identifier: Apache-2.0
"""Lists in code order, kept in order while they grow."""

from collections.abc import Sequence

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.inflate.logic import at_least

__all__ = ["RankedList"]


class RankedList(wiring.Component):
    """A list into which values are inserted anywhere, one a cycle; those behind move up by one.

    Symbols come in symbol order and are wanted in the order of their codes, by length first. The place of a
    symbol is then the number of symbols so far that are not longer, so no sorting pass is needed.

    There is no emptying: entries behind those inserted since the last one at place 0 are left over or undefined.
    Reset changes nothing.

    Parameters
    ----------
    width:
        Bits of a value.
    preset:
        What ``load`` sets the list to; its length is that of the list.

    Members
    -------
    insert, place, value:
        Puts ``value`` at ``place``.
    load:
        Sets the list to ``preset`` (``insert`` must be low).
    o:
        The list.

    Raises
    ------
    ValueError
        If a value of ``preset`` does not fit ``width`` bits.
    """

    def __init__(self, width: int, *, preset: Sequence[int]):
        self.width, self.preset = width, tuple(preset)
        for value in self.preset:
            if not 0 <= value < 1 << width:
                raise ValueError(f"preset values must fit {width} bits, which {value} does not")
        super().__init__({
            "insert": In(1),
            "place": In(ceil_log2(len(self.preset))),
            "value": In(width),
            "load": In(1),
            "o": Out(data.ArrayLayout(width, len(self.preset))),
        })

    def elaborate(self, platform):
        m = Module()
        # With the initial value to be loaded and no reset, loading takes only a flip-flop's set or reset input.
        entries = [Signal(self.width, name=f"entry_{index}", init=preset, reset_less=True)
                   for index, preset in enumerate(self.preset)]
        for index, (entry, preset) in enumerate(zip(entries, self.preset, strict=True)):
            m.d.comb += self.o[index].eq(entry)
            is_place = Signal(name=f"is_place_{index}")
            m.d.comb += is_place.eq(self.place == index)
            with m.If(self.insert & ~at_least(self.place, index + 1)):
                m.d.sync += entry.eq(Mux(is_place, self.value, entries[max(index - 1, 0)]))
            with m.If(self.load):
                m.d.sync += entry.eq(preset)
        return m
