# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The crossbar of a cluster, word by word against a model in Python."""

import random
from collections import defaultdict
from dataclasses import dataclass

import pytest
from native_devices import Forwarder, Station

from rackgate_sim.native import Cluster, Event, Route, Simulation, Traffic, build

pytestmark = pytest.mark.cosim


@pytest.fixture(scope="module")
def stations():
    return {width: build(Station(width), name="station", key=width) for width in (4, 64)}


@pytest.fixture(scope="module")
def forwarder():
    return build(Forwarder(), name="forwarder", key=())


FIRST_BYTE = Route(0)


def joined(library, count, *, threads=1, seed=1, latency=10, route=FIRST_BYTE, **options):
    """Stations at a crossbar."""
    cluster = Cluster([Simulation(library, seed=seed + k) for k in range(count)], threads=threads)
    crossbar = cluster.crossbar([(one, "net_tx", "net_rx") for one in cluster.simulations], latency=latency,
                                route=route, **options)
    return cluster, crossbar


@dataclass
class Word:
    """One word of a packet that passed a station, and when."""

    data: bytes
    last: bool
    error: bool
    cycle: int


def words(simulation, name):
    """What a station told of one side."""
    stream = simulation.stream(name)
    width = (stream.width - 32 - 2) // 8  # bytes; the count has fewer bits than a byte
    count_width = width.bit_length()
    assert stream.width == 8 * width + count_width + 2 + 32
    told = []
    for payload in stream.pop_all():
        count = payload >> 8 * width & (1 << count_width) - 1
        last, error = (payload >> 8 * width + count_width + k & 1 for k in (0, 1))
        data = payload.to_bytes(width + 8, "little")[:count]
        told.append(Word(data, bool(last), bool(error), payload >> stream.width - 32))
    return told


def packets(told):
    """Words as packets: lists of words."""
    whole, current = [], []
    for word in told:
        current.append(word)
        if word.last:
            whole.append(current)
            current = []
    assert not current
    return whole


def content(packet):
    return b"".join(word.data for word in packet)


def destinations(packet, route, source, count):
    """Ports that a packet goes to."""
    field = packet[route.offset:route.offset + route.width]
    if len(field) < route.width:
        return []
    value = int.from_bytes(field, "little") & (~0 if route.mask is None else route.mask)
    if value == route.broadcast:
        return [k for k in range(count) if k != source]
    port = value if route.map is None else route.map.get(value, count)
    return [port] if port < count else []


def expected(sent, route, latency, cut_through, count):
    """What each port must hear when its station takes a word a cycle, with the cycles, and the greatest queue."""
    arriving = defaultdict(list)
    for source, sequence in enumerate(sent):
        for packet in sequence:
            due, size = [], 0
            for word in packet:
                size += len(word.data)
                if size >= route.offset + route.width:
                    due += [word.cycle + latency] * (1 if due else packet.index(word) + 1)
            if not cut_through:
                due = [packet[-1].cycle + latency] * len(packet)
            for port in destinations(content(packet), route, source, count):
                arriving[port].append((due[0], source, due, packet))
    heard, deepest = [], []
    for port in range(count):
        now, out, dues = -1, [], []
        for _, _, due, packet in sorted(arriving[port], key=lambda item: item[:2]):
            for cycle, word in zip(due, packet, strict=True):
                now = max(now + 1, cycle)
                out.append(Word(word.data, word.last, word.error, now))
                dues.append(cycle)
        heard.append(out)
        taken = [word.cycle for word in out]
        deepest.append(max((sum(d <= cycle for d in dues) - k for k, cycle in enumerate(taken)), default=0))
    return heard, deepest


ROUTES = {
    "first byte": FIRST_BYTE,
    "Ethernet": Route(5, mask=0x1F, broadcast=0x1F),
    "map": Route(2, 2, map={0x1234: 0, 0xFFFF: 3, 7: 2}, broadcast=8),
}


def traffic(rng, cluster, route, count=40):
    """Let every station say random packets: of all sizes, damaged, for nobody, too short to be for somebody."""
    ports = len(cluster.simulations)
    values = [*(route.map or range(ports)), 30, *(() if route.broadcast is None else [route.broadcast])]
    for one in cluster.simulations:
        one.stream("say").stall(rng.choice([0, 0.05, 0.5]))
        for _ in range(count):
            packet = bytearray(rng.randbytes(rng.choice([1, 5, 8, 20, 64, 129, 600])))
            packet[route.offset:route.offset + route.width] = rng.choice(values).to_bytes(route.width, "little")
            one.stream("say").push(bytes(packet[:rng.choice([*[len(packet)] * 9, 1])]), error=rng.random() < 0.2)


@pytest.mark.parametrize("cut_through", [False, True])
@pytest.mark.parametrize("width,latency,name", [(4, 1, "first byte"), (4, 23, "Ethernet"), (64, 100, "map")])
def test_every_word_comes_when_the_model_says(stations, seed, width, latency, name, cut_through):
    rng, route, count = random.Random(f"{seed} {width} {cut_through}"), ROUTES[name], 4
    cluster, crossbar = joined(stations[width], count, seed=seed, latency=latency, route=route, cut_through=cut_through)
    traffic(rng, cluster, route)
    cluster.run(60_000)
    assert not any(one.stream("say").pending for one in cluster.simulations)
    sent = [packets(words(one, "said")) for one in cluster.simulations]
    heard, deepest = expected(sent, route, latency, cut_through, count)
    pairs = defaultdict(list)
    for port, one in enumerate(cluster.simulations):
        assert words(one, "heard") == heard[port]
        out = [packets(heard[k]) for k in range(count)][port]
        seen, offered = crossbar.statistics(port), [content(packet) for packet in sent[port]]
        assert (seen.packets_in, seen.bytes_in) == (40, sum(map(len, offered)))
        assert seen.words_in == sum(map(len, sent[port]))
        assert (seen.packets_out, seen.bytes_out) == (len(out), sum(len(content(packet)) for packet in out))
        assert seen.words_out == seen.busy == len(heard[port]) and seen.deepest == deepest[port]
        assert seen.unrouted == sum(not destinations(packet, route, port, count) for packet in offered) > 0
        for packet in offered:
            for destination in destinations(packet, route, port, count):
                pairs[port, destination].append(len(packet))
    for source in range(count):
        for destination in range(count):
            sizes = pairs[source, destination]
            assert crossbar.traffic(source, destination) == Traffic(len(sizes), sum(sizes))
    assert all(heard)


@pytest.mark.parametrize("cut_through", [False, True])
def test_a_packet_that_has_begun_is_not_interrupted(stations, cut_through):
    """A sender pauses in the middle: with cut-through another's packet, whole long ago, waits for the rest."""
    cluster, _ = joined(stations[4], 3, latency=5, cut_through=cut_through)
    one, two, three = cluster.simulations
    one.stream("say").push(b"\2" + bytes(39))
    cluster.run(4)
    one.stream("say").stall(0.9999)
    two.stream("say").push(b"\2def")
    cluster.run(300)
    assert len(words(three, "heard")) == (4 if cut_through else 1)
    one.stream("say").stall(0)
    cluster.run(50)
    assert len(words(three, "heard")) == (7 if cut_through else 10)


FAULTS = {"loss": 0.05, "duplicate": 0.1, "reorder": 0.2, "corrupt": 0.1}


@pytest.mark.parametrize("latency", [1, 50])
@pytest.mark.parametrize("cut_through", [False, True])
def test_threads_and_windows_do_not_change_the_log(stations, seed, latency, cut_through):
    hashes = set()
    for threads, other in ((1, None), (2, None), (1, 1), (2, 7)):
        simulations = [Simulation(stations[4], seed=seed + k) for k in range(5)]
        cluster = Cluster(simulations, threads=threads)
        crossbar = cluster.crossbar([(one, "net_tx", "net_rx") for one in simulations[:4]], latency=latency,
                                    route=Route(0), cut_through=cut_through, seed=seed, **FAULTS)
        if other:
            cluster.connect(simulations[4], "net_tx", simulations[4], "net_rx", latency=other)
        rng = random.Random(seed)
        for one in simulations[:4]:
            one.stream("say").stall(0.2)
            one.poke("slow", one.seed % 2)
            for _ in range(100):
                one.stream("say").push(bytes([rng.randrange(4)]) + rng.randbytes(rng.choice([1, 3, 40, 200])))
        cluster.run(9000)
        statistics = tuple(crossbar.statistics(port) for port in range(4))
        assert all(one.lost and one.duplicated and one.reordered and one.corrupted for one in statistics)
        hashes.add((*(one.log_hash() for one in simulations[:4]), statistics))
    assert len(hashes) == 1


def through(library, seed, cut_through, count=400, size=40, **faults):
    """Packets from port 0 to port 1: what was sent, what was heard, and the sender's statistics."""
    cluster, crossbar = joined(library, 2, seed=seed, cut_through=cut_through, **faults)
    sent = [b"\1" + bytes(3) + k.to_bytes(4, "big") + bytes(size - 8) for k in range(count)]
    for packet in sent:
        cluster.simulations[0].stream("say").push(packet)
    cluster.run(count * (size // 4 + 1) * 2)
    assert crossbar.traffic(0, 1) == Traffic(count, count * size)
    heard = packets(words(cluster.simulations[1], "heard"))
    return sent, [content(packet) for packet in heard], crossbar.statistics(0)


@pytest.mark.parametrize("cut_through", [False, True])
def test_faults(stations, seed, cut_through):
    sent, heard, seen = through(stations[4], seed, cut_through, loss=0.25)
    assert 60 < seen.lost < 140 and len(heard) == 400 - seen.lost
    assert [one for one in sent if one in set(heard)] == heard
    assert through(stations[4], seed, cut_through, loss=1.0)[1] == []
    sent, heard, seen = through(stations[4], seed, cut_through, duplicate=0.25)
    assert seen.duplicated > 60 and len(heard) == 400 + seen.duplicated and sorted(set(heard)) == sent
    sent, heard, seen = through(stations[4], seed, cut_through, reorder=0.25)
    assert seen.reordered > 60 and heard != sent and sorted(heard) == sent
    assert through(stations[4], seed, cut_through, reorder=0.25, spread=0)[1] == sent
    sent, heard, seen = through(stations[4], seed, cut_through, corrupt=0.25)
    flips = [int.from_bytes(a) ^ int.from_bytes(b) for a, b in zip(sent, heard, strict=True)]
    assert sum(one.bit_count() for one in flips) == seen.corrupted > 60 and max(map(int.bit_count, flips)) == 1
    places = {(320 - one.bit_length()) // 32 for one in flips if one}
    assert len(places) == 10, "every word of a packet is hit at times"


def test_a_packet_that_ends_before_the_word_to_be_hit_is_hit_in_its_last(stations, seed):
    cluster, crossbar = joined(stations[4], 2, corrupt=1.0)
    for size in (400, 4, 7, 1, 400, 5):
        cluster.simulations[0].stream("say").push(b"\1" + bytes(size - 1))
    cluster.run(2000)
    heard = [content(packet) for packet in packets(words(cluster.simulations[1], "heard"))]
    assert [len(packet) for packet in heard] == [400, 4, 7, 1, 400, 5]
    assert [(int.from_bytes(packet, "little") ^ 1).bit_count() for packet in heard] == [1] * 6
    assert crossbar.statistics(0).corrupted == 6


@pytest.mark.parametrize("latency", [1, 37])
def test_a_link_may_cut_through(stations, seed, latency):
    cluster = Cluster([Simulation(stations[4], seed=seed + k) for k in range(2)])
    one, two = cluster.simulations
    link = cluster.connect(one, "net_tx", two, "net_rx", latency=latency, cut_through=True)
    assert link.cut_through
    one.stream("say").stall(0.3)
    rng = random.Random(seed)
    for _ in range(50):
        one.stream("say").push(rng.randbytes(rng.randrange(1, 99)))
    cluster.run(4000)
    said, heard = words(one, "said"), words(two, "heard")
    assert [(word.data, word.last, word.cycle + latency) for word in said] == [
        (word.data, word.last, word.cycle) for word in heard]
    assert cluster.statistics(link).sent == 50


def test_back_pressure_holds_up_one_port_only(stations):
    cluster, crossbar = joined(stations[4], 3)
    one, two, three = cluster.simulations
    two.poke("slow", 1)
    for k in range(50):
        one.stream("say").push(bytes([1 + k % 2]) + bytes(7))
    cluster.run(130)
    assert len(words(three, "heard")) == 50 and len(words(two, "heard")) < 50
    slow = crossbar.statistics(1)
    assert slow.busy > 2 * slow.words_out and slow.deepest > 20


def test_idle_ports_cost_little(forwarder):
    cluster = Cluster([Simulation(forwarder) for _ in range(16)])
    cluster.crossbar([(one, "net_tx", "net_rx") for one in cluster.simulations], latency=100, route=Route(0))
    cluster.run(1_000_000)
    assert sum(one.evaluations for one in cluster.simulations) < 16 * 200


def crowd(library, seed, threads, ahead=False):
    """Sixteen stations that all talk to all; with ``ahead``, some run on alone as far as they may."""
    cluster, crossbar = joined(library, 16, threads=threads, seed=seed, latency=40, loss=0.01, reorder=0.05)
    rng = random.Random(seed)
    for one in cluster.simulations:
        one.poke("slow", rng.randrange(2))
        for _ in range(60):
            one.stream("say").push(bytes([rng.randrange(16)]) + rng.randbytes(rng.choice([7, 60, 255])))
    slack = 0
    for _ in range(40 if ahead else 0):
        cluster.race([(one.cycle + rng.randrange(1, 60), 0) for one in cluster.simulations])
        for one in rng.sample(cluster.simulations, 5):
            assert 0 <= cluster.horizon - one.cycle <= 40
            slack += cluster.horizon - one.cycle
            one.run_alone(rng.randint(0, cluster.horizon - one.cycle), 0)
    assert (slack > 500) == ahead
    cluster.run(30_000 - cluster.cycle)
    return cluster.log_hash(), [crossbar.statistics(port) for port in range(16)]


def test_sixteen_devices(stations, seed):
    hash_, statistics = crowd(stations[4], seed, 1)
    assert all(one.packets_in == 60 and one.packets_out > 20 for one in statistics)
    assert sum(one.packets_out for one in statistics) == 960 - sum(one.lost for one in statistics)
    assert crowd(stations[4], seed, 2) == crowd(stations[4], seed, 1, ahead=True) == (hash_, statistics)


# ---- drivers that wait at the same time ----

def test_a_race_stops_each_device_at_its_own_event(stations):
    cluster, _ = joined(stations[4], 4, latency=20)
    one, two, three, four = cluster.simulations
    one.stream("say").push(b"\1" + bytes(3))  # the destination's lowest bit is the interrupt
    one.stream("say").push(b"\3" + bytes(3))
    irq = int(Event.IRQ)
    assert cluster.race([None, (10_000, irq), None, (10_000, irq)]) == [None, irq, None, irq]
    assert (two.cycle, four.cycle) == (20 + 2, 21 + 2) and max(one.cycle, three.cycle) <= 40
    assert cluster.race([(45, irq), None, (5000, irq), None]) == [Event.LIMIT, None, None, None]
    assert one.cycle == 45
    assert cluster.race([None, (two.cycle, irq), (5000, irq), None]) == [None, Event.LIMIT, None, None]
    assert cluster.race([None, None, (700_000, irq), None]) == [None, None, Event.LIMIT, None]
    assert three.cycle == 700_000 and one.cycle >= 699_980


def test_a_race_is_checked(stations):
    cluster, _ = joined(stations[4], 2)
    with pytest.raises(ValueError, match="waits must be given for 2 devices, not 1"):
        cluster.race([None])
    with pytest.raises(ValueError, match="at least one that is not None"):
        cluster.race([None, None])


# ---- arguments ----

@pytest.mark.parametrize("arguments,message", [
    ((-1,), "offset must not be negative, not -1"),
    ((0, 9), "width must be 1 to 8 bytes, not 9"),
    ((0, 1, 256), "mask must fit 1 bytes, not 0x100"),
    ((0, 1, None, {256: 0}), "a key of map must fit 1 bytes, not 0x100"),
    ((0, 1, None, {}), "map must not be empty"),
    ((0, 1, None, None, -1), "broadcast must fit 1 bytes, not -0x1"),
])
def test_routes_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Route(*arguments)


def test_crossbars_are_checked(stations, forwarder):
    one, two, other, outside = (Simulation(library) for library in (stations[4], stations[4], forwarder, forwarder))
    wide = Simulation(stations[64])
    cluster = Cluster([one, two, other, wide])
    ports, route = [(one, "net_tx", "net_rx"), (two, "net_tx", "net_rx")], Route(0)
    for wrong, error, message in (
        ([], ValueError, "a crossbar must have at least one port"),
        ([(outside, "net_tx", "net_rx")], ValueError, "must join simulations of this cluster"),
        ([(one, "net_rx", "net_rx")], TypeError, "net_rx must be an output of the sender"),
        ([(one, "net_tx", "net_tx")], TypeError, "net_tx must be an input of the receiver"),
        ([*ports, (wide, "net_tx", "net_rx")], TypeError, "must all carry packets in words of the same width"),
        ([(other, "number_out", "number_in")], TypeError, "must all carry packets in words of the same width"),
        ([*ports, ports[0]], ValueError, "net_tx of device 0 is already connected"),
    ):
        with pytest.raises(error, match=message):
            cluster.crossbar(wrong, latency=1, route=route)
    with pytest.raises(ValueError, match="latency must be at least 1, not 0"):
        cluster.crossbar(ports, latency=0, route=route)
    with pytest.raises(ValueError, match="spread must not be negative, not -1"):
        cluster.crossbar(ports, latency=1, route=route, spread=-1)
    with pytest.raises(ValueError, match=r"reorder must be a probability, not -0\.5"):
        cluster.crossbar(ports, latency=1, route=route, reorder=-0.5)
    with pytest.raises(ValueError, match="a port in map must be 0 to 1, not 2"):
        cluster.crossbar(ports, latency=1, route=Route(0, map={0: 2}))
    with pytest.raises(TypeError, match="in words of the same width for cut-through"):
        cluster.connect(one, "net_tx", wide, "net_rx", latency=1, cut_through=True)
    crossbar = cluster.crossbar(ports, latency=1, route=route)
    with pytest.raises(ValueError, match="net_tx of device 0 is already connected"):
        cluster.connect(one, "net_tx", other, "net_rx", latency=1)
    with pytest.raises(ValueError, match="port must be 0 to 1, not 2"):
        crossbar.statistics(2)
    with pytest.raises(ValueError, match="port must be 0 to 1, not -1"):
        crossbar.traffic(0, -1)
    cluster.run(1)
    with pytest.raises(ValueError, match="a crossbar must be made at cycle 0, not 1"):
        cluster.crossbar([(other, "net_tx", "net_rx")], latency=1, route=route)
    cluster.connect(other, "number_out", other, "number_in", latency=1)
