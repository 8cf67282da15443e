# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""collective.ReceiveLane against plain Python: packets, memory and kernels' streams, reduced, kept and passed on."""

import random

import numpy as np
import pytest
from collective_lane_bench import (
    BASE,
    clock,
    expanded,
    fields,
    halved,
    header,
    kernel_words,
    memory_of,
    packet_words,
    packetizer,
    payload_bytes,
    sender,
    taker,
    watched,
)

from rackgate.arith.abi import ElementType, Function
from rackgate.collective.lanes.receivelane import ReceiveLane, built_types
from rackgate.verif.stimulus import AXI4Memory, send, simulate

SIZE = 0x2000
#: Results go here, each to a place of its own; operands come from below.
RESULTS = 0x1000


def segment(rng, *, size, **values):
    """A ReceiveSegment of ``size`` bytes; what is not given is random where it must not matter."""
    values = {"move": rng.randrange(32), "last": rng.randrange(2), "has_packet": 0, "slot": rng.randrange(256),
              "packet_size": size, "expand": 0, "has_other": 0, "other": BASE, "has_local": 0, "from_stream": 0,
              "local": BASE, "reduce": 0, "function": Function.SUM, "element": ElementType.INT32, "size": size,
              "to_memory": 0, "to_stream": 0, "result": BASE + RESULTS, "send": 0, "compress": 0, **values}
    return {**values, "header": header(rng, size // 2 if values["compress"] else size)}


def combined(function, element, a, b):
    """function(a, b), element by element."""
    a, b = (np.frombuffer(each, dtype=ElementType(element).dtype) for each in (a, b))
    with np.errstate(over="ignore", invalid="ignore"):
        result = {Function.SUM: np.add, Function.MAX: np.maximum, Function.MIN: np.minimum}[function](a, b)
    if ElementType(element).format is not None:
        result[np.isnan(result)] = np.copysign(np.nan, 1)
    return result.tobytes()


class Golden:
    """What must come out for segments, one after the other."""

    def __init__(self, memory, width, packets, kernel, bad):
        self.memory, self.width = bytearray(memory), width
        self.packets, self.kernel, self.bad = iter(packets), kernel, set(bad)
        self.place = 0
        self.sent, self.streamed, self.retired, self.freed, self.reads = [], [], [], [], []
        self.unknown = set()  # addresses of which nothing is said: written after a read error
        self._stream, self._is_bad = bytearray(), False

    def _fetch(self, address, size):
        first, end = address // self.width * self.width, -(-(address + size) // self.width) * self.width
        is_bad = size and any(each in self.bad for each in range(first, end))
        return bytes(self.memory[address - BASE:address - BASE + size]), bool(is_bad)

    def step(self, each):
        """One segment."""
        size, second, first, is_bad = each["size"], None, None, False
        if each["has_packet"]:
            self.freed.append(each["slot"])
            content, error = next(self.packets)
            if each["packet_size"]:
                self.reads.append((each["slot"], each["packet_size"]))
            second = expanded(content) if each["expand"] else content
            is_bad |= bool(error and content) and len(second) <= size  # an error of what is thrown away is not seen
            second = (second + bytes(size))[:size]
        elif each["has_other"]:
            second, error = self._fetch(each["other"], size)
            is_bad |= error
        if (second is None or each["reduce"]) and each["from_stream"]:
            first = self.kernel[self.place:self.place + size]
            self.place += size
        elif (second is None or each["reduce"]) and each["has_local"]:
            first, error = self._fetch(each["local"], size)
            is_bad |= error
        if first is not None and second is not None:
            result = combined(each["function"], each["element"], second, first)
        else:
            result = second if second is not None else first if first is not None else bytes(size)
        self._deliver(each, result, is_bad)

    def _deliver(self, each, result, is_bad):
        size, address = each["size"], each["result"]
        if each["send"] and each["compress"]:
            result = halved(result)
        if each["send"] and size:
            self.sent.append((result, is_bad))
        if each["send"] and each["compress"]:
            result = expanded(result)
        is_written = each["to_memory"] and size
        self.retired.append((each["move"], is_bad, bool(is_written and self.bad & {*range(address, address + size)})))
        if is_written:
            self.unknown |= {each for each in range(address, address + size) if is_bad or each in self.bad}
            self.memory[address - BASE:address - BASE + size] = result
        if each["to_stream"] and size:
            self._stream += result
            self._is_bad |= is_bad
            if each["last"]:
                self.streamed.append((bytes(self._stream), self._is_bad))
                self._stream, self._is_bad = bytearray(), False


class Buffer:
    """Receive buffers: they take a command when all but a few words of the last one are out."""

    def __init__(self, dut, packets, rng, stall):
        self.dut, self.packets, self.rng, self.stall = dut, packets, rng, stall
        self.reads, self.words, self.given = [], [], 0

    async def read(self, ctx):
        for words in self.packets:
            valid = ready = False
            while not (valid and ready):
                ready = len(self.words) - self.given <= 3 and self.rng.random() >= self.stall
                ctx.set(self.dut.read.ready, ready)
                _, _, valid, command = await ctx.tick().sample(self.dut.read.valid, self.dut.read.payload)
            self.reads.append((command.slot, command.size))
            self.words += words
        ctx.set(self.dut.read.ready, 0)

    async def give(self, ctx):
        while self.given < sum(map(len, self.packets)):
            if self.given < len(self.words):
                await send(ctx, self.dut.packet, [self.words[self.given]], rng=self.rng, idle=self.stall)
                self.given += 1
            else:
                await ctx.tick()


def run(segments, packets=(), *, width=8, seed=1, stall=0.3, bad=(), kernel=b"", latency=0, convert=True, **parameters):
    """Run segments through a lane and compare everything that comes out; return the cycles of the retirements."""
    rng = random.Random(seed)
    memory = memory_of(rng, SIZE)
    golden = Golden(memory, width, packets, kernel, bad)
    for each in segments:
        golden.step(each)
    models = [AXI4Memory(memory, base=BASE, rng=random.Random(seed + salt) if stall else None, stall=stall, bad=bad,
                         width=width, latency=latency) for salt in range(3)]
    dut = ReceiveLane(width, convert=convert, **parameters)
    results, cycles = {}, []
    words = [packet_words(content, width, error=error, seed=index)
             for index, (content, error) in enumerate(packets) if content]
    kernel_in, place = [], 0
    for each in segments:
        if each["from_stream"] and (each["reduce"] or not (each["has_packet"] or each["has_other"])):
            kernel_in += kernel_words(kernel[place:place + each["size"]], width, rng)
            place += each["size"]
    sizes = [each["header"]["size"] for each in segments if each["send"]]
    counts = {
        "kernel_out": sum(-(-each["size"] // width) for each in segments if each["to_stream"]),
        "free": len(golden.freed), "retired": len(segments),
    }
    takers = [taker(results, name, getattr(dut, name), count, seed + 10 + salt, stall)
              for salt, (name, count) in enumerate(counts.items())]
    takers.append(packetizer(results, dut.header, dut.payload, sizes, seed + 20, stall))
    outputs = watched(dut, *counts, "header", "payload", "read", "ar_local", "ar_other", "aw", "w")
    buffer = Buffer(dut, words, random.Random(seed + 5), stall)
    simulate(outputs, sender(dut.i, segments, seed + 4, stall), buffer.read, buffer.give,
             sender(dut.kernel, kernel_in, seed + 6, stall), *takers, clock(cycles, dut.retired, len(segments)),
             models=[models[0].reader(dut.ar_local, dut.r_local), models[1].reader(dut.ar_other, dut.r_other),
                     models[2].writer(dut.aw, dut.w, dut.b)])
    assert [fields(each) for each in results["header"]] == [each["header"] for each in segments if each["send"]]
    compare(payload_bytes(results["payload"], width), golden.sent)
    compare(stream_bytes(results["kernel_out"], width), golden.streamed)
    assert buffer.reads == golden.reads
    assert [each.slot for each in results["free"]] == golden.freed
    assert [(each.move, each.read_error, each.write_error) for each in results["retired"]] == golden.retired
    for index, value in enumerate(memory):
        assert BASE + index in golden.unknown or value == golden.memory[index], f"byte {index:#x}"
    return cycles


def compare(got, expected):
    """Lists of (content, error): what ended in an error has only its size."""
    assert [(len(content), error) for content, error in got] == [(len(content), error) for content, error in expected]
    for (content, error), (golden, _) in zip(got, expected, strict=True):
        assert error or content == golden


def stream_bytes(words, width):
    """Words of a kernel's stream, up to the last whole move."""
    while words and not words[-1].last:
        words.pop()
    return payload_bytes(words, width)


def random_segments(rng, count, width, types, *, convert=True):
    """Segments of every kind, their packets as (content, error), and the kernel's bytes."""
    segments, packets, kernel, place = [], [], b"", RESULTS
    while len(segments) < count and place < SIZE - 600:
        element = rng.choice(sorted(types))
        is_float, scale = convert and rng.random() < 0.4, element.size  # of 32 bits: they can be converted
        if is_float:
            element, scale = ElementType.FLOAT32, 4
        size = scale * rng.choice([0, 1, rng.randrange(8), rng.randrange(60), 32])
        kind, reduce = rng.choice(["packet", "packet", "other", "none"]), rng.random() < 0.6
        values = {"element": element, "function": rng.choice([Function.SUM, Function.MAX, Function.MIN]),
                  "reduce": reduce and element in types, "has_packet": kind == "packet", "has_other": kind == "other",
                  "from_stream": 0, "has_local": 0, "to_memory": rng.random() < 0.6, "to_stream": rng.random() < 0.3,
                  "send": rng.random() < 0.5}
        values[rng.choice(["from_stream", "has_local", "has_local", "move"])] = 1
        values["compress"] = is_float and values["send"] and rng.random() < 0.7
        values["expand"] = is_float and kind == "packet" and rng.random() < 0.7
        step = 4 if is_float else 1
        values["local"], values["other"] = (BASE + rng.randrange((RESULTS - 600) // step) * step for _ in range(2))
        place += rng.randrange(12)
        values["result"] = BASE + place
        place += size
        if kind == "packet":
            longer = size + rng.choice([0, 0, 0, 4 * rng.randrange(20)])
            content = bytes(memory_of(rng, -(-longer // 4) * 4))[:longer]
            content = halved(content[:longer // 4 * 4]) if values["expand"] else content
            packets.append((content, rng.random() < 0.1 and longer == size))
            values["packet_size"] = len(content)
        if values["from_stream"] and (values["reduce"] or kind == "none"):
            kernel += bytes(memory_of(rng, -(-size // 4) * 4))[:size]
        # Only the last segment of a move for a kernel has a word that is not full.
        values["last"] = int(size % width != 0) or rng.randrange(2)
        segments.append(segment(rng, size=size, **values))
    return segments, packets, kernel


WIDTHS = [(4, True), (8, True), (8, False), (16, True), (64, True)]


def random_run(rng, count, width, convert, stall):
    # Adders are what simulates slowly.
    types = built_types(width) if width <= 8 else {ElementType.INT32, ElementType.INT64}
    segments, packets, kernel = random_segments(rng, count, width, types, convert=convert)
    bad = {BASE + rng.randrange(SIZE) for _ in range(6)}
    run(segments, packets, width=width, seed=rng.randrange(1000), stall=stall, bad=bad, kernel=kernel, convert=convert,
        latency=rng.choice([0, 10]), types=types, departing=rng.choice([0, 3, 20]))


@pytest.mark.thorough
@pytest.mark.parametrize("width, convert", WIDTHS)
def test_random(seed, width, convert):
    random_run(random.Random(f"{seed} {width}"), 24, width, convert, 0.3)


@pytest.mark.soak
@pytest.mark.parametrize("round", range(8))
@pytest.mark.parametrize("width, convert", [*WIDTHS, (32, True)])
def test_random_long(seed, width, convert, round):
    rng = random.Random(f"{seed} {width} {round}")
    random_run(rng, 60, width, convert, rng.choice([0, 0.1, 0.3, 0.7]))


def timed(rng, size, count, shift=0, **values):
    """Cycles from the first to the last of ``count`` segments' retirements, without stalls; memory answers late."""
    segments, packets = [], []
    for k in range(count):
        place = (k % 2) * size
        segments.append(segment(rng, size=size, result=BASE + RESULTS + place + shift, local=BASE + shift,
                                other=BASE + place + shift, **values))
        if values.get("has_packet"):
            packets.append((bytes(memory_of(rng, size)), 0))
            if values.get("expand"):
                packets[-1] = (halved(packets[-1][0]), 0)
                segments[-1]["packet_size"] = size // 2
    cycles = run(segments, packets, stall=0, latency=20, types=[ElementType.INT32])
    return cycles[-1] - cycles[0]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [
    {"has_packet": 1, "to_memory": 1}, {"has_packet": 1, "has_local": 1, "reduce": 1, "to_memory": 1, "send": 1},
    {"has_other": 1, "has_local": 1, "reduce": 1, "to_memory": 1}, {"has_local": 1, "to_memory": 1},
    {"has_packet": 1, "send": 1}, {"has_packet": 1, "to_memory": 1, "expand": 1},
    {"has_packet": 1, "to_memory": 1, "expand": 1, "send": 1, "compress": 1},
], ids=lambda kind: "-".join(kind))
def test_throughput(kind):
    """Segments follow each other without a gap."""
    assert timed(random.Random(1), 1024, 4, **kind) == 3 * 128
    assert 15 * 8 <= timed(random.Random(1), 64, 16, **kind) <= 15 * 8 + 12


@pytest.mark.thorough
def test_unaligned_throughput():
    kind = {"has_packet": 1, "has_local": 1, "reduce": 1, "to_memory": 1, "send": 1}
    assert timed(random.Random(1), 1024, 4, shift=4, **kind) == 3 * 129


@pytest.mark.thorough
def test_latency():
    """From a packet's first word to the payload's, and from a bare header to its retirement."""
    dut = ReceiveLane(8)
    rng, words, retired = random.Random(1), [], []
    segments = [segment(rng, size=64, has_packet=1, send=1), segment(rng, size=0, has_packet=1)]
    content = rng.randbytes(64)
    simulate(dut, sender(dut.i, segments, 1, 0), sender(dut.packet, packet_words(content, 8), 1, 0),
             taker({}, "header", dut.header, 1, 1, 0), taker({}, "payload", dut.payload, 8, 1, 0),
             taker({}, "read", dut.read, 1, 1, 0), taker({}, "free", dut.free, 2, 1, 0),
             taker({}, "retired", dut.retired, 2, 1, 0), clock(words, dut.payload, 8), clock(retired, dut.retired, 2))
    # One after reset, the command's cycle, two in a queue and a register, four registers of the data path.
    assert words[0] == 8
    assert words[-1] - words[0] == 7
    assert [cycle - words[-1] for cycle in retired] == [3, 4]


@pytest.mark.thorough
@pytest.mark.parametrize("departing", [0, 16])
def test_lane_goes_on_while_the_link_is_busy(departing):
    """Payload that has to wait for the link holds up neither memory nor the next segment if there is room for it.

    But its segment is not retired, as its packet may still be overtaken.
    """
    dut = ReceiveLane(8, types=[ElementType.INT32], departing=departing)
    rng, results, retired = random.Random(1), {}, []
    memory = memory_of(rng, SIZE)
    contents = [rng.randbytes(128), rng.randbytes(64)]
    segments = [segment(rng, size=128, has_packet=1, to_memory=1, send=1, result=BASE),
                segment(rng, size=64, has_packet=1, to_memory=1, result=BASE + 512)]
    words = [word for content in contents for word in packet_words(content, 8)]

    async def link(ctx):
        await ctx.tick().repeat(200)
        assert [memory[:128] == contents[0], memory[512:576] == contents[1]] == 2 * [departing > 0]
        assert not retired
        await packetizer(results, dut.header, dut.payload, [128], 2, 0)(ctx)

    simulate(dut, sender(dut.i, segments, 1, 0), sender(dut.packet, words, 1, 0), link,
             taker({}, "read", dut.read, 2, 1, 0), taker({}, "free", dut.free, 2, 1, 0),
             taker(results, "retired", dut.retired, 2, 1, 0), clock(retired, dut.retired, 2),
             models=[AXI4Memory(memory, base=BASE).writer(dut.aw, dut.w, dut.b)])
    assert payload_bytes(results["payload"], 8) == [(contents[0], 0)]
    assert [memory[:128], memory[512:576]] == contents


def simple_run(segments, contents, *, stall=0.3, **drive):
    """Segments from packets to the kernel's stream, without memory; what came out."""
    dut, results = ReceiveLane(8, types=[ElementType.INT32]), {}
    words = [word for content in contents for word in packet_words(content, 8)]
    out = sum(-(-each["size"] // 8) for each in segments if each["to_stream"])
    simulate(dut, sender(dut.i, segments, 1, stall), sender(dut.packet, words, 2, stall),
             taker(results, "read", dut.read, sum(map(bool, contents)), 3, stall),
             taker(results, "free", dut.free, len(contents), 4, stall),
             taker(results, "retired", dut.retired, len(segments), 5, stall),
             taker(results, "kernel_out", dut.kernel_out, out, 6, stall))
    assert [each.slot for each in results["free"]] == [each["slot"] for each in segments if each["has_packet"]]
    assert [each.move for each in results["retired"]] == [each["move"] for each in segments]
    assert not any(each.read_error or each.write_error for each in results["retired"])
    return payload_bytes(results["kernel_out"], 8)


@pytest.mark.thorough
@pytest.mark.parametrize("packet_size", [0, 1, 8, 13, 16, 40])
@pytest.mark.parametrize("expand", [0, 1])
def test_packet_of_another_size(packet_size, expand):
    """It is cut or filled, and half a number does not count; the segments around it are as they should be."""
    rng = random.Random(1)
    contents = [halved(bytes(memory_of(rng, 200)))[:size] for size in (16, packet_size, 16)]
    whole = [expanded(content[:len(content) // 2 * 2]) if expand else content for content in contents]
    segments = [segment(rng, size=size, has_packet=1, packet_size=len(content), expand=expand, to_stream=1, last=1)
                for size, content in zip((len(whole[0]), 28, len(whole[0])), contents, strict=True)]
    streamed = simple_run(segments, contents)
    assert [(len(content), error) for content, error in streamed] == [(len(whole[0]), 0), (28, 0), (len(whole[0]), 0)]
    assert (streamed[0][0], streamed[2][0]) == (whole[0], whole[2])
    known = min(28, len(whole[1]))
    assert streamed[1][0][:known] == whole[1][:known]


@pytest.mark.thorough
def test_packets_are_thrown_away():
    rng = random.Random(1)
    contents = [rng.randbytes(size) for size in (100, 8, 0, 8)]
    segments = [segment(rng, size=size, has_packet=1, packet_size=len(content), to_stream=size != 0, last=1)
                for size, content in zip((0, 8, 0, 8), contents, strict=True)]
    assert simple_run(segments, contents) == [(contents[1], 0), (contents[3], 0)]


@pytest.mark.thorough
def test_segment_of_nothing_is_zeros():
    rng = random.Random(1)
    assert simple_run([segment(rng, size=20, to_stream=1, last=1), segment(rng, size=0, to_stream=1, last=1)], []) == [
        (bytes(20), 0)]


@pytest.mark.thorough
def test_kernel_is_skipped():
    """A kernel that neither gives nor takes does not hold up the lane for ever."""
    dut, results = ReceiveLane(8, types=[ElementType.INT32]), {}
    rng = random.Random(1)
    segments = [segment(rng, size=64, from_stream=1, to_stream=1) for _ in range(3)]

    async def skip(ctx):
        await ctx.tick().repeat(100)
        assert not ctx.get(dut.retired.valid)
        ctx.set(dut.skip_kernel, 1)

    words = kernel_words(rng.randbytes(64), 8, rng)
    simulate(dut, sender(dut.i, segments, 1, 0), sender(dut.kernel, words, 1, 0), skip,
             taker(results, "retired", dut.retired, 3, 1, 0))
    assert [each.read_error for each in results["retired"]] == [0, 1, 1]


@pytest.mark.thorough
def test_error_reaches_the_kernel_at_the_end_of_its_move():
    rng = random.Random(1)
    segments = [segment(rng, size=16, has_packet=1, to_stream=1, last=last) for last in (0, 0, 1, 1)]
    run(segments, [(rng.randbytes(16), error) for error in (0, 1, 0, 0)])


@pytest.mark.parametrize("arguments, message", [
    ({"width": 2}, "width must be one of"), ({"ids": (0, 1, 16)}, "id must fit"),
    ({"width": 4, "types": [ElementType.INT64]}, "types must fit a word"),
])
def test_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        ReceiveLane(**arguments)
