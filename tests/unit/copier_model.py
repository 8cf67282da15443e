# SPDX-License-Identifier: Apache-2.0
"""A plain model of the copier, and traffic for it."""

import random
from dataclasses import dataclass, field

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.entry import Kind, Mark

__all__ = ["CopierModel", "MARK_FIELDS", "group", "mark", "raw", "start", "token"]

MARK_FIELDS = ("mark", "overflow", "error", "bits", "produced")


def _entry(kind, context, **fields):
    blank = {"bits": 0, "has_match": 0, "length": 0, "distance": 0, "literals": 0, "bytes": [0, 0, 0, 0],
             "mark": Mark.END_OF_BLOCK, "final": 0, "error": 0}
    return blank | {"kind": kind, "context": context} | fields


def _padded(data: bytes) -> list[int]:
    return [*data, *bytes(4 - len(data))]


def token(context: int, match: tuple[int, int] | None = None, literals: bytes = b"", bits: int = 9) -> dict:
    """An entry of a match (length, distance) and literals."""
    fields = {"has_match": 1, "length": match[0], "distance": match[1]} if match else {}
    return _entry(Kind.TOKEN, context, bits=bits, literals=len(literals), bytes=_padded(literals), **fields)


def raw(context: int, data: bytes, bits: int = 32) -> dict:
    """An entry of 1 to 4 stored bytes."""
    return _entry(Kind.RAW, context, bits=bits, literals=len(data), bytes=_padded(data))


def mark(context: int, why: Mark = Mark.END_OF_BLOCK, *, final: int = 0, error: int = 0, bits: int = 7) -> dict:
    """The end of a run."""
    return _entry(Kind.MARK, context, mark=why, final=final, error=error, bits=bits)


def start(context: int, *, room: int | None = None, history: int = 0, check: int = 0, suppress: int = 0) -> dict:
    """The beginning of a job (with ``room``) or member."""
    flags = (room is not None) | history << 1 | check << 2 | suppress << 3
    return _entry(Kind.START, context, length=flags, bytes=list((room or 0).to_bytes(4, "little")))


def group(rng: random.Random, context: int, symbols: list, *, stored: float = 0.0) -> list[tuple[dict, int]]:
    """Entries for symbols, bytes and (length, distance) pairs, with how many symbols each stands for."""
    entries, index = [], 0
    while index < len(symbols):
        match = symbols[index] if isinstance(symbols[index], tuple) else None
        is_raw = match is None and rng.random() < stored
        begin = index
        index += match is not None
        wanted = rng.randint(1, 4) if is_raw else rng.randint(0 if match else 1, 2)
        literals = bytearray()
        while len(literals) < wanted and index < len(symbols) and isinstance(symbols[index], int):
            literals.append(symbols[index])
            index += 1
        bits = rng.randrange(1, 100)
        entry = raw(context, bytes(literals), bits) if is_raw else token(context, match, bytes(literals), bits)
        entries.append((entry, index - begin))
    return entries


@dataclass
class _Context:
    history: bytearray = field(default_factory=bytearray)
    position: int = 0  # of the end of ``history``, modulo 8 what matters
    room: int = 0
    produced: int = 0
    skip: int = 0
    quiet: bool = False
    open: bytearray = field(default_factory=bytearray)  # delivered and not yet in a word
    first: int = 0
    bits: int = 0
    error: int = 0
    overflow: bool = False


class CopierModel:
    """Carry out entries one by one, byte by byte.

    An entry that does not fit is taken back from the history after its bytes are delivered, and carried out
    again from its start in the next job: not what the gateware does, and the same to an observer.
    """

    def __init__(self, *, contexts: int, window: int):
        self.window = window
        self.contexts = [_Context() for _ in range(contexts)]
        self.words: list[tuple] = []  # (context, first, bytes, start flags or None, end)
        self.results: list[tuple] = []  # (context, mark, overflow, error, bits, produced)

    def take(self, entry: dict) -> bool:
        """Carry out ``entry``; whether all of it was."""
        context = self.contexts[entry["context"]]
        if entry["kind"] == Kind.START:
            self._start(entry, context)
        elif entry["kind"] == Kind.MARK:
            self._mark(entry, context)
        elif context.error or context.overflow:
            return False
        else:
            self._copy(entry, context)
            return not (context.error or context.overflow)
        return True

    def _start(self, entry, context):
        flags = entry["length"]
        if flags & 1:
            context.room, context.produced = int.from_bytes(bytes(entry["bytes"]), "little"), 0
        context.quiet = bool(flags & 8)
        if flags & 0b1010:
            context.history.clear()
            context.skip = context.position = 0
        context.first = (context.position + context.skip) % 8
        self.words.append((entry["context"], context.first, b"", flags, False))

    def _mark(self, entry, context):
        faulted = context.error or context.overflow
        if not faulted:
            context.bits += entry["bits"]
            context.error = entry["error"] if entry["mark"] == Mark.ERROR else 0
        self.results.append((entry["context"], entry["mark"], context.overflow, context.error, context.bits,
                             context.produced))
        if faulted or entry["final"] or entry["mark"] != Mark.END_OF_BLOCK:
            self._put(entry["context"], context, end=True)
            context.first = (context.position + context.skip) % 8
        context.bits, context.error, context.overflow = 0, 0, False

    def _copy(self, entry, context):
        begin = len(context.history)
        history = context.history
        if entry["has_match"]:
            distance = entry["distance"]
            if distance > self.window:
                context.error = ErrorCode.DISTANCE_TOO_LARGE
                return
            if distance > len(history):
                context.error = ErrorCode.DISTANCE_BEFORE_START
                return
            for _ in range(entry["length"]):
                history.append(history[-distance])
        history += bytes(entry["bytes"][:entry["literals"]])
        skipped = min(context.skip, len(history) - begin)
        fresh = history[begin + skipped:]
        if not context.quiet:
            if len(fresh) > context.room:
                del history[begin:]
                del fresh[context.room:]
                context.overflow = True
                context.skip = skipped + len(fresh)
            context.room -= len(fresh)
            context.produced += len(fresh)
            self._deliver(entry["context"], context, fresh)
        if not context.overflow:
            context.bits += entry["bits"]
            context.skip -= skipped
            context.position += len(history) - begin

    def _deliver(self, number, context, data):
        for byte in data:
            context.open.append(byte)
            if context.first + len(context.open) == 8:
                self._put(number, context)

    def _put(self, number, context, end=False):
        self.words.append((number, context.first, bytes(context.open), None, end))
        context.open.clear()
        context.first = 0
