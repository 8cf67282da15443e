# SPDX-License-Identifier: Apache-2.0
"""The shipped collectives: their instructions, their results, and what their links carry."""

import itertools
import random

import pytest
from collective_programs import interpreted_steps, microcode_steps

from rackgate.collective import shipped
from rackgate.collective.abi import Scenario
from rackgate.collective.interpreter import Place
from rackgate.collective.program import build

ADDRESSES = {"operand": 0x12_3456_7000, "operand_1": 0x1000, "result": 0xFE_0000_0000}


def counts(size, segment):
    return sorted({0, 1, size - 1, size, size + 1, 21, 100, 333, segment // 4 + 1, 3 * segment // 4 * size + 5})


@pytest.mark.parametrize("scenario", shipped.COLLECTIVES)
def test_instructions_move_what_the_statements_say(scenario):
    collective = shipped.COLLECTIVES[scenario]
    program, trace = build(collective, ()), collective.trace()
    for size in range(1, 17):
        roots = sorted({0, 1 % size, size // 2, size - 1}) if collective.contract.is_rooted else [0]
        for rank, root, count in itertools.product({0, 1 % size, size // 2, size - 1}, roots, counts(size, 256)):
            place = Place(size, rank, count, root, tag=7, segment=256, **ADDRESSES)
            assert microcode_steps(program, place) == interpreted_steps(trace, place), place


@pytest.mark.parametrize("scenario", shipped.COLLECTIVES)
def test_instructions_at_random_calls(scenario, seed):
    rng = random.Random(f"{seed} {scenario}")
    collective = shipped.COLLECTIVES[scenario]
    program, trace = build(collective, ()), collective.trace()
    for _ in range(60):
        size = rng.randint(1, 16)
        shift = rng.choice((1, 2, 3))
        operand = rng.randrange(1 << 36) << 3
        streams = rng.choice((0, 0, 1, 2, 3)) if scenario in (Scenario.SEND, Scenario.RECV, Scenario.REDUCE) else 0
        place = Place(size, rng.randrange(size), rng.choice((rng.randrange(64), rng.randrange(20000))),
                      rng.randrange(size), rng.randrange(1 << 31), streams, shift == 2 and rng.random() < 0.5, shift,
                      rng.choice((256, 512, 1024, 4096)), operand, rng.randrange(1 << 36) << 3,
                      operand if rng.random() < 0.3 else rng.randrange(1 << 36) << 3)
        assert microcode_steps(program, place) == interpreted_steps(trace, place), place
