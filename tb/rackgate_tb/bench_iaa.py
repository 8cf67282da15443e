# SPDX-License-Identifier: Apache-2.0
"""Bench of the whole IAA device at its pins, with AXI models that nobody here wrote.

Each test compares the whole memory with what the golden model makes of the same descriptors, and sees that the device
is idle when it is done. Reads outside of what a descriptor names are caught. All but the first pause at random on every
channel of both buses.
"""

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiResp

from rackgate.csr.map import MAGIC, Access
from rackgate.iaa.abi import (
    PAGE_SIZE,
    PORTAL_SIZE,
    PORTALS,
    QUEUES,
    REGISTERS,
    WRITE_FAULT,
    Command,
    DecompressFlag,
    Descriptor,
    Flag,
    Framing,
    InterruptCause,
    Opcode,
    PageResponse,
    Status,
)
from rackgate.inflate.abi import Format

from . import session
from .iaa_host import PHYSICAL, SHIFT, VIRTUAL, Bench
from .inflate_host import BASE, KINDS, compress, text

_LIMIT_NS = 1_500_000
#: Registers whose value after reset is not the map's: they count, or say how the device was built.
_BUILT = ("PARAM_", "BUILD_", "CYCLES_", "WQCAP_LO", "ENGCAP", "MAGIC")
_ASKED = Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION
_PLAIN = (DecompressFlag.ENABLE | DecompressFlag.STOP_ON_EOB | DecompressFlag.CHECK_FOR_EOB
          | DecompressFlag.EOB_IS_BFINAL)
_FRAMINGS = {Format.RAW: Framing.RAW, Format.ZLIB: Framing.ZLIB, Format.GZIP: Framing.GZIP}


def _decompress(bench, data, form=Format.RAW, kind="dynamic", **fields):
    """A descriptor that makes ``data``."""
    source, size = bench.source(compress(data, form, kind))
    return Descriptor(**({"opcode": Opcode.DECOMPRESS, "flags": _ASKED, "source": source, "source_size": size,
                          "destination": bench.allocate(len(data)), "destination_size": len(data),
                          "operation_flags": _PLAIN | _FRAMINGS[form] << 13} | fields))


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.6])
async def registers(dut, pause):
    """Identity, values after reset, what can be written and what cannot, and errors where there is nothing."""
    bench = await Bench.start(dut, f"registers {pause}", pause=pause)
    given = session.parameters()
    for name, value in {"MAGIC": MAGIC, "PARAM_CONTEXTS": given["contexts"], "PARAM_WINDOW": given["window"],
                        "PARAM_LANES": given["lanes"], "PARAM_QUEUES": given["queues"], "PARAM_ENGINES": 1,
                        "PARAM_ENTRIES": given["entries"], "BUILD_LO": given["build"] & 0xFFFFFFFF,
                        "BUILD_HI": given["build"] >> 32}.items():
        assert await bench.read(name) == value, name
    absent = tuple(f"WQ{queue}_" for queue in range(given["queues"], QUEUES))
    shown = [register for name, register in REGISTERS.items()
             if not name.startswith(_BUILT + absent) and register.access != Access.WO]
    for register in bench.rng.sample(shown, 40):
        assert await bench.registers.read(register.offset) == register.reset, f"{register.name} after reset"
        if register.access in (Access.RO, Access.CONST):
            resp, _ = await bench.registers.access(register.offset, b"\xff" * 4)
            assert resp == AxiResp.SLVERR, f"writing {register.name}"
    for offset in (0x3FC, 0x1FFC, 0x4000, PORTALS + PORTAL_SIZE * given["queues"], REGISTERS["WQ7_MODE"].offset):
        assert (await bench.registers.access(offset, b"\xff" * 4))[0] == AxiResp.SLVERR, f"writing {offset:#x}"
        wanted = AxiResp.SLVERR if offset < PORTALS else AxiResp.OKAY  # portals read as zero
        assert (await bench.registers.access(offset))[0] == wanted, f"reading {offset:#x}"
    for queue in (PHYSICAL, VIRTUAL):
        resp, _ = await bench.registers.access(PORTALS + PORTAL_SIZE * queue, bytes(4))
        assert resp == AxiResp.SLVERR, "a queue that is not enabled takes words"
    await bench.finish()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.7])
async def operations(dut, pause):
    """All operations and framings on both queues at once; the interrupt of the last comes with its record."""
    bench = await Bench.start(dut, f"operations {pause}", pause=pause)
    await bench.set_up()
    await bench.write("IRQ_ENABLE", InterruptCause.COMPLETION)
    rng, works = bench.rng, []
    for kind in KINDS:
        for form in Format:
            works.append(_decompress(bench, text(rng, rng.randint(1, 500)), form, kind))
    for size in (1, 300):
        source, _ = bench.source(rng.randbytes(size))
        works.append(Descriptor(Opcode.CRC64, _ASKED, source=source, source_size=size, filter_flags=27,
                                operation_flags=1 << 14))
        works.append(Descriptor(Opcode.FILL, _ASKED, destination=bench.allocate(size), destination_size=size,
                                source2=rng.getrandbits(64)))
    works += [Descriptor(Opcode.NOOP, _ASKED), Descriptor(0x55, _ASKED), Descriptor(Opcode.DRAIN, _ASKED)]
    rng.shuffle(works)
    for number, work in enumerate(works):
        await bench.submit(work, number % 2)
        assert not dut.irq.value
    await bench.submit(Descriptor(Opcode.DRAIN, _ASKED | Flag.REQUEST_INTERRUPT), VIRTUAL)
    last = bench.jobs[-1][2]
    for _ in range(20_000):
        if dut.irq.value:
            break
        await RisingEdge(dut.clk)
    else:
        raise AssertionError("no interrupt")
    assert bench.completion(last).status == Status.SUCCESS
    jobs = list(bench.jobs)
    await bench.results()
    done = [want for _, want, _ in jobs]
    assert await bench.read("BYTES_OUT") == sum(want.output_size for want in done)
    assert await bench.read("BYTES_IN") == sum(want.completed for want in done)
    assert await bench.read("INTCAUSE") & InterruptCause.COMPLETION
    await bench.write("INTCAUSE", InterruptCause.COMPLETION)
    await ClockCycles(dut.clk, 3)
    assert not dut.irq.value
    await bench.finish()
    assert not pause or all(bench.pauses.seen.values()), f"not every channel has paused: {bench.pauses.seen}"


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def page_requests(dut):
    """A page that is missing raises the interrupt; the host's answer decides what becomes of the descriptor."""
    bench = await Bench.start(dut, "pages", pause=0.4)
    await bench.set_up()
    await bench.write("IRQ_ENABLE", InterruptCause.PAGE_REQUEST)
    page = bench.allocate(PAGE_SIZE, PAGE_SIZE)
    for blocks, response in ((True, PageResponse.SUCCESS), (True, PageResponse.INVALID), (False, None)):
        size = bench.rng.randint(20, 200)
        bench.map(page, present=False)
        await bench.write("TLB_INVALIDATE", 1)
        fill = Descriptor(Opcode.FILL, _ASKED | (Flag.BLOCK_ON_FAULT if blocks else 0), destination=page - 9,
                          destination_size=9 + size, source2=bench.rng.getrandbits(64))
        if response == PageResponse.SUCCESS:
            bench.missing.discard(page)  # as it will be
        _, want, _ = await bench.submit(fill, VIRTUAL)
        if blocks:
            for _ in range(5000):
                if dut.irq.value:
                    break
                await RisingEdge(dut.clk)
            else:
                raise AssertionError("no page request")
            request = await bench.read("PAGE_REQUEST")
            assert (request & 3, request >> 8 & 0xF) == (3, VIRTUAL)
            address = await bench.read("PAGE_ADDRESS_LO") | await bench.read("PAGE_ADDRESS_HI") << 32
            assert address == page + SHIFT
            await bench.write("INTCAUSE", InterruptCause.PAGE_REQUEST)
            if response == PageResponse.SUCCESS:
                bench.map(page)
            await bench.write("PAGE_RESPONSE", response)
        status = Status.SUCCESS if response == PageResponse.SUCCESS else Status.PAGE_FAULT | WRITE_FAULT
        assert want.status == status
        record, = await bench.results()
        assert record.status == status and not dut.irq.value
        assert not await bench.read("PAGE_REQUEST") & 1
    await bench.finish()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def errors(dut):
    """Where there is no memory: status or SWERR say so, and what runs beside comes to no harm."""
    bench = await Bench.start(dut, "errors", pause=0.4)
    await bench.set_up()
    await bench.write("IRQ_ENABLE", InterruptCause.SOFTWARE_ERROR)
    data, outside = text(bench.rng, 200), BASE - 4096
    good = [_decompress(bench, data) for _ in range(4)]
    wanted = []
    for descriptor, status in ((good[0], Status.SUCCESS), (_decompress(bench, data, source=outside), Status.READ_ERROR),
                               (_decompress(bench, data, destination=outside), Status.WRITE_ERROR),
                               (good[1], Status.SUCCESS),
                               (_decompress(bench, data, destination_size=0), Status.BAD_SIZE)):
        wanted.append(status)
        await bench.submit(descriptor)
    assert [record.status for record in await bench.results()] == wanted
    assert not dut.irq.value
    lost = Descriptor(Opcode.NOOP, _ASKED, completion=outside)
    assert await bench.offer(lost, PHYSICAL)
    await bench.submit(good[2])
    bench.completed += 1
    await bench.results()
    assert dut.irq.value
    swerr = await bench.read("SWERR0")
    assert (swerr & 1, swerr >> 8 & 0xFF) == (1, Status.COMPLETION_FAULT)
    address = await bench.read("SWERR_ADDRESS_LO") | await bench.read("SWERR_ADDRESS_HI") << 32
    assert address == outside
    await bench.write("SWERR0", 1)
    await bench.write("INTCAUSE", InterruptCause.SOFTWARE_ERROR)
    await bench.submit(good[3], VIRTUAL)
    assert (await bench.results())[0].status == Status.SUCCESS
    assert not dut.irq.value
    await bench.finish()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def full_queue(dut):
    """A queue that is full says so, and each descriptor that it has taken completes once."""
    bench = await Bench.start(dut, "full", pause=0.3)
    await bench.set_up(size=2)
    retries = 0
    for _ in range(12):
        size = bench.rng.randint(1500, 3000)
        placed = bench.place(Descriptor(Opcode.FILL, _ASKED, destination=bench.allocate(size), destination_size=size,
                                        source2=bench.rng.getrandbits(64)), PHYSICAL)
        while not await bench.offer(placed, PHYSICAL):
            retries += 1
        pattern = (placed.source2.to_bytes(8, "little") * size)[:size]
        bench.expect(placed.destination, pattern)
        bench.jobs.append((placed, None, placed.completion))
    assert retries
    records = [job[2] for job in bench.jobs]
    assert all(record.status == Status.SUCCESS for record in await bench.results())
    for record in records:
        bench.expect(record, bench.get(record, 64))
    await bench.finish()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def restart(dut):
    """A reset in the middle: the bus is left clean, nothing is written any more, and new descriptors are done."""
    bench = await Bench.start(dut, "restart", pause=0.5)
    for turn in range(3):
        await bench.set_up()
        for number in range(3):
            await bench.submit(_decompress(bench, text(bench.rng, 1500)), number % 2, modelled=False)
        await ClockCycles(dut.clk, bench.rng.randrange(20, 1200))
        dut.withdraw.value = 1
        await bench.command(Command.RESET_DEVICE)
        dut.withdraw.value = 0
        for descriptor, _, record in bench.jobs:
            shift = descriptor.completion - record
            for address, size in ((record, 64), (descriptor.destination - shift, descriptor.destination_size)):
                bench.expect(address, bench.get(address, size))
        bench.forget()
        for name in ("COMPLETED", "GENSTS", "BYTES_OUT", "WQ0_SIZE", "IRQ_ENABLE"):
            assert await bench.read(name) == 0, f"{name} after reset {turn}"
        await bench.finish(cycles=300)
    await bench.set_up()
    for number in range(4):
        await bench.submit(_decompress(bench, text(bench.rng, 300), Format.GZIP, "mixed"), number % 2)
    for record in await bench.results():
        assert record.status == Status.SUCCESS
    await bench.finish()
