# SPDX-License-Identifier: Apache-2.0
"""Two simulated hosts and the wire between them: starting them, finding them, running programs on them, ending them.

What they are is started and ended by a process of its own, the :mod:`supervisor <rackgate_host.zeronic.supervisor>`.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..device import open_device
from ..errors import UsageError
from ..url import DeviceURL
from . import namespaces
from .cable import CABLES
from .control import Control
from .daemon import HostConfig
from .errors import HostFailed, NoHosts
from .inside import INNER_VARIABLE
from .rundirectory import clear, failure, last_line, running
from .shared import SOCKET_VARIABLE
from .wire import Conditions

__all__ = ["HOSTS", "Hosts", "HostsConfig"]

#: Names of the hosts, with the last byte of their addresses.
HOSTS = {"a": 1, "b": 2}
_NETWORK, _PREFIX = "10.77.0", 24
_END_LIMIT = 10.0
#: Bytes of a directory whose sockets' paths are not too long.
_PATH_MOST = 90


@dataclass(frozen=True)
class HostsConfig:
    """What hosts are made of.

    ``conditions`` are those of the wire from a host, by its name; ``seed`` is of what happens on it. ``coalesce``: NIC
    cycles that a header may wait to be merged; 0: none is. ``mtu``: bytes of an IPv4 packet. ``cable``: how the kernel
    and the NIC are connected, ``veth`` or ``tap``; by default the first that can be had.
    """

    device: str = "model:zeronic"
    conditions: Mapping[str, Conditions] = field(default_factory=dict)
    seed: int = 1
    mtu: int = namespaces.MTU
    coalesce: int = 4096
    cable: str = ""

    def __post_init__(self) -> None:
        if not 576 <= self.mtu <= 9216:
            raise UsageError(f"mtu must be 576 to 9216, not {self.mtu}")
        if not 0 <= self.coalesce < 1 << 24:
            raise UsageError(f"coalesce must be 0 to {(1 << 24) - 1}, not {self.coalesce}")
        if self.cable not in ("", *CABLES):
            raise UsageError(f"cable must be veth or tap, not {self.cable!r}")
        for host in self.conditions:
            if host not in HOSTS:
                raise UsageError(f"there is no host {host!r}: there are {', '.join(HOSTS)}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "HostsConfig":
        """The configuration whose :func:`dataclasses.asdict` these are."""
        conditions = {host: Conditions(**one) for host, one in fields["conditions"].items()}
        return cls(**{**fields, "conditions": conditions})

    def of_host(self, host: str, directory: Path) -> HostConfig:
        """The configuration of one."""
        others = [name for name in HOSTS if name != host]
        return HostConfig(
            host, f"{_address(host)}/{_PREFIX}", _mac(host), {_address(name): _mac(name) for name in others},
            self.device, str(directory), dataclasses.asdict(self.conditions.get(host, Conditions())),
            self.seed + HOSTS[host] - 1, self.mtu, self.coalesce, self.cable)


def _address(host: str) -> str:
    return f"{_NETWORK}.{HOSTS[host]}"


def _mac(host: str) -> str:
    return f"02:00:00:00:77:{HOSTS[host]:02x}"


class Hosts:
    """Hosts that are up, in ``directory``.

    >>> with Hosts.start(HostsConfig(), Path("/tmp/hosts")) as hosts:  # doctest: +SKIP
    ...     hosts.status("a")["stack"]["flows"]
    0
    """

    def __init__(self, directory: Path, process: subprocess.Popen | None = None):
        self.directory = directory
        self._process = process

    @classmethod
    def start(cls, config: HostsConfig, directory: Path, *, detached: bool = False,
              progress: Callable[[str], None] | None = None) -> "Hosts":
        """Bring hosts up. They end with the thread that calls this, unless they are ``detached`` from it.

        ``progress`` is told of each long step of building a ``sim:`` device, which is done here once for both.

        Raises
        ------
        NoHosts
            They cannot be here, or there are some in the directory; the text says why.
        UsageError, Unavailable
            The device cannot be had.
        """
        namespaces.check_possible()
        if DeviceURL.parse(config.device).scheme == "sim":
            open_device(config.device, memory="1M", progress=progress).close()
        directory = directory.absolute()
        if len(os.fsencode(directory)) > _PATH_MOST:
            raise UsageError(f"the path of hosts must have at most {_PATH_MOST} bytes, for their sockets, not "
                             f"{directory}")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (pid := running(directory)) is not None:
            raise NoHosts(f"hosts are up already in {directory} (process {pid}): end them with `rackgate zeronic down`")
        clear(directory)
        told, tell = os.pipe()
        arguments = {"config": dataclasses.asdict(config), "directory": str(directory), "ready": tell,
                     "owner": 0 if detached else os.getpid()}
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rackgate_host.zeronic.supervisor", json.dumps(arguments)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[tell], start_new_session=True, cwd="/")
        os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            message = json.loads(pipe.read() or b'{"error": "the supervisor has ended"}')
        if detached or message.get("error"):
            process.wait()
        if error := message.get("error"):
            raise failure(error, message.get("exit_code", 1), directory)
        return cls(directory, process)

    @classmethod
    def find(cls, directory: Path) -> "Hosts":
        """Hosts that are up. Raises :class:`NoHosts` if there are none, and tells how the last ones ended."""
        if running(directory) is None:
            last = last_line(directory)
            raise NoHosts("no simulated hosts are up: start them with `rackgate zeronic up`"
                          + (f" (the last ones: {last})" if last else ""))
        return cls(directory)

    def address(self, host: str) -> str:
        """The address of a host."""
        return _address(_known(host))

    def socket(self, host: str) -> Path:
        """The path where the host's applications find its daemon."""
        return self.directory / f"{_known(host)}.flows"

    def control(self, host: str) -> Control:
        """A connection to a host's daemon."""
        return Control(self.directory, _known(host))

    def status(self, host: str) -> dict[str, Any]:
        """What there is to tell of a host."""
        with self.control(host) as control:
            return control.status()

    def environment(self, host: str, split: bool = True) -> dict[str, str]:
        """Variables that programs on a host need beside their own, for their payload to go by the NIC alone.

        Without ``split`` they are those of programs whose payload goes through the kernel. Raises Unavailable if the
        sockets shim cannot be compiled.
        """
        if not split:
            return {}
        from .shim import library

        preloaded = [os.environ["LD_PRELOAD"]] if os.environ.get("LD_PRELOAD") else []
        return {SOCKET_VARIABLE: str(self.socket(host)), "LD_PRELOAD": ":".join([str(library()), *preloaded])}

    def popen(self, host: str, program: Sequence[str], *, split: bool = True, env: Mapping[str, str] | None = None,
              **options: Any) -> subprocess.Popen:
        """Start a program on a host; ``options`` as for :class:`subprocess.Popen`.

        The process ends with the program's exit code (128 and its signal's number if it was killed); to end the process
        ends the program and all that it has started.
        """
        own = {**(os.environ if env is None else env), INNER_VARIABLE: json.dumps(self.environment(host, split))}
        return subprocess.Popen(
            [sys.executable, "-m", "rackgate_host.zeronic.inside", str(self.directory), _known(host), *program],
            env=own, **options)

    @property
    def pid(self) -> int | None:
        """The supervisor's process, if it is there."""
        return running(self.directory)

    def stop(self) -> bool:
        """End the hosts, and wait until they are gone. False if there were none.

        Raises :class:`HostFailed` if they do not end.
        """
        pid = self.pid
        for number, limit in ((signal.SIGTERM, _END_LIMIT), (signal.SIGKILL, _END_LIMIT)):
            if (now := self.pid) is None:
                break
            try:
                os.kill(now, number)
            except ProcessLookupError:
                break
            end = time.monotonic() + limit
            while self.pid is not None and time.monotonic() < end:
                time.sleep(0.01)
        if self.pid is not None:
            raise HostFailed(f"the supervisor (process {self.pid}) does not end")
        if self._process is not None:
            self._process.wait()
        clear(self.directory)
        return pid is not None

    def __enter__(self) -> "Hosts":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _known(host: str) -> str:
    if host not in HOSTS:
        raise UsageError(f"there is no host {host!r}: there are {', '.join(HOSTS)}")
    return host
