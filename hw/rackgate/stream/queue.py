# SPDX-License-Identifier: Apache-2.0
"""First-in first-out queues of stream payloads in one clock domain."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["BLOCK_RAM_DEPTH", "Queue"]

#: Queues deeper than this are kept in block RAM.
BLOCK_RAM_DEPTH = 32


class Queue(wiring.Component):
    """Hold up to ``depth`` payloads and give them out in the order they came in.

    One payload a cycle goes in and one comes out, at any level, when ``depth`` is at least 2 (with
    ``depth`` 1 every other cycle). A payload put in at cycle t can be taken from cycle t + 1 when the
    queue is in LUT RAM, and from t + 3 when it is in block RAM: there the RAM's output passes a register
    before it leaves. ``i.ready`` and ``o.valid`` come from registers; neither depends on the other side.
    Reset empties the queue; the RAM's contents stay, but no longer count.

    Parameters
    ----------
    shape:
        Shape of the payload.
    depth:
        Capacity in payloads, at least 1; need not be a power of two.
    block_ram:
        Whether to use block RAM. By default for depths above 32.

    Members
    -------
    i, o:
        The two ends.
    level:
        Payloads now held, including the one offered at ``o``.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, shape, *, depth, block_ram=None):
        self.shape = shape
        self.depth = operator.index(depth)
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self.block_ram = self.depth > BLOCK_RAM_DEPTH if block_ram is None else bool(block_ram)
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "level": Out(range(self.depth + 1)),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._memory = Memory(shape=shape, depth=self.depth, init=[])
        self._w_port = self._memory.write_port()
        self._r_port = self._memory.read_port(domain="sync" if self.block_ram else "comb")
        self._w_addr = Signal(range(self.depth))
        self._r_addr = Signal(range(self.depth))
        # Payloads in block RAM that no read has fetched yet, and those on their way out of it.
        self._stored = Signal(range(self.depth + 1))
        self._is_fetched = Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = self._memory
        put, get, fetch = Signal(), Signal(), Signal()

        m.d.comb += [
            self.i.ready.eq(self.level != self.depth),
            put.eq(self.i.valid & self.i.ready),
            get.eq(self.o.valid & self.o.ready),
            self._w_port.addr.eq(self._w_addr),
            self._w_port.data.eq(self.i.payload),
            self._w_port.en.eq(put),
            self._r_port.addr.eq(self._r_addr),
        ]
        self._count(m, self.level, put, get)
        with m.If(put):
            m.d.sync += self._w_addr.eq(self._after(self._w_addr))
        with m.If(fetch):
            m.d.sync += self._r_addr.eq(self._after(self._r_addr))

        if self.block_ram:
            self._read_block_ram(m, put, fetch)
        else:
            m.d.comb += [
                self.o.payload.eq(self._r_port.data),
                self.o.valid.eq(self.level != 0),
                fetch.eq(get),
            ]
        m.d.sync += Assert(self.level <= self.depth, "queue holds more than its depth")
        return m

    def _read_block_ram(self, m, put, fetch):
        """Two registers after the RAM: its own output, then ``o``. Each moves on when the next one can."""
        o_free = ~self.o.valid | self.o.ready
        fetched_free = ~self._is_fetched | o_free
        m.d.comb += [
            fetch.eq((self._stored != 0) & fetched_free),
            self._r_port.en.eq(fetched_free),
        ]
        self._count(m, self._stored, put, fetch)
        with m.If(fetched_free):
            m.d.sync += self._is_fetched.eq(fetch)
        with m.If(o_free):
            m.d.sync += [
                self.o.payload.eq(self._r_port.data),
                self.o.valid.eq(self._is_fetched),
            ]

    @staticmethod
    def _count(m, count, up, down):
        """Both results are ready before ``up`` and ``down``, which come late: they only choose."""
        with m.If(up != down):
            m.d.sync += count.eq(Mux(up, count + 1, count - 1))

    def _after(self, address):
        return Mux(address == self.depth - 1, 0, address + 1)
