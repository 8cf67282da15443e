# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Descriptor ring and completion records against a memory in software."""

import random

import pytest
from amaranth.sim import Simulator

from rackgate.inflate.abi import Completion, Descriptor, Flag, Format, Opcode, Status
from rackgate.inflate.record import RecordWriter
from rackgate.inflate.ring import RingReader
from rackgate_sim.inflate.model import check

BASE = 0x12340


async def read_memory(ctx, dut, words, rng, failing=()):
    """Serve ``dut.ar``/``dut.r`` from ``{word number: value}``; addresses in ``failing`` answer with an error."""
    while True:
        ctx.set(dut.ar.ready, 1)
        valid = False
        while not valid:  # unlike until, may be left waiting at the end of the simulation
            *_, valid, address, length = await ctx.tick().sample(
                dut.ar.valid, dut.ar.payload.addr, dut.ar.payload.len)
        ctx.set(dut.ar.ready, 0)
        for beat in range(length + 1):
            for _ in range(rng.randrange(3)):
                await ctx.tick()
            here = address + 8 * beat
            ctx.set(dut.r.payload, {"data": words[here // 8], "id": 0, "resp": 2 if here in failing else 0,
                                    "last": beat == length})
            ctx.set(dut.r.valid, 1)
            await ctx.tick().until(dut.r.ready)
            ctx.set(dut.r.valid, 0)


def run_ring(descriptors, *, size=4, contexts=2, failing=()):
    """What comes out of the ring: a list of ("task", context, status, tag) and ("fault", address)."""
    dut, rng = RingReader(contexts=contexts), random.Random(len(descriptors))
    out = []

    async def host(ctx):
        ctx.set(dut.base, BASE + 5)  # the low six bits do not count
        ctx.set(dut.size, size)
        ctx.set(dut.enable, 1)
        words = memory
        for number, raw in enumerate(descriptors):
            while (number - ctx.get(dut.head)) % 65536 >= size:
                await ctx.tick()
            for k in range(8):
                address = (BASE & ~63) + 64 * (number % size) + 8 * k
                words[address // 8] = int.from_bytes(raw[8 * k:8 * k + 8], "little")
            ctx.set(dut.tail, number + 1)
        for _ in range(3000):
            await ctx.tick()
            if ctx.get(dut.head) == len(descriptors) and not ctx.get(dut.busy):
                break
        else:
            raise AssertionError("the ring did not come to rest")
        await ctx.tick().repeat(20)
        assert not ctx.get(dut.busy) and ctx.get(dut.head) == len(descriptors)

    async def takers(ctx):
        while True:
            for k in range(contexts):
                ctx.set(dut.o[k].ready, rng.random() < 0.3)
            await ctx.tick()

    async def watch(ctx):
        while True:
            *_, fault, address = await ctx.tick().sample(dut.fault, dut.fault_address)
            if fault:
                out.append(("fault", address))

    def watch_tasks(k):
        async def testbench(ctx):
            while True:
                *_, valid, ready, task = await ctx.tick().sample(dut.o[k].valid, dut.o[k].ready, dut.o[k].payload)
                if valid and ready:
                    out.append(("task", k, task.status, task.tag, task.source, task.source_size, task.destination,
                                task.destination_size, task.completion, task.start_bit, task.load, task.framing))
        return testbench

    async def memory_side(ctx):
        await read_memory(ctx, dut, memory, rng, failing)

    memory = {}
    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(host)
    sim.add_testbench(takers, background=True)
    sim.add_testbench(watch, background=True)
    for k in range(contexts):
        sim.add_testbench(watch_tasks(k), background=True)
    sim.add_testbench(memory_side, background=True)
    sim.run()
    return out


def test_descriptors_in_order():
    """More descriptors than the ring holds, to both contexts, each field where it belongs."""
    jobs = [Descriptor(source=0x1000 + n, source_size=10 * n, destination=0x9000 - n, destination_size=99 + n,
                       completion=0x40 * n, opcode=Opcode.INFLATE if n % 3 else Opcode.LOAD, format=Format(n % 3),
                       flags=Flag.LAST, context=n % 2, tag=7000 + n, start_bit=n % 8 if n % 3 else 0)
            for n in range(11)]
    out = run_ring([job.pack() for job in jobs])
    assert out == [("task", job.context, 0, job.tag, job.source, job.source_size, job.destination, job.destination_size,
                    job.completion, job.start_bit, int(job.opcode == Opcode.LOAD), job.format) for job in jobs]


def test_refusals_are_the_models():
    """Random descriptors, mostly wrong somewhere, are refused as the golden model refuses them."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    raws = []
    for number in range(60):
        raw = bytearray(Descriptor(0x1000, 64, 0x2000, 64, 0x40, flags=Flag.LAST, tag=number).pack())
        for place, values in ((0, (1, 1, 2, 0, 9)), (1, (0, 1, 2, 3)), (2, (2, 2, 31, 32)), (3, (0, 1, 2, 255)),
                              (27, (0, 0, 0x20)), (31, (0, 0, 0xFF)), (40, (0, 3, 8)), (63, (0, 0, 1)),
                              (44, (0, 0, 1))):
            if rng.random() < 0.3:
                raw[place] = rng.choice(values)
        raws.append(bytes(raw))
    wanted = {}
    for number, raw in enumerate(raws):
        status = check(Descriptor.unpack(raw), 2, raw[44:64])
        wanted[number] = Status.IN_PROGRESS if status == Status.SUCCESS else status
    got = {entry[3]: entry[2] for entry in run_ring(raws)}
    assert got == wanted
    assert len(set(wanted.values())) >= 4, "the sample must hold several kinds of refusal"


def test_addresses_beyond_the_bus():
    def job(**fields):
        usual = {"source": 0, "source_size": 8, "destination": 0, "destination_size": 8, "completion": 0}
        return Descriptor(**usual | fields)

    top = 1 << 48
    cases = [(job(source=top), Status.READ_ERROR), (job(source=top - 4), Status.READ_ERROR),
             (job(source=top - 8), Status.IN_PROGRESS), (job(destination=top - 7), Status.WRITE_ERROR),
             (job(destination=top - 8), Status.IN_PROGRESS)]
    out = run_ring([case.pack() for case, _ in cases])
    assert [entry[2] for entry in out] == [status for _, status in cases]
    assert run_ring([job(completion=top).pack()]) == [("fault", top)]


def test_faults_drop_the_descriptor():
    good = Descriptor(0, 1, 0, 1, 0x40, tag=5).pack()
    misplaced = Descriptor(0, 1, 0, 1, 0x48).pack()
    out = run_ring([misplaced, good])
    assert out[0] == ("fault", 0x48) and out[1][3] == 5
    out = run_ring([good, good], failing={(BASE & ~63) + 16})
    assert out[0] == ("fault", BASE & ~63) and len(out) == 2


@pytest.mark.parametrize("contexts", [0, 9])
def test_ring_parameters(contexts):
    with pytest.raises(ValueError, match=f"^contexts must be 1 to 8, not {contexts}$"):
        RingReader(contexts=contexts)


@pytest.mark.parametrize("response", [0, 2, 3])
def test_record(response):
    """A record stands in memory byte for byte as the ABI says, under back-pressure, and an error is told."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = RecordWriter()
    wanted = Completion(produced=1, consumed=2, consumed_bit=3, crc32=0xDEADBEEF, adler32=5, members=6, total=7 << 33,
                        started=8 << 40, finished=9, dictionary=10, tag=11, status=12, error=13, flags=14)
    beats, told = [], []

    async def user(ctx):
        fields = {name: getattr(wanted, name) for name in Completion.__dataclass_fields__}
        ctx.set(dut.i.payload, {"address": 0x1240, "interrupt": 1, "record": fields})
        ctx.set(dut.i.valid, 1)
        await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        for _ in range(200):
            *_, done, failed, outcome = await ctx.tick().sample(dut.done, dut.failed, dut.outcome)
            if done:
                told.append((failed, outcome.address, outcome.interrupt, outcome.record.tag))
        assert not ctx.get(dut.busy)

    async def bus(ctx):
        ctx.set(dut.aw.ready, 1)
        address, length = await ctx.tick().sample(dut.aw.payload.addr, dut.aw.payload.len).until(dut.aw.valid)
        ctx.set(dut.aw.ready, 0)
        assert (address, length) == (0x1240, 7)
        while len(beats) < 8:
            ready = rng.random() < 0.5
            ctx.set(dut.w.ready, ready)
            *_, valid, word = await ctx.tick().sample(dut.w.valid, dut.w.payload)
            if valid and ready:
                beats.append(word.data.to_bytes(8, "little"))
                assert word.strb == 0xFF and word.last == (len(beats) == 8)
        ctx.set(dut.w.ready, 0)
        await ctx.tick().repeat(3)
        ctx.set(dut.b.payload, {"id": 0, "resp": response})
        ctx.set(dut.b.valid, 1)
        await ctx.tick().until(dut.b.ready)
        ctx.set(dut.b.valid, 0)

    sim = Simulator(dut)
    sim.add_clock(1e-8)
    sim.add_testbench(user)
    sim.add_testbench(bus)
    sim.run()
    assert b"".join(beats) == wanted.pack()
    assert told == [(int(response != 0), 0x1240, 1, 11)]
