# SPDX-License-Identifier: Apache-2.0
"""Bench of the NIC's front and its frame buffer, with AXI4-Stream models that nobody here wrote.

The frames come from the launcher, as JSON in the file that the option ``frames`` names: pairs of content, in
hexadecimal, and whether it is damaged. What is to become of them says the golden model.
"""

import json
from pathlib import Path

import cocotb
from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotbext.axi import AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource

from rackgate.zeronic.abi import Counter
from rackgate.zeronic.messages import TCP_PROFILE, ChecksumKind, Profile
from rackgate.zeronic.records import ProfileUpdate, Verdict
from rackgate_sim.zeronic.parse import parse

from . import session
from .frame_intake import COUNTED

PERIOD_NS = 10
_LIMIT_NS = 20_000_000
_DROPS = (Counter.BAD_FRAME, Counter.BAD_IP_CHECKSUM, Counter.BAD_CHECKSUM)
_PROFILES = (
    TCP_PROFILE,
    Profile(1, protocol=17, checksum=ChecksumKind.UDP, position=12, size=24, port=0x4700, mask=0xFF00),
    Profile(2, protocol=253, checksum=ChecksumKind.NONE, position=56, size=60),
    Profile(3, protocol=17, checksum=ChecksumKind.TCP, position=4, size=8),
)


class Bench:
    """The intake between its bus models."""

    def __init__(self, dut, purpose, *, pause):
        self.dut, self.rng, self.pause = dut, session.rng(purpose), pause
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "net_rx"), dut.clk)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "net_tx"), dut.clk)
        self.frames = [(bytes.fromhex(content), is_damaged)
                       for content, is_damaged in json.loads(Path(session.options()["frames"]).read_text())]

    @classmethod
    async def start(cls, dut, purpose, *, pause=0.0):
        """Clock, reset, and the profiles."""
        for name in ("withdraw", "profile_valid", "verdict_ready"):
            getattr(dut, name).value = 0
        dut.rst.value = 1
        bench = cls(dut, purpose, pause=pause)
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        if pause:
            bench.source.set_pause_generator(bench.pauses())
            bench.sink.set_pause_generator(bench.pauses())
        for profile in _PROFILES:
            dut.profile.value = _raw(profile)
            dut.profile_valid.value = 1
            await ReadOnly()
            while not dut.profile_ready.value:
                await RisingEdge(dut.clk)
                await ReadOnly()
            await RisingEdge(dut.clk)
            dut.profile_valid.value = 0
        return bench

    def pauses(self):
        """Whether to pause, cycle by cycle."""
        while True:
            yield self.rng.random() < self.pause

    async def verdicts(self, count):
        """As many verdicts, as dictionaries."""
        out = []
        while len(out) < count:
            ready = self.rng.random() >= self.pause
            self.dut.verdict_ready.value = ready
            await ReadOnly()
            if ready and self.dut.verdict_valid.value:
                out.append(data.Const(Verdict.as_shape(), int(self.dut.verdict.value)))
            await RisingEdge(self.dut.clk)
        self.dut.verdict_ready.value = 0
        return out

    async def check(self):
        """All frames go in; compare what comes out, and the counters."""
        found = [(content, parse(content, _PROFILES, is_damaged)) for content, is_damaged in self.frames]
        kept = [(content, one) for content, one in found if not isinstance(one, Counter)]
        for content, is_damaged in self.frames:
            self.source.send_nowait(AxiStreamFrame(content, tuser=[int(is_damaged)] * len(content)))
        for (content, wanted), got in zip(found, await self.verdicts(len(found)), strict=True):
            if isinstance(wanted, Counter):  # dropped at its end: what was said of its headers does not count
                continue
            assert got.split == (wanted.key is not None), content.hex()
            if wanted.key is not None:
                assert [getattr(got.key, name) for name in wanted.key._fields] == list(wanted.key), content.hex()
                assert all(getattr(got, name) == getattr(wanted, name)
                           for name in ("position", "headers", "payload", "flags")), content.hex()
        dropped = [one for _, one in found if isinstance(one, Counter)]
        while int(self.dut.received.value) != len(found) or not self.dut.idle.value:
            await RisingEdge(self.dut.clk)
        await ClockCycles(self.dut.clk, 4)
        assert [bytes(self.sink.recv_nowait().tdata) for _ in range(self.sink.count())] == [one for one, _ in kept]
        for cause in _DROPS:
            assert int(getattr(self.dut, cause.name.lower()).value) == dropped.count(cause), cause
        assert int(self.dut.received_bytes.value) == sum(len(content) for content, _ in kept)
        session.report(**{"kept": len(kept), **{cause.name.lower(): dropped.count(cause) for cause in _DROPS}})


def _raw(profile):
    """A profile as the bits of a :class:`~rackgate.zeronic.records.ProfileUpdate`."""
    shape, value = ProfileUpdate.as_shape(), 0
    for name, content in profile._asdict().items():
        value |= int(content) << shape[name].offset
    return value


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.3, 0.8])
async def frames(dut, pause):
    """Every frame is judged as the model says, and those kept come out whole and in order, at any pace."""
    bench = await Bench.start(dut, f"frames {pause}", pause=pause)
    await bench.check()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def line_rate(dut):
    """With nobody in the way, a word goes in each cycle: the front never waits."""
    bench = await Bench.start(dut, "line rate")
    waits = []

    async def count():
        while True:
            await RisingEdge(dut.clk)
            if dut.net_rx_tvalid.value and not dut.net_rx_tready.value:
                waits.append(1)

    counter = cocotb.start_soon(count())
    await bench.check()
    counter.cancel()
    assert not waits, f"it waited {len(waits)} cycles"
    assert all(int(getattr(dut, name).value) for name in COUNTED)
