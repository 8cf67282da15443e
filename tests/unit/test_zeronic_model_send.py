# SPDX-License-Identifier: Apache-2.0
"""What the model of the NIC sends. Scapy and arithmetic of the tests' own judge the frames."""

import random

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from zeronic_nic import DATA, Nic
from zeronic_packets import ACK, CWR, ECE, FIN, PSH, SYN, TIMESTAMPS, Tcp, ones_complement

from rackgate.zeronic.abi import Counter, Direction, Right
from rackgate.zeronic.messages import EntryFlag, EntryKind, Flow, FlowFlag, Region, Send, SendFlag

BASE = Tcp(seq=5000, ack=900, options=TIMESTAMPS)
GATHERED = SendFlag.GATHER | SendFlag.OFFLOAD


@pytest.fixture
def nic():
    made = Nic()
    made.begin(2, BASE.key, cursor=500)
    return made


def fill(nic, seed=1, size=70000):
    """Random bytes where the stream's bytes from 5000 on are."""
    data = random.Random(seed).randbytes(size)
    nic.place(DATA + 5000, data)
    return data


def judge(frames, header, segment):
    """All that must hold of the frames of one command; their payload."""
    whole = b""
    first = Ether(header)
    for number, raw in enumerate(frames):
        packet = Ether(raw)
        ip, tcp = packet[IP], packet[TCP]
        size = 20 + 4 * tcp.dataofs
        payload = raw[14 + size:]
        assert ip.len == size + len(payload) == len(raw) - 14
        assert ip.id == (first[IP].id + number) % 65536
        assert not ones_complement(raw[14:34])
        pseudo = raw[26:34] + bytes([0, 6]) + (len(raw) - 34).to_bytes(2, "big")
        assert not ones_complement(pseudo + raw[34:])
        again = Ether(raw)
        del again[IP].chksum, again[TCP].chksum, again[IP].len
        assert bytes(again) == raw  # Scapy makes the same checksums and lengths
        assert tcp.seq == (first[TCP].seq + len(whole)) % 2**32
        given, flags, is_last = int(first[TCP].flags), int(tcp.flags), number == len(frames) - 1
        expected = given & ~(0 if is_last else FIN | PSH) & ~(CWR if number else 0)
        assert flags == expected
        changing = {*range(16, 20), 24, 25, *range(38, 42), 47, 50, 51}
        assert all(raw[k] == header[k] for k in range(14 + size) if k not in changing)
        assert len(payload) == segment or is_last and (0 < len(payload) <= segment or not segment or not payload)
        whole += payload
    return whole


@pytest.mark.parametrize("payload, segment, options", [
    (0, 0, TIMESTAMPS), (1, 0, b""), (9216, 0, b""), (1448, 1448, TIMESTAMPS), (1449, 1448, TIMESTAMPS),
    (65495, 1448, TIMESTAMPS), (65495, 9216, bytes([1] * 40)), (100, 1, b""), (5001, 999, bytes([1] * 4)),
], ids=str)
@pytest.mark.parametrize("flags", [ACK, ACK | PSH | FIN | CWR | ECE])
def test_gathered_and_cut(nic, payload, segment, options, flags):
    data = fill(nic)
    nic.post(2, 5000, 70000, direction=Direction.SEND)
    header = BASE.but(options=options, flags=flags, identification=65530).header()
    nic.do(Send(2, GATHERED, header, payload, segment))
    frames = nic.sent()
    assert len(frames) == (max(1, -(-payload // segment)) if segment else 1)
    assert judge(frames, header, segment or payload) == data[:payload]
    assert nic.count(Counter.FRAMES_SENT) == len(frames)
    assert nic.count(Counter.BYTES_SENT) == sum(map(len, frames))


def test_pieces_of_odd_sizes_anywhere(nic):
    data, draw = fill(nic, 2), random.Random(2)
    at = 5000
    pieces = []
    for _ in range(8):
        size, offset = draw.randrange(1, 400), draw.randrange(1 << 18, 1 << 20)
        pieces.append((at, size, offset))
        at += size
    for start, size, offset in pieces:
        nic.place(DATA + offset, data[start - 5000:start - 5000 + size])
        nic.post(2, start, size, offset, Direction.SEND)
    header = BASE.header()
    nic.do(Send(2, GATHERED, header, at - 5000, 333))
    kept = [bytes(nic.memory(DATA + offset, size)) for _, size, offset in pieces]  # one may overlap another
    assert judge(nic.sent(), header, 333) == b"".join(kept)


def test_payload_that_follows_the_header(nic):
    data = random.Random(3).randbytes(4000)
    header = BASE.header()
    nic.do(Send(2, SendFlag.OFFLOAD, header, 4000, 1000, data))
    assert judge(nic.sent(), header, 1000) == data


def test_frames_as_they_are(nic):
    draw = random.Random(4)
    frames = []
    for size in (14, 15, 60, 94, 95, 1514, 9230):
        frame = draw.randbytes(size)
        frames.append(frame)
        nic.do(Send(0, 0, frame[:min(size, 94)], max(0, size - 94), 0, frame[94:]))
    assert nic.sent() == frames and not nic.entries()


def test_retransmission_across_the_wrap_of_sequence_numbers(nic):
    begin = 2**32 - 700
    data = fill(nic, 5)
    nic.post(2, begin, 1000, 5000, Direction.SEND)
    nic.post(2, begin + 1000, 1000, 6000, Direction.SEND)
    for offset, size in ((0, 2000), (650, 100), (1999, 1), (0, 2000)):
        header = BASE.but(seq=begin + offset).header()
        nic.do(Send(2, GATHERED, header, size, 512))
        assert judge(nic.sent(), header, 512) == data[offset:offset + size]


@pytest.mark.parametrize("region", [
    Region(1, Right.WRITE, 0, 10000), Region(1, Right.READ, 0, 10000, owner=1), Region(1, Right.READ, 0, 399),
    Region(1, Right.READ, 1 << 39, 10000), None,
], ids=["no right", "of another flow", "too short", "no memory", "no segment"])
def test_what_cannot_be_gathered_is_not_sent(nic, region):
    data = fill(nic, 6)
    nic.do(Flow(2, FlowFlag.RING_1, 0))
    nic.post(2, 5000, 2000, direction=Direction.SEND)
    if region:
        nic.do(region._replace(base=region.base or nic.base + DATA))
        nic.post(2, 7000, 500, 0, Direction.SEND, 1)
    header = BASE.header()
    nic.do(Send(2, GATHERED, header, 2500, 800))
    assert judge(nic.sent(), header, 800) == data[:1600]  # the frames before it
    assert not nic.entries()
    (up,) = nic.entries(1)
    assert up.entry == (EntryKind.UNSENT, EntryFlag.FLOW, 2, 2, 0, 0, 0, 0, 0, 0)
    assert nic.count(Counter.UNSENT) == 1
    assert nic.count(Counter.BAD_REGION) == bool(region and region.base < 1 << 39)
    nic.do(Send(2, GATHERED, header, 10))  # it goes on
    assert len(nic.sent()) == 1


def test_the_acknowledgement_moves_the_cursor(nic):
    nic.post(2, 500, 1000, 0)
    header = BASE.but(ack=800).header()
    nic.do(Send(2, SendFlag.OFFLOAD, header))
    assert nic.one(BASE.but(seq=500, payload=bytes(100)).frame()).entry.placed == 100
    nic.do(Send(2, SendFlag.OFFLOAD | SendFlag.SNOOP, BASE.but(ack=800, flags=SYN).header()))
    assert nic.one(BASE.but(seq=600, payload=bytes(100)).frame()).entry.placed == 100
    nic.do(Send(2, SendFlag.OFFLOAD | SendFlag.SNOOP, header))
    entry = nic.one(BASE.but(seq=700, payload=bytes(200)).frame()).entry
    assert (entry.kind, entry.placed_offset, entry.placed) == (EntryKind.HEADER, 100, 100)
    nic.do(Send(2, GATHERED | SendFlag.SNOOP, BASE.but(ack=950).header(), 10))  # also one that cannot be sent
    entry = [up.entry for up in nic.receive(BASE.but(seq=900, payload=bytes(100)).frame())][-1]
    assert (entry.kind, entry.placed_offset, entry.placed) == (EntryKind.HEADER, 50, 50)


HEADER = BASE.header()


@pytest.mark.parametrize("send", [
    Send(2, 0, HEADER[:13]), Send(2, 0, HEADER + bytes(29)), Send(16, 0, HEADER), Send(2, SendFlag.GATHER, HEADER),
    Send(2, SendFlag.SNOOP, HEADER), Send(2, 0, HEADER, 0, 1), Send(2, 0, HEADER, 9217, 0, bytes(9217)),
    Send(2, GATHERED, HEADER, 9217), Send(2, GATHERED, HEADER, 20000, 9217), Send(2, GATHERED, HEADER, 65496, 100),
    Send(2, SendFlag.OFFLOAD, HEADER[:53]), Send(2, SendFlag.OFFLOAD, HEADER[:-4]),
    Send(2, SendFlag.OFFLOAD, HEADER + bytes(4)), Send(2, 0, HEADER, 15), Send(2, 0, HEADER, 200, 0, bytes(170)),
], ids=range(15))
def test_commands_that_are_refused(nic, send):
    nic.do(send)
    assert nic.count(Counter.BAD_COMMAND) == 1 and not nic.sent() and not nic.entries()
    nic.do(Send(2, SendFlag.OFFLOAD, HEADER))
    assert len(nic.sent()) == 1


def test_commands_of_any_size_around_the_rings_end():
    nic = Nic(command_log_size=12)
    draw = random.Random(7)
    for _ in range(40):
        frame = draw.randbytes(draw.randrange(94, 3000))
        nic.do(Send(0, 0, frame[:94], len(frame) - 94, 0, frame[94:]))
        assert nic.sent() == [frame]


def test_a_command_that_is_not_all_published_waits(nic):
    frame = random.Random(8).randbytes(500)
    nic.queue(Send(0, 0, frame[:94], 406, 0, frame[94:]))
    nic.write("COMMAND_PRODUCER", nic.produced - 32)
    nic.transport.run(1000, False)
    assert not nic.sent()
    nic.ring()
    nic.settle()
    assert nic.sent() == [frame]
