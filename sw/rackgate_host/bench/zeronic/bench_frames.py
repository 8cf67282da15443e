# SPDX-License-Identifier: Apache-2.0
"""Frames of one TCP flow, as a peer would send them."""

import struct

from rackgate.net.frames import internet_checksum

from ...zeronic.keys import FlowKey

__all__ = ["HEADER", "KEY", "acknowledgement", "data_frame", "header"]

_PEER, _HERE, _PORTS = 0x0A4D0002, 0x0A4D0001, (40000, 5001)
#: The flow as its frames come in.
KEY = FlowKey(_PEER, _HERE, *_PORTS)
#: Bytes of headers with the options that Linux sends: two NOPs and time stamps.
HEADER = 66
_OPTIONS = bytes((1, 1, 8, 10)) + struct.pack(">II", 1000, 900)
_ACK = 0x10


def header(key: FlowKey, sequence: int, payload: int) -> bytes:
    """Headers of a frame of ``key`` with ``payload`` bytes; TCP's checksum is left zero."""
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, HEADER - 14 + payload, 1, 0x4000, 64, 6, 0, key.source, key.destination)
    ip = ip[:10] + internet_checksum(ip).to_bytes(2, "big") + ip[12:]
    tcp = struct.pack(">HHIIBBHHH", key.source_port, key.destination_port, sequence & 0xFFFFFFFF, 1, 8 << 4, _ACK, 500,
                      0, 0)
    return bytes.fromhex("020000000001020000000002" "0800") + ip + tcp + _OPTIONS


def data_frame(sequence: int, payload: bytes) -> bytes:
    """A frame of :data:`KEY` with right checksums."""
    head = bytearray(header(KEY, sequence, len(payload)))
    pseudo = struct.pack(">IIHH", KEY.source, KEY.destination, 6, len(head) - 34 + len(payload))
    head[50:52] = internet_checksum(pseudo + bytes(head[34:]) + payload).to_bytes(2, "big")
    return bytes(head) + payload


def acknowledgement(key: FlowKey) -> FlowKey:
    """The other direction of ``key``."""
    return FlowKey(key.destination, key.source, key.destination_port, key.source_port, key.profile)
