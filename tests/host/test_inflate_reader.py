# SPDX-License-Identifier: Apache-2.0
import gzip
import io
import random
import zlib

import pytest

from rackgate_host import inflate

TEXT = b"".join(b"%d: a line of text\n" % n for n in range(3000))
MEMBERS = gzip.compress(TEXT) + bytes(7) + gzip.compress(b"") + gzip.compress(b"second\n") + bytes(600)


def theirs(data, read=lambda file: file.read()):
    try:
        return read(gzip.GzipFile(fileobj=io.BytesIO(data)))
    except (zlib.error, OSError, EOFError) as error:
        return error


def ours(data, device, read=lambda file: file.read()):
    try:
        return read(inflate.open(io.BytesIO(data), device=device))
    except (zlib.error, OSError, EOFError) as error:
        return error


def test_whole_files(device):
    assert ours(MEMBERS, device) == TEXT + b"second\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(20),
        gzip.compress(b"", mtime=0),
        gzip.compress(b"x", mtime=0) + b"\0",
        gzip.compress(b"x", mtime=0) + b"junk",
        b"junk!",
        b"\x1f",
        gzip.compress(TEXT, mtime=0)[:-9],
        gzip.compress(TEXT, mtime=0)[:-3],
        gzip.compress(TEXT, mtime=0)[:50],
        gzip.compress(TEXT, mtime=0)[:-1] + b"?",
        gzip.compress(TEXT, mtime=0)[:-5] + b"????" + b"\0",
        b"\x1f\x8b\x07" + bytes(20),
        gzip.compress(TEXT, mtime=0)[:100] + bytes(50),
    ],
)
def test_as_gzip_does(model, data):
    expected, actual = theirs(data), ours(data, model)
    if isinstance(expected, Exception):
        assert isinstance(actual, EOFError if isinstance(expected, EOFError) else (zlib.error, OSError))
        assert isinstance(actual, gzip.BadGzipFile) == isinstance(expected, gzip.BadGzipFile), (
            expected,
            actual,
        )
    else:
        assert actual == expected


def test_lines_sizes_and_seeks(model, seed):
    rng = random.Random(seed)
    reference = io.BytesIO(TEXT + b"second\n")
    with inflate.open(io.BytesIO(MEMBERS), device=model) as file:
        for _ in range(60):
            match rng.randrange(4):
                case 0:
                    size = rng.randrange(3000)
                    assert file.read(size) == reference.read(size)
                case 1:
                    assert file.readline() == reference.readline()
                case 2:
                    place = rng.randrange(len(TEXT) + 100)
                    assert file.seek(place) == min(place, len(TEXT) + 7)
                    reference.seek(min(place, len(TEXT) + 7))
                case 3:
                    assert file.tell() == reference.tell()
        assert file.seek(0, io.SEEK_END) == len(TEXT) + 7
        assert file.seek(-7, io.SEEK_CUR) == len(TEXT) and file.read() == b"second\n"
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)


def test_paths_and_text(model, tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(MEMBERS)
    with inflate.open(path, "rt", encoding="ascii", device=model) as file:
        assert file.readline() == "0: a line of text\n"
        assert len(file.readlines()) == 3000
    with inflate.open(str(path), device=model) as file:
        assert file.raw.name == str(path) and file.readable() and file.seekable() and not file.writable()
        assert file.read(5) == TEXT[:5]


def test_the_callers_file_stays_open(model):
    inner = io.BytesIO(MEMBERS)
    with inflate.open(inner, device=model) as file:
        file.read(10)
    assert not inner.closed and inner.tell() > 0
    with pytest.raises(ValueError):
        file.read()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("wb",), "mode must be 'r', 'rb' or 'rt', not 'wb'"), (("rb", "ascii"), "need mode 'rt'")],
)
def test_wrong_modes(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        inflate.open(io.BytesIO(b""), arguments[0], encoding=(*arguments, None)[1], device=model)


def test_a_missing_file(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        inflate.open(tmp_path / "none.gz", device=model)
