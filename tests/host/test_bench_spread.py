# SPDX-License-Identifier: Apache-2.0
"""A bench spread over a Dask cluster: what comes is what processes of this machine give, also when a worker is lost."""

import json
import os
import signal
import threading
import time

import pytest
from bench_fakes import fake, values
from distributed import LocalCluster
from typer.testing import CliRunner

from rackgate_host.bench import spread, store
from rackgate_host.bench.spread import Spread
from rackgate_host.bench.suite import Pool, Suite, in_turn
from rackgate_host.cli import app
from rackgate_host.errors import Unavailable, UsageError

__all__ = ["fake"]

pytestmark = pytest.mark.xdist_group("dask")

#: Of the model's collectives: real units, in processes beside the workers.
COLLECTIVES = {"device": "model:collective", "ranks": 2, "sizes": 64, "operations": "bcast"}


@pytest.fixture(scope="module")
def cluster(fake):
    """Two workers with a process each, which a supervisor replaces when they are lost."""
    with pytest.MonkeyPatch.context() as patch, LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", host="127.0.0.1") as made:
        patch.setattr(store, "code", lambda: "tested")
        yield made


def records(requests, executor):
    return {record.bench: record for record in Suite(requests, 1).run(executor, in_turn)}


def told(record):
    """All that a record says of its points, but for the commit: somebody may be committing."""
    points = [result.as_dict() for result in record.results]
    return [{**point, "conditions": {**point["conditions"], "commit": ""}} for point in points]


def until(event, what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := event()):
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.02)
    return found


def test_a_worker_is_lost(cluster, tmp_path):
    """In mid-run: nothing is lost, and results are those of the local pool."""
    requests = {"fake": {"count": 6, "seconds": 0.5, "folder": str(tmp_path)}, "collectives": COLLECTIVES}
    workers = {worker.pid for worker in cluster.workers.values()}
    killed = []

    def kill():
        begun = until(lambda: list(tmp_path.iterdir()), "unit")
        worker = int(begun[0].read_text())
        os.kill(worker, signal.SIGKILL)
        killed.append((worker, int(begun[0].name.rpartition("-")[2])))

    killer = threading.Thread(target=kill)
    killer.start()
    spread_out = records(requests, Spread(cluster.scheduler_address, 60))
    killer.join()
    (worker, unit), = killed
    assert worker in workers, "what was killed was a worker"
    with pytest.raises(ProcessLookupError):
        os.kill(unit, 0)
    again = [path for path in tmp_path.iterdir() if path.name.startswith("0-")]
    assert not spread_out["fake"].failed and len(spread_out["fake"].results) == 6
    assert len(again) == 2 or len(list(tmp_path.iterdir())) > 6, "a unit was begun twice"
    assert {one["where"][:6] for one in spread_out["fake"].units} == {"tcp://"}
    local = records(requests, Pool(2, 60))
    assert {name: told(record) for name, record in spread_out.items()} == {
        name: told(record) for name, record in local.items()}
    assert values(spread_out["fake"]) == {(f"case-{number}", "cycles"): 100 + number for number in range(6)}


def test_the_command_spreads(cluster, tmp_path):
    """What is counted, while what needs a clock on the wall, or data of this machine, stays here."""
    arguments = ["bench", "fake", "--set", "wall=1", "--set", "data=1", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, [*arguments, "--scheduler", cluster.scheduler_address])
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert [unit["where"][:6] for unit in shown["units"]] == ["here", "here", "tcp://"]
    assert [point["counted"] for point in shown["results"]] == [False, True, True]
    assert "fake: part 1" in done.stderr and len(list((tmp_path / ".points").iterdir())) == 2, "not of what was timed"


def test_a_unit_that_fails_there_fails_here(cluster):
    record = records({"fake": {"fails": 1}}, Spread(cluster.scheduler_address, 60))["fake"]
    assert [failure["unit"] for failure in record.failed] == ["part 1"] and len(record.results) == 2
    assert record.failed[0]["why"].startswith("ValueError: it cannot be")


def test_a_worker_with_other_sources_is_refused(cluster, monkeypatch):
    mine = spread.identity()
    other = {"code": "other", "versions": {**mine["versions"], "verilator": "9", "cocotb": mine["versions"]["cocotb"]}}
    monkeypatch.setattr(spread, "identity", lambda: other)
    with pytest.raises(Unavailable, match=r"the worker tcp://\S+ has other Rackgate sources, has verilator \S+, not 9"):
        records({"fake": {}}, Spread(cluster.scheduler_address, 60))


def test_waits_end(monkeypatch):
    monkeypatch.setattr(spread, "_JOIN", 1.0)
    with pytest.raises(TimeoutError, match="no Dask scheduler answered at tcp://127.0.0.1:9 within 1 s"):
        records({"locks": {"only": "bits"}}, Spread("tcp://127.0.0.1:9"))
    with pytest.raises(UsageError, match="the scheduler's address must look like tcp://host:8786"):
        records({"locks": {"only": "bits"}}, Spread("nonsense://x"))
    with LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1") as empty:
        with pytest.raises(TimeoutError, match="no worker joined the scheduler"):
            records({"locks": {"only": "bits"}}, Spread(empty.scheduler_address))
