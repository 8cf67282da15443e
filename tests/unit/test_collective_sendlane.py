# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""collective.SendLane against plain Python: memory and kernel's streams to packets."""

import random

import pytest
from collective_lane_bench import (
    BASE,
    clock,
    fields,
    halved,
    header,
    kernel_words,
    memory_of,
    payload_bytes,
    sender,
    taker,
    watched,
)

from rackgate.collective.lanes.sendlane import SendLane
from rackgate.verif.stimulus import AXI4Memory, simulate

SIZE = 0x4000


def segment(rng, *, size, address=BASE, from_stream=0, compress=0, move=None, last=None):
    """A SendSegment."""
    return {"move": rng.randrange(16) if move is None else move, "last": rng.randrange(2) if last is None else last,
            "address": address, "from_stream": from_stream, "size": size, "compress": compress,
            "header": header(rng, size // 2 if compress else size)}


def run(segments, *, width=8, seed=1, stall=0.3, bad=(), kernel=(), latency=0, convert=True):
    """Send segments; return headers, packets, retirements, the memory, and the cycle of each retirement."""
    rng = random.Random(seed)
    memory = memory_of(rng, SIZE)
    model = AXI4Memory(memory, base=BASE, rng=random.Random(seed + 1) if stall else None, stall=stall, bad=bad,
                       width=width, latency=latency)
    dut = SendLane(width, convert=convert)
    results = {"memory": memory, "cycles": []}

    words = sum(-(-each["header"]["size"] // width) for each in segments)
    simulate(watched(dut, "header", "payload", "retired", "ar"), sender(dut.i, segments, seed + 2, stall),
             sender(dut.kernel, kernel, seed + 3, stall),
             taker(results, "header", dut.header, len(segments), seed + 4, stall),
             taker(results, "payload", dut.payload, words, seed + 5, stall),
             taker(results, "retired", dut.retired, len(segments), seed + 6, stall),
             clock(results["cycles"], dut.retired, len(segments)), models=[model.reader(dut.ar, dut.r)])
    return results


def check(segments, results, *, width, kernel=b"", bad=()):
    """Compare everything that came out with what must."""
    assert [fields(each) for each in results["header"]] == [each["header"] for each in segments]
    packets = iter(payload_bytes(results["payload"], width))
    place = 0
    for each, retired in zip(segments, results["retired"], strict=True):
        if each["from_stream"]:
            content, touched = kernel[place:place + each["size"]], ()
            place += each["size"]
        else:
            start = each["address"] - BASE
            content = bytes(results["memory"][start:start + each["size"]])
            first = each["address"] // width * width
            touched = range(first, -(-(each["address"] + each["size"]) // width) * width)
        is_bad = bool(each["size"]) and any(address in touched for address in bad)
        assert (retired.move, retired.read_error, retired.write_error) == (each["move"], is_bad, 0)
        if each["size"]:
            sent, error = next(packets)
            assert error == is_bad
            assert len(sent) == each["header"]["size"]
            if not is_bad:
                assert sent == (halved(content) if each["compress"] else content)
    assert next(packets, None) is None


def random_segments(rng, count, *, convert=True):
    segments, kernel = [], b""
    for _ in range(count):
        compress = convert and rng.random() < 0.4
        size = 4 * rng.choice([0, rng.randrange(10), rng.randrange(70), 64])
        size = size if compress else max(0, size - rng.choice([0, 0, 1, 2]))
        from_stream = rng.random() < 0.3
        address = BASE + rng.randrange(SIZE - 300)
        segments.append(segment(rng, size=size, address=address // 4 * 4 if compress else address,
                                from_stream=from_stream, compress=compress))
        if from_stream:
            kernel += bytes(memory_of(rng, 4 * -(-size // 4)))[:size]
    return segments, kernel


def kernel_stream(segments, kernel, width, rng):
    words, place = [], 0
    for each in segments:
        if each["from_stream"]:
            words += kernel_words(kernel[place:place + each["size"]], width, rng)
            place += each["size"]
    return words


WIDTHS = [(4, True), (8, True), (8, False), (16, True), (64, True)]


def random_run(rng, count, width, convert, stall):
    segments, kernel = random_segments(rng, count, convert=convert)
    bad = {BASE + rng.randrange(SIZE) for _ in range(4)}
    results = run(segments, width=width, seed=rng.randrange(1000), stall=stall, bad=bad, convert=convert,
                  kernel=kernel_stream(segments, kernel, width, rng), latency=rng.choice([0, 10]))
    check(segments, results, width=width, kernel=kernel, bad=bad)


@pytest.mark.thorough
@pytest.mark.parametrize("width, convert", WIDTHS)
def test_random(seed, width, convert):
    random_run(random.Random(f"{seed} {width}"), 24, width, convert, 0.3)


@pytest.mark.soak
@pytest.mark.parametrize("round", range(8))
@pytest.mark.parametrize("width, convert", [*WIDTHS, (32, True)])
def test_random_long(seed, width, convert, round):
    rng = random.Random(f"{seed} {width} {round}")
    random_run(rng, 100, width, convert, rng.choice([0, 0.1, 0.3, 0.7]))


@pytest.mark.thorough
@pytest.mark.parametrize("size, shift, cycles", [(1024, 0, 128), (64, 0, 8), (1024, 3, 129), (64, 5, 9)])
def test_throughput(size, shift, cycles):
    """Segments follow each other without a gap."""
    rng = random.Random(size)
    segments = [segment(rng, size=size, address=BASE + rng.randrange(16) * 8 + shift) for _ in range(8)]
    results = run(segments, stall=0, latency=20)
    check(segments, results, width=8)
    assert results["cycles"][-1] - results["cycles"][0] == 7 * cycles


def test_compressed_throughput():
    rng = random.Random(1)
    segments = [segment(rng, size=2048, compress=1) for _ in range(4)]
    results = run(segments, stall=0, latency=20)
    check(segments, results, width=8)
    assert results["cycles"][-1] - results["cycles"][0] == 3 * 256


def test_kernel_words_of_wrong_size():
    """The segment is as long as it must be, and tells."""
    rng = random.Random(1)
    segments = [segment(rng, size=20, from_stream=1) for _ in range(4)]
    contents = [rng.randbytes(20) for _ in segments]
    kernel = [word for content in contents for word in kernel_words(content, 8, rng)]
    kernel[1]["count"] = 5  # short before the end
    kernel[3 + 2]["count"] = 8  # too long at the end
    kernel[6]["error"] = 1
    results = run(segments, kernel=kernel)
    assert [each.read_error for each in results["retired"]] == [1, 1, 1, 0]
    packets = payload_bytes(results["payload"], 8)
    assert [len(content) for content, _ in packets] == [20] * 4
    assert [error for _, error in packets] == [1, 1, 1, 0]
    assert packets[3][0] == contents[3]


def test_kernel_is_skipped():
    """What a kernel does not give is zeros while it is skipped, and nothing hangs."""
    rng = random.Random(1)
    segments = [segment(rng, size=size, from_stream=1) for size in (24, 16, 0, 8)]
    dut = SendLane(8)
    content = rng.randbytes(16)
    results = {}

    async def skip(ctx):
        await ctx.tick().repeat(60)
        ctx.set(dut.skip_kernel, 1)

    simulate(dut, sender(dut.i, segments, 1, 0), sender(dut.kernel, kernel_words(content, 8, rng), 1, 0), skip,
             taker(results, "header", dut.header, 4, 2, 0), taker(results, "payload", dut.payload, 6, 3, 0.3),
             taker(results, "retired", dut.retired, 4, 4, 0.3))
    assert [each.read_error for each in results["retired"]] == [1, 1, 0, 1]
    assert payload_bytes(results["payload"], 8) == [(content + bytes(8), 1), (bytes(16), 1), (bytes(8), 1)]


def test_bare_headers_need_no_memory():
    """Empty segments retire in order among others, and only after their headers."""
    rng = random.Random(1)
    segments = [segment(rng, size=size) for size in (0, 0, 64, 0, 8, 0, 0)]
    results = run(segments, seed=3, stall=0.5)
    check(segments, results, width=8)


@pytest.mark.parametrize("arguments, message", [
    ({"width": 2}, "width must be one of"), ({"width": 8, "id": 16}, "id must fit"),
])
def test_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        SendLane(**arguments)
