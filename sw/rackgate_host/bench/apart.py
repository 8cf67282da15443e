# SPDX-License-Identifier: Apache-2.0
"""A unit in a process of its own: what it does to its process, and how that ends, is nobody else's.

``python -m rackgate_host.bench.apart`` reads one line from standard input, the unit as JSON, and prints JSON lines:
``report`` with a line on what is under way, and at the end ``points``, or ``why`` and ``exit_code``. It ends itself,
and what it has started, as soon as standard input ends: its parent is gone then.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .benches import HERE, Points, Unit, measure

__all__ = ["Outcome", "measure_apart", "measure_here"]

_MOST_OF_ERROR = 500  # characters
_TIDY = 10.0  # seconds


class Outcome(NamedTuple):
    """Points of a unit, or why there are none, with the exit code that stands for that.

    ``died``: its process ended without a word.
    """

    points: Points | None
    seconds: float
    why: str = ""
    exit_code: int = 0
    where: str = HERE
    died: bool = False


def _failure(error: BaseException) -> tuple[str, int]:
    from ..cli import exit_code, sentence  # which imports the bench's command

    if os.environ.get("RACKGATE_DEBUG"):
        traceback.print_exception(error)
    return sentence(error), exit_code(error)


def measure_here(unit: Unit, report: Callable[[str], None]) -> Outcome:
    """Run a unit in this process."""
    begin = time.monotonic()
    try:
        points = measure(unit, report)
    except Exception as error:
        return Outcome(None, time.monotonic() - begin, *_failure(error))
    return Outcome(points, time.monotonic() - begin)


def _kill(child: subprocess.Popen) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


@contextmanager
def _ended(child: subprocess.Popen, stop: threading.Event, limit: float) -> Iterator[None]:
    """Kill ``child`` with all that it has started when ``stop`` is set, after ``limit`` seconds, and at the end."""
    over = threading.Event()

    def watch() -> None:
        end = time.monotonic() + limit
        while not over.wait(0.1):
            if stop.is_set() or time.monotonic() > end:
                _kill(child)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
        _wait(child)
    finally:
        over.set()
        watcher.join()
        _kill(child)  # also what it has left behind: until it is reaped, its group's number is its own
        child.wait()


def _wait(child: subprocess.Popen) -> None:
    """Give a process that has said all the time to tidy up."""
    end = time.monotonic() + _TIDY
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.01)


def measure_apart(unit: Unit, report: Callable[[str], None], *, limit: float,
                  stop: threading.Event | None = None) -> Outcome:
    """Run a unit in a process of its own, for ``limit`` seconds at most, or until ``stop`` is set."""
    begin, stop = time.monotonic(), stop or threading.Event()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    last: dict[str, Any] = {}
    with subprocess.Popen([sys.executable, "-m", __name__], env=environment, text=True, start_new_session=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        with _ended(child, stop, limit):
            try:
                child.stdin.write(json.dumps(unit.as_dict()) + "\n")
                child.stdin.flush()
                for line in child.stdout:
                    last = json.loads(line)
                    if "report" not in last:
                        break
                    report(last["report"])
            except (BrokenPipeError, ValueError):  # it died: see below
                last = {}
    seconds = time.monotonic() - begin
    if "points" in last:
        return Outcome(last["points"], seconds)
    if "why" in last:
        return Outcome(None, seconds, last["why"], last["exit_code"])
    if seconds >= limit:
        return Outcome(None, seconds, f"{unit.title} did not end within {limit:g} s", 4)
    code = child.returncode
    return Outcome(None, seconds, f"the process that measured {unit.title} ended with "
                                  f"{f'signal {-code}' if code < 0 else f'code {code}'}", 1, died=True)


def _end_with_parent() -> None:
    """Read standard input to its end, and then end the whole session."""
    copy = os.dup(0)
    os.set_inheritable(copy, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait() -> None:
        while os.read(copy, 1 << 10):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _read_line() -> str:
    """A line of standard input, and nothing of what follows."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line.decode()


def _main() -> None:
    text = _read_line()
    _end_with_parent()
    # Components whose Verilog was kept from an earlier run are made, and not elaborated.
    warnings.filterwarnings("ignore", message=".* created but never used")
    # Whatever else is printed goes to where errors go.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=out, flush=True)

    outcome = measure_here(Unit(**json.loads(text)), lambda line: say({"report": line}))
    say({"why": outcome.why[:_MOST_OF_ERROR], "exit_code": outcome.exit_code} if outcome.points is None else
        {"points": outcome.points})
    out.close()


if __name__ == "__main__":
    _main()
