# SPDX-License-Identifier: Apache-2.0
"""A guest to restore for: a process that owns memory, has pages touched as a trace says, and compares them.

The guest is a process of its own, as a microVM's monitor is: it starts the restore's (or the recorder's) monitor,
hands over its memory, and follows the trace, by itself or by a virtual machine that runs on the memory (the touchers
of :mod:`rackgate_host.sabre.guests`). What is touched is compared with the original's, and at the end every byte.
Whoever starts a guest waits for it with a time limit, and learns how it ended.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .channel import Channel, ChannelClosed, SabreTimeout
from .engines import prepare_engine
from .errors import SabreError
from .guests import GuestKind, Original, Toucher, Trace, make_toucher
from .owner import anonymous
from .recorder import Recorder
from .restorer import Restorer
from .snapshot import Snapshot
from .touches import Touches

__all__ = ["GuestFailed", "Trace", "main", "record_guest", "restore_guest", "touch_trace"]

_START = "from rackgate_host.sabre.workload import main; main()"

_SLACK = 3.0  # seconds that a guest has longer than a wait of its own, to say what it waited for


class GuestFailed(SabreError):
    """The guest ended before its work was done, or found wrong bytes. The text says how."""


def touch_trace(sizes: Sequence[int], seed: int, share: float = 0.3, run: int = 8, again: float = 0.5,
                varied: float = 0.02, number: int = 0) -> list[tuple[int, int]]:
    """A trace like that of a function that is called once: runs of neighbouring pages, in no order, some of them
    touched again.

    About ``share`` of the pages are touched, in runs of ``run`` pages on average; after a first touch an earlier page
    is touched again with probability ``again``. Runs of the same ``seed`` touch the same pages in the same order but
    for about ``varied`` of them, which are drawn anew for each ``number``.
    """
    total = sum(sizes)
    if total < 1:
        raise ValueError("sizes must sum up to at least one page")
    for name, value in (("share", share), ("again", again), ("varied", varied)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be 0 to 1, not {value}")
    if run < 1:
        raise ValueError(f"run must be 1 page or more, not {run}")
    common, own = np.random.default_rng(seed), np.random.default_rng([seed, number])
    firsts = np.concatenate(([0], np.cumsum(sizes)))
    touched: list[int] = []
    seen: set[int] = set()
    wanted = max(1, round(total * share))
    while len(seen) < wanted:
        start, length = int(common.integers(total)), int(common.geometric(1 / run))
        if own.random() < varied:
            start = int(own.integers(total))
        for page in range(start, min(start + length, total)):
            if page not in seen and len(seen) < wanted:
                seen.add(page)
                touched.append(page)
                if own.random() < again:
                    touched.append(touched[int(own.integers(len(touched)))])
    regions = np.searchsorted(firsts, touched, "right") - 1
    return [(int(region), page - int(firsts[region])) for region, page in zip(regions, touched, strict=True)]


def restore_guest(path: str | os.PathLike[str], trace: Trace = (), original: str | os.PathLike[str] | None = None,
                  options: dict[str, Any] | None = None, timeout: float = 60.0,
                  progress: Callable[[int, int], None] | None = None,
                  guest: GuestKind | str = GuestKind.PROCESS,
                  report: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Run a guest that is restored from the snapshot at ``path`` and follows ``trace``.

    ``guest`` says who touches: the process, or a virtual machine that runs on its memory.

    ``original`` is a file with the bytes that all regions should have, back to back; without it nothing is compared
    but the snapshot's CRCs. ``options`` are those of :class:`~rackgate_host.sabre.restorer.Restorer`. ``timeout``
    bounds, in seconds, the time in which nothing is heard of the guest. Before the guest starts, what its engine takes
    long for the first time is done here; ``report`` gets lines on that.

    Gives ``report`` (:class:`~rackgate_host.sabre.restorer.Report` without touches), ``guest_seconds`` from the begin
    of the restore to the end of the trace (of a virtual machine, until it halted), ``touches`` and ``wrong`` pages
    found during the trace, and ``equal``: whether all bytes were right in the end, ``None`` without ``original``.
    Raises :class:`GuestFailed` if the guest died, and what the guest's restore raised, as
    :class:`~rackgate_host.sabre.errors.SabreError`.
    """
    options = options or {}
    if "engine" in options:
        prepare_engine(options["engine"], options.get("engine_options") or {}, report)
    job = {"job": "restore", "path": os.fspath(path), "trace": [list(touch) for touch in trace], "guest": guest,
           "original": None if original is None else os.fspath(original), "options": options, "timeout": timeout}
    return _run(job, timeout, progress)


def record_guest(image: str | os.PathLike[str], sizes: Sequence[int], trace: Trace, timeout: float = 60.0,
                 guest: GuestKind | str = GuestKind.PROCESS) -> tuple[Touches, dict[str, Any]]:
    """Run a guest whose memory comes from ``image``, page by page, and record its touches of ``trace``.

    Gives the touches, and what :func:`restore_guest` gives but for ``report``.
    """
    result = _run({"job": "record", "path": os.fspath(image), "sizes": list(sizes), "original": os.fspath(image),
                   "trace": [list(touch) for touch in trace], "guest": guest, "timeout": timeout}, timeout, None)
    return Touches.from_json(result.pop("recorded")), result


def _run(job: dict[str, Any], timeout: float, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    """Start a guest, give it its job, and wait for its result."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as errors, theirs:
        process = subprocess.Popen([sys.executable, "-c", _START, str(theirs.fileno())], env=environment,
                                   pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=errors)
        theirs.close()
        channel = Channel(ours)
        try:
            channel.send({"kind": "job", **job}, timeout=timeout)
            return _result(channel, timeout, progress)
        except ChannelClosed:
            raise GuestFailed(f"the guest {_end(process)}{_last_words(errors)}") from None
        finally:
            channel.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            if process.poll() is None:
                process.kill()
                process.wait(10)


def _result(channel: Channel, timeout: float, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    while True:
        try:
            message, _ = channel.receive(timeout + _SLACK, "the guest to do something")
        except SabreTimeout:
            raise SabreTimeout(f"waited {timeout:g} s for the guest to do something") from None
        match message["kind"]:
            case "progress" if progress is not None:
                progress(message["done"], message["of"])
            case "done":
                return message["result"]
            case "failed":
                failure = SabreTimeout(message["text"]) if message["exit_code"] == 4 else SabreError(message["text"])
                failure.exit_code = message["exit_code"]
                raise failure


def _end(process: subprocess.Popen) -> str:
    try:
        code = process.wait(5)
    except subprocess.TimeoutExpired:
        return "said no more"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _last_words(errors: Any) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return f": {lines[-1]}" if lines else ""


class _Guest:
    """The guest's life."""

    def __init__(self, channel: Channel, job: dict[str, Any]):
        self._channel = channel
        self._job = job
        self._trace = [(region, page) for region, page in job["trace"]]

    def run(self) -> dict[str, Any]:
        """Do the job."""
        return self._restore() if self._job["job"] == "restore" else self._record()

    def _toucher(self, original: Original, sizes: Sequence[int]) -> Toucher:
        return make_toucher(self._job["guest"], self._trace, original, sizes)

    def _restore(self) -> dict[str, Any]:
        with Snapshot.open(self._job["path"]) as snapshot:
            sizes = [region.pages for region in snapshot.regions]
        original = Original(self._job["original"], sizes)
        buffers = [anonymous(pages) for pages in sizes]
        with contextlib.closing(self._toucher(original, sizes)) as toucher, \
                Restorer(self._job["path"], **self._job["options"]) as restorer:
            toucher.attach(buffers)
            begin = time.monotonic()
            with restorer.restore(buffers, progress=self._tell) as restored:
                resumed = time.monotonic()
                wrong = toucher.follow(self._job["timeout"])
                end = time.monotonic()
                report = restored.finish(self._tell)
                return {"report": report.as_json(), "resume_seconds": resumed - begin, "guest_seconds": end - begin,
                        "touches": len(self._trace), "wrong": wrong, "equal": original.equal(buffers)}

    def _record(self) -> dict[str, Any]:
        sizes = self._job["sizes"]
        original = Original(self._job["original"], sizes)
        buffers = [anonymous(pages) for pages in sizes]
        with contextlib.closing(self._toucher(original, sizes)) as toucher, Recorder(self._job["path"]) as recorder:
            toucher.attach(buffers)
            begin = time.monotonic()
            recorder.attach(buffers)
            wrong = toucher.follow(self._job["timeout"])
            end = time.monotonic()
            touches = recorder.stop()
        return {"recorded": touches.as_json(), "guest_seconds": end - begin, "touches": len(self._trace),
                "wrong": wrong, "equal": original.equal(buffers)}

    def _tell(self, done: int, of: int) -> None:
        self._channel.send({"kind": "progress", "done": done, "of": of})


def main() -> None:
    """The guest process; the first argument is the descriptor of its channel."""
    channel = Channel.adopt(int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    job, _ = channel.receive(60.0, "a job")
    try:
        channel.send({"kind": "done", "result": _Guest(channel, job).run()})
    except ChannelClosed:
        sys.exit(1)
    except Exception as error:
        text = str(error) if hasattr(error, "exit_code") or isinstance(error, OSError) else repr(error)
        channel.send({"kind": "failed", "text": text, "exit_code": getattr(error, "exit_code", 1)})
