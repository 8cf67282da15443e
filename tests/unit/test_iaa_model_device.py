# SPDX-License-Identifier: Apache-2.0
"""The register-level model of the IAA-style device."""

import random
import zlib

import numpy as np
import pytest

from rackgate.csr.map import MAGIC, Access
from rackgate.iaa.abi import (
    PAGE_SIZE,
    PORTAL_SIZE,
    PORTALS,
    REGISTERS,
    WRITE_FAULT,
    Command,
    CommandError,
    Completion,
    DecompressFlag,
    Descriptor,
    DeviceState,
    Flag,
    InterruptCause,
    Opcode,
    PageResponse,
    PageTableEntry,
    QueueState,
    Status,
)
from rackgate_sim.iaa.device import IaaModel
from rackgate_sim.inflate.model import FlatMemory

BASE, SIZE = 0x10000, 1 << 20
RECORDS, TABLES, INPUT, OUTPUT = BASE, BASE + 0x1000, BASE + 0x10000, BASE + 0x80000
TEXT = b"the quick brown fox jumps over the lazy dog " * 50
PLAIN = DecompressFlag.ENABLE | DecompressFlag.STOP_ON_EOB | DecompressFlag.CHECK_FOR_EOB | DecompressFlag.EOB_IS_BFINAL
ASKED = Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION
SHARED, DEDICATED = 0, 1


def deflate(data):
    return zlib.compress(data, 9, wbits=-15)


class Bench:
    """A device, its memory, and a driver of a few lines."""

    def __init__(self, *modes, size=4, **parameters):
        self.memory = FlatMemory(np.zeros(SIZE, np.uint8), BASE)
        self.model = IaaModel(self.memory, **parameters)
        self["IRQ_ENABLE"] = 0xFFFFFFFF
        if modes:
            self.set_up(modes, size)

    def set_up(self, modes, size):
        self["GRP0_WQS"], self["GRP0_ENGINES"] = (1 << len(modes)) - 1, 0xFF
        for queue, mode in enumerate(modes):
            self[f"WQ{queue}_SIZE"], self[f"WQ{queue}_THRESHOLD"] = size, size
            self[f"WQ{queue}_MODE"], self[f"WQ{queue}_LIMITS"] = mode | 1 << 4, 21
        assert self.command(Command.ENABLE_DEVICE) == CommandError.NONE
        for queue in range(len(modes)):
            assert self.command(Command.ENABLE_WQ, queue) == CommandError.NONE

    def __getitem__(self, name):
        return self.model.read_register(REGISTERS[name].offset)

    def __setitem__(self, name, value):
        assert self.model.write_register(REGISTERS[name].offset, value)

    def start(self, command, operand=0, tell=False):
        self["CMD"] = operand | command << 20 | tell << 31

    def command(self, command, operand=0):
        self.start(command, operand)
        for _ in range(1000):
            if not self["CMDSTS"] >> 31:
                return self["CMDSTS"] & 0xFF
            self.model.run(100)
        raise AssertionError("the command does not end")

    def submit(self, descriptor, queue=0, place=0):
        """Whether the last word was answered with OKAY."""
        answers = [self.write(queue, word, int.from_bytes(descriptor.pack()[4 * word:4 * word + 4], "little"), place)
                   for word in range(16)]
        assert all(answers[:-1]) or not any(answers)
        return answers[-1]

    def write(self, queue, word, value, place=0):
        return self.model.write_register(PORTALS + PORTAL_SIZE * queue + 64 * place + 4 * word, value)

    def noop(self, number=0, **fields):
        return Descriptor(fields.pop("opcode", Opcode.NOOP), completion=RECORDS + 64 * number, **fields)

    def job(self, number, data, **fields):
        self.memory.write(INPUT + 0x4000 * number, data)
        fields = {"flags": ASKED, "destination_size": 0x4000, **fields}
        return Descriptor(Opcode.DECOMPRESS, completion=RECORDS + 64 * number, source=INPUT + 0x4000 * number,
                          destination=OUTPUT + 0x4000 * number, source_size=len(data), operation_flags=PLAIN, **fields)

    def record(self, number=0):
        return Completion.unpack(self.memory.read(RECORDS + 64 * number, 64))

    def output(self, number=0):
        return self.memory.read(OUTPUT + 0x4000 * number, self.record(number).output_size)

    def state(self, queue):
        return QueueState(self[f"WQ{queue}_STATE"] >> 30), self[f"WQ{queue}_STATE"] & 0xFFFF


@pytest.fixture
def bench():
    return Bench(SHARED, DEDICATED)


# Registers


def test_identity_and_parameters():
    bench = Bench(engines=4, queues=3, entries=20, contexts=3, window=4096, lanes=8, ports=2, build=0x1122334455667788)
    assert bench["MAGIC"] == MAGIC and bench["DEVICE"] == int.from_bytes(b"IAA ", "little")
    names = ("ENGINES", "QUEUES", "ENTRIES", "CONTEXTS", "WINDOW", "LANES", "PORTS")
    assert [bench[f"PARAM_{name}"] for name in names] == [4, 3, 20, 3, 4096, 8, 2]
    assert (bench["BUILD_LO"], bench["BUILD_HI"]) == (0x55667788, 0x11223344)
    assert bench["WQCAP_LO"] == 20 | 3 << 16 | 1 << 24 and bench["ENGCAP"] == 4
    assert bench["ENGCAP"] == 4 and bench.model.read_register(PORTALS) == 0


def test_what_the_bus_refuses():
    """As the gateware: no register, none that this device has, none to be written."""
    bench = Bench(queues=3)
    for offset in (0x4000, 0x10000, REGISTERS["WQ3_MODE"].offset):
        assert bench.model.read_register(offset) is None and bench.model.write_register(offset, 5) is False
    for name in ("ENGCAP", "COMPLETED", "CYCLES_LO"):
        assert bench.model.write_register(REGISTERS[name].offset, 5) is False
    assert bench.model.write_register(REGISTERS["IRQ_ENABLE"].offset, 5)
    assert bench.model.read_register(REGISTERS["PAGE_RESPONSE"].offset) == 0


@pytest.mark.parametrize("parameters, message", [
    ({"engines": 3}, "engines must be 1, 2, 4 or 8, not 3"),
    ({"ports": 2}, "ports must be 1, 2, 4 or 8 and at most 1, one an engine, not 2"),
    ({"queues": 9}, "queues must be 1 to 8, not 9"),
    ({"entries": 1}, "entries must be 2 to 1024, not 1"), ({"contexts": 0}, "contexts must be 1 to 6, not 0"),
    ({"window": 5}, "window must be 4096 or 32768, not 5"), ({"build": -1}, "build must fit 64 bits, not be -0x1")])
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        Bench(**parameters)


def test_bad_accesses(bench):
    with pytest.raises(ValueError, match="offset must be a multiple of 4, not 0x42"):
        bench.model.read_register(0x42)
    with pytest.raises(ValueError, match="value must fit 32 bits"):
        bench.model.write_register(0x40, 1 << 32)
    with pytest.raises(ValueError, match="cycles must not be negative"):
        bench.model.run(-1)


def test_registers_keep_their_fields():
    bench = Bench(queues=8)
    for name, register in REGISTERS.items():
        if register.access == Access.RW and name != "CMD":
            bench[name] = 0xFFFFFFFF
            assert bench[name] == (sum(bits.mask for bits in register.fields) or 0xFFFFFFFF), name


# Submission


def test_one_job(bench):
    data = deflate(TEXT)
    assert bench.submit(bench.job(0, data + b"rest", flags=ASKED | Flag.REQUEST_INTERRUPT))
    assert bench.state(0) == (QueueState.ENABLED, 1) and bench.record() == Completion()
    passed = bench.model.run(100_000, until_irq=True)
    record = bench.record()
    assert record.status == Status.SUCCESS and bench.output() == TEXT and 0 < record.cycles <= passed
    assert record.completed == len(data) and record.crc == zlib.crc32(TEXT)
    assert bench["INTCAUSE"] == InterruptCause.COMPLETION and bench["COMPLETED"] == 1
    assert (bench["BYTES_IN"], bench["BYTES_OUT"]) == (len(data), len(TEXT))
    bench["INTCAUSE"] = InterruptCause.COMPLETION
    assert not bench.model.irq and not bench.model.busy


def test_a_shared_queue_refuses_at_its_threshold(bench):
    bench["WQ0_THRESHOLD"] = 3
    assert [bench.submit(bench.noop(number)) for number in range(4)] == [True, True, True, False]
    bench.model.run(20)
    assert bench.submit(bench.noop(3))
    bench.model.run(1000)
    assert all(bench.record(number).status == Status.SUCCESS for number in range(4))
    assert bench["COMPLETED"] == 4 and not bench["SWERR0"]


def test_a_full_dedicated_queue_drops(bench):
    assert all(bench.submit(bench.noop(number), 1) for number in range(5))
    assert bench["SWERR0"] == 1 | 1 << 3 | Status.QUEUE_FULL << 8 | 1 << 16
    assert bench["INTCAUSE"] == InterruptCause.SOFTWARE_ERROR
    assert bench.submit(bench.noop(5), 1) and bench["SWERR0"] & 2
    bench.model.run(1000)
    assert bench["COMPLETED"] == 4 and bench.record(4) == Completion()
    bench["SWERR0"] = 3
    assert bench["SWERR0"] & 3 == 0


def test_portal_words(bench):
    words = [int.from_bytes(bench.noop().pack()[k:k + 4], "little") for k in range(0, 64, 4)]
    assert all(bench.write(0, word, words[word], 3) for word in range(9))
    assert not bench.write(0, 12, 0, 3)  # out of order: forgotten
    assert not bench.write(0, 9, words[9], 3)
    assert bench.write(0, 0, words[0], 5)
    assert not bench.write(0, 1, words[1], 6)  # another place does not disturb it
    assert bench.write(1, 0, words[0], 6)  # nor another queue
    assert all(bench.write(0, word, words[word], 5) for word in range(1, 16))
    assert bench.state(0)[1] == 1 and bench.state(1)[1] == 0
    assert not bench.write(2, 0, 0) and not bench.write(7, 0, 0)


def test_queues_that_are_not_enabled_refuse(bench):
    assert bench.command(Command.DISABLE_WQ, 1) == CommandError.NONE
    assert not bench.submit(bench.noop()) and bench.submit(bench.noop(), 1)


def test_drain_descriptor(bench):
    bench.submit(bench.job(0, deflate(TEXT)))
    bench.submit(bench.noop(1, opcode=Opcode.DRAIN))
    bench.submit(bench.noop(2))
    while not bench.record(1).status:
        bench.model.run(1)
        assert not bench.record(2).status
    assert bench.record(0).status == Status.SUCCESS
    bench.model.run(1000)
    assert bench.record(2).status == Status.SUCCESS


def test_priorities_and_turns():
    bench = Bench(SHARED, SHARED, SHARED, size=8, contexts=1)
    bench["WQ2_MODE"] = 15 << 4
    for number in range(9):
        assert bench.submit(bench.noop(number), number % 3)
    order, left = [], set(range(9))
    while left:
        bench.model.run(1)
        done = {number for number in left if bench.record(number).status}
        left -= done
        order += [number % 3 for number in done]
    # Queue 2 goes first; the others take turns.
    assert order == [2, 2, 2, 0, 1, 0, 1, 0, 1]


def test_groups_keep_to_their_engines():
    bench = Bench(engines=2, contexts=1)
    bench["GRP0_WQS"], bench["GRP0_ENGINES"] = 1, 1
    bench["GRP1_WQS"], bench["GRP1_ENGINES"] = 2, 2
    for queue in range(2):
        bench[f"WQ{queue}_SIZE"], bench[f"WQ{queue}_THRESHOLD"] = 4, 4
        bench[f"WQ{queue}_MODE"], bench[f"WQ{queue}_LIMITS"] = 1 << 4, 21
    assert bench.command(Command.ENABLE_DEVICE) == CommandError.NONE
    assert bench.command(Command.ENABLE_WQ, 0) == bench.command(Command.ENABLE_WQ, 1) == CommandError.NONE
    for number in range(3):
        bench.submit(bench.job(number, deflate(TEXT)))
    bench.submit(bench.noop(7), 1)
    bench.model.run(150)
    assert bench.record(7).status and not bench.record(1).status


def test_occupancy_interrupt(bench):
    bench["WQ0_OCCUPANCY_LIMIT"] = 2 | 1 << 16
    for number in range(3):
        bench.submit(bench.noop(number))
    bench.model.run(10_000, until_irq=True)
    assert bench["INTCAUSE"] == InterruptCause.OCCUPANCY and bench.state(0)[1] == 1


def test_list(bench):
    members = [bench.job(1, deflate(TEXT)), bench.noop(2, source=1), bench.job(3, deflate(TEXT[::-1]))]
    bench.memory.write(TABLES, b"".join(member.pack() for member in members))
    bench.submit(Descriptor(Opcode.LIST, completion=RECORDS, source=TABLES, source_size=192))
    bench.model.run(100_000)
    assert bench.record().status == Status.SUCCESS and (bench.record().completed, bench.record().error) == (3, 1)
    assert bench.output(1) == TEXT and bench.output(3) == TEXT[::-1]
    assert bench.record(2).status == Status.RESERVED_NONZERO and bench["COMPLETED"] == 4
    assert bench.record().cycles > bench.record(1).cycles + bench.record(3).cycles


@pytest.mark.parametrize("descriptor, error, address", [
    (Descriptor(completion=RECORDS + 4), Status.COMPLETION_MISALIGNED, RECORDS + 4),
    (Descriptor(completion=0x100), Status.COMPLETION_FAULT, 0x100)])
def test_errors_without_a_record(bench, descriptor, error, address):
    bench.submit(descriptor)
    bench.model.run(1000)
    assert bench["SWERR0"] >> 8 & 0xFF == error and bench["SWERR0"] & 0xD == 0xD
    assert bench["SWERR1"] == descriptor.opcode
    assert bench["SWERR_ADDRESS_HI"] << 32 | bench["SWERR_ADDRESS_LO"] == address
    assert bench["INTCAUSE"] == InterruptCause.SOFTWARE_ERROR


def test_errors_of_descriptors_that_want_no_record(bench):
    bench.submit(Descriptor(0x43, Flag(0)))
    bench.model.run(1000)
    assert bench["COMPLETED"] == 1 and not bench["SWERR0"] and not bench["INTCAUSE"]


def test_write_error(bench):
    bench.submit(Descriptor(Opcode.FILL, completion=RECORDS, destination=0x100, destination_size=8))
    bench.model.run(1000)
    assert bench.record().status == Status.WRITE_ERROR


# Commands


def test_states_of_the_device():
    bench = Bench()
    assert bench["GENSTS"] == DeviceState.DISABLED
    assert bench.command(Command.ENABLE_DEVICE) == CommandError.NO_GROUPS
    bench.set_up([SHARED], 4)
    assert bench["GENSTS"] == DeviceState.ENABLED
    assert bench.command(Command.ENABLE_DEVICE) == CommandError.DEVICE_ENABLED
    bench.submit(bench.job(0, deflate(TEXT)))
    assert bench.command(Command.DISABLE_DEVICE) == CommandError.NONE
    assert bench.record().status == Status.SUCCESS
    assert bench["GENSTS"] == DeviceState.DISABLED and bench.state(0)[0] == QueueState.DISABLED
    for command in (Command.DISABLE_DEVICE, Command.DRAIN_ALL, Command.ABORT_ALL):
        assert bench.command(command) == CommandError.DEVICE_DISABLED
    assert bench.command(Command.ENABLE_WQ) == CommandError.DEVICE_NOT_ENABLED
    assert bench.command(Command.DRAIN_WQ, 1) == CommandError.QUEUE_NOT_ENABLED


def test_commands_that_are_refused(bench):
    for code in (0, 11, 31):
        assert bench.command(code) == CommandError.UNKNOWN_COMMAND
    assert bench.command(Command.ENABLE_WQ, 0) == CommandError.QUEUE_ENABLED
    assert bench.command(Command.ENABLE_WQ, 4) == CommandError.BAD_QUEUE
    for operand in (0, 16, 0x10001):
        assert bench.command(Command.DRAIN_WQ, operand) == CommandError.BAD_QUEUE
    assert bench.command(Command.DRAIN_WQ, 4) == CommandError.QUEUE_NOT_ENABLED
    assert bench.command(Command.RESET_WQ, 4) == CommandError.NONE
    assert bench.command(Command.ENABLE_WQ, 2) == CommandError.QUEUE_IN_NO_GROUP
    bench["GRP0_WQS"] = 7
    for size in (0, 57):
        bench["WQ2_SIZE"] = size
        assert bench.command(Command.ENABLE_WQ, 2) == CommandError.BAD_QUEUE_SIZE
    bench["WQ2_SIZE"] = 56
    assert bench.command(Command.ENABLE_WQ, 2) == CommandError.BAD_QUEUE_PRIORITY
    bench["WQ2_MODE"] = 1 << 4
    for threshold in (0, 57):
        bench["WQ2_THRESHOLD"] = threshold
        assert bench.command(Command.ENABLE_WQ, 2) == CommandError.BAD_QUEUE_MODE
    bench["WQ2_THRESHOLD"], bench["WQ2_LIMITS"] = 56, 22
    assert bench.command(Command.ENABLE_WQ, 2) == CommandError.BAD_TRANSFER_SIZE
    bench["WQ2_LIMITS"] = 21
    assert bench.command(Command.ENABLE_WQ, 2) == CommandError.NONE
    bench.command(Command.DISABLE_WQ, 1)
    bench["WQ0_SIZE"] = 5  # queue 0 keeps its place
    assert bench.command(Command.ENABLE_WQ, 0) == CommandError.BAD_QUEUE_SIZE


def test_command_interrupt_and_one_at_a_time(bench):
    bench.submit(bench.job(0, deflate(TEXT)))
    bench.start(Command.DRAIN_WQ, 1, tell=True)
    assert bench.state(0) == (QueueState.DRAINING, 1) and bench["CMDSTS"] == 1 << 31
    assert not bench.submit(bench.noop(1)) and bench.submit(bench.noop(1), 1)
    bench.start(Command.DISABLE_DEVICE)
    bench.model.run(100_000, until_irq=True)
    assert bench["INTCAUSE"] == InterruptCause.COMMAND_DONE and bench["CMDSTS"] == 0
    assert bench.record().status == Status.SUCCESS
    assert bench.state(0) == (QueueState.ENABLED, 0) and bench["GENSTS"] == DeviceState.ENABLED
    bench["INTCAUSE"] = InterruptCause.COMMAND_DONE
    bench.start(0, tell=True)
    assert bench["INTCAUSE"] == InterruptCause.COMMAND_DONE


@pytest.mark.parametrize("command, operand", [(Command.ABORT_WQ, 1), (Command.ABORT_ALL, 0), (Command.RESET_WQ, 1)])
def test_abort(bench, command, operand):
    for number in range(4):
        bench.submit(bench.job(number, deflate(TEXT)))
    bench.model.run(60)
    assert bench.state(0)[1] == 2
    assert bench.command(command, operand) == CommandError.NONE
    assert [bench.record(number).status for number in range(4)] == [Status.ABORTED] * 4
    assert not bench.memory.read(OUTPUT, 0x10000).strip(b"\0")
    assert bench.state(0) == (QueueState.DISABLED if command == Command.RESET_WQ else QueueState.ENABLED, 0)
    if command != Command.RESET_WQ:
        bench.submit(bench.job(5, deflate(TEXT)))
        bench.model.run(10_000)
        assert bench.output(5) == TEXT


def test_abort_of_a_list(bench):
    bench.memory.write(TABLES, b"".join(bench.job(number, deflate(TEXT)).pack() for number in range(1, 7)))
    bench.submit(Descriptor(Opcode.LIST, completion=RECORDS, source=TABLES, source_size=64 * 6))
    while not bench.record(2).status:
        bench.model.run(10)
    assert bench.command(Command.ABORT_WQ, 1) == CommandError.NONE
    assert (bench.record().status, bench.record().completed) == (Status.ABORTED, 2)
    assert [bench.record(number).status for number in range(1, 5)] == [
        Status.SUCCESS, Status.SUCCESS, Status.ABORTED, Status.IN_PROGRESS]


def test_reset(bench):
    bench.submit(bench.job(0, deflate(TEXT)))
    bench.model.run(20)
    bench.start(Command.RESET_DEVICE)
    assert not bench.model.busy and bench["WQ0_SIZE"] == 0 and bench["GENSTS"] == DeviceState.DISABLED
    assert bench["CYCLES_LO"] == 0 and not bench.record().status


# Translation


class Paged(Bench):
    """Virtual addresses: those of the memory with bit 39 set. Pages are there when they are mapped."""

    VIRTUAL = 1 << 39

    def __init__(self, **parameters):
        super().__init__(**parameters)
        self.free = TABLES + PAGE_SIZE
        self.set_up([SHARED | 1 << 1 | 7 << 8 | 1 << 28], 4)
        self["WQ0_TABLE_LO"], self["WQ0_TABLE_HI"] = TABLES, 0
        for page in range(BASE, BASE + SIZE, PAGE_SIZE):
            self.map(page)

    def entry(self, virtual):
        table = TABLES
        for shift in (39, 30, 21):
            place = table + 8 * (virtual >> shift & 511)
            raw = int.from_bytes(self.memory.read(place, 8), "little")
            if not raw:
                raw, self.free = self.free | 3, self.free + PAGE_SIZE
                self.memory.write(place, raw.to_bytes(8, "little"))
            table = raw & ~0xFFF
        return table + 8 * (virtual >> 12 & 511)

    def map(self, page, bits=PageTableEntry.PRESENT | PageTableEntry.WRITABLE):
        self.memory.write(self.entry(page | self.VIRTUAL), (page | bits).to_bytes(8, "little"))

    def job(self, number, data, block=True, **fields):
        job = super().job(number, data, **fields)
        virtual = {name: getattr(job, name) | self.VIRTUAL for name in ("completion", "source", "destination")}
        return type(job)(**{**job.__dict__, **virtual, "flags": job.flags | Flag.BLOCK_ON_FAULT * block})

    def request(self):
        value = self["PAGE_REQUEST"]
        return value, self["PAGE_ADDRESS_HI"] << 32 | self["PAGE_ADDRESS_LO"]


def test_translated_job():
    bench = Paged()
    bench.submit(bench.job(0, deflate(TEXT)))
    bench.model.run(10_000)
    assert bench.output() == TEXT and bench["TLB_MISSES"] and not bench["PAGE_FAULTS"]


def test_large_page():
    bench = Paged()
    place = bench.entry(bench.VIRTUAL) & ~0xFFF
    directory = bench.free - 2 * PAGE_SIZE
    assert int.from_bytes(bench.memory.read(directory, 8), "little") & ~0xFFF == place
    bench.memory.write(directory, (PageTableEntry.PRESENT | PageTableEntry.WRITABLE | PageTableEntry.LARGE
                                   ).to_bytes(8, "little"))
    bench.submit(bench.job(0, deflate(TEXT)))
    bench.model.run(10_000)
    assert bench.output() == TEXT


@pytest.mark.parametrize("page, write", [(INPUT, False), (OUTPUT, True), (RECORDS, True)])
def test_block_on_fault(page, write):
    bench = Paged()
    bench.map(page, PageTableEntry.PRESENT if write else 0)
    bench.submit(bench.job(0, deflate(TEXT)))
    bench.model.run(10_000, until_irq=True)
    assert bench["INTCAUSE"] == InterruptCause.PAGE_REQUEST
    assert bench.request() == (1 | write << 1 | 7 << 12, page | bench.VIRTUAL)
    bench["INTCAUSE"] = InterruptCause.PAGE_REQUEST
    bench.model.run(10_000)
    assert not bench.record().status
    bench.map(page)
    bench["PAGE_RESPONSE"] = PageResponse.SUCCESS
    assert bench["PAGE_REQUEST"] == 0
    bench.model.run(10_000)
    assert bench.record().status == Status.SUCCESS and bench.output() == TEXT and bench["PAGE_FAULTS"]


@pytest.mark.parametrize("answer", [PageResponse.SUCCESS, PageResponse.INVALID, PageResponse.FAILURE])
def test_pages_that_do_not_come(answer):
    bench = Paged()
    bench.map(OUTPUT, 0)
    bench.submit(bench.job(0, deflate(TEXT)))
    bench.model.run(10_000, until_irq=True)
    bench["PAGE_RESPONSE"] = answer
    bench.model.run(10_000)
    assert bench.record().status == Status.PAGE_FAULT | WRITE_FAULT
    assert bench.record().fault_address == OUTPUT | bench.VIRTUAL
    bench.map(RECORDS, 0)
    bench.submit(bench.job(0, deflate(TEXT), destination_size=0))
    bench.model.run(10_000)
    bench["PAGE_RESPONSE"] = answer
    bench.model.run(10_000)
    assert bench["SWERR0"] >> 8 & 0xFF == Status.COMPLETION_FAULT and bench["SWERR1"] == Opcode.DECOMPRESS | 7 << 8


def test_page_time_out():
    bench = Paged()
    bench["PAGE_TIMEOUT"] = 500
    bench.map(INPUT, 0)
    bench.submit(bench.job(0, deflate(TEXT)))
    bench.model.run(400)
    assert not bench.record().status and bench["PAGE_REQUEST"] & 1
    bench.model.run(400)
    assert bench.record().status == Status.PAGE_REQUEST_TIMEOUT and bench["PAGE_REQUEST"] == 0


def test_fault_without_blocking():
    bench = Paged()
    bench.map(OUTPUT, PageTableEntry.PRESENT)
    bench.submit(bench.job(0, deflate(TEXT), block=False))
    bench.model.run(10_000)
    assert bench.record().status == Status.PAGE_FAULT | WRITE_FAULT and not bench["PAGE_REQUEST"]
    bench["WQ0_MODE"] = bench["WQ0_MODE"] & ~2
    bench.submit(bench.job(1, deflate(TEXT)))
    bench.model.run(10_000)
    assert bench.record(1).status == Status.BAD_FLAGS


def test_several_requests_and_abort():
    bench = Paged()
    for number in range(2):
        bench.map(INPUT + 0x4000 * number, 0)
        bench.submit(bench.job(number, deflate(TEXT)))
    bench.model.run(1000)
    assert bench.request()[1] == INPUT | bench.VIRTUAL
    bench["INTCAUSE"] = InterruptCause.PAGE_REQUEST
    bench.map(INPUT)
    bench["PAGE_RESPONSE"] = PageResponse.SUCCESS
    assert bench["INTCAUSE"] == InterruptCause.PAGE_REQUEST
    assert bench.request()[1] == INPUT + 0x4000 | bench.VIRTUAL
    assert bench.command(Command.ABORT_WQ, 1) == CommandError.NONE
    assert bench["PAGE_REQUEST"] == 0 and bench.record(1).status == Status.ABORTED
    assert bench.record(0).status in (Status.SUCCESS, Status.ABORTED)


def test_random_traffic(seed):
    """Every descriptor that was taken gets one record, whatever else happens."""
    rng = random.Random(seed)
    for _ in range(8):
        bench = Bench(SHARED, DEDICATED, engines=2)
        taken, number = [], 0
        for _ in range(200):
            action = rng.random()
            if action < 0.6 and number < 64:
                queue = rng.randrange(2)
                descriptor = rng.choice([bench.noop(number), bench.noop(number, opcode=Opcode.DRAIN),
                                         bench.noop(number, opcode=rng.randrange(256))])
                before = bench["SWERR0"]
                if bench.submit(descriptor, queue) and before == bench["SWERR0"]:
                    taken.append(number)
                bench["SWERR0"] = 3
                number += 1
            elif action < 0.63:
                bench.command(rng.choice([Command.DRAIN_WQ, Command.ABORT_WQ, Command.ABORT_ALL]), rng.randrange(4))
            else:
                bench.model.run(rng.randrange(200))
        bench.model.run(100_000)
        assert not bench.model.busy and bench["COMPLETED"] == len(taken)
        assert all(bool(bench.record(k).status) == (k in taken) for k in range(number))
