# SPDX-License-Identifier: Apache-2.0
"""The model checker, on systems whose answers are known."""

import pytest

from rackgate_sim.locks.explore import HOLDS, NOT_FINISHED, VIOLATED, explore, replay


def peterson(swapped=False):
    """Peterson's algorithm for two processes; ``swapped`` gives way before it raises its flag, which is wrong.

    A process is at 0 (idle), 1 (first of its two writes done), 2 (both), 3 (inside); it goes round.
    """
    def successors(state):
        at, flags, turn = state
        for me in (0, 1):
            other = 1 - me
            now, flag, whose = at[me], list(flags), turn
            if now in (0, 1):
                if (now == 0) != swapped:
                    flag[me] = 1
                else:
                    whose = other
            elif now == 2:
                if flags[other] and turn == other:
                    continue
            else:
                flag[me] = 0
            places = list(at)
            places[me] = (now + 1) % 4
            yield f"{me}:{now}", (tuple(places), tuple(flag), whose)

    return [((0, 0), (0, 0), 0)], successors


def exclusion(state):
    return "both are inside" if state[0] == (3, 3) else None


def test_peterson_excludes_and_always_comes_to_rest():
    initial, successors = peterson()
    outcome = explore(initial, successors, invariants=[exclusion], good_end=lambda state: state[0] == (0, 0))
    assert outcome.holds and outcome.verdict == HOLDS and outcome.trace == ()
    assert (outcome.states, outcome.transitions, outcome.ends) == (_count(initial, successors)) + (2,)


def _count(initial, successors):
    """States and transitions, counted in another way: depth-first."""
    seen, todo, steps = set(initial), list(initial), 0
    while todo:
        for _, state in successors(todo.pop()):
            steps += 1
            if state not in seen:
                seen.add(state)
                todo.append(state)
    return len(seen), steps


def test_the_wrong_order_of_writes_is_found_by_the_shortest_trace():
    initial, successors = peterson(swapped=True)
    outcome = explore(initial, successors, invariants=[exclusion])
    assert (outcome.verdict, outcome.kind, outcome.message) == (VIOLATED, "invariant", "both are inside")
    states = replay(initial[0], successors, outcome.trace)
    assert states[-1] == outcome.state and exclusion(outcome.state)
    assert len(outcome.trace) == outcome.depth == 6, "three steps of each process are the least"
    assert not any(map(exclusion, states[:-1]))
    assert explore(initial, successors, invariants=[exclusion]).trace == outcome.trace


def test_a_deadlock_is_stuck():
    """Two processes that take two locks in opposite order."""
    def successors(state):
        for me in (0, 1):
            if state[me] < 2:
                wanted = me if state[me] == 0 else 1 - me
                other = state[1 - me]
                held = {0: set(), 1: {1 - me}, 2: {0, 1}, 3: set()}[other]
                if wanted not in held:
                    yield f"{me} takes {wanted}", (*state[:me], state[me] + 1, *state[me + 1:])
            elif state[me] == 2:
                yield f"{me} ends", (*state[:me], 3, *state[me + 1:])

    outcome = explore([(0, 0)], successors, good_end=lambda state: state == (3, 3))
    assert (outcome.verdict, outcome.kind, outcome.state) == (VIOLATED, "stuck", (1, 1))
    assert sorted(outcome.trace) == ["0 takes 0", "1 takes 1"]


def test_going_round_without_a_way_out_is_lost():
    steps = {0: [1, 2], 1: [9], 2: [3], 3: [4], 4: [3], 9: []}

    def successors(state):
        return [(f"to {after}", after) for after in steps[state]]

    outcome = explore([0], successors, good_end=lambda state: state == 9)
    assert (outcome.verdict, outcome.kind, outcome.trace, outcome.state) == (VIOLATED, "lost", ("to 2",), 2)
    assert explore([0], successors).holds, "nobody asked for a good end"
    steps[4] = [3, 9]
    outcome = explore([0], successors, good_end=lambda state: state == 9)
    assert outcome.holds and outcome.depth == 3 and outcome.states == 6 and outcome.transitions == 7


def test_limits_leave_it_not_finished():
    def successors(state):
        return [("up", state + 1)]

    outcome = explore([0], successors, most_states=1000)
    assert outcome.verdict == NOT_FINISHED and "1000 states" in outcome.message and not outcome.holds
    outcome = explore([0], successors, most_seconds=0.01)
    assert outcome.verdict == NOT_FINISHED and "0.01 seconds" in outcome.message
    seen = []
    explore([0], successors, most_states=100, progress=lambda *figures: seen.append(figures), progress_every=25)
    assert seen == [(26, 25, 25), (51, 50, 50), (76, 75, 75)]


def test_an_initial_state_may_be_wrong():
    outcome = explore([5], lambda state: [], invariants=[lambda state: f"it is {state}"])
    assert (outcome.verdict, outcome.message, outcome.trace, outcome.state) == (VIOLATED, "it is 5", (), 5)


def test_what_cannot_be_explored():
    with pytest.raises(ValueError, match="initial state"):
        explore([], lambda state: [])
    with pytest.raises(ValueError, match="most_states must be positive, not 0"):
        explore([0], lambda state: [], most_states=0)
    with pytest.raises(ValueError, match="step 0 of the trace cannot be made: 'down'"):
        replay(0, lambda state: [("up", state + 1)], ["down"])
