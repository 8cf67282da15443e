# SPDX-License-Identifier: Apache-2.0
"""The simulated cluster: exclusion, times, time-outs, and that the same arguments give the same run."""

import numpy as np
import pytest

from rackgate.fisslock.abi import Mode
from rackgate.fisslock.effects import Granted
from rackgate_sim.locks.cluster import Cluster
from rackgate_sim.locks.parameters import Parameters
from rackgate_sim.locks.systems import SYSTEMS, demands, make
from rackgate_sim.locks.workloads import WORKLOADS, Trace, Workload

CYCLES = {"fisslock": 8, "netlock": 40, "server": 8}
FEW = Parameters(client_cores=8, netlock_locks=16, netlock_slots=64)


def fixed(transactions, name="fixed", coroutines=2, think_ns=0.0, locks=64):
    """A workload in which each core has a list of transactions of its own."""

    def make_trace(rng, core, cores, count):
        mine = transactions(core)
        sizes = [len(one) for one in mine]
        flat = [part for one in mine for part in one]
        return Trace(np.concatenate([[0], np.cumsum(sizes)]), np.array([lock for lock, _ in flat]),
                     np.array([bool(mode) for _, mode in flat]), np.zeros(len(mine), int))

    return Workload(name, locks, coroutines, think_ns, make_trace)


def cluster(name, workload, parameters=FEW, seed=1, transactions=200):
    cores = int(parameters.client_cores)
    traces = [workload.trace(seed, core, cores, transactions) for core in range(cores)]
    return Cluster(make(name, workload, demands(workload, traces), parameters, CYCLES[name]), workload, traces,
                   parameters)


class Watched:
    """A participant whose grants and releases are held to mutual exclusion."""

    def __init__(self, participant, holders):
        self.participant, self.holders = participant, holders

    def __getattr__(self, name):
        return getattr(self.participant, name)

    def release(self, lock, task, now):
        self.holders[lock].remove(next(one for one in self.holders[lock] if one[0] == task))
        self.participant.release(lock, task, now)

    def take(self):
        effects = self.participant.take()
        for effect in effects:
            if isinstance(effect, Granted):
                holding = self.holders.setdefault(effect.lock, [])
                holding.append((effect.task, effect.mode))
                assert len(holding) == 1 or all(mode == Mode.SHARED for _, mode in holding), (effect, holding)
        return effects


def watch(one):
    holders = {}
    for host, participant in one.setup.participants.items():
        one.setup.participants[host] = Watched(participant, holders)
    return one


def hot(core):
    """All want a few locks, in order."""
    rng = np.random.default_rng(core)
    return [[(lock, int(rng.integers(2))) for lock in sorted(rng.choice(5, 2, replace=False).tolist())]
            for _ in range(50)]


@pytest.mark.parametrize("name", SYSTEMS)
def test_exclusion_on_hot_locks(name):
    outcome = watch(cluster(name, fixed(hot))).run(3000)
    assert outcome.operations == len(outcome.grants) == 3000 and not outcome.aborts
    assert 1400 < outcome.transactions < 1600


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_circle_of_waiters_ends_by_time_out(name):
    crossed = fixed(lambda core: [[(core, 1), (1 - core, 1)]], coroutines=1)
    parameters = Parameters(client_cores=2, netlock_locks=16, netlock_slots=64, timeout_ns=200e3, link_ns=100)
    outcome = watch(cluster(name, crossed, parameters)).run(400)
    assert outcome.aborts and outcome.transactions


@pytest.mark.parametrize("name", ["fisslock", "netlock"])
def test_a_grant_without_waiting_takes_what_its_parts_take(name):
    alone = fixed(lambda core: [[(core, 1)]], coroutines=1, think_ns=50e3)
    outcome = cluster(name, alone).run(200)
    assert outcome.percentile(99) - outcome.percentile(1) < 100
    assert outcome.percentile(50) == pytest.approx(4000, rel=0.1), "the published round trip"
    slow = cluster(name, alone, FEW.scaled(2.0, "link_ns")).run(200)
    assert slow.percentile(50) - outcome.percentile(50) == pytest.approx(2 * FEW.link_ns, abs=1)
    assert outcome.packets / outcome.operations == pytest.approx({"fisslock": 4, "netlock": 3}[name], abs=0.1)


def test_runs_are_the_same_for_the_same_arguments():
    workload = WORKLOADS["micro-uh-zipf"]()
    one, same, other = (cluster("fisslock", workload, seed=seed).run(500) for seed in (1, 1, 2))
    assert one.grants.tolist() == same.grants.tolist() != other.grants.tolist()
    assert one.seconds == same.seconds


def test_netlock_recirculates_and_its_server_has_what_the_switch_has_not():
    few = cluster("netlock", fixed(hot), Parameters(client_cores=8, netlock_locks=2, netlock_slots=3)).run(2000)
    assert few.rounds and few.kinds[3] and few.kinds[5], "grants of the server and of the switch"
    assert set(few.kinds) == {3, 5}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_warmed_up_run_measures_what_follows(name):
    one = cluster(name, WORKLOADS["micro-rm-uni"]())
    outcome = one.run(100, warm_up_ns=50e3, span_ns=100e3)
    assert one.now > 150e3 and outcome.seconds >= 100e-6 and outcome.operations >= 100
    assert len(one.grants) > outcome.operations and 0 < outcome.server_busy <= 1


def test_nothing_left_to_happen_is_told():
    one = cluster("server", fixed(lambda core: [[(core, 1)]]))
    one.setup.participants[8].receive = lambda *_: None
    with pytest.raises(RuntimeError, match="server: nobody was granted a lock since"):
        one.run(10)


def test_parameters_tell_what_they_are():
    for one in Parameters.describe():
        assert one["meaning"] and one["source"] and getattr(Parameters(), one["name"]) == one["default"]
    assert Parameters().scaled(0.5, "link_ns", "table_ns").as_dict()["link_ns"] == Parameters().link_ns / 2
    with pytest.raises(ValueError, match="clock_mhz must be positive, not 0"):
        Parameters(clock_mhz=0)
    with pytest.raises(ValueError, match="link_ns must be at least 0, not -1"):
        Parameters(link_ns=-1)
    with pytest.raises(ValueError, match="name must be one of fisslock, netlock, server, not 'x'"):
        make("x", WORKLOADS["tatp"](), [], FEW, 1)


def test_demands_count_requests_and_contention():
    workload = fixed(lambda core: [[(1, 1)], [(1, 1), (core + 2, 0)], [(40, 0)]] if core else [[(1, 0)]] * 3,
                     coroutines=1)
    found = {one.lock: one for one in demands(workload, [workload.trace(1, core, 3, 3) for core in range(3)])}
    assert (found[1].rate, found[1].contention) == (7, 3)
    assert (found[3].rate, found[3].contention) == (1, 1) and (found[40].rate, found[40].contention) == (2, 2)
