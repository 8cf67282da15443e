# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Jobs of the gateware that go on from one another, and from those of the golden model."""

import random

import pytest
from iaa_bench import MEMORY, PHYSICAL, VIRTUAL, IaaBench
from iaa_chain import Chain, streams
from test_iaa_gateware import BUILD, MEMORIES, put
from test_iaa_model import RECORD, SOURCE, STATES, TARGET, TEXT, canned, deflate, job

from rackgate.iaa.abi import Completion, Status
from rackgate_sim.devices import component
from rackgate_sim.iaa.model import Rules, difference, run
from rackgate_sim.inflate.model import FlatMemory
from rackgate_sim.native import build

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("iaa")]

WINDOW = BUILD["window"]
#: Keeps a lane busy until the descriptor behind it is with another.
OTHER = job(completion=RECORD + 64, source=SOURCE + 0x8000, source_size=len(deflate(TEXT, level=0)),
            destination=TARGET + 0x8000, destination_size=len(TEXT))


@pytest.fixture(scope="module")
def library():
    return build(component("iaa", **BUILD), name="iaa", key=sorted(BUILD.items()))


class Pair:
    """The gateware and the model on one memory; each job is one's, at random, or the gateware's alone.

    With ``beside`` another descriptor is under way in one lane at times, so that the job goes to the other.
    """

    def __init__(self, library, rng, *, queue, memory, models, beside=False):
        self.bench = IaaBench(library, seed=rng.randrange(1 << 30), window=WINDOW, memory=memory)
        self.rng, self.queue, self.models, self.used, self.beside = rng, queue, models, set(), beside
        put(self.bench, OTHER.source, deflate(TEXT, level=0))
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
        jobs = [(OTHER, PHYSICAL)] * (self.beside and self.rng.random() < 0.5) + [(descriptor, self.queue)]
        completed = self.bench.read("COMPLETED")
        put(self.bench, OTHER.destination, bytes(OTHER.destination_size))
        for one, queue in jobs:
            put(self.bench, one.completion, bytes(64))
            assert self.bench.submit(one, queue)
        self.bench.wait(completed + len(jobs))
        if len(jobs) == 2:
            self.used.add("beside")
            assert self.read(OTHER.completion, 1)[0] == Status.SUCCESS
            assert self.read(OTHER.destination, len(TEXT)) == TEXT
        got = Completion.unpack(self.read(descriptor.completion, 64))
        assert not (text := difference(want, got, saved=True)), f"{text}\n{descriptor}\n{want}\n{got}"
        self._untouched(model.array, descriptor)
        return got

    def _untouched(self, expected, descriptor):
        """But for records, destinations and states, memory is as the model leaves it."""
        actual = self.bench.array[:MEMORY].copy()
        for address, size in ((descriptor.completion, 64), (descriptor.destination, descriptor.destination_size),
                              (STATES, 2 * descriptor.source2_size), (OTHER.completion, 64),
                              (OTHER.destination, OTHER.destination_size)):
            expected[address:address + size] = actual[address:address + size] = 0
        assert (expected == actual).all()


KINDS = pytest.mark.parametrize("kind", ["dynamic", "fixed", "stored", "runs", "blocks", "noise"])


def chains(library, seed, kind, memory, models, all_pieces, beside=False):
    rng = random.Random(f"{seed} {kind} {memory} {models}")
    stream, data = streams(rng, 9000)[kind]
    for pieces in all_pieces:
        pair = Pair(library, rng, queue=rng.choice([PHYSICAL, VIRTUAL]), memory=memory, models=models,
                    beside=beside)
        assert pair.chain.run(stream, rng, rooms=[300, 1000, 4096, 261], pieces=pieces) == data
        assert pair.used == ({False, True} if models else {False}) | ({"beside"} if beside else set())


@KINDS
def test_chains(library, seed, kind):
    """Those of the gateware alone with room on one side, those with the model's between them on neither."""
    chains(library, seed, kind, MEMORIES[0], False, [None])
    chains(library, seed, kind, MEMORIES[1], True, [[1200, 2000, 40]])


@pytest.mark.parametrize("kind", ["dynamic", "stored", "blocks"])
def test_chains_go_from_lane_to_lane(library, seed, kind):
    """What one lane has left another goes on with, while there is something else under way in the first."""
    chains(library, seed, kind, MEMORIES[0], False, [None, [1200, 2000, 40]], beside=True)


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
