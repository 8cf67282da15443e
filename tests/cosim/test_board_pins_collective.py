# SPDX-License-Identifier: Apache-2.0
"""Two simulated boards, plugged into each other at their RGMII pins: collectives between them, driver unchanged."""

import numpy as np
import pytest
from test_collective_over_udp import every_collective, total

import rackgate_host
from rackgate.arith.abi import ElementType
from rackgate.collective.link.abi import LinkCounter
from rackgate_host import Unavailable, UsageError
from rackgate_host.collective import SUM, Cluster
from rackgate_host.world import join_boards
from rackgate_sim.board.ethernet import join
from rackgate_sim.board.serve import serve

pytestmark = [pytest.mark.cosim, pytest.mark.thorough, pytest.mark.xdist_group("native")]

SMALL = {"width": 8, "segment": 256, "slots": 16, "calls": 4, "types": 1 << ElementType.INT32, "ports": 1, "link": 1,
         "memory": 64 << 10}


@pytest.fixture(scope="module")
def cluster():
    with serve("collective", "udp", SMALL) as one, serve("collective", "udp", SMALL) as other:
        join(one, other)
        devices = [rackgate_host.open(board.url) for board in (one, other)]
        # Cycles pass at one board while the other one's wait for their turn of this machine.
        with Cluster(join_boards(devices), timeout=0) as cluster:
            yield cluster


def test_allreduce_between_boards(cluster):
    def program(comm):
        result = np.zeros(200, np.int32)
        comm.Allreduce(np.arange(200, dtype=np.int32) * (comm.rank + 1), result, op=SUM)
        return result.tolist()

    before = [device.regs.COUNT_LINK_FRAMES_SENT.value for device in cluster.devices]
    assert cluster.run(program) == [[3 * number for number in range(200)]] * 2
    assert all(device.regs.COUNT_LINK_FRAMES_SENT.value - sent > 3
               for device, sent in zip(cluster.devices, before, strict=True))
    assert total(cluster, LinkCounter.DAMAGED) == 0
    with pytest.raises(Unavailable, match="boards do not count what they send to each other"):
        cluster.payload()


def test_every_collective_between_boards(cluster):
    cluster.run(every_collective, 70, "int32", 1)  # more than a segment
    assert total(cluster, LinkCounter.DAMAGED) == total(cluster, LinkCounter.FOREIGN) == 0


def test_what_cannot_be_joined():
    with rackgate_host.open("model:collective?memory=1M") as device, pytest.raises(UsageError, match="is no board"):
        join_boards([device])
    with serve("echo", "uart", {"memory": 64 << 10}) as served, rackgate_host.open(served.url) as device:
        with pytest.raises(UsageError, match="devices of kind echo have no links to join them by"):
            join_boards([device])
    with pytest.raises(ValueError, match="transports must not be empty"):
        join_boards([])
