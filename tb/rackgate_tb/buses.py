# SPDX-License-Identifier: Apache-2.0
"""cocotbext-axi's models on the pins of :class:`rackgate_tb.axi_pins.AxiPins`, with what a bench wants of them."""

import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam, AxiResp
from cocotbext.axi.stream import StreamSource

__all__ = ["GuardedBytes", "Memory", "Pauses", "Registers", "axi_channels"]

_REGISTER_LIMIT_CYCLES = 2000


def axi_channels(model: Any) -> list[Any]:
    """The five channels of a model of cocotbext-axi, to pause."""
    write, read = model.write_if, model.read_if
    return [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel]


class GuardedBytes:
    """``size`` bytes from address ``base`` on, everything else is an error; ``readable`` says what may be read.

    Raises ``IndexError`` for an access outside, which the bus answers with SLVERR. A read of bytes that nobody has
    allowed is counted in ``strays``: a device that reads too far must be noticed although it does no harm here.
    """

    def __init__(self, base: int, size: int, end: int):
        self.base = base
        self.end = end
        self.data = bytearray(size)
        self.readable = bytearray(size)
        self.strays: list[int] = []
        self.written = 0

    def __len__(self) -> int:
        return self.end

    def _place(self, where: slice) -> slice:
        start, stop = where.start - self.base, where.stop - self.base
        if start < 0 or stop > len(self.data):
            raise IndexError(f"no memory at {where.start:#x}")
        return slice(start, stop)

    def __getitem__(self, where: slice) -> bytes:
        place = self._place(where)
        if not all(self.readable[place]):
            self.strays.append(where.start)
        return bytes(self.data[place])

    def __setitem__(self, where: slice, data: bytes) -> None:
        self.data[self._place(where)] = data
        self.written += len(data)

    def allow(self, address: int, size: int) -> None:
        """Let the whole 8-byte words that hold these bytes be read."""
        start, stop = (address - self.base) // 8 * 8, -(-(address - self.base + size) // 8) * 8
        self.readable[start:stop] = b"\1" * (stop - start)


class Memory:
    """An AXI4 memory behind port ``prefix``. It answers bursts in order, with random pauses if asked to."""

    def __init__(self, dut, prefix: str, *, base: int, size: int):
        self.bytes = GuardedBytes(base, size, 1 << len(getattr(dut, f"{prefix}_araddr")))
        self.ram = AxiRam(AxiBus.from_prefix(dut, prefix), dut.clk, size=len(self.bytes), mem=self.bytes)

    def channels(self) -> list[Any]:
        """The five channels, to pause."""
        return axi_channels(self.ram)


class Registers:
    """32-bit registers behind the AXI4-Lite port ``prefix``. Every access has a limit."""

    def __init__(self, dut, prefix: str, *, period_ns: int):
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, prefix), dut.clk)
        self._limit = _REGISTER_LIMIT_CYCLES * period_ns

    def channels(self) -> list[Any]:
        """The five channels, to pause."""
        return axi_channels(self.master)

    async def access(self, offset: int, value: bytes | None = None) -> tuple[AxiResp, bytes]:
        """Read 4 bytes, or write the given ones (which stay within a word); returns the response and what was read."""
        if value is None:
            done = await with_timeout(self.master.read(offset, 4), self._limit, "ns")
            return done.resp, done.data
        done = await with_timeout(self.master.write(offset, value), self._limit, "ns")
        return done.resp, b""

    async def read(self, offset: int) -> int:
        """A register that exists."""
        resp, data = await self.access(offset)
        assert resp == AxiResp.OKAY, f"reading register {offset:#x} gives {resp.name}"
        return int.from_bytes(data, "little")

    async def write(self, offset: int, value: int) -> None:
        """Write a register that can be written."""
        resp, _ = await self.access(offset, value.to_bytes(4, "little"))
        assert resp == AxiResp.OKAY, f"writing register {offset:#x} gives {resp.name}"


class Pauses:
    """Idle cycles and back-pressure: in each cycle each of ``channels`` pauses with a probability of its own.

    The probabilities are drawn between half of ``most`` and ``most``, so that in each run some channels are fast and
    some slow. ``seen`` counts, by channel and in every fourth cycle, pauses that held something up.
    """

    def __init__(self, clock, channels, *, rng: random.Random, most: float):
        self.clock = clock
        self.rng = rng
        self.channels = [(channel, most * rng.uniform(0.5, 1)) for channel in channels]
        self.seen = {channel.bus._name: 0 for channel in channels}
        if most:
            cocotb.start_soon(self._run())

    async def _run(self):
        edge = RisingEdge(self.clock)
        while True:
            for _ in range(4):
                for channel, probability in self.channels:
                    channel.pause = self.rng.random() < probability
                await edge
            for channel, _ in self.channels:
                self.seen[channel.bus._name] += self._is_held(channel)

    @staticmethod
    def _is_held(channel: Any) -> bool:
        """Whether a sink keeps the other side waiting, or a source keeps what it has to itself."""
        is_valid = bool(channel.valid.value)
        if isinstance(channel, StreamSource):
            return not is_valid and not channel.empty()
        return is_valid and not channel.ready.value
