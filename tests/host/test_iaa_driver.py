# SPDX-License-Identifier: Apache-2.0
"""The accelerator's driver, in each world that has the device."""

import random
import zlib

import numpy as np
import pytest

from rackgate.iaa.abi import Command, Descriptor, Flag, Opcode
from rackgate.inflate.abi import ErrorCode
from rackgate_host import DeviceFault, DeviceTimeout, UsageError, transcript
from rackgate_host.iaa import (
    ChecksumMismatch,
    DecompressFlag,
    FaultLatency,
    Framing,
    IaaDriver,
    IaaError,
    InvalidData,
    Job,
    Pager,
    QueueConfig,
    SoftwareIaa,
    Status,
    StreamState,
    describe,
)
from rackgate_host.iaa import checksums as host_checksums
from rackgate_host.iaa import driver as driver_module
from rackgate_host.sabre.canned import CannedTable, train
from rackgate_sim.iaa import model as golden
from rackgate_sim.iaa.crc64 import crc64

WORLDS = ["model", pytest.param("sim", marks=[pytest.mark.cosim, pytest.mark.xdist_group("iaa")])]
# The model behind a bridge, on a link with faults.
FAR_WORLDS = [pytest.param("udp", marks=pytest.mark.soak)]
#: What every world's device takes: a window of 4 KiB.
WBITS = {Framing.RAW: -12, Framing.ZLIB: 12, Framing.GZIP: 28}
#: The gateware is built small here; behind the bridge time passes slowly, so that queues fill.
BUILD = {"model": "", "udp": "&cycles_per_message=40", "sim": "&contexts=2&window=4096&lanes=8"}
ECMA = 0x42F0E1EBA9EA3693


@pytest.fixture(params=[*WORLDS, *FAR_WORLDS])
def world(request):
    return request.param


@pytest.fixture
def device(connect, world):
    return connect(f"{world}:iaa?memory=16M{BUILD[world]}")


@pytest.fixture
def driver(device):
    return IaaDriver(device)


def text(rng, size=4096):
    words = [rng.randbytes(rng.randrange(2, 9)) for _ in range(20)]
    return b"".join(rng.choice(words) for _ in range(size))[:size]


def deflate(data, framing=Framing.RAW, level=6):
    compressor = zlib.compressobj(level, wbits=WBITS[framing])
    return compressor.compress(data) + compressor.flush()


def put(device, content):
    buffer = device.allocate(len(content))
    buffer[:] = np.frombuffer(content, np.uint8)
    return buffer


def paged(device, **options):
    """A driver of a queue with virtual addresses, and its pager."""
    pager = Pager(device, FaultLatency(**options))
    return IaaDriver(device, queues=[QueueConfig(8, pager=pager)]), pager


# Jobs


@pytest.mark.parametrize("framing", Framing)
def test_one_job(driver, framing, seed):
    content = text(random.Random(seed))
    data = deflate(content, framing)
    source, destination = put(driver.device, data + b"rest"), driver.device.allocate(8192)
    handle = driver.submit(Job.decompress(source, destination, framing))
    assert handle.accepted and driver.in_flight == 1
    completion = handle.wait()
    assert completion.status == Status.SUCCESS and handle.is_success and handle.done()
    assert bytes(destination[:completion.output_size]) == content and completion.completed == len(data)
    assert completion.crc == zlib.crc32(content) and completion.cycles > 0
    assert completion.members == (framing == Framing.GZIP)
    assert handle.wait() is completion and driver.in_flight == 0


def test_crc32c_and_suppressed_output(driver, seed):
    content = text(random.Random(seed))
    source, destination = put(driver.device, deflate(content)), driver.device.allocate(4096)
    completion = driver.submit(Job.decompress(source, destination, crc32c=True)).wait()
    assert completion.crc == golden.crc32c(content) == host_checksums.crc32c(content)
    completion = driver.submit(Job.decompress(source, None)).wait()
    assert (completion.status, completion.crc, completion.output_size) == (Status.SUCCESS, zlib.crc32(content), 4096)


def test_many_in_flight(driver, seed):
    """More jobs than the queue holds, submitted at once, waited for out of order."""
    rng = random.Random(seed)
    contents = [text(rng, rng.randrange(1, 3000)) for _ in range(100)]
    sources = [put(driver.device, deflate(content)) for content in contents]
    destinations = [driver.device.allocate(4096) for _ in contents]
    handles = [driver.submit(Job.decompress(source, destination))
               for source, destination in zip(sources, destinations, strict=True)]
    order = list(range(100))
    rng.shuffle(order)
    for k in order:
        completion = handles[k].wait()
        assert completion.status == Status.SUCCESS
        assert bytes(destinations[k][:completion.output_size]) == contents[k]
    assert driver.in_flight == 0 and driver.refusals > 0


def test_each_job_is_submitted_once(connect, monkeypatch):
    """Where writes to a portal take time, a queue may get room between a refusal and what is seen to after it."""
    device = connect("model:iaa?memory=16M")
    driver = IaaDriver(device, queues=[QueueConfig(2)])
    write_block = device.transport.write_block

    def slow(offset, words):
        device.transport.run(40, until_interrupt=False)
        return write_block(offset, words)

    monkeypatch.setattr(device.transport, "write_block", slow)
    source, destination = put(device, deflate(bytes(500))), device.allocate(500)
    handles = [driver.submit(Job.decompress(source, destination)) for _ in range(60)]
    assert all(handle.wait().status == Status.SUCCESS for handle in handles)
    device.run(10_000)
    assert device.regs.COMPLETED.value == 60 and driver.refusals


def test_without_waiting_for_room(device):
    driver = IaaDriver(device, queues=[QueueConfig(2)], slots=64)
    source, destination = put(device, deflate(bytes(4096))), device.allocate(4096)
    handles = [driver.submit(Job.decompress(source, destination), wait=False) for _ in range(30)]
    assert not handles[-1].accepted and handles[0].accepted
    first = driver.wait_any(handles)
    assert first is handles[0] or first.completion is not None
    while not all(handle.done() for handle in handles):
        device.run(500)
    assert all(handle.is_success for handle in handles)
    late = [driver.submit(Job.noop(), wait=False) for _ in range(10)]
    assert late[-1].wait().status == Status.SUCCESS
    driver.drain()
    assert all(handle.is_success for handle in late)


def test_back_off(device):
    """The longer a queue is full, the more rarely it is tried."""
    driver = IaaDriver(device, queues=[QueueConfig(1)])
    source, destination = put(device, deflate(bytes(400_000))), device.allocate(400_000)
    handles = [driver.submit(Job.decompress(source, destination), wait=False) for _ in range(5)]
    start = device.cycles
    while not handles[-1].done():
        device.run(16)
    assert 5 < driver.refusals < 8 * 5 + (device.cycles - start) // 4096


def test_records_run_out(device):
    driver = IaaDriver(device, slots=2)
    handles = [driver.submit(Job.noop()) for _ in range(9)]
    assert all(handle.wait().status == Status.SUCCESS for handle in handles)
    with pytest.raises(ValueError, match="members must be at most 1, not 2"):
        driver.submit(Job.list([Job.noop(), Job.noop()]))


def test_a_dedicated_queue_is_never_overrun(device):
    driver = IaaDriver(device, queues=[QueueConfig(3, dedicated=True)])
    handles = [driver.submit(Job.noop()) for _ in range(20)]
    assert all(handle.wait().status == Status.SUCCESS for handle in handles)
    assert driver.refusals == 0 and device.regs.SWERR0.VALID == 0


def test_queues_and_groups(connect):
    device = connect("model:iaa?memory=16M&engines=2")
    driver = IaaDriver(device, queues=[QueueConfig(4), QueueConfig(4, group=1, priority=3), QueueConfig(8)])
    assert [device.regs[f"GRP{group}_ENGINES"].value for group in range(2)] == [1, 2]
    assert [device.regs[f"GRP{group}_WQS"].value for group in range(2)] == [5, 2]
    handles = [driver.submit(Job.noop(), queue) for queue in (0, 1, 2)]
    assert all(handle.wait().status == Status.SUCCESS for handle in handles)
    driver.submit(Job.noop(), 1)
    driver.drain(1)
    assert driver.in_flight == 0
    with pytest.raises(ValueError, match="queues must be in at most 2 groups"):
        IaaDriver(device, queues=[QueueConfig(2, group=group) for group in range(3)])


def test_drain_and_list(driver, seed):
    rng = random.Random(seed)
    contents = [text(rng) for _ in range(12)]
    jobs = [Job.decompress(put(driver.device, deflate(content)), driver.device.allocate(4096)) for content in contents]
    handle = driver.submit(Job.list([*jobs, Job.noop()]))
    end = driver.submit(Job.drain())
    assert end.wait().status == Status.SUCCESS
    free = driver.device.allocator.free_bytes
    assert handle.wait().completed == 13 and handle.wait().error == 0
    assert driver.device.allocator.free_bytes > free
    for member, content in zip(handle.members, contents, strict=False):
        assert member.is_success and bytes(member.job.destination) == content
    bad = Job.decompress(put(driver.device, b"\x06\x00"), driver.device.allocate(64))
    handle = driver.submit(Job.list([bad, Job.noop()]))
    assert (handle.wait().status, handle.wait().error) == (Status.SUCCESS, 1)
    assert handle.members[0].completion.error == ErrorCode.BAD_BLOCK_TYPE and handle.members[1].is_success


def test_errors_are_told(driver):
    for job, status in ((Job.of(Descriptor(0x43, Flag(0))), Status.BAD_OPCODE),
                        (Job.of(Descriptor(Opcode.NOOP, Flag.FENCE)), Status.BAD_FLAGS),
                        (Descriptor(Opcode.NOOP, Flag(0), source=8), Status.RESERVED_NONZERO)):
        completion = driver.submit(job).wait()
        assert completion.status == status and describe(completion)


def test_abort_and_reset(device):
    driver = IaaDriver(device)
    source, destination = put(device, deflate(bytes(100_000))), device.allocate(100_000)
    handles = [driver.submit(Job.decompress(source, destination)) for _ in range(6)]
    driver.abort()
    assert handles[-1].wait().status == Status.ABORTED
    driver.submit(Job.noop())
    driver.abort(0)
    driver.drain()
    lost = driver.submit(Job.decompress(source, destination))
    driver.reset()
    assert lost.lost and not lost.done() and driver.in_flight == 0
    with pytest.raises(DeviceFault, match="lost when the device was reset"):
        lost.wait()
    assert driver.submit(Job.noop()).wait().status == Status.SUCCESS


def test_time_out(device):
    driver = IaaDriver(device)
    handle = driver.submit(Job.decompress(put(device, deflate(bytes(100_000))), device.allocate(100_000)))
    with pytest.raises(DeviceTimeout, match="no completion of a job after"):
        handle.wait(cycles=200)
    assert handle.wait().status == Status.SUCCESS


def test_refused_commands_and_software_errors(driver):
    with pytest.raises(DeviceFault, match="ENABLE_WQ with operand 0x0 was refused: QUEUE_ENABLED"):
        driver.command(Command.ENABLE_WQ, 0)
    handle = driver.submit(Job.of(Descriptor(Opcode.NOOP, Flag(0))), wait=False)
    handle.wait()
    words = [int.from_bytes(Descriptor(Opcode.NOOP, completion=4).pack()[k:k + 4], "little") for k in range(0, 64, 4)]
    driver.device.submit_portal(0x8000, words)
    with pytest.raises(DeviceFault, match="COMPLETION_MISALIGNED of operation 0x0 in queue 0 at address 0x4"):
        for _ in range(100):
            driver.device.run(100)
            driver.poll(driver.submit(Job.noop()))


def test_software_errors_of_a_device_that_is_far_away(connect):
    """A message takes longer than these jobs: they are done when first looked at, and nothing is waited for."""
    test_refused_commands_and_software_errors(IaaDriver(connect("udp:iaa?memory=16M")))


def test_bad_arguments(device, connect):
    with pytest.raises(UsageError, match="is no iaa device"):
        IaaDriver(connect("model:inflate?memory=1M"))
    for arguments, message in (({"slots": 1}, "slots must be at least 2"), ({"queues": []}, "queues must be 1 to 4")):
        with pytest.raises(ValueError, match=message):
            IaaDriver(device, **arguments)
    for arguments, message in (({"size": 0}, "size must be at least 1"), ({"size": 1, "priority": 0}, "priority must"),
                               ({"size": 1, "group": 4}, "group must be 0 to 3")):
        with pytest.raises(ValueError, match=message):
            QueueConfig(**arguments)
    driver = IaaDriver(device)
    with pytest.raises(ValueError, match="queue must be 0 to 0, not 1"):
        driver.submit(Job.noop(), 1)
    with pytest.raises(ValueError, match="handles must not be empty"):
        driver.wait_any([])
    with pytest.raises(ValueError, match="members must not be empty"):
        Job.list([])
    with pytest.raises(ValueError, match="neither lists nor drains"):
        Job.list([Job.drain()])
    with pytest.raises(TypeError, match="source must be a one-dimensional"):
        Job.crc64(device.allocate(8, "u4"), 1)
    for make in (lambda: Job.crc64(device.allocate(8), 1 << 64), lambda: Job.fill(device.allocate(8), -1)):
        with pytest.raises(ValueError, match="must fit 64 bits"):
            make()
    with pytest.raises(ValueError, match="framing must be RAW with a table"):
        Job.decompress(device.allocate(8), None, Framing.ZLIB, table=driver.load_table(b""))


# Whole buffers


@pytest.mark.parametrize("framing", Framing)
def test_decompress(driver, framing, seed):
    content = text(random.Random(seed), 20_000)
    data = deflate(content, framing)
    assert driver.decompress(data, framing) == content
    assert driver.decompress(data + b"rest", framing, size=len(content)) == content
    assert driver.decompress(deflate(bytes(300_000), framing), framing) == bytes(300_000)
    assert driver.decompress(deflate(b"", framing), framing) == b""
    assert driver.fallbacks == 0
    if framing == Framing.GZIP:
        assert driver.decompress(data + data, framing) == content * 2


def test_output_of_any_length(driver):
    """More than a transfer may have: in parts, each of which goes on from the one before it."""
    content = bytes(range(256)) * 9000
    assert len(content) > driver.max_transfer
    assert driver.decompress(deflate(content)) == content and driver.fallbacks == 0


@pytest.mark.parametrize("step", [500, 3000])
def test_a_stream_in_pieces(driver, seed, step):
    """Both sides in pieces; the checksums are of all that came so far."""
    content = text(random.Random(seed), 12_000)
    data, device, window = deflate(content), driver.device, driver.device.parameters["window"]
    state = StreamState(device.allocate(StreamState.room(window), alignment=64), window)
    destination, output, begin = device.allocate(1000), b"", 0
    while begin < len(data):
        source = put(device, data[begin:begin + step])
        completion = driver.submit(Job.decompress(source, destination, state=state, partial=True)).wait()
        assert completion.status in (Status.SUCCESS, Status.OUTPUT_OVERFLOW)
        output += destination[:completion.output_size].tobytes()
        assert completion.crc == zlib.crc32(output)
        assert completion.completed or completion.output_size
        begin += completion.completed
        state.advance(completion)
    assert output == content and driver.fallbacks == 0


def test_canned_data_in_parts(driver, seed):
    contents = [text(random.Random(seed), 4096)]
    (table,) = train(contents, 1)
    loaded = driver.load_table(table.header, crc=7, xor_checksum=9)
    assert driver.decompress(table.encode(contents[0]), table=loaded) == contents[0]
    data, window = table.encode(contents[0]), driver.device.parameters["window"]
    state = StreamState(driver.device.allocate(StreamState.room(window), alignment=64), window, loaded)
    source, destination = put(driver.device, data), driver.device.allocate(1024)
    completion, output, begin = None, b"", 0
    while completion is None or completion.status == Status.OUTPUT_OVERFLOW:
        completion = driver.submit(Job.decompress(source[begin:], destination, table=loaded, state=state)).wait()
        output += destination[:completion.output_size].tobytes()
        begin += completion.completed
        state.advance(completion)
    assert output == contents[0] and completion.crc == zlib.crc32(output, 7)


def test_wrong_states(driver):
    device, window = driver.device, driver.device.parameters["window"]
    with pytest.raises(ValueError, match=f"buffer must have {StreamState.room(window)} bytes for a window of"):
        StreamState(device.allocate(64), window)
    state = StreamState(device.allocate(StreamState.room(window), alignment=64), window)
    source, destination = device.allocate(8), device.allocate(8)
    for message, arguments in (
            ("framing must be RAW with a state, not ZLIB", {"framing": Framing.ZLIB, "state": state}),
            ("state must be given with partial", {"partial": True})):
        with pytest.raises(ValueError, match=message):
            Job.decompress(source, destination, **arguments)
    with pytest.raises(ValueError, match="destination must be given with a state"):
        Job.decompress(source, None, state=state)


def test_wrong_data(driver, seed):
    content = text(random.Random(seed))
    data = deflate(content)
    for wrong, arguments in ((data[:-20], {}), (b"\x06\x00", {}), (b"", {}), (data, {"size": 4095}),
                             (data, {"size": 4097}), (zlib.compress(content)[:-1] + b"?", {"framing": Framing.ZLIB})):
        with pytest.raises(InvalidData):
            driver.decompress(wrong, **arguments)
    with pytest.raises(InvalidData, match="BAD_BLOCK_TYPE after 0 bytes of input") as caught:
        driver.decompress(b"\x06\x00")
    assert caught.value.completion.error == ErrorCode.BAD_BLOCK_TYPE
    assert driver.decompress(data) == content


def test_what_the_device_cannot_do_software_does(driver, seed):
    """A preset dictionary is no case for software either; too much data is."""
    large = random.Random(seed).randbytes(3 << 20)
    assert driver.decompress(deflate(large, level=0)) == large
    assert driver.fallbacks == 1 and "more than a job can have" in driver.last_fallback
    compressor = zlib.compressobj(9, zdict=b"dictionary")
    with pytest.raises(InvalidData):
        driver.decompress(compressor.compress(b"dictionary") + compressor.flush(), Framing.ZLIB)


def test_decompress_many(driver, seed):
    rng = random.Random(seed)
    contents = [text(rng, rng.randrange(1, 4097)) for _ in range(300)]
    pages = [deflate(content) for content in contents]
    assert driver.decompress_many(pages) == contents
    assert driver.decompress_many([]) == [] and driver.fallbacks == 0 and driver.in_flight == 0
    with pytest.raises(InvalidData):
        driver.decompress_many([*pages[:5], b"\x06\x00", *pages[5:8]])
    with pytest.raises(InvalidData):
        driver.decompress_many([pages[0], b""])
    with pytest.raises(InvalidData, match="more than 16"):
        driver.decompress_many([deflate(bytes(17))], 16)


def test_canned(driver, seed):
    rng = random.Random(seed)
    contents = [text(rng) for _ in range(20)]
    (table,) = train(contents)
    pages = [table.encode(content) for content in contents]
    loaded = driver.load_table(table.header)
    assert loaded.header == table.header and loaded.address % 32 == 0
    assert driver.decompress(pages[0], table=loaded, size=4096) == contents[0]
    assert driver.decompress_many(pages, table=loaded) == contents
    assert driver.fallbacks == 0
    with pytest.raises(InvalidData):
        driver.decompress(pages[0][:-5], table=loaded)
    # A second table in the place of the first is another table, although the device may remember the address.
    address = loaded.address
    loaded.free()
    other = CannedTable.from_counts([1] * 286, [1] * 30)
    generation = driver.device.regs.AECS_GENERATION.value
    again = driver.load_table(other.header)
    assert again.address == address and driver.device.regs.AECS_GENERATION.value != generation
    assert driver.decompress(other.encode(contents[1]), table=again) == contents[1]


def test_seeds_of_a_table(driver, seed):
    content = text(random.Random(seed))
    table = driver.load_table(b"", crc=zlib.crc32(b"before"), xor_checksum=0x1234)
    source, destination = put(driver.device, deflate(content)), driver.device.allocate(4096)
    completion = driver.submit(Job.decompress(source, destination, table=table)).wait()
    assert completion.crc == zlib.crc32(b"before" + content)
    assert completion.xor_checksum == golden.xor16(content, 0x1234) == host_checksums.xor16(content, 0x1234)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("polynomial", [ECMA, 0x04C11DB7 << 32, 0x1021 << 48, 0])
def test_crc64(driver, polynomial, invert, big_endian, seed):
    data = random.Random(seed).randbytes(1000)
    expected = crc64(data, polynomial, invert=invert, big_endian=big_endian)
    assert driver.crc64(data, polynomial, invert=invert, big_endian=big_endian) == expected
    assert host_checksums.crc64(data, polynomial, invert=invert, big_endian=big_endian) == expected
    assert driver.fallbacks == 0
    assert driver.crc64(b"", polynomial, invert=invert) == crc64(b"", polynomial, invert=invert)
    assert driver.fallbacks == 1


def test_fill(driver):
    buffer = driver.device.allocate(5001)
    driver.fill(buffer, 0x0807060504030201)
    assert bytes(buffer) == (bytes(range(1, 9)) * 626)[:5001]
    driver.fill(buffer[8:16])
    assert bytes(buffer[:24]) == bytes(range(1, 9)) + bytes(8) + bytes(range(1, 9))
    assert driver.fallbacks == 0


# When things go wrong


def test_damaged_memory_is_noticed(driver, seed, monkeypatch):
    """Bytes that change behind the device's back do not pass as output; software does the job instead."""
    content = text(random.Random(seed))
    source, destination = put(driver.device, deflate(content)), driver.device.allocate(4096)
    handle = driver.submit(Job.decompress(source, destination))
    record = driver._records[handle._slot]
    for _ in range(1000):
        driver.device.run(100)
        record.sync_from_device()
        if record[0]:
            break
    assert record[0] == Status.SUCCESS
    destination.sync_from_device()
    destination[100] ^= 4
    destination.sync_to_device()
    with pytest.raises(ChecksumMismatch, match="XOR checksum"):
        handle.wait()
    assert driver.in_flight == 0

    check = Job.check

    def damaged(job, completion):
        if job.destination is not None:
            job.destination[7] ^= 1
        check(job, completion)

    monkeypatch.setattr(Job, "check", damaged)
    assert driver.decompress(deflate(content)) == content
    assert driver.fallbacks == 1 and "XOR checksum" in driver.last_fallback
    assert driver.decompress_many([deflate(content)] * 3) == [content] * 3
    assert driver.fallbacks == 4


def test_a_device_that_hangs(driver, seed, monkeypatch):
    content = text(random.Random(seed))
    monkeypatch.setattr(driver, "_wait", lambda *arguments: (_ for _ in ()).throw(DeviceTimeout("it hangs")))
    assert driver.decompress(deflate(content)) == content
    assert driver.in_flight == 0  # the device was reset: nobody waits for it
    assert driver.decompress_many([deflate(content)] * 3) == [content] * 3
    assert driver.crc64(content, ECMA) == crc64(content, ECMA)
    buffer = driver.device.allocate(100)
    driver.fill(buffer, 1)
    assert bytes(buffer) == (b"\1" + bytes(7)) * 12 + b"\1\0\0\0"
    assert driver.last_fallback == "it hangs" and driver.fallbacks >= 4
    monkeypatch.undo()
    assert driver.decompress(deflate(content)) == content and driver.submit(Job.noop()).wait()


def test_open_without_a_device(monkeypatch, seed):
    content = text(random.Random(seed))
    (table,) = train([content])
    monkeypatch.delenv(driver_module.ENVIRONMENT, raising=False)
    monkeypatch.setattr(driver_module, "_DEFAULT_URL", "uart:/dev/nothing")
    with IaaDriver.open() as iaa:
        assert isinstance(iaa, SoftwareIaa) and "uart:/dev/nothing: the serial port" in iaa.note
        for framing in Framing:
            assert iaa.decompress(deflate(content, framing), framing) == content
            assert iaa.decompress(deflate(content, framing), framing, size=4096) == content
        loaded = iaa.load_table(table.header)
        assert iaa.decompress_many([table.encode(content)] * 3, table=loaded) == [content] * 3
        assert iaa.crc64(content, ECMA) == crc64(content, ECMA)
        assert iaa.fallbacks == 10
        for wrong, size in ((deflate(content)[:-9], None), (deflate(content), 4095), (b"\x06\x00", None)):
            with pytest.raises(InvalidData):
                iaa.decompress(wrong, size=size)
        with pytest.raises(InvalidData, match="page 1 holds 17 bytes, more than 16"):
            iaa.decompress_many([deflate(b""), deflate(bytes(17))], 16)
        loaded.free()
    with pytest.raises(UsageError, match="unknown device"):
        IaaDriver.open("model:nothing")


@pytest.mark.parametrize("world", WORLDS, indirect=True)
def test_open(world, monkeypatch):
    with IaaDriver.open(f"{world}:iaa?memory=4M{BUILD[world]}") as driver:
        assert driver.note is None and driver.decompress(deflate(b"abc")) == b"abc"
        device = driver.device
        assert IaaDriver.of(device) is driver
    assert device.closed
    driver.close()
    monkeypatch.setenv(driver_module.ENVIRONMENT, "model:iaa?memory=4M")
    with IaaDriver.open() as driver:
        assert driver.decompress(deflate(b"abc")) == b"abc"


def test_close_leaves_a_device_that_was_given(connect):
    device = connect("model:iaa?memory=4M")
    free = device.allocator.free_bytes
    with IaaDriver(device) as driver:
        driver.decompress(deflate(b"abc"))
    assert not device.closed and device.driver is None and device.allocator.free_bytes == free
    assert IaaDriver.of(device).decompress(deflate(b"abc")) == b"abc"


# Page faults


def test_latency_has_its_shape(seed):
    latency = FaultLatency(clock=1e6, seed=seed)
    drawn = np.array([latency.cycles() for _ in range(50_000)])
    assert drawn.min() >= 1 and drawn.max() <= 556
    assert 0.965 < (drawn <= 10).mean() < 0.975
    assert 8.5 < drawn.mean() - 0.5 < 9.5  # drawn is rounded up to whole microseconds
    again = FaultLatency(clock=1e6, seed=seed)
    assert [again.cycles() for _ in range(10)] == drawn[:10].tolist()
    with pytest.raises(ValueError, match="clock must be positive"):
        FaultLatency(clock=0)


def test_page_faults_are_served(device, seed):
    rng = random.Random(seed)
    driver, pager = paged(device, clock=1e7, seed=seed)
    content = text(rng, 40_000)
    source = device.allocate(65536, alignment=4096)
    data = deflate(content)
    source[:len(data)] = np.frombuffer(data, np.uint8)
    destination = device.allocate(40_960, alignment=4096)
    assert driver.submit(Job.decompress(source[:len(data)], destination)).wait().status == Status.SUCCESS
    assert pager.served == 0
    for _ in range(5):
        destination[:] = 0
        lacking = 0
        for page in range(10):
            action = rng.choice([pager.take_away, pager.protect, None])
            if action:
                action(destination[4096 * page:4096 * (page + 1)])
                lacking += 1
        pager.take_away(source[:4096])
        served = pager.served
        completion = driver.submit(Job.decompress(source[:len(data)], destination)).wait()
        assert completion.status == Status.SUCCESS and bytes(destination[:40_000]) == content
        assert pager.served - served == lacking + 1
        assert completion.cycles >= 10 * lacking  # at 10 MHz a page takes a microsecond at least
    assert pager.refused == 0 and device.regs.PAGE_FAULTS.value >= pager.served


def test_many_page_faults_with_a_full_queue(device, seed):
    rng = random.Random(seed)
    driver, pager = paged(device, clock=1e6, seed=seed)
    contents = [text(rng) for _ in range(40)]
    jobs = []
    for content in contents:
        destination = device.allocate(4096, alignment=4096)
        pager.take_away(destination)
        jobs.append(Job.decompress(put(device, deflate(content)), destination))
    handles = [driver.submit(job) for job in jobs]
    for handle, content in zip(handles, contents, strict=True):
        assert handle.wait().status == Status.SUCCESS and bytes(handle.job.destination) == content
    assert pager.served == 40


def test_pages_that_never_come(device, seed):
    content = text(random.Random(seed))
    driver, pager = paged(device)
    source, destination = put(device, deflate(content)), device.allocate(4096, alignment=4096)
    pager.take_away(destination, for_good=True)
    completion = driver.submit(Job.decompress(source, destination)).wait()
    assert completion.status == Status.PAGE_FAULT | 0x80 and completion.fault_address == destination.device_address
    assert "a page was not there to write" in describe(completion) and pager.refused == 1
    pager.give_back(destination)
    assert driver.submit(Job.decompress(source, destination)).wait().status == Status.SUCCESS
    pager.take_away(destination)
    completion = driver.submit(Job.decompress(source, destination, block=False)).wait()
    assert completion.status == Status.PAGE_FAULT | 0x80 and completion.output_size == 0


def test_software_does_what_faults(device, seed):
    content = text(random.Random(seed))
    driver, pager = paged(device)
    assert driver.decompress(deflate(content)) == content and driver.fallbacks == 0
    pager.take_away(driver._scratch["destination"], for_good=True)
    assert driver.decompress(deflate(content)) == content
    assert driver.fallbacks == 1 and "a page was not there" in driver.last_fallback
    assert driver.decompress_many([deflate(content)] * 2) == [content] * 2


# Transcripts and registers


def test_transcript(connect, tmp_path, seed):
    """A run is recorded, and replayed on a fresh device; a full queue's refusals do not show."""
    rng = random.Random(seed)
    contents = [text(rng, 500) for _ in range(12)]
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path, engines in zip(paths, (1, 1), strict=True):
        device = connect("model:iaa?memory=4M", engines=engines)
        with transcript.record(device, path):
            driver = IaaDriver(device, queues=[QueueConfig(3)])
            sources = [put(device, deflate(content)) for content in contents]
            destinations = [device.allocate(512) for _ in contents]
            for handle in [driver.submit(Job.decompress(source, destination))
                           for source, destination in zip(sources, destinations, strict=True)]:
                assert handle.wait().status == Status.SUCCESS
        assert driver.refusals > 0
    count = transcript.compare(*paths)
    assert transcript.replay(paths[0], connect("model:iaa?memory=4M")) == count


def test_blocks_of_words(connect):
    device = connect("model:iaa?memory=4M")
    assert not device.write_block(0x8000, [0] * 16)
    assert device.write_block(device.map["IRQ_ENABLE"].offset, [5]) and device.regs.IRQ_ENABLE.value == 5
    for offset, words in ((2, [0]), (0, []), (0, [1 << 32])):
        with pytest.raises(ValueError, match="a block must be words"):
            device.write_block(offset, words)
    with pytest.raises(DeviceFault, match="the device refused it"):
        device.write_register(0x8000, 0)
    with pytest.raises(DeviceTimeout, match="no room after"):
        device.submit_portal(0x8000, [0] * 16, cycles=1000, what="room")


def test_what_errors_say():
    assert issubclass(InvalidData, IaaError) and issubclass(InvalidData, ValueError)
    descriptor = Descriptor(Opcode.DECOMPRESS, Flag(0), operation_flags=DecompressFlag.BIG_ENDIAN)
    assert "(0x2100000000)" in describe(golden.check(descriptor))
    assert describe(golden.Completion(0x3D)) == "unknown status 0x3d"
