# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Links over UDP between nodes, on a network that loses, doubles, reorders and damages frames."""

import random

import pytest
from collective_links import Links, packet

from rackgate.collective.link.abi import LinkCounter

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("native")]

FAULTS = {"loss": 0.0, "duplicate": 0.0, "reorder": 0.0, "corrupt": 0.0}


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
