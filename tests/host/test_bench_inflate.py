# SPDX-License-Identifier: Apache-2.0
"""The bench `inflate`: real pages, all cases, and no figure for data that comes out wrong."""

import random

import pytest

import rackgate_host
from rackgate_host.bench import inflate
from rackgate_host.bench.record import Result
from rackgate_host.errors import DeviceFault, Unavailable, UsageError
from rackgate_host.inflate import InflateDriver


@pytest.fixture
def driver():
    with rackgate_host.open("model:inflate") as device:
        yield InflateDriver.of(device)


def test_data_that_cannot_be_had():
    with pytest.raises(Unavailable, match="no data of the kind code to measure on: .*pages, not 10000000"):
        inflate.page_samples("code", 10**7)


def test_measure(driver):
    contents = [bytes(range(256)) * 16, b"x" * 4096] * 40  # more than the ring holds
    streams, cycles = inflate.measure(driver, contents)
    assert 0 < sum(map(len, streams)) < 80 * 4096
    assert cycles > 0
    # Two literals a cycle, or a match of 8 bytes: no device of this kind is faster.
    assert 80 * 4096 / cycles <= 8 * driver.contexts


def test_wrong_output_has_no_figure(driver, monkeypatch):
    right = inflate._deflate
    monkeypatch.setattr(inflate, "_deflate", lambda content, *others: right(b"X" + content[1:], *others))
    with pytest.raises(DeviceFault, match="input 0 did not come out as it went in"):
        inflate.measure(driver, [b"abc" * 100])


def test_a_small_window_gets_data_that_fits_it():
    content = random.Random(1).randbytes(5000) * 2  # what comes again is farther away than the window
    with rackgate_host.open("model:inflate", window=4096) as device:
        streams, _ = inflate.measure(InflateDriver.of(device), [content])
    assert len(streams[0]) > len(content)


def test_cases(monkeypatch):
    monkeypatch.setattr(inflate, "_TAR_SIZE", 1 << 16)
    points = [Result(**point) for point in inflate.run(device="model:inflate", pages=3)]
    assert [point.case for point in points] == ["anon-4k-dynamic", "anon-4k-fixed", "code-4k-dynamic", "code-4k-fixed",
                                                "tar-10m", "made-4k-dynamic"]
    assert {(point.metric, point.unit) for point in points} == {("bytes_per_cycle", "byte/cycle")}
    assert [point.floor for point in points] == [3.4, 4.0, 1.65, None, 2.5, None]
    for point in points:
        assert point.value == pytest.approx(point.conditions["bytes_out"] / point.conditions["cycles"], abs=1e-3)


def test_a_case_by_itself():
    one, = inflate.run(device="model:inflate", pages=3, only="made-4k-dynamic")
    assert one["case"] == "made-4k-dynamic" and len(one["conditions"]["data"]) == 16
    with pytest.raises(UsageError, match="only must name cases among anon-4k-dynamic.*, not 'x'"):
        next(inflate.run(only="x"))
