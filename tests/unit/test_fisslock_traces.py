# SPDX-License-Identifier: Apache-2.0
"""FissLock as published goes wrong where it is known to, by shortest traces, and nowhere else on ordered links."""

import pytest

from rackgate_sim.locks.explore import HOLDS, VIOLATED, replay
from rackgate_sim.locks.faithful_system import GIVEN_UP, WAITING, FaithfulSystem
from rackgate_sim.locks.traces import FINDINGS, SAFE, describe, switch_steps

SEARCHED = [finding for finding in FINDINGS if finding.states]


def marked(cases, limit):
    return [pytest.param(case, id=case.name.replace(" ", "-"), marks=[pytest.mark.soak] if case.states > limit else [])
            for case in cases]


@pytest.mark.parametrize("finding", marked(SEARCHED, 100_000))
def test_the_search_finds_it_by_that_trace(finding):
    outcome = finding.search()
    assert (outcome.verdict, outcome.kind) == (VIOLATED, "stuck" if finding.is_end else "invariant")
    assert (outcome.trace, outcome.states) == (finding.steps, finding.states)


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: finding.name)
def test_the_trace_ends_in_the_violation(finding):
    system = FaithfulSystem(finding.configuration)
    *before, last = replay(system.initial, system.successors, finding.steps)
    if finding.is_end:
        assert not list(system.successors(last)), "something could still happen"
        assert not getattr(system, finding.broken)(last)
        if finding.broken == "served":
            assert WAITING in last.tasks
        else:
            assert system.served(last) and not system.freed(last)
    else:
        assert getattr(system, finding.broken)(last)
        assert not any(getattr(system, finding.broken)(state) for state in before)
    assert any(GIVEN_UP in state.tasks for state in before) == bool(finding.configuration.aborts)


@pytest.mark.parametrize("case", marked(SAFE, 100_000))
def test_ordered_links_without_trouble_are_safe_and_live(case):
    outcome = case.search()
    assert outcome.verdict == HOLDS, outcome
    assert (outcome.states, outcome.transitions) == (case.states, case.transitions)


def test_two_bits_of_count_are_enough_where_one_is_not():
    finding = next(finding for finding in FINDINGS if finding.name == "wrap-1")
    wider = FaithfulSystem(finding.configuration.__class__(finding.configuration.tasks, count_width=2))
    assert wider.explore("exclusion").holds


def test_a_trace_reads_as_a_story():
    finding = next(finding for finding in FINDINGS if finding.name == "duplicate-exclusion")
    story = describe(finding)
    assert len(story) == len(finding.steps)
    assert "duplicate 1>: FREE of host 1, task 0, ncnt 0" in story
    assert story[-1].endswith("(task 2 holding)")


def test_what_the_switch_does_along_a_trace():
    finding = next(finding for finding in FINDINGS if finding.name == "loss-never-freed")
    step, = switch_steps(finding)
    assert step.message[0] == 1 and [item.message[0] for item in step.left] == [2]
    assert (step.before, step.after) == ((0, 0, 0, 0), (0, 1, 1, 1))
