# SPDX-License-Identifier: Apache-2.0
"""The bench of locks: names, ratios, where its clock is from."""

import json

import pytest

from rackgate_host.bench.command import BENCHES, run_bench
from rackgate_sim.locks.bench import clock, join, run, units
from rackgate_sim.locks.experiment import PAPER, VARIATIONS, Experiment, Size, latencies
from rackgate_sim.locks.parameters import Parameters

SMALL = {"quick": True, "cores": False, "operations": 200}


def points(**options):
    return {(point["case"], point["metric"]): point for point in run(**{**SMALL, **options})}


@pytest.mark.thorough
def test_the_record_has_the_names_that_must_be():
    record = run_bench("locks", options={**SMALL, "cases": "micro-uh-uni,tatp"})
    found = {(result.case, result.metric): result for result in record.results}
    for case in ("fissfused", "fissfaithful", "netlock"):
        assert found[case, "bits_per_lock"].value
    for metric in ("median_grant_cut_percent", "p99_grant_cut_percent"):
        assert found["micro-uh-uni", metric].value
    assert found["tatp", "throughput_ratio_netlock"].paper == PAPER["tatp"] == 1.76
    assert found["tatp", "throughput_ratio_server"].value
    assert found["micro-least", "median_grant_cut_percent"].conditions["of"] == "micro-uh-uni"
    conditions = found["tatp", "throughput_ratio_netlock"].conditions
    assert set(Parameters().as_dict()) < set(conditions) and conditions["seed"] == 1
    for system in ("fisslock", "netlock", "server"):
        point = found[f"tatp-{system}", "grant_median_us"]
        assert point.conditions["clock_mhz"] and point.conditions["clock_source"]
        shares, times = point.series["percent"], point.series["grant_us"]
        assert sorted(times) == times and times[shares.index(50)] == point.value
        assert times[shares.index(99)] == found[f"tatp-{system}", "grant_p99_us"].value
    assert not record.missed and json.dumps(record.as_dict())


@pytest.mark.thorough
def test_bits_of_locks():
    found = points(only="bits")
    assert found["fissfused", "bits_per_lock"]["value"] == found["fissfaithful", "bits_per_lock"]["value"] == 18
    assert found["netlock-4", "bits_per_lock"]["value"] == 833
    assert found["fissfused", "locks_per_mbit"]["value"] == pytest.approx(58254, abs=1)


@pytest.mark.thorough
def test_constants_are_halved_and_doubled():
    found = points(only="sensitivity-tatp", sensitivity=True)
    for group in VARIATIONS:
        for factor in ("0.5", "2"):
            assert found[f"tatp-{group}-x{factor}", "throughput_ratio_netlock"]["value"]
    slow, usual = (found[case, "throughput_ratio_netlock"]["conditions"] for case in ("tatp-link-x2", "tatp-as-is"))
    assert slow["link_ns"] == 2 * usual["link_ns"] and slow["table_ns"] == usual["table_ns"]
    switch = found["tatp-switch-x2", "throughput_ratio_netlock"]["conditions"]
    assert switch["cycles_netlock"] == 2 * usual["cycles_netlock"]


@pytest.mark.thorough
def test_the_same_seed_gives_the_same_ratios():
    one, same, other = (points(only="micro-rm-zipf", seed=seed)["micro-rm-zipf", "median_grant_cut_percent"]["value"]
                        for seed in (1, 1, 2))
    assert one == same != other


def test_a_ratio_is_that_of_what_was_measured():
    done = Experiment("micro-uh-uni", Parameters(), {"fisslock": 8, "netlock": 40, "server": 0},
                      Size(200, 10e3, 0.0, 4000), 1).run(lambda line: None)
    medians = {name: one.percentile(50) for name, one in done.outcomes.items()}
    assert done.cut(50) == pytest.approx(100 - 100 * medians["fisslock"] / medians["netlock"])


@pytest.mark.soak
def test_tpcc():
    found = points(cases="tpcc")
    assert found["tpcc", "throughput_ratio_netlock"]["paper"] == 2.28
    assert found["tpcc", "throughput_ratio_netlock"]["value"] > 1 < found["tpcc", "throughput_ratio_server"]["value"]


@pytest.mark.thorough
def test_too_few_operations_are_told():
    done = Experiment("tpcc", Parameters(), {"fisslock": 8, "netlock": 40, "server": 0}, Size(10, 0.0, 0.0, 4000), 1)
    with pytest.raises(ValueError, match="tpcc: 10 operations are too few to see a transaction done"):
        done.run(lambda line: None).ratio("server")


def test_latencies_are_the_gatewares():
    found = latencies(Parameters(), 1024)
    assert found["server"] == 0 < found["fisslock"] < found["netlock"]


def test_the_clock_is_the_slowest_routed_one(tmp_path):
    assert clock(tmp_path)[0] == Parameters().clock_mhz and "not routed" in clock(tmp_path)[1]
    results = [{"case": case, "metric": "fmax_mhz", "value": value}
               for case, value in (("inflate-1x4k", 60.0), ("fissfused-64k", 97.0), ("netlock", 88.0))]
    (tmp_path / "area.json").write_text(json.dumps({"results": results, "commit": "abc"}))
    assert clock(tmp_path) == (88.0, "routed, netlock of `rackgate bench area` at commit abc")
    (tmp_path / "area.json").write_text("[]")
    assert clock(tmp_path)[0] == Parameters().clock_mhz


def test_unknown_workloads_are_told():
    with pytest.raises(ValueError, match="there is no workload 'x'; there are micro-uh-zipf"):
        list(run(cases="x"))
    assert BENCHES["locks"].load() is run
    with pytest.raises(ValueError, match="only must name parts among fissfused, .*, not 'x'"):
        list(run(only="x"))


def test_units_keep_the_clock_that_was_found(monkeypatch):
    """A worker on another machine has no record of a routed clock."""
    monkeypatch.setattr("rackgate_sim.locks.bench.clock", lambda: (91.0, "routed"))
    for name, options, where in units(cases="tatp", cores=False):
        assert (options["clock_mhz"], options["clock_source"], options["only"], where) == (
            91.0, "routed", name, "anywhere")
    assert [options["clock_source"] for _, options, _ in units(only="bits", clock_mhz=80.0)] == ["asked for"]


def test_parts_are_joined():
    points = [{"case": case, "metric": "median_grant_cut_percent", "value": value, "conditions": {}, "counted": True}
              for case, value in (("micro-uh-uni", 54.0), ("micro-ro-zipf", 8.0), ("micro-rm-uni", None),
                                  ("micro-uh-uni-link-x2", 1.0))]
    assert [(point["case"], point["value"], point["conditions"]["of"]) for point in join(points)] == [
        ("micro-least", 8.0, "micro-ro-zipf"), ("micro-most", 54.0, "micro-uh-uni")]
    assert join(points[2:]) == []
