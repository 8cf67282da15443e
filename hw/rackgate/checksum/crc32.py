# SPDX-License-Identifier: Apache-2.0
"""CRC-32 of gzip and Ethernet, 8 bytes a cycle."""

import operator
from functools import reduce
from operator import xor

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.checksum.word import CheckWord, move_to_top

__all__ = ["CASTAGNOLI", "CRC32", "ETHERNET", "advance", "linear"]

#: Polynomials with their bits reversed, as suits a register that shifts right: RFC 1952 section 8, RFC 3720 12.1.
ETHERNET, CASTAGNOLI = 0xEDB88320, 0x82F63B78


def advance(polynomial: int, register: int, bits: int) -> int:
    """The CRC register after ``bits`` zero bits of data."""
    for _ in range(bits):
        register = register >> 1 ^ (polynomial if register & 1 else 0)
    return register


def linear(columns: list[int], bits) -> Cat:
    """XOR of the columns (32-bit integers) whose ``bits`` are one: a linear map over GF(2) in hardware."""
    return Cat(reduce(xor, (bits[k] for k, column in enumerate(columns) if column >> row & 1))
               for row in range(32))


def _word_columns(polynomial: int) -> list[int]:
    """What each bit of a word of 8 bytes adds to the register.

    It is XORed in at the right end of the register when as many bits as stand before it in the word are done, then
    goes through the rest.
    """
    return [advance(polynomial, 1, 64 - k) for k in range(64)]


def _state_columns(polynomial: int, count: int) -> list[int]:
    """What each bit of the register turns into while ``count`` bytes go through."""
    return [advance(polynomial, 1 << k, 8 * count) for k in range(32)]


def _is_step(count):
    """Whether ``count`` (0 to 8) is done in one cycle."""
    return count.matches(*(0, *(1 << bit for bit in range(4))))


class CRC32(wiring.Component):
    """Keep a running CRC-32 (IEEE 802.3, RFC 1952; ``zlib.crc32``) of the bytes of a stream.

    The CRC is linear, so a word's own part is computed ahead in a pipeline, from the bytes moved to the top
    of the word; the register alone has to be advanced by 8, 4, 2 or 1 bytes in one cycle.

    A word of 8 bytes takes 1 cycle; one of fewer takes as many as its count has bits set (at most 3), one of
    none 1; ``restart`` with bytes takes 1 more. ``i.ready`` depends on no input. Reset: the value is 0.

    Parameters
    ----------
    polynomial:
        32 bits, reversed; :data:`CASTAGNOLI` makes it CRC-32C.

    Members
    -------
    i:
        Bytes (:class:`~rackgate.checksum.word.CheckWord`).
    value:
        The checksum of all bytes taken, while ``busy`` is low.
    busy:
        Bytes taken are not yet in ``value``: from the cycle after they were taken, for 3 cycles when
        nothing is in the way.
    """

    i: In(stream.Signature(CheckWord))
    value: Out(32)
    busy: Out(1)

    def __init__(self, *, polynomial: int = ETHERNET):
        self.polynomial = operator.index(polynomial)
        if not 0x8000_0000 <= self.polynomial < 1 << 32:
            raise ValueError(f"polynomial must have 32 bits, the highest set, not {polynomial:#x}")
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        register = Signal(32, init=0xFFFFFFFF)  # the checksum's complement
        moved, has_moved = Signal(CheckWord), Signal()
        ready, has_ready = Signal(CheckWord), Signal()
        part = Signal(32)  # of the word in ``ready``
        step, left = Signal(4), Signal(4)  # of the count: what is done in this cycle, and what remains
        is_last = Signal()  # nothing remains: found out a cycle before
        m.d.comb += [
            self.value.eq(~register),
            self.busy.eq(has_moved | has_ready),
            # All stages move together when the last one is through with its word.
            self.i.ready.eq(~has_ready | is_last),
            left.eq(Mux(ready.restart, ready.count, ready.count & ~step)),
        ]

        # Advance by the highest power of two in what is left of the count; the part comes in with the last.
        advanced = Signal(32)
        m.d.comb += advanced.eq(register)
        for bit in range(4):
            with m.If(ready.count[bit]):
                m.d.comb += [
                    step.eq(1 << bit),
                    advanced.eq(linear(_state_columns(self.polynomial, 1 << bit), register)),
                ]
        with m.If(has_ready & ready.restart):
            m.d.sync += [register.eq(~ready.value), ready.restart.eq(0)]
        with m.Elif(has_ready):
            m.d.sync += register.eq(advanced ^ Mux(is_last, part, 0))
        m.d.sync += [ready.count.eq(left), is_last.eq(_is_step(left))]
        with m.If(self.i.ready):  # overrides the above: the next word replaces the one that is through
            m.d.sync += [
                moved.eq(self.i.payload),
                has_moved.eq(self.i.valid),
                ready.eq(moved),
                has_ready.eq(has_moved),
                is_last.eq(Mux(moved.restart, moved.count == 0, _is_step(moved.count))),
                part.eq(linear(_word_columns(self.polynomial), moved.data)),
            ]
            move_to_top(m, moved.data, self.i.payload.data, self.i.payload.count)

        m.d.sync += Assert(~self.i.valid | (self.i.payload.count <= 8), "count is above 8")
        return m
