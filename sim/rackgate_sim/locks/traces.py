# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in FissLock as published, each as a shortest trace, and where nothing does.

The traces were found by :meth:`FaithfulSystem.explore`, and tests find them again; the faithful gateware answers the
packets of each as the model does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from rackgate.fisslock.abi import FaithfulMessage, Mode, Type

from .explore import Outcome, replay
from .faithful_system import Configuration, FaithfulSystem, State
from .messages import Left

__all__ = ["FINDINGS", "SAFE", "Finding", "Safe", "SwitchStep", "describe", "switch_steps", "wrapped_count"]

_S, _X = Mode.SHARED, Mode.EXCLUSIVE


@dataclass(frozen=True)
class Finding:
    """A violation.

    Parameters
    ----------
    name:
        What it is called.
    claim:
        What goes wrong, in words.
    configuration:
        Where it does.
    broken:
        The property: an invariant, ``exclusion`` or ``one_agent``, or an end that cannot be reached, ``served`` or
        ``freed``.
    steps:
        The trace. There is no shorter one in the configuration unless it was built by hand.
    states:
        States that the search visits until it knows; 0: it was built by hand.
    """

    name: str
    claim: str
    configuration: Configuration
    broken: str
    steps: tuple[str, ...]
    states: int

    @property
    def is_end(self) -> bool:
        """Whether it is about an end."""
        return self.broken in ("served", "freed")

    def search(self, **limits: Any) -> Outcome:
        """Look for it anew."""
        system = FaithfulSystem(self.configuration)
        if self.is_end:
            return system.explore(end=self.broken, **limits)
        return system.explore(self.broken, end=None, **limits)


@dataclass(frozen=True)
class Safe:
    """A configuration that was explored whole, with mutual exclusion, one agent and a good end, and its size."""

    name: str
    configuration: Configuration
    states: int
    transitions: int

    def search(self, **limits: Any) -> Outcome:
        """Explore it anew."""
        return FaithfulSystem(self.configuration).explore("exclusion", "one_agent", **limits)


def _steps(text: str) -> tuple[str, ...]:
    return tuple(text.replace("\n", " ").split("; "))


def wrapped_count() -> Finding:
    """Mutual exclusion lost by the counter of 8 bits, built by hand from what the search finds for one of 1 bit."""
    readers = range(1, 257)
    tasks = ((2, _S), *((1, _S) for _ in readers), (3, _X))
    steps = ["acquire 0", "deliver 2>", *(f"acquire {task}" for task in readers), *("deliver 1>" for _ in readers),
             "deliver >1", "deliver >2", "release 0", "deliver 2>", "acquire 257", "deliver 3>", "deliver >3"]
    return Finding(
        "wrap-8", "256 readers are let in while the agent frees the lock: the counter has come round, and agrees",
        Configuration(tasks), "exclusion", tuple(steps), 0)


#: Every kind of violation.
FINDINGS = (
    Finding(
        "reorder-lost-waiter",
        "an exclusive request bounces three times, is queued ahead of time, and the host has freed the lock by then",
        Configuration(((1, _X), (2, _X)), ordered=False), "served",
        _steps("acquire 0; acquire 1; deliver 1>; deliver 2>; deliver >1; deliver 1>; deliver >1; deliver 1>; "
               "deliver >1; deliver 1>; deliver >1 grants; release 0; deliver 1>; deliver >1"), 121),
    Finding(
        "reorder-never-freed",
        "a grant and the release that follows it overtake the notification: the agent counts a holder that is gone",
        Configuration(((1, _S), (1, _S)), ordered=False), "freed",
        _steps("acquire 0; acquire 1; deliver 1>; deliver 1>; deliver >1 grants; deliver >1 grants; release 1; "
               "deliver >1; release 0"), 83),
    Finding(
        "order-lost-waiter",
        "the guess after three bounces is wrong on ordered links too, when the agentship comes and goes at one host",
        Configuration(((1, _S), (1, _S), (2, _S), (2, _X), (2, _X))), "served",
        _steps("acquire 0; acquire 2; acquire 3; deliver 2>; deliver 1>; deliver 2>; deliver >1; release 0; "
               "acquire 1; deliver 1>; deliver >2; release 2; deliver 2>; deliver 1>; deliver >1; release 1; "
               "deliver >2; deliver >2; deliver 2>; deliver >2; deliver >2; deliver 2>; deliver 1>; deliver >2; "
               "deliver >2; deliver 2>; deliver >2; acquire 4; deliver >2; deliver 2>; deliver >2; deliver 2>; "
               "deliver >2; release 4; deliver 2>; deliver >2"), 349_655),
    Finding(
        "abort-exclusion",
        "a host that is the agent no more answers the release of a request that was given up with a FREE, which the "
        "switch believes",
        Configuration(((1, _S), (1, _S), (2, _X), (3, _X)), aborts=1), "exclusion",
        _steps("acquire 0; abort 0; acquire 2; acquire 3; deliver 2>; deliver 1>; deliver 1>; deliver >2; deliver >2; "
               "release 2; deliver 2>; deliver >1; acquire 1; deliver >2; deliver 2>; deliver 3>; deliver >3"), 62_853),
    Finding(
        "abort-two-agents",
        "the same FREE meets a shared lock and bounces: the host that sent it takes itself for the agent again",
        Configuration(((1, _S), (2, _X), (3, _X)), aborts=1), "one_agent",
        _steps("acquire 0; abort 0; acquire 1; deliver 2>; deliver 1>; deliver 1>; deliver >2; release 1; deliver 2>; "
               "deliver >2; deliver 2>; deliver >1; deliver >2; deliver 2>; deliver >2"), 4022),
    Finding(
        "abort-lost-waiter",
        "the lock is handed to a request that was given up, and those behind it wait for ever",
        Configuration(((1, _S), (2, _X), (3, _X)), aborts=1), "served",
        _steps("acquire 0; abort 0; acquire 1; acquire 2; deliver 2>; deliver 1>; deliver 1>; deliver 3>; deliver >2; "
               "deliver >2; deliver >2; deliver >2; release 1; deliver 2>; deliver >1"), 4535),
    Finding(
        "abort-never-freed",
        "a request that was given up stays in the queue, and holds the lock for ever",
        Configuration(((1, _X), (1, _X)), aborts=1), "freed",
        _steps("acquire 0; deliver 1>; deliver >1; acquire 1; abort 1; release 0; deliver 1>; deliver >1"), 192),
    Finding(
        "duplicate-exclusion",
        "a FREE that comes twice frees the lock of whoever has it by then",
        Configuration(((1, _X), (2, _X), (2, _X)), duplicates=1), "exclusion",
        _steps("acquire 0; acquire 1; acquire 2; deliver 1>; deliver >1; release 0; duplicate 1>; deliver 1>; "
               "deliver 2>; deliver 1>; deliver 2>; deliver >2; deliver >2"), 5208),
    Finding(
        "loss-lost-waiter", "a request is lost, and nobody sends it again",
        Configuration(((1, _X),), losses=1), "served", _steps("acquire 0; lose 1>"), 6),
    Finding(
        "loss-never-freed", "a FREE is lost, and nobody sends it again",
        Configuration(((1, _X),), losses=1), "freed",
        _steps("acquire 0; deliver 1>; deliver >1; release 0; lose 1>"), 9),
    Finding(
        "wrap-1", "as many readers are let in while the agent frees the lock as its counter, here of 1 bit, can tell "
        "apart: the count agrees",
        Configuration(((1, _S), (2, _S), (2, _S), (1, _X)), count_width=1), "exclusion",
        _steps("acquire 0; acquire 1; acquire 2; acquire 3; deliver 2>; deliver 1>; deliver 2>; deliver >1; "
               "deliver >2; release 1; deliver 2>; deliver 1>; deliver >1"), 5966),
    wrapped_count(),
)

#: On ordered links, without loss, duplicates and aborts.
SAFE = (
    Safe("2 hosts, 2 writers", Configuration(((1, _X), (2, _X))), 53, 70),
    Safe("2 hosts, 2 readers", Configuration(((1, _S), (2, _S))), 103, 180),
    Safe("3 hosts, 3 writers", Configuration(((1, _X), (2, _X), (3, _X))), 792, 1239),
    Safe("3 hosts, 2 readers, 1 writer", Configuration(((1, _S), (2, _S), (3, _X))), 1012, 2010),
    Safe("2 hosts, 2 readers, 2 writers", Configuration(((1, _S), (1, _X), (2, _S), (2, _X))), 15_104, 31_198),
    Safe("3 hosts, 2 readers, 2 writers", Configuration(((1, _S), (2, _S), (3, _X), (1, _X))), 15_668, 32_779),
    Safe("3 hosts, 3 readers, 1 writer", Configuration(((1, _S), (2, _S), (3, _S), (3, _X))), 33_160, 83_428),
    Safe("2 hosts, 1 reader, 4 writers", Configuration(((1, _X), (1, _X), (2, _X), (2, _X), (2, _S))), 383_516,
         741_314),
)


class SwitchStep(NamedTuple):
    """What the switch does in a step of a trace: message in, messages out, and its words before and after."""

    message: bytes
    left: list[Left]
    before: tuple[int, ...]
    after: tuple[int, ...]


def _along(finding: Finding) -> Iterator[tuple[FaithfulSystem, str, State, State]]:
    system = FaithfulSystem(finding.configuration)
    states = replay(system.initial, system.successors, finding.steps)
    for before, label, after in zip(states, finding.steps, states[1:], strict=False):
        yield system, label, before, after


def _message(system: FaithfulSystem, label: str, state: State) -> bytes | None:
    action, _, link = label.partition(" ")
    return state.links[system.links.index(link)][0][1] if action in ("deliver", "duplicate", "lose") else None


def switch_steps(finding: Finding) -> list[SwitchStep]:
    """All that the switch does along a trace, in order: what a gateware that replays it must do."""
    out = []
    for system, label, before, after in _along(finding):
        message = _message(system, label, before)
        if label.startswith("deliver ") and label.endswith(">") and message is not None:
            out.append(SwitchStep(message, system.rules.step(before.switch, message)[1], before.switch, after.switch))
    return out


def describe(finding: Finding) -> list[str]:
    """The trace for people, one line a step."""
    lines = []
    for system, label, before, after in _along(finding):
        line, content = label, _message(system, label, before)
        if content is not None:
            message = FaithfulMessage.from_bytes(content)
            line += f": {Type(message.type).name} of host {message.machine_id}, task {message.task_id}"
            if message.type in (Type.FREE, Type.TRANSFER):
                line += f", ncnt {message.ncnt}"
        now = [f"task {task} {status}" for task, (was, status) in enumerate(zip(before.tasks, after.tasks, strict=True))
               if was != status]
        lines.append(line + (f" ({', '.join(now)})" if now else ""))
    return lines
