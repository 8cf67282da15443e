# SPDX-License-Identifier: Apache-2.0
"""Operations on what a device has not."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rackgate.bridge.unit import Status, UnitSignature

__all__ = ["AbsentUnit"]


class AbsentUnit(wiring.Component):
    """Answer every operation with DECERR, in the cycle after it was taken. Reset forgets it.

    Members
    -------
    i: the executor.
    """

    i: In(UnitSignature())

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.done.payload.eq(Status.DECERR)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.command.ready.eq(1)
                with m.If(self.i.command.valid):
                    m.next = "END"
            with m.State("END"):
                m.d.comb += self.i.done.valid.eq(1)
                with m.If(self.i.done.ready | self.i.cancel):
                    m.next = "IDLE"
        return m
