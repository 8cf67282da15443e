# SPDX-License-Identifier: Apache-2.0
"""Quiet an AXI4 initiator, so that it can be reset without leaving the bus with half a transaction."""

import operator

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature

__all__ = ["Isolator"]


class Isolator(wiring.Component):
    """Pass an initiator's transactions; on ``stop`` let those that have begun end, and no other begin.

    Without ``stop`` all five channels pass combinationally, except that at most ``limit`` bursts of a kind
    are under way. With ``stop`` no address passes whose burst the bus has not yet seen anything of; data for
    addresses that have passed (and addresses for data that have passed, as either may come first) still do.
    ``quiet`` says that nothing is under way. It comes as soon as the memory has answered, if the initiator
    sends the data of every burst whose address it has offered, which is also what the bus needs of it.

    An address that waits at the bus when ``stop`` comes is withdrawn: against AXI4 (IHI 0022 A3.2.1), but
    harmless to a target that acts on transfers only. Reset forgets the counts, so reset it with the initiator.

    Parameters
    ----------
    bus:
        The signature of both sides.
    limit:
        Bursts of a kind that may be under way, at least 1.

    Members
    -------
    i: the initiator. o: the bus. stop, quiet: as said.
    """

    def __init__(self, bus: AXI4Signature, *, limit: int = 64):
        self.limit = operator.index(limit)
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        super().__init__({"i": In(bus), "o": Out(bus), "stop": In(1), "quiet": Out(1)})
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._reads = Signal(range(self.limit + 1))  # addresses passed, last beat not yet
        self._answers = Signal(range(self.limit + 1))  # addresses passed, response not yet
        self._owed = Signal(range(self.limit + 1))  # addresses passed, last data beat not yet
        self._ahead = Signal(range(self.limit + 1))  # last data beat passed, address not yet
        self._in_data = Signal()  # in the middle of a burst's data

    def elaborate(self, platform):
        m = Module()
        i, o = self.i, self.o
        is_pass = {name: Signal(name=f"is_{name}_pass") for name in ("ar", "aw", "w")}
        moves = {}
        for name in ("ar", "aw", "w"):
            ours, theirs = getattr(i, name), getattr(o, name)
            m.d.comb += [
                theirs.payload.eq(ours.payload),
                theirs.valid.eq(ours.valid & is_pass[name]),
                ours.ready.eq(theirs.ready & is_pass[name]),
            ]
            moves[name] = theirs.valid & theirs.ready
        for name in ("r", "b"):
            ours, theirs = getattr(i, name), getattr(o, name)
            m.d.comb += [ours.payload.eq(theirs.payload), ours.valid.eq(theirs.valid), theirs.ready.eq(ours.ready)]
            moves[name] = theirs.valid & theirs.ready

        data_end = moves["w"] & o.w.payload.last
        read_end = moves["r"] & o.r.payload.last
        m.d.comb += [
            is_pass["ar"].eq(~self.stop & (self._reads != self.limit)),
            is_pass["aw"].eq((~self.stop | (self._ahead != 0) | (self._in_data & (self._owed == 0)))
                             & (self._answers != self.limit) & (self._owed != self.limit)),
            is_pass["w"].eq((~self.stop | (self._owed != 0) | self._in_data) & (self._ahead != self.limit)),
            self.quiet.eq((self._reads == 0) & (self._answers == 0) & (self._owed == 0) & (self._ahead == 0)
                          & ~self._in_data),
        ]
        m.d.sync += [
            self._reads.eq(self._reads + moves["ar"] - read_end),
            self._answers.eq(self._answers + moves["aw"] - moves["b"]),
        ]
        with m.If(moves["w"]):
            m.d.sync += self._in_data.eq(~o.w.payload.last)
        # Addresses and data ends cancel in pairs, whichever came first.
        with m.If(moves["aw"] & ~data_end):
            with m.If(self._ahead != 0):
                m.d.sync += self._ahead.eq(self._ahead - 1)
            with m.Else():
                m.d.sync += self._owed.eq(self._owed + 1)
        with m.Elif(data_end & ~moves["aw"]):
            with m.If(self._owed != 0):
                m.d.sync += self._owed.eq(self._owed - 1)
            with m.Else():
                m.d.sync += self._ahead.eq(self._ahead + 1)
        m.d.sync += [
            Assert((self._owed == 0) | (self._ahead == 0), "addresses and data ahead of each other at once"),
            Assert(~read_end | (self._reads != 0), "a read ended that had not begun"),
            Assert(~moves["b"] | (self._answers != 0), "a response to a write that had not begun"),
        ]
        return m
