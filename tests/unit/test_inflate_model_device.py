# SPDX-License-Identifier: Apache-2.0
"""The register-level model of the inflate device."""

import zlib

import numpy as np
import pytest

from rackgate.csr.map import MAGIC
from rackgate.inflate.abi import (
    DESCRIPTOR_SIZE,
    REGISTERS,
    Completion,
    Control,
    Descriptor,
    Flag,
    Format,
    Opcode,
    Status,
)
from rackgate_sim.inflate.device import InflateModel
from rackgate_sim.inflate.model import FlatMemory, inflate, same

BASE, SIZE = 0x10000, 1 << 20
RING, RESULTS, INPUT, OUTPUT = BASE, BASE + 0x1000, BASE + 0x10000, BASE + 0x80000
TEXT = b"the quick brown fox jumps over the lazy dog " * 50


class Bench:
    """A device, its memory, and a driver of a few lines."""

    def __init__(self, ring_size: int = 4, **parameters: int) -> None:
        self.memory = FlatMemory(np.zeros(SIZE, np.uint8), BASE)
        self.model = InflateModel(self.memory, **parameters)
        self.tail = 0
        self.ring_size = ring_size
        self.set_up()

    def set_up(self) -> None:
        self.tail = 0
        self["RING_BASE_LO"] = RING
        self["RING_SIZE"] = self.ring_size
        self["IRQ_ENABLE"] = 3
        self["CONTROL"] = Control.ENABLE

    def __getitem__(self, name: str) -> int:
        return self.model.read_register(REGISTERS[name].offset)

    def __setitem__(self, name: str, value: int) -> None:
        self.model.write_register(REGISTERS[name].offset, value)

    def put(self, descriptor: Descriptor | bytes) -> None:
        raw = descriptor if isinstance(descriptor, bytes) else descriptor.pack()
        self.memory.write(RING + DESCRIPTOR_SIZE * (self.tail % self.ring_size), raw)
        self.tail = (self.tail + 1) % 65536
        self["RING_TAIL"] = self.tail

    def job(self, number: int, data: bytes, room: int = 4096, **fields: int) -> Descriptor:
        self.memory.write(INPUT + 0x4000 * number, data)
        return Descriptor(INPUT + 0x4000 * number, len(data), OUTPUT + 0x4000 * number, room, RESULTS + 64 * number,
                          tag=number + 100, **fields)

    def result(self, number: int) -> Completion:
        return Completion.unpack(self.memory.read(RESULTS + 64 * number, 64))

    def output(self, number: int) -> bytes:
        return self.memory.read(OUTPUT + 0x4000 * number, self.result(number).produced)


def test_identity_and_parameters():
    bench = Bench(contexts=3, window=4096, lanes=8, build=0x1122334455667788)
    assert bench["MAGIC"] == MAGIC and bench["DEVICE"] == REGISTERS["DEVICE"].reset
    assert (bench["PARAM_CONTEXTS"], bench["PARAM_WINDOW"], bench["PARAM_LANES"]) == (3, 4096, 8)
    assert (bench["BUILD_LO"], bench["BUILD_HI"]) == (0x55667788, 0x11223344)
    bench["MAGIC"] = 0
    assert bench["MAGIC"] == MAGIC
    for offset in (0x1000, 0x200):  # as the gateware
        assert bench.model.read_register(offset) is None and bench.model.write_register(offset, 1) is False
    assert bench.model.write_register(REGISTERS["MAGIC"].offset, 1) is False


def test_job_with_interrupt():
    bench = Bench()
    data = zlib.compress(TEXT)
    bench.put(bench.job(0, data, format=Format.ZLIB, flags=Flag.LAST | Flag.INTERRUPT))
    assert bench.result(0).status == Status.IN_PROGRESS
    passed = bench.model.run(100_000, until_irq=True)
    assert 0 < passed < 100_000 and bench.model.irq and bench["IRQ_STATUS"] == 1
    result = bench.result(0)
    assert same(inflate(data, Format.ZLIB)[0], Completion(**{**vars(result), "tag": 0}))
    assert result.tag == 100 and 0 < result.started < result.finished == bench.model.cycle == bench["CYCLES_LO"]
    assert bench.output(0) == TEXT
    assert (bench["COMPLETED"], bench["RING_HEAD"]) == (1, 1)
    assert (bench["BYTES_IN"], bench["BYTES_OUT"]) == (len(data), len(TEXT))
    assert bench["BUSY_CYCLES"] == result.finished - result.started
    assert bench.model.run(10, until_irq=True) == 0
    bench["IRQ_STATUS"] = 1
    assert not bench.model.irq and bench.model.run(10, until_irq=True) == 10
    assert not bench.model.busy


def test_no_interrupt_unless_asked_and_enabled():
    bench = Bench()
    bench.put(bench.job(0, zlib.compress(TEXT), format=Format.ZLIB))
    bench.model.run(10_000)
    assert bench["COMPLETED"] == 1 and bench["IRQ_STATUS"] == 0
    bench["IRQ_ENABLE"] = 2
    bench.put(bench.job(0, zlib.compress(TEXT), format=Format.ZLIB, flags=Flag.LAST | Flag.INTERRUPT))
    bench.model.run(10_000)
    assert bench["IRQ_STATUS"] == 1 and not bench.model.irq


def test_ring_wraps_and_contexts_overlap():
    bench = Bench(ring_size=2)
    for round_ in range(5):
        for number in range(2):
            bench.put(bench.job(number, zlib.compress(TEXT[round_:]), format=Format.ZLIB, context=number))
        bench.model.run(10_000)
        assert [bench.output(number) for number in range(2)] == [TEXT[round_:]] * 2
        assert bench.result(1).started < bench.result(0).finished
    assert bench["RING_HEAD"] == 10 and bench["COMPLETED"] == 10


def test_jobs_of_one_context_run_in_order_and_resume():
    bench = Bench(contexts=1)
    data = zlib.compress(TEXT)
    bench.put(bench.job(0, data, 100, format=Format.ZLIB, flags=0))
    bench.model.run(10_000)
    first = bench.result(0)
    assert (first.status, first.produced) == (Status.OUTPUT_OVERFLOW, 100)
    bench.put(bench.job(1, data[first.consumed:], format=Format.ZLIB, flags=Flag.LAST | Flag.RESUME,
                        start_bit=first.consumed_bit))
    bench.put(bench.job(2, data, format=Format.ZLIB))
    bench.model.run(10_000)
    assert bench.output(0) + bench.output(1) == TEXT == bench.output(2)
    assert bench.result(2).started >= bench.result(1).finished


def test_stays_quiet_unless_enabled():
    bench = Bench()
    bench["CONTROL"] = 0
    bench.put(bench.job(0, zlib.compress(TEXT), format=Format.ZLIB))
    assert bench.model.run(1000) == 1000 and bench["RING_HEAD"] == 0 and not bench.model.busy
    bench["CONTROL"] = Control.ENABLE
    bench.model.run(10_000)
    assert bench.output(0) == TEXT


def test_reset_forgets_jobs_and_clears_registers():
    bench = Bench()
    bench.put(bench.job(0, zlib.compress(TEXT), format=Format.ZLIB))
    bench.model.run(20)
    bench["CONTROL"] = Control.RESET | Control.ENABLE
    bench.model.run(10_000)
    assert bench.result(0).status == Status.IN_PROGRESS
    assert not any(bench[name] for name in (
        "CONTROL", "RING_SIZE", "RING_TAIL", "RING_HEAD", "COMPLETED", "IRQ_ENABLE"))
    assert bench["PARAM_CONTEXTS"] == 2
    bench.set_up()
    bench.put(bench.job(0, zlib.compress(TEXT), format=Format.ZLIB))
    bench.model.run(10_000)
    assert bench.output(0) == TEXT and bench["COMPLETED"] == 1


def test_reset_leaves_nothing_to_resume():
    bench = Bench()
    data = zlib.compress(TEXT)
    bench.put(bench.job(0, data[:20], format=Format.ZLIB, flags=0))
    bench.model.run(10_000)
    assert bench.result(0).status == Status.NEED_INPUT
    bench["CONTROL"] = Control.RESET
    bench.set_up()
    bench.put(bench.job(0, data, format=Format.ZLIB, flags=Flag.LAST | Flag.RESUME))
    bench.model.run(10_000)
    assert bench.output(0) == TEXT


def test_interrupt_causes_are_cleared_one_by_one():
    bench = Bench()
    bench.put(bench.job(0, zlib.compress(TEXT), format=Format.ZLIB, flags=Flag.LAST | Flag.INTERRUPT))
    bench.put(_raw(completion=RESULTS + 32))
    bench.model.run(10_000)
    assert bench["IRQ_STATUS"] == 3
    bench["IRQ_STATUS"] = 1
    assert bench["IRQ_STATUS"] == 2 and bench.model.irq


def test_ring_counts_wrap():
    bench = Bench(ring_size=1)
    bench.put(_raw(opcode=9))
    for tail in (0x8000, 0x10000):
        bench["RING_TAIL"] = tail
        bench.model.run(1_000_000)
        assert bench["RING_HEAD"] == tail % 0x10000 == bench["RING_TAIL"] and bench["COMPLETED"] == tail
    assert not bench.model.busy


def test_cycle_counter_is_read_low_word_first():
    bench = Bench()
    bench.model.run(5 << 32 | 77)
    assert (bench["CYCLES_HI"], bench["CYCLES_LO"], bench["CYCLES_HI"]) == (0, 77, 5)


def _raw(**fields: int) -> bytes:
    return Descriptor(**{"source": 0, "source_size": 0, "destination": 0, "destination_size": 0, "completion": RESULTS,
                         **fields}).pack()


def _poke(raw: bytes, offset: int) -> bytes:
    return raw[:offset] + b"\1" + raw[offset + 1:]


@pytest.mark.parametrize(("raw", "status"), [
    (_raw(opcode=0), Status.BAD_OPCODE),
    (_raw(opcode=4, format=3, source_size=1 << 31), Status.BAD_OPCODE),
    (_raw(format=3), Status.BAD_FLAGS),
    (_raw(flags=0x40), Status.BAD_FLAGS),
    (_raw(flags=Flag.CANNED, format=Format.GZIP), Status.BAD_FLAGS),
    (_raw(opcode=Opcode.TABLES, format=Format.ZLIB), Status.BAD_FLAGS),
    (_raw(context=2, start_bit=8), Status.BAD_FLAGS),
    (_raw(start_bit=8), Status.BAD_SIZE),
    (_raw(opcode=Opcode.LOAD, start_bit=1), Status.BAD_SIZE),
    (_poke(_raw(source_size=(1 << 29) - 15), 50), Status.BAD_SIZE),
    (_raw(destination_size=(1 << 32) - 15), Status.BAD_SIZE),
    *((_poke(_raw(), offset), Status.RESERVED_NONZERO) for offset in range(44, 64)),
    (_raw(source=4), Status.ANALYTICS_ERROR),  # an empty source is no fault of the descriptor
])
def test_refused_descriptor(raw: bytes, status: Status):
    bench = Bench()
    bench.put(raw)
    bench.model.run(10_000)
    assert bench.result(0).status == status
    assert bench["COMPLETED"] == 1 and bench["IRQ_STATUS"] == 0


def test_faults():
    bench = Bench()
    bench.put(_raw(completion=RESULTS + 32))
    bench.model.run(1000)
    assert (bench["IRQ_STATUS"], bench["FAULT_ADDR_LO"]) == (2, RESULTS + 32)
    assert (bench["COMPLETED"], bench["RING_HEAD"]) == (0, 1)
    bench["IRQ_STATUS"] = 2
    bench.put(_raw(completion=0x7_0000_0000))
    bench.model.run(1000)
    assert (bench["IRQ_STATUS"], bench["FAULT_ADDR_LO"], bench["FAULT_ADDR_HI"], bench["COMPLETED"]) == (2, 0, 7, 0)
    bench["IRQ_STATUS"] = 2
    bench["RING_BASE_LO"] = BASE + SIZE
    bench["RING_TAIL"] = 3
    bench.model.run(1000)
    assert (bench["IRQ_STATUS"], bench["FAULT_ADDR_LO"], bench["RING_HEAD"]) == (2, BASE + SIZE + 128, 3)


@pytest.mark.parametrize(("fields", "status"), [
    ({"source": BASE + SIZE - 1, "source_size": 2}, Status.READ_ERROR),
    ({"destination": BASE + SIZE - 1}, Status.WRITE_ERROR),
])
def test_bus_errors(fields: dict[str, int], status: Status):
    bench = Bench()
    job = bench.job(0, zlib.compress(TEXT), format=Format.ZLIB)
    bench.put(Descriptor(**{**vars(job), "destination_size": 50, **fields}))
    bench.model.run(10_000)
    assert bench.result(0).status == status and bench["IRQ_STATUS"] == 0 and bench["BYTES_OUT"] == 0
    bench.put(Descriptor(**{**vars(job), "flags": Flag.LAST | Flag.RESUME}))
    bench.model.run(10_000)
    assert bench.output(0) == TEXT  # nothing to resume: it started anew


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Bench(build=1 << 64), "build must fit 64 bits"),
    (lambda: Bench(contexts=9), "contexts must be 1 to 8, not 9"),
    (lambda: Bench(window=8192), "window must be 4096 or 32768, not 8192"),
    (lambda: Bench().model.read_register(2), "offset must be a multiple of 4, not 0x2"),
    (lambda: Bench().model.write_register(-4, 0), "offset must be a multiple of 4"),
    (lambda: Bench().model.write_register(0x40, 1 << 32), "value must fit 32 bits"),
    (lambda: Bench().model.run(-1), "cycles must not be negative, not -1"),
])
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_memory_must_be_bytes():
    with pytest.raises(TypeError, match="array must be one-dimensional of uint8, not 2-dimensional of float64"):
        FlatMemory(np.zeros((2, 2)))
