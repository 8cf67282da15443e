# SPDX-License-Identifier: Apache-2.0
"""Figures against the baseline: what is listed, what is worse, what is not compared."""

import copy
import json

import pytest
from typer.testing import CliRunner

from rackgate_host.bench import benches
from rackgate_host.bench.compare import compare, load, write
from rackgate_host.cli import app
from rackgate_host.errors import UsageError


def record(**values):
    """A record of the bench "fake": cycles of the cases named."""
    points = [{"case": case, "metric": "cycles", "value": value, "unit": "cycle", "counted": True, "conditions": {},
               **({} if value is not None else {"why": "no"})} for case, value in values.items()]
    return {"bench": "fake", "seed": 1, "options": {"size": 2}, "commit": "abc", "versions": {"python": "3"},
            "results": points, "failed": []}


def point(case, metric, value, counted=True, **conditions):
    return {"case": case, "metric": metric, "value": value, "unit": "1", "counted": counted, "conditions": conditions}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders of the baseline and of records; a figure of "fake" is set by the test."""
    monkeypatch.setitem(benches.BENCHES, "fake", benches.Bench("nowhere:run", "nothing", {"size": 2}))
    (tmp_path / "results").mkdir()

    def keep(value):
        (tmp_path / "results" / "fake.json").write_text(json.dumps(value))

    return tmp_path, keep


def rackgate(folder, *arguments):
    return CliRunner().invoke(app, ["bench", "compare", "--baseline", str(folder / "baseline"), "--results",
                                    str(folder / "results"), *arguments], env={"COLUMNS": "200"})


@pytest.mark.parametrize(("metric", "was", "now", "expected"), [
    ("cycles", 1000, 1010, None), ("cycles", 1000, 990, None), ("cycles", 1000, 1011, True),
    ("cycles", 1000, 989, False), ("bytes_per_cycle", 4.0, 3.9, True), ("bytes_per_cycle", 4.0, 4.1, False),
    ("median_grant_cut_percent", -100.0, -102.0, True), ("bubbles_per_packet", 0, 0.1, True), ("cycles", 0, 0, None),
    ("cycles", 5, None, True),
])
def test_one_figure(metric, was, now, expected):
    baseline, found = record(), record()
    baseline["results"] = [point("a", metric, was)]
    found["results"] = [point("a", metric, now)]
    result = compare(found, baseline)
    if expected is None:
        assert (result.same, result.changes) == (1, [])
    else:
        change, = result.changes
        assert (change.was, change.now, change.worse) == (was, now, expected)


def test_what_is_gone_is_worse_and_what_is_new_is_told():
    result = compare(record(b=2), record(a=1))
    assert [(change.case, change.worse) for change in result.changes] == [("a", True)]
    assert result.new == [("b", "cycles")]
    assert compare(record(b=2), record(a=1, b=2), partly=True).changes == []


def test_wall_time_is_never_compared():
    found = record()
    found["results"] = [point("a", "cycles", 5), point("b", "cycles", 10, counted=False)]
    result = compare(found, record(a=5))
    assert (result.same, result.changes, result.new) == (1, [], [])


def test_other_data_is_not_compared():
    one, two = record(), record()
    one["results"], two["results"] = [point("a", "cycles", 5, data="x")], [point("a", "cycles", 9, data="y")]
    result = compare(one, two)
    assert (result.same, result.changes, result.other_data) == (0, [], 1)


@pytest.mark.parametrize("key", ["seed", "options"])
def test_other_runs_are_not_compared(key):
    found = {**record(a=5), key: 7}
    result = compare(found, record(a=1))
    assert result.changes == () and f"the record's {key} 7 are not the baseline's" in result.why


def test_a_baseline_is_written_and_read(tmp_path):
    value = record(a=5, b=None, c=7)
    value["results"] += [point("d", "cycles", 1, counted=False), point("e", "cycles", 2, data="xyz", other=1)]
    assert write(value, tmp_path / "sub" / "fake.json") == 3
    kept = load(tmp_path / "sub" / "fake.json")
    assert {name: kept[name] for name in ("bench", "seed", "options", "commit")} == {
        name: value[name] for name in ("bench", "seed", "options", "commit")}
    assert kept["results"][2] == {"case": "e", "metric": "cycles", "value": 2, "unit": "1", "data": "xyz"}
    lines = (tmp_path / "sub" / "fake.json").read_text().splitlines()
    assert sum('"case"' in line for line in lines) == 3, "a figure a line: what changes is seen in a diff"
    assert compare(value, kept).same == 3 and not compare(value, kept).changes


def test_a_run_that_failed_is_no_baseline(tmp_path):
    with pytest.raises(UsageError, match="fake: part 1 failed, so this record is no baseline"):
        write({**record(a=1), "failed": [{"unit": "part 1", "why": "no"}]}, tmp_path / "fake.json")


@pytest.mark.parametrize("text", ["{", "3", "{}", '{"bench": "x"}'])
def test_what_is_no_record(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match="a.json is n"):
        load(tmp_path / "a.json")
    assert load(tmp_path / "none.json") is None


def test_the_command(folders):
    folder, keep = folders
    keep(record(a=100, b=50))
    done = rackgate(folder, "fake", "--update")
    assert done.exit_code == 0 and "2 figures" in done.stdout
    assert (rackgate(folder, "fake").exit_code, rackgate(folder).exit_code) == (0, 0)
    keep(record(a=90, b=50))
    done = rackgate(folder, "fake")
    assert done.exit_code == 0 and "better" in done.stdout and "fake: 1 as the baseline, 1 changed" in done.stdout
    keep(record(a=90, b=60))
    done = rackgate(folder, "fake")
    assert done.exit_code == 1 and "worse" in done.stdout
    shown = json.loads(rackgate(folder, "fake", "--json").stdout)
    assert shown["comparisons"][0]["changes"][1] == {
        "bench": "fake", "case": "b", "metric": "cycles", "was": 50, "now": 60, "percent": 20, "worse": True}
    rackgate(folder, "--update")
    assert rackgate(folder, "fake").exit_code == 0, "on purpose"


def test_the_command_refuses(folders):
    folder, keep = folders
    for text in ("there is no baseline in", "there is no record: rackgate bench fake --quick"):
        error = rackgate(folder, "fake").exception
        assert isinstance(error, UsageError) and text in str(error)
        keep(record(a=1))
        assert rackgate(folder, "fake", "--update").exit_code == 0
        (folder / "results" / "fake.json").unlink()
    keep({**record(a=1), "options": {"size": 99}})
    assert "not of a quick run" in str(rackgate(folder, "fake", "--update").exception)
    assert "options" in str(rackgate(folder, "fake").exception)


def test_comparing_changes_nothing():
    one, two = record(a=1, b=2), record(a=1, b=3)
    before = copy.deepcopy((one, two))
    compare(one, two)
    assert (one, two) == before
