# SPDX-License-Identifier: Apache-2.0
"""Carry out the operations of a request one after the other."""

import operator
from collections.abc import Sequence

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.bridge.abi import BODY_WORDS
from rackgate.bridge.operations import READS, Flag, Opcode
from rackgate.bridge.unit import Status, UnitSignature

__all__ = ["Executor"]

#: Flags that an operation may have; others have none.
_FLAGS = {Opcode.READ_REGISTERS: Flag.FIXED, Opcode.WRITE_REGISTERS: Flag.FIXED,
          Opcode.WRITE_MEMORY: 3 * (Flag.SKIP | Flag.OMIT)}


class _Head(data.Struct):
    """First word of an operation."""

    opcode: 8
    is_fixed: 1
    unused: 1
    skip: 2
    omit: 2
    unused_high: 2
    count: 16


class _Result(data.Struct):
    """First word of a result."""

    opcode: 8
    status: 8
    count: 16


class Executor(wiring.Component):
    """Take the operations of a request's body, give each to the unit of its address space, and write down the results.

    Operations are checked, executed and answered as :mod:`rackgate.bridge.operations` says, in their order; each has
    ended before the next is looked at. After one that fails the rest of the body is not taken. A unit that lets
    ``timeout`` cycles pass without a handshake is given up (``cancel``), and the operation fails with TIMEOUT.

    A word a cycle, and 6 cycles for an operation beside what its unit needs. Reset forgets the request; reset the units
    with it.

    Parameters
    ----------
    units:
        For each unit the opcodes that it executes.
    timeout:
        Cycles, at least 16.

    Members
    -------
    start:
        High for a cycle: a request with ``words`` words of body is at ``i``.
    i:
        The words.
    units:
        Array of the units (:class:`~rackgate.bridge.unit.UnitSignature`).
    w_en, w_addr, w_data:
        Words of the response's body, in any order.
    done:
        High for a cycle: the request is done.
    length:
        With ``done``: words of the response's body.
    """

    def __init__(self, units: Sequence[Sequence[Opcode]], *, timeout: int = 65536):
        self.opcodes = tuple(tuple(Opcode(opcode) for opcode in unit) for unit in units)
        self.timeout = operator.index(timeout)
        if self.timeout < 16:
            raise ValueError(f"timeout must be at least 16 cycles, not {timeout}")
        if not self.opcodes or len({one for unit in self.opcodes for one in unit}) != sum(map(len, self.opcodes)):
            raise ValueError(f"units must have different opcodes, at least one, not {units!r}")
        place = range(BODY_WORDS + 1)
        super().__init__({
            "start": In(1), "words": In(place), "i": In(stream.Signature(32)),
            "units": Out(UnitSignature()).array(len(self.opcodes)),
            "w_en": Out(1), "w_addr": Out(place), "w_data": Out(32), "done": Out(1), "length": Out(place),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._left = Signal(place)  # words of the request not yet taken
        self._cursor = Signal(place)  # where the next result goes
        self._moved = Signal(place)  # words of data of this operation
        self._head = Signal(_Head)
        self._is_write = Signal()
        self._chosen = Signal(len(self.opcodes))  # the unit, one-hot
        self._status = Signal(Status)
        self._idle = Signal(range(self.timeout))  # cycles without a handshake

    def elaborate(self, platform):
        m = Module()
        head, address, is_broken = self._head, Signal(32), Signal()
        unit = self._units(m, address)
        m.d.comb += self.length.eq(self._cursor + 1)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += self._left.eq(self._left - 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [self._left.eq(self.words), self._cursor.eq(0)]
                with m.If(self.start):
                    m.next = "HEAD"
            with m.State("HEAD"):
                m.d.comb += self.i.ready.eq(self._left != 0)
                m.d.sync += [head.eq(self.i.payload), self._status.eq(Status.MALFORMED)]
                with m.If(self._left == 0):
                    m.d.comb += [self.done.eq(1), self.length.eq(self._cursor)]
                    m.next = "IDLE"
                with m.Elif(self.i.valid):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.comb += self.i.ready.eq(self._left != 0)
                m.d.sync += address.eq(self.i.payload)
                self._choose(m)
                with m.If(self._left == 0):
                    m.next = "FAIL"
                with m.Elif(self.i.valid):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += is_broken.eq(self._is_malformed(address))
                m.d.sync += [self._moved.eq(0), self._idle.eq(0)]
                m.next = "COMMAND"
                with m.If(is_broken):
                    m.next = "FAIL"
            with m.State("COMMAND"):
                m.d.comb += unit.command.valid.eq(1)
                self._wait(m, unit)
                with m.If(unit.command.ready):
                    m.next = "MOVE"
            with m.State("MOVE"):
                self._move(m, unit)
                self._wait(m, unit)
                with m.If(unit.done.valid):
                    m.d.comb += unit.done.ready.eq(1)
                    m.d.sync += self._status.eq(unit.done.payload)
                    m.next = "FAIL"
                    with m.If(unit.done.payload == Status.OK):
                        m.d.sync += Assert(self._moved == head.count, "a unit is done with words still to move")
                        m.next = "RESULT"
            # Nothing is offered or taken in the cycle of a cancel, so that it depends on registers only.
            with m.State("CANCEL"):
                m.d.comb += unit.cancel.eq(1)
                m.d.sync += self._status.eq(Status.TIMEOUT)
                m.next = "FAIL"
            with m.State("RESULT"):
                self._write_result(m, count=Mux(self._is_write, 0, head.count))
                m.d.sync += self._cursor.eq(self._cursor + 1 + Mux(self._is_write, 0, head.count))
                m.next = "HEAD"
            with m.State("FAIL"):
                self._write_result(m, count=0)
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        m.d.sync += Assert(self._cursor < BODY_WORDS, "no word of the response is left for a failure")
        return m

    def _units(self, m, address):
        """One interface in place of all units: the chosen one's."""
        unit = UnitSignature().create(path=("unit",))
        command = unit.command.payload
        m.d.comb += [
            command.address.eq(address), command.count.eq(self._head.count), command.is_write.eq(self._is_write),
            command.is_fixed.eq(self._head.is_fixed), command.skip.eq(self._head.skip),
            command.omit.eq(self._head.omit),
        ]
        for chosen, theirs in zip(self._chosen, self.units, strict=True):
            m.d.comb += [
                theirs.command.payload.eq(command), theirs.w.payload.eq(unit.w.payload),
                theirs.command.valid.eq(unit.command.valid & chosen), theirs.w.valid.eq(unit.w.valid & chosen),
                theirs.r.ready.eq(unit.r.ready & chosen), theirs.done.ready.eq(unit.done.ready & chosen),
                theirs.cancel.eq(unit.cancel & chosen),
            ]
            with m.If(chosen):
                m.d.comb += [
                    unit.command.ready.eq(theirs.command.ready), unit.w.ready.eq(theirs.w.ready),
                    unit.r.valid.eq(theirs.r.valid), unit.r.payload.eq(theirs.r.payload),
                    unit.done.valid.eq(theirs.done.valid), unit.done.payload.eq(theirs.done.payload),
                ]
        return unit

    def _choose(self, m):
        """Unit and kind of the operation whose head is known."""
        m.d.sync += [
            self._chosen.eq(Cat(self._head.opcode.matches(*unit) for unit in self.opcodes)),
            self._is_write.eq(~self._head.opcode.matches(*READS)),
        ]

    def _is_malformed(self, address):
        """Whether the operation breaks a rule of :func:`rackgate.bridge.operations.unpack_operations`."""
        head = self._head
        flags, allowed = head.as_value()[8:16], 0
        for opcode, mask in _FLAGS.items():
            allowed = Mux(head.opcode == opcode, int(mask), allowed)
        last = self._cursor + 1 + Mux(self._is_write, 0, head.count)  # one behind the result
        return ((self._chosen == 0) | (flags & ~allowed)[:8].any() | (head.count == 0) | address[:2].any()
                | (head.skip + head.omit >= head.count << 2) | (self._is_write & (head.count > self._left))
                | (last >= BODY_WORDS))

    def _move(self, m, unit):
        """Words of data: from the request to the unit, or from it to the response."""
        is_within = Signal()
        m.d.comb += [
            is_within.eq(self._moved != self._head.count),
            unit.w.payload.eq(self.i.payload),
            unit.w.valid.eq(self.i.valid & self._is_write & is_within),
            self.i.ready.eq(unit.w.ready & self._is_write & is_within),
            unit.r.ready.eq(1),
            self.w_addr.eq(self._cursor + 1 + self._moved),
            self.w_data.eq(unit.r.payload),
            self.w_en.eq(unit.r.valid),
        ]
        with m.If((unit.w.valid & unit.w.ready) | unit.r.valid):
            m.d.sync += self._moved.eq(self._moved + 1)
        m.d.sync += Assert(~unit.r.valid | (is_within & ~self._is_write), "a unit gives words that nobody asked for")

    def _wait(self, m, unit):
        """Count cycles without a handshake; give up at the last one, unless the state ends in it otherwise."""
        is_moving = unit.r.valid | (unit.w.valid & unit.w.ready) | (unit.command.valid & unit.command.ready)
        m.d.sync += self._idle.eq(Mux(is_moving, 0, self._idle + 1))
        with m.If((self._idle == self.timeout - 1) & ~is_moving):
            m.next = "CANCEL"

    def _write_result(self, m, *, count):
        result = Signal(_Result)
        m.d.comb += [
            result.opcode.eq(self._head.opcode), result.status.eq(self._status.as_value()), result.count.eq(count),
            self.w_en.eq(1), self.w_addr.eq(self._cursor), self.w_data.eq(result),
        ]
