# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""csr.Bank as a host sees it."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.axi.bus import Response
from rackgate.csr.bank import Bank
from rackgate.csr.map import MAGIC, Access, Register, RegisterMap, device_code
from rackgate.inflate import abi
from rackgate.verif.stimulus import simulate
from rackgate.verif.stream_rules import watch

MAP = RegisterMap("TEST", (3, 7), (
    Register("STATE", 0x20, Access.RO, "read only"),
    Register("SETTING", 0x24, Access.RW, "read and write", reset=0x1234),
    Register("CAUSES", 0x28, Access.W1C, "set by the device", reset=0x80),
    Register("DOORBELL", 0x2C, Access.WO, "a strobe"),
    Register("SIZE", 0x30, Access.CONST, "fixed", reset=99),
    Register("FAR", 0xFFC, Access.RW, "at the end"),
))


class Host:
    """Register accesses; each must end within 3 cycles."""

    def __init__(self, ctx, bus, rng=None):
        self.ctx, self.bus, self.rng = ctx, bus, rng or random.Random(0)

    async def read(self, address, *, stall=0):
        """(response, data) of a read."""
        ctx, bus = self.ctx, self.bus
        ctx.set(bus.ar.payload.addr, address)
        ctx.set(bus.ar.valid, 1)
        assert ctx.get(bus.ar.ready)
        await ctx.tick()
        ctx.set(bus.ar.valid, 0)
        await ctx.tick()
        for _ in range(stall):
            assert ctx.get(bus.r.valid)
            await ctx.tick()
        ctx.set(bus.r.ready, 1)
        _, _, valid, answer = await ctx.tick().sample(bus.r.valid, bus.r.payload)
        ctx.set(bus.r.ready, 0)
        assert valid
        return answer.resp, answer.data

    async def write(self, address, value, *, strobe=0xF, stall=0, skew=0):
        """Response of a write; ``skew`` cycles of address before data, or if negative after."""
        ctx, bus = self.ctx, self.bus
        ctx.set(bus.aw.payload.addr, address)
        ctx.set(bus.w.payload, {"data": value, "strb": strobe})
        ctx.set(bus.aw.valid, skew >= 0)
        ctx.set(bus.w.valid, skew <= 0)
        for _ in range(abs(skew)):
            _, _, aw_ready, w_ready = await ctx.tick().sample(bus.aw.valid & bus.aw.ready, bus.w.valid & bus.w.ready)
            assert not aw_ready and not w_ready
        ctx.set(bus.aw.valid, 1)
        ctx.set(bus.w.valid, 1)
        assert ctx.get(bus.aw.ready) and ctx.get(bus.w.ready)
        await ctx.tick()
        ctx.set(bus.aw.valid, 0)
        ctx.set(bus.w.valid, 0)
        await ctx.tick()
        for _ in range(stall):
            assert ctx.get(bus.b.valid)
            await ctx.tick()
        ctx.set(bus.b.ready, 1)
        _, _, valid, response = await ctx.tick().sample(bus.b.valid, bus.b.payload.resp)
        ctx.set(bus.b.ready, 0)
        assert valid
        return response


def run(testbench, *, values=None):
    """Run ``await testbench(ctx, dut, host)`` on a bank of MAP."""
    dut = Bank(MAP, values=values)
    m = Module()
    m.submodules.dut = dut
    watch(m, dut.bus.r, name="r")
    watch(m, dut.bus.b, name="b")

    async def bench(ctx):
        await testbench(ctx, dut, Host(ctx, dut.bus))

    simulate(m, bench)


def test_constants():
    async def testbench(ctx, dut, host):
        values = {"MAGIC": MAGIC, "DEVICE": device_code("TEST"), "VERSION": 3 << 16 | 7,
                  "MAP_HASH": MAP["MAP_HASH"].reset, "BUILD_LO": 0xABCD, "BUILD_HI": 0, "SIZE": 100}
        for name, expected in values.items():
            assert await host.read(MAP[name].offset) == (Response.OKAY, expected)
            assert await host.write(MAP[name].offset, 5) == Response.SLVERR
            assert await host.read(MAP[name].offset) == (Response.OKAY, expected)

    run(testbench, values={"SIZE": 100, "BUILD_LO": 0xABCD})


def test_read_only():
    async def testbench(ctx, dut, host):
        strobes = 0
        ctx.set(dut.state, 0xCAFEF00D)
        assert await host.read(0x20, stall=2) == (Response.OKAY, 0xCAFEF00D)
        assert await host.write(0x20, 1) == Response.SLVERR
        # The value is that of the cycle with the strobe.
        ctx.set(dut.bus.ar.payload.addr, 0x20)
        ctx.set(dut.bus.ar.valid, 1)
        for value in range(4):
            ctx.set(dut.state, value)
            if ctx.get(dut.state_read):
                strobes += 1
                expected = value
            await ctx.tick()
            ctx.set(dut.bus.ar.valid, 0)
        assert strobes == 1
        assert ctx.get(dut.bus.r.payload.data) == expected

    run(testbench)


def test_read_write():
    async def testbench(ctx, dut, host):
        assert ctx.get(dut.setting) == 0x1234
        assert await host.read(0x24) == (Response.OKAY, 0x1234)
        value, rng = 0x1234, random.Random(5)
        for _ in range(30):
            word, strobe = rng.getrandbits(32), rng.getrandbits(4)
            response = await host.write(0x24, word, strobe=strobe, stall=rng.randrange(3), skew=rng.randrange(-2, 3))
            assert response == Response.OKAY
            mask = sum(0xFF << 8 * k for k in range(4) if strobe >> k & 1)
            value = word & mask | value & ~mask
            assert ctx.get(dut.setting) == value
            assert await host.read(0x24 + rng.randrange(4), stall=rng.randrange(3)) == (Response.OKAY, value)
        assert await host.write(0xFFC, 77) == Response.OKAY
        assert await host.read(0xFFC) == (Response.OKAY, 77)
        assert ctx.get(dut.setting) == value

    run(testbench)


@pytest.mark.parametrize("address,name", [(0x24, "setting"), (0x2C, "doorbell")])
def test_write_strobe(address, name):
    async def testbench(ctx, dut, host):
        seen = []
        ctx.set(dut.bus.aw.payload.addr, address)
        ctx.set(dut.bus.w.payload, {"data": 0x55667788, "strb": 0b0101 if name == "doorbell" else 0xF})
        ctx.set(dut.bus.aw.valid, 1)
        ctx.set(dut.bus.w.valid, 1)
        for _ in range(6):
            await ctx.tick()
            ctx.set(dut.bus.aw.valid, 0)
            ctx.set(dut.bus.w.valid, 0)
            if ctx.get(getattr(dut, f"{name}_written")):
                seen.append(ctx.get(getattr(dut, name)))
        assert seen == [0x00660088 if name == "doorbell" else 0x55667788]

    run(testbench)


def test_write_only_reads_zero():
    async def testbench(ctx, dut, host):
        assert await host.write(0x2C, 123) == Response.OKAY
        assert await host.read(0x2C) == (Response.OKAY, 0)

    run(testbench)


def test_write_one_to_clear():
    async def testbench(ctx, dut, host):
        assert await host.read(0x28) == (Response.OKAY, 0x80)
        ctx.set(dut.causes_set, 0x107)
        await ctx.tick()
        ctx.set(dut.causes_set, 0)
        await ctx.tick()
        assert ctx.get(dut.causes) == 0x187
        assert await host.write(0x28, 0xFFFF0102, strobe=0b1101) == Response.OKAY
        assert ctx.get(dut.causes) == 0x185, "byte 1 was not strobed"

    run(testbench)


@pytest.mark.parametrize("cycle,expected", [(0, 0), (1, 1), (2, 1)])
def test_setting_wins_over_clearing(cycle, expected):
    """The request is taken in cycle 0 and clears in cycle 1."""
    async def testbench(ctx, dut, host):
        ctx.set(dut.bus.aw.payload.addr, 0x28)
        ctx.set(dut.bus.w.payload, {"data": 0xFF, "strb": 0xF})
        ctx.set(dut.bus.aw.valid, 1)
        ctx.set(dut.bus.w.valid, 1)
        for now in range(4):
            ctx.set(dut.causes_set, now == cycle)
            await ctx.tick()
            ctx.set(dut.bus.aw.valid, 0)
            ctx.set(dut.bus.w.valid, 0)
        assert ctx.get(dut.causes) == expected

    run(testbench)


@pytest.mark.parametrize("address", [0x18, 0x1C, 0x34, 0x400, 0xFF8])
def test_unmapped(address):
    async def testbench(ctx, dut, host):
        assert await host.read(address) == (Response.SLVERR, 0)
        assert await host.write(address, 0xFFFFFFFF) == Response.SLVERR
        assert ctx.get(dut.setting) == 0x1234
        assert await host.read(0x24) == (Response.OKAY, 0x1234)

    run(testbench)


def test_inflate_map():
    """Every register of a real map answers."""
    dut = Bank(abi.REGISTERS, values={"PARAM_CONTEXTS": 2})

    async def testbench(ctx):
        host = Host(ctx, dut.bus)
        for register in abi.REGISTERS.values():
            assert (await host.read(register.offset))[0] == Response.OKAY
        assert await host.read(0x20) == (Response.OKAY, 2)

    simulate(dut, testbench)


def test_bad_parameters():
    with pytest.raises(ValueError, match="values must name CONST registers of the map, not 'SETTING'"):
        Bank(MAP, values={"SETTING": 1})
    with pytest.raises(ValueError, match="value of SIZE must fit 32 bits, not 0x100000000"):
        Bank(MAP, values={"SIZE": 1 << 32})
    with pytest.raises(ValueError, match="absent must name registers of the map, not 'NOWHERE'"):
        Bank(MAP, absent=["NOWHERE"])
    with pytest.raises(ValueError, match="values must name CONST registers of the map, not 'SIZE'"):
        Bank(MAP, values={"SIZE": 1}, absent=["SIZE"])


def test_large_map():
    """Addresses beyond 4 KiB are told apart from those below; an absent register is no register."""
    registers = RegisterMap("BIGG", (1, 0), (
        Register("LOW", 0x24, Access.RW, ""),
        Register("HIGH", 0x1024, Access.RW, ""),
        Register("GONE", 0x1028, Access.RW, ""),
        Register("LAST", 0x16FC, Access.RO, ""),
    ))
    dut = Bank(registers, absent=["GONE"])
    assert dut.addr_width == 13 and Bank(MAP).addr_width == 12
    assert not hasattr(dut, "gone")

    async def testbench(ctx):
        host = Host(ctx, dut.bus)
        ctx.set(dut.last, 77)
        assert await host.write(0x24, 1) == Response.OKAY
        assert await host.write(0x1024, 2) == Response.OKAY
        assert await host.write(0x1028, 3) == Response.SLVERR
        assert await host.read(0x24) == (Response.OKAY, 1)
        assert await host.read(0x1024) == (Response.OKAY, 2)
        assert await host.read(0x1028) == (Response.SLVERR, 0)
        assert await host.read(0x16FC) == (Response.OKAY, 77)
        for address in (0x6FC, 0x1700, 0x1FFC):
            assert await host.read(address) == (Response.SLVERR, 0)

    simulate(dut, testbench)


def test_device_clears():
    dut = Bank(MAP)

    async def testbench(ctx):
        ctx.set(dut.causes_set, 0x3)
        await ctx.tick()
        ctx.set(dut.causes_set, 0x10)
        ctx.set(dut.causes_clear, 0x91)
        await ctx.tick()
        assert ctx.get(dut.causes) == 0x12, "setting wins over clearing"

    simulate(dut, testbench)
