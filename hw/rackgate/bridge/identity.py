# SPDX-License-Identifier: Apache-2.0
"""What a device on a board says of itself: a table of words that is fixed when the bitstream is built. Plain Python."""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from .abi import FormatError

__all__ = ["IDENTITY_MAGIC", "IDENTITY_VERSION", "IDENTITY_WORDS", "NAME_BYTES", "Identity"]

#: "RGID" in ASCII, little endian.
IDENTITY_MAGIC = int.from_bytes(b"RGID", "little")
#: Version of the table.
IDENTITY_VERSION = 1
#: Bytes of a name.
NAME_BYTES = 16
#: Words of the longest table.
IDENTITY_WORDS = 256

_HEAD = struct.Struct("<III16s16sIIII32sI")
_CRC = struct.Struct("<I")


def _name(what: str, text: str) -> bytes:
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        raw = b""
    if not 1 <= len(raw) <= NAME_BYTES or not text.isprintable():
        raise ValueError(f"{what} must have 1 to {NAME_BYTES} printable ASCII letters, not {text!r}")
    return raw


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which system this is, of what it was built, and for what.

    As words: magic, version of the table, bytes of the table with its CRC, system (4 words of ASCII, zeros behind it),
    board (4 words), clock in kHz, memory's first address and size in bytes, version of the package (major, minor and
    patch in bits 31:16, 15:8 and 7:0), hash (8 words), bytes of the parameters, parameters as JSON with zeros behind it
    up to a whole word, CRC-32 of all before it.

    Parameters
    ----------
    system:
        Name of the system, as in ``sim:NAME``.
    board:
        Name of the board.
    clock_khz:
        Frequency of the device's clock.
    memory_base, memory_size:
        Device memory, in bytes.
    release:
        Major, minor and patch number of the package that it was built with.
    parameters:
        The system's parameters by name.
    build:
        SHA-256 of what the bitstream was built from.

    Raises
    ------
    ValueError
        When a value does not fit its place.
    """

    system: str
    board: str
    clock_khz: int
    memory_base: int = 0
    memory_size: int = 0
    release: tuple[int, int, int] = (0, 0, 0)
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    build: bytes = bytes(32)

    def __post_init__(self) -> None:
        _name("system", self.system)
        _name("board", self.board)
        for name in ("clock_khz", "memory_base", "memory_size"):
            if not 0 <= getattr(self, name) < 1 << 32:
                raise ValueError(f"{name} must fit 32 bits, not {getattr(self, name)}")
        major, minor, patch = self.release
        if not (0 <= major < 1 << 16 and 0 <= minor < 256 and 0 <= patch < 256):
            raise ValueError(f"release must fit 16, 8 and 8 bits, not {self.release}")
        if len(self.build) != 32:
            raise ValueError(f"build must have 32 bytes, not {len(self.build)}")
        if len(self.pack()) > 4 * IDENTITY_WORDS:
            raise ValueError(f"parameters are too long for a table of {IDENTITY_WORDS} words")

    def pack(self) -> bytes:
        """The table."""
        text = json.dumps(dict(self.parameters), sort_keys=True, separators=(",", ":")).encode()
        padding = bytes(-len(text) % 4)
        size = _HEAD.size + len(text) + len(padding) + _CRC.size
        major, minor, patch = self.release
        raw = _HEAD.pack(IDENTITY_MAGIC, IDENTITY_VERSION, size, _name("system", self.system),
                         _name("board", self.board), self.clock_khz, self.memory_base, self.memory_size,
                         major << 16 | minor << 8 | patch, self.build, len(text)) + text + padding
        return raw + _CRC.pack(zlib.crc32(raw))

    @classmethod
    def unpack(cls, raw: bytes) -> "Identity":
        """From a table, and whatever is behind it. Raises FormatError when it is none."""
        if len(raw) < _HEAD.size + _CRC.size:
            raise FormatError(f"an identity must have {_HEAD.size + _CRC.size} bytes and more, not {len(raw)}")
        magic, version, size, system, board, clock, base, memory, release, build, length = _HEAD.unpack_from(raw)
        if magic != IDENTITY_MAGIC:
            raise FormatError(f"the magic of an identity must be {IDENTITY_MAGIC:#x}, not {magic:#x}")
        if version != IDENTITY_VERSION:
            raise FormatError(f"the identity is of version {version}, not {IDENTITY_VERSION}")
        if size % 4 or not _HEAD.size + length + _CRC.size <= size <= len(raw):
            raise FormatError(f"an identity of {size} bytes does not fit the {len(raw)} that were read")
        if zlib.crc32(raw[:size - 4]) != _CRC.unpack_from(raw, size - 4)[0]:
            raise FormatError("the CRC of the identity is wrong")
        try:
            parameters = json.loads(raw[_HEAD.size:_HEAD.size + length])
            names = [name.rstrip(b"\0").decode("ascii") for name in (system, board)]
            return cls(system=names[0], board=names[1], clock_khz=clock, memory_base=base, memory_size=memory,
                       release=(release >> 16, release >> 8 & 0xFF, release & 0xFF), parameters=parameters, build=build)
        except ValueError as error:
            raise FormatError(f"the identity has a bad value: {error}") from None
