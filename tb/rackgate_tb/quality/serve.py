# SPDX-License-Identifier: Apache-2.0
"""A regression that is collected once, and run once a fault by a child that is forked from there.

Imports, collection and model are paid for once. What is told of a fault is the first test that fails with it, so tests
that caught much in little time so far come first; what is caught does not depend on the order.
"""

import contextlib
import json
import math
import os
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .faults import VARIABLE

__all__ = ["Order", "Server"]

#: A test may take so many times its processor seconds without a fault, and at least so many, before it is ended.
_PATIENCE, _LEAST_PATIENCE = 4.0, 20.0
#: It may be silent so many times as long as it may compute: a loaded machine is no fault.
_SILENCE = 30.0
#: What a test may take without a fault.
_LONGEST = 3600.0


@dataclass
class _Test:
    seconds: float = 0.0
    runs: int = 0
    catches: int = 0

    @property
    def limit(self) -> float:
        return max(_LEAST_PATIENCE, _PATIENCE * self.seconds)


class Order:
    """The order of tests that finds the first failure soonest, by what is known of them.

    By chance of a catch (rule of succession) over processor seconds: with nothing caught yet, the quickest first.
    """

    def __init__(self, seconds: Mapping[str, float]):
        self.tests = {name: _Test(taken) for name, taken in seconds.items()}

    def __call__(self) -> list[str]:
        return sorted(self.tests, key=lambda name: -(self.tests[name].catches + 1) / (self.tests[name].runs + 2)
                      / max(0.1, self.tests[name].seconds))

    def ran(self, name: str, *, caught: bool) -> None:
        """Learn from one run with a fault."""
        self.tests[name].runs += 1
        self.tests[name].catches += caught


class Server:
    """A plugin that takes the place of pytest's loop over tests, and appends a JSON object a fault to a file.

    The first is fault 0, no fault: ``{"fault": 0, "caught": by a failing test?, "by": ..., "timed_out": ...}``. If that
    is caught there are no others. Each object also has ``seconds``, processor time of the child and of its children;
    when those of all together are more than ``budget``, no more are tried.
    """

    def __init__(self, count: int, verdicts: Path, *, budget: float = math.inf):
        self.count, self.verdicts, self.budget = count, verdicts, budget
        self._failure = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """In a child: keep what a test fails by."""
        if report.failed and not self._failure:
            crash = getattr(report.longrepr, "reprcrash", None)
            self._failure = f"{report.nodeid}: {crash.message if crash else report.longreprtext}"[:300]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or not session.items:
            return None
        items = {item.nodeid: item for item in session.items}
        seconds: dict[str, float] = {}
        verdict = self._child(0, list(items.values()), lambda name: _LONGEST,
                              lambda name, spent, _: seconds.update({name: spent}))
        order, spent = Order(seconds), verdict["seconds"]
        for number in range(1, 1 + self.count if not verdict["caught"] else 1):
            if spent > self.budget:
                break
            spent += self._child(number, [items[name] for name in order()], lambda name: order.tests[name].limit,
                                 lambda name, _, caught: order.ran(name, caught=caught))["seconds"]
        return True

    def _child(self, fault: int, items: Sequence[pytest.Item], limit: Callable[[str], float],
               told: Callable[[str, float, bool], None]) -> dict[str, Any]:
        """Fork, let the child run the tests up to the first that fails, and write down what became of it."""
        before = os.times()
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reader)
            self._run(fault, items, limit, writer)
        os.close(writer)
        running, caught, by, is_late, code = items[0].nodeid, False, "", False, 0
        lines = _Lines(reader)
        try:
            while line := lines.next(_SILENCE * limit(running or items[0].nodeid)):
                running = line["test"]
                if "seconds" in line:
                    told(running, line["seconds"], bool(line["failed"]))
                    caught, by = caught or bool(line["failed"]), by or line["failed"]
                    running = ""
            is_late = line is None
            if not is_late:
                _, status = os.waitpid(child, 0)
                code = os.waitstatus_to_exitcode(status)
        finally:
            os.close(reader)
            _end_group(child)
        if is_late:
            os.waitpid(child, 0)
            code = -signal.SIGKILL
        is_late = is_late or code == -signal.SIGPROF
        if not caught and (is_late or code):
            caught, by = True, f"{running}: " + ("no end" if is_late else f"the process ended with {code}")
            if running and fault:
                told(running, 0.0, True)
        after = os.times()
        verdict = {"fault": fault, "caught": caught, "by": by, "timed_out": is_late and caught, "seconds": round(
            after.children_user + after.children_system - before.children_user - before.children_system, 2)}
        with self.verdicts.open("a") as file:
            file.write(json.dumps(verdict) + "\n")
        return verdict

    def _run(self, fault: int, items: Sequence[pytest.Item], limit: Callable[[str], float], writer: int) -> None:
        """The child. It never returns."""
        code = 1
        try:
            os.setpgid(0, 0)
            os.environ[VARIABLE] = str(fault)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, though a simulation does not return
            for item, following in zip(items, [*items[1:], None], strict=True):
                _say(writer, {"test": item.nodeid})
                signal.setitimer(signal.ITIMER_PROF, limit(item.nodeid))
                start = _spent()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                _say(writer, {"test": item.nodeid, "seconds": _spent() - start, "failed": self._failure})
                if self._failure:
                    break
            code = 0
        finally:
            os._exit(code)


def _spent() -> float:
    times = os.times()
    return sum(times[:4])


def _say(writer: int, line: Mapping[str, Any]) -> None:
    os.write(writer, json.dumps(line).encode() + b"\n")


class _Lines:
    """Objects that a child says."""

    def __init__(self, reader: int):
        self.reader, self.rest = reader, b""

    def next(self, patience: float) -> dict[str, Any] | None:
        """The next; an empty one when the child has ended; None if nothing came for so many seconds."""
        while b"\n" not in self.rest:
            if not select.select([self.reader], [], [], patience)[0]:
                return None
            if not (some := os.read(self.reader, 65536)):
                return {}
            self.rest += some
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)


def _end_group(child: int) -> None:
    """End a child, if it has not ended, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
