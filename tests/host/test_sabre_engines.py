# SPDX-License-Identifier: Apache-2.0
"""Engines by themselves: the paced one's clock, the adapter for engines of single jobs, names and options."""

import ctypes
import random

import numpy as np
import pytest
from sabre_engines import Jobs
from sabre_samples import memory as sample

from rackgate_host.errors import Unavailable, UsageError
from rackgate_host.sabre import snapshot
from rackgate_host.sabre.engines import (
    Arenas,
    Batch,
    Batched,
    CycleModel,
    EngineError,
    EngineResult,
    PacedEngine,
    make_engine,
)
from rackgate_host.sabre.format import PAGE, Kind
from rackgate_host.sabre.plan import WORK, Plan

PAGES = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory, request):
    """A snapshot, its plan and its memory."""
    path = tmp_path_factory.mktemp("engines") / "x.rgs"
    data = sample(random.Random(request.config.getoption("--seed")), PAGES)
    snapshot.write(path, [snapshot.Region("x", 0, data)], jobs=1)
    with snapshot.Snapshot.open(path) as opened:
        yield opened, Plan.of(opened), data


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def paced(world, now, **options):
    opened, plan, _ = world
    return PacedEngine(opened, plan, Arenas(0, 0), now=now, **options)


def work_of(plan, units):
    units = np.array(units)
    return plan.work(units, plan.units["source"][units], 0)


def test_a_batch_is_done_when_its_cycles_have_passed(world, tmp_path):
    _, plan, data = world
    cycles = np.arange(1000, 1000 + PAGES)
    np.save(tmp_path / "cycles.npy", cycles)
    clock = Clock()
    engine = paced(world, clock, clock=1.0, cycles=str(tmp_path / "cycles.npy"))
    engine.submit(Batch(1, work_of(plan, [0, 1])))
    expected = int(cycles[plan.units["partition"][:2]].sum())
    assert engine.collect() == [] and engine.due() == pytest.approx(
        1e-6 * int(cycles[plan.units["partition"][work_of(plan, [0, 1])["unit"][0]]]))
    clock.now += expected * 1e-6 - 1e-7
    assert engine.collect() == []
    clock.now += 2e-7
    result, = engine.collect()
    assert (result.number, result.cycles, result.faults) == (1, expected, {})
    assert result.seconds == pytest.approx(expected * 1e-6)
    assert result.crc32.tolist() == work_of(plan, [0, 1])["crc32"].tolist()
    assert engine.due() is None and engine.collect() == []
    engine.close()


def test_latency_delays_results_and_not_what_follows(world, tmp_path):
    _, plan, _ = world
    np.save(tmp_path / "cycles.npy", np.full(PAGES, 1000))
    clock = Clock()
    engine = paced(world, clock, clock=1.0, cycles=str(tmp_path / "cycles.npy"), latency=400)
    for number in (1, 2):
        engine.submit(Batch(number, work_of(plan, [number])))
    for moment, done in ((1.3e-3, []), (1.5e-3, [1]), (2.3e-3, []), (2.5e-3, [2])):
        clock.now = Clock.now + moment
        assert [result.number for result in engine.collect()] == done, moment
    assert engine.due() is None


def test_what_it_gives_are_the_restored_bytes(world):
    _, plan, data = world
    clock = Clock()
    engine = paced(world, clock)
    work = work_of(plan, range(len(plan.units)))
    engine.submit(Batch(1, work))
    clock.now += 1
    result, = engine.collect()
    for row, address in zip(work, result.addresses.tolist(), strict=True):
        page = int(plan.unit_page[row["unit"]])
        assert ctypes.string_at(address, PAGE) == data[page * PAGE:(page + 1) * PAGE]
    assert (result.crc32 == work["crc32"]).all()


@pytest.mark.parametrize("engines", [1, 2, 4])
def test_engines_work_side_by_side(world, engines):
    _, plan, _ = world
    clock = Clock()
    engine = paced(world, clock, clock=1.0, engines=engines, cycles={"base": 100, "per_stored": 0, "per_page": 0,
                                                                     "per_raw": 0})
    engine.submit(Batch(1, work_of(plan, range(8))))
    clock.now += 8 / engines * 100e-6 - 1e-6
    assert engine.collect() == []
    clock.now += 2e-6
    assert [result.number for result in engine.collect()] == [1]


def test_urgent_work_goes_before_what_has_not_begun(world):
    _, plan, _ = world
    clock = Clock()
    engine = paced(world, clock, clock=1.0, cycles={"base": 100, "per_stored": 0, "per_page": 0, "per_raw": 0})
    engine.submit(Batch(1, work_of(plan, range(10))))
    clock.now += 150e-6
    engine.submit(Batch(2, work_of(plan, [12]), urgent=True))
    clock.now += 100e-6
    assert engine.collect() == []
    clock.now += 51e-6
    assert [result.number for result in engine.collect()] == [2], "after the second unit of ten, which ran already"
    clock.now += 799e-6
    assert engine.collect() == []
    clock.now += 2e-6
    assert [result.number for result in engine.collect()] == [1]


def test_time_before_a_submission_is_not_used(world):
    _, plan, _ = world
    clock = Clock()
    engine = paced(world, clock, clock=1.0, cycles={"base": 100, "per_stored": 0, "per_page": 0, "per_raw": 0})
    clock.now += 5
    engine.submit(Batch(1, work_of(plan, [0])))
    clock.now += 99e-6
    assert engine.collect() == []
    clock.now += 2e-6
    assert len(engine.collect()) == 1


def test_the_cycle_model():
    units = np.zeros(3, WORK)
    units["kind"], units["size"], units["stored"] = [Kind.CANNED, Kind.RAW, Kind.DYNAMIC], [4096, 8192, 8192], [
        911, 8192, 4394]
    assert CycleModel().cycles(units) == pytest.approx([4096 / 4.8, 1024, 8192 / 3.1], rel=0.002)
    assert CycleModel(base=10, per_stored=1, per_page=2, per_raw=0.5).cycles(units).tolist() == [923, 4106, 4408]


@pytest.mark.parametrize("options, message", [
    ({"clock": 0}, "clock must be above 0 MHz, not 0"),
    ({"engines": 0}, "engines and depth must be 1 or more, not 0 and 16"),
    ({"depth": 0}, "not 1 and 0"),
    ({"latency": -1}, "latency must be 0 or more cycles, not -1"),
])
def test_options_of_the_paced_engine(world, options, message):
    with pytest.raises(UsageError, match=message):
        paced(world, Clock(), **options)


def test_cycles_must_be_there_for_each_partition(world, tmp_path):
    np.save(tmp_path / "few.npy", np.ones(3))
    with pytest.raises(UsageError, match="few.npy must hold the cycles of each partition"):
        paced(world, Clock(), cycles=str(tmp_path / "few.npy"))


def test_damage_is_found_when_the_paced_engine_prepares(world, tmp_path):
    opened, plan, _ = world
    victim = int(np.flatnonzero(plan.units["kind"] == Kind.RAW)[0])
    data = bytearray(opened.path.read_bytes())
    data[int(plan.units["source"][victim]) + 5] ^= 1
    path = tmp_path / "damaged.rgs"
    path.write_bytes(data)
    with snapshot.Snapshot.open(path) as damaged:
        clock = Clock()
        engine = PacedEngine(damaged, plan, Arenas(0, 0), now=clock)
        engine.submit(Batch(1, work_of(plan, [victim])))
        clock.now += 1
        result, = engine.collect()
        assert result.crc32[0] != plan.units["crc32"][victim]


def test_jobs_of_batches_come_back_as_batches(world):
    opened, plan, data = world
    size = int(plan.units["source"].max()) + PAGE
    arenas = Arenas(size, PAGES * PAGE)
    arenas.source[:opened.path.stat().st_size] = opened.path.read_bytes()[:size]
    engine = Batched(Jobs(opened), arenas)
    half = len(plan.units) // 2
    first, second = work_of(plan, range(half)), work_of(plan, range(half, len(plan.units)))
    second["target"] += np.uint64(half * PAGE)
    engine.submit(Batch(7, first))
    engine.submit(Batch(8, second))
    assert engine.due() == 0.0 and engine.descriptors() == ()
    results = []
    while len(results) < 2:
        results += engine.collect()
    assert sorted(result.number for result in results) == [7, 8] and engine.due() is None
    for result, work in zip(sorted(results, key=lambda result: result.number), (first, second), strict=True):
        assert (result.crc32 == work["crc32"]).all() and result.faults == {}
        assert result.cycles == 1000 * len(work)
        assert (result.addresses - arenas.target_address == work["target"]).all()
        for row in work:
            page, target = int(plan.unit_page[row["unit"]]), int(row["target"])
            assert bytes(arenas.target[target:target + PAGE]) == data[page * PAGE:(page + 1) * PAGE]
    engine.close()


def test_a_job_that_nobody_gave_is_an_engine_error(world):
    engine = Batched(Jobs(world[0]), Arenas(PAGE, PAGE))
    engine._engine.collect = lambda: [EngineResult(3, 0)]
    with pytest.raises(EngineError, match="reported partition 3, which it did not have"):
        engine.collect()


def test_errors_of_jobs_name_their_entry(world):
    opened, plan, _ = world
    arenas = Arenas(PAGE, PAGE)
    engine = Batched(Jobs(opened), arenas)
    engine._engine.collect = lambda: [EngineResult(int(work["partition"][0]), 0, error="no such code")]
    work = work_of(plan, [0])
    work["source"] = 0
    engine.submit(Batch(1, work))
    result, = engine.collect()
    assert result.faults == {0: "no such code"}


def test_engines_are_found_by_name(world):
    opened, plan, _ = world
    engine = make_engine("sabre_engines:jobs", opened, plan, Arenas(PAGE, PAGE), {})
    assert isinstance(engine, Batched)
    with pytest.raises(UsageError, match="there is no engine 'fpga'; there are software, paced, device"):
        make_engine("fpga", opened, plan, Arenas(PAGE, PAGE), {})
    with pytest.raises(UsageError, match="engine 'sabre_engines:jobs': .*speed"):
        make_engine("sabre_engines:jobs", opened, plan, Arenas(PAGE, PAGE), {"speed": 1})
    with pytest.raises(UsageError, match="workers must be 1 or more, not 0"):
        make_engine("software", opened, plan, Arenas(PAGE, PAGE), {"workers": 0})
    with pytest.raises(UsageError, match="there is no decompressor quick"):
        make_engine("software", opened, plan, Arenas(PAGE, PAGE), {"codec": "quick", "workers": 1})
    with pytest.raises(Unavailable, match="the engine 'no_module:engine' is not there"):
        make_engine("no_module:engine", opened, plan, Arenas(PAGE, PAGE), {})
