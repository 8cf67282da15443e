# SPDX-License-Identifier: Apache-2.0
"""A small part of the quick run against the recorded baseline: nothing that is counted in cycles got worse unless the
baseline says so."""

from pathlib import Path

import pytest

from rackgate_host.bench import benches
from rackgate_host.bench.compare import baseline_folder, compare, load

#: Units of the quick run, by bench. Their models are those that other tests need as well.
PART = {
    "inflate": ["made-4k-dynamic"],
    "iaa": ["made-4k-dynamic"],
    "locks": ["fissfused", "bits", "micro-uh-uni"],
    "collectives": ["latency", "allreduce, 4 ranks"],
    "zeronic": ["width 8"],
}

pytestmark = [pytest.mark.cosim, pytest.mark.thorough, pytest.mark.xdist_group("native")]


def test_the_baseline_is_of_quick_runs():
    found = {path.stem: load(path) for path in baseline_folder().glob("*.json")}
    assert set(PART) <= set(found) <= set(benches.BENCHES)
    for name, baseline in found.items():
        assert baseline is not None and baseline["options"] == benches.BENCHES[name].quick, name
        figures = [(point["case"], point["metric"]) for point in baseline["results"]]
        assert figures and len(set(figures)) == len(figures)


@pytest.mark.parametrize("name", PART)
def test_nothing_got_worse(name):
    path = baseline_folder() / f"{name}.json"
    baseline = load(path)
    assert baseline is not None
    units = [unit for unit in benches.units_of(name, baseline["seed"], baseline["options"]) if unit.name in PART[name]]
    assert [unit.name for unit in units] == PART[name] and all(unit.counted for unit in units)
    points = [point for unit in units for point in benches.measure(unit, print)]
    result = compare({**baseline, "results": points}, baseline, partly=True)
    if result.other_data:
        print(f"{result.other_data} figures have other input than the baseline's: this machine's zlib, say")
    worse = [f"{change.case} {change.metric}: {change.was:g}, now {change.now}" for change in result.changes
             if change.worse]
    assert not worse, (f"worse than {Path(path.parent.name) / path.name}: {'; '.join(worse)}. If that is on purpose: "
                       f"rackgate bench {name} --quick && rackgate bench compare {name} --update")
    assert not result.new, f"figures that the baseline lacks: {result.new}"
    assert result.same + len(result.changes) + result.other_data == len(points)
