# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Every memory access of a job fails once, and every page that it touches is missing once."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from iaa_bench import MEMORY, PHYSICAL, VIRTUAL, IaaBench, Stuck
from test_iaa_model import ASKED, deflate
from test_iaa_model import TEXT as LONG
from test_iaa_model import canned as canned_page

from rackgate.iaa.abi import (
    PAGE_SIZE,
    WRITE_FAULT,
    Command,
    Completion,
    DecompressFlag,
    Descriptor,
    Flag,
    Opcode,
    PageResponse,
    PageTableEntry,
    Status,
)
from rackgate.iaa.aecs import AECS_SIZE, Aecs
from rackgate_sim.devices import component
from rackgate_sim.iaa.crc64 import crc64
from rackgate_sim.native import build

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("iaa")]

BUILD = {"contexts": 2, "window": 4096, "lanes": 8}
# Most begin in the last bytes of a page.
RECORD, AECS, SOURCE, TARGET, LIST, RECORDS = 0x10FC0, 0x20FE0, 0x30FB3, 0x40F85, 0x50F80, 0x60000
SIZE = 1500
PLAIN = DecompressFlag.ENABLE | DecompressFlag.STOP_ON_EOB | DecompressFlag.CHECK_FOR_EOB | DecompressFlag.EOB_IS_BFINAL
TEXT = bytes((k * k >> 3) % 61 for k in range(SIZE))


MEMBER = -1


@dataclass
class Job:
    """A descriptor, what lies where for it, and what it should write where.

    ``parts`` are the ranges that it may touch and for each the status of a failed access; MEMBER is a list's
    descriptor, whose status is in its own record.
    """

    descriptor: Descriptor
    content: dict[int, bytes]
    output: dict[int, bytes]
    parts: list[tuple[int, int, int]]
    members: list[Descriptor] = field(default_factory=list)




def jobs():
    """One of each kind."""
    stream = deflate(TEXT)
    header, body = canned_page()
    plain = Descriptor(Opcode.DECOMPRESS, ASKED, RECORD, SOURCE, TARGET, len(stream), 0, PLAIN, destination_size=SIZE)
    record = (RECORD, 64, Status.COMPLETION_FAULT)
    source, target = (SOURCE, len(stream), Status.READ_ERROR), (TARGET, SIZE, Status.WRITE_ERROR)
    yield "dynamic", Job(plain, {SOURCE: stream}, {TARGET: TEXT}, [source, target, record])
    yield "canned", Job(
        replace(plain, flags=ASKED | Flag.READ_SOURCE2_AECS, source2=AECS, source2_size=AECS_SIZE,
                source_size=len(body), destination_size=len(LONG)),
        {SOURCE: body, AECS: Aecs(header).pack()}, {TARGET: LONG},
        [(SOURCE, len(body), Status.READ_ERROR), (AECS, AECS_SIZE, Status.READ_ERROR),
         (TARGET, len(LONG), Status.WRITE_ERROR), record])
    yield "crc64", Job(Descriptor(Opcode.CRC64, ASKED, RECORD, SOURCE, 0, SIZE, filter_flags=27),
                       {SOURCE: TEXT}, {}, [(SOURCE, SIZE, Status.READ_ERROR), record])
    yield "fill", Job(Descriptor(Opcode.FILL, ASKED, RECORD, 0, TARGET, source2=0x0123456789ABCDEF,
                                 destination_size=SIZE),
                      {}, {TARGET: (0x0123456789ABCDEF.to_bytes(8, "little") * SIZE)[:SIZE]}, [target, record])
    small = deflate(TEXT[:200])
    members = [replace(plain, completion=RECORDS + 64 * k, source=SOURCE + 0x2000 * k, destination=TARGET + 0x2000 * k,
                       source_size=len(small), destination_size=200) for k in range(3)]
    parts = [(LIST, 64 * 3, Status.READ_ERROR), record, (RECORDS, 64 * 3, MEMBER)]
    for member in members:
        parts += [(member.source, len(small), MEMBER), (member.destination, 200, MEMBER)]
    yield "list", Job(Descriptor(Opcode.LIST, ASKED, RECORD, LIST, 0, 64 * 3),
                      {LIST: b"".join(member.pack() for member in members)} | {one.source: small for one in members},
                      {one.destination: TEXT[:200] for one in members}, parts, members)


JOBS = dict(jobs())
KINDS = pytest.mark.parametrize("kind", JOBS)


@pytest.fixture(scope="module")
def library():
    return build(component("iaa", **BUILD), name="iaa", key=sorted(BUILD.items()))


class FaultBench:
    """Carries out jobs on one queue, and keeps an eye on the rest of memory."""

    def __init__(self, library, seed, queue):
        self.bench, self.queue, self.generation = IaaBench(library, seed=seed, window=BUILD["window"]), queue, 0
        self.bench.port.configure(latency=12, write_latency=9)

    def run(self, job, *, flags=0, answer=lambda page: PageResponse.INVALID):
        """Until nothing is left to do: its record, whatever that is, and those of a list's descriptors."""
        bench, array = self.bench, self.bench.array
        array[:MEMORY] = 0xA5
        for address, data in job.content.items():
            array[address:address + len(data)] = np.frombuffer(data, np.uint8)
        records = [job.descriptor.completion, *(member.completion for member in job.members)]
        for address in records:
            array[address:address + 64] = 0
        self.generation += 1
        bench.write("AECS_GENERATION", self.generation)
        before, completed = array[:MEMORY].copy(), bench.read("COMPLETED")
        assert bench.submit(replace(job.descriptor, flags=job.descriptor.flags | flags), self.queue)
        self._finish(answer)
        after = array[:MEMORY].copy()
        self.memory = after.copy()
        for address, size in [(address, 64) for address in records] + [
                (address, len(data)) for address, data in job.output.items()]:
            before[address:address + size] = after[address:address + size] = 0
        wrong = np.flatnonzero(before != after)
        assert not len(wrong), f"something is written at {wrong[0]:#x}"
        self.completed = bench.read("COMPLETED") - completed & 0xFFFFFFFF
        self.swerr = bench.read("SWERR0")
        bench.write("SWERR0", 3)
        return [Completion.unpack(self.memory[address:address + 64].tobytes()) for address in records]

    def _finish(self, answer):
        bench = self.bench
        begin = bench.simulation.cycle
        bench.write("CMD", Command.DRAIN_WQ << 20 | 1 << self.queue)
        while bench.read("CMDSTS") >> 31:
            if bench.read("PAGE_REQUEST") & 1:
                response = answer(bench.read("PAGE_ADDRESS_LO") | bench.read("PAGE_ADDRESS_HI") << 32)
                if response is not None:
                    bench.write("PAGE_RESPONSE", response)
            bench.simulation.run(32)
            if bench.simulation.cycle - begin > 60_000:
                raise Stuck(bench.simulation.state())

    def succeed(self, job, **more):
        """Carry out the job, which must come to its good end."""
        for record in self.run(job, **more):
            assert record.status == Status.SUCCESS and record.error == 0, record
        assert self.completed == 1 + len(job.members) and not self.swerr & 1
        for address, data in job.output.items():
            assert self.memory[address:address + len(data)].tobytes() == data
        if job.descriptor.opcode == Opcode.CRC64:
            at = job.descriptor.completion
            assert Completion.unpack(self.memory[at:at + 64].tobytes()).crc64 == crc64(TEXT, 27)

    def assert_told(self, job, records, status):
        """What came of a failure: the status in the right place, and nothing else is wrong."""
        record, *others = records
        if status == Status.COMPLETION_FAULT:
            assert self.swerr & 1 and self.swerr >> 8 & 0xFF == status and record.status == 0
        elif status == MEMBER:
            assert (record.status, record.error) == (Status.SUCCESS, 1)
            wrong = [one for one in others if one.status != Status.SUCCESS]
            assert len(wrong) == 1 and bool(self.swerr & 1) == (wrong[0].status == 0), wrong
        else:
            assert record.status == status and not self.swerr & 1, record
        if status == MEMBER or not job.members:
            assert self.completed == 1 + len(job.members)


@KINDS
def test_every_access(library, seed, kind):
    """The k-th burst of each part of memory is answered with SLVERR, for each k."""
    job, bench = JOBS[kind], FaultBench(library, seed, PHYSICAL)
    port = bench.bench.port
    bench.succeed(job)
    start = port.statistics
    bench.succeed(job)
    end = port.statistics
    accesses = end.read_bursts - start.read_bursts + end.write_bursts - start.write_bursts
    failed = 0
    for address, size, status in job.parts:
        for number in range(accesses + 1):
            before = port.statistics
            port.inject(address, address + size, after=number, count=1)
            records = bench.run(job)
            port.clear_faults()
            after = port.statistics
            if after.read_errors + after.write_errors == before.read_errors + before.write_errors:
                assert number
                break
            failed += 1
            try:
                bench.assert_told(job, records, status)
            except AssertionError as error:
                raise AssertionError(f"access {number} to {address:#x}: {error}") from None
            if number % 4 == 0:
                bench.succeed(job)
    assert failed == accesses
    bench.succeed(job)


def pages_of(job):
    """Each page that the job touches, with what becomes of a job that lacks it."""
    pages = {}
    for address, size, status in job.parts:
        for page in range(address & -PAGE_SIZE, address + size, PAGE_SIZE):
            pages.setdefault(page, status)
    return pages


#: Status of a failed access as that of a page that is missing.
MISSING = {Status.READ_ERROR: Status.PAGE_FAULT, Status.WRITE_ERROR: Status.PAGE_FAULT | WRITE_FAULT}


@KINDS
@pytest.mark.parametrize("answer", ["none asked", "invalid", "success", "never"])
def test_every_page(library, seed, kind, answer):
    """Each page is missing once: the fault is told, or the host lets the job go on."""
    job, bench = JOBS[kind], FaultBench(library, seed, VIRTUAL)
    host = bench.bench
    host.write("PAGE_TIMEOUT", 700 if answer == "never" else 0)
    # A LIST's flag does not count for its descriptors: they have their own.
    flags = 0 if answer == "none asked" else Flag.BLOCK_ON_FAULT
    if job.members and flags:
        members = [replace(member, flags=member.flags | flags) for member in job.members]
        job = replace(job, members=members, content=job.content | {LIST: b"".join(one.pack() for one in members)})
    for page, status in pages_of(job).items():
        asked = []

        def respond(address, page=page, asked=asked):
            asked.append(address)
            assert address == page or answer == "never"  # it may be over before its address is read
            if answer == "success":
                host.table.write(host.table.place_of(page), page | PageTableEntry.PRESENT | PageTableEntry.WRITABLE)
                host.missing.clear()
                return PageResponse.SUCCESS
            return PageResponse.INVALID if answer == "invalid" else None

        host.unmap({page})
        if answer == "success":
            bench.succeed(job, flags=flags, answer=respond)
        else:
            records = bench.run(job, flags=flags, answer=respond)
            want = MISSING.get(status, status)
            if answer == "never" and status in MISSING:
                want = Status.PAGE_REQUEST_TIMEOUT
            if status == MEMBER and any(page <= member.completion < page + PAGE_SIZE for member in job.members):
                # The records of all are on this page.
                assert (records[0].status, records[0].error) == (Status.SUCCESS, 1) and bench.swerr & 3 == 3
            else:
                bench.assert_told(job, records, want)
                if status in MISSING:
                    assert records[0].fault_address == page
        assert bool(asked) == bool(flags)
        host.unmap(set())
        bench.succeed(job)
