# SPDX-License-Identifier: Apache-2.0
"""Keeps the state of the contexts that are not being worked on."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.steps import check_contexts

__all__ = ["ContextStore"]


class ContextStore(wiring.Component):
    """Exchange one context's state for another's in one cycle.

    Parameters
    ----------
    shape:
        Layout of the state. All zeros is what a context begins with.
    contexts:
        How many contexts, 1 to 8.

    Members
    -------
    old, new:
        Numbers of the contexts.
    swap:
        Store ``i`` as the state of ``old``.
    o:
        The state of ``new``, without delay.

    The states are in LUT RAM, which reset does not clear; a flag for each context, which it does, makes the
    state read as zeros until it has been stored.
    """

    def __init__(self, shape: data.Layout, *, contexts: int):
        self.shape = shape
        self.contexts = check_contexts(contexts)
        super().__init__({"old": In(3), "new": In(3), "swap": In(1), "i": In(shape), "o": Out(shape)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.shape, depth=self.contexts, init=[])
        r_port, w_port = memory.read_port(domain="comb"), memory.write_port()
        is_stored = Signal(self.contexts)
        m.d.comb += [
            r_port.addr.eq(self.new),
            self.o.eq(Mux(is_stored.bit_select(self.new, 1), r_port.data, 0)),
            w_port.addr.eq(self.old),
            w_port.data.eq(self.i),
            w_port.en.eq(self.swap),
        ]
        with m.If(self.swap):
            m.d.sync += is_stored.bit_select(self.old, 1).eq(1)
        return m
