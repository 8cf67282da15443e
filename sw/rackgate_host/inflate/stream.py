# SPDX-License-Identifier: Apache-2.0
"""A compressed stream that arrives and leaves in pieces, over the device's contexts."""

import zlib

import numpy as np

from rackgate.inflate.abi import MAX_SOURCE_SIZE, Completion, ErrorCode, Flag, Format, Opcode, Status

from ..errors import DeviceFault
from ..memory import Buffer
from .driver import Handle, InflateDriver, Job
from .errors import InflateError

__all__ = ["DESTINATION_ROOM", "RETAINED", "SOURCE_ROOM", "Stream"]

#: Most bytes of one job's source and destination, for streams longer than that. With little device memory they are an
#: eighth and a half of a context's share of it.
SOURCE_ROOM = 1 << 18
DESTINATION_ROOM = 1 << 20

#: A stream keeps its input up to this many bytes, so that it can give up its context and do it again.
RETAINED = 16 << 20


class Stream:
    """One compressed stream.

    It holds a context from its first job to its end. The state of a context cannot be saved, so a stream whose context
    goes to another keeps its input, and does it again from the start, without handing out its output a second
    time, when it goes on. That costs up to :data:`RETAINED` bytes of host memory, and device time for all of the
    stream's input so far at each such change: with no more live streams than contexts it never happens. A
    stream longer than that keeps its context for good (:attr:`pinned`).

    Parameters
    ----------
    driver:
        Driver of the device.
    format:
        Framing.
    dictionary:
        Preset dictionary, or ``None``.
    timeout:
        Seconds of the host for each job; ``None`` leaves it to the driver.
    members:
        Whether a gzip stream goes on with the next member at the end of one.

    Attributes
    ----------
    ended:
        Whether the end of the stream was seen.
    position:
        Bits of input that the device is done with.
    produced:
        Bytes handed out.
    """

    def __init__(self, driver: InflateDriver, format: Format, dictionary: bytes | None = None,
                 timeout: float | None = None, members: bool = False):
        self.driver = driver
        share = driver.device.allocator.size // driver.contexts
        self._source_room = min(SOURCE_ROOM, share // 8 & -64)
        self._destination_room = min(DESTINATION_ROOM, share // 2)
        self.format = format
        self.dictionary = dictionary
        self.timeout = timeout
        self.members = members
        self.ended = False
        self.position = 0
        self.produced = 0
        #: Cycles from start to finish of the device's jobs for this stream, added up.
        self.busy_cycles = 0
        #: The last job's result.
        self.completion: Completion | None = None
        self._input = bytearray()  # from byte _dropped of the stream on
        self._dropped = 0
        self._context: int | None = None
        self._begun = False
        self._redone = 0  # bytes produced since the context was taken

    @property
    def pinned(self) -> bool:
        """Whether the stream cannot do without its context any more."""
        return self._dropped > 0

    def evict(self) -> None:
        """Forget what the context knew; called by the driver."""
        self._lost = self.pinned
        self._context = None
        self._begun = False
        self.position = 0
        self._redone = 0

    def copy(self) -> "Stream":
        """An independent stream at the same point. It takes a context, and does the input again, when it goes on.

        Raises ``ValueError`` when the input is not kept any more.
        """
        if self.pinned:
            raise ValueError(f"a stream of more than {RETAINED} input bytes cannot be copied: its input is not kept")
        twin = Stream(self.driver, self.format, self.dictionary, self.timeout, self.members)
        twin._input = bytearray(self._input)
        twin.ended, twin.produced = self.ended, self.produced
        twin.position = self.position if self.ended else 0
        return twin

    @property
    def taken(self) -> int:
        """Bytes of input so far."""
        return self._dropped + len(self._input)

    def advance(self, data: memoryview, limit: int | None = None, last: bool = False) -> tuple[bytes, int]:
        """Take ``data`` and return at most ``limit`` bytes of output, and how many bytes of ``data`` were not taken.

        Bytes are not taken when the output is full (offer them again), or when the stream has ended before them. With
        ``last`` the input is complete: an early end of it is then an error.

        Raises
        ------
        InflateError
            The data is wrong. The stream is then of no more use.
        """
        with self.driver.lock:
            before, produced = self.taken, self.produced
            self.feed(data)
            output: list[bytes] = []
            size = 0
            full = False
            try:
                while not self.ended and self.position >> 3 < self.taken:
                    room = DESTINATION_ROOM if limit is None else min(DESTINATION_ROOM, limit - size)
                    completion, content = self.end(self.begin(room, last))
                    output.append(content)
                    size += len(content)
                    full = completion.status == Status.OUTPUT_OVERFLOW and size == limit
                    if full or self.is_over(completion):
                        break
            except InflateError:
                self.release()
                raise
            except BaseException:
                # This call has never been: the stream does its input again when it goes on.
                self.release()
                self.evict()
                if not self.pinned:
                    del self._input[before:]
                    self.produced = produced
                raise
            kept = max(before, self.position >> 3)
            rest = self.taken - kept if full or self.ended else 0
            del self._input[len(self._input) - rest:]
            self._forget()
            return b"".join(output), rest

    def feed(self, data: memoryview | bytes) -> None:
        """Add ``data`` to the input that the next jobs get."""
        self._input += data

    def is_over(self, completion: Completion) -> bool:
        """Whether nothing more can be done with the input there is, after a job that ended with ``completion``.

        Raises
        ------
        InflateError
            The data is wrong.
        """
        match completion.status:
            case Status.SUCCESS:
                self.ended = True
                self.release()
                return True
            case Status.OUTPUT_OVERFLOW:
                return False
            case Status.NEED_INPUT:
                return not self._more
            case Status.NEED_DICTIONARY:
                self._load(completion.dictionary)
                return False
            case Status.ANALYTICS_ERROR:
                raise InflateError.of(ErrorCode(completion.error), self.position)
            case status:
                raise DeviceFault(f"{self.driver.device.url}: a job ended with {Status(status).name}")

    def begin(self, room: int, last: bool) -> Handle:
        """Submit the next piece of input, with ``room`` (at most :data:`DESTINATION_ROOM`) for new output."""
        driver = self.driver
        driver.recover()
        if self._lost:
            raise DeviceFault(f"{driver.device.url}: a stream of more than {RETAINED} input bytes lost its context "
                              "when the device was restarted, and its input is not kept")
        if self._context is None:
            self._context = driver.hold(self)
        driver.touch(self._context)
        if self.format == Format.RAW and self.dictionary is not None and not self._begun:
            self._load(None)
        again = self.produced - self._redone  # bytes that the caller has already
        start = (self.position >> 3) - self._dropped
        window = max(self._source_room, self._wanted)
        piece = memoryview(self._input)[start:start + window]
        self._more = start + window < len(self._input)
        source = self._filled(piece)
        piece.release()
        most = self._destination_room
        room = min(room + again, most)
        destination = driver.scratch(f"destination {self._context}", most)[:room] if room else None
        flags = Flag.LAST if last and not self._more else Flag(0)
        flags |= Flag.RESUME if self._begun else Flag(0)
        flags |= Flag.MULTI if self.members else Flag(0)
        handle, = driver.submit(Job(source, destination, self.format, flags, start_bit=self.position & 7,
                                    context=self._context))
        return handle

    def end(self, handle: Handle) -> tuple[Completion, bytes]:
        """Wait for the job of :meth:`begin`: its result, and the new output."""
        completion = self.completion = self._result(handle)
        destination, again = handle.job.destination, self.produced - self._redone
        self._begun = True
        self.busy_cycles += completion.finished - completion.started
        moved = 8 * completion.consumed + completion.consumed_bit - (self.position & 7)
        self.position += moved
        # A header longer than a piece makes no progress: offer more of it.
        stuck = self._more and not moved and not completion.produced
        self._wanted = 2 * max(self._source_room, self._wanted) if stuck else 0
        skipped = min(again, completion.produced)
        self._redone += completion.produced
        content = b"" if destination is None else destination[skipped:completion.produced].tobytes()
        self.produced += len(content)
        return completion, content

    def _result(self, handle: Handle) -> Completion:
        try:
            return handle.wait(self.timeout)
        except BaseException:
            # Nobody knows what the device is doing with the buffers.
            self.driver.distrust()
            raise

    _lost = False  # whether the stream cannot go on
    _more = False  # whether there is input behind the last piece
    _wanted = 0  # bytes that the next piece must have

    def _load(self, wanted: int | None) -> None:
        """Put the dictionary into the context; it must have the identifier ``wanted`` unless that is ``None``."""
        if self.dictionary is None:
            raise InflateError(2, "", status=Status.NEED_DICTIONARY, position=self.position)
        if wanted is not None and zlib.adler32(self.dictionary) != wanted:
            raise InflateError(-3, "invalid input data", doing="while setting zdict", status=Status.NEED_DICTIONARY,
                               position=self.position)
        # Only what fits the window can be referred to.
        source = self._filled(memoryview(self.dictionary)[-self.driver.window:])
        handle, = self.driver.submit(Job(source, opcode=Opcode.LOAD, flags=Flag(0), context=self._context))
        completion = self._result(handle)
        if completion.status != Status.SUCCESS:
            raise DeviceFault(f"{self.driver.device.url}: loading a dictionary ended with "
                              f"{Status(completion.status).name}")
        self._begun = True

    def _forget(self) -> None:
        """Let go of input that will not be needed, once there is too much of it to keep."""
        done = self.position >> 3
        if not self.ended and done - self._dropped > RETAINED:
            del self._input[:done - self._dropped]
            self._dropped = done

    def release(self) -> None:
        """Give back the context; the stream has ended or is given up."""
        if self._context is not None:
            self.driver.release(self._context)
            self._context = None

    def _filled(self, content: memoryview) -> Buffer | None:
        """A buffer that holds ``content``, until the next job of the same context."""
        if not content.nbytes:
            return None
        if content.nbytes > MAX_SOURCE_SIZE:
            raise InflateError(-3, f"a header of more than {MAX_SOURCE_SIZE} bytes is beyond the device")
        room = max(self._source_room, content.nbytes)
        buffer = self.driver.scratch(f"source {self._context}", room)[:content.nbytes]
        buffer[:] = np.frombuffer(content, np.uint8)
        return buffer
