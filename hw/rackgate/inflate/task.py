# SPDX-License-Identifier: Apache-2.0
"""A job as the device's outer parts hand it around."""

from amaranth.lib import data

from rackgate.inflate.entry import Options

__all__ = ["ADDR_WIDTH", "Record", "Task"]

#: Address bits at the memory port. Descriptors have 64: what lies beyond is answered as a bus error.
ADDR_WIDTH = 48


class Task(data.Struct):
    """A descriptor that has been read and checked: fields as in ``abi.Descriptor``.

    ``status`` is IN_PROGRESS (0) for a job to be done, else what it is refused with. Not in a descriptor of ours:
    ``one_block`` (every block counts as its stream's last), ``ignored_bits`` (so many bits at the end of the source are
    not there), and ``options``.
    """

    status: 8
    load: 1
    tables: 1
    canned: 1
    framing: 2
    resume: 1
    last: 1
    multi: 1
    interrupt: 1
    strict_lengths: 1
    one_block: 1
    ignored_bits: 3
    options: Options
    context: 3
    start_bit: 3
    tag: 32
    source: ADDR_WIDTH
    source_size: 32
    destination: ADDR_WIDTH
    destination_size: 32
    completion: ADDR_WIDTH


class Record(data.Struct):
    """A completion record, in memory order (``abi.Completion``); the first field is the lowest address."""

    produced: 32
    consumed: 32
    consumed_bit: 32
    crc32: 32
    adler32: 32
    members: 32
    total: 64
    started: 64
    finished: 64
    dictionary: 32
    reserved: 32
    tag: 32
    status: 8
    error: 8
    flags: 16
