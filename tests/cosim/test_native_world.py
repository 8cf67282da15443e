# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Worlds of simulated devices: one time line, and ranks that wait at the same time."""

import random
import threading

import courier
import numpy as np
import pytest
from amaranth.lib.wiring import In, Out
from native_devices import Copier, CopierRegister, Station

from rackgate.collective.abi import Header, PacketType
from rackgate.stream.packet import PacketSignature
from rackgate_host.errors import DeviceTimeout, Unavailable, UsageError
from rackgate_host.ranks import run_ranks
from rackgate_host.world import open_world
from rackgate_sim.devices import route
from rackgate_sim.native import Event, Fabric, Route, SimulationTimeout, Traffic, build

pytestmark = pytest.mark.cosim


@pytest.fixture(autouse=True)
def known(monkeypatch):
    courier.register(monkeypatch)


def world_of(nodes, **options):
    return open_world("sim:courier", nodes, **options)


def acknowledge(device, cycles=10_000):
    """Wait for the interrupt, and clear it."""
    device.wait(cycles=cycles)
    device.regs.IRQ_STATUS.value = 1


# ---- the fabric ----

@pytest.fixture(scope="module")
def station():
    return build(Station(4), name="station", key=4)


def test_a_fabric_runs_until_one_of_its_interrupts(station):
    with Fabric.of(station, 5, latency=30, route=Route(0), seed=3) as fabric:
        assert [one.seed for one in fabric.simulations] == [3, 4, 5, 6, 7]
        for destination in (3, 1):
            fabric.simulations[0].stream("say").push(bytes([destination]) + bytes(8))
        assert fabric.run(1000) == {3: Event.IRQ, 1: Event.IRQ}, "both in one window"
        assert [one.cycle for one in fabric.simulations[1:4]] == [35, 60, 32]
        assert fabric.run(1000, nodes=[0, 1, 2]) == {1: Event.IRQ}, "it is high still"
        assert fabric.run(500, nodes=[0, 2, 4]) == {} and fabric.cycle >= 60
        with pytest.raises(SimulationTimeout, match="waited 100 cycles, until cycle .*, for an answer"):
            fabric.wait(100, nodes=[4], what="an answer")
        assert fabric.crossbar.traffic(0, 3) == Traffic(1, 9)
        with pytest.raises(ValueError, match="cycles must not be negative, not -1"):
            fabric.run(-1)
    fabric.close()
    with pytest.raises(ValueError, match="nodes must be at least 1, not 0"):
        Fabric.of(station, 0, latency=1, route=Route(0))
    with pytest.raises(ValueError, match="latency must be at least 1"):
        Fabric.of(station, 1, latency=0, route=Route(0))


class LinkedCopier(Copier):
    """A copier with links that it does not use."""

    net_rx: In(PacketSignature(4))
    net_tx: Out(PacketSignature(4))


def test_each_node_of_a_fabric_has_its_own_memory():
    library = build(LinkedCopier(), name="copier", key=())
    seen = []
    with Fabric.of(library, 3, memory=4096, memory_base=1 << 20, latency=1, route=Route(0),
                   prepare=lambda one, number: seen.append((one.seed, number))) as fabric:
        for number, (one, memory) in enumerate(zip(fabric.simulations, fabric.memories, strict=True)):
            memory[:8] = number + 1
            one.write_register(CopierRegister.SOURCE, 1 << 20)
            one.write_register(CopierRegister.DESTINATION, (1 << 20) + 64)
            one.write_register(CopierRegister.WORDS, 1)
            fabric.wait(1000, nodes=[number])
        assert [memory[64:72].tolist() for memory in fabric.memories] == [[k + 1] * 8 for k in range(3)]
    assert seen == [(0, 0), (1, 1), (2, 2)]


def test_collective_packets_are_routed_by_their_header():
    where = route("collective")
    for node in (0, 5, 15, 0x1234):
        packet = Header(PacketType.DATA, destination=node).to_bytes()
        assert int.from_bytes(packet[where.offset:where.offset + where.width], "little") == node


# ---- worlds ----

def test_a_world_of_simulations(seed):
    with world_of(3, link_latency=40, seed=seed) as world:
        one, two, three = world.devices
        assert [device.regs.DEVICE.value for device in world.devices] == [courier.REGISTERS["DEVICE"].reset] * 3
        one.regs.SEND.value = 2 | 77 << 8
        two.regs.SEND.value = 2 | 1 << 8
        acknowledge(three)
        three.wait(lambda device: device.regs.COUNT.value == 2, cycles=1000)
        assert three.regs.SUM.value == 78 and two.regs.COUNT.value == 0
        before = world.cycle
        world.run(500, until_interrupt=False)
        assert world.cycle == before + 500
        assert not world.wait(lambda: False, cycles=70_000) and world.cycle >= before + 70_500
        with pytest.raises(DeviceTimeout, match="no interrupt after 300 cycles"):
            one.wait(cycles=300)
        assert "link" not in world.devices[0].state()


def test_time_passes_with_an_interrupt_that_stays_high():
    with world_of(2) as world:
        world.devices[0].regs.SEND.value = 1
        world.devices[1].wait(cycles=1000)
        before = world.cycle
        assert not world.wait(lambda: False, cycles=200)
        assert before + 200 <= world.cycle < before + 300


def test_a_rank_may_be_alone_in_its_world():
    with world_of(1) as world:
        device = world.devices[0]
        device.regs.SEND.value = 5 << 8
        acknowledge(device)
        assert device.regs.RECEIVED.value == 5


@pytest.mark.parametrize("options,error,message", [
    ({"link_latency": 0}, UsageError, "sim:courier: latency must be at least 1, not 0"),
    ({"link_loss": 2}, UsageError, "sim:courier: loss must be a probability, not 2"),
    ({"link_speed": 2}, UsageError, "unknown option 'link_speed' of sim:courier"),
    ({"threads": 0}, UsageError, "sim:courier: threads must be at least 1, not 0"),
    ({"waves": "a.fst", "variant": "fast"}, UsageError, "waves need variant=debug"),
])
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        world_of(2, **options)


def test_waves_of_joined_devices(tmp_path):
    with world_of(2, waves=str(tmp_path / "a.fst")) as world:
        with pytest.raises(Unavailable, match="joined ones have the option waves"):
            world.devices[0].transport.waves_on_failure(tmp_path / "b.fst")
        world.run(100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-0.fst", "a-1.fst"]


# ---- ranks ----

def ring(world, rounds=5):
    """A token goes round; each rank adds its number and passes it on. What each rank saw, and when."""
    size = len(world.devices)

    def program(rank):
        device, seen = world.devices[rank], []
        if rank == 0:
            device.regs.SEND.value = 1 % size | 1 << 8
        for _ in range(rounds):
            acknowledge(device, cycles=50_000)
            seen.append((device.regs.RECEIVED.value, device.cycles))
            device.regs.SEND.value = (rank + 1) % size | (seen[-1][0] + rank) << 8
        return seen

    return run_ranks(world, [lambda rank=rank: program(rank) for rank in range(size)])


def test_ranks_pass_a_token(seed):
    results = []
    for threads in (1, 1, 2):
        with world_of(4, link_latency=25, threads=threads, seed=seed) as world:
            results.append((ring(world), [device.cycles for device in world.devices]))
    assert results[0] == results[1] == results[2]
    tokens = [[value for value, _ in seen] for seen in results[0][0]]
    assert tokens[1] == [1, 7, 13, 19, 25] and tokens[0] == [7, 13, 19, 25, 31]
    hops = np.diff([cycle for _, cycle in results[0][0][2]])
    assert len(set(hops)) == 1 and 4 * 25 < hops[0] < 4 * (25 + 60), "four hops and the drivers' accesses"


def test_register_accesses_of_all_ranks_pass_at_the_same_time():
    with world_of(16, link_latency=10) as world:
        start = world.cycle

        def program(rank):
            device = world.devices[rank]
            for k in range(20):
                device.regs.SEND.value = (rank + 1) % 16 | k << 8
            return device.cycles - start

        times = run_ranks(world, [lambda rank=rank: program(rank) for rank in range(16)])
        assert max(times) - min(times) <= 20 and max(times) < 20 * 8
        world.run(100, until_interrupt=False)
        assert {device.regs.SUM.value for device in world.devices} == {190}


def test_only_one_rank_runs_at_a_time():
    with world_of(5) as world:
        inside, most = [0], [0]

        def program(rank):
            rng = random.Random(rank)
            for _ in range(30):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                sum(range(rng.randrange(3000)))
                inside[0] -= 1
                world.devices[rank].run(rng.randrange(1, 50))
            return threading.current_thread().name

        names = run_ranks(world, [lambda rank=rank: program(rank) for rank in range(5)])
        assert most == [1] and len(set(names)) == 5


def test_a_time_out_of_one_rank_leaves_the_others_running():
    with world_of(3) as world:
        def program(rank):
            device = world.devices[rank]
            if rank == 0:
                with pytest.raises(DeviceTimeout, match="no interrupt after 500 cycles"):
                    device.wait(cycles=500)
                device.regs.SEND.value = 1 | 9 << 8
                return device.cycles
            if rank == 1:
                acknowledge(device, cycles=100_000)
                return device.regs.RECEIVED.value
            return None

        start = world.cycle
        cycles, number, nothing = run_ranks(world, [lambda rank=rank: program(rank) for rank in range(3)])
        assert number == 9 and nothing is None and start + 500 <= cycles < start + 1000


def test_an_exception_names_its_rank_and_leaves_a_world_that_works():
    with world_of(3) as world:
        def program(rank):
            if rank == 1:
                assert world.devices[rank].regs.COUNT.value == 0
                raise ZeroDivisionError("so it goes")
            if rank == 2:
                acknowledge(world.devices[rank], cycles=200)

        with pytest.raises(ZeroDivisionError, match="so it goes") as caught:
            run_ranks(world, [lambda rank=rank: program(rank) for rank in range(3)])
        assert any("rank 1" in note for note in caught.value.__notes__)
        assert ring(world)[1][0][0] == 1


def test_a_run_that_is_interrupted_leaves_a_world_that_works(monkeypatch):
    """^C in the middle of register accesses: they are brought to their end by whoever comes next."""
    with world_of(2) as world:
        race, count = world._joined.fabric.cluster.race, [0]

        def interrupted(waits):
            count[0] += 1
            if count[0] == 5:
                raise KeyboardInterrupt
            return race(waits)

        monkeypatch.setattr(world._joined.fabric.cluster, "race", interrupted)

        def program(rank):
            for _ in range(10):
                world.devices[rank].regs.SEND.value = rank

        with pytest.raises(KeyboardInterrupt):
            run_ranks(world, [lambda rank=rank: program(rank) for rank in range(2)])
        assert not any(thread.name.startswith("rank ") for thread in threading.enumerate())
        for device in world.devices:
            assert device.regs.IRQ_STATUS.value in (0, 1)
            device.regs.IRQ_STATUS.value = 1
        world.run(100, until_interrupt=False)
        for device in world.devices:
            device.regs.IRQ_STATUS.value = 1
        assert ring(world)[1][0][0] == 1


def test_two_ranks_must_not_use_one_device():
    with world_of(2) as world:
        def program():
            world.devices[0].wait(cycles=100)

        with pytest.raises(UsageError, match="node 0 must not be used by two ranks at a time"):
            run_ranks(world, [lambda: world.devices[0].run(100), program])


def test_handlers_do_not_come_between_an_access_and_its_answer():
    """A poller acknowledges and counts while its rank reads registers: every read has its own register's value."""
    with world_of(2, link_latency=3) as world:
        seen = [0, 0]

        def poller(rank):
            device = world.devices[rank]
            if device.irq:
                device.regs.IRQ_STATUS.value = 1
                seen[rank] += 1

        world.pollers += [lambda: poller(0), lambda: poller(1)]

        def program(rank):
            device = world.devices[rank]
            for number in range(40):
                device.regs.SEND.value = 1 - rank | (number + 1) << 8
                assert device.regs.MAGIC.value == courier.REGISTERS["MAGIC"].reset
                assert device.regs.DEVICE.value == courier.REGISTERS["DEVICE"].reset
                if number % 4 == 0:
                    assert world.wait(lambda least=number // 4: seen[rank] > least, cycles=5000)

        run_ranks(world, [lambda: program(0), lambda: program(1)])
        assert min(seen) >= 10
