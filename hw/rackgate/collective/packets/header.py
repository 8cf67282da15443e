# SPDX-License-Identifier: Apache-2.0
"""The header of a packet in hardware: its 32 bytes, and their CRC."""

from amaranth.hdl import Cat, Value
from amaranth.lib import data

from rackgate.collective.abi import HEADER_SIZE, VERSION, crc16

__all__ = ["CRC_BEFORE_PADDING", "CRC_INITIAL", "CRC_PADDING", "WireHeader", "crc16_step", "fill_header"]

_POLYNOMIAL = 0x1021
#: The CRC register before a header's first byte.
CRC_INITIAL = crc16(b"")
#: Bytes of zeros that make the 30 bytes under the CRC a multiple of every width...
CRC_PADDING = 2


def _advance(register: int, bits: int) -> int:
    """The CRC register after ``bits`` zero bits."""
    for _ in range(bits):
        register = (register << 1 ^ (_POLYNOMIAL if register & 0x8000 else 0)) & 0xFFFF
    return register


def _retreat(register: int, bits: int) -> int:
    """What the CRC register was before ``bits`` zero bits."""
    for _ in range(bits):
        register = (register ^ _POLYNOMIAL) >> 1 | 0x8000 if register & 1 else register >> 1
    return register


#: ...and what the register has to be before them.
CRC_BEFORE_PADDING = _retreat(CRC_INITIAL, 8 * CRC_PADDING)


class WireHeader(data.Struct):
    """The 32 bytes of :class:`rackgate.collective.abi.Header`, first byte lowest."""

    type: 4
    version: 4
    flags: 8
    communicator: 8
    credit: 8
    destination: 16
    source: 16
    operation: 16
    sequence: 16
    tag: 32
    length: 32
    offset: 32
    address: 32
    element: 8
    handle: 8
    crc: 16


assert WireHeader.as_shape().size == 8 * HEADER_SIZE


def fill_header(wire: data.View, fields: data.View, *, source: Value, sequence: Value) -> list:
    """Assignments that make all of ``wire`` but its CRC from HeaderFields on their way out."""
    same = ("type", "flags", "communicator", "credit", "operation", "tag", "length", "offset", "element", "handle")
    return [
        *(wire[name].eq(fields[name]) for name in same),
        wire.version.eq(VERSION),
        wire.destination.eq(fields.node),
        wire.source.eq(source),
        wire.sequence.eq(sequence),
        wire.address.eq(0),
    ]


def crc16_step(register: Value, content: Value) -> Value:
    """The register of :func:`rackgate.collective.abi.crc16` after the bytes of ``content``, first byte lowest.

    A tree of exclusive-ors, three LUTs deep for 8 bytes.
    """
    bits = len(content)
    columns = [_advance(1 << k, bits) for k in range(16)]
    # The highest bit of a byte goes in first, at the left end of the register.
    places = [8 * (k // 8) + 7 - k % 8 for k in range(bits)]
    columns += [_advance(0x8000, bits - place) for place in places]
    sources = Cat(register, content)
    return Cat(Cat(sources[k] for k, column in enumerate(columns) if column >> row & 1).xor() for row in range(16))
