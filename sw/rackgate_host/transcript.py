# SPDX-License-Identifier: Apache-2.0
"""Transcripts: everything a driver did to a device, to be done again to another one and compared.

A transcript is a file of JSON lines. The first says what was recorded; each further one is a transaction:

==========  ===========================================================================================
``k``       other keys
==========  ===========================================================================================
``rr``      register read: offset ``a``, value ``v``; ``x`` is 1 when the value may differ (a counter)
``rw``      register write: offset ``a``, value ``v``
``wb``      words ``v`` written to consecutive places from offset ``a`` on, the last of which was taken
``mw``      memory made visible to the device: address ``a``, size ``n``, hash ``h``, bytes ``d``
``mr``      memory made visible to the host: the same, without ``d``; ``x`` lists byte ranges left out of ``h``
``wait``    until the byte at address ``a`` (or at one of the list ``a``) is not zero; the W1C register at offset
            ``r`` acknowledges interrupts
``until``   until the bits ``m`` of the register at offset ``a`` are ``v``
``irq``     until the interrupt is high
``push``    packet into stream ``s``: size ``n``, hash ``h``, bytes ``d``
``pop``     packet out of stream ``s``: size ``n``, hash ``h``
==========  ===========================================================================================

``c`` is the device's cycle after the transaction: for the reader, never compared. ``d`` is base64 of zlib.
"""

import base64
import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from .device import Device
from .errors import TranscriptError

__all__ = ["Divergence", "Recorder", "compare", "record", "replay"]

_FORMAT = 1


class Divergence(TranscriptError):
    """Two worlds differ.

    Attributes
    ----------
    transaction:
        Number of the first transaction that differs, from 1.
    expected, actual:
        The transaction of the transcript, and what came instead; ``None`` where one side had ended.
    cycle:
        Cycle of the device that was replayed on, or of the second transcript.
    """

    def __init__(self, transaction: int, expected: dict[str, Any] | None, actual: dict[str, Any] | None,
                 cycle: int | None):
        self.transaction = transaction
        self.expected = expected
        self.actual = actual
        self.cycle = cycle
        at = "" if cycle is None else f" (cycle {cycle})"
        super().__init__(f"differs at transaction {transaction}{at}: expected {_show(expected)}, got {_show(actual)}")


def _show(transaction: dict[str, Any] | None) -> str:
    if transaction is None:
        return "the end"
    parts = []
    for key, value in transaction.items():
        if key not in ("k", "d", "c"):
            parts.append(f"{key}={value:#x}" if isinstance(value, int) and key in "av" else f"{key}={value}")
    return " ".join([transaction["k"], *parts])


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _masked(content: bytes, volatile: Sequence[Sequence[int]]) -> bytes:
    if not volatile:
        return content
    kept = bytearray(content)
    for first, end in volatile:
        kept[first:end] = bytes(min(end, len(kept)) - first)
    return bytes(kept)


class Recorder:
    """Writes transactions of ``device`` to ``file``. With ``data`` false memory contents are hashed only: smaller, but
    not replayable."""

    def __init__(self, device: Device, file: TextIO, data: bool = True):
        self._device = device
        self._file = file
        self._data = data
        self._line({"transcript": _FORMAT, "device": device.name, "url": device.url, "build": device.build,
                    "parameters": device.parameters})

    def _line(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")

    def _note(self, kind: str, **fields: Any) -> None:
        self._line({"k": kind, **fields, "c": self._device.cycles})

    def _content(self, content: bytes) -> dict[str, Any]:
        fields: dict[str, Any] = {"n": len(content), "h": _hash(content)}
        if self._data:
            fields["d"] = base64.b64encode(zlib.compress(content, 1)).decode()
        return fields

    def register_read(self, offset: int, value: int, volatile: bool) -> None:
        """A register was read."""
        self._note("rr", a=offset, v=value, **({"x": 1} if volatile else {}))

    def register_write(self, offset: int, value: int) -> None:
        """A register was written."""
        self._note("rw", a=offset, v=value)

    def block_write(self, offset: int, words: Sequence[int]) -> None:
        """A block was written and taken."""
        self._note("wb", a=offset, v=list(words))

    def memory_write(self, address: int, content: bytes) -> None:
        """Memory was made visible to the device."""
        self._note("mw", a=address, **self._content(content))

    def memory_read(self, address: int, content: bytes, volatile: Sequence[tuple[int, int]]) -> None:
        """Memory was made visible to the host."""
        left_out = {"x": [list(part) for part in volatile]} if volatile else {}
        self._note("mr", a=address, n=len(content), h=_hash(_masked(content, volatile)), **left_out)

    def wait(self, address: int | list[int], acknowledge: int) -> None:
        """The byte at ``address`` was waited for."""
        self._note("wait", a=address, r=acknowledge)

    def until(self, offset: int, mask: int, value: int) -> None:
        """A register was waited for."""
        self._note("until", a=offset, m=mask, v=value)

    def interrupt(self) -> None:
        """The interrupt was waited for."""
        self._note("irq")

    def push(self, stream: str, packet: bytes) -> None:
        """A packet went into a stream."""
        self._note("push", s=stream, **self._content(packet))

    def pop(self, stream: str, packet: bytes) -> None:
        """A packet came from a stream."""
        self._note("pop", s=stream, n=len(packet), h=_hash(packet))


@contextlib.contextmanager
def record(device: Device, path: str | Path, *, data: bool = True) -> Iterator[Recorder]:
    """Within it every transaction of ``device`` is written to ``path``."""
    with open(path, "w", encoding="utf-8") as file:
        recorder = Recorder(device, file, data)
        device.attach_recorder(recorder)
        try:
            yield recorder
        finally:
            device.attach_recorder(None)


def _load(path: str | Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (ValueError, UnicodeDecodeError) as error:
        raise TranscriptError(f"{path} is no transcript: {error}") from None
    if not lines or not isinstance(lines[0], dict) or "transcript" not in lines[0]:
        raise TranscriptError(f"{path} is no transcript: its first line does not say so")
    if lines[0]["transcript"] != _FORMAT:
        raise TranscriptError(f"{path} has transcript format {lines[0]['transcript']}, this package reads {_FORMAT}")
    if not all(isinstance(line, dict) and "k" in line for line in lines[1:]):
        raise TranscriptError(f"{path} is no transcript: a line has no key 'k'")
    return lines[0], lines[1:]


def _essence(transaction: dict[str, Any]) -> dict[str, Any]:
    """What must be equal."""
    left_out = {"c", "d"} | ({"v"} if transaction["k"] == "rr" and transaction.get("x") else set())
    return {key: value for key, value in transaction.items() if key not in left_out}


def compare(expected: str | Path, actual: str | Path) -> int:
    """Compare two transcripts and return the number of transactions.

    Raises :class:`Divergence` at the first that differs.
    """
    (_, left), (_, right) = _load(expected), _load(actual)
    for number, (one, other) in enumerate(zip(left, right, strict=False), 1):
        if _essence(one) != _essence(other):
            raise Divergence(number, one, other, other.get("c"))
    if len(left) != len(right):
        at = min(len(left), len(right))
        longer = (left if len(left) > at else right)[at]
        raise Divergence(at + 1, longer if len(left) > at else None, longer if len(right) > at else None, None)
    return len(left)


def replay(path: str | Path, device: Device) -> int:
    """Do to ``device`` what ``path`` records and return the number of transactions.

    The device should be fresh, and have the parameters of the recorded one. Raises :class:`Divergence` at the first
    transaction that comes out differently, and :class:`TranscriptError` when the transcript cannot be replayed.
    """
    head, transactions = _load(path)
    if head["device"] != device.name:
        raise TranscriptError(f"{path} was recorded on {head['device']}, this device is {device.name}")
    for number, transaction in enumerate(transactions, 1):
        try:
            actual = _redo(device, transaction)
        except TimeoutError:
            never = {"k": transaction["k"], "timeout": "it never came"}
            raise Divergence(number, transaction, never, device.cycles) from None
        if _essence(actual) != _essence(transaction):
            raise Divergence(number, transaction, actual, device.cycles)
    return len(transactions)


def _redo(device: Device, transaction: dict[str, Any]) -> dict[str, Any]:
    """Carry out one transaction: as it would be recorded here."""
    match transaction["k"]:
        case "rr":
            return {**transaction, "v": device.read_register(transaction["a"])}
        case "rw":
            device.write_register(transaction["a"], transaction["v"])
        case "wb":
            device.submit_portal(transaction["a"], transaction["v"])
        case "mw":
            content = _content(transaction)
            device.transport.write_memory(transaction["a"], content)
        case "mr":
            content = device.transport.read_memory(transaction["a"], transaction["n"])
            return {**transaction, "h": _hash(_masked(content, transaction.get("x", ())))}
        case "wait":
            device.wait_nonzero(transaction["a"], acknowledge=device.register_name(transaction["r"]))
        case "until":
            device.wait_register(device.register_name(transaction["a"]), transaction["m"], transaction["v"])
        case "irq":
            device.wait()
        case "push":
            device.push(transaction["s"], _content(transaction))
        case "pop":
            packet = device.pop(transaction["s"])
            return {**transaction, "n": len(packet), "h": _hash(packet)}
        case other:
            raise TranscriptError(f"unknown transaction kind {other!r}")
    return transaction


def _content(transaction: dict[str, Any]) -> bytes:
    if "d" not in transaction:
        raise TranscriptError("the transcript was recorded without data, so it can be compared but not replayed")
    content = zlib.decompress(base64.b64decode(transaction["d"]))
    if _hash(content) != transaction["h"]:
        raise TranscriptError(f"the data of a transaction does not have the hash it should: {_show(transaction)}")
    return content
