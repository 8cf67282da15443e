# SPDX-License-Identifier: Apache-2.0
"""Golden functions and drivers that the tests of both lanes share."""

import random
import struct

from amaranth.hdl import Module
from amaranth.lib import data

from rackgate.collective.abi import HeaderFlag
from rackgate.collective.records import HeaderFields
from rackgate.verif.stimulus import receive, send
from rackgate.verif.stream_rules import watch

__all__ = ["BASE", "clock", "expanded", "fields", "halved", "header", "kernel_words", "memory_of", "packet_words",
           "packetizer", "payload_bytes", "sender", "taker", "watched"]

#: Address of the first byte of the benches' memories.
BASE = 0x1_0000


def halved(content):
    """32-bit floats as 16-bit floats: nearest, ties to even, overflow to infinity."""
    out = bytearray()
    for value, in struct.iter_unpack("<f", content):
        try:
            out += struct.pack("<e", value)
        except OverflowError:
            out += struct.pack("<e", float("inf") if value > 0 else float("-inf"))
    return bytes(out)


def expanded(content):
    """16-bit floats as 32-bit floats."""
    return b"".join(struct.pack("<f", value) for value, in struct.iter_unpack("<e", content))


def header(rng, size):
    """Random fields of a header, with its ``size``."""
    return {"type": 0, "flags": int(HeaderFlag.LAST), "communicator": rng.randrange(8), "credit": rng.randrange(256),
            "node": rng.randrange(16), "operation": rng.randrange(1 << 16), "tag": rng.randrange(1 << 32),
            "length": rng.randrange(1 << 32), "offset": rng.randrange(1 << 32), "element": rng.randrange(16),
            "handle": rng.randrange(16),
            "size": size}


def memory_of(rng, size):
    """Bytes that are 32-bit floats of moderate size, so that they can be added and converted at any multiple of 4."""
    return bytearray(b"".join(struct.pack("<f", rng.uniform(-1000, 1000)) for _ in range(size // 4)))


def packet_words(content, width, *, error=0, last=1, seed=0):
    """``content`` as words; bytes beyond the last are random."""
    rng, words = random.Random(seed), []
    for start in range(0, len(content), width):
        part = content[start:start + width]
        is_end = start + width >= len(content)
        raw = part + rng.randbytes(width - len(part))
        words.append({"data": int.from_bytes(raw, "little"), "count": len(part), "last": last and is_end,
                      "error": error and is_end})
    return words


def kernel_words(content, width, rng):
    """``content`` as a kernel gives it: ``last`` anywhere."""
    return [{**word, "last": rng.randrange(2)} for word in packet_words(content, width)]


def payload_bytes(words, width):
    """Words taken from a packet stream as a list of (content, error); checks counts."""
    packets, content = [], bytearray()
    for word in words:
        assert word.count == width or word.last and 0 < word.count < width
        content += word.data.to_bytes(width, "little")[:word.count]
        if word.last:
            packets.append((bytes(content), word.error))
            content = bytearray()
    assert not content
    return packets


def fields(value):
    """A header that came out, as a mapping."""
    return {name: getattr(value, name) for name, _ in data.Layout.cast(HeaderFields)}


def sender(port, items, seed, stall):
    """A testbench that offers ``items`` with random pauses."""
    async def run(ctx):
        await send(ctx, port, items, rng=random.Random(seed), idle=stall)
    return run


def taker(results, name, port, count, seed, stall):
    """A testbench that takes ``count`` payloads with random stalls into ``results[name]``."""
    async def run(ctx):
        results[name] = await receive(ctx, port, count, rng=random.Random(seed), stall=stall)
    return run


def packetizer(results, header, payload, sizes, seed, stall):
    """A testbench that takes a header before what follows it, for packets of ``sizes``, with random stalls.

    A header may be taken while words of the packets before it have not been.
    """
    async def run(ctx):
        draw, results["header"], results["payload"] = random.Random(seed), [], []
        begun = ended = 0  # of the packets that have payload
        while len(results["header"]) < len(sizes) or ended < sum(map(bool, sizes)):
            ctx.set(header.ready, len(results["header"]) < len(sizes) and draw.random() >= stall)
            ctx.set(payload.ready, begun > ended and draw.random() >= stall)
            _, _, head, word, fields, words = await ctx.tick().sample(
                header.valid & header.ready, payload.valid & payload.ready, header.payload, payload.payload)
            if head:
                begun += bool(sizes[len(results["header"])])
                results["header"].append(fields)
            if word:
                results["payload"].append(words)
                ended += words.last
        ctx.set(header.ready, 0)
        ctx.set(payload.ready, 0)
    return run


def watched(dut, *names):
    """``dut`` with the rules of streams checked at its outputs ``names``."""
    m = Module()
    m.submodules.dut = dut
    for name in names:
        watch(m, getattr(dut, name), name=name)
    return m


def clock(cycles, port, count):
    """A testbench that appends the number of each cycle in which something passes ``port``."""
    async def run(ctx):
        cycle = 0
        while len(cycles) < count:
            _, _, valid, ready = await ctx.tick().sample(port.valid, port.ready)
            cycle += 1
            if valid and ready:
                cycles.append(cycle)
    return run
