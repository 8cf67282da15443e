# SPDX-License-Identifier: Apache-2.0
"""Jobs for the accelerator, with buffers in device memory."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rackgate.iaa.abi import (
    DESCRIPTOR_SIZE,
    Completion,
    Crc64Flag,
    DecompressFlag,
    Descriptor,
    Flag,
    Framing,
    Opcode,
    Status,
)
from rackgate.iaa.aecs import AECS_SIZE, Aecs, saved_size

from ..memory import Buffer
from .checksums import crc32c, xor16
from .errors import ChecksumMismatch

if TYPE_CHECKING:
    from .jobdriver import JobDriver

__all__ = ["Handle", "Job", "StreamState", "Table"]

_FRAMING_SHIFT = 13
_WHOLE = (DecompressFlag.ENABLE | DecompressFlag.FLUSH | DecompressFlag.CHECK_FOR_EOB | DecompressFlag.STOP_ON_EOB
          | DecompressFlag.EOB_IS_BFINAL)


class Table:
    """A canned table: a block header in an AECS in device memory, which jobs' data goes on from.

    Made by :meth:`~rackgate_host.iaa.IaaDriver.load_table`. ``header`` ends on a byte boundary, see
    :class:`rackgate.iaa.aecs.Aecs`. Jobs keep their table alive.
    """

    def __init__(self, buffer: Buffer, aecs: Aecs):
        self.aecs = aecs
        self._buffer = buffer
        buffer[:] = np.frombuffer(aecs.pack(), np.uint8)
        buffer.sync_to_device()

    @property
    def header(self) -> bytes:
        """The block header."""
        return self.aecs.header

    @property
    def address(self) -> int:
        """Address of the AECS."""
        return self._buffer.device_address

    def free(self) -> None:
        """Give the memory back; no job may be under way with it."""
        self._buffer.free()


class StreamState:
    """Where a raw stream was left: two AECS in device memory, of which each job reads one and writes the other.

    One job at a time. When it has ended for want of room or of source, :meth:`advance` makes the next one go on; before
    that the job can be done again.

    Parameters
    ----------
    buffer:
        :meth:`room` bytes, at a multiple of 32.
    window:
        The device's.
    table:
        What the data is canned with, if it is.
    """

    def __init__(self, buffer: Buffer, window: int, table: Table | None = None):
        self.size = saved_size(window)
        if buffer.nbytes != 2 * self.size:
            raise ValueError(f"buffer must have {2 * self.size} bytes for a window of {window}, not {buffer.nbytes}")
        self._buffer = buffer
        self._toggle, self._has_begun = False, table is not None
        self.crc, self.xor_checksum = (0, 0) if table is None else (table.aecs.crc, table.aecs.xor_checksum)
        if table is not None:
            raw = table.aecs.pack().ljust(self.size, b"\0")
            buffer[:self.size] = np.frombuffer(raw, np.uint8)
            buffer.sync_to_device()

    @staticmethod
    def room(window: int) -> int:
        """Bytes that a buffer for it has."""
        return 2 * saved_size(window)

    @property
    def address(self) -> int:
        """Address of both AECS."""
        return self._buffer.device_address

    @property
    def flags(self) -> Flag:
        """Which AECS the next job reads, if any."""
        return (Flag.READ_SOURCE2_AECS if self._has_begun else Flag(0)) | (
            Flag.AECS_TOGGLE if self._toggle else Flag(0))

    def advance(self, completion: Completion) -> None:
        """A job has ended and left its state: the next one goes on, with the source from ``completed`` on."""
        self._toggle, self._has_begun = not self._toggle, True
        self.crc, self.xor_checksum = completion.crc, completion.xor_checksum


def _range(name: str, buffer: Buffer | None) -> tuple[int, int]:
    """Address and size for a descriptor."""
    if buffer is None:
        return 0, 0
    if buffer.dtype != np.uint8 or buffer.ndim != 1 or not buffer.flags.c_contiguous:
        raise TypeError(f"{name} must be a one-dimensional contiguous buffer of uint8, not {buffer.dtype} of shape "
                        f"{buffer.shape}")
    return buffer.device_address, buffer.nbytes


@dataclass(frozen=True)
class Job:
    """A descriptor, and the buffers that it is about. The driver puts the completion address and its flags in.

    ``members`` are the jobs of a list, which the driver puts into memory. ``seeds`` are CRC and XOR checksum of the
    output before the job's. Make one with the class methods.
    """

    descriptor: Descriptor
    source: Buffer | None = None
    destination: Buffer | None = None
    table: Table | None = None
    members: tuple["Job", ...] = ()
    seeds: tuple[int, int] = (0, 0)

    @classmethod
    def decompress(cls, source: Buffer, destination: Buffer | None, framing: Framing = Framing.RAW, *,
                   table: Table | None = None, state: StreamState | None = None, partial: bool = False,
                   crc32c: bool = False, first_member: bool = False,
                   flags: DecompressFlag = _WHOLE, block: bool = True) -> "Job":
        """Decompress ``source`` into ``destination``; without one, only for the checksums.

        ``table``: the data is canned. ``state``: where a raw stream goes on, and what it is left in when
        ``destination`` is full, which should have more than 260 bytes; ``partial``: also when the source is short,
        which is no error then. ``crc32c``: compute that in place of CRC-32. ``first_member``: leave further
        members of gzip data alone. ``block``: wait for pages that are not there, if the queue allows it.
        """
        if table is not None and framing != Framing.RAW:
            raise ValueError(f"framing must be RAW with a table, not {framing.name}")
        if state is not None and framing != Framing.RAW:
            raise ValueError(f"framing must be RAW with a state, not {framing.name}")
        if state is not None and destination is None:
            raise ValueError("destination must be given with a state")
        if partial and state is None:
            raise ValueError("state must be given with partial")
        general = Flag(0)
        if state is not None:
            general |= state.flags | (Flag.WRITE_SOURCE2_ALWAYS if partial else Flag.WRITE_SOURCE2_ON_OVERFLOW)
        elif table is not None:
            general |= Flag.READ_SOURCE2_AECS
        if crc32c:
            general |= Flag.CRC32C
        if block:
            general |= Flag.BLOCK_ON_FAULT
        operation = flags | framing << _FRAMING_SHIFT
        if partial:
            operation &= ~DecompressFlag.CHECK_FOR_EOB
        if destination is None:
            operation |= DecompressFlag.SUPPRESS_OUTPUT
        if framing == Framing.GZIP and not first_member:
            operation &= ~DecompressFlag.STOP_ON_EOB
        address, size = _range("source", source)
        to, room = _range("destination", destination)
        aecs, aecs_size, seeds = 0, 0, (0, 0)
        if state is not None:
            aecs, aecs_size, seeds = state.address, state.size, (state.crc, state.xor_checksum)
        elif table is not None:
            aecs, aecs_size, seeds = table.address, AECS_SIZE, (table.aecs.crc, table.aecs.xor_checksum)
        return cls(Descriptor(Opcode.DECOMPRESS, general, 0, address, to, size, 0, operation, aecs, room, aecs_size),
                   source, destination, table, seeds=seeds)

    @classmethod
    def crc64(cls, source: Buffer, polynomial: int, *, invert: bool = False, big_endian: bool = False) -> "Job":
        """Compute a CRC of ``source``; see :func:`rackgate_host.iaa.checksums.crc64`."""
        if not 0 <= polynomial < 1 << 64:
            raise ValueError(f"polynomial must fit 64 bits, not be {polynomial:#x}")
        operation = Crc64Flag.INVERT * invert | Crc64Flag.BIG_ENDIAN * big_endian
        address, size = _range("source", source)
        return cls(Descriptor(Opcode.CRC64, Flag.BLOCK_ON_FAULT, 0, address, 0, size, 0, operation,
                              filter_flags=polynomial & 0xFFFFFFFF, elements=polynomial >> 32), source)

    @classmethod
    def fill(cls, destination: Buffer, pattern: int = 0) -> "Job":
        """Fill ``destination`` with the 8 bytes of ``pattern``, low byte first."""
        if not 0 <= pattern < 1 << 64:
            raise ValueError(f"pattern must fit 64 bits, not be {pattern:#x}")
        to, room = _range("destination", destination)
        return cls(Descriptor(Opcode.FILL, Flag.BLOCK_ON_FAULT, 0, 0, to, 0, 0, 0, pattern, room), None, destination)

    @classmethod
    def noop(cls) -> "Job":
        """Do nothing but complete."""
        return cls(Descriptor(Opcode.NOOP, Flag(0)))

    @classmethod
    def drain(cls) -> "Job":
        """Complete when all that was submitted to the queue before has."""
        return cls(Descriptor(Opcode.DRAIN, Flag(0)))

    @classmethod
    def list(cls, members: Sequence["Job"]) -> "Job":
        """All of ``members`` with one submission, in any order."""
        if not members:
            raise ValueError("members must not be empty")
        if any(member.descriptor.opcode in (Opcode.LIST, Opcode.DRAIN) for member in members):
            raise ValueError("members must be neither lists nor drains")
        return cls(Descriptor(Opcode.LIST, Flag.BLOCK_ON_FAULT, 0, 0, 0, DESCRIPTOR_SIZE * len(members)),
                   members=tuple(members))

    @classmethod
    def of(cls, descriptor: Descriptor) -> "Job":
        """A descriptor as it is; where its data lies is the caller's business."""
        return cls(descriptor)

    @property
    def size(self) -> int:
        """Bytes read and written at most, for time limits."""
        own = self.descriptor.source_size + self.descriptor.destination_size
        return own + sum(member.size for member in self.members)

    def check(self, completion: Completion) -> None:
        """Compare the checksums with the destination's bytes.

        The destination must have been made visible. Raises :class:`ChecksumMismatch`.
        """
        if self.descriptor.opcode != Opcode.DECOMPRESS or self.destination is None:
            return
        output = self.destination[:completion.output_size].view(np.ndarray)
        crc_seed, xor_seed = self.seeds
        xor = xor16(output, xor_seed)
        if xor != completion.xor_checksum:
            raise ChecksumMismatch(f"the bytes in memory have XOR checksum {xor:#06x}, the device says "
                                   f"{completion.xor_checksum:#06x}", completion)
        if completion.members > 1:
            return  # the CRC is that of the last member, whose beginning is not told
        is_c = bool(self.descriptor.flags & Flag.CRC32C)
        crc = crc32c(output, crc_seed) if is_c else zlib.crc32(output, crc_seed)
        if crc != completion.crc:
            raise ChecksumMismatch(f"the bytes in memory have CRC {crc:#010x}, the device says {completion.crc:#010x}",
                                   completion)


class Handle:
    """A job on its way. ``completion`` is its record once the driver has seen it, else ``None``."""

    def __init__(self, driver: "JobDriver", job: Job, queue: int, slot: int):
        self.driver = driver
        self.job = job
        self.queue = queue
        self.completion: Completion | None = None
        #: How the bytes in memory differ from what the record says, if they do: :meth:`wait` raises it.
        self.mismatch: ChecksumMismatch | None = None
        #: Whether a queue has taken it.
        self.accepted = False
        #: Whether the device was restarted before the result was there.
        self.lost = False
        #: Handles of a list's members, whose records are there when the list's is.
        self.members: tuple[Handle, ...] = ()
        self._slot = slot
        self._words: tuple[int, ...] = ()
        self._array: Buffer | None = None

    def done(self) -> bool:
        """Whether the record is there. Lets no device time pass."""
        return self.driver.poll(self)

    def wait(self, timeout: float | None = None, cycles: int | None = None) -> Completion:
        """Wait for the record; see :meth:`~rackgate_host.iaa.IaaDriver.wait`."""
        return self.driver.wait(self, timeout, cycles)

    @property
    def is_success(self) -> bool:
        """Whether the record is there and tells of a success."""
        return self.completion is not None and self.completion.status == Status.SUCCESS
