# SPDX-License-Identifier: Apache-2.0
"""The far end of a serial line, as hardware, so that it is simulated with what is at the near end."""

from fractions import Fraction

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartTerminal"]

_PHASE_BITS = 24
_WHOLE = 1 << _PHASE_BITS


class UartTerminal(wiring.Component):
    """Bytes to and from a line of 8 data bits, no parity and 1 stop bit.

    It keeps a time of its own, so that it can be told to be faster or slower than what it is connected to, as the
    sender of a real line is. A byte whose stop bit is low is dropped. Where the bit time is no whole number of cycles,
    each edge is at the cycle behind its time. Between two bytes the line may idle for a cycle.

    Parameters
    ----------
    bit_cycles:
        Clock cycles of a bit, 2 or more; may be a fraction.

    Members
    -------
    i: bytes to send. o: bytes that have come; one that is not taken until the next has come is lost. tx, rx: the line,
    seen from here; ``rx`` may change at any time.

    Reset lets the line idle.
    """

    i: stream.Interface
    o: stream.Interface
    tx: Signal
    rx: Signal

    def __init__(self, bit_cycles: Fraction | int):
        self.bit_cycles = Fraction(bit_cycles)
        if self.bit_cycles < 2:
            raise ValueError(f"bit_cycles must be at least 2, not {bit_cycles}")
        super().__init__({"i": In(stream.Signature(8)), "o": Out(stream.Signature(8)), "tx": Out(1), "rx": In(1)})

    def elaborate(self, platform):
        m = Module()
        self._send(m)
        self._receive(m)
        return m

    def _beat(self, m, name, restart, first):
        """A strobe each bit time; the first comes ``first`` bit times behind the cycle with ``restart``."""
        step = round(_WHOLE / self.bit_cycles)
        phase, beat = Signal(_PHASE_BITS, name=f"{name}_phase"), Signal(name=f"{name}_beat")
        m.d.sync += Cat(phase, beat).eq(phase + step)
        with m.If(restart):
            m.d.sync += [phase.eq(round((1 - first) * _WHOLE) % _WHOLE), beat.eq(0)]
        return beat

    def _send(self, m):
        bits, left, level = Signal(9), Signal(range(11)), Signal(init=1)
        m.d.comb += self.tx.eq(level)
        beat = self._beat(m, "send", self.i.valid & self.i.ready, 1)
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [bits.eq(Cat(self.i.payload, 1)), left.eq(10), level.eq(0)]
        with m.Elif(beat & (left != 0)):
            m.d.sync += [level.eq(bits[0]), bits.eq(Cat(bits[1:], 1)), left.eq(left - 1)]

    def _receive(self, m):
        line, bits, left, is_starting = Signal(init=1), Signal(9), Signal(range(11)), Signal()
        m.submodules.line = FFSynchronizer(self.rx, line, init=1)
        m.d.comb += is_starting.eq((left == 0) & ~line)
        beat = self._beat(m, "receive", is_starting, 0.5)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(is_starting):
            m.d.sync += left.eq(10)
        with m.Elif(beat & (left != 0)):
            m.d.sync += [bits.eq(Cat(bits[1:], line)), left.eq(left - 1)]
            with m.If((left == 10) & line):  # no start bit, but a glitch
                m.d.sync += left.eq(0)
            with m.If((left == 1) & line):
                m.d.sync += [self.o.payload.eq(bits[1:]), self.o.valid.eq(1)]
