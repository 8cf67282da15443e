# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""A lane, with everything around it in software, against the golden model: records, errors, strobes."""

import random
import zlib
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from iaa_chain import Chain, streams
from iaa_stage import Stage
from test_iaa_model import AECS, ASKED, BASE, PLAIN, RECORD, SIZE, SOURCE, STATES, TARGET, TEXT, canned, deflate, job
from test_iaa_model import random_descriptor as any_descriptor

from rackgate.iaa.abi import WRITE_FAULT, Completion, DecompressFlag, Descriptor, Flag, Framing, Opcode, Status
from rackgate.iaa.aecs import AECS_SIZE, FORMAT_OFFSET, SAVED_FORMAT, Aecs, SavedState, saved_size
from rackgate.iaa.lane import Lane
from rackgate.iaa.utility import UtilityOperation
from rackgate.inflate import abi as inflate
from rackgate_sim.iaa.crc64 import crc64
from rackgate_sim.iaa.model import Rules, crc32c, difference, is_record_due, perform, run, xor16
from rackgate_sim.inflate.assembler import gzip_frame, zlib_frame
from rackgate_sim.inflate.model import BusError, Engine, FlatMemory, JobMemory

CONTEXT = 1
WITH_AECS = {"flags": ASKED | Flag.READ_SOURCE2_AECS, "source2": AECS, "source2_size": AECS_SIZE}
STAGE = Stage(lambda: Lane(context=CONTEXT), ["o_task", "o_utility", "o_list", "o_record", "o_error"])
LIMIT = 14


@dataclass
class Case:
    """A descriptor for the lane, and what the world does meanwhile.

    ``fault`` is a page fault (of the utility's accesses with ``of_utility``) that lets an access fail, ``abort`` says
    when the queue's abort begins: before the descriptor comes, or with the first task. ``refused``: the memory does not
    take the record.
    """

    descriptor: Descriptor
    fault: dict | None = None
    abort: str = ""
    aborted: bool = False
    listed: bool = False
    refused: bool = False
    list_result: tuple = (0, 0, 0)
    content: dict = field(default_factory=dict)
    generation: int = 0


@dataclass
class Done:
    """What the lane did."""

    record: Completion | None = None
    error: object | None = None
    strobes: dict | None = None
    tables: int = 0
    aecs: int = 0


class World:
    """What is around a lane. All waits are random."""

    def __init__(self, seed, gap):
        self.rng, self.gap = random.Random(f"{seed} world"), gap
        self.memory = FlatMemory(np.zeros(SIZE, np.uint8), BASE)
        self.engine = Engine(1, 32768)
        self.case, self.done = None, None

    async def pause(self, ctx):
        while self.rng.random() < self.gap:
            await ctx.tick()

    async def take(self, ctx, source):
        """The next payload, after a while."""
        await self.pause(ctx)
        ctx.set(source.ready, 1)
        while True:
            _, _, valid, payload = await ctx.tick().sample(source.valid, source.payload)
            if valid:
                ctx.set(source.ready, 0)
                return payload

    async def give(self, ctx, target, payload):
        """A payload, which must be taken."""
        await self.pause(ctx)
        ctx.set(target.payload, payload)
        ctx.set(target.valid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick().sample(target.ready)
        ctx.set(target.valid, 0)

    async def context(self, ctx):
        """A context of the inflate engine."""
        dut = STAGE.dut
        while True:
            task = await self.take(ctx, dut.o_task)
            assert (task.tag, task.context, task.strict_lengths) == (CONTEXT, CONTEXT, 1)
            if self.case.abort == "task":
                ctx.set(dut.abort, 1 << 3)
            self.done.tables += task.tables
            await self.give(ctx, dut.i_outcome, self._outcome(ctx, task))

    def _outcome(self, ctx, task):
        noise = {name: self.rng.getrandbits(32) for name in ("crc32", "adler32", "members")}
        if self.case.abort == "task" or self.case.fault and not (task.tables or self.case.fault.get("of_utility")):
            is_write = self.case.fault and self.case.fault["write"]
            if self.case.fault:
                ctx.set(STAGE.dut.fault, {"valid": 1, **self.case.fault})
            status = inflate.Status.WRITE_ERROR if is_write else inflate.Status.READ_ERROR
            return {"record": {"status": status, "consumed": 77, "produced": 99, **noise}}
        try:
            source = JobMemory(self.memory.read(task.source, task.source_size))
        except BusError:
            return {"record": {"status": inflate.Status.READ_ERROR, **noise}}
        flags = inflate.Flag.STRICT_LENGTHS
        for name, flag in (("last", inflate.Flag.LAST), ("multi", inflate.Flag.MULTI),
                           ("canned", inflate.Flag.CANNED), ("resume", inflate.Flag.RESUME)):
            flags |= flag if getattr(task, name) else 0
        opcode = inflate.Opcode.LOAD if task.load else (
            inflate.Opcode.TABLES if task.tables else inflate.Opcode.INFLATE)
        form = {Framing.ZLIB: inflate.Format.ZLIB, Framing.GZIP: inflate.Format.GZIP}.get(
            task.framing, inflate.Format.RAW)
        self.engine.first.header_at = -1
        record = self.engine.run(
            inflate.Descriptor(0, task.source_size, 0, min(task.destination_size, inflate.MAX_DESTINATION_SIZE), 0,
                               opcode, form, flags, start_bit=task.start_bit),
            source, ignored_bits=task.ignored_bits, one_block=bool(task.one_block))
        status, error, crc, kept = record.status, record.error, record.crc32, self.engine.first
        if task.options.whole and status == inflate.Status.OUTPUT_OVERFLOW:
            source.written = source.written[:len(source.written) - kept.skip]
        begin = 8 * (task.source % 8 + kept.header_at)
        progress = {"has_header": kept.header_at >= 0, "header": max(0, begin + kept.header_begin),
                    "body": max(0, begin + kept.header_end), "is_stored": kept.state.name == "STORED",
                    "is_final": kept.final, "left": kept.left}
        if form != inflate.Format.GZIP:
            crc = (crc32c if task.options.crc32c else zlib.crc32)(source.written, task.options.crc)
        if source.written and not task.options.discard:
            try:
                self.memory.write(task.destination, source.written)
            except BusError:
                status, error = inflate.Status.WRITE_ERROR, 0
        return {"xor_checksum": xor16(source.written, task.options.xor_checksum), "progress": progress, "record": {
            "status": status, "error": error, "flags": record.flags, "consumed": record.consumed,
            "consumed_bit": record.consumed_bit, "produced": len(source.written) or record.produced, "crc32": crc,
            "adler32": record.adler32, "members": record.members}}

    async def utility(self, ctx):
        """The utility."""
        dut = STAGE.dut
        while True:
            operation = await self.take(ctx, dut.o_utility)
            assert operation.lane == CONTEXT
            if self.case.fault and self.case.fault.get("of_utility"):
                fault = {name: value for name, value in self.case.fault.items() if name != "of_utility"}
                ctx.set(dut.utility_fault, {"valid": 1, **fault})
                result = {"failed": 1}
            else:
                result = self._operate(operation)
            await self.give(ctx, dut.i_result, result)

    def _operate(self, job):
        kind = UtilityOperation(job.operation)
        try:
            if kind == UtilityOperation.FILL:
                self.memory.write(job.address, (job.value.to_bytes(8, "little") * (job.size // 8 + 1))[:job.size])
                return {}
            if kind == UtilityOperation.CRC64:
                return {"value": crc64(self.memory.read(job.address, job.size), job.value, invert=bool(job.invert),
                                       big_endian=bool(job.big_endian))}
            if kind == UtilityOperation.COPY:
                self.memory.write(job.value, self.memory.read(job.address, job.size))
                return {}
            self.done.aecs += 1
            raw = self.memory.read(job.address, job.size)
        except BusError:
            return {"failed": 1, "value": self.rng.getrandbits(64)}
        try:
            if raw[FORMAT_OFFSET] == SAVED_FORMAT:
                state = SavedState.unpack(raw, 32768)
                return {"aecs": {"crc": state.crc, "xor_checksum": state.xor_checksum, "saved": {
                    "valid": 1, "is_within": state.header_bits > 0, "start_bit": state.start_bit,
                    "first_bit": state.first_bit, "header_bits": state.header_bits, "history": len(state.history)}}}
            aecs = Aecs.unpack(raw)
        except ValueError:
            return {"aecs": {"is_bad": 1, "size": self.rng.randrange(257)}}
        return {"aecs": {"crc": aecs.crc, "xor_checksum": aecs.xor_checksum, "size": len(aecs.header)}}

    async def lister(self, ctx):
        """The lister."""
        dut = STAGE.dut
        while True:
            given = await self.take(ctx, dut.o_list)
            assert (given.address, given.size) == (self.case.descriptor.source, self.case.descriptor.source_size)
            if self.case.fault:
                ctx.set(dut.fault, {"valid": 1, **self.case.fault})
            await self.give(ctx, dut.i_list, dict(zip(("count", "member_failed", "failed"), self.case.list_result,
                                                      strict=True)))

    async def writer(self, ctx):
        """The completion writer, which also has other lanes' records."""
        dut = STAGE.dut
        while True:
            written = await self.take(ctx, dut.o_record)
            assert self.done.record is None, "a second record"
            assert written.address == self.case.descriptor.completion
            self.done.record = Completion.unpack(written.record.as_bits().to_bytes(64, "little"))
            await self.pause(ctx)
            ctx.set(dut.record_failed, 1)
            await ctx.tick()
            ctx.set(dut.record_failed, self.case.refused)
            ctx.set(dut.record_done, 1)
            await ctx.tick()
            ctx.set(dut.record_done, 0)

    async def errors(self, ctx):
        """SWERR."""
        while True:
            error = await self.take(ctx, STAGE.dut.o_error)
            assert self.done.error is None, "a second error"
            self.done.error = error

    async def clock(self, ctx):
        """The cycle counter."""
        now = 0
        while True:
            await ctx.tick()
            now += 1
            ctx.set(STAGE.dut.now, now)


def perform_all(cases, *, seed, gap=0.3):
    """What the lane did for each case, and the memory."""
    world, found = World(seed, gap), []

    def scene(dut):
        async def play(ctx):
            for case in cases:
                world.case, world.done = case, Done()
                for address, data in case.content.items():
                    world.memory.write(address, data)
                ctx.set(dut.generation, case.generation)
                ctx.set(dut.abort, 1 << 3 if case.abort == "before" else 0xF7)
                await world.pause(ctx)
                ctx.set(dut.i.payload, {
                    "descriptor": dut.i.payload.descriptor.shape().from_bits(
                        int.from_bytes(case.descriptor.pack(), "little")),
                    "space": {"block": 1, "queue": 3, "table": 5}, "max_transfer_shift": LIMIT,
                    "aborted": case.aborted, "listed": case.listed})
                ctx.set(dut.i.valid, 1)
                assert ctx.get(dut.i.ready) and not ctx.get(dut.busy)
                begin = ctx.get(dut.now)
                await ctx.tick()
                ctx.set(dut.i.valid, 0)
                while True:
                    is_cut = ctx.get(dut.cut)
                    assert is_cut == ctx.get(dut.abort) >> 3 & 1 and ctx.get(dut.busy)
                    assert ctx.get(dut.space.queue) == 3
                    strobes = {name: ctx.get(getattr(dut, name)) for name in (
                        "retired", "succeeded", "interrupt", "listed", "consumed", "produced", "clear")}
                    await ctx.tick()
                    if strobes["retired"]:
                        break
                    assert not strobes["clear"]
                assert strobes.pop("clear")
                ctx.set(dut.fault.valid, 0)
                ctx.set(dut.utility_fault.valid, 0)
                world.done.strobes = strobes
                assert not ctx.get(dut.retired) and not ctx.get(dut.busy)
                if world.done.record:
                    assert world.done.record.cycles <= ctx.get(dut.now) - begin
                found.append(world.done)

        models = [world.context, world.utility, world.lister, world.writer, world.errors, world.clock]
        return [play], models

    STAGE.run(scene, limit=400_000)
    return found, world.memory


def compare(case, done, want):
    """One descriptor's end: exactly what the model has."""
    descriptor = case.descriptor
    assert (done.record is not None) == is_record_due(descriptor, want) or want.status == Status.COMPLETION_FAULT
    if done.record is not None and want.status != Status.COMPLETION_FAULT:
        assert not (text := difference(want, done.record)), f"{text}\n{descriptor}\n{want}\n{done.record}"
    untold = want.status in (Status.COMPLETION_MISALIGNED, Status.COMPLETION_FAULT)
    assert (done.error is not None) == untold, descriptor
    if untold:
        assert (done.error.status, done.error.queue, done.error.opcode) == (want.status, 3, descriptor.opcode)
        assert done.error.address == descriptor.completion
        assert done.error.write == (want.status == Status.COMPLETION_FAULT)
    else:
        assert done.strobes["produced"] == want.output_size or want.status in (Status.READ_ERROR, Status.WRITE_ERROR)
    assert done.strobes["succeeded"] == (want.status == Status.SUCCESS)
    assert done.strobes["listed"] == case.listed
    assert done.strobes["interrupt"] == bool(descriptor.flags & Flag.REQUEST_INTERRUPT)


def check_against_model(cases, *, seed, gap=0.3):
    found, memory = perform_all(cases, seed=seed, gap=gap)
    model = FlatMemory(np.zeros(SIZE, np.uint8), BASE)
    for case, done in zip(cases, found, strict=True):
        for address, data in case.content.items():
            model.write(address, data)
        rules = Rules(32768, LIMIT, within_list=case.listed)
        want = run(case.descriptor, model, rules=rules)
        compare(case, done, want)
        if is_record_due(case.descriptor, want) and want.status != Status.COMPLETION_FAULT:
            model.write(case.descriptor.completion, bytes(64))  # the writer here writes none
    wrong = np.flatnonzero(memory.array != model.array)
    assert not len(wrong), f"memory differs at {BASE + wrong[0]:#x} to {BASE + wrong[-1]:#x}"
    return found


GZIP = PLAIN | Framing.GZIP << 13

@pytest.mark.parametrize("kind", ["dynamic", "stored", "blocks"])
@pytest.mark.parametrize("pieces", [None, [900]])
def test_a_stream_goes_on(seed, kind, pieces):
    """Of a chain of jobs each record, and all that is saved, is what the model has."""
    rng = random.Random(f"{seed} {kind} {pieces}")
    stream, data = streams(rng, 5000)[kind]
    model, cases = FlatMemory(np.zeros(SIZE, np.uint8), BASE), []

    def execute(descriptor):
        content = {descriptor.source: model.read(descriptor.source, descriptor.source_size)}
        if not cases:
            content[STATES] = model.read(STATES, 2 * saved_size(32768))
        cases.append(Case(descriptor, content=content))
        return run(descriptor, model, rules=Rules(32768, LIMIT))

    chain = Chain(model.read, model.write, execute, SOURCE, TARGET, STATES, RECORD, 32768)
    assert chain.run(stream, rng, rooms=[300, 800, 261], pieces=pieces) == data
    found = check_against_model(cases, seed=seed)
    assert found[0].aecs == 0 and all(done.aecs == 1 for done in found[1:])


def test_a_table_that_is_gone_on_from_is_read_again(seed):
    """Its place is that of a state soon, which another lane may have written."""
    header, body = canned()
    size = saved_size(32768)
    raw = Aecs(header).pack().ljust(size, b"\0")
    writes = job(source_size=len(body), destination_size=9000, source2=STATES, source2_size=size,
                 flags=ASKED | Flag.READ_SOURCE2_AECS | Flag.WRITE_SOURCE2_ON_OVERFLOW)
    cases = [Case(writes, content={STATES: raw, SOURCE: body}), Case(writes),
             Case(replace(writes, destination_size=300))]
    assert [done.aecs for done in check_against_model(cases, seed=seed)] == [1, 1, 1]


@pytest.mark.parametrize("gap", [0, 0.4])
def test_each_operation(seed, gap):
    """Each operation and framing, and what is told of it."""
    stream, data = deflate(TEXT[:900]), TEXT[:900]
    zlibbed, gzipped = zlib_frame(stream, data), gzip_frame(stream, data)
    header, body = canned()
    interrupt = ASKED | Flag.REQUEST_INTERRUPT
    operations = [
        (job(source_size=len(stream), flags=interrupt), stream),
        (job(source_size=len(zlibbed), operation_flags=PLAIN | Framing.ZLIB << 13), zlibbed),
        (job(source_size=2 * len(gzipped), operation_flags=GZIP & ~DecompressFlag.STOP_ON_EOB), gzipped * 2),
        (job(source_size=2 * len(gzipped), operation_flags=GZIP), gzipped * 2),
        (job(source_size=len(stream), destination_size=100), stream),
        (job(source_size=len(stream) - 9), stream),
        (job(source_size=len(stream) - 9, operation_flags=DecompressFlag.ENABLE), stream),
        (job(source_size=len(stream) - 9, operation_flags=PLAIN & ~DecompressFlag.EOB_IS_BFINAL), stream),
        (job(source_size=len(stream), operation_flags=PLAIN | 3 << 6), stream),
        (job(source_size=len(stream), operation_flags=PLAIN | DecompressFlag.SUPPRESS_OUTPUT, destination=0,
             destination_size=0), stream),
        (job(source_size=len(stream), flags=ASKED | Flag.CRC32C), stream),
        (job(source_size=len(stream), flags=Flag.COMPLETION_ADDRESS_VALID), stream),
        (job(source_size=len(stream), flags=0), stream),
        (job(source_size=len(body), destination_size=9000, **WITH_AECS), body),
        (Descriptor(Opcode.CRC64, interrupt, RECORD, SOURCE + 3, 0, 77, 0, 1 << 14, filter_flags=27, elements=7), b""),
        (Descriptor(Opcode.FILL, ASKED, RECORD, 0, TARGET + 5, source2=0x0123456789ABCDEF, destination_size=77), b""),
        (Descriptor(Opcode.NOOP, ASKED, RECORD), b""), (Descriptor(Opcode.DRAIN, interrupt, RECORD), b""),
        (Descriptor(Opcode.NOOP, ASKED, RECORD + 1), b""), (Descriptor(0x99, ASKED, RECORD), b""),
        (Descriptor(Opcode.NOOP, ASKED, 1 << 63), b""), (job(elements=1), b""),
        # Nobody asks for these records, so it does not matter that there is no place for them.
        (Descriptor(Opcode.NOOP, Flag.COMPLETION_ADDRESS_VALID, 1 << 63), b""),
        (Descriptor(0x99, Flag.COMPLETION_ADDRESS_VALID, 1 << 63), b""),
    ]
    aecs = Aecs(header, 0x12345678, 0x9ABC).pack()
    check_against_model([Case(descriptor, content={SOURCE: data, AECS: aecs}) for descriptor, data in operations],
                        seed=seed, gap=gap)


def random_cases(seed, count):
    rng = random.Random(seed)
    header, body = canned()
    sources = [deflate(TEXT[:2000]), body[:700], deflate(rng.randbytes(600)), rng.randbytes(900), b"\7\0"]
    aecs = [Aecs(header).pack(), Aecs(b"", 5, 6).pack(), Aecs(header[:-1]).pack(), bytes(AECS_SIZE)]
    cases = []
    for number in range(count):
        descriptor = any_descriptor(rng)
        if descriptor.opcode == Opcode.LIST:
            descriptor = replace(descriptor, opcode=Opcode.NOOP)
        if descriptor.completion != RECORD and descriptor.completion % 64 == 0:
            descriptor = replace(descriptor, completion=RECORD)
        cases.append(Case(descriptor, listed=rng.random() < 0.2, generation=number, content={
            SOURCE: rng.choice(sources) + bytes(64), AECS: rng.choice(aecs)}))
    return cases


def test_random_descriptors(seed):
    check_against_model(random_cases(seed, 60), seed=seed)


@pytest.mark.soak
def test_many_random_descriptors(seed):
    check_against_model(random_cases(seed + 1, 2000), seed=seed)


def test_an_aecs_is_kept(seed):
    """Until its address or the generation changes, or another stream goes through the context."""
    header, body = canned()
    whole = Aecs(header, 1, 2).pack()
    stream = deflate(TEXT[:300])
    with_aecs = job(source_size=len(body), destination_size=9000, **WITH_AECS)
    other = replace(with_aecs, source2=AECS + 0x800)
    plain = job(source=SOURCE + 0x4000, source_size=len(stream))
    crc = Descriptor(Opcode.CRC64, ASKED, RECORD, SOURCE, 0, 9, filter_flags=1)
    steps = [(with_aecs, 0, 1), (with_aecs, 0, 0), (crc, 0, 0), (with_aecs, 0, 0), (other, 0, 1), (with_aecs, 0, 1),
             (with_aecs, 1, 1), (plain, 1, 0), (with_aecs, 1, 1), (replace(with_aecs, elements=1), 1, 0),
             (with_aecs, 1, 0)]
    content = {SOURCE: body, SOURCE + 0x4000: stream, AECS: whole, AECS + 0x800: Aecs(header, 3, 4).pack()}
    found = check_against_model([Case(descriptor, generation=generation, content=content)
                                 for descriptor, generation, _ in steps], seed=seed)
    assert [(done.aecs, done.tables) for done in found] == [(reads, reads) for *_, reads in steps]


def test_a_bad_aecs_is_not_kept(seed):
    header, body = canned()
    good, bad = Aecs(header).pack(), Aecs(header[:-1]).pack()
    with_aecs = job(source_size=len(body), destination_size=9000, **WITH_AECS)
    contents = [bytes(AECS_SIZE), bad, bad, good, good]
    found = check_against_model([Case(with_aecs, content={SOURCE: body, AECS: aecs}) for aecs in contents], seed=seed)
    assert [done.aecs for done in found] == [1, 1, 1, 1, 0]


PAGE = SOURCE + 0x3000
#: (descriptor, whose access, write, address of the fault): status and progress that the record must tell.
FAULTS = [
    (job(source_size=100), {}, SOURCE, {"completed": 77, "output_size": 99}),
    (job(source_size=100), {"write": 1}, TARGET + 0x100, {"output_size": 0}),
    (job(source_size=100, destination=TARGET + 0xF00), {"write": 1}, TARGET + 0x1000, {"output_size": 0x100}),
    (job(source_size=100, **WITH_AECS), {"of_utility": 1}, AECS, {}),
    (Descriptor(Opcode.CRC64, ASKED, RECORD, SOURCE + 5, 0, 0x1800, filter_flags=1), {"of_utility": 1}, SOURCE + 0x1000,
     {"completed": 0xFFB}),
    (Descriptor(Opcode.FILL, ASKED, RECORD, 0, TARGET + 5, destination_size=0x1800), {"of_utility": 1, "write": 1},
     TARGET + 0x1000, {"output_size": 0xFFB}),
    (Descriptor(Opcode.LIST, ASKED, RECORD, SOURCE + 0xF80, 0, 64 * 4), {}, SOURCE + 0x1000, {"completed": 2}),
]


@pytest.mark.parametrize("timeout", [0, 1])
def test_page_faults(seed, timeout):
    """Status, address and progress."""
    cases = [Case(descriptor, fault={"write": 0, "address": address, "timeout": timeout} | kind, generation=number,
                  list_result=(2, 0, 1), content={AECS: Aecs().pack()})
             for number, (descriptor, kind, address, _) in enumerate(FAULTS)]
    found, _ = perform_all(cases, seed=seed)
    for (_, kind, address, progress), done in zip(FAULTS, found, strict=True):
        status = Status.PAGE_REQUEST_TIMEOUT if timeout else Status.PAGE_FAULT | (WRITE_FAULT if kind.get("write")
                                                                                 else 0)
        assert (done.record.status, done.record.fault_address) == (status, address & -4096)
        told = {name: getattr(done.record, name) for name in ("completed", "output_size")}
        assert told == {"completed": 0, "output_size": 0} | progress
        assert not done.strobes["succeeded"] and done.error is None


@pytest.mark.parametrize("refused", [False, True])
def test_list(seed, refused):
    """The lister's result, and the record that cannot be written."""
    listed = Descriptor(Opcode.LIST, ASKED, RECORD, SOURCE, 0, 64 * 3)
    results = [((3, 0, 0), Status.SUCCESS, 0), ((3, 1, 0), Status.SUCCESS, 1), ((1, 0, 1), Status.READ_ERROR, 0)]
    found, _ = perform_all([Case(listed, list_result=result, refused=refused) for result, *_ in results], seed=seed)
    for (result, status, error), done in zip(results, found, strict=True):
        assert (done.record.status, done.record.error) == (status, error)
        assert done.record.completed == (result[0] if status == Status.SUCCESS else 0)
        assert done.strobes["succeeded"] == (status == Status.SUCCESS and not refused)
        assert (done.error is not None) == refused
        if refused:
            assert (done.error.status, done.error.address) == (Status.COMPLETION_FAULT, RECORD)


@pytest.mark.parametrize("abort", ["queued", "before", "task"])
def test_abort(seed, abort):
    """ABORTED whether it was queued, is begun or in its midst; a bad completion address goes before."""
    stream = deflate(TEXT[:500])
    good = job(source_size=len(stream))
    cases = [Case(good, abort=abort, aborted=abort == "queued"), Case(good)]
    if abort != "task":
        cases[1:1] = [Case(replace(good, completion=RECORD + 8, elements=1), abort=abort, aborted=abort == "queued"),
                      Case(replace(good, elements=1), abort=abort, aborted=abort == "queued")]
    cases[0].content[SOURCE] = stream
    found, _ = perform_all(cases, seed=seed)
    want = perform(good, FlatMemory(np.frombuffer(bytes(SOURCE - BASE) + stream + bytes(
        SIZE - (SOURCE - BASE) - len(stream)), np.uint8), BASE)).completion
    assert found[0].record == Completion(Status.ABORTED, cycles=found[0].record.cycles)
    assert not difference(want, found[-1].record)
    if abort != "task":
        assert found[1].record is None and found[1].error.status == Status.COMPLETION_MISALIGNED
        assert found[2].record.status == Status.ABORTED and not found[2].record.invalid_flags
