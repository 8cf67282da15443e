# SPDX-License-Identifier: Apache-2.0
"""What travels, in stream order, from the decoders to the copier."""

from amaranth.lib import data, enum

__all__ = ["Entry", "Kind", "Mark", "Result"]


class Kind(enum.Enum, shape=2):
    """Meaning of an :class:`Entry`."""

    TOKEN = 0  # an optional match, then up to two literals
    RAW = 1  # 1 to 4 bytes of a stored block
    MARK = 2  # the decoder stops here: no bytes; ends the run of entries of one block


class Mark(enum.Enum, shape=2):
    """Why a decoder stopped."""

    END_OF_BLOCK = 0
    DRY = 1  # the source ends before the next symbol does
    ERROR = 2
    ABORT = 3  # the front told it to, after the copier had met a fault


class Entry(data.Struct):
    """One step of output.

    A TOKEN copies ``length`` bytes from ``distance`` bytes back when ``has_match``, then appends the first
    ``literals`` of ``bytes``. RAW appends the first ``literals`` (1 to 4) of ``bytes``. A MARK carries
    ``mark`` and, for ERROR, ``error``. ``bits`` is how much source the entry stands for: the sum over
    a block's entries is the position of the decoder within that block. Every run of entries of one
    context ends with exactly one MARK, and runs of different contexts do not mix.
    """

    kind: Kind
    context: 3
    bits: 7
    has_match: 1
    length: 9  # 3 to 258
    distance: 16  # 1 to 32768
    literals: 3
    bytes: data.ArrayLayout(8, 4)
    mark: Mark
    error: 8


class Result(data.Struct):
    """How a run of entries ended, from the copier to the context's front.

    ``error`` is an ``abi.ErrorCode`` when the run ended in one (the decoder's or the copier's own, such as a
    distance before the start). ``overflow`` says that the destination was full first. In both cases
    ``bits`` counts the source of the entries before the one that stopped.
    """

    mark: Mark
    overflow: 1
    error: 8
    bits: 32

