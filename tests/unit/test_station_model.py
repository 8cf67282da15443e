# SPDX-License-Identifier: Apache-2.0
"""The golden station against Scapy."""

import random

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from station_frames import ADDRESS, MAC, PEERS, arp, datagram, padded, ping, random_frame

from rackgate_sim.station import Dropped, ForSystem, Message, Reply, StationModel

STATION = StationModel()


def test_arp():
    for peer in PEERS:
        reply = STATION.receive(padded(arp(peer)))
        assert isinstance(reply, Reply)
        found = Ether(reply.frame)
        assert (found.src, found.dst, found[ARP].op) == (MAC, peer[0], 2)
        assert (found[ARP].hwsrc, found[ARP].psrc, found[ARP].hwdst, found[ARP].pdst) == (MAC, ADDRESS, *peer)


def test_echo(seed):
    rng = random.Random(seed)
    for size in (0, 1, 2, 55, 1472):
        data = rng.randbytes(size)
        numbers = {"identifier": rng.getrandbits(16), "sequence": rng.getrandbits(16)}
        reply = STATION.receive(padded(ping(PEERS[1], data, **numbers)))
        assert isinstance(reply, Reply)
        asked, found = Ether(ping(PEERS[1], data)), Ether(reply.frame)
        assert found[ICMP].type == 0 and (found[IP].src, found[IP].dst) == (asked[IP].dst, asked[IP].src)
        # Scapy fills in what is taken out: its checksums must be the ones that were there.
        sums = found[IP].chksum, found[ICMP].chksum
        del found[IP].chksum, found[ICMP].chksum
        again = Ether(bytes(found))
        assert (again[IP].chksum, again[ICMP].chksum) == sums and bytes(again)[42:] == data


def test_messages(seed):
    rng = random.Random(seed)
    for size in (1, 2, 3, 4, 1472):
        data = rng.randbytes(size)
        message = STATION.receive(padded(datagram(PEERS[0], data, source=77)))
        assert isinstance(message, Message) and message.content == data and message.sender.port == 77
        answer = Ether(STATION.answer(message.sender, data))
        assert (answer.dst, answer[IP].dst, answer[UDP].dport, answer[UDP].sport) == (*PEERS[0], 77, 21074)
        checksum = answer[UDP].chksum
        del answer[UDP].chksum
        assert Ether(bytes(answer))[UDP].chksum == checksum


def test_bad_ones():
    peer = PEERS[0]
    good = padded(datagram(peer, b"x" * 40))
    for frame in (datagram(peer, b"x" * 40, chksum=1), datagram(peer, b"x" * 40, udp={"chksum": 1}),
                  datagram(peer, b"x" * 40, udp={"len": 47}), datagram(peer, b"x" * 40, len=200), good[:-1],
                  padded(datagram(peer, b"")), ping((peer[0], "239.1.1.1"), b"x" * 30)):
        assert STATION.receive(frame) == Dropped()
    assert STATION.receive(good, is_damaged=True) == Dropped()
    for frame in (ping(peer, b"x" * 30, flags="MF"), ping(peer, b"x" * 30, to="ff:ff:ff:ff:ff:ff"), good[:41],
                  datagram(peer, b"x" * 30, port=1), arp(peer, op=2), arp(peer, asked="192.0.2.11"), b""):
        assert STATION.receive(frame) == ForSystem()


def test_random_frames_are_of_all_kinds(seed):
    rng = random.Random(seed)
    found = {type(STATION.receive(random_frame(rng))) for _ in range(300)}
    assert found == {Dropped, ForSystem, Message, Reply}
