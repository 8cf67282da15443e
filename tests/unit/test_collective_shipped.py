# SPDX-License-Identifier: Apache-2.0
"""The shipped collectives: their instructions, their results, and what their links carry."""

import itertools
import random

import pytest
from collective_microcode import interpreted_steps, microcode_steps

from rackgate.collective.abi import Scenario
from rackgate.collective.programs import shipped
from rackgate.collective.programs.interpreter import Pause, Place, Step, moves
from rackgate.collective.programs.program import build

CALL = Place(1, 0, 0, tag=7, segment=256, operand=0x12_3456_7000, operand_1=0x1000, result=0xFE_0000_0000)
#: Scenarios whose calls may name streams.
STREAMS = (Scenario.COPY, Scenario.COMBINE, Scenario.SEND, Scenario.RECV, Scenario.REDUCE, Scenario.STREAM_PUT)


def compare(scenario, places):
    """Hold the instructions of a shipped program against its statements."""
    collective = shipped.COLLECTIVES[scenario]
    program, trace = build(collective, ()), collective.trace()
    for place in places:
        assert microcode_steps(program, place) == interpreted_steps(trace, place), place


def all_places(sizes, is_rooted):
    for size in sizes:
        some = {0, 1 % size, size // 2, size - 1}
        for count in {0, 1, size - 1, size, size + 1, 21, 100, 65, 3 * 64 * size + 5}:
            for rank, root in itertools.product(some, some if is_rooted else [0]):
                yield CALL._replace(size=size, rank=rank, count=count, root=root)


@pytest.mark.parametrize("scenario", shipped.COLLECTIVES)
def test_instructions_move_what_the_statements_say(scenario):
    compare(scenario, all_places((1, 2, 3, 5, 8, 16), shipped.COLLECTIVES[scenario].contract.is_rooted))


@pytest.mark.soak
@pytest.mark.parametrize("scenario", shipped.COLLECTIVES)
def test_instructions_move_what_the_statements_say_everywhere(scenario):
    compare(scenario, all_places(range(1, 17), shipped.COLLECTIVES[scenario].contract.is_rooted))


@pytest.mark.parametrize("scenario", shipped.COLLECTIVES)
def test_instructions_at_random_calls(scenario, seed):
    rng = random.Random(f"{seed} {scenario}")
    places = []
    for _ in range(40):
        size, shift = rng.randint(1, 16), rng.choice((1, 2, 3))
        operand, result = (rng.randrange(1 << 36) << 3 for _ in range(2))
        places.append(CALL._replace(
            size=size, rank=rng.randrange(size), count=rng.choice((rng.randrange(64), rng.randrange(8000))),
            root=rng.randrange(size), tag=rng.randrange(1 << 31), shift=shift,
            streams=rng.randrange(4) if scenario in STREAMS else 0,
            is_compressed=shift == 2 and bool(rng.getrandbits(1)), segment=rng.choice((256, 512, 1024, 4096)),
            operand=operand, operand_1=rng.randrange(1 << 36) << 3,
            result=operand if rng.random() < 0.3 else result))
    compare(scenario, places)


@pytest.mark.parametrize("width", [4, 8, 64])
def test_programs(width):
    """Each engine's programs fit its memory, with those for few credits; sizes follow the width."""
    plenty, few = shipped.programs(width), shipped.programs(width, credits=1)
    assert list(plenty) == list(few) == list(shipped.COLLECTIVES)
    loaded = {(scenario, tuple(program.words)) for one in (plenty, few) for scenario, program in one.items()}
    assert sum(len(words) for _, words in loaded) < 2048  # those that are alike are loaded once
    differ = {scenario for scenario in plenty if plenty[scenario].words != few[scenario].words}
    assert differ == {Scenario.ALLGATHER, Scenario.ALLREDUCE, Scenario.REDUCE_SCATTER, Scenario.ALLTOALL}
    assert all(program.is_collective == (scenario in (
        Scenario.BCAST, Scenario.SCATTER, Scenario.GATHER, Scenario.REDUCE, Scenario.ALLGATHER, Scenario.ALLREDUCE,
        Scenario.REDUCE_SCATTER, Scenario.BARRIER, Scenario.ALLTOALL)) for scenario, program in plenty.items())


@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 4, 8, 16])
def test_bytes_at_which_algorithms_change(size, shift):
    """The limit is one of bytes, at any size and element, though for most counts no bytes are computed."""
    def is_few(name, count):
        steps = moves(getattr(shipped, name).trace(), CALL._replace(size=size, count=count, shift=shift, segment=1024))
        if name in ("bcast", "reduce"):  # in a chain the root has one neighbour
            return len(steps) > 1
        if name == "allgather":  # in a ring a rank sends on what it receives
            return not any(isinstance(step, Step) and step.control.other and step.control.send for step in steps)
        return not any(isinstance(step, Pause) for step in steps)  # that ring has rounds

    limits = {"bcast": size * 128, "reduce": size * 128, "allgather": 512, "allreduce": min(size * 256, 2048)}
    for name, limit in limits.items():
        counts = {around + k for around in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, limit >> shift)
                  for k in (-1, 0, 1)}
        assert {count for count in counts if is_few(name, count)} == {
            count for count in counts if count << shift < limit}, name


@pytest.mark.parametrize("shift", [1, 2, 3])
@pytest.mark.parametrize("size", [2, 4, 5, 16])
def test_gather_takes_packets_in_turn(size, shift):
    """Of 5 and more ranks, if an operand is longer than a packet; else an operand is a message."""
    trace, packet = shipped.gather.trace(), 1024 >> shift
    for count in (1, 32, 33, 64, packet - 1, packet, packet + 1, 2 * packet, 2 * packet + 1, 1024, 1025, 3000):
        place = CALL._replace(size=size, rank=1, count=count, shift=shift, segment=1024)
        parts = -(-count // packet) if size > 4 else 1
        assert sum(isinstance(step, Step) for step in moves(trace, place)) == parts
        root = [step for step in moves(trace, place._replace(rank=0)) if step.control.other]
        assert [(step.source, step.count) for step in root] == [
            (rank, min(packet, count - part * packet) if parts > 1 else count)
            for part in range(parts) for rank in range(1, size)]


def test_two_ranks_exchange():
    """They have no ring: nothing is sent on, and nothing waits for a round to end."""
    place = CALL._replace(size=2, count=3000, shift=2, segment=1024)
    for name, messages in (("allgather", 1), ("reduce_scatter", 12), ("allreduce", 12)):
        steps = moves(getattr(shipped, name).trace(), place)
        assert not any(isinstance(step, Pause) or step.control.other and step.control.send for step in steps), name
        assert sum(step.control.send for step in steps) == messages, name


@pytest.mark.parametrize("width,count,is_ring", [(8, 511, False), (8, 512, True), (64, 511, False), (4, 255, False),
                                                 (4, 256, True)])
def test_size_at_which_allreduce_changes(width, count, is_ring):
    """At 8 bytes a cycle 8 ranks take the ring from 256 bytes times 8 on; at 64 they would later."""
    program = shipped.programs(width)[Scenario.ALLREDUCE]
    steps = microcode_steps(program, CALL._replace(size=8, rank=3, count=count, segment=1024))
    assert (len(steps) > 8) == is_ring


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_alltoall_in_place_of_a_power_of_two_has_no_idle_round(size):
    """Whoever a rank exchanges with in a round exchanges with it, in as few rounds as there are others."""
    trace = shipped.alltoall.trace()

    def partners(rank):
        place = CALL._replace(size=size, rank=rank, count=1, shift=2, operand=CALL.result)
        return [step.destination for step in moves(trace, place) if isinstance(step, Step) and step.control.send]

    rounds = [partners(rank) for rank in range(size)]
    assert [len(one) for one in rounds] == [size - 1] * size
    for k in range(size - 1):
        assert all(rounds[rounds[rank][k]][k] == rank for rank in range(size))
