# SPDX-License-Identifier: Apache-2.0
"""What a client and the server of a board say to each other over TCP.

First a line of JSON each way, and an answer:

====================  ==========================================================================
server                ``rackgate``: :data:`VERSION`, ``challenge``: 32 random bytes in hexadecimal, ``token``: whether
                      one is needed
client                ``rackgate``, ``proof``: of the token or "" without one, ``memory``: bytes wanted, or null
server                ``device``: URL of the board; or ``error``: a sentence, and the connection ends
====================  ==========================================================================

Then frames both ways: 4 bytes of length, little endian, and a message as to a bridge (:mod:`rackgate.bridge.abi`). A
frame of the server that begins with a brace is JSON: ``error``, a sentence, and ``timeout``, whether the board did not
answer; with it the connection ends. Each connection has a session of its own, whose requests arrive in order.
"""

import hashlib
import hmac
import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rackgate.bridge.abi import MESSAGE_BYTES

from ..errors import UsageError

__all__ = ["ENVIRONMENT", "PORT", "VERSION", "Broken", "frame", "proof", "read_frame", "read_line", "read_token",
           "write_line"]

#: Version of what is said.
VERSION = 1
#: TCP port of a server.
PORT = 21075
#: Variable of the environment that holds the token, where no file is named.
ENVIRONMENT = "RACKGATE_TOKEN"

_LONGEST = 4096
_LEAST_TOKEN = 16
_LENGTH = struct.Struct("<I")


class Broken(Exception):
    """The other side does not speak as it should, or has gone; says how."""


def read_token(file: str | os.PathLike[str] | None) -> str:
    """The token in ``file``, else that of the environment, else "". Raises UsageError for one that is too short."""
    if file is not None:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the file of the token cannot be read: {error}") from None
    else:
        token = os.environ.get(ENVIRONMENT, "").strip()
        if not token:
            return ""
    if len(token) < _LEAST_TOKEN:
        raise UsageError(f"a token must have at least {_LEAST_TOKEN} letters, not {len(token)}")
    return token


def proof(token: str, challenge: str) -> str:
    """That its sender knows the token; of no use for another challenge."""
    return hmac.new(token.encode(), challenge.encode(), hashlib.sha256).hexdigest() if token else ""


def write_line(connection: socket.socket, said: Mapping[str, Any]) -> None:
    """Send a line."""
    connection.sendall(json.dumps(said).encode() + b"\n")


def read_line(connection: socket.socket) -> dict[str, Any]:
    """The next line. Raises :class:`Broken`, and TimeoutError when the connection's is over."""
    raw = b""
    while not raw.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte or len(raw) > _LONGEST:
            raise Broken("it has gone" if not byte else "its line is too long")
        raw += byte
    try:
        said = json.loads(raw)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Broken("its line is no JSON object")
    return said


def frame(message: bytes) -> bytes:
    """A message with its length."""
    return _LENGTH.pack(len(message)) + message


def read_frame(raw: bytearray) -> bytes | None:
    """Take the first frame out of what has arrived; ``None`` if it is not all there. Raises :class:`Broken`."""
    if len(raw) < _LENGTH.size:
        return None
    size, = _LENGTH.unpack_from(raw)
    if size > MESSAGE_BYTES:
        raise Broken(f"it sends a frame of {size} bytes")
    if len(raw) < _LENGTH.size + size:
        return None
    message = bytes(raw[_LENGTH.size:_LENGTH.size + size])
    del raw[:_LENGTH.size + size]
    return message
