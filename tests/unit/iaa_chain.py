# SPDX-License-Identifier: Apache-2.0
"""A stream decompressed in several jobs, each of which goes on from the AECS that the one before it has left."""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from rackgate.iaa.abi import Completion, DecompressFlag, Descriptor, Flag, Opcode, Status
from rackgate.iaa.aecs import STATE_OFFSET, Aecs, ParserState, saved_size

__all__ = ["ENOUGH", "PLAIN_RAW", "Chain", "streams"]

#: Without CHECK_FOR_EOB a source may end anywhere.
PLAIN_RAW = DecompressFlag.ENABLE | DecompressFlag.STOP_ON_EOB | DecompressFlag.EOB_IS_BFINAL
_ASKED = Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION
#: More than a step of the gateware puts out, so that a destination of this size is always of use.
ENOUGH = 260


def streams(rng: random.Random, size: int) -> dict[str, tuple[bytes, bytes]]:
    """Raw streams of about ``size`` bytes, of all kinds of blocks, with what they hold."""
    letters = bytes(rng.choices(b"abcdefgh ", [1, 2, 3, 4, 5, 6, 7, 8, 30], k=size))
    noise = rng.randbytes(size)
    runs = b"".join(bytes([rng.randrange(256)]) * rng.randrange(400) for _ in range(size // 200))
    mixed = letters[:size // 3] + noise[:size // 3] + runs[:size // 3]

    def raw(data, level=9, strategy=zlib.Z_DEFAULT_STRATEGY, flush=0):
        encoder, out = zlib.compressobj(level, zlib.DEFLATED, -12, 9, strategy), b""
        step = flush or len(data)
        for at in range(0, len(data), step):
            out += encoder.compress(data[at:at + step])
            out += encoder.flush(rng.choice([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_BLOCK])) if flush else b""
        return out + encoder.flush(), data

    return {"dynamic": raw(letters), "fixed": raw(letters, strategy=zlib.Z_FIXED), "stored": raw(noise, 0),
            "runs": raw(runs), "blocks": raw(mixed, flush=max(1, size // 7)), "noise": raw(noise, 6)}


@dataclass
class Chain:
    """``read`` and ``write`` are the memory's; ``execute(descriptor)`` carries out a job and returns its record.

    Addresses are multiples of 32; there is room for two AECS at ``aecs``.
    """

    read: Callable[[int, int], bytes]
    write: Callable[[int, bytes], None]
    execute: Callable[[Descriptor], Completion]
    source: int
    target: int
    aecs: int
    record: int
    window: int
    records: list[Completion] = field(default_factory=list)

    def run(self, stream: bytes, rng: random.Random, *, rooms: list[int], pieces: list[int] | None = None,
            operation: int = PLAIN_RAW, header: bytes = b"", limit: int = 400) -> bytes:
        """What comes out of ``stream``, taken in ``rooms`` and given in ``pieces``, sizes that follow each other.

        With ``pieces`` the state is written always, without on overflow. ``header`` is a canned one.
        """
        write = Flag.WRITE_SOURCE2_ALWAYS if pieces else Flag.WRITE_SOURCE2_ON_OVERFLOW
        output, at, size, extra, toggle = b"", 0, saved_size(self.window), 0, False
        for place in range(self.aecs, self.aecs + 2 * size, 8):
            self.write(place, rng.randbytes(8))
        if header:
            self.write(self.aecs, Aecs(header).pack().ljust(size, b"\0"))
        for number in range(limit):
            room, most = rooms[number % len(rooms)], pieces[number % len(pieces)] + extra if pieces else len(stream)
            piece = stream[at:at + most]
            source, target = self.source + rng.randrange(16), self.target + rng.randrange(16)
            self.write(source, piece)
            flags = _ASKED | write | (Flag.READ_SOURCE2_AECS if number or header else 0)
            completion = self.execute(Descriptor(
                Opcode.DECOMPRESS, flags | (Flag.AECS_TOGGLE if toggle else 0), self.record, source, target, len(piece),
                0, operation, self.aecs, room, size))
            self.records.append(completion)
            assert completion.status in (Status.SUCCESS, Status.OUTPUT_OVERFLOW), completion
            output += self.read(target, completion.output_size)
            at += completion.completed
            assert completion.crc == zlib.crc32(output), completion
            written = self.aecs + (0 if toggle else size)
            if completion.status == Status.OUTPUT_OVERFLOW:
                assert completion.output_size > room - ENOUGH, completion
            elif not pieces or self.read(written + STATE_OFFSET, 1)[0] == ParserState.ENDED:
                return output
            # What a piece holds may be less than a header; then more is needed.
            extra = extra + 64 if completion.output_size == completion.completed == 0 else 0
            toggle = not toggle
        raise AssertionError(f"{len(output)} bytes after {limit} jobs")
