# SPDX-License-Identifier: Apache-2.0
"""One page inflated."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rackgate.inflate.abi import Format, Status

from .. import inflate as package
from ..errors import RackgateError, UsageError
from ..inflate.driver import InflateDriver
from ..inflate.driver import Job as InflateJob
from .job import Job, opened, waves_path

__all__ = ["run"]

_KINDS = ("inflate",)


def _page(file: Path | None, size: int) -> bytes:
    """The beginning of ``file``, or of this package's own text."""
    if file is None:
        file = Path(package.__file__).with_name("driver.py")
    content = file.read_bytes()[:size]
    if not content:
        raise UsageError(f"{file} is empty: there is nothing to inflate")
    return content


def run(url: str, file: Path | None, size: int, level: int, seed: int,
        progress: Callable[[str], None] | None = None) -> Job:
    """Compress the first ``size`` bytes of ``file`` with zlib, inflate them on the device at ``url``, compare."""
    page, waves = _page(file, size), waves_path("inflate")
    packed = zlib.compress(page, level)
    with opened(url, _KINDS, waves, seed, progress) as device:
        driver = InflateDriver.of(device)
        source, room = device.allocate(len(packed)), device.allocate(len(page))
        source[:] = np.frombuffer(packed, np.uint8)
        begin = device.cycles
        [handle] = driver.submit(InflateJob(source, room, Format.ZLIB, context=0))
        completion = handle.wait()
        end = device.cycles
        if completion.status != Status.SUCCESS or room.tobytes() != page:
            raise RackgateError(f"the device did not give the page back: {completion}")
        return Job.on(device, f"{len(page)} bytes inflated from {len(packed)}", begin, end, {"inflate": waves},
                      cycles=completion.finished - completion.started, bytes_in=len(packed),
                      bytes_out=completion.produced,
                      bytes_per_cycle=round(completion.produced / (completion.finished - completion.started), 2))
