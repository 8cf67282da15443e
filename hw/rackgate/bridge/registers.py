# SPDX-License-Identifier: Apache-2.0
"""Operations on the device's registers."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4LiteSignature
from rackgate.bridge.unit import Command, Status, UnitSignature, is_inside

__all__ = ["RegisterUnit"]


class RegisterUnit(wiring.Component):
    """Read and write registers over AXI4-Lite, one word after the other.

    Addresses outside the bus's are DECERR without an access. A read ends at the first answer with an error; a write
    writes all words, and its status is that of the last. When it is cancelled, an access that has begun goes on to its
    end, and only then the next command is taken.

    A word takes 3 cycles beside what the bus needs. Reset forgets the access; reset the bus with it.

    Parameters
    ----------
    addr_width:
        Address bits of the bus.

    Members
    -------
    i: the executor. o: the bus.
    """

    def __init__(self, addr_width: int = 16):
        bus = AXI4LiteSignature(addr_width=addr_width)
        self.addr_width = bus.addr_width
        super().__init__({"i": In(UnitSignature()), "o": Out(bus)})

    def elaborate(self, platform):
        m = Module()
        command, status, i, o = Signal(Command), Signal(Status), self.i, self.o
        # Under way after a cancel: whatever comes of it, nobody is told.
        is_cancelled = Signal()
        m.d.comb += [
            o.aw.payload.addr.eq(command.address), o.ar.payload.addr.eq(command.address), o.w.payload.strb.eq(0b1111),
            i.done.payload.eq(status), i.r.payload.eq(o.r.payload.data),
        ]
        with m.If(i.cancel):
            m.d.sync += is_cancelled.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += i.command.ready.eq(~i.cancel)
                m.d.sync += [command.eq(i.command.payload), is_cancelled.eq(0)]
                with m.If(i.command.valid & i.command.ready):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += status.eq(Status.DECERR)
                m.next = "END"
                words = Mux(command.is_fixed, 1, command.count)
                with m.If(is_inside(command, 0, 1 << self.addr_width, words=words)):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                with m.If(is_cancelled | i.cancel):
                    m.next = "IDLE"
                with m.Elif(~command.is_write):
                    m.d.sync += o.ar.valid.eq(1)
                    m.next = "READ"
                with m.Else():
                    m.d.comb += i.w.ready.eq(1)
                    m.d.sync += o.w.payload.data.eq(i.w.payload)
                    with m.If(i.w.valid & i.w.ready):
                        m.d.sync += [o.aw.valid.eq(1), o.w.valid.eq(1)]
                        m.next = "WRITE"
            with m.State("READ"):
                with m.If(o.ar.ready):
                    m.d.sync += o.ar.valid.eq(0)
                is_error = o.r.payload.resp.as_value()[1]
                m.d.comb += [i.r.valid.eq(o.r.valid & ~is_error & ~is_cancelled),
                             o.r.ready.eq(i.r.ready | is_error | is_cancelled)]
                with m.If(o.r.valid & o.r.ready):
                    self._advance(m, command, status, o.r.payload.resp, ends=is_error)
            with m.State("WRITE"):
                for channel in (o.aw, o.w):
                    with m.If(channel.ready):
                        m.d.sync += channel.valid.eq(0)
                m.d.comb += o.b.ready.eq(1)
                with m.If(o.b.valid):
                    self._advance(m, command, status, o.b.payload.resp, ends=0)
            with m.State("END"):
                m.d.comb += i.done.valid.eq(~is_cancelled)
                with m.If(i.done.ready | is_cancelled):
                    m.next = "IDLE"
        return m

    def _advance(self, m, command, status, response, *, ends):
        """A word is through."""
        m.d.sync += [
            status.eq(Mux(response.as_value()[1], response.as_value(), Status.OK)),
            command.count.eq(command.count - 1),
        ]
        m.next = "BEGIN"
        with m.If(ends | (command.count == 1)):
            m.next = "END"
        with m.If(~command.is_fixed):
            m.d.sync += command.address.eq(command.address + 4)
