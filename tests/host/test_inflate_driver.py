# SPDX-License-Identifier: Apache-2.0
import gc
import random
import threading
import zlib

import numpy as np
import pytest

from rackgate.inflate.abi import ErrorCode, Flag, Format, Opcode, ResultFlag, Status
from rackgate_host import DeviceFault, DeviceTimeout, Unavailable, UsageError, inflate
from rackgate_host.inflate import InflateDriver, Job
from rackgate_host.inflate import stream as stream_module
from rackgate_host.inflate.batch import inflate_all


def text(rng, size=2000):
    words = [rng.randbytes(rng.randrange(2, 9)) for _ in range(20)]
    return b"".join(rng.choice(words) for _ in range(size))[:size]


def source(device, content):
    buffer = device.allocate(len(content))
    buffer[:] = np.frombuffer(content, np.uint8)
    return buffer


@pytest.fixture
def driver(device):
    return InflateDriver(device, ring_size=8, verify=True)


def test_one_job(driver, seed):
    content = text(random.Random(seed))
    stream = zlib.compress(content, wbits=31) + b"rest"
    destination = driver.device.allocate(4096)
    (handle,) = driver.submit(Job(source(driver.device, stream), destination, Format.GZIP))
    completion = handle.wait()
    assert (completion.status, completion.error, completion.flags) == (
        Status.SUCCESS,
        ErrorCode.NONE,
        ResultFlag.END,
    )
    assert bytes(destination[: completion.produced]) == content
    assert (completion.consumed, completion.consumed_bit) == (len(stream) - 4, 0)
    assert completion.crc32 == zlib.crc32(content) and completion.total == len(content)
    assert completion.members == 1
    assert completion.finished > completion.started
    assert handle.done() and handle.wait() is completion and driver.in_flight == 0


def test_many_in_flight_with_a_full_ring(driver, seed):
    """Three times as many jobs as the ring holds, submitted at once, waited for out of order."""
    rng = random.Random(seed)
    contents = [text(rng, rng.randrange(1, 3000)) for _ in range(24)]
    destinations = [driver.device.allocate(4096) for _ in contents]
    handles = driver.submit(
        *(
            Job(source(driver.device, zlib.compress(content)), destination, Format.ZLIB)
            for content, destination in zip(contents, destinations, strict=True)
        )
    )
    assert {handle.context for handle in handles} == {0, 1}
    assert driver.in_flight <= 8
    order = list(range(24))
    rng.shuffle(order)
    for k in order:
        completion = handles[k].wait()
        assert completion.status == Status.SUCCESS and completion.tag == handles[k].tag
        assert bytes(destinations[k][: completion.produced]) == contents[k]
    assert driver.in_flight == 0


def test_tags_and_ring_wrap(driver):
    empty = source(driver.device, zlib.compress(b""))
    for k in range(50):
        (handle,) = driver.submit(Job(empty, None, Format.ZLIB))
        assert handle.tag == k
        assert handle.wait().status == Status.SUCCESS


def test_tags_wrap_at_16_bits(model):
    driver = InflateDriver(model, ring_size=2)
    empty = source(model, b"\3\0")
    # As if 65520 jobs had been done.
    driver._tail = model.transport._model._registers["RING_HEAD"] = 0xFFF0
    for k in range(40):
        (handle,) = driver.submit(Job(empty, None, Format.RAW))
        assert handle.tag == 0xFFF0 + k & 0xFFFF
        if k % 2:
            assert handle.wait().status == Status.SUCCESS


def test_resuming_by_hand(driver, seed):
    content = text(random.Random(seed), 5000)
    stream = zlib.compress(content)
    destination = driver.device.allocate(3000)
    (handle,) = driver.submit(
        Job(source(driver.device, stream[:400]), destination, Format.ZLIB, Flag(0), context=1)
    )
    first = handle.wait()
    assert first.status == Status.NEED_INPUT
    output = bytes(destination[: first.produced])
    position = 8 * first.consumed + first.consumed_bit
    while len(output) < len(content):
        rest = source(driver.device, stream[position >> 3 :])
        flags = Flag.RESUME | Flag.LAST
        (handle,) = driver.submit(Job(rest, destination, Format.ZLIB, flags, start_bit=position & 7, context=1))
        step = handle.wait()
        assert step.status in (Status.OUTPUT_OVERFLOW, Status.SUCCESS)
        output += bytes(destination[: step.produced])
        position += 8 * step.consumed + step.consumed_bit - (position & 7)
    assert output == content


@pytest.mark.parametrize(
    ("job", "status"),
    [
        (lambda device: Job(source(device, b"\7"), None, Format.RAW), Status.ANALYTICS_ERROR),
        (lambda device: Job(source(device, b"\7"), None, Format.RAW, start_bit=9), Status.BAD_SIZE),
        (lambda device: Job(None, None, opcode=77), Status.BAD_OPCODE),
        (lambda device: Job(None, None, flags=Flag(1 << 7)), Status.BAD_FLAGS),
    ],
)
def test_statuses(driver, job, status):
    (handle,) = driver.submit(job(driver.device))
    assert handle.wait().status == status


def test_memory_that_is_not_there(connect, world):
    """A completion record outside memory raises FAULT, which the driver tells."""
    device = connect(f"{world}:inflate?memory=1M")
    driver = InflateDriver(device)
    device.regs.RING_BASE_LO.value = 0x2000_0000
    (handle,) = driver.submit(Job(source(device, b"\3\0"), None, Format.RAW))
    with pytest.raises(DeviceFault, match="(?s)could not access 0x2000.*FAULT"):
        handle.wait(cycles=100_000)


def test_a_time_out_names_the_job(driver, seed):
    driver.device.regs.CONTROL.ENABLE = 0
    (handle,) = driver.submit(Job(source(driver.device, b"\3\0"), None, Format.RAW))
    with pytest.raises(DeviceTimeout, match="no completion of job 0 in context 0 after .* cycles") as caught:
        handle.wait(cycles=5000)
    assert "RING_TAIL" in str(caught.value)
    assert not handle.done()
    driver.reset()
    with pytest.raises(DeviceFault, match="job 0 was lost when the device was restarted"):
        handle.wait()
    content = text(random.Random(seed))
    assert inflate.decompress(zlib.compress(content), device=driver) == content


def test_a_stream_goes_on_after_a_time_out(device, seed):
    content = text(random.Random(seed), 5000)
    stream = zlib.compress(content)
    decoder = inflate.decompressobj(device=device)
    output = decoder.decompress(stream[:500])
    device.regs.CONTROL.ENABLE = 0
    driver_timeout, decoder._stream.timeout = decoder._stream.timeout, 0.01
    with pytest.raises(DeviceTimeout):
        decoder.decompress(stream[500:700])
    decoder._stream.timeout = driver_timeout
    # That call has never been: the device restarts, the stream does its input again.
    assert output + decoder.decompress(stream[500:700]) + decoder.decompress(stream[700:]) == content
    assert decoder.eof


@pytest.mark.parametrize("arguments", [{"ring_size": 1}, {"ring_size": 12}, {"ring_size": 65536}])
def test_wrong_ring_sizes(model, arguments):
    with pytest.raises(ValueError, match="ring_size must be a power of two from 2 to 32768, not"):
        InflateDriver(model, **arguments)


def test_wrong_jobs(model):
    driver = InflateDriver(model)
    with pytest.raises(
        TypeError, match="source must be a one-dimensional contiguous buffer of uint8, not uint32 of shape .4,."
    ):
        Job(model.allocate(4, "u4"))
    with pytest.raises(TypeError, match="destination must be"):
        Job(None, model.allocate((2, 2)))
    with pytest.raises(ValueError, match="context must be given with Flag.RESUME"):
        Job(None, flags=Flag.RESUME)
    with pytest.raises(ValueError, match="context must be 0 to 1, not 2"):
        driver.submit(Job(None, context=2))


def test_only_inflate_devices():
    class Other:
        class kind:
            name = "lock"

        url = "sim:lock"

    with pytest.raises(UsageError, match="sim:lock is no inflate device"):
        InflateDriver(Other())


def test_a_device_has_one_driver(model):
    driver = InflateDriver.of(model)
    assert InflateDriver.of(model) is driver
    free = model.allocator.free_bytes
    driver.close()
    assert model.allocator.free_bytes > free
    assert InflateDriver.of(model) is not driver


def test_a_wrong_record_is_found(model):
    driver = InflateDriver(model, verify=True)
    destination = model.allocate(100)
    (handle,) = driver.submit(Job(source(model, zlib.compress(b"abc")), destination, Format.ZLIB))
    model.run(1000)
    destination[0] = ord("x")
    with pytest.raises(
        DeviceFault, match="job 0 has CRC-32 0x.* in memory, 0x352441c2 in its completion record"
    ):
        handle.wait()
    (handle,) = driver.submit(Job(source(model, zlib.compress(b"abc")), destination, Format.ZLIB))
    model.run(1000)
    driver._records[handle._slot][58] ^= 1  # the tag
    with pytest.raises(DeviceFault, match="the completion record of job 1 makes no sense"):
        handle.wait()


def test_more_streams_than_contexts(device, seed):
    """Each change of a context costs its stream a repetition, and no stream notices."""
    rng = random.Random(seed)
    streams = []
    for k in range(5):
        content = text(rng, 3000)
        wbits = (15, -15, 31)[k % 3]
        dictionary = content[:500] if k in (0, 1) else None
        options = {"zdict": dictionary} if dictionary else {}
        encoder = zlib.compressobj(6, zlib.DEFLATED, wbits, **options)
        stream = encoder.compress(content) + encoder.flush()
        streams.append([inflate.decompressobj(wbits, dictionary, device=device), stream, b"", content])
    while live := [entry for entry in streams if not entry[0].eof]:
        entry = rng.choice(live)
        decoder = entry[0]
        size, limit = rng.randrange(1, 600), rng.choice([0, 1, 100, 700])
        piece, entry[1] = entry[1][:size], entry[1][size:]
        entry[2] += decoder.decompress(piece, limit)
        entry[1] = decoder.unconsumed_tail + entry[1]
    for _, _, output, content in streams:
        assert output == content


def test_a_one_shot_call_between_pieces(device, seed):
    rng = random.Random(seed)
    contents = [text(rng, 3000) for _ in range(3)]
    streams = [zlib.compress(content) for content in contents]
    decoders = [inflate.decompressobj(device=device) for _ in range(2)]
    output = [decoder.decompress(stream[:300]) for decoder, stream in zip(decoders, streams, strict=False)]
    assert inflate.decompress(streams[2], device=device) == contents[2]
    for k in range(2):
        assert output[k] + decoders[k].decompress(streams[k][300:]) == contents[k]


def test_copies(device, seed):
    content = text(random.Random(seed), 4000)
    stream = zlib.compress(content)
    decoder = inflate.decompressobj(device=device)
    fresh = decoder.copy()
    begin = decoder.decompress(stream[:300], 100)
    rest = decoder.unconsumed_tail + stream[300:]
    twin = decoder.copy()
    assert begin + twin.decompress(rest) == content and twin.eof and not decoder.eof
    assert begin + decoder.decompress(rest) == content and decoder.eof
    assert fresh.decompress(stream) == content
    done = decoder.copy()
    assert done.eof and done.decompress(b"x") == b"" and done.unused_data == b"x" and decoder.unused_data == b""


def test_what_cannot_be_copied(model, monkeypatch):
    decoder = inflate.decompressobj(device=model)
    with pytest.raises(zlib.error):
        decoder.decompress(b"nonsense")
    with pytest.raises(ValueError, match="Inconsistent stream state"):
        decoder.copy()
    monkeypatch.setattr(stream_module, "RETAINED", 1000)
    decoder = inflate.decompressobj(device=model)
    decoder.decompress(zlib.compress(random.Random(1).randbytes(5000))[:4000])
    with pytest.raises(ValueError, match="its input is not kept"):
        decoder.copy()


def test_long_streams_keep_their_contexts(model, monkeypatch):
    monkeypatch.setattr(stream_module, "RETAINED", 1000)
    rng = random.Random(1)
    contents = [rng.randbytes(5000) for _ in range(3)]
    streams = [zlib.compress(content) for content in contents]
    decoders = [inflate.decompressobj(device=model) for _ in streams]
    output = [decoders[k].decompress(streams[k][:3000]) for k in range(2)]
    with pytest.raises(Unavailable, match="all 2 contexts are held by long streams: finish one"):
        decoders[2].decompress(streams[2])
    assert output[0] + decoders[0].decompress(streams[0][3000:]) == contents[0]
    assert decoders[2].decompress(streams[2]) == contents[2]  # as if the call that failed had never been
    with pytest.raises(DeviceFault, match="lost its context when the device was restarted"):
        InflateDriver.of(model).reset()
        decoders[1].decompress(streams[1][3000:])


def test_a_stream_that_is_dropped_gives_its_context_back(model):
    decoder = inflate.decompressobj(device=model)
    decoder.decompress(zlib.compress(b"abc" * 100)[:10])
    driver = InflateDriver.of(model)
    assert sum(driver._holder(k) is not None for k in range(2)) == 1
    del decoder
    gc.collect()
    assert sum(driver._holder(k) is not None for k in range(2)) == 0


def test_the_least_recently_used_stream_makes_room(model):
    stream = zlib.compress(b"abc" * 100)
    decoders = [inflate.decompressobj(device=model) for _ in range(3)]
    for k in (0, 1, 0, 2):  # 2 needs a context: 1 was used before 0
        decoders[k].decompress(stream[:5] if k != 0 else b"")
        if k == 0 and decoders[0]._stream is None:
            decoders[0].decompress(stream[:5])
        elif k == 0:
            decoders[0].decompress(stream[5:6])
    assert [decoder._stream._context is not None for decoder in decoders] == [True, False, True]


def test_threads(model, seed):
    rng = random.Random(seed)
    contents = [text(rng, 4000) for _ in range(6)]
    results = {}

    def one(k):
        decoder = inflate.decompressobj(device=model)
        stream = zlib.compress(contents[k])
        results[k] = b"".join(decoder.decompress(stream[at : at + 150]) for at in range(0, len(stream), 150))

    threads = [threading.Thread(target=one, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict(enumerate(contents))


def test_batches_keep_all_contexts_busy(device, seed):
    rng = random.Random(seed)
    contents = [text(rng, rng.choice([0, 1, 3000, 20000])) for _ in range(7)]
    inputs = [(zlib.compress(content), Format.ZLIB) for content in contents]
    inputs[2] = (inputs[2][0][:-1] + b"?", Format.ZLIB)
    inputs[3] = (b"", Format.GZIP)
    inputs[4] = (zlib.compress(contents[4], wbits=31) * 2 + bytes(3), Format.GZIP)
    driver = InflateDriver.of(device)
    outcomes = dict(inflate_all(driver, iter(inputs)))
    assert sorted(outcomes) == list(range(7))
    for k, outcome in outcomes.items():
        if k == 2:
            assert outcome.error.error == ErrorCode.ADLER_MISMATCH and outcome.output == contents[k]
        elif k == 3:
            assert "truncated" in str(outcome.error)
        else:
            assert outcome.error is None and outcome.output == contents[k] * (2 if k == 4 else 1)
            assert outcome.cycles > 0
    assert outcomes[4].members == 2
    assert all(driver._holder(k) is None for k in range(driver.contexts)) and driver.in_flight == 0


def test_waiting_for_any(model, seed):
    driver = InflateDriver(model)
    long, short = (source(model, zlib.compress(bytes(n))) for n in (50_000, 10))
    room = model.allocate(50_000)
    handles = driver.submit(Job(long, room, Format.ZLIB), Job(short, room, Format.ZLIB))
    assert driver.wait_any(handles) is handles[1]
    assert not handles[0].done()
    assert driver.wait_any(handles[:1]) is handles[0]
    assert driver.wait_any(handles) is handles[0]
    with pytest.raises(ValueError, match="handles must not be empty"):
        driver.wait_any([])
    with pytest.raises(ValueError, match="at_a_time must be at least 1, not 0"):
        next(inflate_all(driver, [], at_a_time=0))


def test_a_batch_that_is_left_early(model):
    inputs = [(zlib.compress(bytes(100 + k)), Format.ZLIB) for k in range(5)]
    driver = InflateDriver.of(model)
    for _ in inflate_all(driver, inputs):
        break
    gc.collect()
    assert inflate.decompress(inputs[0][0], device=model) == bytes(100)


def test_load_without_source(driver):
    (handle,) = driver.submit(Job(None, opcode=Opcode.LOAD, flags=Flag(0), context=0))
    assert handle.wait().status == Status.SUCCESS
