# SPDX-License-Identifier: Apache-2.0
"""The bench `inflate`: real pages, all cases, and no figure for data that comes out wrong."""

import zlib

import pytest

import rackgate_host
from rackgate_host.bench import inflate, pages
from rackgate_host.bench.record import Result
from rackgate_host.errors import DeviceFault, Unavailable
from rackgate_host.inflate import InflateDriver


@pytest.fixture
def driver():
    with rackgate_host.open("model:inflate") as device:
        yield InflateDriver.of(device)


def test_pages_are_real():
    anon, code = pages.process_pages(1, 20)
    assert len(anon) == len(code) == 20
    assert all(len(page) == pages.PAGE and any(page) for page in (*anon, *code))
    ratio = [len(zlib.compress(b"".join(kind), 6)) / (20 * pages.PAGE) for kind in (anon, code)]
    # Machine code is denser than a heap, and neither is noise.
    assert ratio[0] < ratio[1] < 0.9


def test_pages_that_cannot_be_had():
    with pytest.raises(Unavailable, match="pages of a process need /proc/self/mem"):
        pages.process_pages(1, 10**7)


def test_tar():
    content = pages.tar(1 << 20)
    assert 1 << 20 <= len(content) < (1 << 20) + 30_000  # the last entry's padding and the archive's end
    assert content[257:262] == b"ustar"
    assert b"import " in content and b"\x7fELF" in content


def test_measure(driver):
    contents = [bytes(range(256)) * 16, b"x" * 4096] * 40  # more than the ring holds
    size, cycles = inflate.measure(driver, contents)
    assert 0 < size < 80 * 4096
    assert cycles > 0
    # Two literals a cycle, or a match of 8 bytes: no device of this kind is faster.
    assert 80 * 4096 / cycles <= 8 * driver.contexts


def test_wrong_output_has_no_figure(driver, monkeypatch):
    right = inflate._deflate
    monkeypatch.setattr(inflate, "_deflate", lambda content, strategy: right(b"X" + content[1:], strategy))
    with pytest.raises(DeviceFault, match="input 0 did not come out as it went in"):
        inflate.measure(driver, [b"abc" * 100])


def test_cases(monkeypatch):
    monkeypatch.setattr(inflate, "_TAR_SIZE", 1 << 16)
    points = [Result(**point) for point in inflate.run(device="model:inflate", pages=3)]
    assert [point.case for point in points] == ["anon-4k-dynamic", "anon-4k-fixed", "code-4k-dynamic", "code-4k-fixed",
                                                "tar-10m"]
    assert {(point.metric, point.unit) for point in points} == {("bytes_per_cycle", "byte/cycle")}
    assert [point.floor for point in points] == [3.4, 4.0, 1.65, None, 2.5]
    for point in points:
        assert point.value == pytest.approx(point.conditions["bytes_out"] / point.conditions["cycles"], abs=1e-3)
