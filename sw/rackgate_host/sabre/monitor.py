# SPDX-License-Identifier: Apache-2.0
"""The monitor: a process of its own that serves a guest's page faults, and how the guest starts and asks it.

A thread would not do: Python's lock is held while the guest's code waits in a fault. The guest (whoever owns the
memory) starts a :class:`Monitor`, tells it what to do, and hands it the userfaultfd; the monitor runs one *session*.

Nobody is left waiting in a fault: when the session fails, the missing pages are poisoned; when the monitor dies, a
small *guard* process that it forked before does that; when the guest dies, the socket closes and both end.
"""

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .channel import Channel, ChannelClosed, SabreTimeout
from .errors import SabreError
from .guest_memory import GuestGone, GuestMemory
from .userfault import Feature, Userfault

__all__ = ["Monitor", "MonitorError", "Session", "close_others", "main"]

_START = "from rackgate_host.sabre.monitor import main; main()"
_PATIENCE = 5.0  # seconds for a process to end that should
_START_TIME = 60.0  # it may have much to decompress beforehand, on a busy machine
_FINE_SLEEP = 29  # PR_SET_TIMERSLACK of prctl(2)


class MonitorError(SabreError):
    """The monitor's session failed, or the monitor died. The text says why. ``exit_code`` is the original error's."""

    def __init__(self, text: str, exit_code: int = 1):
        super().__init__(text)
        self.exit_code = exit_code


class Session(Protocol):
    """What a monitor does for a guest. ``running`` says whether the guest runs while it is served."""

    running: bool

    def run(self, memory: GuestMemory, channel: Channel) -> dict[str, Any]:
        """Serve until all is done; the report, of what JSON knows. Errors end in poisoned pages."""
        ...

    def close(self) -> None:
        """Give everything back; also after a failure."""
        ...


class Monitor:
    """A monitor process as its starter sees it.

    ``factory`` names the session, ``module:function``; it gets ``options`` (plain JSON) and the descriptors that
    :meth:`start` was given. ``timeout`` bounds the wait for each answer, in seconds.
    ``guard`` is the process id of the monitor's guard once it is started.
    """

    def __init__(self, factory: str, options: dict[str, Any], timeout: float = 60.0):
        self.factory = factory
        self.options = options
        self.timeout = timeout
        self.guard = 0
        self._process: subprocess.Popen | None = None
        self._channel: Channel | None = None

    @property
    def pid(self) -> int:
        """Process id of the monitor. Raises :class:`MonitorError` if it was not started."""
        if self._process is None:
            raise MonitorError("the monitor was not started")
        return self._process.pid

    def start(self, descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """Start the process and prepare the session; what the session has to say about itself."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                       "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-c", _START, str(theirs.fileno())], env=environment,
                                             pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._channel = Channel(ours)
        try:
            self._send({"kind": "prepare", "factory": self.factory, "options": self.options}, descriptors)
            about = self.expect("ready", "the monitor to be ready", max(self.timeout, _START_TIME))
            self.guard = about["guard"]
            return about
        except BaseException:
            self.close()
            raise

    def begin(self, userfault: Userfault, regions: Sequence[tuple[int, int]]) -> None:
        """Hand over the memory: (address, pages) of each region, all registered with ``userfault``."""
        self._send({"kind": "begin", "features": int(userfault.features), "regions": [list(item) for item in regions]},
                   [userfault.fileno()])

    def tell(self, kind: str, **values: Any) -> None:
        """Send the session a message."""
        self._send({"kind": kind, **values})

    def expect(self, kind: str, what: str, timeout: float | None = None,
               others: Sequence[str] = ("progress",)) -> dict[str, Any]:
        """The next message of ``kind``; those of ``others`` on the way are dropped.

        Raises :class:`MonitorError` if the session failed or the monitor died, and
        :class:`~rackgate_host.sabre.channel.SabreTimeout`.
        """
        limit = self.timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        while True:
            message = self.message(max(deadline - time.monotonic(), 0), what, limit)
            if message["kind"] == kind:
                return message
            if message["kind"] not in others:
                raise MonitorError(f"the monitor said {message['kind']!r}; {what} was awaited")

    def message(self, timeout: float, what: str, named: float | None = None) -> dict[str, Any]:
        """The next message of any kind but a failure; errors as :meth:`expect`."""
        if self._channel is None:
            raise MonitorError(f"there is no monitor; {what} was awaited")
        try:
            message, _ = self._channel.receive(timeout, what)
        except SabreTimeout:
            raise SabreTimeout(f"waited {timeout if named is None else named:g} s for {what}") from None
        except ChannelClosed:
            raise MonitorError(f"the monitor {self._fate()}; {what} was awaited") from None
        if message["kind"] == "failed":
            raise MonitorError(message["text"], message["exit_code"])
        return message

    def close(self) -> None:
        """End the monitor: it is asked by closing the channel, and killed if it does not hear."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(_PATIENCE)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        if self._channel is None:
            raise MonitorError(f"there is no monitor to send {message['kind']!r} to")
        try:
            self._channel.send(message, descriptors, self.timeout)
        except ChannelClosed:
            self.message(1.0, f"an answer to {message['kind']!r}")  # raises what it had to say before it ended
            raise MonitorError(f"the monitor {self._fate()} before it got {message['kind']!r}") from None

    def _fate(self) -> str:
        """How the process ended, in words."""
        if self._process is None:
            return "was not started"
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "has closed its channel"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


class _Guard:
    """A forked process that frees the guest if the monitor dies. It must be made before any thread."""

    def __init__(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._pid = os.fork()
        if not self._pid:
            status = 1
            try:
                close_others(theirs.fileno())
                _guard(Channel(theirs))
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        self._channel = Channel(ours)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._pid

    def watch(self, userfault: Userfault, regions: Sequence[tuple[int, int]]) -> None:
        """From now on the memory is to be freed if this process ends without :meth:`dismiss`."""
        self._channel.send({"kind": "watch", "features": int(userfault.features),
                            "regions": [list(item) for item in regions]}, [userfault.fileno()])

    def dismiss(self) -> None:
        """Nothing is left to free."""
        with contextlib.suppress(SabreError):
            self._channel.send({"kind": "done"})
        self._channel.close()
        os.waitpid(self._pid, 0)


def _guard(channel: Channel) -> None:
    """The guard's life. It has no time limit: it ends with the monitor, whose end closes the channel."""
    memory = None
    while True:
        try:
            message, descriptors = channel.receive(3600.0, "the monitor")
        except SabreTimeout:
            continue
        except ChannelClosed:
            if memory is not None:
                memory.poison()
            return
        if message["kind"] == "done":
            return
        memory = _memory(message, descriptors, strict=False)


def _memory(message: dict[str, Any], descriptors: Sequence[int], strict: bool = True) -> GuestMemory:
    userfault = Userfault.adopt(descriptors[0], Feature(message["features"]))
    return GuestMemory(userfault, [(address, pages) for address, pages in message["regions"]], strict)


def close_others(*keep: int) -> None:
    """Close all descriptors but standard ones and ``keep``: in a forked child, so that ends of sockets do not live
    on in it."""
    # Not by closerange: without the close_range system call it closes as many as the limit allows, a billion maybe.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))


def main() -> None:
    """The monitor process; the first argument is the descriptor of its channel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the guest hears the terminal, and ends us by closing the channel
    ctypes.CDLL(None).prctl(_FINE_SLEEP, 1, 0, 0, 0)
    channel = Channel.adopt(int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    try:
        message, descriptors = channel.receive(60.0, "what to do")
        guard = _Guard()
        _serve(channel, guard, message, descriptors)
    except ChannelClosed:
        sys.exit(0)


def _serve(channel: Channel, guard: _Guard, message: dict[str, Any], descriptors: Sequence[int]) -> None:
    session: Session | None = None
    memory: GuestMemory | None = None
    try:
        module, _, name = message["factory"].partition(":")
        factory: Callable[..., Session] = getattr(importlib.import_module(module), name)
        session = factory(message["options"], descriptors)
        channel.send({"kind": "ready", "pid": os.getpid(), "guard": guard.pid})
        message, descriptors = channel.receive(86400.0, "the guest's memory")
        memory = _memory(message, descriptors)
        guard.watch(memory.userfault, list(zip(memory.addresses, memory.sizes, strict=True)))
        report = session.run(memory, channel)
        memory.release()
        channel.send({"kind": "finished", "report": report})
        guard.dismiss()
    except Exception as error:
        _give_up(channel, guard, session, memory, error)
    finally:
        if session is not None:
            session.close()


def _give_up(channel: Channel, guard: _Guard, session: Session | None, memory: GuestMemory | None,
             error: Exception) -> None:
    """Free the guest, and say why: to the owner, and before that to a guest that may not live to hear it."""
    text = str(error) or type(error).__name__
    if not isinstance(error, SabreError | OSError) and not hasattr(error, "exit_code"):
        text = f"{type(error).__name__}: {text}"
        if os.environ.get("RACKGATE_DEBUG"):
            traceback.print_exc()
    if memory is not None:
        lost = memory.missing()
        if lost and not isinstance(error, GuestGone | ChannelClosed):
            what = "raise SIGBUS" if Feature.POISON in memory.userfault.features else "read as zero"
            text += f" ({lost} pages were not restored: they {what} when touched)"
            if session is not None and session.running:
                print(f"rackgate monitor: {text}", file=sys.stderr, flush=True)
        memory.poison()
    guard.dismiss()
    with contextlib.suppress(SabreError):
        channel.send({"kind": "failed", "text": text, "exit_code": getattr(error, "exit_code", 1)})
