# SPDX-License-Identifier: Apache-2.0
"""Frames of all kinds, and in plain Python what is to become of them (the first six rules of rackgate.zeronic.abi)."""

import struct

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from rackgate.net.frames import internet_checksum
from rackgate.zeronic.messages import TCP_PROFILE, ChecksumKind, Profile

__all__ = ["FRAME_MOST", "judge", "random_frame", "tcp_frame", "udp_frame"]

#: Bytes of the longest frame.
FRAME_MOST = 9310
#: Profiles after reset.
DEFAULT = (TCP_PROFILE, None, None, None)


def judge(frame, *, damaged=False, profiles=DEFAULT):
    """The name of the counter of a frame that is dropped or None, and the fields of its verdict, but for ``word``."""
    size = len(frame)
    if damaged or not 14 <= size <= FRAME_MOST:
        return "bad_frame", {}
    whole = {"length": size, "split": 0}
    if frame[12:14] != b"\x08\x00":
        return None, whole
    if size < 34:
        return "bad_frame", {}
    if frame[14] != 0x45 or int.from_bytes(frame[20:22], "big") & 0x3FFF:
        return None, whole
    total = int.from_bytes(frame[16:18], "big")
    if not 20 <= total <= size - 14:
        return "bad_frame", {}
    if internet_checksum(frame[14:34]):
        return "bad_ip_checksum", {}
    body = frame[34:14 + total]
    matching = [(number, profile) for number, profile in enumerate(profiles)
                if profile and profile.protocol and profile.protocol == frame[23]
                and not (int.from_bytes(body[2:4], "big") ^ profile.port) & profile.mask]
    if not matching or len(body) < 4:
        return None, whole
    number, profile = matching[0]
    header = profile.size or (4 * (body[12] >> 4) if len(body) >= 20 else 0)
    if header > 60 or header > len(body) or header < profile.position + 4 or not profile.size and header < 20:
        return None, whole
    has_sum = profile.checksum != ChecksumKind.NONE
    if profile.checksum == ChecksumKind.UDP:
        if header < 8 or int.from_bytes(body[4:6], "big") != len(body):
            return None, whole
        has_sum = body[6:8] != b"\0\0"
    pseudo = frame[26:34] + struct.pack(">HH", profile.protocol, len(body))
    if has_sum and internet_checksum(pseudo + body):
        return "bad_checksum", {}
    source, destination, source_port, destination_port = struct.unpack(">IIHH", frame[26:38])
    return None, {
        "length": size, "split": 1, "headers": 34 + header, "payload": len(body) - header,
        "flags": 0 if profile.size else body[13],
        "position": int.from_bytes(body[profile.position:profile.position + 4], "big"),
        "key": {"source": source, "destination": destination, "source_port": source_port,
                "destination_port": destination_port, "profile": number},
    }


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
