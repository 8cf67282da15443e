# SPDX-License-Identifier: Apache-2.0
"""The bench `collectives`: its aims, its figures, and none for results that are wrong."""

import numpy as np
import pytest

from rackgate.collective.abi import Cause, Status
from rackgate_host.bench import collectives
from rackgate_host.bench.collectives import aims, latency, peers, points
from rackgate_host.bench.record import Result
from rackgate_host.collective import CollectiveError, bounds, open_cluster, trial
from rackgate_host.errors import DeviceFault, UsageError

LINK = aims.Link(8, 1024, 20)
MEMORY = 1 << 20


@pytest.fixture(scope="module")
def four():
    with open_cluster("model", 4, memory=MEMORY, credits="all") as cluster:
        yield cluster


# Aims


def test_aims_by_hand():
    """Times at 8 ranks of 8 KB, of which 1056 bytes of every 1056 + 32 carry payload."""
    time = 8192 / 8 * 1056 / 1024
    assert LINK.time(8192) == pytest.approx(time)
    found = {name: aims.aimed_cycles(name, 8, 8192, LINK) for name in bounds.OPERATIONS}
    assert found == pytest.approx({
        "sendrecv": time + 52, "bcast": time + 7 * 52, "reduce": time + 7 * 60, "scatter": 7 * time + 52,
        "gather": 7 * time + 52, "allgather": 3 * 52 + 7 * 1024, "reduce_scatter": 7 * time + 60,
        "alltoall": 7 * time + 52, "allreduce": 2 * 7 * time / 8 + 60, "barrier": 3 * 44})


def test_aims_of_few_bytes_are_hops():
    assert aims.aimed_cycles("bcast", 8, 8, LINK) == 3 * (52 + 1)
    assert aims.aimed_cycles("allreduce", 8, 8, LINK) == 3 * (60 + 1)
    assert aims.aimed_cycles("reduce_scatter", 8, 8, LINK) == 8 * 60
    assert aims.aimed_cycles("barrier", 16, 0, LINK) == 4 * 44


def test_aim_of_buffers_apart_is_what_the_memory_port_writes():
    assert aims.aimed_cycles("allgather", 4, 1 << 16, LINK, is_separate=True) == 4 * (1 << 16) / 8 + 52
    assert aims.aimed_cycles("bcast", 4, 1 << 16, LINK, is_separate=True) == aims.aimed_cycles("bcast", 4, 1 << 16,
                                                                                              LINK)


@pytest.mark.parametrize("operation", bounds.OPERATIONS)
@pytest.mark.parametrize("ranks", [2, 4, 8, 16])
@pytest.mark.parametrize("size", [64, 4096, 1 << 20])
def test_no_aim_is_below_the_bound(operation, ranks, size):
    size = 0 if operation == "barrier" else size
    least = bounds.bound(operation, ranks, size)
    # A tree passes on whole messages without their headers; the bound counts headers, and one packet at least.
    assert aims.aimed_cycles(operation, ranks, size, LINK) >= least.bytes / LINK.width
    assert aims.aimed_cycles(operation, ranks, size, LINK) >= least.hops * LINK.hop(operation)


def test_goals_are_for_long_chunks():
    chunk = 4 * 52 * 8
    assert aims.is_long("bcast", 16, chunk, LINK)
    assert not aims.is_long("bcast", 16, chunk - 4, LINK)
    assert not aims.is_long("reduce", 16, chunk, LINK)
    assert aims.is_long("allreduce", 4, 4 * 4 * 60 * 8, LINK)
    assert not aims.is_long("allreduce", 8, 4 * 4 * 60 * 8, LINK)
    assert not aims.is_long("barrier", 8, 0, LINK)
    assert aims.fraction_goals("allreduce") == (0.9, 0.95)
    assert aims.fraction_goals("alltoall") == (0.8, 0.9)


def test_longest_buffer():
    assert aims.longest_buffer("gather", 8, 100) == 800
    assert aims.longest_buffer("allreduce", 8, 100) == 100


# ACCL's algorithms


def test_algorithm_by_size():
    assert peers.algorithm("bcast", 1024).name == "bcast_eager"
    assert peers.algorithm("bcast", 1028).name == "bcast_rendezvous"
    assert peers.algorithm("alltoall", 4).name == "alltoall_rendezvous"
    assert peers.algorithm("barrier", 0).name == "barrier_rendezvous"


@pytest.mark.parametrize("operation,ratio", [("allreduce", 5 / 1.5), ("reduce_scatter", 5)])
def test_bytes_against_the_peer(four, operation, ratio):
    bench = points.Bench(LINK, 1)
    found = {(point["case"], point["metric"]): point for point in points.points(bench, four, operation, 1 << 14)}
    point = found[f"{operation}-p4-16384", "peer_bytes_ratio"]
    assert point["value"] == point["floor"] == pytest.approx(ratio, abs=1e-3)


def test_an_algorithm_that_fails_has_no_figure(four, monkeypatch):
    """It is said why, and all else is still measured."""
    right = points.measure

    def measure(cluster, operation, size, *, program=None, **options):
        if program is not None:
            raise CollectiveError("no packet came", rank=0, operation=operation, status=Status.TIMEOUT,
                                  cause=Cause.PACKET)
        return right(cluster, operation, size, **options)

    monkeypatch.setattr(points, "measure", measure)
    found = [Result(**point) for point in points.points(points.Bench(LINK, 1), four, "bcast", 64)]
    assert [point.value for point in found if point.case == "peer-bcast-p4-64"] == [None]
    assert found[-1].why == "no packet came"
    assert found[0].value is not None
    assert points.measure(four, "barrier", 0, seed=1).elapsed


# Measuring


@pytest.mark.parametrize("operation", bounds.OPERATIONS)
@pytest.mark.parametrize("is_in_place", [False, True])
def test_bytes_are_the_bound(four, operation, is_in_place):
    size = 0 if operation == "barrier" else 1 << 14
    found = points.measure(four, operation, size, seed=3, is_in_place=is_in_place)
    assert found.busiest_bytes == bounds.bound(operation, 4, size).bytes
    assert found.elapsed == max(found.cycles)
    assert found.skew == 0


def test_wrong_results_have_no_figure(four, monkeypatch):
    right = trial.operand
    monkeypatch.setattr(trial._Case, "wanted", lambda case: right(case.work, 99, case.work.count, 1))
    with pytest.raises(DeviceFault, match="bcast of 64 bytes at 4 ranks gave something else than NumPy"):
        points.measure(four, "bcast", 64, seed=1)


def test_links_cannot_carry_less_than_the_bound(four, monkeypatch):
    monkeypatch.setattr(trial.Cluster, "payload", lambda cluster: np.zeros((4, 4), np.int64))
    with pytest.raises(DeviceFault, match="the busiest link carried 0 bytes, which cannot be: 64 are needed at least"):
        points.measure(four, "bcast", 64, seed=1)


def test_hops_are_slopes():
    found = {"bcast": {2: 700, 4: 800, 8: 1000}, "reduce": {2: 700, 8: 1060}, "barrier": {2: 90, 8: 190}}
    values = {point["case"]: (point["value"], point["target"]) for point in latency.hops(points.Bench(LINK, 1), found)}
    assert values == {"hop": (50, 52), "hop-reduce": (60, 60), "hop-control": (50, 44)}


def test_half_bandwidth_that_is_not_reached(four, monkeypatch):
    monkeypatch.setattr(latency, "_SIZES", (64, 128))
    point = Result(**latency.half_bandwidth(points.Bench(LINK, 1), four))
    assert point.value is None
    assert point.why == "not reached with 128 bytes"
    assert not point.reaches


# The whole


def run(device, **options):
    return {(point["case"], point["metric"]): Result(**point)
            for point in collectives.run(device=device, seed=1, **options)}


def check(found, ranks, size):
    for operation in bounds.OPERATIONS:
        case = f"{operation}-p{ranks}-{0 if operation == 'barrier' else size}"
        cycles, fraction = found[case, "cycles"], found[case, "fraction_of_bound"]
        assert fraction.value == pytest.approx(fraction.conditions["bound_cycles"] / cycles.value, abs=1e-3)
        assert found[case, "busiest_link_bytes"].reaches
        if operation != "sendrecv":
            assert found[case, "peer_cycles_ratio"].value == pytest.approx(
                found[f"peer-{case}", "cycles"].value / cycles.value, abs=1e-3)
    for case in ("nop", "hop", "hop-reduce", "hop-control"):
        assert found[case, "cycles"].value > 0
    conditions = found["nop", "cycles"].conditions
    assert {"width", "segment", "slots", "device", "link_latency", "commit"} <= set(conditions)


def test_model():
    found = run("model:collective", ranks=3, sizes="6K", most="32K")
    check(found, 3, 6144)
    assert ("allgather-separate-p3-6144", "cycles") in found
    assert ("reduce_scatter-in-place-p3-6144", "cycles") in found


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
def test_gateware():
    found = run("sim:collective?latency=4&write_latency=2", ranks=2, sizes=8192, operations="allreduce,barrier",
                most=8192)
    again = run("sim:collective?latency=4&write_latency=2", ranks=2, sizes=8192, operations="allreduce,barrier",
                most=8192)
    assert {key: point.value for key, point in found.items()} == {key: point.value for key, point in again.items()}
    assert found["allreduce-p2-8192", "busiest_link_bytes"].value == 8192
    assert 0 < found["allreduce-p2-8192", "fraction_of_bound"].value <= 1
    assert 0 < found["nop", "cycles"].value < 1000


def test_a_part_by_itself():
    options = {"ranks": 2, "sizes": 64, "operations": "barrier"}
    whole, latencies, operations = (run("model:collective", **options, **more)
                                    for more in ({}, {"only": "latency"}, {"only": "operations"}))
    assert set(whole) == {*latencies, *operations} and not set(latencies) & set(operations)
    assert ("nop", "cycles") in latencies and ("barrier-p2-0", "cycles") in operations
    for key, point in {**latencies, **operations}.items():
        assert point.value == whole[key].value


def test_sizes_that_are_too_long_are_left_out():
    found = run("model:collective", ranks="2", sizes="64,1K", operations=["gather", "bcast"], most="1K")
    cases = {case for case, _ in found}
    assert {"gather-p2-64", "bcast-p2-64", "bcast-p2-1024"} <= cases
    assert "gather-p2-1024" not in cases


@pytest.mark.parametrize("options,text", [
    ({"quick": True, "full": True}, "quick and full exclude each other"),
    ({"ranks": "2,17"}, "ranks must be 2 to 16, not 17"),
    ({"ranks": 1}, "ranks must be 2 to 16, not 1"),
    ({"sizes": 6}, "sizes must be multiples of 4, not 6"),
    ({"sizes": "0"}, "sizes must be multiples of 4, not 0"),
    ({"operations": "scan"}, "operations must be of sendrecv.*, not 'scan'"),
    ({"ranks": "two"}, "ranks"),
    ({"only": "hops"}, "only must be latency or operations, not 'hops'"),
])
def test_wrong_options(options, text):
    with pytest.raises(UsageError, match=text):
        list(collectives.run(device="model:collective", **options))
