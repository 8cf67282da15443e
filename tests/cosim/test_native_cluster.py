# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Several devices on one time line, and time travel."""

import gc
import os
import signal
import time

import pytest
from native_devices import Asserting, Copier, CopierRegister, Forwarder

from rackgate_sim.native import (
    AssertionFailure,
    Cluster,
    Event,
    Simulation,
    SimulationError,
    SimulationTimeout,
    TimeTravel,
    build,
)

pytestmark = pytest.mark.cosim


@pytest.fixture(scope="module")
def forwarder():
    return build(Forwarder(), name="forwarder", key=())


@pytest.fixture(scope="module")
def copier():
    return build(Copier(), name="copier", key=())


@pytest.fixture(scope="module")
def debug_forwarder():
    return build(Forwarder(), name="forwarder", variant="debug", key=())


@pytest.fixture(scope="module")
def asserting():
    return build(Asserting(), name="asserting", variant="debug", key=())


def ring(library, count, threads=1, latency=20, seed=1, **link):
    """Forwarders in a ring, with packets going round."""
    simulations = [Simulation(library, seed=seed + k) for k in range(count)]
    cluster = Cluster(simulations, threads=threads)
    links = [
        cluster.connect(one, "net_tx", simulations[(k + 1) % count], "net_rx", latency=latency, seed=100 * seed + k,
                        **link)
        for k, one in enumerate(simulations)
    ]
    for k, one in enumerate(simulations):
        one.poke("step", 1)
        one.stream("net_tx").stall(0.1)
        for j in range(3):
            one.stream("net_rx").push(bytes(range(k + j, k + j + 20 + 7 * j)))
    return cluster, simulations, links


def test_latency_is_exact(forwarder):
    one, two = Simulation(forwarder), Simulation(forwarder)
    cluster = Cluster([one, two])
    cluster.connect(one, "net_tx", two, "net_rx", latency=37)
    one.stream("net_rx").push(b"abcd")
    cluster.run(200)
    arrived = two.stream("net_tx").pop()
    # One word: in at cycle 0, out of the first device in cycle 1, into the second 37 later, out of it one later.
    assert arrived == b"abcd" and arrived.cycle == 1 + 37 + 1
    assert one.cycle == two.cycle == cluster.cycle == 200


FAULTS = {"loss": 0.001, "duplicate": 0.01, "reorder": 0.1, "corrupt": 0.05}


@pytest.mark.parametrize("latency", [1, 20, 333])
def test_threads_do_not_change_the_log(forwarder, seed, latency):
    hashes = set()
    for threads in (1, 2, 3):
        cluster, *_ = ring(forwarder, 5, threads, latency=latency, seed=seed, **FAULTS)
        cluster.run(3000)
        cluster.threads = 2
        cluster.run(500)
        hashes.add(cluster.log_hash())
    assert len(hashes) == 1
    other, *_ = ring(forwarder, 5, latency=latency, seed=seed + 1, **FAULTS)
    other.run(3500)
    assert other.log_hash() not in hashes


def test_windows_do_not_change_the_log(forwarder):
    """A second, faster link shortens the windows; what crosses the first pair must not notice."""
    hashes = set()
    for other in (1, 7, 50):
        pairs = [Simulation(forwarder, seed=k) for k in range(4)]
        cluster = Cluster(pairs)
        cluster.connect(pairs[0], "net_tx", pairs[1], "net_rx", latency=50, seed=1)
        cluster.connect(pairs[2], "net_tx", pairs[3], "net_rx", latency=other, seed=2)
        for k in range(50):
            pairs[0].stream("net_rx").push(bytes([k]) * (k + 1))
        cluster.run(2000)
        hashes.add((pairs[0].log_hash(), pairs[1].log_hash()))
    assert len(hashes) == 1


def through(forwarder, seed=1, count=400, **link):
    one, two = Simulation(forwarder), Simulation(forwarder)
    cluster = Cluster([one, two])
    info = cluster.connect(one, "net_tx", two, "net_rx", latency=10, seed=seed, **link)
    sent = [k.to_bytes(4, "big") for k in range(count)]
    for packet in sent:
        one.stream("net_rx").push(packet)
    cluster.run(count + 500)
    return sent, two.stream("net_tx").pop_all(), cluster.statistics(info)


def test_link_loses(forwarder, seed):
    sent, received, statistics = through(forwarder, seed, loss=0.25)
    assert 60 < statistics.lost < 140 and len(received) == 400 - statistics.lost
    assert [packet for packet in sent if packet in set(received)] == received
    assert through(forwarder, seed, loss=1.0)[1] == []


def test_link_duplicates(forwarder, seed):
    sent, received, statistics = through(forwarder, seed, duplicate=0.25)
    assert statistics.duplicated > 60 and len(received) == 400 + statistics.duplicated
    assert sorted(set(received)) == sent


def test_link_reorders(forwarder, seed):
    sent, received, statistics = through(forwarder, seed, reorder=0.25)
    assert statistics.reordered > 60 and received != sent and sorted(received) == sent
    assert through(forwarder, seed, reorder=0.25, spread=0)[1] == sent


def test_link_corrupts_one_bit(forwarder, seed):
    sent, received, statistics = through(forwarder, seed, corrupt=0.25)
    flips = [(int.from_bytes(a) ^ int.from_bytes(b)).bit_count() for a, b in zip(sent, received, strict=True)]
    assert sum(flips) == statistics.corrupted > 60 and max(flips) == 1


def test_drivers_share_the_time(forwarder, copier):
    """A register access on one device lets the others run along, within a window."""
    device, one, two = Simulation(copier), Simulation(forwarder), Simulation(forwarder)
    cluster = Cluster([device, one, two], threads=2)
    cluster.connect(one, "net_tx", two, "net_rx", latency=10)
    one.stream("net_rx").push(bytes(40))
    for k in range(40):
        device.write_register(CopierRegister.SOURCE, k)
        assert device.read_register(CopierRegister.SOURCE) == k
        assert abs(one.cycle - device.cycle) <= 10 and one.cycle == two.cycle
    assert two.wait(Event.PACKET, 10) == Event.PACKET
    assert len(two.stream("net_tx").pop()) == 40
    before = cluster.cycle
    with pytest.raises(SimulationTimeout, match="waited 200 cycles"):
        device.wait(Event.IRQ, 200)
    assert device.cycle >= before + 200 and cluster.cycle >= device.cycle - 10
    at = cluster.cycle
    cluster.run(25)
    assert cluster.cycle == at + 25


def test_run_ends_early_at_an_event(forwarder):
    cluster, simulations, _ = ring(forwarder, 2)
    cluster.run(300)
    spare = Simulation(forwarder)
    assert spare.scheduler is None
    simulations[0].stream("number_in").push([5])
    at = cluster.cycle
    assert cluster.run(10_000, Event.PACKET) == Event.PACKET
    assert cluster.cycle <= at + 40
    assert simulations[0].run(0, Event.PACKET) == Event.PACKET and simulations[0].stream("number_out").pop() == 6


def test_idle_cluster_costs_little(forwarder):
    cluster = Cluster([Simulation(forwarder) for _ in range(8)])
    for k in range(8):
        sender, receiver = cluster.simulations[k], cluster.simulations[(k + 1) % 8]
        cluster.connect(sender, "net_tx", receiver, "net_rx", latency=100)
    cluster.run(1_000_000)
    assert sum(one.evaluations for one in cluster.simulations) < 8 * 200


def test_connections_are_checked(forwarder, copier):
    one, two, outside = Simulation(forwarder), Simulation(copier), Simulation(forwarder)
    with pytest.raises(ValueError, match="at least one simulation"):
        Cluster([])
    with pytest.raises(ValueError, match="must not be in a cluster twice"):
        Cluster([one, one])
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        Cluster([outside], threads=0)
    cluster = Cluster([one, two])
    with pytest.raises(ValueError, match="must not be in two clusters"):
        Cluster([one])
    with pytest.raises(ValueError, match="must join simulations of this cluster"):
        cluster.connect(one, "net_tx", outside, "net_rx", latency=1)
    with pytest.raises(ValueError, match="latency must be at least 1, not 0"):
        cluster.connect(one, "net_tx", one, "net_rx", latency=0)
    with pytest.raises(ValueError, match="loss must be a probability, not 2"):
        cluster.connect(one, "net_tx", one, "net_rx", latency=1, loss=2)
    with pytest.raises(TypeError, match="must carry packets, or payloads of the same width"):
        cluster.connect(one, "net_tx", one, "number_in", latency=1)
    with pytest.raises(TypeError, match="net_rx must be an output of the sender"):
        cluster.connect(one, "net_rx", one, "net_rx", latency=1)
    cluster.connect(one, "net_tx", one, "net_rx", latency=1)
    with pytest.raises(ValueError, match="already connected"):
        cluster.connect(one, "net_tx", one, "net_rx", latency=1)
    with pytest.raises(SimulationError, match="belongs to a cluster"):
        one.close()
    cluster.close()
    with pytest.raises(SimulationError, match="the cluster is closed"):
        cluster.run(1)
    one.close()


# ---- waves and time travel ----

def is_fst(path):
    """An FST file begins with a header block: type 0 and the length 329."""
    head = path.read_bytes()[:9]
    return head == b"\x00" + (329).to_bytes(8, "big")


def times(path):
    """First and last time of a finished FST file, from its header."""
    header = path.read_bytes()[9:25]
    return int.from_bytes(header[:8], "big"), int.from_bytes(header[8:], "big")


def test_waves(debug_forwarder, tmp_path):
    simulation = Simulation(debug_forwarder)
    simulation.run(100)
    simulation.trace(tmp_path / "a.fst")
    simulation.poke("counting", 1)
    simulation.run(50)
    simulation.trace(None)
    simulation.run(50)
    assert is_fst(tmp_path / "a.fst") and times(tmp_path / "a.fst") == (200, 299)


def test_waves_of_the_last_cycles_before_an_assertion(asserting, tmp_path):
    simulation = Simulation(asserting)
    path = tmp_path / "waves" / "fail.fst"
    with pytest.raises(AssertionFailure) as caught, TimeTravel(simulation, path, every=500) as history:
        simulation.run(3210)
        simulation.poke("sync_value", 7)
        simulation.run(100)
    assert history.waves == [path] and is_fst(path)
    assert times(path) == (2 * 2500, 2 * 3210 + 1)
    assert caught.value.__notes__ == [f"waves of cycles 2500 to 3211: {path}"]
    assert simulation.scheduler is None


def test_waves_of_a_driver_s_own_failure(asserting, tmp_path):
    simulation = Simulation(asserting)
    with pytest.raises(ZeroDivisionError), TimeTravel(simulation, tmp_path / "a.fst", every=100, keep=3) as history:
        total = 0
        for _ in range(9):
            simulation.run(33)
            total += simulation.peek("count")
        total //= 0
    first, last = times(history.waves[0])
    assert first == 2 * 100 and last in (2 * 297 - 1, 2 * 297)


def test_no_waves_without_a_failure(asserting, tmp_path):
    simulation = Simulation(asserting)
    with TimeTravel(simulation, tmp_path / "a.fst", every=100) as history:
        simulation.run(1000)
    assert history.waves == [] and list(tmp_path.iterdir()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_cluster_travels_together(debug_forwarder, tmp_path):
    cluster, simulations, _ = ring(debug_forwarder, 3, threads=2)
    with pytest.raises(SimulationTimeout) as caught, TimeTravel(cluster, tmp_path / "a.fst", every=400) as history:
        cluster.run(1900)
        simulations[1].wait(Event.IRQ, 150, "an interrupt that never comes")
    assert [path.name for path in history.waves] == ["a-0.fst", "a-1.fst", "a-2.fst"]
    assert caught.value.__notes__[0].startswith(("waves of cycles 1600 to 20", "waves of cycles 1200 to 20"))
    assert all(times(path)[1] >= 2 * 2040 for path in history.waves)
    assert all(one.scheduler is cluster for one in simulations) and cluster.history is None


def test_a_fork_frees_nothing_of_its_parent(forwarder):
    """A collector may run in the child, even within the fork, where the threads that it would end are not."""
    gc.disable()
    try:
        ring(forwarder, 3, threads=2)[0].run(100)  # garbage: cluster and simulations know of each other
        if (child := os.fork()) == 0:
            gc.collect()
            os._exit(0)
    finally:
        gc.enable()
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child waits for its parent's threads")
        time.sleep(0.01)
    assert ended == (child, 0)
    gc.collect()


def test_time_travel_is_checked(forwarder, asserting, tmp_path):
    with pytest.raises(SimulationError, match="waves need variant 'debug'"):
        TimeTravel(Simulation(forwarder), tmp_path / "a.fst")
    with pytest.raises(ValueError, match="every must be at least 1 cycle, not 0"):
        TimeTravel(Simulation(asserting), tmp_path / "a.fst", every=0)
    with pytest.raises(ValueError, match="keep must be at least 2 snapshots, not 1"):
        TimeTravel(Simulation(asserting), tmp_path / "a.fst", keep=1)
