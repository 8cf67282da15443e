# SPDX-License-Identifier: Apache-2.0
"""The ``udp:`` world: a board on Ethernet, each message a datagram."""

import socket
from typing import Any

from rackgate.bridge.abi import MESSAGE_BYTES, UDP_PORT

from ..errors import DeviceFault, Unavailable, UsageError
from .remote import RemoteTransport, remote_options

__all__ = ["UdpLink", "attach", "split_address"]


def split_address(text: str, default_port: int, example: str, least_port: int = 1) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port``, ``[IPv6]`` or ``[IPv6]:port``. Raises UsageError for anything else."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port, is_good = rest[1:], bool(bracket) and (not rest or rest.startswith(":"))
    else:
        host, colon, port = text.partition(":")
        is_good = ":" not in port
        rest = colon + port
    if is_good and host and not rest:
        return host, default_port
    is_good = is_good and bool(host) and port.isascii() and port.isdigit() and least_port <= int(port) < 1 << 16
    if not is_good:
        raise UsageError(f"an address must look like {example}, not {text!r}")
    return host, int(port)


def attach(place: str, options: dict[str, Any]) -> RemoteTransport:
    """The device at ``place``. Takes the option ``timeout`` (seconds) out of ``options``."""
    host, port = split_address(place, UDP_PORT, "192.0.2.10 or 192.0.2.10:21074")
    timeout = remote_options(options)
    return RemoteTransport(UdpLink(host, port), timeout)


class UdpLink:
    """Datagrams to and from one address."""

    bytes_per_second = 0.0
    is_reliable = False

    def __init__(self, host: str, port: int):
        self.name = f"udp:[{host}]:{port}" if ":" in host else f"udp:{host}:{port}"
        self._is_refused = False
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, protocol)
        except OSError as error:
            raise Unavailable(f"{self.name}: {error.strerror or error}") from None
        try:
            self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"{self.name}: {error.strerror or error}") from None

    def send(self, message: bytes) -> None:
        """Send a datagram."""
        try:
            self._socket.send(message)
        except ConnectionError:
            self._is_refused = True
        except (BlockingIOError, TimeoutError):
            pass  # no room: it is lost, as on the way
        except OSError as error:
            raise DeviceFault(f"{self.name}: the link has gone: {error.strerror or error}") from None

    def receive(self, seconds: float) -> bytes | None:
        """The next datagram."""
        self._socket.settimeout(max(seconds, 0.0))
        try:
            message = self._socket.recv(MESSAGE_BYTES + 1)
        except (BlockingIOError, TimeoutError):
            return None
        except ConnectionError:
            self._is_refused = True
            return None
        except OSError as error:
            raise DeviceFault(f"{self.name}: the link has gone: {error.strerror or error}") from None
        self._is_refused = False
        return message

    def hint(self) -> str:
        """Why nothing comes."""
        if self._is_refused:
            return "there is a host at this address, and nobody listens at the port: check the URL"
        return "check address and cable, and that the board is programmed (`ping` should answer)"

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
