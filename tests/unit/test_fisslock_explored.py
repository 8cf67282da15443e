# SPDX-License-Identifier: Apache-2.0
"""Every interleaving of the hardened protocol: whatever the network does, exclusion, no lost waiter, a free lock."""

import dataclasses

import pytest
from fisslock_mutants import HOSTS, SWITCHES, switch

from rackgate.fisslock.abi import Mode, WordFormat
from rackgate.fisslock.participant import HardenedParticipant
from rackgate_sim.locks.check import CASES
from rackgate_sim.locks.explore import HOLDS, VIOLATED, explore
from rackgate_sim.locks.hardened_state import Configuration, Network, Task
from rackgate_sim.locks.hardened_system import HardenedSystem

S, X = Mode.SHARED, Mode.EXCLUSIVE


@pytest.mark.thorough
@pytest.mark.parametrize("case", [
    pytest.param(case, id=case.name.replace(" ", "-"), marks=() if case.is_quick else (
        pytest.mark.soak, pytest.mark.timeout(7200))) for case in CASES])
def test_it_holds(case):
    outcome = case.explore()
    print(f"{outcome.states:,} states, {outcome.transitions:,} steps, depth {outcome.depth}, {outcome.seconds:.1f} s")
    assert outcome.verdict == HOLDS, (outcome.kind, outcome.message, outcome.trace)
    assert outcome.states == case.states, "the manual's table is not this protocol's any more"


def test_names_are_distinct():
    assert len({case.name for case in CASES}) == len(CASES)


# What it would find

UNORDERED = Network.UNORDERED
ONE_BIT = WordFormat(2, 2, 1, 5)
PAIR = Configuration("two readers of one host", (Task(1, S), Task(1, S)), UNORDERED, losses=1, duplicates=1,
                     timers=True)
LOST = Configuration("a writer, then a reader", (Task(1, X), Task(2, S)), losses=1, timers=True)
TWICE = Configuration("a writer comes twice", (Task(1, X, rounds=2), Task(2, X)), UNORDERED, duplicates=1, timers=True)
MANY = Configuration("three readers and a writer", (Task(1, S), Task(2, S), Task(2, S), Task(2, X)),
                     word=ONE_BIT)
POLLED = Configuration("a reader's release is lost", (Task(1, S), Task(2, S)), losses=1, timers=True)
LATE = Configuration("a reader's grant is late", (Task(1, S), Task(2, S)), UNORDERED, losses=1, hasty=1, timers=True)
RENEWED = Configuration("three readers", (Task(1, S), Task(2, S), Task(2, S)), word=ONE_BIT)
RENEWED_BEHIND = Configuration("four readers", (Task(1, S), Task(2, S), Task(2, S), Task(2, S)), Network.FLOWS,
                              word=ONE_BIT)
RENEWED_LOST = Configuration("three readers and a loss", (Task(1, S), Task(2, S), Task(2, S)), losses=1, timers=True,
                             word=ONE_BIT)
AGAIN = Configuration("five readers", (Task(1, S), Task(2, S), Task(2, S), Task(2, S), Task(2, S)), word=ONE_BIT)
PASSED = Configuration("a writer among readers", (Task(1, S), Task(2, S), Task(2, S, rounds=2), Task(2, X)),
                       word=ONE_BIT, bypasses=0)
OUTLASTED = Configuration("two readers outlast a third that comes ten times", (
    Task(1, S), Task(2, S), Task(2, S, rounds=10)), word=WordFormat(2, 2, 1, 2))
PUSHED = dataclasses.replace(PASSED, name="a writer among readers, from the start")
WHERE = {
    "lets its count wrap": MANY,
    "takes grants for any attempt": TWICE,
    "never adopts": LOST, "frees once": LOST, "asks once": LOST, "never polls": POLLED,
    "takes a grant that it has declared void": LATE,
    "renews at any count": RENEWED_LOST, "leaves the epoch at a renewal": RENEWED,
    "lets readers in at every renewal": PASSED, "keeps the RELEASE of an earlier epoch": RENEWED,
    "tells the number of an earlier epoch": RENEWED, "renews though a grant is not accounted for": RENEWED_LOST,
    "renews though a writer waits": PUSHED, "forgets holders when it renews": RENEWED,
    "takes numbers of the next epoch for those of this one": RENEWED_BEHIND,
    "does not report holders of other epochs": RENEWED_LOST, "reports numbers of other epochs": RENEWED_LOST,
}


#: Configurations that are searched from where so many readers hold. With two the count is full, with three the epoch
#: was renewed, with four it is full again.
BEGUN = {RENEWED_BEHIND: 2, PASSED: 2, AGAIN: 4}


def begin(system, readers=0):
    """Where the search begins: the first tasks hold."""
    state = system.initial()
    for task in range(BEGUN.get(system.configuration, readers)):
        state = dict(system.successors(state))["acquire", task]
        while state.under_way:
            state = next(after for step, after in system.successors(state) if step[0] == "deliver")
    return state


def found(name, **mutant):
    system = HardenedSystem(WHERE.get(name, PAIR), **mutant)
    return explore([begin(system)], system.successors, invariants=system.invariants, good_end=system.good_end,
                   most_states=60_000)


@pytest.mark.thorough
@pytest.mark.parametrize("configuration", BEGUN, ids=lambda item: item.name.replace(" ", "-"))
def test_it_holds_where_readers_hold(configuration):
    system = HardenedSystem(configuration)
    outcome = explore([begin(system)], system.successors, invariants=system.invariants, good_end=system.good_end)
    assert outcome.verdict == HOLDS, (outcome.kind, outcome.message, outcome.trace)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_without_a_rule_is_found(name):
    outcome = found(name, switch=switch(name, WHERE.get(name, PAIR).word))
    assert outcome.verdict == VIOLATED, outcome


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_without_a_rule_is_found(name):
    outcome = found(name, participant=HOSTS[name])
    assert outcome.verdict == VIOLATED, outcome


def test_an_epoch_of_two_bits_is_too_narrow():
    """A FREE that is late by four agents is believed: the word must be wide enough for what the network keeps back."""
    configuration = Configuration("wrapped", (Task(1, X, rounds=5),), UNORDERED, duplicates=1, timers=True,
                                  word=WordFormat(2, 2, 1, 2))
    system = HardenedSystem(configuration)
    outcome = explore([system.initial()], system.successors, invariants=system.invariants, good_end=system.good_end)
    assert (outcome.verdict, outcome.kind) == (VIOLATED, "invariant"), outcome


@pytest.mark.parametrize("most", [1, 32])
def test_a_holder_must_not_outlast_the_epochs(most):
    """Of four epochs a holder sees two renewals at most where agents keep to one; where nobody counts them, more."""
    class Host(HardenedParticipant):
        def __init__(self, *arguments, **keywords):
            super().__init__(*arguments, most_renewals=most, **keywords)

    system = HardenedSystem(OUTLASTED, participant=Host)
    outcome = explore([begin(system, 2)], system.successors, invariants=system.invariants, good_end=system.good_end)
    assert outcome.verdict == (HOLDS if most == 1 else VIOLATED), (outcome.kind, outcome.message, outcome.trace)


def test_a_trace_reads_as_a_story():
    system = HardenedSystem(PAIR)
    text = system.describe(system.initial())
    assert "switch: FREE" in text and "task 0: idle" in text
