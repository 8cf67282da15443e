# SPDX-License-Identifier: Apache-2.0
"""One client of a server: its greeting, and what it may do to the board."""

import contextlib
import hmac
import json
import secrets
import select
import socket
from typing import TYPE_CHECKING

from rackgate.bridge.abi import (
    NO_SESSION,
    WINDOW,
    FormatError,
    Kind,
    Message,
    Refusal,
    Status,
    Terms,
    pack_message,
    pack_words,
    unpack_message,
)
from rackgate.bridge.operations import (
    MEMORY_OPCODES,
    Opcode,
    Result,
    pack_results,
    unpack_operations,
    unpack_results,
)

from ..errors import OutOfDeviceMemory, RackgateError
from .hello import VERSION, Broken, frame, proof, read_frame, read_line, write_line

if TYPE_CHECKING:
    from .server import Server

__all__ = ["Connection"]

#: Seconds that a client has for its greeting, or to take an answer; and between two looks at whether to end.
_GREETING, _TICK = 5.0, 0.2
#: Letters of the longest sentence that a client is told.
_LONGEST = 300
#: Seconds of silence, between two questions, and questions without an answer: then a client's host is gone.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class Connection:
    """A client's connection, served by a thread of its own.

    Parameters
    ----------
    server:
        Whose client it is.
    connection:
        The socket. Closed when :meth:`serve` ends.
    name:
        Of the client, for messages.
    """

    def __init__(self, server: "Server", connection: socket.socket, name: str):
        self.server, self.name = server, name
        self._connection = connection
        self._raw = bytearray()
        self._session, self._expected = NO_SESSION, 0
        self._base = self._size = 0

    def turn_away(self) -> None:
        """There are too many."""
        with self._connection:
            self._connection.settimeout(_GREETING)
            with contextlib.suppress(OSError):
                self._say({"rackgate": VERSION, "challenge": "", "token": False})
                self._say({"error": "there are too many clients already"})

    def serve(self) -> None:
        """Greet it, and serve it until it goes or breaks a rule."""
        with self._connection:
            try:
                self._connection.settimeout(_GREETING)
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in _KEEPALIVE:
                    self._connection.setsockopt(socket.IPPROTO_TCP, option, value)
                if not self._greet():
                    return
            except (Broken, OSError) as error:
                self.server.report(f"{self.name}: no greeting: {error}")
                return
            self.server.report(f"{self.name} came, with {self._size} bytes at {self._base:#x}")
            why = "it closed the device"
            try:
                self._loop()
            except (Broken, OSError) as error:
                why = str(error)
            finally:
                self.server.give_back(self._base, self._size, self)
                self.server.report(f"{self.name} went: {why}")

    def _say(self, said: dict[str, object]) -> None:
        write_line(self._connection, said)

    def _greet(self) -> bool:
        challenge = secrets.token_hex(32)
        token = self.server.token
        self._say({"rackgate": VERSION, "challenge": challenge, "token": bool(token)})
        hello = read_line(self._connection)
        wanted = hello.get("memory")
        if hello.get("rackgate") != VERSION:
            self._say({"error": f"the server speaks version {VERSION}"})
        elif token and not hmac.compare_digest(str(hello.get("proof")).encode(), proof(token, challenge).encode()):
            self._say({"error": "the token is wrong"})
            self.server.report(f"{self.name}: wrong token")
        elif wanted is not None and (type(wanted) is not int or not 0 < wanted < 1 << 32):
            self._say({"error": f"memory must be a number of bytes, not {wanted!r}"})
        else:
            try:
                self._base, self._size = self.server.take_memory(wanted)
            except OutOfDeviceMemory as error:
                self._say({"error": str(error)})
                return False
            try:
                self._say({"device": self.server.url})
            except OSError:
                self.server.give_back(self._base, self._size, self)
                raise
            return True
        return False

    def _loop(self) -> None:
        self._connection.setblocking(False)
        while not self.server.ends.is_set():
            if not select.select([self._connection], [], [], _TICK)[0]:
                continue
            part = self._connection.recv(1 << 16)
            if not part:
                return
            self._raw += part
            while messages := self._arrived():
                self._send(b"".join(frame(answer) for answer in self._answers(messages)))
        failure = self.server.failure
        self._send(_notice(str(failure) if failure else "the server has been stopped"))

    def _arrived(self) -> list[Message]:
        """Messages that have arrived, at most a window of them."""
        messages: list[Message] = []
        while len(messages) < WINDOW and (raw := read_frame(self._raw)) is not None:
            try:
                messages.append(unpack_message(raw))
            except FormatError as error:
                raise Broken(f"it sends no messages: {error}") from None
        return messages

    def _send(self, raw: bytes) -> None:
        self._connection.settimeout(_GREETING)
        self._connection.sendall(raw)
        self._connection.setblocking(False)

    def _answers(self, messages: list[Message]) -> list[bytes]:
        """Answers to messages, in order."""
        answers: list[bytes] = []
        requests: list[Message] = []
        for message in messages:
            if message.kind == Kind.REQUEST and message.session == self._session != NO_SESSION:
                if message.sequence != self._expected:
                    raise Broken(f"its request has number {message.sequence}, not {self._expected}")
                self._expected = (self._expected + 1) & 0xFFFFFFFF
                requests.append(message)
                continue
            answers += self._responses(requests)
            requests = []
            answers.append(self._open(message))
        return answers + self._responses(requests)

    def _open(self, message: Message) -> bytes:
        if message.kind != Kind.OPEN or message.session == NO_SESSION:
            body = pack_words((Refusal.SESSION, self._session))
            return pack_message(Message(Kind.REFUSED, message.session, message.sequence, body))
        self._session, self._expected = message.session, 0
        board = self.server.session.terms
        terms = Terms(WINDOW, board.message_bytes, self._base, self._size, board.identity_words)
        return pack_message(Message(Kind.OPENED, message.session, message.sequence, terms.pack()))

    def _responses(self, requests: list[Message]) -> list[bytes]:
        """Responses to requests: what may be done of them, the board does."""
        permitted = [self._permitted(message.body) for message in requests]
        asked = [body for body, _ in permitted if body]
        try:
            done = iter(self.server.execute(asked, self.name) if asked else ())
        except RackgateError as error:
            is_timeout = isinstance(error, TimeoutError)
            if not is_timeout:
                self.server.fail(error)
            self._send(_notice(str(error), is_timeout))
            raise Broken(str(error)) from None
        responses = []
        for message, (body, failure) in zip(requests, permitted, strict=True):
            results = next(done) if body else b""
            if failure is not None and _is_all_done(results, body):
                results += pack_results([failure])
            responses.append(pack_message(Message(Kind.RESPONSE, self._session, message.sequence, results)))
        return responses

    def _permitted(self, body: bytes) -> tuple[bytes, Result | None]:
        """The operations of a request before the first that must not be done, and the result of that one."""
        place = 0
        try:
            for operation in unpack_operations(body):
                if operation.opcode in MEMORY_OPCODES:
                    end = operation.address + 4 * operation.count
                    if not self._base <= operation.address <= end <= self._base + self._size:
                        return body[:place], Result(operation.opcode, Status.DECERR)
                if operation.opcode == Opcode.WRITE_REGISTERS and not self.server.may_write(self):
                    return body[:place], Result(operation.opcode, Status.HELD)
                place += 4 * operation.request_words
        except FormatError as error:
            return body[:place], Result(error.args[1], Status.MALFORMED)
        return body, None


def _notice(sentence: str, is_timeout: bool = False) -> bytes:
    return frame(json.dumps({"error": sentence.partition("\n")[0][:_LONGEST], "timeout": is_timeout}).encode())


def _is_all_done(results: bytes, body: bytes) -> bool:
    """Whether nothing failed of what was asked for."""
    return not body or all(one.status == Status.OK for one in unpack_results(results))
