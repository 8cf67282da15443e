# SPDX-License-Identifier: Apache-2.0
"""Frames for and past a station, good and bad ones, put together with Scapy."""

from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from rackgate.net.station.abi import DEFAULT_ADDRESS, DEFAULT_MAC

MAC = ":".join(f"{byte:02x}" for byte in DEFAULT_MAC.to_bytes(6, "big"))
ADDRESS = ".".join(map(str, DEFAULT_ADDRESS.to_bytes(4, "big")))
PEERS = [("02:00:00:00:00:11", "192.0.2.1"), ("0a:ff:ee:dd:cc:bb", "10.255.0.254")]
PORT = 21074


def arp(peer, *, to="ff:ff:ff:ff:ff:ff", asked=ADDRESS, **fields):
    """An ARP request."""
    mac, address = peer
    return bytes(Ether(src=mac, dst=to) / ARP(hwsrc=mac, psrc=address, pdst=asked, **{"op": 1, **fields}))


def ping(peer, data, *, to=MAC, asked=ADDRESS, identifier=7, sequence=3, **fields):
    """An echo request; ``fields`` are IPv4's."""
    mac, address = peer
    return bytes(Ether(src=mac, dst=to) / IP(src=address, dst=asked, **fields)
                 / ICMP(type=8, id=identifier, seq=sequence) / Raw(data))


def datagram(peer, data, *, to=MAC, asked=ADDRESS, port=PORT, source=4000, udp=None, **fields):
    """A UDP datagram; ``fields`` are IPv4's, ``udp`` fields of UDP."""
    mac, address = peer
    return bytes(Ether(src=mac, dst=to) / IP(src=address, dst=asked, **fields)
                 / UDP(sport=source, dport=port, **(udp or {})) / Raw(data))


def padded(frame, filler=b"\0"):
    """As it is on the wire."""
    return frame.ljust(60, filler)


def random_frame(rng):
    """A frame of any of the kinds that a station meets, mostly right."""
    peer, data = rng.choice(PEERS), rng.randbytes(rng.choice((1, 2, 3, 4, 5, 17, 18, 19, 64, rng.randrange(1, 200))))
    make = rng.choice((
        lambda: arp(peer), lambda: arp(peer, to=MAC), lambda: arp(peer, asked="192.0.2.99"), lambda: arp(peer, op=2),
        lambda: arp(("01:00:5e:00:00:01", "10.0.0.1")), lambda: arp(peer, to="02:00:00:00:00:99"),
        lambda: ping(peer, data), lambda: ping(peer, data, ttl=1, tos=0x10), lambda: ping(peer, b""),
        lambda: ping(peer, data, asked="192.0.2.255"), lambda: ping(peer, data, to="ff:ff:ff:ff:ff:ff"),
        lambda: ping(peer, data, flags="MF"), lambda: ping(peer, data, frag=3), lambda: ping(peer, data, flags="DF"),
        lambda: ping(peer, data, options=[IPOption_NOP()] * 4), lambda: ping((peer[0], "224.0.0.5"), data),
        lambda: datagram(peer, data), lambda: datagram(peer, data, source=rng.randrange(1, 65536)),
        lambda: datagram(peer, data, udp={"chksum": 0}), lambda: datagram(peer, b""),
        lambda: datagram(peer, data, port=9), lambda: datagram(peer, data, udp={"len": 8 + len(data) + 1}),
        lambda: datagram(peer, data, udp={"chksum": 0x1234}), lambda: datagram(peer, data, len=20 + 7),
        lambda: datagram(peer, data, len=20 + 8 + len(data) + 40), lambda: datagram(peer, data, chksum=1),
        lambda: rng.randbytes(rng.randrange(1, 100)),
        lambda: bytes(Ether(src=peer[0], dst=MAC) / IP(src=peer[1], dst=ADDRESS) / ICMP(type=0) / Raw(data)),
    ))
    frame = make()
    if rng.random() < 0.8:
        frame = padded(frame, rng.randbytes(1))
    if rng.random() < 0.2 and len(frame) > 14:  # a bit that the FCS did not catch
        place = rng.randrange(len(frame))
        frame = frame[:place] + bytes([frame[place] ^ 1 << rng.randrange(8)]) + frame[place + 1:]
    return frame
