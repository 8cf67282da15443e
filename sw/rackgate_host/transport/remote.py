# SPDX-License-Identifier: Apache-2.0
"""Devices behind a cable: registers and memory by messages to a bridge (:mod:`rackgate.bridge.abi`)."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from rackgate.bridge.abi import BODY_WORDS, FormatError, Status, StatusFlag, StatusWord, pack_words, unpack_words
from rackgate.bridge.identity import IDENTITY_WORDS, Identity
from rackgate.bridge.operations import (
    DATA_WORDS,
    READS,
    Opcode,
    Operation,
    Result,
    read,
    unpack_results,
    write,
    write_memory,
)

from ..errors import DeviceFault, Unavailable, UsageError
from ..url import fraction
from .session import Link, Session

__all__ = ["RemoteTransport", "TIMEOUT", "remote_options"]

#: Seconds without any answer after which a device is given up, unless asked otherwise.
TIMEOUT = 3.0

#: Seconds for which an answer tells how the device is now.
_FRESH = 1e-3
#: Seconds between two looks at a device that is waited for, at first and at most.
_GLANCE, _REST = 5e-5, 5e-3
#: Header and CRC of a message, and a word that is kept for the result of a failure.
_OVERHEAD_WORDS, _SPARE_WORDS = 4, 1

_STATUS = read(Opcode.READ_STATUS, 4 * StatusWord.FLAGS, 3)

_SPACES = {
    Opcode.READ_REGISTERS: "read of register", Opcode.WRITE_REGISTERS: "write of register",
    Opcode.READ_MEMORY: "read of device memory at", Opcode.WRITE_MEMORY: "write of device memory at",
    Opcode.READ_STATUS: "read of status word at", Opcode.READ_IDENTITY: "read of the identity at",
}
_REASONS = {
    Status.SLVERR: "the device refused it",
    Status.DECERR: "there is nothing at this address",
    Status.MALFORMED: "the bridge does not understand it",
    Status.TIMEOUT: "the device's bus did not answer",
    Status.HELD: "another client of the server drives the device, until it closes it",
}


def remote_options(options: dict[str, Any], default: float = TIMEOUT) -> float:
    """Take what all links have in common out of ``options``: the time-out."""
    timeout = fraction("timeout", options.pop("timeout", default))
    if not timeout > 0:
        raise UsageError(f"option timeout must be positive, not {timeout:g}")
    return timeout


def _what(operation: Operation) -> str:
    return f"{_SPACES[Opcode(operation.opcode)]} {operation.address + operation.skip:#x}"


class RemoteTransport:
    """Access to a device over a link.

    Writes of memory are collected, and go with the next access that has an answer to wait for, before it: a register
    is never written before all memory is that was written earlier. One that fails is reported then.

    Time passes by itself, so :meth:`run` only waits; :attr:`cycle` and :attr:`irq` are at most a millisecond old.

    Parameters
    ----------
    link:
        How messages get there. Closed with the transport.
    timeout:
        Seconds without any answer after which the device is given up.

    Attributes
    ----------
    identity:
        What the device says of itself.
    session:
        The session with its bridge.

    Raises
    ------
    DeviceTimeout
        There is no answer.
    DeviceMismatch
        The bridge speaks another version of the protocol.
    DeviceFault
        What answers is no bridge.
    """

    def __init__(self, link: Link, timeout: float = TIMEOUT):
        self._name = link.name
        self.memory: np.ndarray | None = None
        self._posted: list[Operation] = []
        self._posted_words = 0
        self._cycle, self._irq, self._seen_at = 0, False, 0.0
        try:
            self.session = Session(link, timeout)
            terms = self.session.terms
            self.memory_base, self.memory_size = terms.memory_base, terms.memory_size
            self._body_words = min(BODY_WORDS, terms.message_bytes // 4 - _OVERHEAD_WORDS)
            self._data_words = min(DATA_WORDS, self._body_words - 2) & ~1  # whole beats of the device's bus
            self.identity = self._read_identity(terms.identity_words)
            self._look()
        except BaseException:
            link.close()
            raise
        self._start = self._cycle

    def _read_identity(self, words: int) -> Identity:
        if not 0 < words <= IDENTITY_WORDS:
            raise DeviceFault(f"{self._name}: the bridge has an identity of {words} words, not 1 to {IDENTITY_WORDS}")
        raw = b"".join(result.data for result in self._perform(self._reads(Opcode.READ_IDENTITY, 0, words)))
        try:
            return Identity.unpack(raw)
        except FormatError as error:
            raise DeviceFault(f"{self._name}: the device does not say what it is: {error}") from None

    # Operations

    def _reads(self, opcode: Opcode, address: int, words: int) -> list[Operation]:
        return [read(opcode, address + 4 * first, min(self._data_words, words - first))
                for first in range(0, words, self._data_words)]

    def _messages(self, operations: Iterable[Operation]) -> list[list[Operation]]:
        """Operations by message, as many in each as there is room for in it and its answer."""
        messages: list[list[Operation]] = [[]]
        there = back = 0
        for one in operations:
            there, back = there + one.request_words, back + one.response_words
            if messages[-1] and (there > self._body_words or back > self._body_words - _SPARE_WORDS):
                messages.append([])
                there, back = one.request_words, one.response_words
            messages[-1].append(one)
        return messages

    def _perform(self, operations: Sequence[Operation], *, may_fail: bool = False) -> list[Result]:
        """Do what is posted, then ``operations``, which all go into one message or are reads of memory.

        Returns their results. Raises :class:`DeviceFault` for the first that fails; with ``may_fail`` the result of
        one that the device refuses is returned.
        """
        messages = self._messages([*self._posted, *operations, _STATUS])
        if len(messages) > 1 and self._posted:
            # Messages are executed each for itself: what follows must not happen if something of this fails.
            self._flush()
            messages = self._messages([*operations, _STATUS])
        posted = len(self._posted)
        self._posted, self._posted_words = [], 0
        results = self._exchange(messages, may_fail)
        if len(results) > posted + len(operations):
            self._see(results.pop())
        return results[posted:]

    def _flush(self) -> None:
        """Do what is posted."""
        messages = self._messages(self._posted)
        self._posted, self._posted_words = [], 0
        if messages[0]:
            self._exchange(messages, may_fail=False)

    def _exchange(self, messages: list[list[Operation]], may_fail: bool) -> list[Result]:
        bodies = self.session.exchange([b"".join(one.pack() for one in message) for message in messages],
                                       _what(messages[0][0]))
        results = []
        for message, body in zip(messages, bodies, strict=True):
            try:
                answers = unpack_results(body)
            except FormatError as error:
                self._reject(str(error))
            for operation, result in zip(message, answers, strict=False):
                if result.opcode != operation.opcode:
                    self._reject(f"{_what(operation)} is answered as another operation")
                if result.status == Status.OK:
                    if len(result.data) != 4 * operation.count * (operation.opcode in READS):
                        self._reject(f"{_what(operation)} of {operation.count} words is answered with "
                                     f"{len(result.data)} bytes")
                elif not may_fail or result.status not in (Status.SLVERR, Status.DECERR):
                    kind = Unavailable if result.status == Status.HELD else DeviceFault
                    raise kind(f"{_what(operation)}: {_REASONS[result.status]}")
            if len(answers) != len(message) and (not answers or len(answers) > len(message)
                                                 or answers[-1].status == Status.OK):
                self._reject(f"{len(message)} operations have {len(answers)} results")
            results += answers
        return results

    def _reject(self, why: str) -> NoReturn:
        raise DeviceFault(f"{self._name}: the bridge's answer makes no sense: {why}")

    # State

    def _look(self) -> None:
        self._perform(())

    def _see(self, status: Result) -> None:
        flags, low, high = unpack_words(status.data)
        self._irq, self._cycle = bool(flags & StatusFlag.INTERRUPT), high << 32 | low
        self._seen_at = time.monotonic()

    def _refresh(self) -> None:
        if time.monotonic() - self._seen_at > _FRESH:
            self._look()

    @property
    def cycle(self) -> int:
        """Device clock cycles since the transport was opened, as of a millisecond ago at most."""
        self._refresh()
        return self._cycle - self._start

    @property
    def irq(self) -> bool:
        """Level of the interrupt, as of a millisecond ago at most, and not before the last access."""
        self._refresh()
        return self._irq

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Wait until ``cycles`` have passed, with ``until_interrupt`` not once the interrupt is high."""
        if until_interrupt and self.irq:
            return
        end, glance = self.cycle + cycles, _GLANCE
        while True:
            self._look()
            left = end - (self._cycle - self._start)
            if left <= 0 or until_interrupt and self._irq:
                return
            time.sleep(min(glance, left / (1e3 * self.identity.clock_khz or 1e6)))
            glance = min(2 * glance, _REST)

    # Registers and memory

    def read_register(self, offset: int) -> int:
        """The 32-bit register at byte ``offset``. Raises :class:`DeviceFault` if the device refuses it."""
        return unpack_words(self._perform([read(Opcode.READ_REGISTERS, offset)])[0].data)[0]

    def write_register(self, offset: int, value: int) -> None:
        """Write 32 bits to the register at byte ``offset``. Raises :class:`DeviceFault` if the device refuses it."""
        self._perform([write(offset, pack_words([value]))])

    def write_block(self, offset: int, words: Sequence[int]) -> bool:
        """Write consecutive words. Whether the last one was not refused."""
        return self._perform([write(offset, pack_words(words))], may_fail=True)[0].status == Status.OK

    def read_memory(self, address: int, size: int) -> bytes:
        """``size`` bytes of device memory."""
        if not size:
            return b""
        skip = address % 4
        words = (skip + size + 3) // 4
        results = self._perform(self._reads(Opcode.READ_MEMORY, address - skip, words))
        return b"".join(result.data for result in results)[skip:skip + size]

    def write_memory(self, address: int, content: bytes) -> None:
        """Store ``content`` in device memory, with the next access at the latest."""
        step = 4 * self._data_words
        first = 0
        while first < len(content):
            end = min(len(content), (address + first) // 4 * 4 + step - address)
            self._posted.append(write_memory(address + first, content[first:end]))
            self._posted_words += self._posted[-1].request_words
            first = end
        if self._posted_words > self._body_words * self.session.terms.window:
            self._flush()

    def counters(self) -> dict[str, int]:
        """What the bridge has counted since its reset, by the names of :class:`~rackgate.bridge.abi.StatusWord`."""
        counting = [word for word in StatusWord if word >= StatusWord.EXECUTED]
        values = unpack_words(self._perform([read(Opcode.READ_STATUS, 4 * counting[0], len(counting))])[0].data)
        return {word.name.lower(): value for word, value in zip(counting, values, strict=True)}

    # Streams

    def push(self, stream: str, packet: bytes) -> None:
        """Not to be had: a board's packets go through its own network port. Raises :class:`Unavailable`."""
        raise Unavailable(f"{self._name}: packets of {stream} come and go at the board's network port, not here")

    def pop(self, stream: str) -> bytes | None:
        """Not to be had; see :meth:`push`."""
        self.push(stream, b"")

    def state(self) -> str:
        """How the link did."""
        counts = self.session.counts
        return (f"{self._name}: {counts.requests} requests, {counts.resent} sent again, {counts.damaged} damaged and "
                f"{counts.stray} stray answers; interrupt {'high' if self._irq else 'low'} at cycle "
                f"{self._cycle - self._start}")

    def close(self) -> None:
        """Write what is posted, and let go of the link."""
        try:
            self._flush()
        finally:
            self.session.close()
