# SPDX-License-Identifier: Apache-2.0
"""The bench ``iaa``: the accelerator on memory pages, one submission for many, every byte and checksum compared."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rackgate.iaa.abi import Status

from ..device import Device, open_device
from ..errors import DeviceFault
from ..iaa import IaaDriver, Job, Table
from ..sabre.canned import CannedTable, train
from .benches import ANYWHERE, HERE
from .inflate import chosen, digest, page_samples

__all__ = ["run", "units"]

_PAGE = 4096
# Case: floor and target in bytes a cycle (sabre.md 8.4, and the issue that asks for this device).
_GOALS: dict[str, tuple[float | None, float | None]] = {
    "anon-4k-canned": (4.5, 5.4), "anon-4k-dynamic": (4.0, 5.0), "anon-4k-fixed": (None, None),
    "code-4k-canned": (None, None), "code-4k-dynamic": (2.0, 2.35), "made-4k-dynamic": (None, None),
}
_PAGES = {"anon": "anonymous", "code": "code", "made": "made"}
_STRATEGIES = {"dynamic": zlib.Z_DEFAULT_STRATEGY, "fixed": zlib.Z_FIXED}
# A lone page: 25 us at 80 MHz, 17 us at 100 MHz (sabre.md 8.4).
_LATENCY = (2000, 1700)
_SCALING = 0.9
_SCALING_CASE = "anon-4k-canned"
_PORT = 8  # bytes that a memory port carries in a cycle, in each direction


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
             lists: int = 1) -> int:
    """Cycles for so many lists of all pages, from the first submission to the last completion."""
    device = driver.device
    work: list[tuple[Job, bytes]] = []
    for stream, page in zip([*streams] * lists, [*pages] * lists, strict=True):
        source, destination = device.allocate(len(stream)), device.allocate(len(page))
        source[:] = np.frombuffer(stream, np.uint8)
        work.append((Job.decompress(source, destination, table=table), page))
    jobs = [job for job, _ in work]
    begin = device.cycles
    handles = [driver.submit(Job.list(jobs[number * len(pages):][:len(pages)])) for number in range(lists)]
    completions = [handle.wait() for handle in handles]
    cycles = device.cycles - begin
    for job, page in work:
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


class _Case:
    """Pages, compressed as a case wants them; as many others train its table."""

    def __init__(self, name: str, samples: dict[str, list[bytes]], count: int):
        self.name = name
        self.kind, _, self.mode = name.split("-")
        pages = samples[self.kind][:2 * count]
        self.pages = pages[::2]
        self.table = train(pages[1::2], 1)[0] if self.mode == "canned" else None
        self.streams = _encode(self.pages, self.mode, self.table)

    def load(self, driver: IaaDriver) -> Table | None:
        """The canned table in the device's memory."""
        return None if self.table is None else driver.load_table(self.table.header)


def _one_engine(device: Device, cases: Sequence[_Case], report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Rates and latencies of one engine."""
    driver = IaaDriver.of(device)
    for case in cases:
        report(f"{case.name} on {device.url}")
        floor, target = _GOALS[case.name]
        table = case.load(driver)
        cycles = _measure(driver, case.pages, case.streams, table)
        size = _PAGE * len(case.pages)
        yield {"case": case.name, "metric": "bytes_per_cycle", "value": round(size / cycles, 3), "unit": "byte/cycle",
               "floor": floor, "target": target,
               "conditions": {**device.parameters, "bytes_in": sum(map(len, case.streams)), "bytes_out": size,
                              "cycles": cycles, "data": digest(case.streams)},
               "source": f"{len(case.pages)} pages of 4 KB ({case.kind}), compressed alone, in one LIST"}
        if case.kind == "anon" and case.mode != "fixed":
            mean = _latency(driver, case.pages[:32], case.streams[:32], table)
            yield {"case": f"lone-page-{case.mode}", "metric": "cycles", "value": round(mean, 1), "unit": "cycle",
                   "floor": _LATENCY[0], "target": _LATENCY[1],
                   "conditions": {**device.parameters, "data": digest(case.streams[:32])},
                   "source": "32 pages, one at a time (anon)"}


def _rate(device: Device, case: _Case, engines: int) -> tuple[float, int]:
    """Output bytes a cycle of so many engines, each with a list of all pages; and the cycles."""
    with IaaDriver(device, slots=engines * (len(case.pages) + 1) + 1) as driver:
        cycles = _measure(driver, case.pages, case.streams, case.load(driver), engines)
    return _PAGE * len(case.pages) * engines / cycles, cycles


def _scaling(device: Device, case: _Case, one: float, name: str, floor: float | None) -> dict[str, Any]:
    """The point that tells what several engines give over so many times one."""
    parameters = device.parameters
    engines, ports = parameters["engines"], parameters["ports"]
    rate, cycles = _rate(device, case, engines)
    return {"case": name, "metric": "scaling", "value": round(rate / (one * engines), 3), "unit": "1", "floor": floor,
            "conditions": {**parameters, "bytes_per_cycle": round(rate, 3), "one_engine": round(one, 3),
                           "cycles": cycles, "port_limit": _PORT * ports,
                           "port_use": round(rate / (_PORT * ports), 3), "data": digest(case.streams)},
            "source": f"{len(case.pages)} pages of 4 KB ({case.kind}, {case.mode}) for each engine, a LIST for each"}


def _shapes(engines: Any, quick: bool) -> dict[str, tuple[int, int, float | None]]:
    """Case of the scaling: engines, ports, floor."""
    counts = [2] if quick else [int(number) for number in str(engines).split(",") if number.strip()]
    shapes: dict[str, tuple[int, int, float | None]] = {} if quick else {"engines-2-one-port": (2, 1, None)}
    return {**shapes, **{f"engines-{count}": (count, count, _SCALING) for count in counts}}


def units(*, engines: Any = "2,4,8", quick: bool = False, only: str = "",
          **options: Any) -> list[tuple[str, dict[str, Any], str]]:
    """A case each, with the latency of a lone page where the case has one."""
    options |= {"engines": engines, "quick": quick}
    return [(name, {**options, "only": name}, ANYWHERE if name.startswith("made") else HERE)
            for name in chosen(only, [*_GOALS, *_shapes(engines, quick)])]


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, device: str = "sim:iaa",
        pages: int = 192, engines: Any = "2,4,8", quick: bool = False, only: str = "") -> Iterator[dict[str, Any]]:
    """Measure and yield the points of ``rackgate bench iaa``.

    Scaling is measured with a memory port for each engine, so that no port limits it, and for two engines also with
    one port for both, whose 8 bytes a cycle do. Its devices are built as ``brief`` ones; eight engines take ten minutes
    on two processors.

    Parameters
    ----------
    seed:
        Seeds the simulation; the data is the same each time.
    report:
        Called with a line on what is under way.
    device:
        URL of the device.
    pages:
        Pages of each kind that are measured; as many others train the canned table. A third of them for the scaling.
    engines:
        Numbers of engines for the scaling beside one, with commas.
    quick:
        Two engines are enough, and no port is shared.
    only:
        Cases, with commas between; all by default.
    """
    shapes = _shapes(engines, quick)
    wanted = chosen(only, [*_GOALS, *shapes])
    cases, scaled = [name for name in _GOALS if name in wanted], [name for name in shapes if name in wanted]
    report("taking pages of a process")
    kinds = {name.partition("-")[0] for name in (*cases, _SCALING_CASE)}
    samples = {kind: page_samples(_PAGES[kind], 2 * pages) for kind in sorted(kinds)}
    is_simulated = device.startswith("sim:")
    options: dict[str, Any] = {"seed": seed, "progress": report} if is_simulated else {}
    shorter, one = _Case(_SCALING_CASE, samples, max(1, pages // 3)), 0.0
    with open_device(device, engines=1, **options) as opened:
        yield from _one_engine(opened, [_Case(name, samples, pages) for name in cases], report)
        if scaled:
            if isinstance(opened.driver, IaaDriver):
                opened.driver.close()
            one, _ = _rate(opened, shorter, 1)
    if is_simulated:
        options["variant"] = "brief"
    for name in scaled:
        count, ports, floor = shapes[name]
        report(f"{name} of {device}")
        with open_device(device, engines=count, ports=ports, **options) as opened:
            yield _scaling(opened, shorter, one, name, floor)
