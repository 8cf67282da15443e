# SPDX-License-Identifier: Apache-2.0
"""Every interleaving of NetLock over links that keep order: exclusion, no lost waiter, everything free at the end."""

import pytest

from rackgate.fisslock.abi import Mode
from rackgate_sim.locks.explore import explore
from rackgate_sim.locks.netlock_system import NetLockSystem, Task

S, X = Mode.SHARED, Mode.EXCLUSIVE

SMALL = {
    "X S X": (Task(1, X), Task(2, S), Task(1, X)),
    "S S X, which may cancel": (Task(1, S), Task(2, S), Task(1, X, may_cancel=True)),
    "X S S X": (Task(1, X), Task(2, S), Task(1, S), Task(2, X)),
    "S S X S, two may cancel": (Task(1, S), Task(2, S), Task(1, X, may_cancel=True), Task(2, S, may_cancel=True)),
}
LARGE = {
    "X S S X S": (Task(1, X), Task(2, S), Task(1, S), Task(2, X), Task(3, S)),
    "X X X S S": (Task(1, X), Task(2, X), Task(3, X), Task(1, S), Task(2, S)),
    "S S X X S, all may cancel": tuple(
        Task(1 + k % 2, mode, may_cancel=True) for k, mode in enumerate((S, S, X, X, S))),
}


def check(system):
    outcome = explore([system.initial], system.successors, good_end=system.good_end,
                      invariants=[system.mutual_exclusion, system.one_round])
    print(outcome.states, "states", outcome.transitions, "transitions", f"{outcome.seconds:.1f} s")
    assert outcome.holds, (outcome.kind, outcome.message, outcome.trace)
    assert outcome.ends


@pytest.mark.thorough
@pytest.mark.parametrize("slots", range(3))
@pytest.mark.parametrize("tasks", SMALL.values(), ids=SMALL)
def test_small(tasks, slots):
    check(NetLockSystem(tasks, slots))


@pytest.mark.parametrize("tasks", SMALL.values(), ids=SMALL)
def test_one_server(tasks):
    check(NetLockSystem(tasks, 0, one_server=True))


@pytest.mark.soak
@pytest.mark.parametrize("slots", range(5))
@pytest.mark.parametrize("tasks", LARGE.values(), ids=LARGE)
def test_large(tasks, slots):
    check(NetLockSystem(tasks, slots))


def test_what_it_would_find():
    """Without the mark that a packet goes round, NetLock's shared newcomers are let in, and a waiter is lost."""
    system = NetLockSystem(SMALL["X S S X"], 2)
    counts = system._switch.model.pipeline.registers[-1]
    assert counts.name == "counts"
    granting = 1 << counts.width - 1

    def forgetful(state):
        for label, after in system.successors(state):
            place = system._names.index("counts")
            words = tuple((index, word & ~granting) for index, word in after.registers[place])
            yield label, after._replace(registers=(*after.registers[:place], words, *after.registers[place + 1:]))

    outcome = explore([system.initial], forgetful, good_end=system.good_end,
                      invariants=[system.mutual_exclusion, system.one_round])
    assert not outcome.holds and outcome.trace
