# SPDX-License-Identifier: Apache-2.0
"""Engines for the tests: monitors import this by name."""

import time

from rackgate_host.sabre.engines import Batched, BatchResult, EngineResult, SoftwareEngine
from rackgate_host.sabre.format import Kind
from rackgate_host.sabre.software import choose, crc32

__all__ = ["jobs", "lingering", "lying", "stuck", "wrong"]


class Stuck(SoftwareEngine):
    """Takes all and gives nothing."""

    def collect(self):
        return []

    def due(self):
        return 0.01


class Wrong(SoftwareEngine):
    """Spoils a byte of one unit's output and says the CRC of what came out."""

    def __init__(self, snapshot, plan, arenas, partition):
        super().__init__(snapshot, plan, arenas, workers=1)
        self._partition = partition
        self._targets = {}

    def submit(self, batch):
        self._targets[batch.number] = batch.work
        super().submit(batch)

    def collect(self):
        return [self._spoil(result, self._targets.pop(result.number)) for result in super().collect()]

    def _spoil(self, result, work):
        crcs = result.crc32.copy()
        for entry, row in enumerate(work):
            if row["partition"] == self._partition:
                start, size = int(row["target"]), int(row["size"])
                self._target[start + 100] ^= 1
                crcs[entry] = crc32(bytes(self._target[start:start + size]))
        return BatchResult(result.number, crcs, result.addresses, result.seconds, result.faults)


class Jobs:
    """Does jobs one by one, the last one first, a while after they came."""

    depth = 5

    def __init__(self, snapshot):
        self._headers = [table.header for table in snapshot.tables]
        self._inflate = choose("zlib").inflate
        self._waiting = []

    def submit(self, jobs):
        assert len(self._waiting) + len(jobs) <= self.depth
        self._waiting += [(time.monotonic() + 0.0002, job) for job in jobs]

    def collect(self):
        ready = [job for due, job in self._waiting if due <= time.monotonic()][-2:]
        self._waiting = [(due, job) for due, job in self._waiting if job not in ready]
        return [self._run(job) for job in reversed(ready)]

    def close(self):
        self._waiting.clear()

    def _run(self, job):
        data = bytes(job.stored)
        if job.kind is not Kind.RAW:
            header = self._headers[job.table] if job.kind is Kind.CANNED else b""
            data = self._inflate(data, len(job.destination), header)
        job.destination[:] = data
        return EngineResult(job.partition, crc32(data), 1e-5, 1000)


def stuck(snapshot, plan, arenas):
    return Stuck(snapshot, plan, arenas, workers=1)


def wrong(snapshot, plan, arenas, partition):
    return Wrong(snapshot, plan, arenas, partition)


class Lingering(SoftwareEngine):
    """Takes its time to end."""

    def close(self):
        super().close()
        time.sleep(1.5)


def lingering(snapshot, plan, arenas):
    return Lingering(snapshot, plan, arenas, workers=1)


def jobs(snapshot, plan, arenas):
    return Batched(Jobs(snapshot), arenas)


def crashing(snapshot, plan, arenas):
    raise ZeroDivisionError("no such device")


def lying(snapshot, plan, arenas):
    """Says that a partition is done that it never got."""
    engine = Jobs(snapshot)
    engine.collect = lambda: [EngineResult(999_999, 0)]
    return Batched(engine, arenas)
