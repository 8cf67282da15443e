# SPDX-License-Identifier: Apache-2.0
"""Talking to the daemon of a simulated host: a JSON object a packet, on its control socket."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import HostFailed, NoHosts

__all__ = ["Control"]

_ANSWER_MOST = 1 << 18
_FRAME_MOST = 1 << 17


class Control:
    """A connection to a host's daemon.

    Parameters
    ----------
    directory:
        That of the hosts.
    host:
        Name of the one.
    timeout:
        Most seconds for an answer.

    Raises :class:`~rackgate_host.zeronic.errors.NoHosts` if there is none.
    """

    def __init__(self, directory: Path, host: str, timeout: float = 30.0):
        self.host = host
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(directory / f"{host}.control"))
        except OSError:
            self._socket.close()
            raise NoHosts(f"simulated host {host} is not up: start it with `rackgate zeronic up`") from None

    def fileno(self) -> int:
        """The connection's descriptor: it becomes readable when the host ends."""
        return self._socket.fileno()

    def _ask(self, operation: str) -> tuple[dict[str, Any], list[int]]:
        try:
            self._socket.send(json.dumps({"op": operation}).encode())
            content, files, *_ = socket.recv_fds(self._socket, _ANSWER_MOST, 1)
        except TimeoutError:
            raise HostFailed(f"simulated host {self.host} does not answer a request for {operation} within "
                             f"{self._socket.gettimeout():g} s") from None
        except OSError:
            content, files = b"", []
        if not content:
            raise HostFailed(f"simulated host {self.host} has ended")
        return json.loads(content), files

    def status(self) -> dict[str, Any]:
        """What there is to tell of the host."""
        return self._ask("status")[0]

    def namespace(self) -> int:
        """A descriptor of the applications' network namespace."""
        files = self._ask("enter")[1]
        if not files:
            raise HostFailed(f"simulated host {self.host} gave no namespace")
        os.set_inheritable(files[0], False)
        return files[0]

    def trace(self) -> None:
        """Have frames come from now on, for :meth:`frames`."""
        self._ask("trace")
        self._socket.setblocking(False)

    def frames(self) -> Iterator[bytes]:
        """The records of frames that have come. Raises :class:`~rackgate_host.zeronic.errors.HostFailed` at the end."""
        while True:
            try:
                record = self._socket.recv(_FRAME_MOST)
            except BlockingIOError:
                return
            except OSError:
                record = b""
            if not record:
                raise HostFailed(f"simulated host {self.host} has ended")
            yield record

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
