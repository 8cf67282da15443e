# SPDX-License-Identifier: Apache-2.0
"""Frames of all kinds, made by Scapy, and what is to become of them: the first six rules of rackgate.zeronic.abi."""

from ipaddress import IPv4Address

from scapy.layers.inet import ICMP, IP, TCP, UDP, in4_chksum
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from rackgate.net.frames import internet_checksum
from rackgate.zeronic.abi import PROFILES, Counter
from rackgate.zeronic.messages import TCP_PROFILE, ChecksumKind, Profile
from rackgate_sim.zeronic.parse import FRAME_MOST, parse

__all__ = ["BARE_PROFILE", "DEFAULT", "FRAME_MOST", "LATER_TCP", "UDP_PROFILE", "judge", "random_frame", "tcp_frame",
           "udp_frame"]

#: Profiles after reset.
DEFAULT = (TCP_PROFILE, *(Profile(number, 0, ChecksumKind.NONE, 0, 0) for number in range(1, PROFILES)))


def judge(frame, *, damaged=False, profiles=DEFAULT):
    """The counter of a frame that is dropped or None, and the fields of its verdict, but for ``word``.

    By the golden model; of what it splits Scapy must find the same, and the checksum that is there.
    """
    found = parse(frame, profiles, damaged)
    if isinstance(found, Counter):
        return found.name.lower(), {}
    if found.key is None:
        return None, {"length": len(frame), "split": 0}
    fields = {"length": len(frame), "split": 1, "key": found.key._asdict(), "position": found.position,
              "headers": found.headers, "payload": found.payload, "flags": found.flags}
    packet = Ether(frame)
    transport = packet[TCP if packet[IP].proto == 6 else UDP] if packet[IP].proto in (6, 17) else None
    if transport is not None:
        checks, body = profiles[found.key.profile].checksum, frame[34:14 + packet[IP].len]
        assert in4_chksum(packet[IP].proto, packet[IP], body) == 0 or checks == ChecksumKind.NONE or (
            checks == ChecksumKind.UDP and not transport.chksum)
        assert (transport.sport, transport.dport) == (found.key.source_port, found.key.destination_port)
    if isinstance(transport, TCP):
        assert (transport.seq, int(transport.flags) & 0xFF) == (found.position, found.flags)
        assert 4 * transport.dataofs + 34 == found.headers
    assert (packet[IP].src, packet[IP].dst) == tuple(
        str(IPv4Address(address)) for address in (found.key.source, found.key.destination))
    return None, fields


def tcp_frame(rng, payload, *, options=(), **fields):
    """A good TCP segment."""
    fields = {"sport": rng.getrandbits(16), "dport": rng.getrandbits(16), "seq": rng.getrandbits(32),
              "ack": rng.getrandbits(32), "flags": rng.getrandbits(8), "window": rng.getrandbits(16)} | fields
    return bytes(_ether(rng) / _ip(rng) / TCP(**fields, options=list(options)) / Raw(payload))


def _ether(rng):
    return Ether(src="02:00:00:00:00:01", dst=rng.choice(("02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff")))


def _ip(rng, **fields):
    return IP(src=f"10.77.{rng.randrange(256)}.{rng.randrange(256)}", dst="10.77.0.2", id=rng.getrandbits(16),
              tos=rng.randrange(256), ttl=rng.randrange(1, 256), **{"flags": rng.choice(("", "DF"))} | fields)


def _options(rng):
    return rng.choice(([], [("Timestamp", (rng.getrandbits(32), 5))], [("MSS", 1460), ("SAckOK", b"")],
                       [("NOP", None), ("NOP", None), ("SAck", tuple(rng.getrandbits(32) for _ in range(8)))],
                       [("Timestamp", (1, 2)), ("SAck", (3, 4, 5, 6))], [("NOP", None)] * 40))


def udp_frame(rng, payload, port=None, **fields):
    """A UDP datagram, good if ``fields`` of its header say nothing else."""
    return bytes(_ether(rng) / _ip(rng) / UDP(sport=rng.getrandbits(16), dport=port or rng.getrandbits(16), **fields)
                 / Raw(payload))


#: A profile of a transport over UDP, as random_frame makes frames for.
UDP_PROFILE = Profile(1, protocol=17, checksum=ChecksumKind.UDP, position=12, size=24, port=0x4700, mask=0xFF00)
BARE_PROFILE = Profile(2, protocol=253, checksum=ChecksumKind.NONE, position=56, size=60)
#: TCP behind others, so that it is found there.
LATER_TCP = TCP_PROFILE._replace(profile=3)


def random_frame(rng, most=300):
    """A frame, often good; else with something about it."""
    payload = rng.randbytes(rng.choice((0, 1, 2, rng.randrange(60), rng.randrange(most))))
    kind = rng.choice(("tcp",) * 5 + ("udp", "udp", "bare", "odd", "ip", "changed", "changed", "cut"))
    if kind in ("tcp", "changed", "cut"):
        frame = tcp_frame(rng, payload, options=_options(rng))
        if kind == "cut":
            return frame[:rng.randrange(1, len(frame) + 1)]
        if kind == "changed":
            at = rng.choice((rng.randrange(12, 54), rng.randrange(len(frame))))
            frame = frame[:at] + bytes([frame[at] ^ 1 << rng.randrange(8)]) + frame[at + 1:]
            if rng.random() < 0.5:  # with IPv4's checksum made right again
                head = frame[14:24] + b"\0\0" + frame[26:34]
                frame = frame[:24] + internet_checksum(head).to_bytes(2, "big") + frame[26:]
                frame = frame[:14] + head[:10] + frame[24:26] + head[12:] + frame[34:]
    elif kind == "udp":
        port = 0x4700 | rng.randrange(256)
        fields = rng.choice(({}, {}, {"chksum": 0}, {"len": len(payload) + 16}, {"len": len(payload) + 32}))
        frame = udp_frame(rng, payload + bytes(rng.choice((0, 16, 24))), rng.choice((port, None)), **fields)
    elif kind == "bare":
        frame = bytes(_ether(rng) / _ip(rng, proto=253) / Raw(rng.randbytes(rng.choice((2, 58, 60, 61, 90)))))
    elif kind == "odd":
        tcp = TCP(dport=80) / Raw(payload)
        frame = bytes(rng.choice((
            _ether(rng) / ARP(), _ether(rng) / Dot1Q(vlan=5) / _ip(rng) / tcp, _ether(rng) / Raw(payload),
            _ether(rng) / _ip(rng, flags="MF") / tcp, _ether(rng) / _ip(rng, frag=100) / Raw(payload),
            _ether(rng) / _ip(rng) / ICMP() / Raw(payload),
            _ether(rng) / _ip(rng) / TCP(dport=80, dataofs=3) / Raw(payload),
            _ether(rng) / _ip(rng) / TCP(dport=80, dataofs=15) / Raw(payload[:20]),
            _ether(rng) / _ip(rng, options=[b"\x01\x01\x01\x00"]) / tcp)))
    else:
        total = rng.choice((0, 19, 20, 24, 30, 40, 100, 65535))
        frame = bytes(_ether(rng) / _ip(rng, len=total) / TCP() / Raw(payload))
    if rng.random() < 0.3:
        frame = frame.ljust(60, rng.choice((b"\0", b"\xA5")))
    return frame + rng.randbytes(rng.choice((0, 0, 0, 1, 7, rng.randrange(40))))
