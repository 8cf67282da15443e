# SPDX-License-Identifier: Apache-2.0
"""Several benches at once: units in processes, what is kept of an interrupted run, and failures that stop nothing."""

import collections
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from bench_fakes import fake, values
from typer.testing import CliRunner

from rackgate_host.bench import benches, store
from rackgate_host.bench.apart import measure_apart, measure_here
from rackgate_host.bench.store import Kept, Store
from rackgate_host.bench.suite import Pool, Suite, in_turn
from rackgate_host.cli import app
from rackgate_host.errors import UsageError

__all__ = ["fake"]


def unit(number=0, **options):
    return benches.Unit("fake", f"part {number}", {"count": 3, "only": number, **options}, 1, "anywhere")


@pytest.fixture
def here(monkeypatch):
    """The commit and the sources stay what they are while a test runs."""
    monkeypatch.setattr(store, "commit", lambda: "abc")
    monkeypatch.setattr(store, "identity", lambda: {"code": "x"})


def run(requests, executor=in_turn, keep=None, alone=in_turn, seed=1):
    whole = Suite(requests, seed, keep)
    return whole, {record.bench: record for record in whole.run(executor, alone)}


# One unit


def test_a_unit_in_a_process_of_its_own(fake):
    told = []
    apart, here = measure_apart(unit(2), told.append, limit=60), measure_here(unit(2), told.append)
    assert apart.points == here.points and apart.points[0]["value"] == 102 and apart.points[0]["counted"]
    assert told == ["number 2", "number 2"]


def test_what_a_bench_prints_is_not_its_result(fake):
    assert measure_apart(unit(noise=True), print, limit=60).points


def test_a_unit_that_fails_says_why(fake):
    for measure in (measure_here, lambda *arguments: measure_apart(*arguments, limit=60)):
        outcome = measure(unit(1, fails=1), print)
        assert (outcome.points, outcome.exit_code) == (None, 1)
        assert outcome.why.startswith("ValueError: it cannot be")


def test_a_unit_that_dies_says_so(fake, tmp_path):
    (tmp_path / "die").touch()
    outcome = measure_apart(unit(die=str(tmp_path / "die")), print, limit=60)
    assert outcome.died and outcome.why == "the process that measured fake: part 0 ended with signal 9"


def test_a_unit_ends_at_its_limit(fake):
    begin = time.monotonic()
    outcome = measure_apart(unit(seconds=100), print, limit=2)
    assert (outcome.why, outcome.exit_code) == ("fake: part 0 did not end within 2 s", 4)
    assert time.monotonic() - begin < 30


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def until(event, what, seconds=30):
    end = time.monotonic() + seconds
    while not (found := event()):
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.05)
    return found


def started(folder):
    return [int(path.name.rpartition("-")[2]) for path in folder.iterdir()]


def test_a_unit_ends_with_its_parent(fake, tmp_path):
    script = ("import json, sys; from rackgate_host.bench import apart, benches; "
              "apart.measure_apart(benches.Unit(**json.loads(sys.argv[1])), print, limit=60)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    text = json.dumps(unit(seconds=100, folder=str(tmp_path)).as_dict())
    parent = subprocess.Popen([sys.executable, "-c", script, text], env=environment, stdout=subprocess.DEVNULL)
    child, = until(lambda: started(tmp_path), "unit")
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not is_alive(child), "end of the unit")


# Units side by side


def test_processes_give_what_one_gives(fake):
    requests = {"fake": {"count": 5}, "collectives": {"device": "model:collective", "ranks": 2, "sizes": 64,
                                                      "operations": "bcast,barrier"}}
    one, two = run(requests)[1], run(requests, Pool(2))[1]
    assert {name: values(record) for name, record in one.items()} == {
        name: values(record) for name, record in two.items()}
    assert [result.case for result in two["fake"].results] == [f"case-{number}" for number in range(5)]


def test_a_process_that_dies_is_run_once_more(fake, tmp_path):
    (tmp_path / "die").touch()
    whole, records = run({"fake": {"die": str(tmp_path / "die")}}, Pool(2))
    assert whole.exit_code == 0 and len(records["fake"].results) == 3


def test_the_first_unit_of_a_bench_goes_before_its_others(fake, tmp_path):
    """It builds what they need, and others' units need not wait for that."""
    units = [unit(number, seconds=1.0 if number == 0 else 0.0, folder=str(tmp_path)) for number in range(3)]
    other = benches.Unit("locks", "bits", {"only": "bits"}, 1, "anywhere")
    order = [place for place, _ in Pool(3)([*units, other], print)]
    assert set(order) == {0, 1, 2, 3} and order.index(0) < min(order.index(1), order.index(2))
    begun = {path.name.partition("-")[0]: path.stat().st_mtime for path in tmp_path.iterdir()}
    assert min(begun["1"], begun["2"]) > begun["0"] + 1


def test_no_process_is_left_behind(fake, tmp_path):
    """As when the user interrupts."""
    running = Pool(2)([unit(), *(unit(number, seconds=100, folder=str(tmp_path)) for number in (1, 2))], print)
    assert next(running)[0] == 0, "the first"
    children = until(lambda: started(tmp_path), "unit")
    running.close()
    assert not [child for child in children if is_alive(child)]


def test_what_a_wall_clock_measures_comes_last_and_alone(fake):
    order = []

    def executor(name):
        def execute(units, report):
            order.append((name, [each.name for each in units]))
            return in_turn(units, report)
        return execute

    _, records = run({"fake": {"count": 4, "wall": 1}}, executor("spread"), alone=executor("alone"))
    assert order == [("spread", ["part 1", "part 2", "part 3"]), ("alone", ["part 0"])]
    order.clear()
    list(Suite({"fake": {"count": 4, "wall": 1, "data": 1}}, 1).run(executor("spread"), executor("alone"),
                                                                    here=executor("here")))
    assert order == [("spread", ["part 2", "part 3"]), ("here", ["part 1"]), ("alone", ["part 0"])]
    assert [point.counted for point in records["fake"].results] == [False, True, True, True]


# What is kept


def test_an_interrupted_run_goes_on(fake, here, tmp_path):
    keep = Store(tmp_path / "points")

    def interrupted(units, report):
        yield next(in_turn(units, report))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Suite({"fake": {"wall": 1}}, 1, keep).run(interrupted, in_turn))
    record, = Suite({"fake": {"wall": 1}}, 1, keep).run(in_turn, in_turn)
    assert [one["kept"] for one in record.units] == [False, True, False]
    assert values(record) == values(run({"fake": {"wall": 1}})[1]["fake"])
    # Counts are what they are; times are taken anew by the next run.
    record, = Suite({"fake": {"wall": 1}}, 1, keep).run(in_turn, in_turn)
    assert [one["kept"] for one in record.units] == [False, True, True]


def test_only_the_same_is_taken_over(fake, here, tmp_path, monkeypatch):
    keep = Store(tmp_path)
    assert keep.find(unit()) is None
    keep.keep(unit(), Kept([{"case": "a"}], 2.5))
    assert keep.find(unit()) == Kept([{"case": "a"}], 2.5)
    assert keep.find(unit(1)) is None and keep.find(unit(seconds=1)) is None
    assert keep.find(benches.Unit("fake", "part 0", unit().options, 2, "anywhere")) is None
    assert Store(tmp_path, fresh=True).find(unit()) is None
    monkeypatch.setattr(store, "commit", lambda: "def")
    assert Store(tmp_path).find(unit()) is None
    monkeypatch.setattr(store, "commit", lambda: "abc")
    monkeypatch.setattr(store, "identity", lambda: {"code": "y"})
    assert Store(tmp_path).find(unit()) is None
    path, = tmp_path.iterdir()
    for text in ("", "[]", "{}", '{"points": 3, "seconds": 1}'):
        path.write_text(text)
        assert keep.find(unit()) is None


def test_sources_decide(tmp_path, monkeypatch):
    before = store.code()
    package = tmp_path / "some_package"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(store, "_PACKAGES", (*store._PACKAGES, "some_package", "no_such_package"))
    found = set()
    for text in ("a = 1", "a = 2", "a = 1"):
        (package / "__init__.py").write_text(text)
        found.add(store.code())
    assert len(found) == 2 and before not in found


# Failures


def test_a_bench_that_fails_stops_no_other(fake, here, tmp_path):
    requests = {"fake": {"fails": 1}, "collectives": {"device": "model:no-such-device", "operations": "barrier",
                                                      "ranks": 2}, "locks": {"only": "bits"}}
    whole, records = run(requests, keep=Store(tmp_path))
    failed, = records["fake"].failed
    assert failed["unit"] == "part 1" and failed["why"].startswith("ValueError: it cannot be")
    assert [point.case for point in records["fake"].results] == ["case-0", "case-2"]
    assert len(records["collectives"].failed) == 2 and not records["collectives"].results
    assert records["locks"].results and not records["locks"].failed
    assert whole.exit_code == 1 and records["fake"].as_dict()["failed"] == [failed]
    assert len(list(tmp_path.iterdir())) == 3, "what failed is not kept"


def test_the_command_ends_with_the_reasons_of_its_exit_code(fake, here, tmp_path):
    arguments = ["bench", "fake", "--jobs", "1", "--out", str(tmp_path), "--set", "floor=101"]
    done = CliRunner().invoke(app, arguments)  # cycles are 100, 101 and 102
    assert done.exit_code == 1
    assert "case-2 cycles: floor 101 does not hold" in done.stdout and "case-1 cycles:" not in done.stdout
    assert done.stderr.splitlines()[-1] == "fake: 1 floor does not hold"
    done = CliRunner().invoke(app, [*arguments, "--set", "floor=100", "--set", "fails=0", "--json"])
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "fake: 2 floors do not hold, 1 unit failed"
    assert CliRunner().invoke(app, [*arguments, "--set", "floor=102"]).exit_code == 0


def test_a_package_that_is_missing_ends_one_bench(fake, monkeypatch):
    monkeypatch.setitem(benches.BENCHES, "lost", benches.Bench("no_such_package.bench:run", "nothing"))
    whole, records = run({"lost": {}, "fake": {}})
    assert "no_such_package is not installed" in records["lost"].failed[0]["why"]
    assert len(records["fake"].results) == 3 and whole.exit_code == 3
    with pytest.raises(ModuleNotFoundError):
        run({"lost": {}})


@pytest.mark.parametrize(("requests", "text"), [
    ({"fake": {"depth": 1}}, "bench fake has no option 'depth'"), ({"none": {}}, "there is no bench 'none'"),
    ({"collectives": {"ranks": 99}, "fake": {}}, "ranks must be 2 to 16, not 99"),
])
def test_what_makes_no_sense_is_told_before_anything_runs(fake, requests, text):
    with pytest.raises(UsageError, match=text):
        Suite(requests, 1)


def test_jobs_make_sense():
    with pytest.raises(UsageError, match="jobs must be at least 1, not 0"):
        Pool(0)


# How the benches are split


@pytest.mark.parametrize("name", sorted(benches.BENCHES))
@pytest.mark.parametrize("is_quick", [False, True])
def test_units_are_benches_with_narrower_options(name, is_quick):
    options = benches.BENCHES[name].quick if is_quick else {}
    units = benches.units_of(name, 1, options)
    assert units and len({each.name for each in units}) == len(units)
    assert len({json.dumps(each.as_dict(), sort_keys=True) for each in units}) == len(units)
    for each in units:
        again, = benches.units_of(name, 1, each.options)
        assert (again.name, again.where) == (each.name, each.where), "a unit can be asked for by its options"


def test_the_units_that_are_spread():
    count = {name: collections.Counter(each.where for each in benches.units_of(name, 1, {}))
             for name in benches.BENCHES}
    assert count["inflate"] == {"anywhere": 1, "here": 5} and count["iaa"] == {"anywhere": 1, "here": 9}
    assert count["zeronic"] == {"anywhere": 3, "alone": 3} and count["collectives"] == {"anywhere": 41}
    assert count["locks"] == {"anywhere": 16} and count["sabre"]["here"] > 4 and count["sabre"]["alone"] == 1
    assert count["cosim"] == {"alone": 1} and set(count["area"]) == {"anywhere"}


def test_where_makes_sense():
    with pytest.raises(ValueError, match="locks: bits: where must be anywhere, here or alone, not 'there'"):
        benches.Unit("locks", "bits", {}, 1, "there")
