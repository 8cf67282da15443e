# SPDX-License-Identifier: Apache-2.0
"""The accelerator's jobs done by software: where there is no device, and when one fails."""

import zlib
from collections.abc import Sequence

from rackgate.iaa.abi import Framing

from ..sabre.software import Decompressor, InvalidStream, choose
from .checksums import crc64
from .errors import InvalidData

__all__ = ["SoftwareIaa", "decompress"]

_WBITS = {Framing.RAW: -15, Framing.ZLIB: 15, Framing.GZIP: 31}


def decompress(data: bytes, framing: Framing = Framing.RAW, *, size: int | None = None, header: bytes = b"",
               library: Decompressor | None = None) -> bytes:
    """``data`` decompressed, behind the ``header`` of a canned table.

    Raw data of a known ``size`` is done by ``library`` (see :mod:`rackgate_host.sabre.software`; the fastest if
    ``None``), everything else by zlib, all members of gzip data. Raises :class:`InvalidData`.
    """
    if framing == Framing.RAW and size is not None:
        try:
            return (library or choose()).inflate(data, size, header)
        except InvalidStream:
            pass  # zlib says what is wrong, or that nothing is: bytes behind the stream are allowed here
    parts, rest = [], header + data
    try:
        while True:
            decoder = zlib.decompressobj(_WBITS[framing])
            parts.append(decoder.decompress(rest))
            if not decoder.eof:
                raise InvalidData("the data is cut short")
            rest = decoder.unused_data
            if framing != Framing.GZIP or rest.lstrip(b"\0")[:2] != b"\x1f\x8b":
                break
            rest = rest.lstrip(b"\0")
    except zlib.error as error:
        raise InvalidData(str(error)) from None
    output = b"".join(parts)
    if size is not None and len(output) != size:
        raise InvalidData(f"the data holds {len(output)} bytes, not {size}")
    return output


class SoftwareTable:
    """A canned table where there is no device."""

    def __init__(self, header: bytes):
        self.header = header

    def free(self) -> None:
        """Nothing to give back."""


class SoftwareIaa:
    """What :class:`~rackgate_host.iaa.IaaDriver` offers for whole buffers, without a device.

    ``note`` says why there is none. ``fallbacks`` counts the jobs that software has done: all of them.
    """

    def __init__(self, note: str = "software was asked for", library: str | None = None):
        self.note: str | None = note
        self.device = None
        self.fallbacks = 0
        self._library = choose(library)

    def load_table(self, header: bytes) -> SoftwareTable:
        """A canned table from its block header."""
        return SoftwareTable(header)

    def decompress(self, data: bytes, framing: Framing = Framing.RAW, *, size: int | None = None,
                   table: SoftwareTable | None = None, timeout: float | None = None) -> bytes:
        """``data`` decompressed. ``timeout`` has no effect."""
        self.fallbacks += 1
        header = b"" if table is None else table.header
        return decompress(data, framing, size=size, header=header, library=self._library)

    def decompress_many(self, pages: Sequence[bytes], size: int = 4096, *, table: SoftwareTable | None = None,
                        timeout: float | None = None) -> list[bytes]:
        """Raw streams, each of at most ``size`` bytes, decompressed. ``timeout`` has no effect."""
        outputs = [self.decompress(page, table=table) for page in pages]
        too_long = next((number for number, output in enumerate(outputs) if len(output) > size), None)
        if too_long is not None:
            raise InvalidData(f"page {too_long} holds {len(outputs[too_long])} bytes, more than {size}")
        return outputs

    def crc64(self, data: bytes, polynomial: int, *, invert: bool = False, big_endian: bool = False,
              timeout: float | None = None) -> int:
        """CRC of ``data``; see :func:`rackgate_host.iaa.checksums.crc64`. ``timeout`` has no effect."""
        self.fallbacks += 1
        return crc64(data, polynomial, invert=invert, big_endian=big_endian)

    def close(self) -> None:
        """Nothing to let go of."""

    def __enter__(self) -> "SoftwareIaa":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
