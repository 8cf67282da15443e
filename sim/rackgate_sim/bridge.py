# SPDX-License-Identifier: Apache-2.0
"""Golden model of the bridge: the device's side of :mod:`rackgate.bridge.abi`, before a register-level model.

It works on whole messages: :meth:`GoldenBridge.answer` takes one and gives the answer, if there is one. Links that
bring messages to it are in :mod:`rackgate_sim.bridge_links`.
"""

import zlib
from collections import OrderedDict
from typing import Any, Protocol

from rackgate.bridge.abi import (
    HEADER_WORDS,
    MAGIC,
    MESSAGE_BYTES,
    NO_SESSION,
    WINDOW,
    FormatError,
    Kind,
    Message,
    Refusal,
    Status,
    StatusFlag,
    StatusWord,
    Terms,
    VersionError,
    pack_message,
    pack_words,
    unpack_message,
    unpack_words,
)
from rackgate.bridge.identity import Identity
from rackgate.bridge.operations import Opcode, Operation, Result, pack_results, unpack_operations
from rackgate_sim.inflate.model import BusError, Memory

__all__ = ["BridgedDevice", "GoldenBridge", "ModelDevice"]

_REGISTER_SPACE = 1 << 16
_WORD = 0xFFFFFFFF


class BridgedDevice(Protocol):
    """What is behind a bridge: registers, memory, an interrupt and a clock."""

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        ...

    @property
    def cycle(self) -> int:
        """Clock cycles since reset."""
        ...

    def read_register(self, offset: int) -> int | None:
        """The register at byte ``offset``; ``None`` if the bus answers with SLVERR."""
        ...

    def write_register(self, offset: int, value: int) -> bool:
        """Write the register at byte ``offset``. Whether the bus answered OKAY."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Bytes of memory. Raises :class:`BusError` outside."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Store bytes in memory. Raises :class:`BusError` outside."""
        ...

    def run(self, cycles: int) -> None:
        """Let clock cycles pass."""
        ...


class ModelDevice:
    """A register-level model (:func:`rackgate_sim.devices.model`) and its memory, ``None`` if it has none."""

    def __init__(self, model: Any, memory: Memory | None):
        self.model = model
        self._memory = memory
        self.cycle = 0  # the model's own counter starts again when it is reset

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return self.model.irq

    def read_register(self, offset: int) -> int | None:
        """The register at byte ``offset``; ``None`` if there is none."""
        return self.model.read_register(offset)

    def write_register(self, offset: int, value: int) -> bool:
        """Write the register at byte ``offset``. Whether the model took it."""
        return self.model.write_register(offset, value) is not False

    def read(self, address: int, size: int) -> bytes:
        """Bytes of memory."""
        if self._memory is None:
            raise BusError("there is no memory")
        return self._memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Store bytes in memory."""
        if self._memory is None:
            raise BusError("there is no memory")
        self._memory.write(address, data)

    def run(self, cycles: int) -> None:
        """Let clock cycles pass."""
        self.model.run(cycles, False)
        self.cycle += cycles


class GoldenBridge:
    """A bridge. Its clock goes on with the messages that it takes, so that a run can be repeated.

    Parameters
    ----------
    device:
        What is behind it.
    identity:
        What it says of itself.
    window:
        Responses that it keeps, 1 to :data:`~rackgate.bridge.abi.WINDOW`.
    cycles_per_message:
        Clock cycles that pass before each message, whatever it is.

    Attributes
    ----------
    session, expected:
        The open session, and the sequence number of its next request.
    counters:
        Values of the counting status words.
    """

    def __init__(self, device: BridgedDevice, identity: Identity, *, window: int = WINDOW,
                 cycles_per_message: int = 512):
        if not 1 <= window <= WINDOW:
            raise ValueError(f"window must be 1 to {WINDOW}, not {window}")
        if cycles_per_message < 1:
            raise ValueError(f"cycles_per_message must be at least 1, not {cycles_per_message}")
        self.device = device
        self.identity = identity
        self.session, self.expected = NO_SESSION, 0
        self.counters: dict[StatusWord, int] = {word: 0 for word in StatusWord if word >= StatusWord.EXECUTED}
        self._table = identity.pack()
        self._window = window
        self._cycles = cycles_per_message
        self._kept: OrderedDict[int, bytes] = OrderedDict()  # responses by sequence number
        self._cycles_hi = 0

    @property
    def terms(self) -> Terms:
        """What OPENED says."""
        return Terms(self._window, MESSAGE_BYTES, self.identity.memory_base, self.identity.memory_size,
                     len(self._table) // 4)

    def answer(self, raw: bytes) -> bytes | None:
        """Take a message as it came from the link: the answer, if there is one."""
        self.device.run(self._cycles)
        try:
            message = unpack_message(raw)
        except VersionError as error:
            if error.kind not in (Kind.REQUEST, Kind.OPEN):
                return self._drop(StatusWord.STRAY)
            return self._refuse(error.session, error.sequence, Refusal.VERSION)
        except FormatError:
            return self._drop(StatusWord.STRAY if _is_sound(raw) else StatusWord.DAMAGED)
        match message.kind:
            case Kind.OPEN:
                return self._open(message)
            case Kind.REQUEST:
                return self._request(message)
        return self._drop(StatusWord.STRAY)

    def _drop(self, counter: StatusWord) -> None:
        self.counters[counter] += 1

    def _refuse(self, session: int, sequence: int, reason: Refusal) -> bytes:
        self.counters[StatusWord.REFUSED] += 1
        return pack_message(Message(Kind.REFUSED, session, sequence, pack_words((reason, self.session))))

    def _open(self, message: Message) -> bytes | None:
        if len(message.body) != 4 or message.session == NO_SESSION:
            return self._drop(StatusWord.STRAY)
        if message.session != self.session:
            if unpack_words(message.body) != (self.session,):
                return self._refuse(message.session, message.sequence, Refusal.SESSION)
            self.session, self.expected = message.session, 0
            self._kept.clear()
        return pack_message(Message(Kind.OPENED, message.session, message.sequence, self.terms.pack()))

    def _request(self, message: Message) -> bytes | None:
        if message.session != self.session or self.session == NO_SESSION:
            return self._refuse(message.session, message.sequence, Refusal.SESSION)
        if message.sequence != self.expected:
            kept = self._kept.get(message.sequence)
            self.counters[StatusWord.STRAY if kept is None else StatusWord.REPEATED] += 1
            return kept
        body = pack_results(self._execute(message.body))
        response = pack_message(Message(Kind.RESPONSE, self.session, self.expected, body))
        self._kept[self.expected] = response
        if len(self._kept) > self._window:
            self._kept.popitem(last=False)
        self.expected = (self.expected + 1) & _WORD
        self.counters[StatusWord.EXECUTED] += 1
        return response

    def _execute(self, body: bytes) -> list[Result]:
        results: list[Result] = []
        try:
            for operation in unpack_operations(body):
                results.append(self._operation(operation))
                if results[-1].status != Status.OK:
                    break
        except FormatError as error:
            results.append(Result(error.args[1], Status.MALFORMED))
        return results

    def _operation(self, one: Operation) -> Result:
        match one.opcode:
            case Opcode.READ_REGISTERS | Opcode.WRITE_REGISTERS:
                status, data = self._registers(one)
            case Opcode.READ_MEMORY | Opcode.WRITE_MEMORY:
                status, data = self._memory(one)
            case Opcode.READ_STATUS:
                status, data = _table(one, pack_words([self._status(word) for word in _touched(one)]), StatusWord)
            case _:
                status, data = _table(one, self._table[one.address:one.address + 4 * one.count],
                                      range(len(self._table) // 4))
        return Result(one.opcode, status, data if status == Status.OK else b"")

    def _registers(self, one: Operation) -> tuple[Status, bytes]:
        step = 0 if one.is_fixed else 4
        if one.address + step * (one.count - 1) >= _REGISTER_SPACE:
            return Status.DECERR, b""
        offsets = [one.address + step * place for place in range(one.count)]
        if one.opcode == Opcode.WRITE_REGISTERS:
            values = unpack_words(one.data)
            taken = [self.device.write_register(offset, value) for offset, value in zip(offsets, values, strict=True)]
            return Status.OK if taken[-1] else Status.SLVERR, b""
        words = []
        for offset in offsets:
            value = self.device.read_register(offset)
            if value is None:
                return Status.SLVERR, b""
            words.append(value)
        return Status.OK, pack_words(words)

    def _memory(self, one: Operation) -> tuple[Status, bytes]:
        base, size = self.identity.memory_base, self.identity.memory_size
        if not base <= one.address <= one.address + 4 * one.count <= base + size:
            return Status.DECERR, b""
        try:
            if one.opcode == Opcode.READ_MEMORY:
                return Status.OK, self.device.read(one.address, 4 * one.count)
            self.device.write(one.address + one.skip, one.data[one.skip:len(one.data) - one.omit])
        except BusError:
            return Status.SLVERR, b""
        return Status.OK, b""

    def _status(self, word: StatusWord) -> int:
        match word:
            case StatusWord.FLAGS:
                return StatusFlag.INTERRUPT * self.device.irq
            case StatusWord.CYCLES_LO:
                self._cycles_hi = self.device.cycle >> 32 & _WORD
                return self.device.cycle & _WORD
            case StatusWord.CYCLES_HI:
                return self._cycles_hi
        return self.counters[word] & _WORD


def _touched(one: Operation) -> list[StatusWord]:
    """The status words that an operation reads, if there are all of them."""
    first, end = one.address // 4, one.address // 4 + one.count
    return [StatusWord(word) for word in range(first, end)] if end <= len(StatusWord) else []


def _table(one: Operation, data: bytes, words: Any) -> tuple[Status, bytes]:
    return (Status.OK, data) if one.address // 4 + one.count <= len(words) else (Status.DECERR, b"")


def _is_sound(raw: bytes) -> bool:
    """Whether a message that is none has length, magic and CRC as they should be: its kind is wrong."""
    return (len(raw) % 4 == 0 and 4 * HEADER_WORDS < len(raw) <= MESSAGE_BYTES
            and raw[:2] == MAGIC.to_bytes(2, "little") and raw[-4:] == pack_words([zlib.crc32(raw[:-4])]))
