# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Jobs of the gateware that go on from one another, and from those of the golden model."""

import random

import pytest
from iaa_bench import MEMORY, PHYSICAL, VIRTUAL, IaaBench
from iaa_chain import Chain, streams
from test_iaa_gateware import BUILD, MEMORIES, put
from test_iaa_model import RECORD, SOURCE, STATES, TARGET, TEXT, canned

from rackgate.iaa.abi import Completion
from rackgate_sim.devices import component
from rackgate_sim.iaa.model import Rules, difference, run
from rackgate_sim.inflate.model import FlatMemory
from rackgate_sim.native import build

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("iaa")]

WINDOW = BUILD["window"]


@pytest.fixture(scope="module")
def library():
    return build(component("iaa", **BUILD), name="iaa", key=sorted(BUILD.items()))


class Pair:
    """The gateware and the model on one memory; each job is one's, at random, or the gateware's alone."""

    def __init__(self, library, rng, *, queue, memory, models):
        self.bench = IaaBench(library, seed=rng.randrange(1 << 30), window=WINDOW, memory=memory)
        self.rng, self.queue, self.models, self.used = rng, queue, models, set()
        self.chain = Chain(self.read, lambda address, data: put(self.bench, address, data), self.execute, SOURCE,
                           TARGET, STATES, RECORD, WINDOW)

    def read(self, address, size):
        return self.bench.array[address:address + size].tobytes()

    def execute(self, descriptor):
        is_models = self.models and self.rng.random() < 0.5
        self.used.add(is_models)
        model = FlatMemory(self.bench.array[:MEMORY].copy(), 0)
        want = run(descriptor, model, rules=Rules(WINDOW, has_pasid=self.queue == VIRTUAL))
        if is_models:
            self.bench.array[:MEMORY] = model.array
            return want
        put(self.bench, descriptor.completion, bytes(64))
        completed = self.bench.read("COMPLETED")
        assert self.bench.submit(descriptor, self.queue)
        self.bench.wait(completed + 1)
        got = Completion.unpack(self.read(descriptor.completion, 64))
        assert not (text := difference(want, got, saved=True)), f"{text}\n{descriptor}\n{want}\n{got}"
        self._untouched(model.array, descriptor)
        return got

    def _untouched(self, expected, descriptor):
        """But for record, destination and states, memory is as the model leaves it."""
        actual = self.bench.array[:MEMORY].copy()
        for address, size in ((descriptor.completion, 64), (descriptor.destination, descriptor.destination_size),
                              (STATES, 2 * descriptor.source2_size)):
            expected[address:address + size] = actual[address:address + size] = 0
        assert (expected == actual).all()


KINDS = pytest.mark.parametrize("kind", ["dynamic", "fixed", "stored", "runs", "blocks", "noise"])


def chains(library, seed, kind, memory, models, all_pieces):
    rng = random.Random(f"{seed} {kind} {memory} {models}")
    stream, data = streams(rng, 9000)[kind]
    for pieces in all_pieces:
        pair = Pair(library, rng, queue=rng.choice([PHYSICAL, VIRTUAL]), memory=memory, models=models)
        assert pair.chain.run(stream, rng, rooms=[300, 1000, 4096, 261], pieces=pieces) == data
        assert pair.used == ({False, True} if models else {False})


@KINDS
def test_chains(library, seed, kind):
    """Those of the gateware alone with room on one side, those with the model's between them on neither."""
    chains(library, seed, kind, MEMORIES[0], False, [None])
    chains(library, seed, kind, MEMORIES[1], True, [[1200, 2000, 40]])


@pytest.mark.soak
@pytest.mark.parametrize("memory", MEMORIES, ids=["near", "far"])
@pytest.mark.parametrize("models", [False, True], ids=["alone", "both"])
@KINDS
def test_all_chains(library, seed, kind, memory, models):
    chains(library, seed, kind, memory, models, [None, [700], [1, 2000, 40]])


def test_canned_tables_go_on(library, seed):
    rng = random.Random(seed)
    header, body = canned()
    pair = Pair(library, rng, queue=PHYSICAL, memory=None, models=True)
    assert pair.chain.run(body, rng, rooms=[300], header=header) == TEXT
