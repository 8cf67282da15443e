# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Gather: pieces of memory become payloads; what cannot be had is told, and nothing else is read."""

import random

import pytest
from zeronic_send import WIDTHS, collect, feed, watched

from rackgate.verif.stimulus import AXI4Memory, simulate
from rackgate.zeronic.tx.gather import Gather

BASE, SIZE = 0x2000, 0x4000


def requests(rng, count):
    """Pieces of requests, and why they are not all."""
    items = []
    for _ in range(count):
        pieces = [(BASE + rng.randrange(SIZE - 400), rng.choice([1, 2, 8, rng.randrange(1, 400)]))
                  for _ in range(rng.choice([1, 1, 1, 2, 5]))]
        lacks = rng.choice(["", "", "", "no_segment", "bad_region"])
        if lacks and rng.random() < 0.5:
            pieces[-1] = (pieces[-1][0], 0)
        items.append((pieces, lacks))
    return items


def refused(pieces, bad, width):
    """Whether a word of a piece has a byte that the memory refuses."""
    return any(size and any(addr // width * width <= place < -(-(addr + size) // width) * width for place in bad)
               for addr, size in pieces)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("stall,latency", [(0, 0), (0.3, 20)])
def test_random(width, stall, latency, seed):
    print(f"seed {seed}")
    rng = random.Random(seed + width)
    content = rng.randbytes(SIZE)
    bad = [BASE + rng.randrange(SIZE) for _ in range(12)]
    items = requests(rng, 40)
    asked = [{"flow": k % 16, "position": rng.getrandbits(32), "size": max(sum(size for _, size in pieces), 1)}
             for k, (pieces, _) in enumerate(items)]
    memory = AXI4Memory(bytearray(content), base=BASE, width=width, stall=stall, latency=latency, bad=bad,
                        rng=random.Random(seed + 1))
    dut, seen, words = Gather(width, id=2), [], []

    async def cover(ctx):
        """Pieces only of what was asked for, then the result (any of the two may be there first)."""
        late = random.Random(seed + 3)
        for number, (pieces, lacks) in enumerate(items):
            while len(seen) <= number:
                await ctx.tick()
            result = {"covered": sum(size for _, size in pieces), "no_segment": lacks == "no_segment",
                      "bad_region": lacks == "bad_region"}
            for place, (address, size) in enumerate(pieces):
                is_last = place == len(pieces) - 1
                for _ in range(late.choice([0, 0, 3])):
                    await ctx.tick()
                ctx.set(dut.piece.payload, {"address": address, "size": size, "last": is_last})
                ctx.set(dut.piece.valid, 1)
                if is_last:
                    for _ in range(late.choice([0, 0, 3])):
                        await ctx.tick()
                    ctx.set(dut.result.payload, result)
                    ctx.set(dut.result.valid, 1)
                ready = 0
                while not ready:
                    _, _, ready, taken, searching = await ctx.tick().sample(dut.piece.ready, dut.result.ready,
                                                                            dut.searching)
                    assert searching
                    assert taken == (ready and is_last)
                ctx.set(dut.piece.valid, 0)
                ctx.set(dut.result.valid, 0)

    async def finish(ctx):
        while sum(word.last for word in words) < len(items):
            await ctx.tick()
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.searching)

    simulate(watched(dut, dut.ar, dut.o), feed(dut.i, asked, seed + 2, stall), cover, finish, models=[
        memory.reader(dut.ar, dut.r), collect(dut.request, seen, seed + 4, stall),
        collect(dut.o, words, seed + 5, stall)])
    assert [(item.flow, item.position, item.size) for item in seen] == [tuple(item.values()) for item in asked]
    came = [[]]
    for word in words:
        came[-1].append(word)
        if word.last:
            came.append([])
    assert came.pop() == []
    for payload, (pieces, lacks) in zip(came, items, strict=True):
        is_bad = bool(lacks) or refused(pieces, bad, width)
        assert payload[-1].error == is_bad
        assert payload[-1].bad_region == (lacks == "bad_region")
        assert not any(word.error or word.bad_region for word in payload[:-1])
        raw = b"".join(word.data.to_bytes(width, "little")[:word.count] for word in payload)
        whole = b"".join(content[addr - BASE:addr - BASE + size] for addr, size in pieces)
        assert len(raw) == len(whole)
        assert is_bad or raw == whole
    read = {addr + k for id, addr, beats in memory.reads for k in range(width * beats)}
    allowed = {place for pieces, _ in items for addr, size in pieces
               for place in range(addr // width * width, addr + size + (-(addr + size) % width)) if size}
    assert read <= allowed
    assert {id for id, _, _ in memory.reads} == {2}


def test_widths():
    with pytest.raises(ValueError, match="width of a NIC must be one of"):
        Gather(64)
    with pytest.raises(ValueError, match="id must fit 4 bits"):
        Gather(8, id=16)
