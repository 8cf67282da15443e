# SPDX-License-Identifier: Apache-2.0
"""Consistent Overhead Byte Stuffing (Cheshire and Baker, SIGCOMM 1997): messages on a line of bytes. Plain Python.

A message is coded without zero bytes, so a zero ends it, and whoever lost track finds the next one.
"""

from collections.abc import Iterator

__all__ = ["Deframer", "decode", "encode", "encoded_size"]

_MOST = 254  # data bytes that one code byte stands for


def encoded_size(size: int) -> int:
    """Most bytes that :func:`encode` makes of ``size`` bytes."""
    return size + size // _MOST + 1


def encode(data: bytes) -> bytes:
    """``data`` without zero bytes. The zero that ends it on a line is not part of it."""
    coded = bytearray()
    *full, last = data.split(b"\0")
    for part in full:
        coded += _blocks(part, closed=True)
    coded += _blocks(last, closed=False)
    return bytes(coded)


def _blocks(part: bytes, closed: bool) -> bytes:
    """The blocks of bytes that are not zero; ``closed``: a zero follows."""
    coded = bytearray()
    while len(part) >= _MOST:
        coded += b"\xff" + part[:_MOST]
        part = part[_MOST:]
        if not part and not closed:
            return bytes(coded)  # a full block stands for no zero: the end of the message needs no other
    return bytes(coded + bytes([len(part) + 1]) + part)


def decode(coded: bytes) -> bytes | None:
    """What was coded; ``None`` if ``coded`` is no message: empty, with a zero byte, or cut short."""
    if not coded or 0 in coded:
        return None
    data, at = bytearray(), 0
    while at < len(coded):
        code = coded[at]
        end = at + code
        if end > len(coded):
            return None
        data += coded[at + 1:end]
        at = end
        if code <= _MOST and at < len(coded):
            data.append(0)
    return bytes(data)


class Deframer:
    """Finds messages in bytes as they come from a line.

    Parameters
    ----------
    most:
        Bytes of the longest message. Longer ones are dropped, so that noise takes no memory.

    Attributes
    ----------
    dropped:
        How many were dropped: cut short or too long. Zeros that follow each other are no message.
    """

    def __init__(self, most: int):
        if most < 1:
            raise ValueError(f"most must be at least 1, not {most}")
        self._most = most
        self._longest = encoded_size(most)
        self._partial = bytearray()
        self.dropped = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes from the line and give the messages that they complete."""
        *ends, rest = data.split(b"\0")
        for part in ends:
            coded = bytes(self._partial) + part
            self._partial.clear()
            if not coded:
                continue
            message = decode(coded) if len(coded) <= self._longest else None
            if message is None or len(message) > self._most:
                self.dropped += 1
            else:
                yield message
        # One byte beyond the longest is kept, which shows at the end that it was too long.
        self._partial += rest[:self._longest + 1 - len(self._partial)]
