# SPDX-License-Identifier: Apache-2.0
"""A UART: bytes, least significant bit first, between a start bit and a stop bit (8N1)."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]


def _checked(divisor) -> int:
    value = operator.index(divisor)
    if value < 4:
        raise ValueError(f"divisor must be at least 4 cycles, not {divisor}")
    return value


class UartReceiver(wiring.Component):
    """Take bytes off a pin.

    Each bit is looked at once, in its middle. A start bit that is over by its middle is noise, and no byte. A byte
    whose stop bit is low (another baud rate, noise, a break) is damaged; then the line must be high before the next
    begins. A sender may be faster or slower by 2 %, and by 4 % when a bit has 16 cycles or more. Reset, also in a byte:
    the rest of it is taken for one.

    Parameters
    ----------
    divisor:
        Clock cycles of a bit, at least 4.

    Members
    -------
    rx:
        The pin, of any clock domain.
    byte:
        A byte; with ``strobe``.
    strobe:
        High for a cycle for each byte, in the middle of its stop bit.
    damaged:
        High for a cycle for each damaged byte.
    """

    rx: In(1, init=1)
    byte: Out(8)
    strobe: Out(1)
    damaged: Out(1)

    def __init__(self, divisor: int):
        self.divisor = _checked(divisor)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        line, left, bits = Signal(init=1), Signal(range(self.divisor)), Signal(range(8))
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        is_due = Signal()
        m.d.comb += is_due.eq(left == 0)
        m.d.sync += left.eq(Mux(is_due, self.divisor - 1, left - 1))
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += left.eq(self.divisor // 2 - 1)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                with m.If(is_due):
                    m.next = "BITS"
                    with m.If(line):
                        m.next = "IDLE"
            with m.State("BITS"):
                with m.If(is_due):
                    m.d.sync += [self.byte.eq(Cat(self.byte[1:], line)), bits.eq(bits + 1)]
                    with m.If(bits == 7):
                        m.next = "STOP"
            with m.State("STOP"):
                with m.If(is_due):
                    m.d.comb += [self.strobe.eq(line), self.damaged.eq(~line)]
                    m.next = "HIGH"
                    with m.If(line):
                        m.next = "IDLE"
            with m.State("HIGH"):
                with m.If(line):
                    m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Put bytes on a pin, without a pause between them while there are more.

    ``i.ready`` depends on no input. Reset ends a byte in its middle; the line is high.

    Parameters
    ----------
    divisor:
        Clock cycles of a bit, at least 4.

    Members
    -------
    i: bytes. tx: the pin, from a register.
    """

    i: In(stream.Signature(8))
    tx: Out(1, init=1)

    def __init__(self, divisor: int):
        self.divisor = _checked(divisor)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        # Start bit, byte and stop bit; ones follow, so that the line is high at rest.
        bits, left, count = Signal(10, init=0x3FF), Signal(range(self.divisor)), Signal(range(11))
        m.d.comb += [self.tx.eq(bits[0]), self.i.ready.eq(count == 0)]
        m.d.sync += left.eq(Mux(left == 0, self.divisor - 1, left - 1))
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += [bits.eq(Cat(0, self.i.payload, 1)), count.eq(10), left.eq(self.divisor - 1)]
        with m.Elif((count != 0) & (left == 0)):
            m.d.sync += [bits.eq(Cat(bits[1:], 1)), count.eq(count - 1)]
        return m
