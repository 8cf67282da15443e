# SPDX-License-Identifier: Apache-2.0
"""The walker and the TLB against the model's tables; the order of page requests."""

import random

import pytest

from rackgate.iaa.abi import PAGE_SIZE, PageResponse
from rackgate.iaa.pagerequest import PageRequests
from rackgate.iaa.tlb import TLB
from rackgate.iaa.walker import Walker
from rackgate.verif.stimulus import AXI4Memory, receive, send, simulate
from rackgate_sim.iaa.pagetable import LARGE_SIZE, PageTable, Walked, walk


def test_model():
    memory = bytearray(64 * PAGE_SIZE)
    table = PageTable(memory, [PAGE_SIZE * k for k in range(1, 64)])
    table.map(0x7FFF_FFFF_F000, 0x1234_5000)
    table.map(0x1000, 0x2000, writable=False)
    table.map(LARGE_SIZE, 5 * LARGE_SIZE, large=True)
    assert walk(memory, table.root, 0x7FFF_FFFF_F123) == Walked(0x1234_5123, True)
    assert walk(memory, table.root, 0x1FFF) == Walked(0x2FFF, False)
    assert walk(memory, table.root, 2 * LARGE_SIZE - 1) == Walked(6 * LARGE_SIZE - 1, True)
    assert walk(memory, table.root, 0x3000) is None
    table.unmap(0x1000)
    assert walk(memory, table.root, 0x1000) is None
    with pytest.raises(ValueError, match="lies in a large page"):
        table.map(LARGE_SIZE + PAGE_SIZE, 0)
    with pytest.raises(ValueError, match="must be multiples of 4096"):
        table.map(0x10, 0)


def tables(rng):
    """A memory with tables, and addresses in it: good ones, and each kind of bad one at each level."""
    memory = bytearray(300 * PAGE_SIZE)
    frames = [PAGE_SIZE * k for k in range(300)]
    rng.shuffle(frames)
    table, asked = PageTable(memory, frames), []
    for k in range(40):
        virtual = rng.getrandbits(36) << 12
        large = k % 4 == 0
        size = LARGE_SIZE if large else PAGE_SIZE
        virtual -= virtual % size
        table.map(virtual, rng.getrandbits(48) // size * size, writable=rng.random() < 0.7, large=large)
        asked.append(virtual + rng.randrange(size))
        if k % 2:
            level = rng.randint(2 if large else 1, 4)
            place = table.place_of(virtual, level)
            entry = int.from_bytes(memory[place:place + 8], "little")
            # Not present; present beyond 48 bits; large; not writable; beyond what the bus has; noise that is ignored.
            change = rng.choice([entry & ~1, entry | 1 << rng.randint(48, 51), entry | 0x80, entry & ~2,
                                 entry ^ 1 << 40, entry | rng.getrandbits(12) << 52 | 0xE1C & rng.getrandbits(12)])
            table.write(place, change)
    return memory, table, asked + [rng.getrandbits(48) for _ in range(10)]


@pytest.mark.parametrize("seed", range(3))
def test_walks(seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    memory, table, asked = tables(rng)
    expected = [walk(memory, table.root, address) for address in asked]
    assert None in expected and any(expected)
    model, dut = AXI4Memory(memory, rng=random.Random(seed), stall=0.3), Walker()

    async def give(ctx):
        await send(ctx, dut.i, ({"table": table.root >> 12, "page": address >> 12} for address in asked))

    async def take(ctx):
        answers = await receive(ctx, dut.o, len(asked), rng=rng, stall=0.2)
        for address, answer, wanted in zip(asked, answers, expected, strict=True):
            assert answer.present == (wanted is not None)
            if wanted:
                assert answer.frame << 12 | address % PAGE_SIZE == wanted.physical
                assert answer.writable == wanted.writable

    simulate(dut, give, take, models=[model.reader(dut.ar, dut.r)])


def test_tlb():
    """What is found is the last that was put in for its page and queue, and not invalidated since."""
    rng, dut = random.Random(1), TLB(entries=4)

    async def testbench(ctx):
        held, found = {}, 0
        for _ in range(400):
            page, queue = rng.randrange(6) << rng.choice([0, 20]), rng.randrange(3)
            ctx.set(dut.page, page)
            ctx.set(dut.queue, queue)
            put = {"page": rng.randrange(6) << rng.choice([0, 20]), "queue": rng.randrange(3),
                   "frame": rng.getrandbits(36), "writable": rng.randrange(2)}
            insert, invalidate = rng.random() < 0.4, rng.random() < 0.05
            ctx.set(dut.translation, put)
            ctx.set(dut.insert, insert)
            ctx.set(dut.invalidate, invalidate)
            await ctx.tick()
            if ctx.get(dut.is_found):
                found += 1
                answer = ctx.get(dut.found)
                assert not invalidate and held[page, queue] == (answer.frame, answer.writable)
            if insert:
                held[put["page"], put["queue"]] = put["frame"], put["writable"]
            if invalidate:
                held.clear()
        assert found > 20

    simulate(dut, testbench)


def test_page_requests_of_two_engines():
    """Shown one after the other; each answer goes to the engine that asked."""
    dut = PageRequests(engines=2, depth=4)
    questions = [[{"page": 10 * engine + k, "write": k % 2, "queue": engine, "context": k} for k in range(4)]
                 for engine in range(2)]
    got = [[], []]

    async def give(ctx):
        for k in range(4):
            for engine in range(2):
                await send(ctx, dut.i[engine], [questions[engine][k]])

    async def host(ctx):
        raised = 0
        for number in range(8):
            while not ctx.get(dut.shown.valid):
                await ctx.tick()
            raised += ctx.get(dut.raised)
            shown = ctx.get(dut.shown)
            asked = next(q for of in questions for q in of if q["page"] == shown.page)
            assert (shown.engine, shown.queue, shown.write) == (asked["queue"], asked["queue"], asked["write"])
            await ctx.tick()
            assert not ctx.get(dut.raised)
            code = PageResponse.FAILURE if number % 3 else PageResponse.SUCCESS
            ctx.set(dut.code, code)
            ctx.set(dut.respond, 1)
            for engine in range(2):
                answer = ctx.get(dut.o[engine])
                assert answer.valid == (engine == shown.engine)
                if answer.valid:
                    got[engine].append(answer.context)
                    assert answer.write == asked["write"] and not answer.timeout
                    assert answer.success == (code == PageResponse.SUCCESS)
            await ctx.tick()
            ctx.set(dut.respond, 0)
        assert raised == 8

    simulate(dut, give, host, limit=500)
    assert got == [[0, 1, 2, 3]] * 2
