# SPDX-License-Identifier: Apache-2.0
"""A register map as hardware behind AXI4-Lite."""

from collections.abc import Iterable, Mapping

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4LiteSignature, Response
from rackgate.csr.map import Access, RegisterMap

__all__ = ["Bank"]

#: Address bits at least.
_MIN_ADDR_WIDTH = 12


def _ports(register):
    """Ports of a register, by its access; see :class:`Bank`."""
    name = register.name.lower()
    match register.access:
        case Access.RO:
            return {name: In(32), f"{name}_read": Out(1)}
        case Access.RW:
            return {name: Out(32, init=register.reset), f"{name}_written": Out(1)}
        case Access.W1C:
            return {name: Out(32, init=register.reset), f"{name}_set": In(32), f"{name}_clear": In(32)}
        case Access.WO:
            return {name: Out(32), f"{name}_written": Out(1)}
        case Access.CONST:
            return {}


class Bank(wiring.Component):
    """Serve the registers of a map on an AXI4-Lite target.

    One read and one write may be under way at a time, independently. A read takes 3 cycles from the
    address to the next address, a write too; the answer is offered 2 cycles after the request. Address
    bits 1:0 are not looked at. A read of an address without a register, or a write to one without a
    register or whose register a host cannot write (``RO``, ``CONST``), changes nothing and is answered with
    SLVERR. Bytes whose strobe is low are not written. ``bus.aw.ready`` and ``bus.w.ready`` depend
    combinationally on each other's ``valid``. Reset gives the registers their values of the map.

    A register ``X`` of the map has these ports, by access:

    ``RO``: ``x`` (In), sampled in the cycle in which ``x_read`` (Out) is high.
    ``RW``: ``x`` (Out), and ``x_written`` (Out), high in the first cycle of the new value.
    ``W1C``: ``x`` (Out), and ``x_set`` and ``x_clear`` (In): bits to set and to clear; setting wins over clearing.
    ``WO``: ``x`` (Out), the data (bytes not strobed are zero) in the cycle in which ``x_written`` (Out) is high.
    ``CONST``: none.

    Parameters
    ----------
    registers:
        The map.
    values:
        Values of ``CONST`` registers by name, instead of those in the map.
    absent:
        Names of registers that this bank does not have: no ports, and SLVERR as for an address without a register.

    Members
    -------
    bus:
        The target; ``addr_width`` bits of address, 12 or as many as the map needs.
    clear:
        Give every ``RW`` and ``W1C`` register its value of the map; transactions go on.

    Raises
    ------
    ValueError
        When ``values`` names no ``CONST`` register, a value does not fit, or ``absent`` names no register.
    """

    def __init__(self, registers: RegisterMap, *, values: Mapping[str, int] | None = None,
                 absent: Iterable[str] = ()):
        self.absent = frozenset(absent)
        if unknown := sorted(self.absent - set(registers)):
            raise ValueError(f"absent must name registers of the map, not {unknown[0]!r}")
        self.registers = {name: register for name, register in registers.items() if name not in self.absent}
        self.addr_width = max(_MIN_ADDR_WIDTH, ceil_log2(registers.size))
        self.values = {name: r.reset for name, r in self.registers.items() if r.access is Access.CONST}
        for name, value in (values or {}).items():
            if name not in self.values:
                raise ValueError(f"values must name CONST registers of the map, not {name!r}")
            if not 0 <= value < 1 << 32:
                raise ValueError(f"value of {name} must fit 32 bits, not {value:#x}")
            self.values[name] = value
        ports = {}
        for register in self.registers.values():
            ports |= _ports(register)
        super().__init__({"bus": In(AXI4LiteSignature(addr_width=self.addr_width)), "clear": In(1), **ports})

    def elaborate(self, platform):
        m = Module()
        self._read(m)
        self._write(m)
        return m

    def _read(self, m):
        bus, index, is_chosen = self.bus, Signal(self.addr_width - 2), Signal()
        m.d.comb += bus.ar.ready.eq(~is_chosen & ~bus.r.valid)
        with m.If(bus.ar.valid & bus.ar.ready):
            m.d.sync += [index.eq(bus.ar.payload.addr[2:]), is_chosen.eq(1)]
        with m.If(bus.r.valid & bus.r.ready):
            m.d.sync += bus.r.valid.eq(0)
        with m.If(is_chosen):
            m.d.sync += [
                is_chosen.eq(0),
                bus.r.valid.eq(1),
                bus.r.payload.data.eq(0),
                bus.r.payload.resp.eq(Response.OKAY),
            ]
            with m.Switch(index):
                for register in self.registers.values():
                    with m.Case(register.offset // 4):
                        self._read_register(m, register)
                with m.Default():
                    m.d.sync += bus.r.payload.resp.eq(Response.SLVERR)

    def _read_register(self, m, register):
        name = register.name.lower()
        if register.access is Access.RO:
            m.d.comb += getattr(self, f"{name}_read").eq(1)
        if register.access is Access.CONST:
            m.d.sync += self.bus.r.payload.data.eq(self.values[register.name])
        elif register.access is not Access.WO:
            m.d.sync += self.bus.r.payload.data.eq(getattr(self, name))

    def _write(self, m):
        bus, index, is_chosen = self.bus, Signal(self.addr_width - 2), Signal()
        word, mask, is_free = Signal(32), Signal(32), Signal()
        m.d.comb += [
            is_free.eq(~is_chosen & ~bus.b.valid),
            bus.aw.ready.eq(is_free & bus.w.valid),
            bus.w.ready.eq(is_free & bus.aw.valid),
        ]
        with m.If(bus.aw.valid & bus.aw.ready):
            m.d.sync += [
                index.eq(bus.aw.payload.addr[2:]),
                word.eq(bus.w.payload.data),
                mask.eq(Cat(bit.replicate(8) for bit in bus.w.payload.strb)),
                is_chosen.eq(1),
            ]
        with m.If(bus.b.valid & bus.b.ready):
            m.d.sync += bus.b.valid.eq(0)
        with m.If(is_chosen):
            m.d.sync += [
                is_chosen.eq(0),
                bus.b.valid.eq(1),
                bus.b.payload.resp.eq(Response.SLVERR),
            ]

        for register in self.registers.values():
            is_hit = Signal(name=f"is_{register.name.lower()}_hit")
            m.d.comb += is_hit.eq(is_chosen & (index == register.offset // 4))
            if self._write_register(m, register, is_hit, word, mask):
                with m.If(is_hit):
                    m.d.sync += bus.b.payload.resp.eq(Response.OKAY)
        with m.If(self.clear):
            for register in self.registers.values():
                if register.access in (Access.RW, Access.W1C):
                    m.d.sync += getattr(self, register.name.lower()).eq(register.reset)

    def _write_register(self, m, register, is_hit, word, mask):
        """Carry out a write. Return whether a host may write this register."""
        name = register.name.lower()
        match register.access:
            case Access.RW:
                value = getattr(self, name)
                m.d.sync += getattr(self, f"{name}_written").eq(is_hit)
                # Bits outside the fields, where a register has any, stay zero.
                kept = sum(field.mask for field in register.fields) or 0xFFFFFFFF
                for low in range(0, 32, 8):
                    with m.If(is_hit & mask[low]):  # one enable for a byte, rather than a choice for each bit
                        m.d.sync += value[low:low + 8].eq(word[low:low + 8] & kept >> low)
            case Access.W1C:
                value = getattr(self, name)
                clear = Mux(is_hit, word & mask, 0) | getattr(self, f"{name}_clear")
                m.d.sync += value.eq(value & ~clear | getattr(self, f"{name}_set"))
            case Access.WO:
                m.d.sync += [
                    getattr(self, f"{name}_written").eq(is_hit),
                    getattr(self, name).eq(word & mask),
                ]
            case _:
                return False
        return True
