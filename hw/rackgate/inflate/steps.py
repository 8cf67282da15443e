# SPDX-License-Identifier: Apache-2.0
"""What travels between the parts of the copier: steps, chunks, rows; and results with their context."""

import operator

from amaranth.lib import data, enum
from amaranth.utils import bits_for, ceil_log2

from rackgate.inflate.entry import Result, Start

__all__ = [
    "BANKS", "CONTEXTS_LIMIT", "RECENT", "WINDOWS", "ContextResult", "Operation", "Row", "check_contexts",
    "check_window", "chunk_layout", "state_layout", "step_layout",
]

#: Byte-wide banks of the history, and so the most bytes a chunk may have.
BANKS = 8
#: Every byte at most this far back is in the recent rows; only bytes farther back are read from block RAM.
RECENT = 32
#: Contexts that fit the ``context`` field.
CONTEXTS_LIMIT = 8
#: Legal windows, in bytes.
WINDOWS = tuple(1 << n for n in range(6, 16))


class Operation(enum.Enum, shape=2):
    """What a step, a chunk or a row is for."""

    BYTES = 0
    START = 1  # no bytes: ``flags`` say what begins
    END = 2  # no bytes: a segment ends


class ContextResult(data.Struct):
    """A :class:`Result` and whose it is."""

    context: 3
    result: Result


class Row(data.Struct):
    """A chunk on its way out. Byte k of ``data`` goes to an output position that is k modulo 8.

    ``count`` bytes from position ``low`` (modulo 8) on are new; the other bytes mean nothing. A ``quiet`` one
    belongs to a dictionary and is not to be put out.
    """

    operation: Operation
    context: 3
    quiet: 1
    flags: Start
    low: 3
    count: 4
    data: data.ArrayLayout(8, BANKS)


def check_window(window: int) -> int:
    """``window``, if it is one of WINDOWS; else ValueError."""
    window = operator.index(window)
    if window not in WINDOWS:
        raise ValueError(f"window must be a power of two from {WINDOWS[0]} to {WINDOWS[-1]}, not {window}")
    return window


def check_contexts(contexts: int) -> int:
    """``contexts``, if it is 1 to CONTEXTS_LIMIT; else ValueError."""
    contexts = operator.index(contexts)
    if not 1 <= contexts <= CONTEXTS_LIMIT:
        raise ValueError(f"contexts must be 1 to {CONTEXTS_LIMIT}, not {contexts}")
    return contexts


def state_layout(window: int) -> data.StructLayout:
    """What is known of a context between entries.

    Fields
    ------
    position:
        Place in the window where the next byte goes.
    have:
        Bytes that may be referred to; it stops within one entry above ``window``.
    room, limit:
        Bytes left in the destination, and at the job's start.
    skip, is_skipping:
        Bytes to come that an earlier job delivered; none if not ``is_skipping``.
    quiet:
        Bytes are a dictionary's.
    whole:
        Of an entry that does not fit nothing is delivered.
    """
    return data.StructLayout({
        "position": ceil_log2(window), "have": bits_for(window + 512 + 8), "room": 32, "limit": 32,
        "skip": 10, "is_skipping": 1, "quiet": 1, "whole": 1,
    })


def step_layout(window: int) -> data.StructLayout:
    """An entry that is known to be right and to fit.

    Fields
    ------
    operation, context, quiet, flags:
        See :class:`Row`.
    position, source:
        Places in the window, modulo its size: of the first byte, and of the byte that a match copies first.
    near:
        The distance is less than RECENT.
    repeat:
        The distance if less than 8, else zero.
    length, literals, total:
        Bytes to copy, bytes to append after them, and their sum.
    bytes:
        The literals.
    """
    place = ceil_log2(window)
    return data.StructLayout({
        "operation": Operation, "context": 3, "quiet": 1, "flags": Start,
        "position": place, "source": place, "near": 1, "repeat": 3,
        "length": 9, "literals": 3, "total": 10, "bytes": data.ArrayLayout(8, 4),
    })


def chunk_layout(window: int) -> data.StructLayout:
    """Up to 8 bytes of a step: ``copied`` bytes of a match, then literals, ``count`` bytes in all.

    The other fields are as in :func:`step_layout`.
    """
    place = ceil_log2(window)
    return data.StructLayout({
        "operation": Operation, "context": 3, "quiet": 1, "flags": Start,
        "position": place, "source": place, "near": 1, "repeat": 3,
        "copied": 4, "count": 4, "bytes": data.ArrayLayout(8, 4),
    })
