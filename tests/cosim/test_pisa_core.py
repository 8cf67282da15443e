# SPDX-License-Identifier: Apache-2.0
"""Gateware of pipelines against their model: random declarations, and millions of packets on few words."""

import dataclasses
import random

import pytest
from pisa_differential import Differential, differential, with_control
from pisa_example import BALANCER
from pisa_random import pipeline, vectors

from rackgate.fisslock.hardened import pipeline as hardened
from rackgate.pisa.layout import name_of
from rackgate.pisa.pipeline import PipelineCore

pytestmark = pytest.mark.cosim


def compare(seed, count=3000):
    """One random pipeline on random packets, with stalls."""
    rng = random.Random(seed)
    one = pipeline(rng)
    packets = with_control(rng, one, vectors(rng, one))
    both = differential(one, packets, count, seed=seed, stall_i=rng.choice([0, 0.3]), stall_o=rng.choice([0, 0.3, 0.7]),
                        variant="brief")
    assert both.passes >= count and both.compared


@pytest.mark.parametrize("number", range(4))
def test_random_pipelines(seed, number):
    compare(1000 * seed + number)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(4, 60))
def test_more_random_pipelines(seed, number):
    compare(1000 * seed + number, 20_000)


def vector_of(one, **values):
    """A header vector with all headers, and these fields; the others are 0."""
    return [1 if item.name == "is_valid" else values.get(name_of(item), 0) for item in one.phv]


def flows(rng):
    """Datagrams of a few flows."""
    some = [vector_of(BALANCER, ipv4__source=rng.getrandbits(32), udp__source_port=rng.getrandbits(16),
                      ipv4__ttl=rng.choice([0, 1, 2, 64]), ipv4__total_length=rng.randrange(28, 1500))
            for _ in range(50)]
    while True:
        yield rng.choice(some)


def test_balancer(seed):
    rng = random.Random(seed)
    both = differential(BALANCER, with_control(rng, BALANCER, flows(rng)), 20_000, seed=seed, stall_o=0.2)
    assert len(both.model.registers["counts"]) == 4


#: FissLock's fused word and its copies, without the table of hosts behind them.
FUSED = dataclasses.replace(hardened(locks=1024, word=18), egress=())


def lock_packets(rng, locks=4):
    """Any packets, on few locks: most of them make sense in some state."""
    def one():
        return vector_of(FUSED, lock__version=2, lock__type=rng.choice([1, 1, 1, 4, 5, 6, rng.randrange(16)]),
                         lock__exclusive=rng.getrandbits(1), lock__retry=rng.random() < 0.1,
                         lock__writer=rng.getrandbits(1), lock__id=rng.choice([*range(locks), 1023, 1024]),
                         lock__machine_id=rng.choice([1, 2, 3, 64]), lock__agent=rng.choice([1, 2, 3]),
                         lock__epoch=rng.randrange(6), lock__count=rng.randrange(3), lock__task_id=rng.randrange(8))
    known = [one() for _ in range(4000)]
    while True:
        yield rng.choice(known)


def back_to_back(seed, count):
    both = differential(FUSED, lock_packets(random.Random(seed)), count, seed=seed)
    assert both.passes >= count
    return both


def test_fused_word(seed):
    """Hot locks, back to back."""
    core = PipelineCore(FUSED)
    assert core.latency <= 8
    back_to_back(seed, 50_000)


@pytest.mark.soak
def test_a_million_packets_on_hot_locks(seed):
    back_to_back(seed, 1_000_000)


def test_one_packet_a_cycle(seed):
    """Single copies leave one a cycle; a packet needs as long as the core says."""
    both = Differential(BALANCER, seed=seed)
    simulation, core = both.simulation, PipelineCore(BALANCER)
    simulation.run(20)
    began = simulation.cycle
    both.give(next(flows(random.Random(seed))) for _ in range(1000))
    simulation.run(1000 + core.latency + 2)
    assert both.simulation.stream("o").available == 1000
    both.take(1)
    assert simulation.cycle - began <= 1000 + core.latency + 2 + 200
