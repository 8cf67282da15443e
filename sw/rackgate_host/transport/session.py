# SPDX-License-Identifier: Apache-2.0
"""A session with a bridge over a link that may lose messages: each request is executed once, or the host hears why not.

The rules are those of :mod:`rackgate.bridge.abi`.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from rackgate.bridge.abi import (
    NO_SESSION,
    PROTOCOL,
    WINDOW,
    FormatError,
    Kind,
    Message,
    Refusal,
    Terms,
    VersionError,
    pack_message,
    pack_words,
    unpack_message,
    unpack_refusal,
)

from ..errors import DeviceFault, DeviceMismatch, DeviceTimeout

__all__ = ["Counts", "Link", "Session"]

_WORD = 0xFFFFFFFF

#: Seconds after which a request is sent again: at first, at least and at most.
_FIRST, _LEAST, _MOST = 0.2, 0.01, 2.0


class Link(Protocol):
    """Carries messages, each whole or not at all.

    ``name`` is for messages to people. ``bytes_per_second`` is how much a direction carries, 0 for more than matters.
    With ``is_reliable`` nothing is lost on it, or all: nothing is ever sent again.
    """

    name: str
    bytes_per_second: float
    is_reliable: bool

    def send(self, message: bytes) -> None:
        """Send a message; it may be lost. Does not wait for it to be on its way."""
        ...

    def receive(self, seconds: float) -> bytes | None:
        """The next message, or what may be one; ``None`` if there was none for so long. Raises DeviceFault if the link
        has gone."""
        ...

    def hint(self) -> str:
        """What is known of why nothing comes, and what to do: the end of a sentence."""
        ...

    def close(self) -> None:
        """Let go of the link."""
        ...


@dataclass
class Counts:
    """What a session has counted."""

    requests: int = 0
    resent: int = 0
    damaged: int = 0
    stray: int = 0


class _RoundTrip:
    """How long answers take (RFC 6298), without what the link's own rate makes of it."""

    def __init__(self) -> None:
        self.limit = _FIRST
        self._mean: float | None = None
        self._deviation = 0.0

    def sample(self, seconds: float) -> None:
        """An answer to a message that was sent once came after so long."""
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += (abs(seconds - self._mean) - self._deviation) / 4
            self._mean += (seconds - self._mean) / 8
        self.limit = min(max(self._mean + 4 * self._deviation, _LEAST), _MOST)

    def back_off(self) -> None:
        """There was no answer in time."""
        self.limit = min(2 * self.limit, _MOST)


class Session:
    """Requests to a bridge, each executed once. Opened by the constructor.

    Parameters
    ----------
    link:
        How messages get there. Closed with the session.
    timeout:
        Seconds without any answer after which the bridge is given up.

    Attributes
    ----------
    terms:
        What the bridge said when it was opened.
    counts:
        Requests, and what went wrong on the way.

    Raises
    ------
    DeviceTimeout
        There is no answer.
    DeviceMismatch
        The bridge speaks another version of the protocol.
    """

    def __init__(self, link: Link, timeout: float):
        if not timeout > 0:
            raise ValueError(f"timeout must be positive, not {timeout}")
        self.link = link
        self.timeout = timeout
        self.counts = Counts()
        self._round_trip = _RoundTrip()
        self._number = NO_SESSION
        self._own: set[int] = set()  # sessions of ours that may be open
        self._next = 0
        self._is_current = False  # nothing of this session is unanswered
        self._loss = ""  # why the session is over for good
        self.terms = self._open()

    @property
    def number(self) -> int:
        """The session's number."""
        return self._number

    def _open(self) -> Terms:
        """Open a new session in place of whichever is open; after the first time, only in place of an own one."""
        believed, self._number = self._number, secrets.randbelow(_WORD) + 1
        is_first, self._next = not self._own, 0
        self._own.add(self._number)
        give_up, attempt = time.monotonic() + self.timeout, 0
        while True:
            attempt += 1
            # Their sequence numbers are none that a request will have, so no late answer is taken for one to it.
            message = Message(Kind.OPEN, self._number, _WORD - attempt, pack_words([believed]))
            self.link.send(pack_message(message))
            patience = inf if self.link.is_reliable else self._round_trip.limit + self.wire_time(1)
            end = min(time.monotonic() + patience, give_up)
            answer = self._answer_to_open(message.sequence, end)
            if isinstance(answer, Terms):
                self._own, self._is_current = {self._number}, True
                return answer
            if answer is None:
                self._round_trip.back_off()
            elif is_first or answer in self._own:
                believed = answer
            else:
                self._lose(answer)
            if time.monotonic() >= give_up:
                raise DeviceTimeout(f"{self.link.name}: no answer to {attempt} attempts to open a session within "
                                    f"{self.timeout:g} s: {self.link.hint()}")

    def _answer_to_open(self, sequence: int, end: float) -> Terms | int | None:
        """The terms; or the session that is open instead; or nothing until ``end``."""
        while (left := end - time.monotonic()) > 0:
            message = self._receive(left)
            if message is None or message.session != self._number:
                continue
            try:
                if message.kind == Kind.OPENED:
                    return self._checked(Terms.unpack(message.body))
                if message.kind == Kind.REFUSED and message.sequence == sequence:
                    return unpack_refusal(message.body)[1]
            except FormatError as error:
                raise self._nonsense(error) from None
        return None

    def _checked(self, terms: Terms) -> Terms:
        if not 1 <= terms.window <= WINDOW or terms.message_bytes < 256 or terms.memory_base % 8 \
                or terms.memory_size % 8 or terms.memory_base + terms.memory_size > 1 << 32:
            raise self._nonsense(FormatError(f"it offers {terms}"))
        return terms

    def _nonsense(self, error: Exception) -> DeviceFault:
        self._is_current = False
        return DeviceFault(f"{self.link.name}: what answers is no bridge, or is broken: {error}")

    def _lose(self, open_session: int) -> None:
        """The session is over: the bridge says which is open."""
        self._loss = (f"another host has opened it (session {open_session:#010x})" if open_session != NO_SESSION else
                      "it was reset or programmed anew")
        self._check_not_lost()

    def _check_not_lost(self) -> None:
        if self._loss:
            raise DeviceFault(f"{self.link.name}: the device is ours no more, {self._loss}: open it again")

    def wire_time(self, messages: int) -> float:
        """Seconds that so many requests and their answers may take on the link alone."""
        rate = self.link.bytes_per_second
        return 2 * messages * 1500 / rate if rate else 0.0

    def _receive(self, seconds: float) -> Message | None:
        raw = self.link.receive(seconds)
        if raw is None:
            return None
        try:
            return unpack_message(raw)
        except VersionError as error:
            raise DeviceMismatch(f"{self.link.name}: the bridge speaks version {error.version} of the protocol, this "
                                 f"package {PROTOCOL}: build both from the same version") from None
        except FormatError:
            self.counts.damaged += 1
            return None

    def exchange(self, bodies: Sequence[bytes], what: str) -> list[bytes]:
        """Have requests executed, in order, and return the bodies of their responses.

        ``what`` they are, for messages. Several are under way at a time, so one is executed although an operation of
        the one before it fails.

        Raises
        ------
        DeviceTimeout
            There was no answer for so long. What was under way was executed once or not at all, now and later.
        DeviceFault
            The bridge has been reset, or opened by another host; or the link has gone.
        """
        self._check_not_lost()
        if not self._is_current:
            terms = self._open()
            if terms != self.terms:
                raise DeviceFault(f"{self.link.name}: another device answers than was opened: open it again")
        self._is_current = False
        responses = _Exchange(self, bodies, what).run()
        self._is_current = True
        return responses

    def close(self) -> None:
        """Let go of the link. A bridge needs no goodbye."""
        self.link.close()


class _Exchange:
    """Some requests under way."""

    def __init__(self, session: Session, bodies: Sequence[bytes], what: str):
        self._session, self._link, self._what = session, session.link, what
        self._first = session._next
        self._bodies = bodies
        self._messages: list[bytes] = []
        self._sent_at: list[float | None] = []  # None: sent more than once, so an answer tells no time
        self._responses: list[bytes | None] = [None] * len(bodies)
        self._oldest = 0  # of those without an answer
        self._hurried = -1  # the one that was sent again because a later one was answered

    def run(self) -> list[bytes]:
        """Send all, and again, until all are answered."""
        session, window = self._session, self._session.terms.window
        now = last = time.monotonic()  # of the last answer
        resend_at = now
        while self._oldest < len(self._bodies):
            while len(self._messages) < min(len(self._bodies), self._oldest + window):
                self._send_next(now)
                resend_at = now + self._patience()
            give_up = last + session.timeout + self._wire_time()
            message = session._receive(max(0.0, min(resend_at, give_up) - now))
            now = time.monotonic()
            if message is not None and self._take(message, now):
                resend_at, last = now + self._patience(), now
            elif now >= give_up:
                raise DeviceTimeout(f"{self._link.name}: no answer to {self._what} (request "
                                    f"{self._first + self._oldest & _WORD} of the session) for {session.timeout:g} s: "
                                    f"{self._link.hint()}")
            elif now >= resend_at:
                session._round_trip.back_off()
                for place in range(self._oldest, len(self._messages)):
                    self._send_again(place)
                resend_at = now + self._patience()
        return [response for response in self._responses if response is not None]

    def _wire_time(self) -> float:
        return self._session.wire_time(len(self._messages) - self._oldest)

    def _patience(self) -> float:
        """Seconds to wait for an answer before sending again."""
        return inf if self._link.is_reliable else self._session._round_trip.limit + self._wire_time()

    def _send_next(self, now: float) -> None:
        session, place = self._session, len(self._messages)
        self._messages.append(pack_message(Message(Kind.REQUEST, session.number, session._next, self._bodies[place])))
        session._next = (session._next + 1) & _WORD
        session.counts.requests += 1
        self._sent_at.append(now)
        self._link.send(self._messages[place])

    def _send_again(self, place: int) -> None:
        if self._responses[place] is None:
            self._session.counts.resent += 1
            self._sent_at[place] = None
            self._link.send(self._messages[place])

    def _take(self, message: Message, now: float) -> bool:
        """Whether a message answers one of the requests for the first time."""
        session = self._session
        place = (message.sequence - self._first) & _WORD
        is_ours = message.session == session.number and place < len(self._messages)
        if is_ours and message.kind == Kind.REFUSED:
            try:
                reason, open_session = unpack_refusal(message.body)
            except FormatError as error:
                raise session._nonsense(error) from None
            if reason == Refusal.SESSION and open_session != session.number:
                session._lose(open_session)
        if not is_ours or message.kind != Kind.RESPONSE or self._responses[place] is not None:
            session.counts.stray += 1
            return False
        self._responses[place] = message.body
        if (sent_at := self._sent_at[place]) is not None:
            session._round_trip.sample(now - sent_at)
        while self._oldest < len(self._messages) and self._responses[self._oldest] is not None:
            self._oldest += 1
        if self._oldest < place and self._hurried != self._oldest and not self._link.is_reliable:
            # Answers come in order: this one's was lost, or is late.
            self._hurried = self._oldest
            self._send_again(self._oldest)
        return True
