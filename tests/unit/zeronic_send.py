# SPDX-License-Identifier: Apache-2.0
"""What the tests of the sending half share: frames as they must be, by arithmetic of their own, and drivers."""

import random
import struct

from amaranth.hdl import Module

from rackgate.verif.stimulus import receive, send
from rackgate.verif.stream_rules import watch
from rackgate.zeronic.abi import COMMAND_ALIGNMENT
from rackgate.zeronic.messages import Command, CommandKind, Send, SendFlag

__all__ = [
    "ACK", "CWR", "FIN", "GATHERED", "PSH", "WIDTHS", "collect", "expected", "feed", "garbage", "packed", "pad",
    "random_header", "unpacked", "watched",
]

WIDTHS = (8, 16, 32)
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
GATHERED = SendFlag.GATHER | SendFlag.OFFLOAD


def expected(order: Send, payload: bytes) -> list[bytes]:
    """The frames of a SEND whose payload is ``payload``."""
    header = order.header
    if not order.flags & SendFlag.OFFLOAD:
        return [header + payload]
    step, frames = order.segment or len(payload) or 1, []
    pieces = [payload[done:done + step] for done in range(0, len(payload), step)] or [b""]
    for number, piece in enumerate(pieces):
        ip, tcp = bytearray(header[14:34]), bytearray(header[34:])
        ip[2:4] = (len(ip) + len(tcp) + len(piece)).to_bytes(2, "big")
        ip[4:6] = ((int.from_bytes(ip[4:6], "big") + number) % 65536).to_bytes(2, "big")
        ip[10:12] = b"\0\0"
        ip[10:12] = ones_complement(bytes(ip)).to_bytes(2, "big")
        tcp[4:8] = ((int.from_bytes(tcp[4:8], "big") + number * step) % 2**32).to_bytes(4, "big")
        tcp[13] &= 0xFF & ~((0 if piece is pieces[-1] else FIN | PSH) | (CWR if number else 0))
        tcp[16:18] = b"\0\0"
        pseudo = bytes(ip[12:20]) + bytes([0, 6]) + (len(tcp) + len(piece)).to_bytes(2, "big")
        tcp[16:18] = ones_complement(pseudo + bytes(tcp) + piece).to_bytes(2, "big")
        frames.append(header[:14] + bytes(ip) + bytes(tcp) + piece)
    return frames


def random_header(rng, *, seq=None, flags=None, options=None):
    """Headers of TCP with options or without, and nonsense in the fields that the NIC fills in."""
    options = rng.randbytes(4 * rng.choice([0, 3, 5, 10])) if options is None else options
    seq, flags = rng.getrandbits(32) if seq is None else seq, rng.getrandbits(8) if flags is None else flags
    identification = rng.choice([b"\xff\xff", rng.randbytes(2)])
    ip = b"\x45" + rng.randbytes(3) + identification + rng.randbytes(3) + b"\x06" + rng.randbytes(10)
    tcp = (rng.randbytes(4) + seq.to_bytes(4, "big") + rng.randbytes(4) + bytes([5 + len(options) // 4 << 4, flags])
           + rng.randbytes(6) + options)
    return rng.randbytes(12) + b"\x08\x00" + ip + tcp


def ones_complement(content: bytes) -> int:
    """RFC 1071's checksum, as arithmetic modulo 65535."""
    total = int.from_bytes(content + bytes(len(content) % 2), "big")
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


def pad(units: int) -> bytes:
    """A PAD command."""
    return Command(CommandKind.PAD, units=units).to_bytes() + bytes(units * COMMAND_ALIGNMENT - 8)


def garbage(rng, flows):
    """Some units of nonsense, much of which looks like a command."""
    units = rng.choice([0, 1, 1, 1, 2, 5])
    kind = rng.choice([*CommandKind, rng.randrange(256)])
    head = Command(kind, rng.getrandbits(rng.choice([1, 3, 8])), units, rng.choice([0, 3, flows, rng.getrandbits(16)]),
                   rng.choice([0, 3, 54, 100, rng.getrandbits(16)])).to_bytes()
    sizes = struct.pack("<IH", rng.choice([0, 10, 70000, rng.getrandbits(32)]), rng.choice([0, 9, 10000]))
    body = rng.choice([bytes(24), sizes + rng.randbytes(18), rng.randbytes(24)])
    return head + body + rng.randbytes(32 * (max(units, 1) - 1))


def packed(content: bytes, width: int, **fields) -> list[dict]:
    """Words of a packet; ``fields`` on all of them."""
    return [{"data": int.from_bytes(content[at:at + width], "little"), "count": min(width, len(content) - at),
             "last": at + width >= len(content), **fields} for at in range(0, len(content), width)]


def unpacked(words, width: int) -> bytes:
    """Their bytes."""
    return b"".join(word.data.to_bytes(width, "little")[:word.count] for word in words)


def watched(dut, *outputs) -> Module:
    """The block with the stream rules on its outputs."""
    m = Module()
    m.submodules.dut = dut
    for number, output in enumerate(outputs):
        watch(m, output, name=f"output_{number}")
    return m


def feed(port, items, seed, idle=0.0):
    """A testbench that offers ``items``."""
    async def run(ctx):
        await send(ctx, port, items, rng=random.Random(seed), idle=idle)
    return run


def collect(port, items, seed, stall=0.0):
    """A model that takes what comes, and appends it to ``items``."""
    async def run(ctx):
        rng = random.Random(seed)
        while True:
            items.extend(await receive(ctx, port, 1, rng=rng, stall=stall))
    return run
