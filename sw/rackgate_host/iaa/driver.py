# SPDX-License-Identifier: Apache-2.0
"""Driver of the IAA-style device for whole buffers, with software in its place where it fails."""

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rackgate.iaa.abi import Command, Framing, Status
from rackgate.iaa.aecs import AECS_SIZE, Aecs

from ..device import Device, open_device
from ..errors import DeviceFault, DeviceTimeout, Unavailable, UsageError
from ..memory import Buffer
from .checksums import crc64
from .errors import ChecksumMismatch, IaaError, InvalidData, failed
from .fallback import SoftwareIaa, decompress
from .jobdriver import ACTIVE, JobDriver
from .jobs import Handle, Job, StreamState, Table
from .queues import QueueConfig

__all__ = ["ENVIRONMENT", "IaaDriver"]

#: Variable with the URL of the device that :meth:`IaaDriver.open` takes by default.
ENVIRONMENT = "RACKGATE_IAA"
_DEFAULT_URL = "sim:iaa"
_PAGE = 4096


class IaaDriver(JobDriver):
    """Drives an IAA-style device, and falls back to software.

    Setting up resets the device, so a device has one driver; :meth:`of` finds it, :meth:`open` takes a URL.

    Parameters
    ----------
    device, queues, engines, slots, verify:
        See :class:`~rackgate_host.iaa.jobdriver.JobDriver`.

    Attributes
    ----------
    lock:
        Held by the calls for whole buffers. The driver itself is not locked.
    fallbacks, last_fallback:
        How many buffers software has done, and why it did the last one.
    note:
        ``None``: there is a device. See :class:`~rackgate_host.iaa.SoftwareIaa`.
    """

    def __init__(self, device: Device, *, queues: Sequence[QueueConfig] | None = None,
                 engines: Mapping[int, int] | None = None, slots: int = 256, verify: bool = True):
        self.lock = threading.RLock()
        self.note: str | None = None
        self.fallbacks = 0
        self.last_fallback: str | None = None
        self._scratch: dict[str, Buffer] = {}
        self._owns_device = False
        super().__init__(device, queues=queues, engines=engines, slots=slots, verify=verify)

    @classmethod
    def of(cls, device: Device) -> "IaaDriver":
        """The driver of ``device``, made now if it has none."""
        return device.driver if isinstance(device.driver, cls) else cls(device)

    @classmethod
    def open(cls, url: str | None = None, **options: Any) -> "IaaDriver | SoftwareIaa":
        """A driver of the device at ``url``, or software in its place if it cannot be had; ``note`` then says why.

        Without ``url`` that in the environment variable RACKGATE_IAA, else ``sim:iaa``. Closing the driver closes
        the device. Raises :class:`UsageError` for a wrong ``url``.
        """
        wanted = url or os.environ.get(ENVIRONMENT)
        try:
            device = open_device(wanted or _DEFAULT_URL, **options)
        except Unavailable as error:
            return SoftwareIaa(str(error))
        except UsageError as error:
            if wanted:
                raise
            return SoftwareIaa(str(error))
        try:
            driver = cls.of(device)
        except BaseException:
            device.close()
            raise
        driver._owns_device = True
        return driver

    # Tables

    def load_table(self, header: bytes, *, crc: int = 0, xor_checksum: int = 0) -> Table:
        """Put a canned table into device memory.

        ``header`` is the header of a final dynamic block, made to end on a byte boundary; checksums of the jobs' output
        go on from the seeds. The device reads a table once and keeps it; what it keeps of others is forgotten now.
        """
        aecs = Aecs(header, crc, xor_checksum)
        table = Table(self.device.allocate(AECS_SIZE), aecs)
        self._count_generation()
        return table

    # Whole buffers

    def _buffer(self, name: str, size: int) -> Buffer:
        """A buffer of ``size`` bytes that lives as long as the driver, if it is the largest of its name."""
        buffer = self._scratch.get(name)
        if buffer is None or buffer.nbytes < size:
            buffer = self._scratch[name] = self.device.allocate(-(-max(size, 1) // _PAGE) * _PAGE, alignment=_PAGE)
        return buffer[:size]

    def _put(self, name: str, data: bytes) -> Buffer:
        buffer = self._buffer(name, len(data))
        buffer[:] = np.frombuffer(data, np.uint8)
        return buffer

    def _fell_back(self, reason: Exception | str) -> None:
        self.fallbacks += 1
        self.last_fallback = str(reason).splitlines()[0]
        if isinstance(reason, (DeviceFault, DeviceTimeout)):
            self.reset()

    def decompress(self, data: bytes, framing: Framing = Framing.RAW, *, size: int | None = None,
                   table: Table | None = None, timeout: float | None = None) -> bytes:
        """``data`` decompressed: one raw or zlib stream, or all members of gzip data. Bytes behind it are ignored.

        Without ``size`` a raw stream comes in parts, however long: each job goes on where the one before it had no more
        room. With framing the room is guessed, and the job done again with more where it was not enough. When the
        device fails, software does it: see :attr:`last_fallback`. ``timeout`` is in seconds for each job.

        Raises
        ------
        InvalidData
            The data is wrong or cut short, or does not hold ``size`` bytes.
        """
        with self.lock:
            reason: Exception | str = f"{len(data)} bytes are more than a job can have"
            if 0 < len(data) <= self.max_transfer and (size or 0) <= self.max_transfer:
                try:
                    return self._decompress(data, framing, size, table, timeout)
                except (IaaError, DeviceFault, DeviceTimeout) as error:
                    reason = error
            self._fell_back(reason)
            header = b"" if table is None else table.header
            try:
                return decompress(data, framing, size=size, header=header)
            except InvalidData as error:
                if isinstance(reason, InvalidData):
                    raise reason from error
                raise

    def _decompress(self, data: bytes, framing: Framing, size: int | None, table: Table | None,
                    timeout: float | None) -> bytes:
        source = self._put("source", data)
        room = min(max(_PAGE, 4 * len(data)), self.max_transfer) if size is None else max(size, 1)
        if framing == Framing.RAW and size is None:
            return self._decompress_parts(source, room, table, timeout)
        while True:
            destination = self._buffer("destination", room)
            completion = self.submit(Job.decompress(source, destination, framing, table=table),
                                     timeout=timeout).wait(timeout)
            if completion.status == Status.OUTPUT_OVERFLOW and size is None and room < self.max_transfer:
                room = min(4 * room, self.max_transfer)
                continue
            if completion.status != Status.SUCCESS:
                raise failed(completion)
            if size is not None and completion.output_size != size:
                raise InvalidData(f"the data holds {completion.output_size} bytes, not {size}", completion)
            return destination[:completion.output_size].tobytes()

    def _decompress_parts(self, source: Buffer, room: int, table: Table | None, timeout: float | None) -> bytes:
        """A raw stream in as many jobs as it takes, the first with ``room`` for output, the next with more."""
        window, begin, parts = self.device.parameters["window"], 0, list[bytes]()
        state = StreamState(self._buffer("state", StreamState.room(window)), window, table)
        while True:
            destination = self._buffer("destination", room)
            job = Job.decompress(source[begin:], destination, table=table, state=state)
            completion = self.submit(job, timeout=timeout).wait(timeout)
            parts.append(destination[:completion.output_size].tobytes())
            if completion.status == Status.SUCCESS:
                return b"".join(parts)
            if completion.status != Status.OUTPUT_OVERFLOW or not completion.output_size:
                raise failed(completion)
            begin += completion.completed
            room = min(4 * room, self.max_transfer)
            state.advance(completion)

    def decompress_many(self, pages: Sequence[bytes], size: int = _PAGE, *, table: Table | None = None,
                        timeout: float | None = None) -> list[bytes]:
        """Raw streams, each of at most ``size`` bytes, decompressed: as lists, so that a page takes no submission.

        Pages that the device fails at are done by software. Errors and ``timeout`` as in :meth:`decompress`.
        """
        with self.lock:
            outputs: list[bytes] = []
            at_a_time = self.device.parameters["engines"] * self.device.parameters["contexts"]
            most = max(1, (self._slots - 1) // at_a_time - 1) * at_a_time
            for begin in range(0, len(pages), most):
                outputs += self._lists(pages[begin:begin + most], size, table, at_a_time, timeout)
            return outputs

    def _lists(self, pages: Sequence[bytes], size: int, table: Table | None, lists: int,
               timeout: float | None) -> list[bytes]:
        ends = np.cumsum([0, *(-(-len(page) // 64) * 64 for page in pages)]).tolist()
        source = self._buffer("source", max(ends[-1], 64))
        destination = self._buffer("destination", size * len(pages))
        jobs: list[Job | None] = []
        for number, page in enumerate(pages):
            if not 0 < len(page) <= self.max_transfer:
                jobs.append(None)
                continue
            part = source[ends[number]:ends[number] + len(page)]
            part[:] = np.frombuffer(page, np.uint8)
            jobs.append(Job.decompress(part, destination[size * number:size * (number + 1)], table=table))
        there = [job for job in jobs if job is not None]
        handles: dict[int, Handle] = {}
        reason: Exception | str = "the job was not done"
        try:
            step = -(-len(there) // lists)
            groups = [there[at:at + step] for at in range(0, len(there), step)] if there else []
            submitted = [self.submit(Job.list(group), timeout=timeout) for group in groups]
            for handle in submitted:
                with contextlib.suppress(ChecksumMismatch):  # the page is done again below
                    handle.wait(timeout)
                handles |= {id(member.job): member for member in handle.members}
        except (DeviceFault, DeviceTimeout) as error:
            reason = error
            self._fell_back(error)
        return [self._page_of(page, jobs[number], handles, size, table, reason) for number, page in enumerate(pages)]

    def _page_of(self, page: bytes, job: Job | None, handles: dict[int, Handle], size: int, table: Table | None,
                 reason: Exception | str) -> bytes:
        """A page of a list, by software if it has not come out well."""
        handle = None if job is None else handles.get(id(job))
        if handle is not None and job is not None and job.destination is not None and handle.completion is not None:
            completion = handle.completion
            if completion.status == Status.SUCCESS and handle.mismatch is None:
                return job.destination[:completion.output_size].tobytes()
            reason = handle.mismatch or failed(completion)
        self.fallbacks += 1
        self.last_fallback = str(reason).splitlines()[0]
        output = decompress(page, header=b"" if table is None else table.header)
        if len(output) > size:
            raise InvalidData(f"a page holds {len(output)} bytes, more than {size}")
        return output

    def crc64(self, data: bytes, polynomial: int, *, invert: bool = False, big_endian: bool = False,
              timeout: float | None = None) -> int:
        """CRC of ``data``; see :func:`rackgate_host.iaa.checksums.crc64`. When the device fails, software does it."""
        with self.lock:
            reason: Exception | str = f"{len(data)} bytes are none, or more than a job can have"
            if 0 < len(data) <= self.max_transfer:
                try:
                    job = Job.crc64(self._put("source", data), polynomial, invert=invert, big_endian=big_endian)
                    completion = self.submit(job, timeout=timeout).wait(timeout)
                    if completion.status == Status.SUCCESS:
                        return completion.crc64
                    reason = failed(completion)
                except (IaaError, DeviceFault, DeviceTimeout) as error:
                    reason = error
            self._fell_back(reason)
            return crc64(data, polynomial, invert=invert, big_endian=big_endian)

    def fill(self, destination: Buffer, pattern: int = 0, *, timeout: float | None = None) -> None:
        """Fill a buffer in device memory with the 8 bytes of ``pattern``. When the device fails, the host does it."""
        with self.lock:
            try:
                completion = self.submit(Job.fill(destination, pattern), timeout=timeout).wait(timeout)
                wanted = np.frombuffer((pattern.to_bytes(8, "little") * (destination.nbytes // 8 + 1)), np.uint8)
                wanted = wanted[:destination.nbytes]
                if completion.status == Status.SUCCESS and np.array_equal(destination.view(np.ndarray), wanted):
                    return
                reason: Exception = failed(completion)
            except (IaaError, DeviceFault, DeviceTimeout) as error:
                reason = error
            self._fell_back(reason)
            repeated = pattern.to_bytes(8, "little") * (destination.nbytes // 8 + 1)
            destination[:] = np.frombuffer(repeated, np.uint8)[:destination.nbytes]
            destination.sync_to_device()

    def close(self) -> None:
        """Disable the device and give back the driver's memory. A device that :meth:`open` opened is closed."""
        if self.device.closed or self.device.driver is not self:
            return
        self.device.regs.IRQ_ENABLE.value = 0
        self.device.regs.CMD.write(command=Command.RESET_DEVICE)
        self.device.wait_register("CMDSTS", ACTIVE, 0)
        for buffer in (self._records, *self._scratch.values()):
            buffer.free()
        self.device.driver = None
        if self._owns_device:
            self.device.close()

    def __enter__(self) -> "IaaDriver":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
