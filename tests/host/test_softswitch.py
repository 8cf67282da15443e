# SPDX-License-Identifier: Apache-2.0
"""A pipeline as a switch in software: datagrams in, datagrams out, as the pipeline's model says."""

import asyncio
import dataclasses
import socket

import pytest

from rackgate.net.balancer import BALANCER
from rackgate.net.headers import ethernet
from rackgate.pisa.declare import Copy, assign
from rackgate.pisa.expr import Const
from rackgate_sim.pisa.softswitch import SoftSwitch

SERVERS = [0x0A00_0010 + number for number in range(4)]


def sockets(count):
    """Bound UDP sockets."""
    made = []
    for _ in range(count):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", 0))
        one.setblocking(False)
        made.append(one)
    return made


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_flows_are_spread_over_servers():
    """All datagrams of a flow come to one server, in order, and the pipeline's registers count them."""
    servers, clients = sockets(4), sockets(12)

    async def work():
        where = {address: server.getsockname() for address, server in zip(SERVERS, servers, strict=True)}
        async with await SoftSwitch.open(BALANCER, where=where) as switch:
            for number in range(3):
                for client in clients:
                    client.sendto(f"{client.getsockname()[1]} {number}".encode(), switch.address)
            await until(lambda: switch.counts.sent == 36)
            await asyncio.sleep(0.05)
            flows = {}
            for place, server in enumerate(servers):
                got = []
                while True:
                    try:
                        content, source = server.recvfrom(100)
                    except BlockingIOError:
                        break
                    assert source == switch.address
                    got.append(content.decode().split())
                assert switch.model.read("counts", place)["packets"] == len(got)
                for port, number in got:
                    flows.setdefault(port, []).append((place, number))
            assert len(flows) == 12
            for came in flows.values():
                assert len({place for place, _ in came}) == 1 and [number for _, number in came] == ["0", "1", "2"]
            assert dataclasses.astuple(switch.counts) == (36, 36, 0, 0)

    try:
        asyncio.run(work())
    finally:
        for one in (*servers, *clients):
            one.close()


@pytest.mark.parametrize(("copy", "counts"), [
    (Copy("out", Const(0, 1)), (1, 0, 1, 0)),
    (Copy("out", Const(1, 1), [assign(ethernet.ether_type, 0x86DD)]), (1, 0, 0, 1)),
])
def test_what_does_not_leave_is_counted(copy, counts):
    (client,) = sockets(1)

    async def work():
        async with await SoftSwitch.open(dataclasses.replace(BALANCER, copies=[copy])) as switch:
            client.sendto(b"data", switch.address)
            await until(lambda: switch.counts.dropped + switch.counts.unsendable)
            assert dataclasses.astuple(switch.counts) == counts

    try:
        asyncio.run(work())
    finally:
        client.close()


def test_an_address_that_is_taken():
    async def work():
        async with await SoftSwitch.open(BALANCER) as switch:
            with pytest.raises(OSError, match="in use"):
                await SoftSwitch.open(BALANCER, switch.address)

    asyncio.run(work())
