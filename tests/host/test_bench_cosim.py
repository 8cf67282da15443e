# SPDX-License-Identifier: Apache-2.0
"""The bench ``cosim``: its points, whatever the simulators say, and that a case that takes too long has no value."""

import pytest

from rackgate_host.bench.command import BENCHES, run_bench
from rackgate_tb import speed

CASES = ["pysim", "cocotb-default", "cocotb-tight", "native"]
SPEEDS = {"pysim": 1e3, "cocotb-default": 40e3, "cocotb-tight": 60e3, "native": 1.2e6}


@pytest.fixture
def simulators(monkeypatch):
    """Results by case, in place of simulators."""
    results = {case: {"cycles": 10 * speed_, "seconds": 10.0, "jobs": 7} for case, speed_ in SPEEDS.items()}
    asked = []

    def measure(case, design, seconds, limit):
        asked.append((case, dict(design), seconds, limit))
        return results[case]

    monkeypatch.setattr(speed, "_measure", measure)
    results["asked"] = asked
    return results


def test_all_cases_of_one_design(simulators):
    record = run_bench("cosim", options={"lanes": 16, "seconds": 3, "limit": 40})
    assert [(point.case, point.metric) for point in record.results] == [
        *((case, "cycles_per_second") for case in CASES), ("native", "ratio_to_cocotb_default")]
    assert [point.value for point in record.results] == [*SPEEDS.values(), 30]
    assert [point.target for point in record.results] == [None, None, 50e3, 1e6, 20]
    assert all(point.reaches for point in record.results)
    assert [point.floor for point in record.results] == [None] * 5, "a slow machine is no failure"
    design = {"contexts": 1, "window": 4096, "lanes": 16}
    assert simulators["asked"] == [(case, design, 3, 40) for case in CASES]
    for point in record.results[:4]:
        assert point.conditions["lanes"] == 16 and point.conditions["jobs"] == 7


def test_without_a_value_it_says_why(simulators):
    simulators["cocotb-default"] = {"why": "building and running took more than 40 s"}
    record = run_bench("cosim")
    points = {(point.case, point.metric): point for point in record.results}
    assert points["cocotb-default", "cycles_per_second"].why == "building and running took more than 40 s"
    ratio = points["native", "ratio_to_cocotb_default"]
    assert ratio.value is None and ratio.why == "native or cocotb-default was not measured in this run"
    assert not ratio.reaches


def test_without_cocotb_it_says_how_to_get_it(monkeypatch, tmp_path):
    (tmp_path / "cocotb_tools").mkdir()
    (tmp_path / "cocotb_tools" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'cocotb_tools'\", name='cocotb_tools')")
    monkeypatch.syspath_prepend(tmp_path)
    record = run_bench("cosim", options={"only": "cocotb-tight", "seconds": 1})
    assert record.results[0].value is None
    assert record.results[0].why == ("it failed: the package of cocotb_tools is missing: "
                                     "pip install 'rackgate[bench]'; `make bench` does it")


def test_only_some_cases(simulators):
    record = run_bench("cosim", options={"only": "pysim,cocotb-tight"})
    assert [point.case for point in record.results] == ["pysim", "cocotb-tight"]
    record = run_bench("cosim", options={"only": "native"})
    assert [point.metric for point in record.results] == ["cycles_per_second"], "a ratio takes two"


@pytest.mark.parametrize(("options", "message"), [
    ({"only": "verilator"}, "only must name cases among pysim, .*, not 'verilator'"),
    ({"seconds": 0}, "seconds must be positive, not 0"), ({"limit": -1}, "limit must be positive, not -1"),
])
def test_refuses(simulators, options, message):
    with pytest.raises(ValueError, match=message):
        run_bench("cosim", options=options)
    assert simulators["asked"] == []


def test_a_case_ends_at_its_limit():
    assert speed._measure("pysim", {"contexts": 1}, 1, 0.05) == {"why": "building and running took more than 0.05 s"}


def test_a_case_that_fails_says_so():
    measured = speed._measure("pysim", {"contexts": 9}, 1, 100)
    assert measured["why"] == "it failed: ValueError: contexts must be 1 to 8, not 9"


@pytest.mark.cosim
@pytest.mark.soak
def test_simulators_get_jobs_done():
    record = run_bench("cosim", options={"only": "pysim,cocotb-tight,native", "seconds": 0.1})
    by_case = {point.case: point for point in record.results if point.metric == "cycles_per_second"}
    assert all(point.value for point in by_case.values()), [point.why for point in by_case.values()]
    assert all(point.conditions["jobs"] >= 2 for point in by_case.values())


def test_it_is_in_the_table():
    assert BENCHES["cosim"].load() is speed.run
