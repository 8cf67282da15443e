# SPDX-License-Identifier: Apache-2.0
"""Operations that write memory."""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rackgate.bridge.range import MemoryRange
from rackgate.bridge.unit import Command, Status, UnitSignature, is_inside
from rackgate.dma.burst import BurstMaker, BurstParameters

__all__ = ["MemoryWriteUnit"]


class MemoryWriteUnit(wiring.Component):
    """Write words, or but some bytes of the first and the last, to the ``size`` bytes of memory from ``base`` on.

    A command that leaves them is DECERR without an access. It is done when the bus has answered all bursts; when one
    was answered with an error it is SLVERR. When it is cancelled, what was taken is written still, and only when all is
    answered the next command is taken.

    A word a cycle, so a beat of 64 bits every other. Reset forgets the command; reset the bus with it.

    Parameters
    ----------
    base, size:
        As in :meth:`rackgate.bridge.range.MemoryRange.of`.
    addr_width, id_width:
        Of the bus, which has 64 bits of data.

    Members
    -------
    i: the executor. aw, w, b: write channels of the bus.
    """

    def __init__(self, base: int, size: int, *, addr_width: int = 40, id_width: int = 4):
        self._bursts = BurstMaker(BurstParameters(addr_width=addr_width, id_width=id_width, contexts=1, burst=16,
                                                  fifo_depth=32, outstanding=4))
        self.base, self.size = MemoryRange.of(base, size, addr_width=self._bursts.parameters.addr_width)
        bus = self._bursts.signature.members
        super().__init__({"i": In(UnitSignature()), "aw": bus["aw"], "w": bus["w"], "b": bus["b"]})
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._low, self._low_strobe = Signal(32), Signal(4)  # a lower half that waits for its upper one
        self._is_first = Signal()  # no word of the command has been taken

    def elaborate(self, platform):
        m = Module()
        m.submodules.bursts = bursts = self._bursts
        command, status, i = Signal(Command), Signal(Status), self.i
        for name in ("aw", "w", "b"):
            theirs, ours = getattr(bursts, name), wiring.flipped(getattr(self, name))
            wiring.connect(m, theirs, ours)
        m.d.comb += i.done.payload.eq(status)
        with m.If(bursts.errors[0]):
            m.d.sync += status.eq(Status.SLVERR)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += i.command.ready.eq(~i.cancel)
                m.d.sync += [command.eq(i.command.payload), status.eq(Status.OK), self._low_strobe.eq(0),
                             self._is_first.eq(1)]
                with m.If(i.command.valid & i.command.ready):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "BEGIN"
                with m.If(~is_inside(command, self.base, self.size)):
                    m.d.sync += status.eq(Status.DECERR)
                    m.next = "END"
                with m.If(i.cancel):
                    m.next = "IDLE"
            with m.State("BEGIN"):
                m.d.comb += [bursts.i.valid.eq(1), bursts.i.payload.begin.eq(1),
                             bursts.i.payload.data.eq(command.address)]
                with m.If(bursts.i.ready):
                    m.next = "TAKE"
                with m.If(i.cancel):
                    m.next = "FLUSH"
            with m.State("TAKE"):
                self._take(m, command)
                with m.If(i.cancel):
                    m.next = "FLUSH"
            with m.State("WAIT"):
                with m.If(~bursts.is_pending[0]):
                    m.next = "END"
                with m.If(i.cancel):
                    m.next = "DRAIN"
            with m.State("END"):
                m.d.comb += i.done.valid.eq(1)
                with m.If(i.done.ready | i.cancel):
                    m.next = "IDLE"
            # A command that was cancelled: what is gathered must go, and all be answered.
            with m.State("FLUSH"):
                m.d.comb += [bursts.i.valid.eq(1), bursts.i.payload.flush.eq(1)]
                with m.If(bursts.i.ready):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(~bursts.is_pending[0]):
                    m.next = "IDLE"
        return m

    def _take(self, m, command):
        """Two words make a beat; one alone does at either end."""
        i, element = self.i, self._bursts.i
        is_last, is_high, strobe = Signal(), Signal(), Signal(4)
        m.d.comb += [
            is_last.eq(command.count == 1),
            is_high.eq(command.address[2]),
            strobe.eq((Mux(self._is_first, Const(0b1111, 4) << command.skip, 0b1111))[:4]
                      & Mux(is_last, Const(0b1111, 4) >> command.omit, 0b1111)),
            element.payload.data.eq(Mux(is_high, Cat(self._low, i.w.payload), i.w.payload)),
            element.payload.strobe.eq(Mux(is_high, Cat(self._low_strobe, strobe), strobe)),
            element.payload.has_bytes.eq(1), element.payload.flush.eq(is_last), element.payload.end.eq(1),
            element.valid.eq(i.w.valid & (is_high | is_last)),
            i.w.ready.eq(element.ready | ~(is_high | is_last)),
        ]
        with m.If(i.w.valid & i.w.ready):
            m.d.sync += [
                command.address.eq(command.address + 4), command.count.eq(command.count - 1),
                self._low.eq(i.w.payload), self._low_strobe.eq(Mux(is_high, 0, strobe)), self._is_first.eq(0),
            ]
            with m.If(is_last):
                m.next = "WAIT"
        m.d.sync += Assert(~(i.cancel & i.w.valid), "a word moves in the cycle of a cancel")
