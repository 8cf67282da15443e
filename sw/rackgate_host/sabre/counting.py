# SPDX-License-Identifier: Apache-2.0
"""Counting the cycles that a device takes for pages, in the simulated gateware, and keeping what was counted."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rackgate.iaa import abi as iaa
from rackgate.inflate.abi import Flag, Format, Status
from rackgate.paths import cache_root

from ..device import Device, open_device
from ..errors import DeviceFault
from ..iaa.driver import IaaDriver
from ..iaa.jobs import Job as IaaJob
from ..inflate.driver import InflateDriver, Job
from ..url import DeviceURL
from .replacing import replacing

__all__ = ["Counted", "Page", "count", "takes_tables"]

_IN_FLIGHT = 64
_MEMBERS = 128  # of a list: begin and end of one are a hundredth of its time
_ALONE = 16


@dataclass(frozen=True)
class Page:
    """One stream and what it holds; ``header`` is the canned table's whose codes it has, empty for whole streams."""

    stream: bytes
    content: bytes
    header: bytes = b""


@dataclass(frozen=True)
class Counted:
    """``cycles`` of each page when pages follow each other; ``alone`` is the mean of a page on an idle device, 0 where
    that was not counted. ``parameters`` are the device's, ``how`` says what was submitted."""

    cycles: np.ndarray
    alone: float
    parameters: dict[str, Any]
    how: str


def takes_tables(device: str) -> bool:
    """Whether the device at this URL knows canned tables."""
    return DeviceURL.parse(device).name == "iaa"


def count(pages: Sequence[Page], device: str, seed: int = 1,
          report: Callable[[str], None] = lambda line: None) -> Counted:
    """Cycles of pages that one engine of ``device`` is given back to back. They sum up to the time that all took.
    Every byte is compared.

    An ``iaa`` device gets lists, with canned tables in its memory; an ``inflate`` device gets jobs, and no canned
    pages. What was counted once on the same build is kept by content. Raises
    :class:`~rackgate_host.errors.DeviceFault` for wrong output.
    """
    options: dict[str, Any] = {"seed": seed, "progress": report} if device.startswith("sim:") else {}
    digest = hashlib.sha256()
    for page in pages:
        digest.update(hashlib.sha256(page.stream).digest() + hashlib.sha256(page.header).digest())
    lists = takes_tables(device)
    with open_device(device, **options) as opened:
        parameters = dict(opened.parameters)
        digest.update(f"2 {device} {seed} {opened.build} {parameters}".encode())
        kept = cache_root() / "sabre-cycles" / f"{digest.hexdigest()[:32]}.npy"
        if kept.is_file():
            found = np.load(kept, allow_pickle=False)
        else:
            found = (_on_lists if lists else _on_jobs)(opened, pages, report)
            _keep(kept, found)
    how = f"LIST jobs of {_MEMBERS} pages" if lists else f"single jobs, {_IN_FLIGHT} in flight"
    return Counted(found[1:], float(found[0]), parameters, how)


def _keep(path: Path, cycles: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        np.save(file, cycles)


def _on_lists(device: Device, pages: Sequence[Page], report: Callable[[str], None]) -> np.ndarray:
    """The mean of a page alone, then the cycles of each: a list's time, shared out as its members' times are."""
    driver = IaaDriver.of(device)
    tables = {header: driver.load_table(header) for header in dict.fromkeys(page.header for page in pages) if header}
    found = np.zeros(1 + len(pages))
    for low in range(0, len(pages), _MEMBERS):
        report(f"counting cycles: {low} of {len(pages)} pages")
        chosen = pages[low:low + _MEMBERS]
        jobs = [_iaa_job(device, page, tables) for page in chosen]
        handle = driver.submit(IaaJob.list(jobs))
        whole = handle.wait().cycles
        own = np.array([_checked(member, page, low + number) for number, (member, page) in enumerate(
            zip(handle.members, chosen, strict=True))], np.float64)
        found[1 + low:1 + low + len(own)] = own * (whole / own.sum())
    alone = []
    for number in np.unique(np.linspace(0, len(pages) - 1, min(_ALONE, len(pages))).astype(np.int64)).tolist():
        handle = driver.submit(_iaa_job(device, pages[number], tables))
        handle.wait()
        alone.append(_checked(handle, pages[number], number))
    found[0] = np.mean(alone) if alone else 0
    for table in tables.values():
        table.free()
    return found


def _iaa_job(device: Device, page: Page, tables: dict[bytes, Any]) -> IaaJob:
    source, destination = device.allocate(len(page.stream)), device.allocate(len(page.content))
    source[:] = np.frombuffer(page.stream, np.uint8)
    return IaaJob.decompress(source, destination, table=tables.get(page.header))


def _checked(handle: Any, page: Page, number: int) -> int:
    """Cycles of a job that is done, whose buffers are given back."""
    job, completion = handle.job, handle.completion
    if completion.status != iaa.Status.SUCCESS or job.destination.tobytes() != page.content:
        raise DeviceFault(f"page {number} did not come out as it went in: status {completion.status:#x}, "
                          f"error {completion.error}")
    job.source.free()
    job.destination.free()
    return completion.cycles


def _on_jobs(device: Device, pages: Sequence[Page], report: Callable[[str], None]) -> np.ndarray:
    """0, then cycles from one completion to the next."""
    driver = InflateDriver.of(device)
    found = np.zeros(1 + len(pages))
    for low in range(0, len(pages), _IN_FLIGHT):
        report(f"counting cycles: {low} of {len(pages)} pages")
        chosen = pages[low:low + _IN_FLIGHT]
        found[1 + low:1 + low + len(chosen)] = _batch(driver, chosen, low)
    return found


def _batch(driver: InflateDriver, pages: Sequence[Page], first: int) -> np.ndarray:
    device, jobs = driver.device, []
    for page in pages:
        source, destination = device.allocate(len(page.stream)), device.allocate(len(page.content))
        source[:] = np.frombuffer(page.stream, np.uint8)
        jobs.append(Job(source, destination, Format.RAW, Flag.LAST))
    completions = [handle.wait() for handle in driver.submit(*jobs)]
    for number, (job, page, completion) in enumerate(zip(jobs, pages, completions, strict=True), first):
        assert job.source is not None and job.destination is not None
        if completion.status != Status.SUCCESS or job.destination.tobytes() != page.content:
            raise DeviceFault(f"page {number} did not come out as it went in: status {completion.status:#x}, "
                              f"error {completion.error}")
        job.source.free()
        job.destination.free()
    finished = np.array([completion.finished for completion in completions], np.int64)
    order = np.argsort(finished, kind="stable")
    cycles = np.zeros(len(pages), np.int64)
    cycles[order] = np.diff(finished[order], prepend=min(completion.started for completion in completions))
    return cycles
