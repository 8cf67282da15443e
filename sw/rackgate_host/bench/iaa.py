# SPDX-License-Identifier: Apache-2.0
"""The bench ``iaa``: the accelerator on memory pages, one submission for many, every byte and checksum compared."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rackgate.iaa.abi import Status

from ..device import open_device
from ..errors import DeviceFault
from ..iaa import IaaDriver, Job, Table
from ..sabre.canned import CannedTable, train
from .inflate import page_samples

__all__ = ["run"]

_PAGE = 4096
# Case: floor and target in bytes a cycle (sabre.md 8.4, and the issue that asks for this device).
_GOALS: dict[str, tuple[float | None, float | None]] = {
    "anon-4k-canned": (4.5, 5.4), "anon-4k-dynamic": (4.0, 5.0), "anon-4k-fixed": (None, None),
    "code-4k-canned": (None, None), "code-4k-dynamic": (2.0, 2.35),
}
_STRATEGIES = {"dynamic": zlib.Z_DEFAULT_STRATEGY, "fixed": zlib.Z_FIXED}
# A lone page: 25 us at 80 MHz, 17 us at 100 MHz (sabre.md 8.4).
_LATENCY = (2000, 1700)
_SCALING = 0.9


def _encode(pages: Sequence[bytes], mode: str, table: CannedTable | None) -> list[bytes]:
    """Each page compressed by itself, with the window that IAA has."""
    if table is not None:
        return [table.encode(page) for page in pages]
    streams = []
    for page in pages:
        encoder = zlib.compressobj(6, zlib.DEFLATED, -12, strategy=_STRATEGIES[mode])
        streams.append(encoder.compress(page) + encoder.flush())
    return streams


def _measure(driver: IaaDriver, pages: Sequence[bytes], streams: Sequence[bytes], table: Table | None,
             lists: int) -> int:
    """Cycles for all pages, given as so many lists at a time, from the first submission to the last completion."""
    device = driver.device
    jobs = []
    for stream, page in zip(streams, pages, strict=True):
        source, destination = device.allocate(len(stream)), device.allocate(len(page))
        source[:] = np.frombuffer(stream, np.uint8)
        jobs.append(Job.decompress(source, destination, table=table))
    begin = device.cycles
    handles = [driver.submit(Job.list(jobs[number::lists])) for number in range(lists)]
    completions = [handle.wait() for handle in handles]
    cycles = device.cycles - begin
    for job, page in zip(jobs, pages, strict=True):
        assert job.source is not None and job.destination is not None
        if job.destination.tobytes() != page:
            raise DeviceFault("a page did not come out as it went in")
        job.source.free()
        job.destination.free()
    if any(completion.status != Status.SUCCESS or completion.error for completion in completions):
        raise DeviceFault(f"a list failed: {completions}")
    return cycles


def _latency(driver: IaaDriver, pages: Sequence[bytes], streams: Sequence[bytes], table: Table | None) -> float:
    """Mean cycles of a page on an idle device, from leaving the queue to its record."""
    device, total = driver.device, 0
    for stream, page in zip(streams, pages, strict=True):
        source, destination = device.allocate(len(stream)), device.allocate(len(page))
        source[:] = np.frombuffer(stream, np.uint8)
        completion = driver.submit(Job.decompress(source, destination, table=table)).wait()
        if completion.status != Status.SUCCESS or destination.tobytes() != page:
            raise DeviceFault(f"a page did not come out as it went in: {completion}")
        total += completion.cycles
        source.free()
        destination.free()
    return total / len(pages)


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, device: str = "sim:iaa",
        pages: int = 192, engines: str = "1,2") -> Iterator[dict[str, Any]]:
    """Measure and yield the points of ``rackgate bench iaa``.

    Parameters
    ----------
    seed:
        Seeds the simulation; the data is the same each time.
    report:
        Called with a line on what is under way.
    device:
        URL of the device.
    pages:
        Pages of each kind that are measured; as many others train the canned table.
    engines:
        Numbers of engines for the scaling, the first of which is what the other points are measured with.
    """
    report("taking pages of a process")
    counts = [int(number) for number in str(engines).split(",")]
    samples = {kind: page_samples(name, 2 * pages) for kind, name in (("anon", "anonymous"), ("code", "code"))}
    rates: dict[int, float] = {}
    for count in counts:
        options: dict[str, Any] = {"seed": seed, "progress": report} if device.startswith("sim:") else {}
        with open_device(device, engines=count, **options) as opened:
            driver = IaaDriver.of(opened)
            for case, (floor, target) in _GOALS.items():
                if count != counts[0] and case != "anon-4k-canned":
                    continue
                kind, _, mode = case.split("-")
                chosen = samples[kind][::2]
                (table,) = train(samples[kind][1::2], 1) if mode == "canned" else (None,)
                loaded = driver.load_table(table.header) if table is not None else None
                streams = _encode(chosen, mode, table)
                report(f"{case} on {count} engines of {device}")
                cycles = _measure(driver, chosen, streams, loaded, count)
                rate = _PAGE * len(chosen) / cycles
                conditions = {**opened.parameters, "device": device, "bytes_in": sum(map(len, streams)),
                              "bytes_out": _PAGE * len(chosen), "cycles": cycles}
                source = f"{len(chosen)} pages of 4 KB ({kind}), compressed alone, one LIST for all of an engine"
                if count == counts[0]:
                    yield {"case": case, "metric": "bytes_per_cycle", "value": round(rate, 3), "unit": "byte/cycle",
                           "floor": floor, "target": target, "conditions": conditions, "source": source}
                    if kind == "anon" and mode != "fixed":
                        mean = _latency(driver, chosen[:32], streams[:32], loaded)
                        yield {"case": f"lone-page-{mode}", "metric": "cycles", "value": round(mean, 1),
                               "unit": "cycle", "floor": _LATENCY[0], "target": _LATENCY[1],
                               "conditions": opened.parameters, "source": "32 pages, one at a time (anon)"}
                if case == "anon-4k-canned":
                    rates[count] = rate
                    if count != counts[0]:
                        share = rate / (rates[counts[0]] * count / counts[0])
                        yield {"case": f"scaling-{count}", "metric": "share_of_linear", "value": round(share, 3),
                               "unit": "1", "floor": _SCALING, "conditions": {**conditions, "rate": round(rate, 3)},
                               "source": source}
