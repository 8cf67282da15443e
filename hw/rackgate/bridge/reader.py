# SPDX-License-Identifier: Apache-2.0
"""Operations that read memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rackgate.bridge.range import MemoryRange
from rackgate.bridge.unit import Command, Status, UnitSignature, is_inside
from rackgate.dma.reader import Reader

__all__ = ["MemoryReadUnit"]


class MemoryReadUnit(wiring.Component):
    """Read words of the ``size`` bytes of memory from ``base`` on over AXI4, in bursts.

    A command that leaves them is DECERR without an access. An error that the bus answers is SLVERR; words before it may
    have been given. When it is cancelled, the bursts that were sent are awaited, and only then the next command is
    taken.

    A word a cycle. Reset forgets the command; reset the bus with it.

    Parameters
    ----------
    base, size:
        As in :meth:`rackgate.bridge.range.MemoryRange.of`.
    addr_width, id_width:
        Of the bus, which has 64 bits of data.

    Members
    -------
    i: the executor. ar, r: read channels of the bus.
    """

    def __init__(self, base: int, size: int, *, addr_width: int = 40, id_width: int = 4):
        self._reader = Reader(addr_width=addr_width, id_width=id_width, fifo_depth=32, burst=16, outstanding=4)
        self.base, self.size = MemoryRange.of(base, size, addr_width=self._reader.addr_width)
        bus = self._reader.signature.members
        super().__init__({"i": In(UnitSignature()), "ar": bus["ar"], "r": bus["r"]})

    def elaborate(self, platform):
        m = Module()
        m.submodules.reader = reader = self._reader
        command, status, i = Signal(Command), Signal(Status), self.i
        wiring.connect(m, reader.ar, wiring.flipped(self.ar))
        wiring.connect(m, wiring.flipped(self.r), reader.r)
        is_last = command.count == 1
        m.d.comb += [
            reader.i.payload.addr.eq(command.address), reader.i.payload.size.eq(command.count << 2),
            i.r.payload.eq(Mux(command.address[2], reader.o.payload.data[32:], reader.o.payload.data[:32])),
            i.done.payload.eq(status),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += i.command.ready.eq(~i.cancel & ~reader.busy)
                m.d.sync += command.eq(i.command.payload)
                with m.If(i.command.valid & i.command.ready):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += status.eq(Status.DECERR)
                m.next = "END"
                with m.If(is_inside(command, self.base, self.size)):
                    m.d.comb += reader.i.valid.eq(1)
                    m.next = "GIVE"
                self._end_if_cancelled(m)
            with m.State("GIVE"):
                word = reader.o.payload
                m.d.sync += status.eq(Mux(word.error, Status.SLVERR, Status.OK))
                m.d.comb += [
                    i.r.valid.eq(reader.o.valid & ~word.error),
                    reader.o.ready.eq(i.r.ready & (command.address[2] | is_last)),
                ]
                with m.If(reader.o.valid & word.error):
                    m.d.comb += reader.cancel.eq(1)
                    m.next = "END"
                with m.Elif(i.r.valid & i.r.ready):
                    m.d.sync += [command.address.eq(command.address + 4), command.count.eq(command.count - 1)]
                    with m.If(is_last):
                        m.next = "END"
                self._end_if_cancelled(m)
            with m.State("END"):
                m.d.comb += i.done.valid.eq(1)
                with m.If(i.done.ready):
                    m.next = "IDLE"
                self._end_if_cancelled(m)
        return m

    def _end_if_cancelled(self, m):
        with m.If(self.i.cancel):
            m.d.comb += self._reader.cancel.eq(1)
            m.next = "IDLE"
