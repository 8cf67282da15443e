# SPDX-License-Identifier: Apache-2.0
"""A NIC on a simulated board: frames come at its RGMII pins, payload goes to on-chip memory, the bridge reads it."""

import random

import pytest
from board_port import plug
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from test_zeronic_nic import (
    BEGIN,
    KEY,
    A,
    B,
    entries,
    segment,
    test_a_nic_that_takes_no_commands_is_told_of,
    test_commands_are_taken_in_order,
    test_fences_are_answered_in_their_place,
    test_segments_are_counted,
)

import rackgate_host
from rackgate.zeronic.abi import Direction, Right
from rackgate.zeronic.messages import EntryFlag, EntryKind, FlowFlag, Send, SendFlag
from rackgate_host.zeronic.nic import Nic
from rackgate_sim.board.serve import serve

__all__ = ["test_a_nic_that_takes_no_commands_is_told_of", "test_commands_are_taken_in_order",
           "test_fences_are_answered_in_their_place", "test_segments_are_counted"]

pytestmark = [pytest.mark.cosim, pytest.mark.thorough, pytest.mark.xdist_group("native")]

SMALL = {"width": 8, "flows": 16, "segments": 8, "regions": 8, "intervals": 8, "memory": 256 << 10}
RINGS = {"command_bytes": 1 << 12, "entry_bytes": 1 << 14}


@pytest.fixture(scope="module")
def board():
    with serve("zeronic", "udp", SMALL) as served:
        yield served


@pytest.fixture
def nic(board):
    with rackgate_host.open(board.url) as device:
        yield Nic(plug(device, board), **RINGS)


def test_payload_is_placed_and_read_back(nic, seed):
    """A stream in pieces out of order, with some of it again; frames of another flow come up whole."""
    rng = random.Random(seed)
    stream = rng.randbytes(8000)
    buffer = nic.device.allocate(len(stream) + 64)
    buffer[:] = 0x55
    buffer.sync_to_device()
    nic.set_region(5, Right.READ | Right.WRITE, buffer.device_address, len(stream))
    nic.insert_key(KEY, 3)
    nic.begin_flow(3, FlowFlag.RECEIVE, BEGIN)
    nic.post(3, Direction.RECEIVE, BEGIN, len(stream), 5, 0)
    nic.settle()
    pieces = [(at, stream[at:at + 1448]) for at in range(0, len(stream), 1448)]
    rng.shuffle(pieces)
    for at, content in pieces:
        nic.receive(segment(at, content))
    stranger = bytes(Ether() / IP(src=B, dst=A) / TCP(sport=1, dport=2) / rng.randbytes(100))
    nic.receive(stranger)
    got = entries(nic)
    assert sum(entry.placed for entry, _ in got) == len(stream)
    assert [content for entry, content in got if entry.kind == EntryKind.DEFERRED] == [stranger]
    assert all(entry.flags & EntryFlag.FLOW for entry, _ in got if entry.kind == EntryKind.HEADER)
    buffer.sync_from_device()
    assert buffer.tobytes() == stream + b"\x55" * 64
    counters = nic.counters()
    assert counters["frames_received"] == len(pieces) + 1 and counters["bytes_placed"] == len(stream)
    assert counters["unknown_flow"] == 1 and counters["bad_checksum"] == counters["bad_frame"] == 0


def test_a_stream_is_gathered_and_leaves_at_the_pins(nic, seed):
    stream = random.Random(seed).randbytes(3000)
    buffer = nic.device.allocate(len(stream))
    buffer[:] = list(stream)
    buffer.sync_to_device()
    nic.set_region(7, Right.READ, buffer.device_address, len(stream), owner=4)
    nic.begin_flow(4, 0, 0)
    nic.post(4, Direction.SEND, BEGIN, len(stream), 7, 0)
    head = bytes(Ether() / IP(src=B, dst=A) / TCP(sport=2000, dport=1000, seq=BEGIN, ack=9, flags="PA"))
    nic.send(Send(4, SendFlag.GATHER | SendFlag.OFFLOAD | SendFlag.SNOOP, head, len(stream), 1448))
    nic.settle()
    frames = []
    while sum(map(len, frames)) < len(stream) + 3 * len(head):
        frames.append(nic.device.pop("net_tx", timeout=60))
    assert b"".join(bytes(Ether(frame)[TCP].payload) for frame in frames) == stream
    for frame in map(Ether, frames):
        again = Ether(bytes(frame))
        del again[IP].chksum, again[TCP].chksum
        assert bytes(Ether(bytes(again))) == bytes(frame)
