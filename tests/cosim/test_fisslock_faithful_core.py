# SPDX-License-Identifier: Apache-2.0
"""Gateware of the published lock switch: what goes wrong goes wrong in it too, and a million packets on hot locks."""

import random

import pytest
from pisa_differential import Differential, Observed, control_access, differential, without_hosts

from rackgate.fisslock.abi import FaithfulMessage, Type
from rackgate.fisslock.faithful import LOCKS as ALL_LOCKS
from rackgate.fisslock.faithful import pipeline
from rackgate.pisa.layout import name_of
from rackgate.pisa.pipeline import PipelineCore
from rackgate.pisa.registerarray import RegisterArray
from rackgate_sim.locks.traces import FINDINGS, switch_steps
from rackgate_sim.native import build

pytestmark = pytest.mark.cosim

LOCKS = 64


def bare(count_width=8, locks=LOCKS):
    """The pipeline that shows where packets go, in place of the table of hosts."""
    return without_hosts(pipeline(locks, count_width))


FAITHFUL = bare()


@pytest.fixture(scope="module")
def library():
    return build(Observed(FAITHFUL), name="core_fisslock_faithful", variant="fast")


def vector_of(one, **values):
    """A header vector with all headers, and these fields; the others are 0."""
    return [1 if item.name == "is_valid" else values.get(name_of(item), 0) for item in one.phv]


# Traces


class Recording(Differential):
    """A differential run that keeps what came out of the gateware, as (host, for grants, message without waiters)."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.left = []

    def _compare(self, number):
        super()._compare(number)
        shown = self._show(number)
        if "control.valid" in shown or "standard__drop" in shown:
            return
        fields = {name: shown.get(f"lock__{name}", 0) for name in FaithfulMessage._fields if name != "queue"}
        self.left.append((shown.get("ethernet__destination", 0), bool(shown.get("udp__source_port", 0)),
                          FaithfulMessage(**fields)))


def replay(both, finding):
    """A trace's packets, in order, on lock 0, which is free before."""
    for number, _ in enumerate(both.pipeline.registers):
        both.give([control_access(number, 0, 0)])
    for step in switch_steps(finding):
        message = FaithfulMessage.from_bytes(step.message)
        both.left.clear()
        both.give([vector_of(both.pipeline, udp__destination_port=20001, lock__wq_size=len(message.queue),
                             **{f"lock__{name}": value for name, value in message._asdict().items()
                                if name != "queue"})])
        both.take(2000)
        wanted = [(left.host, left.to_client, FaithfulMessage.from_bytes(left.message)._replace(queue=()))
                  for left in step.left]
        assert both.left == wanted, (finding.name, message)
        words = tuple(both.model.registers[register.name][0] for register in both.pipeline.registers)
        assert words == step.after
    both.check_registers()


def test_the_gateware_replays_every_trace(library, seed):
    both = Recording(FAITHFUL, seed=seed, library=library)
    replayed = [finding for finding in FINDINGS if finding.configuration.count_width == 8]
    assert len(replayed) >= 10
    for finding in replayed:
        replay(both, finding)


def test_the_gateware_replays_the_narrow_counters_trace(seed):
    narrow = bare(count_width=1)
    both = Recording(narrow, seed=seed,
                     library=build(Observed(narrow), name="core_fisslock_faithful_1", variant="brief"))
    replayed = [finding for finding in FINDINGS if finding.configuration.count_width == 1]
    assert replayed
    for finding in replayed:
        replay(both, finding)


# Hot locks


def packets(rng, locks=LOCKS):
    """Any packets, on few locks: most make sense in some state."""
    def one():
        kind = rng.choice([*(Type.ACQUIRE,) * 4, Type.RELEASE, *(Type.TRANSFER, Type.FREE) * 2, rng.randrange(16)])
        return vector_of(
            FAITHFUL, udp__destination_port=rng.choice([20001, 20001, 20001, 20002]), lock__type=int(kind),
            lock__id=rng.choice([0, 0, 1, 2, locks - 1, locks, rng.getrandbits(32)]), lock__mode=rng.getrandbits(1),
            lock__old_mode=rng.getrandbits(1), lock__ncnt=rng.choice([0, 1, 1, 2, 3, rng.getrandbits(8)]),
            lock__machine_id=rng.choice([1, 2, 3, 63, rng.getrandbits(8)]),
            lock__agent=rng.choice([1, 2, 3, rng.getrandbits(8)]), lock__task_id=rng.getrandbits(32),
            lock__wq_size=rng.getrandbits(32), lock__multicasted=rng.random() < 0.02,
            lock__granted=rng.random() < 0.02, lock__transferred=rng.random() < 0.02,
            lock__reserved=rng.getrandbits(3))
    known = [one() for _ in range(20_000)]
    while True:
        yield rng.choice(known)


def back_to_back(library, seed, count, **stalls):
    both = differential(FAITHFUL, packets(random.Random(seed)), count, seed=seed, library=library, **stalls)
    assert both.passes >= count and both.compared > count, "some packets have two copies"


def test_hot_locks(library, seed):
    """Back to back, and then with stalls at both ends."""
    back_to_back(library, seed, 100_000)
    back_to_back(library, seed + 1, 5000, stall_i=0.3, stall_o=0.5)


@pytest.mark.soak
def test_a_million_packets_on_hot_locks(library, seed):
    back_to_back(library, seed, 1_000_000)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("locks", [1 << 17, ALL_LOCKS])
def test_hot_locks_of_several_banks(seed, locks):
    """With so many locks an array's memory has several banks, and three of the four are told the index ahead."""
    many = bare(locks=locks)
    arrays = [one for one in PipelineCore(many).ingress.components if isinstance(one, RegisterArray)]
    assert [(one.memory.latency, one.lead) for one in arrays] == [(5, 0), (5, 3), (5, 3), (5, 3)]
    differential(many, packets(random.Random(seed), locks), 200_000, seed=seed,
                 library=build(Observed(many), name=f"core_fisslock_faithful_{locks}", variant="brief"))


@pytest.mark.parametrize("locks", [1 << 10, 1 << 16, ALL_LOCKS])
def test_latency(locks):
    """Cycles from a packet's entry to its first copy's end."""
    core = PipelineCore(bare(locks=locks))
    assert core.latency + 2 + core.egress_latency <= 24


def test_one_packet_a_cycle(library, seed):
    both = Differential(FAITHFUL, seed=seed, library=library)
    simulation, core = both.simulation, PipelineCore(FAITHFUL)
    simulation.run(LOCKS + 20)
    # RELEASE of the same free lock, one after the other, changes it and makes one copy.
    both.give(vector_of(FAITHFUL, lock__type=int(Type.RELEASE), lock__agent=1 + number % 9) for number in range(1000))
    simulation.run(1000 + core.latency + 2 + core.egress_latency)
    assert both.simulation.stream("o").available == 1000
    both.take(1)
