# SPDX-License-Identifier: Apache-2.0
"""Payloads to several places at a time."""

import operator

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Fork", "fork_layout"]


def fork_layout(shape, n: int) -> data.StructLayout:
    """Input of a :class:`Fork`: an ``item`` for those outputs whose bit of ``to`` is set."""
    return data.StructLayout({"item": shape, "to": n})


class Fork(wiring.Component):
    """Offer each item to the outputs it is for; take the next when all of them have taken it.

    Each output takes it when it can, alone if need be. An item for no output is taken at once. No registers in the
    data path; ``i.ready`` depends combinationally on all ``o[k].ready`` and on ``i.payload.to``, ``o[k].valid`` on no
    ``ready``. Reset forgets which outputs have taken the item at ``i``.

    Parameters
    ----------
    shape:
        Of an item.
    n:
        Number of outputs, at least 1.

    Members
    -------
    i:
        Items (:func:`fork_layout`).
    o:
        Array of the outputs.
    """

    i: stream.Interface

    def __init__(self, shape, n: int):
        self.n = operator.index(n)
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        super().__init__({
            "i": In(stream.Signature(fork_layout(shape, self.n))),
            "o": Out(stream.Signature(shape)).array(self.n),
        })
        self._has_taken = Signal(self.n)

    def elaborate(self, platform):
        m = Module()
        is_left, takes = Signal(self.n), Signal(self.n)
        m.d.comb += [
            is_left.eq(self.i.payload.to & ~self._has_taken),
            takes.eq(is_left & Cat(output.ready for output in self.o)),
            self.i.ready.eq(takes == is_left),
        ]
        for index, output in enumerate(self.o):
            m.d.comb += [output.payload.eq(self.i.payload.item), output.valid.eq(self.i.valid & is_left[index])]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += self._has_taken.eq(0)
        with m.Elif(self.i.valid):
            m.d.sync += self._has_taken.eq(self._has_taken | takes)
        return m
