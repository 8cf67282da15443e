# SPDX-License-Identifier: Apache-2.0
"""The process that starts the daemons of simulated hosts, and ends all when one ends or when it is told to.

:meth:`~rackgate_host.zeronic.hosts.Hosts.start` starts it as ``python -m rackgate_host.zeronic.supervisor``, with what
the hosts are as JSON on its command line. A daemon dies with its supervisor, and takes its namespaces with it; the
directory that is left behind is cleared by the next start.
"""

import dataclasses
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .errors import HostFailed
from .hosts import HOSTS, HostsConfig
from .processes import die_with_parent, explained
from .rundirectory import clear, failure

__all__ = ["main"]

_START_LIMIT, _END_LIMIT = 60.0, 10.0


def _start_daemons(config: HostsConfig, directory: Path) -> dict[str, subprocess.Popen]:
    """Start the daemons, and wait until they are ready. Raises RackgateError, with all of them ended."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemons: dict[str, subprocess.Popen] = {}
    pipes: dict[str, int] = {}
    try:
        for host, end in zip(HOSTS, ends, strict=True):
            told, tell = os.pipe()
            one = dataclasses.replace(config.of_host(host, directory), wire=end.fileno(), ready=tell,
                                      parent=os.getpid())
            daemons[host] = subprocess.Popen(
                [sys.executable, "-m", "rackgate_host.zeronic.daemon", one.to_json()], stdin=subprocess.DEVNULL,
                pass_fds=[end.fileno(), tell], cwd="/")
            os.close(tell)
            end.close()
            pipes[host] = told
        for host, told in pipes.items():
            message = json.loads(_read_until(told, _START_LIMIT, host) or b"{}" if daemons[host].poll() is None
                                 else b'{"error": "it has ended"}')
            if error := message.get("error"):
                raise failure(f"{error}", message.get("exit_code", 1), directory)
    except BaseException:
        _end(daemons)
        raise
    finally:
        for told in pipes.values():
            os.close(told)
    return daemons


def _read_until(pipe: int, seconds: float, host: str) -> bytes:
    if not select.select([pipe], [], [], seconds)[0]:
        raise HostFailed(f"simulated host {host} is not ready after {seconds:g} s")
    content = os.read(pipe, 1 << 16)
    if not content:
        raise HostFailed(f"simulated host {host} has ended")
    return content


def _end(daemons: Mapping[str, subprocess.Popen]) -> None:
    for daemon in daemons.values():
        daemon.terminate()
    for daemon in daemons.values():
        try:
            daemon.wait(_END_LIMIT / 2)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _watch(daemons: Mapping[str, subprocess.Popen]) -> None:
    """Wait until a daemon ends."""
    while True:
        pid, status = os.wait()
        for host, daemon in daemons.items():
            if daemon.pid == pid:
                daemon.returncode = os.waitstatus_to_exitcode(status)
                print(f"host {host} ended by itself, with {daemon.returncode}", file=sys.stderr)
                return


class _Told(Exception):
    """The supervisor was told to end."""


def _be_told(*_: object) -> None:
    raise _Told


def main() -> None:
    """Be the supervisor that the command line describes."""
    arguments = json.loads(sys.argv[1])
    config, ready = HostsConfig.from_dict(arguments["config"]), arguments["ready"]
    directory = Path(arguments["directory"])
    if arguments["owner"]:
        die_with_parent(arguments["owner"])
    elif os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, _be_told)
    daemons: dict[str, subprocess.Popen] = {}
    with (directory / "lock").open("w+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.write(str(os.getpid()))
            lock.flush()
            daemons = _start_daemons(config, directory)
            os.write(ready, b"{}")
            os.close(ready)
        except Exception as error:
            os.write(ready, json.dumps(explained(error)).encode())
            sys.exit(1)
        try:
            _watch(daemons)
        except _Told:
            pass
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _end(daemons)
            clear(directory)


if __name__ == "__main__":
    main()
