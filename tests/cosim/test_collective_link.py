# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Links over UDP between nodes, on a network that loses, doubles, reorders and damages frames."""

import random

import pytest
from collective_links import SETTINGS, Links, packet

from rackgate.collective.link.abi import LinkCounter

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("link")]


def exchange(links, rng, count, *, segment, limit, size=None):
    """Send random packets between all nodes, and check that each comes once and in order. Returns cycles."""
    nodes = range(len(links.nodes))
    wanted = {(source, destination): [] for source in nodes for destination in nodes}
    for source in nodes:
        for number in range(count):
            destination = rng.choice(nodes) if size is None else (source + 1) % len(nodes)
            one = packet(rng, source, destination, number, segment=segment, size=size)
            is_damaged = rng.random() < 0.05
            wanted[source, destination].append((one, is_damaged))
            links.nodes[source].stream("i").push(one, error=is_damaged)
    missing = sum(map(len, wanted.values()))
    got = {pair: [] for pair in wanted}
    start, end = links.cluster.cycle, links.cluster.cycle
    while missing:
        assert links.cluster.cycle - start < limit, f"{missing} packets have not come after {limit} cycles"
        links.run(200)
        for node in nodes:
            for one in links.received(node):
                got[one[6], node].append((bytes(one), one.error))
                missing, end = missing - 1, max(end, one.cycle)
    links.run(20_000)  # nothing comes twice, and all ends
    assert not any(links.received(node) for node in nodes)
    assert got == wanted
    return end - start


@pytest.mark.parametrize("width", [4, 8, 16])
def test_nothing_is_lost_without_faults(width, seed):
    with Links(3, width=width, seed=seed) as links:
        exchange(links, random.Random(seed), 100, segment=256, limit=100_000)
        for counter in (LinkCounter.TIMEOUTS, LinkCounter.RETRANSMITTED, LinkCounter.DAMAGED, LinkCounter.FOREIGN,
                        LinkCounter.AHEAD, LinkCounter.DUPLICATES):
            assert links.total(counter) == 0, counter
        assert links.total(LinkCounter.FRAMES_RECEIVED) == links.total(LinkCounter.FRAMES_SENT)


@pytest.mark.parametrize("nodes", [1, 2, 4])
@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_nothing_is_lost_or_doubled(nodes, rate, seed):
    """Frames are lost, come twice, late and damaged; packets come once, in order, as they were sent."""
    with Links(nodes, seed=seed, loss=rate, duplicate=rate, reorder=rate, corrupt=rate) as links:
        exchange(links, random.Random(seed), 300, segment=256, limit=2_000_000)
        assert rate < 0.1 or links.total(LinkCounter.RETRANSMITTED) > 0


@pytest.mark.parametrize("fault,counters", [
    ("loss", (LinkCounter.AHEAD, LinkCounter.RETRANSMITTED)), ("duplicate", (LinkCounter.DUPLICATES,)),
    ("reorder", (LinkCounter.AHEAD,)), ("corrupt", (LinkCounter.DAMAGED, LinkCounter.RETRANSMITTED))])
def test_each_fault_by_itself(fault, counters, seed):
    with Links(3, seed=seed, **{fault: 0.1}) as links:
        exchange(links, random.Random(seed), 200, segment=256, limit=1_000_000)
        for counter in counters:
            assert links.total(counter) > 0, counter
        if fault not in ("loss", "corrupt"):
            assert links.total(LinkCounter.DAMAGED) == 0


def test_a_network_that_was_down(seed):
    """As long as nobody answers packets are sent again once in a time-out; then all come."""
    rng = random.Random(seed)
    with Links(2, seed=seed, timeout=1000) as links:
        links.nodes[1].poke("settings", 0)  # takes no frames
        sent = [packet(rng, 0, 1, number, segment=256) for number in range(10)]
        for one in sent:
            links.nodes[0].stream("i").push(one)
        links.run(10_000)
        assert not links.received(1) and 8 <= links.count(0, LinkCounter.TIMEOUTS) <= 10
        assert links.count(0, LinkCounter.FRAMES_SENT) == links.count(1, LinkCounter.FOREIGN) <= 110
        links.nodes[1].poke("settings", SETTINGS)
        links.run(3_000)
        assert list(map(bytes, links.received(1))) == sent


@pytest.mark.soak
@pytest.mark.parametrize("width", [4, 8, 16])
def test_long_exchanges(width, seed):
    rng = random.Random(seed)
    for rate in (0.001, 0.02, 0.2):
        # Longer than the packets that may be under way to four nodes take on the link: else all of them are sent again
        # and again while the first is still on its way.
        with Links(4, width=width, timeout=24_000 // width, seed=seed, variant="fast", loss=rate, duplicate=rate,
                   reorder=rate, corrupt=rate) as links:
            exchange(links, rng, 5000, segment=256, limit=50_000_000)
