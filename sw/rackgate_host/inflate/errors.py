# SPDX-License-Identifier: Apache-2.0
"""Errors about compressed data, in zlib's words."""

import gzip
import zlib

from rackgate.inflate.abi import ErrorCode, Status

from ..errors import RackgateError

__all__ = ["ZLIB_TEXT", "InflateError", "InvalidInput"]

_SET, _CODE = "invalid code lengths set", "invalid bit length repeat"
_TRUNCATED = "incomplete or truncated stream"

#: What zlib's inflate says to the same mistake.
ZLIB_TEXT = {
    ErrorCode.HEADER_TRUNCATED: _TRUNCATED,
    ErrorCode.UNDEFINED_CODE_LENGTH_CODE: _SET,
    ErrorCode.FIRST_LITERAL_LENGTH_REPEATS: _CODE,
    ErrorCode.FIRST_DISTANCE_LENGTH_REPEATS: _CODE,
    ErrorCode.NO_LITERAL_CODES: "invalid code -- missing end-of-block",
    ErrorCode.LITERAL_LENGTHS_OVERRUN: _CODE,
    ErrorCode.DISTANCE_LENGTHS_OVERRUN: _CODE,
    ErrorCode.CODE_LENGTHS_OVERSUBSCRIBED: _SET,
    ErrorCode.LITERALS_OVERSUBSCRIBED: "invalid literal/lengths set",
    ErrorCode.DISTANCES_OVERSUBSCRIBED: "invalid distances set",
    ErrorCode.BAD_LITERAL_CODE: "invalid literal/length code",
    ErrorCode.BAD_DISTANCE_CODE: "invalid distance code",
    ErrorCode.BAD_BLOCK_TYPE: "invalid block type",
    ErrorCode.STORED_LENGTH_MISMATCH: "invalid stored block lengths",
    ErrorCode.END_OF_BLOCK_MISSING: _TRUNCATED,
    ErrorCode.DISTANCE_TOO_LARGE: "invalid distance too far back",
    ErrorCode.DISTANCE_BEFORE_START: "invalid distance too far back",
    ErrorCode.TOO_MANY_LITERAL_CODES: "too many length or distance symbols",
    ErrorCode.TOO_MANY_DISTANCE_CODES: "too many length or distance symbols",
    ErrorCode.ZLIB_HEADER_CHECK: "incorrect header check",
    ErrorCode.ZLIB_METHOD: "unknown compression method",
    ErrorCode.ZLIB_WINDOW: "invalid window size",
    ErrorCode.GZIP_MAGIC: "incorrect header check",
    ErrorCode.GZIP_METHOD: "unknown compression method",
    ErrorCode.GZIP_FLAGS: "unknown header flags set",
    ErrorCode.GZIP_HEADER_CRC: "header crc mismatch",
    ErrorCode.CRC_MISMATCH: "incorrect data check",
    ErrorCode.LENGTH_MISMATCH: "incorrect length check",
    ErrorCode.ADLER_MISMATCH: "incorrect data check",
    ErrorCode.NO_END_OF_BLOCK_CODE: "invalid code -- missing end-of-block",
    ErrorCode.LITERALS_INCOMPLETE: "invalid literal/lengths set",
    ErrorCode.DISTANCES_INCOMPLETE: "invalid distances set",
    ErrorCode.CODE_LENGTHS_INCOMPLETE: _SET,
    ErrorCode.FRAME_TRUNCATED: _TRUNCATED,
}


class InflateError(RackgateError, zlib.error):
    """The compressed data is wrong, incomplete, or needs a dictionary.

    The text begins as zlib's does ("Error -3 while decompressing data: invalid block type") and then says where.

    Attributes
    ----------
    status:
        The device's :class:`~rackgate.inflate.abi.Status`, or ``None`` when no job was needed to see the mistake.
    error:
        The device's :class:`~rackgate.inflate.abi.ErrorCode`, or ``None``.
    position:
        Bits of the stream before the mistake: ``divmod(position, 8)`` is (byte, bit). ``None`` if it has no place.
    reason:
        The text without the number and the place.
    """

    def __init__(self, number: int, reason: str, *, doing: str = "while decompressing data",
                 status: Status | None = None, error: ErrorCode | None = None, position: int | None = None):
        text = f"Error {number} {doing}" + (f": {reason}" if reason else "")
        name = f"{error.name} " if error else ""
        if position is not None:
            text += f" ({name}at byte {position >> 3}" + (f", bit {position & 7})" if position & 7 else ")")
        super().__init__(text)
        self.status = status
        self.error = error
        self.position = position
        self.reason = reason or doing

    @classmethod
    def of(cls, error: ErrorCode, position: int) -> "InflateError":
        """The error for an ANALYTICS_ERROR with ``error`` at bit ``position`` of the stream."""
        reason = ZLIB_TEXT[error]
        number = -5 if reason == _TRUNCATED else -3
        return cls(number, reason, status=Status.ANALYTICS_ERROR, error=error, position=position)

    @classmethod
    def truncated(cls, position: int | None) -> "InflateError":
        """The error for input that ends too early, after ``position`` bits."""
        return cls(-5, _TRUNCATED, status=Status.NEED_INPUT, position=position)


class InvalidInput(InflateError, gzip.BadGzipFile):
    """A gzip file is damaged in its framing: what :mod:`gzip` raises :class:`gzip.BadGzipFile` for."""
