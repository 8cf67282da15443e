# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The whole NIC under cocotb and cocotbext-axi: Corundum's sequence, with frames made by Scapy."""

import json
import random

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from rackgate_tb.axi_pins import zeronic
from rackgate_tb.launch import run

pytestmark = [pytest.mark.cosim, pytest.mark.timeout(2400), pytest.mark.xdist_group("bench_zeronic")]

# A small design; the number is the bench's own, so that an edit that leaves the Verilog as it is builds nothing.
PARAMETERS = {"flows": 16, "segments": 8, "regions": 8, "intervals": 8, "build": 0x0123456789ABCDEF}


def frames_of(rng, size, count):
    """Segments of one flow one behind the other, in frames of ``size`` bytes."""
    begin = rng.getrandbits(32)
    ends = {"sport": 40000 + rng.randrange(1000), "dport": 80, "ack": rng.getrandbits(32), "window": 500, "flags": "A"}
    return [bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.77.0.2", dst="10.77.0.1", id=k)
                  / TCP(seq=(begin + k * (size - 54)) % (1 << 32), **ends) / Raw(rng.randbytes(size - 54)))
            for k in range(count)]


def play(width, seed, folder):
    rng, place = random.Random(seed), folder / "frames.json"
    place.write_text(json.dumps({size: [frame.hex() for frame in frames_of(rng, size, count)]
                                 for size, count in ((60, 24), (1514, 10), (9014, 4))}))
    outcome = run(zeronic, name="zeronic", module="rackgate_tb.bench_zeronic",
                  parameters={"width": width, **PARAMETERS}, options={"frames": str(place)}, seed=seed, limit=900)
    assert outcome.tests == 15


def test_nic(seed, tmp_path):
    play(8, seed, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("width", [16, 32])
def test_nic_at_other_widths(width, seed, tmp_path):
    play(width, seed, tmp_path)
