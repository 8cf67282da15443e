# SPDX-License-Identifier: Apache-2.0
"""The reference model of pipelines, on the manual's load balancer."""

import zlib

from pisa_example import BALANCER

from rackgate_sim.pisa.model import PipelineModel
from rackgate_sim.pisa.wire import ones_complement_sum


def datagram(source, port, payload, ttl=64):
    """A frame with good checksums. Those of frames that Scapy made are compared in tests/cosim/test_pisa_scapy.py."""
    udp = b"".join(n.to_bytes(2, "big") for n in (port, 53, 8 + len(payload), 0))
    pseudo = source.to_bytes(4, "big") + bytes([10, 0, 0, 1, 0, 17]) + (8 + len(payload)).to_bytes(2, "big")
    check = ones_complement_sum(pseudo + udp + payload) ^ 0xFFFF or 0xFFFF
    udp = udp[:6] + check.to_bytes(2, "big")
    head = bytes([0x45, 0]) + (28 + len(payload)).to_bytes(2, "big") + bytes([0, 1, 0, 0, ttl, 17, 0, 0])
    head += source.to_bytes(4, "big") + bytes([10, 0, 0, 1])
    head = head[:10] + (ones_complement_sum(head) ^ 0xFFFF).to_bytes(2, "big") + head[12:]
    return bytes(12) + b"\x08\x00" + head + udp + payload


def test_a_datagram_is_sent_on_and_counted():
    model = PipelineModel(BALANCER)
    frame = datagram(0x0A000002, 4000, b"odd")
    (port, out), = model.process(frame)
    server = zlib.crc32(frame[26:30] + frame[34:36]) & 3
    assert (port, out[30:34], out[22]) == (0, bytes([10, 0, 0, 0x10 + server]), 63)
    assert ones_complement_sum(out[14:34]) == 0xFFFF
    assert ones_complement_sum(out[26:34] + b"\0\x11" + out[38:40] + out[34:]) == 0xFFFF
    assert model.read("counts", server) == {"packets": 1, "bytes": 31}


def test_bad_packets_are_rejected_or_dropped():
    model = PipelineModel(BALANCER)
    good = datagram(1, 2, b"")
    assert model.process(good + bytes(18)) == model.process(good), "padding must be cut off"
    assert model.process(good[:-1]) == [] and model.rejected == 1
    assert model.process(good[:26] + b"\1" + good[27:]) == [] and model.rejected == 2
    assert model.process(datagram(1, 2, b"", ttl=1)) == [] and model.dropped == 1
