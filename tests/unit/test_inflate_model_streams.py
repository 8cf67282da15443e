# SPDX-License-Identifier: Apache-2.0
"""The golden model on streams with a known result, and those results against zlib."""

import zlib

import pytest

from rackgate.inflate.abi import ErrorCode, Flag, Format, Status
from rackgate_sim.inflate import model
from rackgate_sim.inflate.streams import CORNERS, NEGATIVES, Corner, Negative

_WBITS = {Format.RAW: -15, Format.ZLIB: 15, Format.GZIP: 31}


def _zlib_accepts(data: bytes, format: Format) -> tuple[bytes, int] | None:
    """zlib's output and bytes consumed, or None if it rejects the input or finds it unfinished."""
    decoder = zlib.decompressobj(_WBITS[format])
    try:
        output = decoder.decompress(data)
    except zlib.error:
        return None
    return (output, len(data) - len(decoder.unused_data)) if decoder.eof else None


def _expect(data: bytes, error: ErrorCode | None, flags: int = Flag.LAST, window: int = 32768) -> None:
    completion, _ = model.inflate(data, flags=flags, window=window)
    if error is None:
        assert completion.status == Status.SUCCESS
    else:
        assert (completion.status, completion.error) == (Status.ANALYTICS_ERROR, error)


def test_negative_list_has_its_20_cases():
    assert len({negative.name for negative in NEGATIVES}) == 20


@pytest.mark.parametrize("negative", NEGATIVES, ids=lambda negative: negative.name)
def test_negative(negative: Negative):
    _expect(negative.data, negative.error)
    _expect(negative.data, negative.strict, Flag.LAST | Flag.STRICT_LENGTHS)
    _expect(negative.data, negative.small_window, window=4096)
    assert (negative.error is None) == (_zlib_accepts(negative.data, Format.RAW) is not None)


@pytest.mark.parametrize("negative", NEGATIVES, ids=lambda negative: negative.name)
def test_negative_has_the_code_of_iaa_unless_zlib_takes_it(negative: Negative):
    ours = {negative.strict, negative.small_window} - {None}
    allowed = {*negative.iaa, ErrorCode.DISTANCE_LENGTHS_OVERRUN}
    if negative.name == "no_literal_lengths_code":  # IAA notices it late; ours has a name of its own
        allowed.add(ErrorCode.NO_END_OF_BLOCK_CODE)
    assert ours <= allowed and ours


@pytest.mark.parametrize("corner", CORNERS, ids=lambda corner: corner.name)
def test_corner(corner: Corner):
    completion, output = model.inflate(corner.data, corner.format)
    assert (completion.error, output) == (corner.error, corner.output)
    accepted = _zlib_accepts(corner.data, corner.format)
    if corner.error:
        assert completion.status == Status.ANALYTICS_ERROR
        assert accepted is None
    else:
        assert completion.status == Status.SUCCESS
        assert (completion.consumed, completion.consumed_bit) == (corner.consumed, 0)
        assert accepted == (corner.output, corner.consumed)


def test_every_error_code_occurs():
    seen = {corner.error for corner in CORNERS}
    for negative in NEGATIVES:
        seen |= {negative.error, negative.strict, negative.small_window}
    assert set(ErrorCode) - seen == {ErrorCode.BAD_AECS}  # comes with canned codes only: test_inflate_model_jobs
