# SPDX-License-Identifier: Apache-2.0
"""Gateware of the hardened lock switch, in both formats: packets that fit the state it is in, on a handful of locks."""

import random

import pytest
from pisa_differential import Observed, differential, with_control, without_hosts

from rackgate.fisslock.abi import WORD_FORMATS, State, Type
from rackgate.fisslock.hardened import pipeline
from rackgate.pisa.layout import name_of
from rackgate.pisa.pipeline import PipelineCore
from rackgate_sim.native import build
from rackgate_sim.pisa.model import PipelineModel

pytestmark = pytest.mark.cosim

LOCKS = 64


def bare(word, locks=LOCKS):
    """The pipeline that shows where packets go, in place of the table of hosts."""
    return without_hosts(pipeline(locks, word))


@pytest.fixture(scope="module", params=sorted(WORD_FORMATS))
def core(request):
    one = bare(request.param)
    return one, build(Observed(one), name=f"core_{one.name}", variant="fast")


class Packets:
    """Packets that know the state which those before them have left: most are such as hosts would send.

    ``kinds`` counts what became of them, so that a test can tell that all paths were taken.
    """

    def __init__(self, one, rng):
        self.rng, self.model = rng, PipelineModel(one)
        self.places = {name_of(item): place for place, item in enumerate(one.phv)}
        self.valid = [place for place, item in enumerate(one.phv) if item.name == "is_valid"]
        self.names = [copy.name for copy in one.copies]
        self.kinds = {}

    def __iter__(self):
        return self

    def __next__(self):
        rng = self.rng
        number = rng.choice([0, 0, 0, 1, 1, 2, LOCKS - 1]) if rng.random() < 0.98 else rng.getrandbits(32)
        word = self.model.read("locks", number) if number < LOCKS else dict(state=0, agent=0, count=0, epoch=0)
        right = rng.random() < 0.85
        kind = rng.choice([Type.ACQUIRE] * 5 + [Type.RELEASE] + [Type.TRANSFER, Type.FREE, Type.RENEW] * 2
                          + [rng.getrandbits(8)])
        if word["state"] == State.SHARED and rng.random() < 0.5:
            kind = Type.ACQUIRE
        chance = rng.getrandbits(8)
        values = {
            "lock__version": 2, "lock__type": int(kind), "lock__id": number,
            "lock__epoch": word["epoch"] if right else rng.choice([word["epoch"] + 1, rng.getrandbits(32)]),
            "lock__agent": word["agent"] if right else rng.getrandbits(8),
            "lock__count": word["count"] if rng.random() < 0.9 else rng.getrandbits(8),
            "lock__machine_id": rng.choice([1, 2, 3, 63]) if chance & 31 else rng.getrandbits(8),
            "lock__exclusive": rng.random() < 0.2, "lock__retry": not chance & 48, "lock__no_wait": not chance & 6,
            "lock__writer": chance >> 7, "lock__cancel": not chance & 9, "lock__void": not chance & 12,
            "lock__granted": not chance & 17, "lock__transferred": not chance & 34,
            "lock__waiters": rng.getrandbits(4), "lock__task_id": rng.getrandbits(32),
            "lock__attempt": rng.getrandbits(32), "udp__length": rng.getrandbits(16),
            "ipv4__total_length": rng.getrandbits(16), "udp__destination_port": 20001,
        }
        vector = [0] * len(self.model.fields)
        for place in self.valid:
            vector[place] = 1
        for name, value in values.items():
            vector[self.places[name]] = int(value)
        copies = self.model.one_pass(vector[:])
        key = (int(kind) if kind in Type._value2member_map_ else None, *(self.names[copy] for copy, _ in copies))
        self.kinds[key] = self.kinds.get(key, 0) + 1
        return vector


def back_to_back(core, seed, count, reads=0.0, **stalls):
    """Packets, and that share of reads by the control plane among them."""
    one, library = core
    packets = Packets(one, random.Random(seed))
    given = with_control(random.Random(seed), one, packets, share=reads, is_writing=False)
    both = differential(one, given, count, seed=seed, library=library, **stalls)
    assert both.passes >= count
    return packets.kinds


def test_hot_locks(core, seed):
    """Back to back, and then with stalls at both ends while the control plane reads."""
    kinds = back_to_back(core, seed, 100_000)
    for path in ((Type.ACQUIRE, "grant"), (Type.ACQUIRE, "grant", "tell"), (Type.ACQUIRE, "tell"), (Type.ACQUIRE,),
                 (Type.RELEASE, "tell"), (Type.RELEASE,), (Type.TRANSFER, "grant", "answer"),
                 (Type.TRANSFER, "answer"), (Type.FREE, "answer"), (Type.RENEW, "answer"), (None,)):
        assert kinds.get(path, 0) > 20, (path, kinds)
    back_to_back(core, seed + 1, 5000, reads=0.02, stall_i=0.3, stall_o=0.5)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_million_packets_on_hot_locks(core, seed):
    back_to_back(core, seed, 1_000_000)


@pytest.mark.parametrize("word", sorted(WORD_FORMATS))
def test_latency(word):
    """Cycles from a packet's entry to the end of the ingress, for few locks."""
    assert PipelineCore(bare(word)).latency <= 8
