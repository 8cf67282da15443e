# SPDX-License-Identifier: Apache-2.0
"""Calls of a kernel in the fabric."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CALL_WORDS
from rackgate.collective.records import CallFields

__all__ = ["KernelPort"]


class KernelPort(wiring.Component):
    """Give a kernel's calls to the engine, word by word.

    A call takes 16 cycles if the engine takes a word a cycle. Nothing is registered: ``o.valid`` follows ``i.valid``,
    ``i.ready`` follows ``o.ready`` with the last word. ``restart`` goes before all else.

    Members
    -------
    i:
        Calls. One that is offered stays until it is taken, with its last word.
    o:
        To ``kernel_call`` of the engine (:class:`~rackgate.collective.top.Collective`).
    restart:
        The engine forgets all calls: the one that is offered begins again with its first word.

    Reset: the next word is the first of a call.
    """

    i: In(stream.Signature(CallFields))
    o: Out(stream.Signature(32))
    restart: In(1)

    def elaborate(self, platform):
        m = Module()
        word, is_last = Signal(range(CALL_WORDS)), Signal()
        m.d.comb += [
            is_last.eq(word == CALL_WORDS - 1),
            self.o.valid.eq(self.i.valid),
            self.o.payload.eq(self.i.payload.as_value().word_select(word, 32)),
            self.i.ready.eq(self.o.ready & is_last & ~self.restart),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += word.eq(word + 1)
        with m.If(self.restart):
            m.d.sync += word.eq(0)
        return m
