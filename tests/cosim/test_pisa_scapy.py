# SPDX-License-Identifier: Apache-2.0
"""A switch's frames read, and made, by Scapy: whether checksums are right is not for this project to say."""

import random

import pytest
from pisa_example import BALANCER
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from test_pisa_switch import opened

from rackgate_sim.pisa.model import PipelineModel


def made(rng):
    """A frame by Scapy, and the payload in it."""
    payload = rng.randbytes(rng.choice((0, 1, 2, 3, 17, 18, 19, rng.randrange(1458))))
    frame = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / IP(
        src=f"10.{rng.randrange(256)}.{rng.randrange(256)}.2", dst="10.0.0.1", ttl=rng.randrange(2, 256),
        id=rng.getrandbits(16), tos=rng.getrandbits(8)) / UDP(sport=rng.getrandbits(16), dport=53) / payload
    return bytes(frame), payload


def check(sent, out, payload):
    """What comes of a frame is right, by Scapy's own sums."""
    before, after = Ether(sent), Ether(out)
    again = after.copy()
    del again[IP].chksum, again[UDP].chksum
    again = Ether(bytes(again))
    assert (after[IP].chksum, after[UDP].chksum) == (again[IP].chksum, again[UDP].chksum)
    assert bytes(after[UDP].payload)[:len(payload)] == payload and len(out) == 42 + len(payload)
    assert after[IP].ttl == before[IP].ttl - 1 and after[IP].src == before[IP].src
    assert after[IP].dst.startswith("10.0.0.1") and after[UDP].sport == before[UDP].sport


def test_the_model_with_scapy(seed):
    rng, model = random.Random(seed), PipelineModel(BALANCER)
    for _ in range(200):
        frame, payload = made(rng)
        (_, out), = model.process(frame + bytes(rng.choice((0, 0, 7))))
        check(frame, out, payload)


@pytest.mark.cosim
@pytest.mark.xdist_group("switch")
def test_the_gateware_with_scapy(seed):
    rng = random.Random(seed)
    switch, simulation = opened(BALANCER, 8, seed=seed, slots=8, slot_size=2048)
    cases = [made(rng) for _ in range(200)]
    for frame, _ in cases:
        switch.push(frame)
    for frame, payload in cases:
        check(frame, switch.pop(), payload)
    assert switch.counters()["sent"] == len(cases)
    simulation.close()
