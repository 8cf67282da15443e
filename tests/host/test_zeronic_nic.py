# SPDX-License-Identifier: Apache-2.0
"""The NIC's driver on each world: rings, tables, fences, and what it refuses."""

import random

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from worlds import WORLDS

from rackgate.zeronic.abi import Direction, Right
from rackgate.zeronic.messages import (
    TCP_PROFILE,
    Cursor,
    EntryFlag,
    EntryKind,
    FlowFlag,
    Send,
    SendFlag,
)
from rackgate_host.errors import DeviceTimeout, UsageError
from rackgate_host.zeronic.errors import FlowTableFull, TooManySegments
from rackgate_host.zeronic.keys import FlowKey
from rackgate_host.zeronic.nic import Nic
from rackgate_host.zeronic.rings import CommandRing

A, B = "10.77.0.1", "10.77.0.2"
KEY = FlowKey(0x0A4D0001, 0x0A4D0002, 1000, 2000)
BEGIN = 0xFFFF_F000  # so that streams wrap


@pytest.fixture(params=WORLDS)
def world(request):
    """The NIC's driver works on memory that it shares."""
    return request.param


@pytest.fixture
def open_nic(connect, world):
    """Open a NIC of each world whose driver's parameters may be given."""

    def open_nic(**parameters):
        variant = "&variant=brief" if world == "sim" else ""
        return Nic(connect(f"{world}:zeronic?memory=16M{variant}"), **parameters)

    return open_nic


@pytest.fixture
def nic(open_nic):
    return open_nic()


def segment(position, payload, flags="A", **fields):
    """A frame from A to B whose payload begins at ``position``."""
    tcp = TCP(sport=1000, dport=2000, seq=(BEGIN + position) % (1 << 32), ack=7, flags=flags, **fields)
    return bytes(Ether() / IP(src=A, dst=B) / tcp / payload)


def entries(nic):
    nic.settle()
    return list(nic.entries())


def receiving(nic, size=1 << 16, flags=FlowFlag.RECEIVE):
    """Make flow 3 receive into a new buffer, which is region 5."""
    buffer = nic.device.allocate(size)
    buffer[:] = 0
    nic.set_region(5, Right.READ | Right.WRITE, buffer.device_address, size)
    nic.insert_key(KEY, 3)
    nic.begin_flow(3, flags, BEGIN)
    nic.post(3, Direction.RECEIVE, BEGIN, size, 5, 0)
    nic.settle()  # frames and commands are not in each other's order
    return buffer


def test_frames_of_no_flow_come_whole(nic):
    frames = [bytes(Ether() / IP(src=A, dst=B) / UDP(sport=1, dport=2) / b"hello"), segment(0, b"data"), b"\x02" * 60]
    for frame in frames:
        nic.receive(frame)
    got = entries(nic)
    assert [content for _, content in got] == frames
    assert all(entry.kind == EntryKind.DEFERRED and not entry.flags & EntryFlag.FLOW for entry, _ in got)
    assert nic.counters()["unknown_flow"] == 3 and nic.is_idle and nic.waiting == 0


def test_payload_is_placed_in_any_order(nic, seed):
    rng = random.Random(seed)
    stream = rng.randbytes(60_000)
    buffer = receiving(nic)
    cuts = sorted({0, len(stream), *(rng.randrange(len(stream)) for _ in range(50))})
    pieces = list(zip(cuts, cuts[1:], strict=False))
    rng.shuffle(pieces)
    for start, end in pieces:
        for at in range(start, end, 1448):
            nic.receive(segment(at, stream[at:min(end, at + 1448)]))
    got = entries(nic)
    placed = sum(entry.placed for entry, _ in got)
    assert nic.entry_bytes == sum(8 * entry.size for entry, _ in got)
    # More holes than the NIC remembers: those frames come whole.
    for entry, content in got:
        if entry.kind == EntryKind.DEFERRED:
            read = Ether(content)[TCP]
            at = (read.seq - BEGIN) % (1 << 32)
            buffer.view(np.ndarray)[at:at + len(read.payload)] = np.frombuffer(bytes(read.payload), np.uint8)
    assert placed > len(stream) // 2 and buffer.tobytes()[:len(stream)] == stream


def test_rings_wrap(open_nic, seed):
    rng = random.Random(seed)
    nic = open_nic(command_bytes=1 << 12, entry_bytes=1 << 12)
    receiving(nic)
    sent, whole = [], []
    for k in range(300):
        nic.move_cursor(3, BEGIN + k)
        frame = bytes(Ether() / IP(src=A, dst=B) / UDP() / rng.randbytes(rng.randrange(18, 1400)))
        nic.send(Send(0, SendFlag(0), frame[:42], len(frame) - 42, 0, frame[42:]))
        sent.append(frame)
        nic.receive(frame)
        whole.append(frame)
        nic.run(50)
    nic.settle()
    assert list(nic.sent()) == sent
    assert [content for _, content in nic.entries()] == whole
    assert nic.counters()["bad_command"] == 0 and nic.command_bytes > 20 * 4096 and nic.entry_bytes > 20 * 4096


def test_send_gathers_and_cuts(nic, seed):
    stream = random.Random(seed).randbytes(10_000)
    buffer = nic.device.allocate(len(stream))
    buffer.view(np.ndarray)[:] = np.frombuffer(stream, np.uint8)
    nic.set_region(9, Right.READ, buffer.device_address, len(stream), owner=4)
    nic.begin_flow(4, 0, 0)
    nic.post(4, Direction.SEND, BEGIN, len(stream), 9, 0)
    head = bytes(Ether() / IP(src=B, dst=A) / TCP(sport=2000, dport=1000, seq=BEGIN, ack=9, flags="PA"))
    nic.send(Send(4, SendFlag.GATHER | SendFlag.OFFLOAD | SendFlag.SNOOP, head, len(stream), 1448))
    nic.settle()
    frames = [Ether(frame) for frame in nic.sent()]
    assert b"".join(bytes(frame[TCP].payload) for frame in frames) == stream
    assert all(bytes(frame) == bytes(_recomputed(frame)) for frame in frames)
    # Another flow may not read from that region.
    nic.begin_flow(5, 0, 0)
    nic.post(5, Direction.SEND, BEGIN, len(stream), 9, 0)
    nic.send(Send(5, SendFlag.GATHER | SendFlag.OFFLOAD, head, 100, 0))
    (entry, _), = entries(nic)
    assert entry.kind == EntryKind.UNSENT and entry.flow == 5 and not list(nic.sent())


def _recomputed(frame):
    again = Ether(bytes(frame))
    del again[IP].chksum, again[TCP].chksum
    return again


def test_fences_are_answered_in_their_place(nic):
    receiving(nic)
    told = []
    for k in range(5):
        nic.receive(segment(10 * k, b"0123456789"))
        nic.settle()
        nic.fence(lambda k=k: told.append(k), ring=k % 2)
    got = entries(nic)
    assert sorted(told) == [0, 1, 2, 3, 4]
    assert [entry.kind for entry, _ in got] == [EntryKind.HEADER] * 5


@pytest.mark.parametrize("cycles", [40, 200, 350])
def test_a_driver_that_begins_while_the_memory_works(connect, cycles):
    """What it writes behind the reset is kept."""
    device = connect("sim:zeronic?memory=16M&variant=brief&latency=400")
    for _ in range(2):
        nic = Nic(device)
        buffer = nic.device.allocate(1 << 14)
        nic.set_region(5, Right.READ | Right.WRITE, buffer.device_address, 1 << 14)
        nic.fence(print)
        nic.run(cycles)
    nic = Nic(device, coalesce_cycles=77)
    device.run(1_000)
    assert device.regs.COALESCE_CYCLES.value == 77
    assert (device.regs.CONTROL.receive, device.regs.CONTROL.send) == (1, 1)
    frame = segment(0, b"data")
    nic.receive(frame)
    assert [content for _, content in entries(nic)] == [frame]


def test_headers_are_merged(open_nic):
    nic = open_nic(coalesce_cycles=1000)
    buffer = receiving(nic, flags=FlowFlag.RECEIVE | FlowFlag.COALESCE)
    stream = bytes(range(250)) * 20
    for at in range(0, 5000, 1000):
        nic.receive(segment(at, stream[at:at + 1000]))
    (entry, _), = entries(nic)
    assert (entry.kind, entry.payload, entry.frames, entry.placed) == (EntryKind.HEADER, 5000, 5, 5000)
    assert buffer.tobytes()[:5000] == stream


def test_a_flow_that_has_ended_is_unknown(nic):
    receiving(nic)
    nic.receive(segment(0, b"one"))
    assert [entry.kind for entry, _ in entries(nic)] == [EntryKind.HEADER]
    nic.remove_key(KEY)
    nic.begin_flow(3, 0, 0)
    nic.settle()
    nic.receive(segment(3, b"two"))
    (entry, content), = entries(nic)
    assert entry.kind == EntryKind.DEFERRED and not entry.flags & EntryFlag.FLOW and content.endswith(b"two")


def test_segments_are_counted(nic):
    receiving(nic)
    assert nic.room(3, Direction.RECEIVE) == nic.segments - 1
    for k in range(1, nic.segments):
        nic.post(3, Direction.RECEIVE, BEGIN + (k << 16), 1 << 16, 5, 0)
    with pytest.raises(TooManySegments, match=f"flow 3 has {nic.segments} segments"):
        nic.post(3, Direction.RECEIVE, BEGIN + (1 << 24), 1, 5, 0)
    nic.retire(3, Direction.RECEIVE, 2)
    assert nic.room(3, Direction.RECEIVE) == 2
    with pytest.raises(ValueError, match="count must be of segments that are posted"):
        nic.retire(3, Direction.RECEIVE, nic.segments)
    nic.begin_flow(3, 0, 0)
    assert nic.room(3, Direction.RECEIVE) == nic.segments
    nic.settle()
    assert nic.counters()["bad_command"] == 0


def test_a_full_set_of_the_flow_table(connect):
    nic = Nic(connect("model:zeronic?memory=16M&flows=16"))
    with pytest.raises(FlowTableFull):  # ports that differ by the number of sets share one
        for k in range(5):
            nic.insert_key(KEY._replace(source_port=8 * k), k)
    nic.remove_key(KEY._replace(source_port=8))
    nic.insert_key(KEY._replace(source_port=32), 4)


def test_profiles(nic):
    nic.set_profile(TCP_PROFILE._replace(profile=0, protocol=0))
    nic.insert_key(KEY, 3)
    nic.begin_flow(3, FlowFlag.RECEIVE, BEGIN)
    nic.settle()
    nic.receive(segment(0, b"x"))
    (entry, _), = entries(nic)
    assert entry.kind == EntryKind.DEFERRED and not entry.flags & EntryFlag.CHECKED


@pytest.mark.parametrize("call, message", [
    (lambda nic: nic.set_region(64, Right.READ, 0, 1), "region must be 0 to 63, not 64"),
    (lambda nic: nic.begin_flow(-1, 0, 0), "flow must be 0 to 255, not -1"),
    (lambda nic: nic.insert_key(KEY, 256), "flow must be 0 to 255, not 256"),
    (lambda nic: nic.post(256, Direction.SEND, 0, 1, 0, 0), "flow must be 0 to 255, not 256"),
    (lambda nic: nic.post(0, Direction.SEND, 0, 0, 0, 0), "a segment must have 1 to 2\\*\\*31 - 1 bytes, not 0"),
    (lambda nic: nic.post(0, Direction.SEND, 0, 1 << 31, 0, 0), "not 2147483648"),
    (lambda nic: nic.send(Send(0, SendFlag(0), bytes(42), 1 << 18, 0, bytes(1 << 18))), "a command must have at most"),
])
def test_what_the_driver_refuses(nic, call, message):
    with pytest.raises(ValueError, match=message):
        call(nic)


def test_another_device_is_refused(model):
    with pytest.raises(UsageError, match="device inflate is no NIC: open model:zeronic or sim:zeronic"):
        Nic(model)


@pytest.mark.parametrize("size", [1000, 1 << 11, 1 << 27])
def test_rings_have_a_size(nic, size):
    with pytest.raises(ValueError, match=f"a ring must have a power of two of 4 KiB to 64 MiB, not {size}"):
        CommandRing(nic.device, size, lambda: None)


def test_a_nic_that_takes_no_commands_is_told_of(nic, monkeypatch):
    nic.device.regs.CONTROL.write(receive=1)
    monkeypatch.setattr("rackgate_host.zeronic.rings._ROOM_CYCLES", 10_000)
    with pytest.raises(DeviceTimeout, match="no room for 32 bytes in the ring of commands after"):
        for _ in range(1 << 14):
            nic.move_cursor(0, 0)


def test_commands_are_taken_in_order(nic):
    nic.move_cursor(0, 0)
    first = nic.produced
    assert not nic.is_taken(first)
    nic.run(1000)
    assert nic.is_taken(first) and nic.is_taken()
    assert Cursor(0, 0).to_bytes()[:1] == b"\x03" and nic.counters()["commands"] == 1
