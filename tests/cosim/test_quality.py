# SPDX-License-Identifier: Apache-2.0
"""The measure of the regression, measured: tests that look catch faults, tests that do not let them by."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rackgate.paths import checkout
from rackgate_tb.quality.__main__ import EXPLAINED
from rackgate_tb.quality.faults import Fault
from rackgate_tb.quality.run import (
    ENGINES,
    Engine,
    QualityError,
    Verdict,
    coverage,
    explained,
    mutate,
    stable,
    write_record,
)

pytestmark = pytest.mark.cosim

COUNTER = '''
from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Counter(wiring.Component):
    up: In(1)
    down: In(1)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.up & ~self.down):
            m.d.sync += self.o.eq(self.o + 1)
        with m.Elif(self.down):
            m.d.sync += self.o.eq(self.o - 1)
        return m
'''

HEADER = '''
import pytest
from quality_counter import Counter

from rackgate_sim.native import Simulation, build


@pytest.fixture
def counter():
    return Simulation(build(Counter(), name="counter"))
'''

LOOKS = '''
    expected = 0
    for up, down in [(1, 0), (1, 0), (0, 0), (1, 1), (0, 1), (1, 0), (1, 0), (0, 1), (0, 0)]:
        counter.poke("up", up)
        counter.poke("down", down)
        counter.run(1)
        expected += -1 if down else up
        assert counter.peek("o") == expected % 256
'''

LOOKS_AWAY = '''
    counter.poke("up", 1)
    counter.run(3)
'''


@pytest.fixture
def small(tmp_path):
    """A regression of the counter in ``quality_counter.py``: a function from the test's body to an engine and root."""
    (tmp_path / "quality_counter.py").write_text(COUNTER)

    def make(body):
        (tmp_path / "test_counter.py").write_text(f"{HEADER}\n\ndef test_it(counter):\n{body}")
        return Engine("counter", ("test_counter.py",))

    return make


@pytest.fixture
def path(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def test_a_regression_that_looks_catches_faults(small, path):
    verdicts = mutate(small(LOOKS), root=path, count=3, seed=1, folder=path / "faults")
    assert len(verdicts) == 3 and all(verdict.caught for verdict in verdicts), verdicts
    assert all("test_it" in verdict.by for verdict in verdicts)
    branches, bits = coverage(small(LOOKS), root=path, folder=path / "coverage")
    assert branches == 100 and 0 < bits < 100


def test_one_that_looks_away_lets_them_by(small, path):
    verdicts = mutate(small(LOOKS_AWAY), root=path, count=2, seed=1, folder=path / "faults")
    assert len(verdicts) == 2 and not any(verdict.caught for verdict in verdicts)
    branches, _ = coverage(small(LOOKS_AWAY), root=path, folder=path / "coverage")
    assert 0 < branches < 100
    (path / "why.json").write_text(json.dumps({"counter": {str(verdicts[0].fault): "nobody looks"}}))
    record = write_record("counter", verdicts, (branches, None), seed=1, folder=path,
                          why=explained(path / "why.json", "counter"))
    assert record["mutants"] == {"made": 2, "caught": 0, "timed_out": 0, "explained": 1}
    assert json.loads((path / "counter.json").read_text()) == record


def test_explanations_outlive_the_numbers_of_names():
    assert stable(r"\nic.guard: if (\$signal$8 ) _07_ <= \port$12209$0 ; -> 1'h1") == (
        r"\nic.guard: if (\$signal$ ) _07_ <= \port$$ ; -> 1'h1")


def test_an_engine_within_another_is_left_to_itself():
    def owned(engine, *modules):
        return [ENGINES[engine].owns(Fault(module, 1, "never", "", "")) for module in modules]

    assert owned("iaa", r"\iaa.engine_0.inflate", r"\iaa.engine_0.inflate.slot_0") == [False, False]
    assert owned("iaa", r"\iaa", r"\iaa.engine_0.lane_1", r"\iaa.engine_0.inflated") == [True, True, True]
    assert owned("inflate", r"\inflate", r"\inflate.engine.slot_0") == [True, True]


def test_a_record_keeps_the_half_that_was_not_measured(tmp_path, monkeypatch):
    fault = Fault("\\counter", 3, "constant", "1'h1", "1'h0")
    found = write_record("counter", [Verdict(fault, True, "test_it")], (None, None), why={}, seed=1, folder=tmp_path)
    assert found["mutants"]["caught"] == 1 and found["line_percent"] is None and found["why"] == "not measured"
    both = write_record("counter", [], (90.0, 80.0), why={}, seed=1, folder=tmp_path)
    assert both == {**found, "line_percent": 90.0, "toggle_percent": 80.0, "why": ""}
    assert write_record("counter", [], (None, None), why={}, seed=1, folder=tmp_path) == both
    monkeypatch.setattr("rackgate_tb.quality.run.commit", lambda: "another")
    later = write_record("counter", [], (91.0, 81.0), why={}, seed=1, folder=tmp_path)
    assert later["mutants"] is None and later["line_percent"] == 91, "faults in other gateware"


def test_a_regression_that_fails_says_nothing(small, path):
    with pytest.raises(QualityError, match="the tests do not pass with all faults asleep: test_counter.py::test_it"):
        mutate(small("    assert False\n"), root=path, count=2, seed=1, folder=path / "faults")
    with pytest.raises(QualityError, match="the tests build no model named other"):
        mutate(Engine("other", small(LOOKS).tests), root=path, count=2, seed=1, folder=path / "faults")


def test_the_command_refuses_other_engines():
    done = subprocess.run([sys.executable, "-m", "rackgate_tb.quality", "toaster"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and "there is no engine 'toaster'; there are inflate" in done.stderr.replace("\n", " ")


@pytest.mark.soak
@pytest.mark.parametrize("name", ENGINES)
def test_faults_in_engines_are_caught(name, tmp_path):
    """Fifty faults an engine; who survives is explained in the file beside this one."""
    root = checkout()
    assert root is not None
    verdicts = mutate(ENGINES[name], root=root, count=50, seed=1, folder=tmp_path / name)
    percents = coverage(ENGINES[name], root=root, folder=tmp_path / name / "coverage")
    record = write_record(name, verdicts, percents, why=explained(Path(root / EXPLAINED), name), seed=1)
    assert not [one["fault"] for one in record["survivors"] if one["why"] is None]
