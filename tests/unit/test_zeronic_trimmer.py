# SPDX-License-Identifier: Apache-2.0
"""zeronic.rx.trimmer: every byte that may be written is in one move, at its place, and no other is."""

import random

import pytest
from iaa_stage import Stage

from rackgate.verif.stimulus import receive, send
from rackgate.zeronic.rx.trimmer import Trimmer

STAGE = Stage(Trimmer, ("o",))


def some_frame(rng):
    """Pieces of a frame (position, size, address), and what of it is wanted."""
    position = rng.choice([0, 0x7FFF_FFF0, 0xFFFF_FFF0, rng.getrandbits(32)])
    pieces, at = [], position
    for _ in range(rng.choice([1, 1, 1, 2, 3, 9])):
        size = rng.choice([1, 2, 7, rng.randrange(1, 1500)])
        pieces.append((at & 0xFFFF_FFFF, size, rng.getrandbits(39)))
        at += size
    if rng.random() < 0.2:
        pieces.append((at & 0xFFFF_FFFF, 0, rng.getrandbits(40)))
    total = at - position
    skip = rng.choice([0, 0, total - 1, rng.randrange(total)])
    size = rng.choice([0, 1, total - skip, rng.randrange(total - skip + 1)])
    # Nothing may be wanted from within a piece on: of a frame that is dropped.
    where = position + skip if size or rng.random() < 0.7 else rng.getrandbits(32)
    order = {"position": where & 0xFFFF_FFFF, "size": size, "word": rng.getrandbits(16),
             "offset": rng.randrange(54, 9000)}
    return pieces, order, skip


def moves_of(pieces, order, skip):
    """The reference: bytes one by one, those next to each other in a piece joined."""
    moves, at = [], 0
    for _, size, address in pieces:
        wanted = [byte for byte in range(at, at + size) if skip <= byte < skip + order["size"]]
        if wanted:
            moves.append((order["word"], order["offset"] + wanted[0] - skip, len(wanted), address + wanted[0] - at))
        at += size
    return [(*move, index == len(moves) - 1) for index, move in enumerate(moves)]


@pytest.mark.parametrize("idle", [0, 0.4])
@pytest.mark.parametrize("stall", [0, 0.5])
def test_random(idle, stall, seed):
    rng = random.Random(seed)
    print(f"seed {seed}")
    frames = [some_frame(rng) for _ in range(150)]
    expected = [move for frame in frames for move in moves_of(*frame)]
    seen = []

    def scene(dut):
        async def pieces(ctx):
            for given, _, _ in frames:
                items = [{"position": position, "size": size, "address": address, "last": index == len(given) - 1}
                         for index, (position, size, address) in enumerate(given)]
                await send(ctx, dut.pieces, items, rng=random.Random(seed + 1), idle=idle)

        async def orders(ctx):
            await send(ctx, dut.order, [order for _, order, _ in frames], rng=random.Random(seed + 2), idle=idle)

        async def sink(ctx):
            for move in await receive(ctx, dut.o, len(expected), rng=random.Random(seed + 3), stall=stall):
                seen.append((move.word, move.offset, move.size, move.address, bool(move.last)))
            ctx.set(dut.o.ready, 1)
            for _ in range(30):
                _, _, valid = await ctx.tick().sample(dut.o.valid)
                assert not valid, "a move of no frame"

        return [pieces, orders, sink], []

    STAGE.run(scene)
    assert seen == expected


def test_a_piece_a_cycle():
    pieces = [{"position": 100 * number, "size": 100, "address": number, "last": number % 4 == 3}
              for number in range(40)]
    orders = [{"position": 400 * number, "size": 400} for number in range(10)]

    def scene(dut):
        async def source(ctx):
            await send(ctx, dut.pieces, pieces)

        async def order(ctx):
            await send(ctx, dut.order, orders)

        async def sink(ctx):
            cycles = []
            ctx.set(dut.o.ready, 1)
            for cycle in range(60):
                _, _, valid = await ctx.tick().sample(dut.o.valid)
                if valid:
                    cycles.append(cycle)
            assert len(cycles) == 40 and cycles[-1] - cycles[0] == 39
            assert cycles[0] == 2, "latency"

        return [source, order, sink], []

    STAGE.run(scene)


def test_bytes_in_no_piece_are_caught():
    def scene(dut):
        async def bench(ctx):
            ctx.set(dut.o.ready, 1)
            ctx.set(dut.order.payload, {"position": 0, "size": 11})
            ctx.set(dut.order.valid, 1)
            await send(ctx, dut.pieces, [{"position": 0, "size": 10, "last": 1}])
            for _ in range(4):
                await ctx.tick()

        return [bench], []

    with pytest.raises(AssertionError, match="bytes to be written are in no piece"):
        STAGE.run(scene)
