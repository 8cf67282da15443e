# SPDX-License-Identifier: Apache-2.0
import random
import sys
import zlib

import pytest
from sabre_samples import page

from rackgate_host.errors import UsageError
from rackgate_host.sabre import software
from rackgate_host.sabre.canned import CannedTable

TABLE = CannedTable.from_counts([1] * 286, [1] * 30)


@pytest.fixture(params=software.NAMES)
def library(request):
    if request.param not in software.available():
        pytest.skip(f"{request.param} is not installed")
    return software.choose(request.param)


def deflated(content):
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def test_the_same_bytes_from_every_library(library, seed):
    dice = random.Random(seed)
    for content in [page(dice) for _ in range(8)] + [b"x", dice.randbytes(100000)]:
        assert library.inflate(deflated(content), len(content)) == content
        stored = TABLE.encode(content)
        assert library.inflate(stored, len(content), TABLE.header) == content
        assert library.inflate(memoryview(stored), len(content), TABLE.header) == content


@pytest.mark.parametrize("header", [b"", TABLE.header], ids=["own header", "canned"])
def test_streams_of_other_sizes(library, header):
    content = b"some text, " * 300
    stream = TABLE.encode(content) if header else deflated(content)
    for data, size in ((stream, len(content) - 1), (stream, len(content) + 1), (stream[:-2], len(content)),
                       (b"", len(content)), (b"\xff" * 200, len(content))):
        with pytest.raises(software.InvalidStream):
            library.inflate(data, size, header)
    assert library.inflate(stream, len(content), header) == content


def test_zlib_sees_what_follows_a_stream():
    with pytest.raises(software.InvalidStream, match="3 bytes follow the stream"):
        software.choose("zlib").inflate(deflated(b"abc") + b"abc", 3)


def test_the_fastest_is_chosen(monkeypatch):
    assert software.choose().name == software.available()[0]
    assert software.choose() is software.choose()
    with pytest.raises(UsageError, match="there is no decompressor lz4; there are libdeflate, isal, zlib"):
        software.choose("lz4")
    for module in ("deflate", "isal", "isal.isal_zlib"):
        monkeypatch.setitem(sys.modules, module, None)
    software._made.cache_clear()
    software._crc_function.cache_clear()
    try:
        assert software.available() == ("zlib",) and software.choose().name == "zlib"
        with pytest.raises(UsageError, match="isal is not installed; installed are zlib"):
            software.choose("isal")
        assert software.crc32(b"abc") == zlib.crc32(b"abc")
    finally:
        software._made.cache_clear()
        software._crc_function.cache_clear()


def test_crc32_is_zlibs(seed):
    data = random.Random(seed).randbytes(5000)
    assert software.crc32(data) == zlib.crc32(data)
    assert software.crc32(memoryview(data)[7:], software.crc32(data[:7])) == zlib.crc32(data)
