# SPDX-License-Identifier: Apache-2.0
"""Lists in code order, kept in order while they grow."""

from collections.abc import Sequence

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

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
        for index, preset in enumerate(self.preset):
            with m.If(self.insert & (index >= self.place)):
                m.d.sync += self.o[index].eq(self.value)
                if index:
                    with m.If(index != self.place):
                        m.d.sync += self.o[index].eq(self.o[index - 1])
            with m.If(self.load):
                m.d.sync += self.o[index].eq(preset)
        return m
