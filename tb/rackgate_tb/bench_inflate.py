# SPDX-License-Identifier: Apache-2.0
"""Bench of the whole inflate device at its pins, with AXI models that nobody here wrote.

Each test compares the whole memory with what the golden model and zlib make of the same jobs, and sees that the
device is idle when it is done. All but the first pause at random on every channel of both buses.
"""

import itertools
import zlib

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiResp

from rackgate.csr.map import MAGIC, Access
from rackgate.inflate.abi import COMPLETION_SIZE, REGISTERS, Control, ErrorCode, Flag, Format, ResultFlag, Status

from . import session
from .inflate_host import BASE, KINDS, Bench, compress, text

_LIMIT_NS = 1_200_000
#: Registers whose value after reset is not the map's: they count, or say how the device was built.
_LIVELY = {"CYCLES_LO", "CYCLES_HI"}


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.6])
async def registers(dut, pause):
    """Identity, values after reset, what can be written and what cannot, and errors where there is nothing."""
    bench = await Bench.start(dut, f"registers {pause}", pause=pause)
    given = session.parameters()
    build = given["build"]
    fixed = {"MAGIC": MAGIC, "PARAM_CONTEXTS": given["contexts"], "PARAM_WINDOW": 32768, "PARAM_LANES": 16,
             "BUILD_LO": build & 0xFFFFFFFF, "BUILD_HI": build >> 32}
    for name, register in REGISTERS.items():
        if name not in _LIVELY:
            assert await bench.read(name) == fixed.get(name, register.reset), f"{name} after reset"
    for offset in (0x18, 0x80, 0x100, 0xFFC):
        assert (await bench.registers.access(offset))[0] == AxiResp.SLVERR, f"reading {offset:#x}"
        assert (await bench.registers.access(offset, b"\xff" * 4))[0] == AxiResp.SLVERR, f"writing {offset:#x}"
    for name, register in REGISTERS.items():
        if register.access in (Access.RO, Access.CONST):
            before = await bench.read(name)
            resp, _ = await bench.registers.access(register.offset, b"\xff" * 4)
            assert resp == AxiResp.SLVERR, f"writing {name}"
            assert name in _LIVELY or await bench.read(name) == before, f"{name} was written"
    value = bench.rng.getrandbits(32)
    await bench.write("RING_BASE_LO", value)
    await bench.write("RING_BASE_HI", ~value & 0xFFFFFFFF)
    assert await bench.read("RING_BASE_LO") == value
    assert await bench.read("RING_BASE_HI") == ~value & 0xFFFFFFFF
    # One byte of a register: the strobes of the others are low.
    offset = REGISTERS["RING_BASE_LO"].offset
    assert (await bench.registers.access(offset + 2, b"\x5a"))[0] == AxiResp.OKAY
    assert await bench.read("RING_BASE_LO") == (value & 0xFF00FFFF) | 0x5A0000
    await bench.finish()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.8])
async def streams(dut, pause):
    """All framings and kinds of blocks on all contexts at once, at any alignment, around the ring."""
    bench = await Bench.start(dut, f"streams {pause}", pause=pause)
    await bench.set_up()
    await bench.write("IRQ_ENABLE", 1)
    contents = []
    for number, (kind, form) in enumerate(itertools.product(KINDS, Format)):
        data = text(bench.rng, bench.rng.randint(1, 1500))
        stream = compress(data, form, kind)
        destination = bench.allocate(len(data))
        is_last = number == len(KINDS) * len(Format) - 1
        contents.append((data, stream, form, destination))
        await bench.submit(bench.source(stream), (destination, len(data)), form=form,
                           context=number % bench.contexts,
                           flags=Flag.LAST | (Flag.INTERRUPT if is_last else Flag(0)))
    assert len(contents) > 3 * bench.ring_size
    for _ in range(20_000):
        if dut.irq.value:
            break
        await RisingEdge(dut.clk)
    else:
        raise AssertionError("no interrupt")
    # The interrupt comes when its record is in memory, not before.
    assert bench.record(bench.jobs[-1]).status == Status.SUCCESS
    records = await bench.results()
    for (data, stream, form, destination), record in zip(contents, records, strict=True):
        assert (record.status, record.produced, record.consumed) == (Status.SUCCESS, len(data), len(stream))
        assert bench.get(destination, len(data)) == data
        assert record.flags == ResultFlag.END
        assert form != Format.GZIP or record.crc32 == zlib.crc32(data)
        assert form != Format.ZLIB or record.adler32 == zlib.adler32(data)
    assert await bench.read("BYTES_OUT") == sum(len(data) for data, *_ in contents)
    assert await bench.read("BYTES_IN") == sum(len(stream) for _, stream, *_ in contents)
    assert await bench.read("IRQ_STATUS") == 1
    await bench.write("IRQ_STATUS", 1)
    await ClockCycles(dut.clk, 3)
    assert not dut.irq.value
    await bench.finish()
    assert not pause or all(bench.pauses.seen.values()), f"not every channel has paused: {bench.pauses.seen}"


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def dry_and_on(dut):
    """Sources that end too early are gone on with, in pieces, on all contexts in turn."""
    bench = await Bench.start(dut, "dry", pause=0.4)
    await bench.set_up()
    works = []
    for context, form in zip(range(bench.contexts), (Format.GZIP, Format.ZLIB, Format.RAW), strict=False):
        data = text(bench.rng, 700)
        works.append([context, form, data, compress(data, form, "dynamic"), bench.allocate(len(data)), 0, 0, 0])
    done, pieces = set(), 0
    while len(done) < len(works):
        for work in works:
            context, form, data, stream, destination, begin, bit, produced = work
            if context in done:
                continue
            size = bench.rng.randint(24, 160)
            end = min(len(stream), begin + size)
            flags = (Flag.RESUME if begin or bit else Flag(0)) | (Flag.LAST if end == len(stream) else Flag(0))
            await bench.submit(bench.source(stream[begin:end]), (destination + produced, len(data) - produced),
                               form=form, context=context, flags=flags, start_bit=bit)
        turn = list(bench.jobs)
        for job, record in zip(turn, await bench.results(), strict=True):
            work = works[job.descriptor.context]
            work[5] += record.consumed
            work[6] = record.consumed_bit
            work[7] += record.produced
            if record.status == Status.SUCCESS:
                done.add(work[0])
                assert work[5] == len(work[3]) and work[7] == len(work[2])
            else:
                assert record.status == Status.NEED_INPUT
        pieces += 1
        assert pieces < 60, "the streams do not get on"
    assert pieces > 2
    for _, _, data, _, destination, *_ in works:
        assert bench.get(destination, len(data)) == data
    await bench.finish()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def full_and_on(dut):
    """A destination that is too small is filled to its last byte, not beyond; the rest comes on resuming."""
    bench = await Bench.start(dut, "full", pause=0.4)
    await bench.set_up()
    data = text(bench.rng, 800)
    stream = compress(data, Format.ZLIB, "dynamic")
    begin = bit = produced = turns = 0
    whole = bytearray()
    while True:
        room = bench.rng.randint(1, 250)
        destination = bench.allocate(room)
        job = await bench.submit(bench.source(stream[begin:]), (destination, room), form=Format.ZLIB, context=1,
                                 flags=Flag.LAST | (Flag.RESUME if turns else Flag(0)), start_bit=bit, modelled=False)
        # The gateware may stop some bits before the model does, so this test knows by itself what must come.
        share = data[produced:produced + room]
        (record,) = await bench.results()
        bench.expect(destination, share)
        assert record.produced == len(share), f"{record} for room {room} at {produced}"
        whole += bench.get(destination, len(share))
        produced += len(share)
        begin, bit, turns = begin + record.consumed, record.consumed_bit, turns + 1
        if record.status == Status.SUCCESS:
            break
        assert record.status == Status.OUTPUT_OVERFLOW, f"{record} of {job}"
        assert turns < 500, "the stream does not get on"
    assert bytes(whole) == data
    assert turns > 2 and begin == len(stream)
    assert (record.total, record.adler32) == (len(data), zlib.adler32(data))
    await bench.finish()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def errors(dut):
    """What is wrong is named, and the jobs before, beside and behind it come to no harm."""
    bench = await Bench.start(dut, "errors", pause=0.4, ring_size=8)
    await bench.set_up()
    data = text(bench.rng, 300)
    good = compress(data, Format.GZIP, "dynamic")
    bad_sum = good[:-8] + bytes([good[-8] ^ 1]) + good[-7:]
    outside = BASE - 4096
    wanted = []

    async def job(source, room, form, context, status, error=ErrorCode.NONE):
        wanted.append((status, error))
        await bench.submit(source, room, form=form, context=context)

    def room():
        return bench.allocate(len(data)), len(data)

    await job(bench.source(good), room(), Format.GZIP, 0, Status.SUCCESS)
    await job(bench.source(bad_sum), room(), Format.GZIP, 1, Status.ANALYTICS_ERROR, ErrorCode.CRC_MISMATCH)
    await job(bench.source(b"\x07" * 9), room(), Format.RAW, 0, Status.ANALYTICS_ERROR, ErrorCode.BAD_BLOCK_TYPE)
    await job(bench.source(good[:len(good) // 2]), room(), Format.GZIP, 1, Status.ANALYTICS_ERROR,
              ErrorCode.END_OF_BLOCK_MISSING)
    await job(bench.source(good), room(), Format.ZLIB, 0, Status.ANALYTICS_ERROR, ErrorCode.ZLIB_HEADER_CHECK)
    await job((outside, 100), room(), Format.GZIP, 1, Status.READ_ERROR)
    await job(bench.source(good), (outside, len(data)), Format.GZIP, 0, Status.WRITE_ERROR)
    await job(bench.source(good), room(), Format.GZIP, bench.contexts, Status.BAD_FLAGS)
    await job(bench.source(good), room(), Format.GZIP, 0, Status.SUCCESS)
    await job(bench.source(good), room(), Format.GZIP, 1, Status.SUCCESS)
    for number, (record, (status, error)) in enumerate(zip(await bench.results(), wanted, strict=True)):
        assert (record.status, record.error) == (status, error), f"job {number}: {record}"
    await bench.finish()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def restart(dut):
    """A restart in the middle of jobs: the bus is left clean, nothing is written any more, and new jobs run."""
    bench = await Bench.start(dut, "restart", pause=0.5)
    for turn in range(3):
        await bench.set_up()
        lost = []
        for context in range(bench.contexts):
            data = text(bench.rng, 3000)
            destination = bench.allocate(len(data))
            before = bench.get(destination, len(data))
            job = await bench.submit(bench.source(compress(data, Format.GZIP, "dynamic")), (destination, len(data)),
                                     form=Format.GZIP, context=context)
            lost.append((job, data, destination, before))
        # In the middle: something of a destination has been written.
        enough = bench.rng.randint(1, 1500)
        for _ in range(20_000):
            if any(bench.get(destination + enough, 8) != before[enough:enough + 8]
                   for _, _, destination, before in lost):
                break
            await RisingEdge(dut.clk)
        else:
            raise AssertionError("the jobs do not begin")
        dut.withdraw.value = 1
        await bench.write("CONTROL", Control.RESET)
        await bench.wait_for("RING_TAIL", 0)
        dut.withdraw.value = 0
        _accept_lost(bench, lost)
        bench.forget()
        for name in ("CONTROL", "RING_HEAD", "COMPLETED", "IRQ_STATUS", "BYTES_OUT"):
            assert await bench.read(name) == 0, f"{name} after restart {turn}"
        await bench.finish(cycles=300)
    await bench.set_up()
    contents = []
    for context in range(bench.contexts):
        data = text(bench.rng, 400)
        destination = bench.allocate(len(data))
        contents.append((data, destination))
        await bench.submit(bench.source(compress(data, Format.RAW, "mixed")), (destination, len(data)),
                           form=Format.RAW, context=context)
    for record in await bench.results():
        assert record.status == Status.SUCCESS
    for data, destination in contents:
        assert bench.get(destination, len(data)) == data
    await bench.finish()


def _accept_lost(bench, lost):
    """Of a job that a restart ended: a beginning of the output stands in memory, and no record or a whole one."""
    unfinished = 0
    for job, data, destination, before in lost:
        found = bench.get(destination, len(data))
        split = next((k for k in range(len(data)) if found[k] != data[k]), len(data))
        assert found[split:] == before[split:], "a lost job has written something wrong"
        unfinished += split < len(data)
        bench.expect(destination, found)
        record = bench.get(job.descriptor.completion, COMPLETION_SIZE)
        assert not any(record) or split == len(data), "a lost job that has not ended has a completion record"
        bench.expect(job.descriptor.completion, record)
    assert unfinished, "all jobs had ended before the restart"
    bench.jobs = []
