# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Branch and toggle coverage of the Amaranth source."""

import inspect

import numpy as np
import pytest
from native_devices import Copier, CopierRegister

from rackgate_sim.native import Coverage, Event, Simulation, build

pytestmark = pytest.mark.cosim


@pytest.fixture(scope="module")
def library():
    return build(Copier(), name="copier", variant="coverage", key=())


def line(text, start="class Copier(", nth=0):
    """Number of the nth line with a text, after another."""
    lines = inspect.getsource(inspect.getmodule(Copier)).splitlines()
    begin = next(k for k, one in enumerate(lines) if start in one)
    return [k + 1 for k, one in enumerate(lines) if k >= begin and text in one][nth]


def run(library, path, *, copy):
    simulation = Simulation(library)
    memory = np.zeros(4096, np.uint8)
    memory[:2048] = np.random.default_rng(1).integers(0, 256, 2048, dtype=np.uint8)
    simulation.memory().attach(memory, 0)
    simulation.write_register(CopierRegister.DESTINATION, 2048)
    if copy:
        simulation.write_register(CopierRegister.WORDS, 20)
        simulation.wait(Event.IRQ, 2000)
        assert (memory[2048:2208] == memory[:160]).all()
    return simulation.write_coverage(path), simulation.log_hash()


def test_branches_are_those_of_the_source(library, tmp_path):
    idle, _ = run(library, tmp_path / "idle.dat", copy=False)
    full, _ = run(library, tmp_path / "full.dat", copy=True)
    before, after = Coverage.read(library, [idle]), Coverage.read(library, [full])
    both = Coverage.read(library, [idle, full])
    file = next(iter(before.branches))[0]
    assert file.endswith("native_devices.py")
    loaded = (file, line("m.If(r.valid)"))
    failed = (file, line("m.If(r.payload.resp != Response.OKAY)"))
    destination = (file, line("m.Case(CopierRegister.DESTINATION)"))
    source = (file, line("m.Case(CopierRegister.SOURCE)"))
    words = (file, line("m.Case(CopierRegister.WORDS)"))
    assert {loaded, failed, source, words} <= set(before.missed()) and destination not in before.missed()
    assert loaded not in after.missed() and words not in after.missed() and {failed, source} <= set(after.missed())
    assert before.ratio() < after.ratio() == both.ratio() < 1
    # One line opens eight branches, one a buffer; all were taken.
    case = both.branches[file, line("with m.Case(k):", nth=1)]
    assert case.hit == case.total and case.total % 8 == 0


def test_toggles_are_by_declaration(library, tmp_path):
    path, _ = run(library, tmp_path / "a.dat", copy=True)
    coverage = Coverage.read(library, [path])
    file = next(iter(coverage.branches))[0]
    buffers = coverage.toggles[file, line("buffer = [Signal(64")]
    assert buffers.total == 8 * 64 and 0 < buffers.hit < buffers.total
    assert not any("amaranth/" in name or "contextlib" in name for name, _ in coverage.toggles)


def test_marks_change_nothing(library, tmp_path):
    fast = build(Copier(), name="copier", key=())
    hashes = []
    for one in (library, fast):
        simulation = Simulation(one, seed=3)
        simulation.memory().attach(np.ones(4096, np.uint8), 0)
        simulation.memory().configure(stall=0.3)
        simulation.write_register(CopierRegister.WORDS, 100)
        simulation.wait(Event.IRQ, 20_000)
        hashes.append(simulation.log_hash())
    assert hashes[0] == hashes[1]


def test_lcov(library, tmp_path):
    path, _ = run(library, tmp_path / "a.dat", copy=False)
    coverage = Coverage.read(library, [path])
    text = coverage.lcov()
    assert text.startswith("TN:\nSF:") and text.endswith("end_of_record\n")
    assert f"DA:{line('m.If(r.valid)')},0\n" in text
    assert f"LF:{len(coverage.branches)}\nLH:{len(coverage.branches) - len(coverage.missed())}\n" in text


def test_refusals(library, tmp_path):
    (tmp_path / "a.dat").write_text("something\n")
    with pytest.raises(ValueError, match="a.dat is not a coverage file of Verilator's"):
        Coverage.read(library, [tmp_path / "a.dat"])
    with pytest.raises(ValueError, match="library must be of variant 'coverage', not 'fast'"):
        Coverage.read(build(Copier(), name="copier", key=()), [])
