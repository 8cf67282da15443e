# SPDX-License-Identifier: Apache-2.0
"""Bench of a whole switch, the manual's load balancer, at its pins, with bus models that nobody here wrote.

Frames and registers are compared with the reference model; all but the first test idle and press back at random on
the three ports.
"""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiResp, AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from rackgate.csr.map import MAGIC
from rackgate.net.frames import Endpoint, udp_frame
from rackgate.pisa.abi import Command, from_words
from rackgate.pisa.catalogue import PIPELINES
from rackgate_sim.pisa.model import PipelineModel

from . import session
from .buses import Pauses, Registers

PERIOD_NS = 10
_LIMIT_NS = 3_000_000
_KNOWN = PIPELINES["balancer"]


class Bench:
    """The switch between its bus models, and the model of it."""

    def __init__(self, dut, purpose: str, *, pause: float):
        self.dut = dut
        self.rng = session.rng(purpose)
        self.model = PipelineModel(_KNOWN.pipeline(), slot_size=session.parameters()["slot_size"])
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "net_rx"), dut.clk)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "net_tx"), dut.clk)
        self.registers = Registers(dut, "csr", period_ns=PERIOD_NS)
        self.pause = pause

    @classmethod
    async def start(cls, dut, purpose: str, *, pause: float) -> "Bench":
        """Reset the switch and wait until it is ready."""
        dut.withdraw.value = 0
        dut.rst.value = 1
        bench = cls(dut, purpose, pause=pause)
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        for _ in range(3):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        if pause:
            bench.source.set_pause_generator(_pauses(bench.rng, pause))
            bench.sink.set_pause_generator(_pauses(bench.rng, pause))
        Pauses(dut.clk, bench.registers.channels(), rng=bench.rng, most=pause)
        await bench.until("STATUS", 1, 1)
        return bench

    async def read(self, name: str) -> int:
        """A register."""
        return await self.registers.read(_KNOWN.map[name].offset)

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        await self.registers.write(_KNOWN.map[name].offset, value)

    async def until(self, name: str, mask: int, value: int) -> None:
        """Wait for bits of a register; the test's limit ends it."""
        while await self.read(name) & mask != value:
            await RisingEdge(self.dut.clk)

    async def command(self, operation: Command, index: int, *data: int) -> int:
        """Do a command on register array 0; the word that was read."""
        await self.write("TARGET", 0)
        await self.write("INDEX", index)
        for number, word in enumerate(data):
            await self.write(f"DATA_{number}", word)
        await self.write("COMMAND", operation)
        await self.until("STATUS", 2, 0)
        return from_words([await self.read("RESULT_0"), await self.read("RESULT_1")])

    async def send(self, frame: bytes, *, is_damaged: bool = False) -> None:
        """Queue a frame."""
        await self.source.send(AxiStreamFrame(frame, tuser=[int(is_damaged)] * len(frame)))

    async def settled(self, frames: int) -> None:
        """Wait until so many frames have come in, and nothing is left within."""
        while await self.read("RECEIVED") != frames:
            pass
        await self.until("STATUS", 4, 4)

    async def check(self, frames) -> None:
        """Send ``(frame, is_damaged)``, and compare what comes of them with the model."""
        want = []
        for content, is_damaged in frames:
            await self.send(content, is_damaged=is_damaged)
            packet = self.model.parse(content, is_damaged=is_damaged)
            if packet is not None:
                want += [out for _, out in self.model.step(packet)[0]]
        await self.settled(len(frames))
        while self.sink.count() < len(want):
            await RisingEdge(self.dut.clk)
        got = [self.sink.recv_nowait() for _ in range(self.sink.count())]
        assert [bytes(item.tdata) for item in got] == want
        assert await self.read("SENT") == len(want) and await self.read("DROPPED") == self.model.dropped
        for cause, count in self.model.rejections.items():
            assert await self.read(f"REJECTED_{cause.name}") == count, cause.name


def _pauses(rng: random.Random, probability: float):
    own = random.Random(rng.getrandbits(32))
    while True:
        yield own.random() < probability


def frames(rng: random.Random, count: int) -> list[tuple[bytes, bool]]:
    """Good and bad frames."""
    out = []
    for _ in range(count):
        payload = rng.randbytes(rng.choice((0, 1, 7, 8, 9, rng.randrange(300))))
        content = bytearray(udp_frame(Endpoint(2, rng.getrandbits(32), rng.getrandbits(16)),
                                      Endpoint(1, rng.getrandbits(32), 53), payload))
        if rng.random() < 0.3:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        out.append((bytes(content[:rng.randrange(1, len(content))] if rng.random() < 0.15 else content),
                    rng.random() < 0.05))
    return out


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def registers(dut):
    """Identity, parameters, and errors where there is nothing."""
    bench = await Bench.start(dut, "registers", pause=0.0)
    given = session.parameters()
    assert await bench.read("MAGIC") == MAGIC
    for name in ("width", "slots", "slot_size"):
        assert await bench.read(f"PARAM_{name.upper()}") == given[name]
    for offset in (0x18, 0x30, 0x108, 0x188, 0xFFC):
        assert (await bench.registers.access(offset))[0] == AxiResp.SLVERR, f"reading {offset:#x}"
    resp, _ = await bench.registers.access(_KNOWN.map["SENT"].offset, bytes(4))
    assert resp == AxiResp.SLVERR


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.3, 0.7])
async def traffic(dut, pause):
    """Good and bad frames, with pauses on every port."""
    bench = await Bench.start(dut, f"traffic {pause}", pause=pause)
    await bench.check(frames(bench.rng, 60))
    for index in range(4):
        word = await bench.command(Command.READ_REGISTER, index)
        assert {"packets": word & 0xFFFFFFFF, "bytes": word >> 32} == bench.model.read("counts", index)


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.5])
async def control_plane_beside_traffic(dut, pause):
    """Reads while frames flow only ever see counters grow; the interrupt tells of each command."""
    bench = await Bench.start(dut, f"control {pause}", pause=pause)
    await bench.write("IRQ_STATUS", 7)
    await bench.write("IRQ_ENABLE", 1)
    running = cocotb.start_soon(bench.check(frames(bench.rng, 60)))
    seen, reads = [0] * 4, 0
    while not running.done():
        index = bench.rng.randrange(4)
        packets = await bench.command(Command.READ_REGISTER, index) & 0xFFFFFFFF
        assert packets >= seen[index]
        assert dut.irq.value
        await bench.write("IRQ_STATUS", 1)
        await RisingEdge(dut.clk)
        seen[index], reads = packets, reads + 1
    await running
    assert reads > 5 and sum(seen) > 0


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.5])
async def restart_within_frames(dut, pause):
    """CONTROL.RESET at any time: what leaves are whole frames or damaged ones, then all is as after power-up."""
    bench = await Bench.start(dut, f"restart {pause}", pause=pause)
    for _ in range(4):
        sent = [content for content, _ in frames(bench.rng, 12)]
        for content in sent:
            await bench.send(content)
        for _ in range(bench.rng.randrange(20, 300)):
            await RisingEdge(dut.clk)
        await bench.write("CONTROL", 1)
        bench.source.clear()
        await bench.until("STATUS", 1, 1)
        while not bench.source.idle():
            await RisingEdge(dut.clk)
        await bench.until("STATUS", 4, 4)
        for _ in range(8):
            await RisingEdge(dut.clk)
        whole = {out for content in sent for _, out in bench.model.process(content)}
        for item in [bench.sink.recv_nowait() for _ in range(bench.sink.count())]:
            is_damaged = item.tuser if isinstance(item.tuser, int) else item.tuser[-1]
            assert is_damaged or bytes(item.tdata) in whole
        await bench.write("CONTROL", 1)
        await bench.until("STATUS", 1, 1)
        bench.model.reset()
        await bench.check(frames(bench.rng, 10))
        bench.model.reset()
