# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""ReadArbiter and WriteArbiter between several initiators and a memory that reorders."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.axi.bus import Burst
from rackgate.axi.read_arbiter import ReadArbiter
from rackgate.axi.write_arbiter import WriteArbiter
from rackgate.verif.stimulus import AXI4Memory, send, simulate
from rackgate.verif.stream_rules import watch


def bursts_of(rng, count, *, width=8):
    """(id, address, beats) of random bursts within 4 KiB pages."""
    bursts = []
    for _ in range(count):
        beats = rng.choice([1, 2, 16, rng.randrange(1, 17)])
        start = width * rng.randrange(4096 // width - beats)
        bursts.append((rng.randrange(16), 4096 * rng.randrange(4) + start, beats))
    return bursts


def request(burst, width=8):
    """A burst as the payload of an address channel."""
    id, address, beats = burst
    return {"id": id, "addr": address, "len": beats - 1, "size": width.bit_length() - 1, "burst": Burst.INCR}


def watched(dut, outputs):
    """The block with the stream rules on the named outputs."""
    m = Module()
    m.submodules.dut = dut
    for name, port in outputs.items():
        watch(m, port, name=name)
    return m


@pytest.mark.thorough
@pytest.mark.parametrize("n,width", [(1, 8), (2, 8), (3, 8), (4, 8), (2, 4), (3, 16), (2, 32), (3, 64)])
@pytest.mark.parametrize("stall", [0, 0.4])
def test_read(n, width, stall):
    seed = 10 * n
    print(f"seed {seed}")
    memory = bytearray(random.Random(seed).randbytes(4 * 4096))
    model = AXI4Memory(memory, rng=random.Random(seed), stall=stall, width=width)
    dut = ReadArbiter(n, data_width=8 * width)
    assert dut.bus_id_width == 4 + (n - 1).bit_length()
    plans = [bursts_of(random.Random(seed + k), 20, width=width) for k in range(n)]
    left = [len(plan) for plan in plans]

    def initiator(k):
        async def issue(ctx):
            requests = [request(burst, width) for burst in plans[k]]
            await send(ctx, dut.i_ar[k], requests, rng=random.Random(seed + k), idle=stall)

        async def collect(ctx):
            rng, under_way = random.Random(seed - k), {}
            for burst in plans[k]:
                under_way.setdefault(burst[0], []).append([burst, 0])
            port = dut.o_r[k]
            while left[k]:
                ctx.set(port.ready, rng.random() >= stall)
                _, _, valid, ready, word = await ctx.tick().sample(port.valid, port.ready, port.payload)
                if not (valid and ready):
                    continue
                (_, address, beats), beat = under_way[word.id][0]
                start = address + width * beat
                assert word.data == int.from_bytes(memory[start:start + width], "little")
                assert word.last == (beat == beats - 1)
                under_way[word.id][0][1] += 1
                if word.last:
                    under_way[word.id].pop(0)
                    left[k] -= 1
        return issue, collect

    benches = [bench for k in range(n) for bench in initiator(k)]
    outputs = {"ar": dut.o_ar} | {f"r{k}": dut.o_r[k] for k in range(n)}
    simulate(watched(dut, outputs), *benches, models=[model.reader(dut.o_ar, dut.i_r)])
    expected = [(k << 4 | id, address, beats) for k in range(n) for id, address, beats in plans[k]]
    assert sorted(model.reads) == sorted(expected)


@pytest.mark.thorough
@pytest.mark.parametrize("n,width", [(1, 8), (2, 8), (3, 8), (4, 8), (2, 4), (3, 16), (2, 32), (3, 64)])
@pytest.mark.parametrize("stall", [0, 0.4])
def test_write(n, width, stall):
    seed = 7 * n
    print(f"seed {seed}")
    memory = bytearray(n * 4 * 4096)
    model = AXI4Memory(memory, rng=random.Random(seed), stall=stall, width=width)
    dut = WriteArbiter(n, data_width=8 * width)
    expected = bytearray(len(memory))
    # Each initiator writes its own quarter: what the memory holds tells whose data went where.
    plans = [[(id, 4 * 4096 * k + address, beats)
              for id, address, beats in bursts_of(random.Random(seed + k), 20, width=width)] for k in range(n)]

    def initiator(k):
        rng = random.Random(seed + 50 + k)
        beats_of = []
        for _, address, beats in plans[k]:
            for beat in range(beats):
                word = rng.getrandbits(8 * width)
                start = address + width * beat
                expected[start:start + width] = word.to_bytes(width, "little")
                beats_of.append({"data": word, "strb": (1 << width) - 1, "last": beat == beats - 1})

        async def issue(ctx):
            requests = [request(burst, width) for burst in plans[k]]
            await send(ctx, dut.i_aw[k], requests, rng=random.Random(seed + k), idle=stall)

        async def push(ctx):
            await send(ctx, dut.i_w[k], beats_of, rng=random.Random(seed + k), idle=stall)

        async def collect(ctx):
            ids = []
            port = dut.o_b[k]
            while len(ids) < len(plans[k]):
                ctx.set(port.ready, rng.random() >= stall)
                _, _, valid, ready, answer = await ctx.tick().sample(port.valid, port.ready, port.payload)
                if valid and ready:
                    ids.append(answer.id)
            assert sorted(ids) == sorted(id for id, _, _ in plans[k])
        return issue, push, collect

    benches = [bench for k in range(n) for bench in initiator(k)]
    outputs = {"aw": dut.o_aw, "w": dut.o_w} | {f"b{k}": dut.o_b[k] for k in range(n)}
    simulate(watched(dut, outputs), *benches, models=[model.writer(dut.o_aw, dut.o_w, dut.i_b)])
    assert memory == expected


def test_write_data_do_not_wait_for_the_address():
    """IHI 0022 A3.3.1: a target may wait for WVALID before it takes the address."""
    dut = WriteArbiter(2)

    async def testbench(ctx):
        ctx.set(dut.i_aw[1].payload, request((0, 64, 1)))
        ctx.set(dut.i_aw[1].valid, 1)
        await ctx.tick()
        ctx.set(dut.i_aw[1].valid, 0)
        ctx.set(dut.i_w[1].payload, {"data": 5, "strb": 1, "last": 1})
        ctx.set(dut.i_w[1].valid, 1)
        for _ in range(3):
            await ctx.tick()
        assert ctx.get(dut.o_aw.valid) and ctx.get(dut.o_w.valid)

    simulate(dut, testbench)


@pytest.mark.parametrize("block", [ReadArbiter, WriteArbiter])
def test_bad_parameters(block):
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        block(0)
    with pytest.raises(ValueError, match="id_width must be at least 1, not 0"):
        block(2, id_width=0)


def test_bad_grants():
    with pytest.raises(ValueError, match="grants must be at least 1, not 0"):
        WriteArbiter(2, grants=0)
