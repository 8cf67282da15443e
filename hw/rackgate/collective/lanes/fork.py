# SPDX-License-Identifier: Apache-2.0
"""Packets to several places at a time."""

import operator

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature, packet_layout

__all__ = ["Fork", "fork_layout"]


def fork_layout(width: int, n: int) -> data.StructLayout:
    """Input of a :class:`Fork`: a ``word`` for those outputs whose bit of ``to`` is set."""
    return data.StructLayout({"word": packet_layout(width), "to": n})


class Fork(wiring.Component):
    """Offer each word to the outputs it is for; take the next when all of them have taken it.

    Each output takes it when it can, alone if need be. A word for no output is taken at once. No registers in the
    data path; ``i.ready`` depends combinationally on all ``o[k].ready`` and on ``i.payload.to``, ``o[k].valid`` on no
    ``ready``. Reset forgets which outputs have taken the word at ``i``.

    Parameters
    ----------
    width:
        Bytes of a word.
    n:
        Number of outputs, at least 1.

    Members
    -------
    i:
        Words (:func:`fork_layout`).
    o:
        Array of the outputs.
    """

    i: stream.Interface

    def __init__(self, width, n):
        self.n = operator.index(n)
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        super().__init__({
            "i": In(stream.Signature(fork_layout(width, self.n))),
            "o": Out(PacketSignature(width)).array(self.n),
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
            m.d.comb += [output.payload.eq(self.i.payload.word), output.valid.eq(self.i.valid & is_left[index])]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += self._has_taken.eq(0)
        with m.Elif(self.i.valid):
            m.d.sync += self._has_taken.eq(self._has_taken | takes)
        return m
