# SPDX-License-Identifier: Apache-2.0
"""The link over UDP in plain Python: its frames, and its recovery from every kind of fault."""

import random

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from rackgate.collective.abi import Header, PacketType
from rackgate.collective.link.abi import LinkCounter, LinkFlag, LinkHeader, endpoint, link_frame, split_link_frame
from rackgate_sim.collective.udp import UdpPeer

WHERE = {"address": 0x0A520000, "port": 0x5247}


def test_a_frame_as_scapy_reads_it(seed):
    rng = random.Random(seed)
    for _ in range(100):
        packet = rng.randbytes(rng.choice((0, 32, 33, 1056)))
        header = LinkHeader(rng.getrandbits(3), rng.getrandbits(16), rng.getrandbits(16), rng.getrandbits(4))
        raw = link_frame(endpoint(3, **WHERE), endpoint(12, **WHERE), header, packet)
        frame = Ether(raw)
        again = frame.copy()
        del again[IP].chksum, again[UDP].chksum, again[UDP].len, again[IP].len
        assert bytes(again) == raw, "Scapy makes the same sums and lengths"
        assert (frame.dst, frame.src) == ("02:52:47:00:00:0c", "02:52:47:00:00:03")
        assert (frame[IP].src, frame[IP].dst, frame[IP].ttl, frame[IP].flags) == ("10.82.0.3", "10.82.0.12", 64, "DF")
        assert (frame[UDP].sport, frame[UDP].dport) == (0x5247, 0x5247)
        assert bytes(frame[UDP].payload) == header.to_bytes() + packet
        assert split_link_frame(raw + bytes(rng.randrange(20))) == (
            endpoint(3, **WHERE), endpoint(12, **WHERE), header, packet)


def test_a_link_header_must_be_whole_and_known():
    with pytest.raises(ValueError, match="a link header has 6 bytes, not 5"):
        LinkHeader.from_bytes(bytes(5))
    with pytest.raises(ValueError, match="the version of a link header must be 1, not 7"):
        LinkHeader.from_bytes(bytes([7, 0, 0, 0, 0, 0]))
    header = LinkHeader(LinkFlag.PACKET | LinkFlag.ERROR, 0x1234, 0xABCD, 9)
    assert header.to_bytes() == bytes([1, 0x95, 0x12, 0x34, 0xAB, 0xCD])
    assert LinkHeader.from_bytes(header.to_bytes()) == header


def exchanged(rng, peers, count, *, fault, limit=200_000):
    """Packets between peers on a bad network; what came must be what was sent. Returns cycles."""
    wanted, got = {}, {}
    for source, peer in enumerate(peers):
        for number in range(count):
            destination = rng.randrange(len(peers))
            packet = Header(PacketType.DATA, destination=destination, source=source, tag=number).to_bytes()
            packet += rng.randbytes(rng.randrange(40))
            error = rng.random() < 0.1
            peer.send(packet, error=error)
            wanted.setdefault((source, destination), []).append((packet, error))
    flying, now = [], 0
    while any(peer.waiting for peer in peers) or flying:
        assert now < limit
        for peer in peers:
            for frame in peer.depart(now):
                for _ in range((rng.random() >= fault) + (rng.random() < fault)):
                    when = now + 20 + (rng.randrange(100) if rng.random() < fault else 0)
                    if rng.random() < fault:
                        place = rng.randrange(14, len(frame))
                        damaged = frame[:place] + bytes([frame[place] ^ 1 << rng.randrange(8)]) + frame[place + 1:]
                        flying.append((when, frame[5], damaged))
                    else:
                        flying.append((when, frame[5], frame))
        now += 1
        for item in [one for one in flying if one[0] <= now]:
            flying.remove(item)
            if (one := peers[item[1]].arrive(item[2], now)) is not None:
                got.setdefault((one.packet[6], item[1]), []).append((one.packet, one.error))
    assert got == wanted
    return now


@pytest.mark.parametrize("fault", [0, 0.01, 0.1, 0.3])
def test_each_packet_comes_once_and_in_order(fault, seed):
    rng = random.Random(seed)
    peers = [UdpPeer(node, timeout=300, delay=30) for node in range(4)]
    exchanged(rng, peers, 60, fault=fault)
    again = sum(peer.counts[LinkCounter.RETRANSMITTED] for peer in peers)
    assert again == 0 if fault == 0 else again > 0 or fault < 0.05


def test_frames_of_another_session_are_dropped():
    old, new, closed = UdpPeer(0, session=1), UdpPeer(1, session=2), UdpPeer(1, session=0)
    old.send(Header(PacketType.DATA, destination=1).to_bytes())
    frame, = old.depart(0)
    assert new.arrive(frame, 0) is None and new.counts[LinkCounter.FOREIGN] == 1
    assert closed.arrive(frame, 0) is None and closed.counts[LinkCounter.FOREIGN] == 1


@pytest.mark.thorough
def test_sequence_numbers_wrap():
    one, two = UdpPeer(0), UdpPeer(1)
    for number in range(70_000):
        packet = Header(PacketType.DATA, destination=1, tag=number).to_bytes()
        one.send(packet)
        frame, = one.depart(number)
        assert two.arrive(frame, number).packet == packet
        for back in two.depart(number):
            one.arrive(back, number)
    assert one.waiting <= 1
