# SPDX-License-Identifier: Apache-2.0
"""CRC-32 of Ethernet, a byte a cycle with no delay: for what stands at a wire."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.checksum.crc32 import ETHERNET, advance, linear

__all__ = ["ByteCRC32", "RESIDUE"]

#: ``value`` behind any bytes and their own CRC-32, lowest byte first (IEEE 802.3 3.2.9).
RESIDUE = 0x2144DF1C


class ByteCRC32(wiring.Component):
    """Keep a running CRC-32 (IEEE 802.3 3.2.9; ``zlib.crc32``) of bytes that come at most one a cycle.

    A byte is in ``value`` the cycle after it came. Reset, and ``restart``: the value is that of no bytes, 0.

    Members
    -------
    data, valid:
        A byte.
    restart:
        Forget all bytes, also one that comes in the same cycle.
    value:
        The checksum.
    """

    data: In(8)
    valid: In(1)
    restart: In(1)
    value: Out(32)

    def elaborate(self, platform):
        m = Module()
        register = Signal(32, init=0xFFFFFFFF)  # the checksum's complement
        m.d.comb += self.value.eq(~register)
        with m.If(self.restart):
            m.d.sync += register.eq(0xFFFFFFFF)
        with m.Elif(self.valid):
            columns = [advance(ETHERNET, 1 << bit, 8) for bit in range(8)]
            m.d.sync += register.eq(register[8:] ^ linear(columns, register[:8] ^ self.data))
        return m
