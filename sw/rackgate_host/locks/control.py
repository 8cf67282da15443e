# SPDX-License-Identifier: Apache-2.0
"""How hosts join and leave a lock service: small messages beside the locks' own, on the same sockets.

A host says HELLO and how to reach it; the service tells all others of it, and only when each has answered (KNOWN) it
sends WELCOME. So every host knows all that may hold a lock before they can. All are sent again until they are answered.

They are JSON behind a word that no lock packet begins with.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import UsageError

__all__ = ["Address", "Peer", "decode", "encode", "parse_address", "peers_of", "show_address"]

_WORD = b"rackgate-locks-1 "

#: IP address and UDP port.
Address = tuple[str, int]


class Peer(NamedTuple):
    """Where a host is: its IP address, and its ports for what is meant for agents and for what is meant for clients."""

    address: str
    agent_port: int
    client_port: int

    def port(self, to_client: bool) -> Address:
        """One of its ports."""
        return self.address, self.client_port if to_client else self.agent_port


def encode(operation: str, **fields: Any) -> bytes:
    """A message."""
    return _WORD + json.dumps({"op": operation, **fields}, separators=(",", ":")).encode()


def decode(content: bytes) -> dict[str, Any] | None:
    """The fields of a message, its operation as ``op``; None for what is none, such as a lock packet."""
    if not content.startswith(_WORD):
        return None
    try:
        message = json.loads(content[len(_WORD):])
    except ValueError:
        return None
    return message if isinstance(message, dict) and isinstance(message.get("op"), str) else None


def peers_of(value: Any) -> dict[int, Peer]:
    """The hosts that a message lists. Raises ValueError if it does not list hosts."""
    if not isinstance(value, Mapping):
        raise ValueError("hosts must be an object")
    try:
        return {int(number): Peer(str(peer[0]), int(peer[1]), int(peer[2])) for number, peer in value.items()}
    except (TypeError, IndexError, KeyError) as error:
        raise ValueError(f"not a host: {error}") from None


def parse_address(text: str) -> Address:
    """``IP:PORT``, version 4 of IP or a name. Raises :class:`UsageError`."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or ":" in host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"an address must look like 127.0.0.1:20000, not {text!r}")
    return host, int(port)


def show_address(address: Address) -> str:
    """As :func:`parse_address` reads it."""
    return f"{address[0]}:{address[1]}"
