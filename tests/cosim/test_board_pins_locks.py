# SPDX-License-Identifier: Apache-2.0
"""A lock switch on a simulated board, at its RGMII pins: clients on UDP sockets, control plane through the bridge."""

import asyncio
import contextlib
import json
import re
import socket
import threading

import pytest
from board_port import plug
from lock_world import DeviceSwitch, Network, simulate
from test_locks_clients import PATIENCE, running, take_turns
from typer.testing import CliRunner

import rackgate_host
from rackgate.fisslock.abi import AGENT_PORT, Flag, Message, Mode, Type
from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame
from rackgate.net.hosts import TO_HOST
from rackgate_host.cli import app
from rackgate_host.locks import LockClient, LockTimeout
from rackgate_host.locks.control import Peer, show_address
from rackgate_host.locks.keys import lock_of
from rackgate_host.locks.node import Node
from rackgate_host.locks.protocols import PROTOCOLS
from rackgate_host.locks.server import Service
from rackgate_host.locks.udp import UdpLink
from rackgate_host.switch import Switch
from rackgate_host.transcript import compare, record
from rackgate_sim.board.datagrams import HOST_ADDRESS, HOST_MAC
from rackgate_sim.board.serve import serve

pytestmark = [pytest.mark.cosim, pytest.mark.thorough, pytest.mark.xdist_group("native")]

PROTOCOL = PROTOCOLS["fisslock"]
SMALL = {"locks": 64, "word": 18, "width": 4, "slots": 4, "slot_size": 256}


@pytest.fixture(scope="module")
def board():
    with serve("fisslock", "udp", SMALL) as served:
        yield served


def unpadded(frame):
    """A datagram's frame as it is without padding."""
    return udp_frame(*split_udp_frame(frame))


@pytest.fixture
def device(board):
    with rackgate_host.open(board.url) as device:
        yield plug(device, board, unpadded)


@pytest.fixture
def switch(device):
    device.regs.CONTROL.write(reset=1)  # or what the last test has left would be read, entry by entry
    return Switch(device)


# Clients that send to the board, and that the board sends to


@contextlib.asynccontextmanager
async def clients(board, switch, count):
    """Hosts with sockets of their own; the switch knows them, and they know each other."""
    links, peers = [], {}
    for number in range(1, count + 1):
        link = UdpLink(board.addresses[AGENT_PORT])
        await link.open("127.0.0.1")
        peers[number] = Peer("127.0.0.1", *(one.get_extra_info("sockname")[1] for one in link._sockets))
        switch.insert("hosts", number, TO_HOST, mac=HOST_MAC, address=HOST_ADDRESS,
                      server_port=peers[number].agent_port, client_port=peers[number].client_port)
        links.append(link)
    made = []
    for number, link in enumerate(links, 1):
        link.peers = peers
        made.append(LockClient(Node(PROTOCOL.participant(number, peers, 0), link), PROTOCOL, SMALL["locks"]))
    try:
        yield made
    finally:
        await asyncio.gather(*(client.close() for client in made))


def test_clients_lock_through_the_pins(board, switch):
    async def work():
        async with clients(board, switch, 2) as (one, other):
            tokens = await take_turns((one, other), 2, 4)
            assert tokens == sorted(set(tokens))
            async with one.lock(5, "shared", PATIENCE) as first, other.lock(5, Mode.SHARED, PATIENCE) as second:
                assert first.fencing_token == second.fencing_token
                with pytest.raises(LockTimeout, match="no exclusive lock of 5"):
                    await other.acquire(5, timeout=0.5)
            async with other.lock(5, timeout=PATIENCE) as grant:
                assert grant.fencing_token > first.fencing_token
    before = switch.counters()
    running(work())
    after = switch.counters()
    assert after["sent"] > before["sent"] + 16
    assert not any(count for name, count in after.items() if name.startswith("rejected"))
    assert not any(switch.read("locks", lock_of(key, SMALL["locks"]))["state"] for key in ("key", 5))


def test_datagrams_come_as_fast_as_the_cable(board, switch, monkeypatch):
    """All that have come while the simulation ran go on together: else a host that sends again would bury the board."""
    count, looks, run, gate = 12, 0, board.simulation.run, threading.Event()

    def gated(cycles):
        nonlocal looks
        gate.wait(PATIENCE)
        looks += 1
        run(cycles)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        host.settimeout(PATIENCE)
        port = host.getsockname()[1]
        switch.insert("hosts", 1, TO_HOST, mac=HOST_MAC, address=HOST_ADDRESS, server_port=port, client_port=port)
        monkeypatch.setattr(board.simulation, "run", gated)
        for lock in range(count):
            host.sendto(Message(Type.ACQUIRE, Flag.EXCLUSIVE, lock=lock, machine_id=1, attempt=lock + 1).to_bytes(),
                        board.addresses[AGENT_PORT])
        gate.set()
        granted = [Message.from_bytes(host.recv(2000)) for _ in range(count)]
    assert [(grant.type, grant.lock) for grant in granted] == [(Type.GRANT_W_AGENT, lock) for lock in range(count)]
    assert looks < count


def test_a_service_for_a_board(board, switch):
    """The service that users start: hosts learn from it where the switch is, and send there."""
    async def work():
        service = Service(PROTOCOL, switch, board=board.addresses[AGENT_PORT])
        address = show_address(await service.start(("127.0.0.1", 0)))
        run = asyncio.ensure_future(service.run())
        try:
            async with await LockClient.connect(address, timeout=PATIENCE) as client:
                async with client.lock("key", timeout=PATIENCE) as grant:
                    assert await client.try_lock("key", timeout=PATIENCE) is None
                async with client.lock("key", timeout=PATIENCE) as again:
                    assert again.fencing_token > grant.fencing_token
            assert service.counts.received == service.counts.strangers == 0 and service.counts.left == 1
        finally:
            run.cancel()
            await service.stop()
    running(work())
    assert switch.counters()["sent"] >= 2


@pytest.mark.soak
def test_behind_the_pins(device, seed):
    """Many clients in virtual time, on a network that loses, doubles and reorders."""
    result = simulate(seed, network=Network(jitter=100e-6, loss=0.1, duplicate=0.1), most_bypasses=64,
                      switch=DeviceSwitch(device), rounds=3, clients=4, hosts=2)
    assert not result.wrong and result.counts["granted"]


def test_the_command_tells_where_lock_packets_go():
    """Not at the bridge's URL: whoever starts the board from a shell has no other way to learn it."""
    arguments = ["board", "simulate", "fisslock", "--as", "pins", "--seconds", "0",
                 *(f"--set={name}={value}" for name, value in SMALL.items())]
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert list(told["ports"]) == [str(AGENT_PORT)]
    assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", told["ports"][str(AGENT_PORT)])
    url, line = CliRunner().invoke(app, arguments).stdout.splitlines()
    assert url.startswith("udp:127.0.0.1:")
    assert re.fullmatch(rf"UDP port {AGENT_PORT} of the system: 127\.0\.0\.1:[0-9]+", line)


# The control plane


def work_of_a_switch(device):
    """Tables, registers, packets that come, and packets that are refused."""
    switch = Switch(device)
    switch.insert("hosts", 1, TO_HOST, mac=0x0200_0000_0001, address=0x0A00_0001, server_port=5, client_port=6)
    switch.insert("hosts", 2, TO_HOST, mac=0x0200_0000_0002, address=0x0A00_0002, server_port=7, client_port=8)
    switch.remove("hosts", 2)
    words = switch.read("locks", 3)
    switch.write("locks", 9, **words)
    host, agent = Endpoint(0x0200_0000_0001, 0x0A00_0001, 5), Endpoint(0x0200_0000_00FE, 0x0A00_00FE, AGENT_PORT)
    frames = []
    for lock in (3, 3, 4):
        ask = Message(Type.ACQUIRE, Flag.EXCLUSIVE, lock=lock, machine_id=1, task_id=7)
        frames += switch.process(udp_frame(host, agent, ask.to_bytes()))
    assert switch.process(udp_frame(host, agent, b"what?" * 20)) == [] and len(frames) == 3
    assert switch.read("locks", 3)["state"] and switch.read("locks", 3)["agent"] == 1
    counters = switch.counters()
    assert counters["received"] == 4 and counters["sent"] == 3


def test_transcripts(board, tmp_path):
    places = tmp_path / "sim.jsonl", tmp_path / "board.jsonl"
    with rackgate_host.open("sim:fisslock?variant=brief", **SMALL) as device, record(device, places[0]):
        work_of_a_switch(device)
    with rackgate_host.open(board.url) as device:
        device.regs.CONTROL.write(reset=1)
        plug(device, board, unpadded)
        with record(device, places[1]):
            work_of_a_switch(device)
    assert compare(*places) > 50
