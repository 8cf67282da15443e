# SPDX-License-Identifier: Apache-2.0
"""Many whole streams at a time, so that all of a device's contexts have work."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rackgate.inflate.abi import Format

from .driver import Handle, InflateDriver
from .errors import InflateError
from .stream import DESTINATION_ROOM, Stream

__all__ = ["Outcome", "inflate_all"]


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    ``output`` is what came out, up to ``error`` if there is one. ``consumed`` bytes of the input belong to the stream,
    ``members`` gzip members are in it. ``cycles`` counts the device's clock from the first job's start to the last
    job's end; inputs done at the same time share them.
    """

    output: bytes
    error: InflateError | None
    consumed: int
    members: int
    cycles: int


@dataclass
class _Running:
    index: int
    stream: Stream
    handle: Handle
    parts: list[bytes] = field(default_factory=list)
    started: int | None = None
    finished: int = 0

    def outcome(self, error: InflateError | None) -> Outcome:
        completion = self.stream.completion
        members = completion.members if completion is not None else 0
        return Outcome(b"".join(self.parts), error, self.stream.position + 7 >> 3, members,
                       self.finished - (self.started or 0))


def inflate_all(driver: InflateDriver, inputs: Iterable[tuple[bytes, Format]], timeout: float | None = None,
                at_a_time: int | None = None) -> Iterator[tuple[int, Outcome]]:
    """Decompress ``inputs`` (data and its format) and yield (number, outcome) as each is done, in any order.

    ``at_a_time`` inputs are under way together; by default, and at most, as many as the device has contexts. A gzip
    input may have several members. Data that is wrong is an outcome; a device that fails raises. ``timeout`` is in
    seconds for each wait.
    """
    if at_a_time is not None and at_a_time < 1:
        raise ValueError(f"at_a_time must be at least 1, not {at_a_time}")
    most = min(at_a_time or driver.contexts, driver.contexts)
    waiting = enumerate(inputs)
    running: list[_Running] = []
    try:
        while True:
            while len(running) < most and (item := next(waiting, None)) is not None:
                index, (data, format) = item
                stream = Stream(driver, format, timeout=timeout, members=True)
                stream.feed(data)
                if not data:
                    yield index, Outcome(b"", InflateError.truncated(0), 0, 0, 0)
                    continue
                running.append(_Running(index, stream, stream.begin(DESTINATION_ROOM, True)))
            if not running:
                return
            done = driver.wait_any([job.handle for job in running], timeout)
            job = next(job for job in running if job.handle is done)
            running.remove(job)
            completion, content = job.stream.end(job.handle)
            job.parts.append(content)
            job.started = completion.started if job.started is None else job.started
            job.finished = completion.finished
            try:
                over = job.stream.is_over(completion)
            except InflateError as error:
                job.stream.release()
                yield job.index, job.outcome(error)
                continue
            if over:
                yield job.index, job.outcome(None)
            else:
                job.handle = job.stream.begin(DESTINATION_ROOM, True)
                running.append(job)
    except BaseException:
        driver.distrust()
        raise
    finally:
        for job in running:
            job.stream.release()
