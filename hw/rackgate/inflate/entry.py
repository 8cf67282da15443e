# SPDX-License-Identifier: Apache-2.0
"""The structures that travel between the parts of the inflate engine."""

from amaranth.lib import data, enum

__all__ = ["Entry", "Job", "Kind", "Mark", "Options", "OutputWord", "Result", "Run", "Start", "Stop", "Summary"]


class Kind(enum.Enum, shape=2):
    """Meaning of an :class:`Entry`."""

    TOKEN = 0  # an optional match, then up to two literals
    RAW = 1  # 1 to 4 bytes of a stored block
    MARK = 2  # the decoder stops here: no bytes; ends the run of entries of one block
    START = 3  # a job or a member begins: no bytes, not part of a run


class Mark(enum.Enum, shape=2):
    """Why a decoder stopped."""

    END_OF_BLOCK = 0
    DRY = 1  # the source ends before the next symbol does
    ERROR = 2
    ABORT = 3  # the copier had met a fault (destination full, bad distance)


class Start(data.Struct):
    """The ``length`` field of a START entry. The ``bytes`` field is then the room in the destination."""

    new_job: 1  # take the room from ``bytes`` and the destination address from the job
    reset_history: 1  # nothing before this can be referred to; the output position starts at zero
    reset_check: 1  # checksums and total length start again
    suppress: 1  # bytes go into the history only (a dictionary)
    whole: 1  # an entry that does not fit is not begun
    unused: 4


class Entry(data.Struct):
    """One step of output.

    A TOKEN copies ``length`` bytes from ``distance`` bytes back when ``has_match``, then appends the first
    ``literals`` (0 to 2) of ``bytes``. RAW appends the first ``literals`` (1 to 4) of ``bytes``. A MARK carries
    ``mark``, for ERROR ``error``, and ``final`` when the block was the stream's last one. ``bits`` is how
    much source the entry stands for. Every run of entries of one block ends with exactly one MARK, runs do
    not mix, and each run yields one :class:`Result`.
    """

    kind: Kind
    context: 3
    bits: 7
    has_match: 1
    length: 9  # 3 to 258; Start flags in a START
    distance: 16  # 1 to 32768
    literals: 3
    bytes: data.ArrayLayout(8, 4)
    mark: Mark
    final: 1
    error: 8


class Result(data.Struct):
    """How a run of entries ended, from the copier to the context's front.

    ``error`` is an ``abi.ErrorCode``: the decoder's, or the copier's own (a bad distance), else zero.
    ``overflow`` says that the destination was full first. ``bits`` counts the source of the entries that
    were carried out completely. ``produced`` counts output bytes of this job so far.
    """

    mark: Mark
    overflow: 1
    error: 8
    bits: 32
    produced: 32


class OutputWord(data.Struct):
    """A word from the copier to the output stage: bytes ``first`` to ``first + count - 1`` of ``data``.

    Byte k of ``data`` is output position ``8 * n + k``, so ``first`` is nonzero only after ``start`` or
    ``end``. ``start`` (with count 0) repeats a START's flags in ``data``'s low bits; ``end`` (count 0 to 8)
    closes a segment: a final block, an error, a full destination or a dry source.
    """

    data: 64
    first: 3
    count: 4
    context: 3
    start: 1
    end: 1


class Summary(data.Struct):
    """From the output stage to the context's front, once for each ``end`` word."""

    crc32: 32
    adler32: 32
    total: 64
    xor_checksum: 16


class Run(data.Struct):
    """From a front to the body decoder: decode the block whose tables stand in the context.

    ``position`` and ``end`` are bit positions in the source: of the block's first symbol and one past the
    last valid bit.
    """

    context: 3
    position: 32
    end: 32
    final: 1


class Stop(data.Struct):
    """From the body decoder to the front, once for each :class:`Run`, when the decoder is free again.

    ``position`` is that of the bit after the end-of-block symbol when ``mark`` is END_OF_BLOCK.
    """

    mark: Mark
    position: 32


class Options(data.Struct):
    """What a device with extended checks may ask for; all zero otherwise.

    ``crc32c``: ``crc32`` is to be a CRC-32C. ``crc`` and ``xor_checksum`` are what the output's checksums begin with.
    ``discard``: the output is counted and checked, and written nowhere. ``whole``: of an entry that does not fit into
    the destination nothing is delivered, so that where the job ends is between entries.
    """

    crc32c: 1
    discard: 1
    whole: 1
    crc: 32
    xor_checksum: 16


class Job(data.Struct):
    """A checked descriptor, held stable for a front while its job is under way.

    ``source_bits`` is the bit position of the first source bit in the stream of aligned 64-bit words,
    ``source_end`` one past the last.
    """

    load: 1
    tables: 1
    canned: 1
    framing: 2  # an abi.Format
    resume: 1
    last: 1
    multi: 1
    strict_lengths: 1
    one_block: 1  # every block counts as its stream's last
    options: Options
    source_bits: 32
    source_end: 32
    room: 32
