# SPDX-License-Identifier: Apache-2.0
"""Running a program on a simulated host, so that nothing of it outlives the host or whoever started it.

The program is in the host's network namespace and in a PID namespace of its own, whose first process reaps orphans:
when the program ends, or the host, or the process that waits here, the kernel ends all that the program has started.

As ``python -m rackgate_host.zeronic.inside DIRECTORY HOST PROGRAM...`` it is a command by itself, for
:meth:`~rackgate_host.zeronic.hosts.Hosts.popen`.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from ..errors import UsageError
from . import namespaces
from .control import Control
from .errors import HostFailed, NoHosts
from .processes import die_with_parent, explained
from .programs import forbid_io_uring, why_unsplit
from .shared import SOCKET_VARIABLE

__all__ = ["INNER_VARIABLE", "main", "run"]

#: Environment variable with what the program's environment has besides, as JSON: the shim is not for this process.
INNER_VARIABLE = "RACKGATE_ZERONIC_INNER"

_CLONE_NEWNS, _CLONE_NEWPID = 0x0002_0000, 0x2000_0000
_MS_PRIVATE, _MS_RECURSIVE = 1 << 18, 1 << 14
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: Exit codes of a shell for a program that cannot be run, and for one that is not there.
_CANNOT_RUN, _NOT_FOUND = 126, 127


def run(control: Control, program: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program on the host of ``control`` until it ends: its exit code, or 128 and the signal that ended it.

    Signals that end a process go on to the program. What it has started and left behind is killed.

    Raises
    ------
    HostFailed
        The host has ended first; the program was killed.
    NoHosts
        No PID namespace can be had.
    """
    if not program:
        raise UsageError("a program must be named, behind --")
    namespace = control.namespace()
    parent = os.getpid()
    child = _fork_into_pid_namespace()
    if child == 0:
        _be_first(parent, namespace, program, environment)
    os.close(namespace)
    handlers = {number: signal.signal(number, lambda number, _: os.kill(child, number)) for number in _FORWARDED}
    handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the program as well
    ended = os.pidfd_open(child)
    try:
        readable, *_ = select.select([ended, control], [], [])
        if ended not in readable:
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(ended)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if ended not in readable:
        raise HostFailed(f"simulated host {control.host} has ended, and so has {program[0]}")
    return code if code >= 0 else 128 - code


def _fork_into_pid_namespace() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWPID) != 0:
            raise NoHosts(f"no PID namespace can be had: {os.strerror(ctypes.get_errno())}")
        child = os.fork()
        if child and libc.setns(own, _CLONE_NEWPID) != 0:
            raise NoHosts(f"the PID namespace cannot be left: {os.strerror(ctypes.get_errno())}")
        return child
    finally:
        os.close(own)


def _be_first(parent: int, namespace: int, program: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be the first process of the PID namespace: start the program, and end with it."""
    code = _CANNOT_RUN
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # of no effect here, and the program inherits it
        _die_with(parent)
        namespaces.enter(namespace)
        _mount_proc()
        child = os.fork()
        if child == 0:
            _execute(program, environment)
        for number in _FORWARDED:
            signal.signal(number, _forward_to(child))
        while True:
            pid, status = os.wait()
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                break
    except BaseException as error:
        print(f"rackgate: {program[0]}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _die_with(parent: int) -> None:
    """As :func:`die_with_parent`, for a process that cannot see its parent's number."""
    die_with_parent(0)
    if not Path(f"/proc/{parent}").exists():
        os._exit(_CANNOT_RUN)


def _forward_to(child: int) -> Callable[[int, FrameType | None], None]:
    def forward(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    return forward


def _mount_proc() -> None:
    """Show the program its own processes in /proc. Where that is not allowed it sees those of the machine."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) == 0 and libc.mount(None, b"/", None, _MS_PRIVATE | _MS_RECURSIVE, None) == 0:
        libc.mount(b"proc", b"/proc", b"proc", 0, None)


def _execute(program: Sequence[str], environment: Mapping[str, str]) -> None:
    if SOCKET_VARIABLE in environment:
        if reason := why_unsplit(program[0], environment):
            print(f"rackgate: {reason}", file=sys.stderr, flush=True)
        forbid_io_uring()
    try:
        os.execvpe(program[0], list(program), dict(environment))
    except OSError as error:
        print(f"rackgate: {program[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _CANNOT_RUN)


def main() -> None:
    """Run the program that the command line names, in the environment of this process."""
    directory, host, *program = sys.argv[1:]
    try:
        with Control(Path(directory), host) as control:
            environment = dict(os.environ)
            inner = json.loads(environment.pop(INNER_VARIABLE, "{}"))
            code = run(control, program, {**environment, **inner})
    except Exception as error:
        told = explained(error)
        print(f"rackgate: {told['error']}", file=sys.stderr)
        code = told["exit_code"]
    sys.exit(code)


if __name__ == "__main__":
    main()
