# SPDX-License-Identifier: Apache-2.0
"""The bench ``iaa`` on the model: the points that have a name, and what they are measured with."""

import random

import pytest

from rackgate_host.bench import iaa
from rackgate_host.bench.command import run_bench
from rackgate_host.errors import UsageError


@pytest.fixture(autouse=True)
def samples(monkeypatch):
    """Pages that take no time to make."""
    def pages(kind, count):
        rng = random.Random(kind)
        return [bytes(rng.choices(b"page of memory", k=4096)) for _ in range(count)]

    monkeypatch.setattr(iaa, "page_samples", pages)


def test_points():
    record = run_bench("iaa", options={"device": "model:iaa", "pages": 2, "engines": "2,4"})
    points = {point.case: point for point in record.results}
    assert {"anon-4k-canned", "anon-4k-dynamic", "code-4k-dynamic"} <= set(points)
    assert all(points[name].metric == "cycles" for name in ("lone-page-canned", "lone-page-dynamic"))
    for engines in (2, 4):
        point = points[f"engines-{engines}"]
        assert (point.metric, point.floor) == ("scaling", 0.9) and point.value > 0.5
        conditions = point.conditions
        assert (conditions["engines"], conditions["ports"], conditions["port_limit"]) == (engines, engines, 8 * engines)
        assert point.value == pytest.approx(conditions["bytes_per_cycle"] / conditions["one_engine"] / engines, 1e-2)
    shared = points["engines-2-one-port"]
    assert (shared.conditions["ports"], shared.floor) == (1, None)


def test_quick():
    record = run_bench("iaa", options={"device": "model:iaa", "pages": 1, "quick": True})
    assert [point.case for point in record.results if point.metric == "scaling"] == ["engines-2"]


def test_a_case_by_itself():
    whole, *parts = (run_bench("iaa", options={"device": "model:iaa", "pages": 3, "engines": "2", "only": only})
                     for only in ("", "anon-4k-canned", "engines-2"))
    found = {(point.case, point.metric): point.value for part in parts for point in part.results}
    assert set(found) == {("anon-4k-canned", "bytes_per_cycle"), ("lone-page-canned", "cycles"),
                          ("engines-2", "scaling")}
    assert found == {(point.case, point.metric): point.value for point in whole.results
                     if (point.case, point.metric) in found}
    with pytest.raises(UsageError, match="only must name cases among anon-4k-canned.*, not 'engines-8'"):
        run_bench("iaa", options={"device": "model:iaa", "engines": "2", "only": "engines-8"})


def test_wrong_engines():
    with pytest.raises(UsageError):
        run_bench("iaa", options={"device": "model:iaa", "pages": 1, "engines": "3"})
