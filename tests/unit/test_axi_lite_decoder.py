# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""axi.LiteDecoder between a host and targets in software."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.axi.bus import Response
from rackgate.axi.lite_decoder import LiteDecoder
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch

REGIONS = [(0x0, 0x2000), (0x8000, 0x8000), (0x4000, 0x8)]


class Target:
    """A target that notes what it is asked and answers late; addresses with bit 6 are answered with SLVERR."""

    def __init__(self, bus, rng, stall):
        self.bus, self.rng, self.stall, self.reads, self.writes = bus, rng, stall, [], []

    async def pause(self, ctx):
        while self.rng.random() < self.stall:
            await ctx.tick()

    async def take(self, ctx, source):
        await self.pause(ctx)
        ctx.set(source.ready, 1)
        valid = False
        while not valid:
            *_, valid, payload = await ctx.tick().sample(source.valid, source.payload)
        ctx.set(source.ready, 0)
        return payload

    async def answer(self, ctx, sink, payload):
        await self.pause(ctx)
        ctx.set(sink.payload, payload)
        ctx.set(sink.valid, 1)
        ready = False
        while not ready:
            *_, ready = await ctx.tick().sample(sink.ready)
        ctx.set(sink.valid, 0)

    async def read(self, ctx):
        while True:
            address = (await self.take(ctx, self.bus.ar)).addr
            self.reads.append(address)
            await self.answer(ctx, self.bus.r, {"data": address * 3, "resp": Response.SLVERR if address & 64 else 0})

    async def write(self, ctx):
        while True:
            if self.rng.random() < 0.5:
                address, word = await self.take(ctx, self.bus.aw), await self.take(ctx, self.bus.w)
            else:
                word, address = await self.take(ctx, self.bus.w), await self.take(ctx, self.bus.aw)
            self.writes.append((address.addr, word.data, word.strb))
            await self.answer(ctx, self.bus.b, {"resp": Response.SLVERR if address.addr & 64 else 0})


def pick(rng):
    """An address, and the region it is in with its place there, or None."""
    address = rng.choice([rng.randrange(0x2000), rng.randrange(0x8000, 0x10000), rng.randrange(0x4000, 0x4008),
                          rng.choice([0x2000, 0x3FFC, 0x4008, 0x7FFC, 0x5000])])
    for number, (start, size) in enumerate(REGIONS):
        if start <= address < start + size:
            return address, (number, address - start)
    return address, None


@pytest.mark.parametrize("stall", [0, 0.4])
def test_random_traffic(seed, stall):
    rng = random.Random(f"{seed} {stall}")
    dut = LiteDecoder(REGIONS)
    targets = [Target(getattr(dut, f"o_{k}"), random.Random(f"{seed} {k}"), stall) for k in range(len(REGIONS))]
    m = Module()
    m.submodules.dut = dut
    for name, port in (("r", dut.i.r), ("b", dut.i.b)):
        watch(m, port, name=name)
    for k, target in enumerate(targets):
        for name in ("ar", "aw", "w"):
            watch(m, getattr(target.bus, name), name=f"{name}_{k}")
    reads, writes = [pick(rng) for _ in range(100)], [(*pick(rng), rng.getrandbits(32), rng.randrange(16))
                                                      for _ in range(100)]
    expected_reads, expected_writes = [[] for _ in REGIONS], [[] for _ in REGIONS]
    for _, place in reads:
        if place:
            expected_reads[place[0]].append(place[1])
    for _, place, word, strobe in writes:
        if place:
            expected_writes[place[0]].append((place[1], word, strobe))

    async def ask(ctx):
        await send(ctx, dut.i.ar, [{"addr": address} for address, _ in reads], rng=rng, idle=stall)

    async def read_answers(ctx):
        for (_, place), answer in zip(reads, await receive(ctx, dut.i.r, len(reads), rng=rng, stall=stall),
                                      strict=True):
            if place is None:
                assert (answer.resp, answer.data) == (Response.SLVERR, 0)
            else:
                assert answer.data == place[1] * 3
                assert answer.resp == (Response.SLVERR if place[1] & 64 else Response.OKAY)

    async def address(ctx):
        await send(ctx, dut.i.aw, [{"addr": write[0]} for write in writes], rng=rng, idle=stall)

    async def words(ctx):
        await send(ctx, dut.i.w, [{"data": write[2], "strb": write[3]} for write in writes], rng=rng, idle=stall)

    async def write_answers(ctx):
        for (_, place, *_), answer in zip(writes, await receive(ctx, dut.i.b, len(writes), rng=rng, stall=stall),
                                          strict=True):
            is_ok = place is not None and not place[1] & 64
            assert answer.resp == (Response.OKAY if is_ok else Response.SLVERR)

    simulate(m, ask, read_answers, address, words, write_answers,
             models=[target.read for target in targets] + [target.write for target in targets])
    for k, target in enumerate(targets):
        assert target.reads == expected_reads[k] and target.writes == expected_writes[k]


def test_bad_parameters():
    with pytest.raises(ValueError, match="regions must not be empty"):
        LiteDecoder([])
    with pytest.raises(ValueError, match="size of a region must be a power of two from 8 on, not 12"):
        LiteDecoder([(0, 12)])
    with pytest.raises(ValueError, match="a region of 16 must start at a multiple of it below 0x100, not at 0x8"):
        LiteDecoder([(8, 16)], addr_width=8)
    with pytest.raises(ValueError, match="a region of 512 must start at a multiple of it below 0x100, not at 0x0"):
        LiteDecoder([(0, 512)], addr_width=8)
    with pytest.raises(ValueError, match="regions must not overlap, as two do at 0x10"):
        LiteDecoder([(0x10, 16), (0, 32)])
