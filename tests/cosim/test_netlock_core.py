# SPDX-License-Identifier: Apache-2.0
"""NetLock's gateware against its model, on a handful of hot locks, back to back."""

import dataclasses
import random

import pytest
from pisa_differential import Differential, control_access, without_hosts

from rackgate.netlock.abi import Op
from rackgate.netlock.pipeline import LOCAL, PARTITIONS, SERVER, pipeline
from rackgate.netlock.placement import Demand, place
from rackgate.pisa.declare import Entry, Table
from rackgate.pisa.layout import name_of
from rackgate.pisa.pipeline import PipelineCore

pytestmark = pytest.mark.cosim

LOCKS, SLOTS = 8, 4
#: Hot locks with rings of 1, 2, 5 and 9 slots; the others are not used.
SLICES = place([Demand(100 + k, 1.0, size) for k, size in enumerate((1, 2, 5, 9))], LOCKS, LOCKS * SLOTS)


def with_entries(declared):
    """The pipeline with its tables' entries built in, showing where packets go in place of the table of hosts."""
    entries = {
        "servers": [Entry((number,), SERVER, {"host": 200 + number % 3}) for number in range(PARTITIONS)],
        "locks": [Entry((one.lock,), LOCAL, {"index": one.index}) for one in SLICES],
    }
    return dataclasses.replace(without_hosts(declared), ingress=[
        Table(stage.name, stage.keys, entries[stage.name], when=stage.when) if isinstance(stage, Table) else stage
        for stage in declared.ingress])


HOT = with_entries(pipeline(locks=LOCKS, slots=SLOTS))


def packets(rng):
    """Any packets: mostly such as hosts send, in no order that makes sense.

    Servers push back more than they were sent: else all requests would soon go to them, and the queues stay empty.
    """
    def one():
        values = {
            "lock__op": rng.choice([Op.ACQUIRE] * 4 + [Op.RELEASE] * 10 + [Op.PUSH_BACK] * 6 + [rng.randrange(256)]),
            "lock__mode": rng.choice([0, 1, 0, 1, rng.randrange(256)]), "lock__client": rng.randrange(1, 6),
            "lock__task": rng.getrandbits(32), "lock__id": rng.choice([100, 101, 102, 103, 103, 103, 104]),
            "lock__timestamp": rng.getrandbits(64), "lock__flags": rng.choice([0, 0, 0, rng.randrange(256)]),
            "ipv4__source": rng.getrandbits(32),
        }
        return [1 if item.name == "is_valid" else values.get(name_of(item), 0) for item in HOT.phv]
    known = [one() for _ in range(5000)]
    while True:
        yield rng.choice(known)


def settings():
    """Accesses of the control plane that install the locks."""
    for one in SLICES:
        for number, register in enumerate(HOT.registers):
            if register.name in one.registers:
                word = low = 0
                for name, part in register.word.fields.items():
                    word |= one.registers[register.name][name] << low
                    low += part.width
                yield control_access(number, one.index, word)


def compare(seed, count, stall_o=0.0):
    print(f"netlock: {count} packets, seed {seed}")
    both = Differential(HOT, seed=seed)
    both.simulation.stream("o").stall(stall_o)
    both.give(settings())
    both.take(10_000)
    both.run(packets(random.Random(seed)), count)
    both.check_registers()
    # Fewer than one after the other: while one goes round for a lock, releases of it start no second.
    assert both.passes > 1.03 * count, "few packets recirculate"
    assert set(both.model.registers["spaces"]) == {one.index for one in SLICES}


def test_hot_locks(seed):
    compare(seed, 100_000)


def test_hot_locks_with_stalls(seed):
    compare(seed, 5000, stall_o=0.5)


@pytest.mark.soak
def test_a_million_packets_on_hot_locks(seed):
    compare(seed, 1_000_000)


@pytest.mark.parametrize(("locks", "slots"), [(1024, 8), (8192, 8), (11_000, 10)])
def test_a_pass_takes_at_most_40_cycles(locks, slots):
    from rackgate.pisa.tables import runtime_table

    assert PipelineCore(pipeline(locks=locks, slots=slots), make_table=runtime_table).latency + 2 <= 40
