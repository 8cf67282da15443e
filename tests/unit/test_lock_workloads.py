# SPDX-License-Identifier: Apache-2.0
"""The workloads against the figures that are known of the published ones."""

import numpy as np
import pytest

from rackgate_sim.locks.workloads import (
    TPCC_LOCKS,
    TPCC_WAREHOUSES,
    WORKLOADS,
    micro,
    statistics,
    tatp,
    tpcc,
)

CORES, TRANSACTIONS = 40, 10_000


def traces(workload, seed, transactions=TRANSACTIONS):
    return [workload.trace(seed, core, CORES, transactions) for core in range(CORES)]


@pytest.mark.parametrize("name", WORKLOADS)
def test_traces_are_the_same_for_the_same_seed(name):
    workload = WORKLOADS[name]()
    assert workload.name == name
    one, same, other = (workload.trace(seed, 3, CORES, 500) for seed in (1, 1, 2))
    assert one.transactions == same.transactions != other.transactions
    assert len(one) == len(one.transactions) == 500
    assert all(0 <= lock < workload.locks and mode in (0, 1) for part in one.transactions for lock, mode in part)
    assert all(len({lock for lock, _ in part}) == len(part) for part in one.transactions), "a lock is taken once"


@pytest.mark.parametrize(("mix", "share"), [("uh", 0.5), ("rm", 0.1), ("ro", 0.0)])
def test_micro(mix, share, seed):
    found = statistics(traces(WORKLOADS[f"micro-{mix}-zipf"](), seed, 25_000))
    assert found.locks == 1 and found.exclusive == pytest.approx(share, abs=0.003)
    assert (found.top_1, found.top_10, found.top_1000) == pytest.approx((0.033, 0.106, 0.346), rel=0.02)
    flat = statistics(traces(WORKLOADS[f"micro-{mix}-uni"](), seed))
    assert flat.top_1000 < 0.02


def test_tatp(seed):
    found = statistics(traces(tatp(), seed, 25_000))
    assert found.locks == pytest.approx(0.94, abs=0.01) and found.none == pytest.approx(0.17, abs=0.005)
    assert found.exclusive == pytest.approx(0.194, abs=0.006) and found.top_1000 == pytest.approx(0.22, abs=0.01)


def test_tpcc(seed):
    made = traces(tpcc(), seed)
    found = statistics(made)
    assert found.locks == pytest.approx(8.72, abs=0.15) and found.exclusive == pytest.approx(0.865, abs=0.004)
    away = [trace.locks // TPCC_LOCKS // TPCC_WAREHOUSES != core * 8 // CORES for core, trace in enumerate(made)]
    assert np.concatenate(away).mean() == pytest.approx(0.0073, abs=0.001)
    sizes = np.concatenate([np.diff(trace.starts)[trace.kinds == 0] for trace in made])
    assert sizes.mean() == pytest.approx(14.6, abs=0.25) and sizes.max() == 16


def test_tpcc_stock_in_order_and_from_afar(seed):
    trace = tpcc(remote_stock=1.0, in_order=True).trace(seed, 0, CORES, 300)
    for kind, locks in zip(trace.kinds, trace.transactions, strict=True):
        if kind == 0:
            stock = [lock for lock, _ in locks[5:-1]]
            assert stock == sorted(stock) and all(lock // TPCC_LOCKS // TPCC_WAREHOUSES for lock in stock)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="exclusive must be 0 to 1, not 2"):
        micro(2, None)
    with pytest.raises(ValueError, match="subscribers must be at least 1, not 0"):
        tatp(0)
    with pytest.raises(ValueError, match="remote_stock must be 0 to 1, not -1"):
        tpcc(-1)
