# SPDX-License-Identifier: Apache-2.0
"""Block RAM of the FPGA as the memory of a device and of its bridge."""

from collections.abc import Iterable

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from rackgate.axi.bus import AXI4Signature
from rackgate.axi.read_arbiter import ReadArbiter
from rackgate.axi.write_arbiter import WriteArbiter
from rackgate.bridge.abi import MEMORY_BASE
from rackgate.mem.target import RamReads, RamWrites, Region

__all__ = ["OnChipMemory"]


class OnChipMemory(wiring.Component):
    """Memory for several AXI4 initiators that share a read and a write port of block RAM.

    8 bytes a cycle are read and 8 written, whoever does it; the initiators take turns burst by burst
    (:class:`~rackgate.axi.read_arbiter.ReadArbiter`, :class:`~rackgate.axi.write_arbiter.WriteArbiter`: an initiator
    that sends an address must take or send its data at once, or it holds up the others). All bursts are answered in the
    order in which their addresses were taken. The first word comes 4 cycles after its address. A read whose address is
    offered after the response to a write sees its data.

    What is outside is DECERR; a burst that is not INCR with 8 bytes a beat is SLVERR; neither writes. Reset forgets
    what is under way, so reset the initiators with it; the contents stay, and are zero when the FPGA is configured.

    Parameters
    ----------
    size:
        Bytes: a multiple of 8, at least 16. On ECP5 a DP16KD holds 2 KiB.
    initiators:
        Signatures of the buses, at least one, of 64 bits of data and any widths of addresses and ids.
    base:
        First address: a multiple of the power of two that holds ``size``.

    Members
    -------
    i_0, i_1...:
        The initiators.

    Raises
    ------
    ValueError
        When a parameter breaks its rule, or an initiator has too few bits of address to reach all of the memory.
    """

    def __init__(self, size: int, initiators: Iterable[AXI4Signature], *, base: int = MEMORY_BASE):
        self.region = Region(base, size)
        self.size, self.base, self.initiators = self.region.size, self.region.base, tuple(initiators)
        if not self.initiators:
            raise ValueError("initiators must not be empty")
        for number, bus in enumerate(self.initiators):
            if bus.data_width != 64:
                raise ValueError(f"initiators must have 64 bits of data, as number {number} has not: {bus.data_width}")
            if self.base + self.size > 1 << bus.addr_width:
                raise ValueError(f"initiators must reach {self.base + self.size - 1:#x}, as number {number} does not "
                                 f"with {bus.addr_width} bits")
        super().__init__({f"i_{number}": In(bus) for number, bus in enumerate(self.initiators)})
        self._memory = Memory(shape=64, depth=self.region.depth, init=[])

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = self._memory
        count = len(self.initiators)
        widths = {"addr_width": max(bus.addr_width for bus in self.initiators),
                  "id_width": max(bus.id_width for bus in self.initiators)}
        m.submodules.read_turns = read_turns = ReadArbiter(count, **widths)
        m.submodules.write_turns = write_turns = WriteArbiter(count, **widths)
        bus = AXI4Signature(addr_width=widths["addr_width"], id_width=read_turns.bus_id_width)
        m.submodules.reads = reads = RamReads(bus, self.region)
        m.submodules.writes = writes = RamWrites(bus, self.region)
        wiring.connect(m, read_turns.o_ar, reads.ar)
        wiring.connect(m, reads.r, read_turns.i_r)
        for ours, theirs in ((write_turns.o_aw, writes.aw), (write_turns.o_w, writes.w), (writes.b, write_turns.i_b)):
            wiring.connect(m, ours, theirs)
        for number in range(count):
            port = getattr(self, f"i_{number}")
            for source, target in (
                (port.ar, read_turns.i_ar[number]), (read_turns.o_r[number], port.r),
                (port.aw, write_turns.i_aw[number]), (port.w, write_turns.i_w[number]),
                (write_turns.o_b[number], port.b),
            ):
                _join(m, source, target)
        r_port, w_port = self._memory.read_port(), self._memory.write_port(granularity=8)
        m.d.comb += [
            r_port.addr.eq(reads.ram_addr), r_port.en.eq(reads.ram_en), reads.ram_data.eq(r_port.data),
            w_port.addr.eq(writes.ram_addr), w_port.en.eq(writes.ram_en), w_port.data.eq(writes.ram_data),
        ]
        return m


def _join(m, source, target):
    """Connect streams whose addresses and ids may differ in width; bits that one has more are zero."""
    m.d.comb += [target.valid.eq(source.valid), source.ready.eq(target.ready)]
    m.d.comb += [target.payload[name].eq(source.payload[name]) for name, _ in source.payload.shape()]
