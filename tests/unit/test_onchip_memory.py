# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""OnChipMemory: what several initiators read is what they have written."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.axi.bus import AXI4Signature, Burst, Response
from rackgate.bridge.abi import MEMORY_BASE
from rackgate.mem.onchip import OnChipMemory
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch

SIZE = 3 * 1024  # no power of two, so that there is an end within the bits of an address
BUSES = [AXI4Signature(addr_width=40, id_width=4), AXI4Signature(addr_width=32, id_width=1),
         AXI4Signature(addr_width=36, id_width=2)]


def address(word, beats, *, id=0, burst=Burst.INCR, size=3):
    return {"addr": MEMORY_BASE + 8 * word, "id": id, "len": beats - 1, "burst": burst, "size": size}


def watched(dut):
    m = Module()
    m.submodules.dut = dut
    for number in range(len(dut.initiators)):
        port = getattr(dut, f"i_{number}")
        for name in ("r", "b"):
            watch(m, getattr(port, name), name=f"{name}_{number}")
    return m


class Initiator:
    """Writes to a part of memory that is its own, and reads there what it must find."""

    def __init__(self, port, bus, rng, stall, first, count):
        self.port, self.bus, self.rng, self.stall = port, bus, rng, stall
        self.first, self.words = first, [0] * count

    def _range(self):
        beats = self.rng.choice([1, 2, 16, self.rng.randrange(1, 33)])
        word = self.rng.randrange(len(self.words) - beats + 1)
        return word, beats, self.rng.getrandbits(self.bus.id_width)

    async def write(self, ctx):
        word, beats, id = self._range()
        items = []
        for beat in range(beats):
            data, strobe = self.rng.getrandbits(64), self.rng.choice([0xFF, self.rng.getrandbits(8)])
            mask = sum(0xFF << 8 * lane for lane in range(8) if strobe >> lane & 1)
            self.words[word + beat] = self.words[word + beat] & ~mask | data & mask
            items.append({"data": data, "strb": strobe, "last": beat == beats - 1})
        await send(ctx, self.port.aw, [address(self.first + word, beats, id=id)], rng=self.rng, idle=self.stall)
        await send(ctx, self.port.w, items, rng=self.rng, idle=self.stall)
        answer, = await receive(ctx, self.port.b, 1, rng=self.rng, stall=self.stall)
        assert (answer.id, answer.resp) == (id, Response.OKAY)

    async def read(self, ctx):
        word, beats, id = self._range()
        await send(ctx, self.port.ar, [address(self.first + word, beats, id=id)], rng=self.rng, idle=self.stall)
        found = await receive(ctx, self.port.r, beats, rng=self.rng, stall=self.stall)
        assert [beat.data for beat in found] == self.words[word:word + beats]
        assert [beat.last for beat in found] == [0] * (beats - 1) + [1]
        assert {(beat.id, beat.resp) for beat in found} == {(id, Response.OKAY)}

    async def run(self, ctx, turns):
        for _ in range(turns):
            await self.rng.choice([self.write, self.read])(ctx)
        for _ in range(5):
            await self.read(ctx)


@pytest.mark.parametrize("stall", [0, 0.4])
@pytest.mark.parametrize("count", [1, 3])
def test_initiators(count, stall, seed):
    dut = OnChipMemory(SIZE, BUSES[:count])
    words = SIZE // 8 // count
    users = [Initiator(getattr(dut, f"i_{k}"), BUSES[k], random.Random(seed + k), stall, k * words, words)
             for k in range(count)]

    def bench(user):
        async def run(ctx):
            await user.run(ctx, 30)
        return run

    simulate(watched(dut), *map(bench, users))


def test_a_beat_a_cycle():
    """Both ways at once, across bursts and initiators; and the latency that is promised."""
    dut = OnChipMemory(SIZE, BUSES[:2])
    bursts, beats = 6, 16

    def writer(k):
        async def addresses(ctx):
            await send(ctx, getattr(dut, f"i_{k}").aw, [address(16 * k, beats) for _ in range(bursts)])

        async def words(ctx):
            await send(ctx, getattr(dut, f"i_{k}").w, [
                {"data": 1, "strb": 255, "last": beat == beats - 1} for _ in range(bursts) for beat in range(beats)])
        return addresses, words

    def reader(k):
        async def addresses(ctx):
            await send(ctx, getattr(dut, f"i_{k}").ar, [address(16 * k, beats) for _ in range(bursts)])
        return addresses

    async def measure(ctx):
        busy, begun = {"r": [], "w": []}, 0
        for k in range(2):
            for name in ("r", "b"):
                ctx.set(getattr(getattr(dut, f"i_{k}"), name).ready, 1)
        while len(busy["r"]) < 2 * bursts * beats or len(busy["w"]) < 2 * bursts * beats:
            ports = [getattr(dut, f"i_{k}") for k in range(2)]
            values = await ctx.tick().sample(*(port.r.valid for port in ports),
                                             *(port.w.valid & port.w.ready for port in ports))
            for name, moves in (("r", values[2:4]), ("w", values[4:6])):
                busy[name] += [begun] * (moves[0] + moves[1])
            begun += 1
        for name, cycles in busy.items():
            assert cycles[-1] - cycles[0] == 2 * bursts * beats - 1, f"{name} has gaps: {cycles}"
        assert busy["r"][0] == 4

    simulate(watched(dut), *(bench for k in range(2) for bench in (*writer(k), reader(k))), measure)


@pytest.mark.parametrize("word,beats,kind,response", [
    (SIZE // 8, 1, {}, [Response.DECERR]),
    (SIZE // 8 - 1, 2, {}, [Response.OKAY, Response.DECERR]),
    (-1, 2, {}, [Response.DECERR, Response.OKAY]),
    (512, 1, {}, [Response.DECERR]),
    (-1 << 20, 1, {}, [Response.DECERR]),
    (3, 2, {"burst": Burst.WRAP}, [Response.SLVERR] * 2),
    (3, 2, {"burst": Burst.FIXED}, [Response.SLVERR] * 2),
    (3, 1, {"size": 2}, [Response.SLVERR]),
])
def test_refused(word, beats, kind, response):
    """Outside, nothing is written, and nothing comes to be inside by being cut off; the next burst is as ever."""
    dut = OnChipMemory(SIZE, BUSES[:1])
    port = dut.i_0

    async def write(ctx, first, value, count, **kind):
        await send(ctx, port.aw, [address(first, count, **kind)])
        await send(ctx, port.w, [{"data": value, "strb": 255, "last": beat == count - 1} for beat in range(count)])
        return (await receive(ctx, port.b, 1))[0].resp

    async def read(ctx, first, count, **kind):
        await send(ctx, port.ar, [address(first, count, **kind)])
        return await receive(ctx, port.r, count)

    async def bench(ctx):
        for first in range(0, SIZE // 8, 128):
            assert await write(ctx, first, 7, 128) == Response.OKAY
        assert await write(ctx, word, 9, beats, **kind) == max(response, key=lambda one: one.value)
        assert [beat.resp for beat in await read(ctx, word, beats, **kind)] == response
        allowed = {word + beat for beat in range(beats) if response[beat] == Response.OKAY}
        for first in range(0, SIZE // 8, 128):
            for place, beat in enumerate(await read(ctx, first, 128)):
                assert beat.resp == Response.OKAY
                assert beat.data == (9 if first + place in allowed else 7), hex(first + place)

    simulate(watched(dut), bench)


@pytest.mark.parametrize("make,rule", [
    (lambda: OnChipMemory(100, BUSES), "size must be a multiple of 8 from 16 on, not 100"),
    (lambda: OnChipMemory(8, BUSES), "size must be a multiple of 8 from 16 on, not 8"),
    (lambda: OnChipMemory(3072, BUSES, base=2048), "base must be a multiple of 0x1000, not 0x800"),
    (lambda: OnChipMemory(3072, []), "initiators must not be empty"),
    (lambda: OnChipMemory(3072, [BUSES[0], AXI4Signature(data_width=128)]), "64 bits of data, as number 1 has not"),
    (lambda: OnChipMemory(3072, [AXI4Signature(addr_width=28)]), "reach 0x10000bff, as number 0 does not with 28 bits"),
])
def test_bad_parameters(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
