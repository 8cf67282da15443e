# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The isolator under random traffic that is stopped at a random moment."""

import random

import pytest
from amaranth.sim import Simulator

from rackgate.axi.bus import AXI4Signature
from rackgate.axi.isolator import Isolator

BUS = AXI4Signature(addr_width=16, id_width=1)


async def taken(ctx, channel):
    """Wait for a transfer; unlike ``until``, may be left waiting at the end of a simulation."""
    ready = False
    while not ready:
        *_, ready = await ctx.tick().sample(channel.ready)


@pytest.mark.parametrize("case", range(6))
def test_stop(case):
    """Bursts that the bus has seen anything of end; then it is quiet; no other begins until the stop is lifted."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = Isolator(BUS, limit=3)
    # Beats of bursts: what the initiator has yet to offer, and what the bus has seen.
    writes = [rng.randint(1, 4) for _ in range(30)]
    reads = [rng.randint(1, 4) for _ in range(30)]
    seen = {"ar": 0, "aw": 0, "beats": [], "b": 0, "r": 0}
    stopped_at = {}

    def addresses(port, lengths):
        async def testbench(ctx):
            for number, length in enumerate(lengths):
                for _ in range(rng.randrange(3)):
                    await ctx.tick()
                ctx.set(port.payload, {"addr": 64 * number, "len": length - 1})
                ctx.set(port.valid, 1)
                await taken(ctx, port)
                ctx.set(port.valid, 0)
        return testbench

    async def initiator_data(ctx):
        for length in writes:
            for beat in range(length):
                for _ in range(rng.randrange(3)):
                    await ctx.tick()
                ctx.set(dut.i.w.payload, {"data": beat, "last": beat == length - 1})
                ctx.set(dut.i.w.valid, 1)
                await taken(ctx, dut.i.w)
                ctx.set(dut.i.w.valid, 0)

    async def memory(ctx):
        owed_reads, answers, beats = [], 0, 0
        ctx.set(dut.i.r.ready, 1)
        ctx.set(dut.i.b.ready, 1)
        while True:
            for channel in (dut.o.ar, dut.o.aw, dut.o.w):
                ctx.set(channel.ready, rng.random() < 0.6)
            answer = answers > 0 and rng.random() < 0.5
            read = bool(owed_reads) and rng.random() < 0.5
            ctx.set(dut.o.b.valid, answer)
            ctx.set(dut.o.r.valid, read)
            ctx.set(dut.o.r.payload, {"last": read and owed_reads[0] == 1})
            *_, ar_v, ar_r, ar_len, aw_v, aw_r, w_v, w_r, w_last = await ctx.tick().sample(
                dut.o.ar.valid, dut.o.ar.ready, dut.o.ar.payload.len, dut.o.aw.valid, dut.o.aw.ready,
                dut.o.w.valid, dut.o.w.ready, dut.o.w.payload.last)
            if answer:
                answers -= 1
                seen["b"] += 1
            if read:
                owed_reads[0] -= 1
                if not owed_reads[0]:
                    owed_reads.pop(0)
                    seen["r"] += 1
            if ar_v and ar_r:
                seen["ar"] += 1
                owed_reads.append(ar_len + 1)
            if aw_v and aw_r:
                seen["aw"] += 1
            if w_v and w_r:
                beats += 1
                if w_last:
                    seen["beats"].append(beats)
                    beats = 0
            seen["partial"] = beats
            # A response needs both the address and the data.
            answers = min(seen["aw"], len(seen["beats"])) - seen["b"]

    async def control(ctx):
        await ctx.tick().repeat(rng.randint(5, 60))
        ctx.set(dut.stop, 1)
        for _ in range(300):
            await ctx.tick()
            if ctx.get(dut.quiet):
                break
        else:
            raise AssertionError("not quiet after 300 cycles")
        await ctx.tick()  # the memory's account is a cycle behind
        stopped_at.update({name: seen[name] for name in ("ar", "aw", "b", "r")}, data=len(seen["beats"]))
        assert seen["ar"] == seen["r"] and seen["aw"] == seen["b"] == len(seen["beats"]) and not seen["partial"]
        await ctx.tick().repeat(50)
        assert ctx.get(dut.quiet)
        assert stopped_at == {name: seen[name] for name in ("ar", "aw", "b", "r")} | {"data": len(seen["beats"])}
        ctx.set(dut.stop, 0)
        for _ in range(4000):
            await ctx.tick()
            if seen["r"] == len(reads) and seen["b"] == len(writes):
                break
        else:
            raise AssertionError("traffic did not go on")

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(control)
    sim.add_testbench(memory, background=True)
    sim.add_testbench(addresses(dut.i.ar, reads), background=True)
    sim.add_testbench(addresses(dut.i.aw, writes), background=True)
    sim.add_testbench(initiator_data, background=True)
    sim.run()
    assert seen["beats"] == writes


def test_parameters():
    with pytest.raises(ValueError, match="^limit must be at least 1, not 0$"):
        Isolator(BUS, limit=0)
