# SPDX-License-Identifier: Apache-2.0
"""A job that was done under observation, and the device it was done on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rackgate.paths import build_root

from ..device import Device, open_device
from ..errors import UsageError
from ..url import DeviceURL

__all__ = ["Job", "check_url", "opened", "seeded", "waves_path"]


@dataclass(frozen=True)
class Job:
    """What was done, and when.

    Attributes
    ----------
    title:
        One line.
    kind, url, parameters, build:
        The device, as :class:`~rackgate_host.device.Device` has them.
    begin, end:
        Cycles of the simulation from the first to the last that belong to the job, ``end`` excluded.
    waves:
        The files with its waves, by the name of the node.
    reported:
        What the driver says of the job, by names for people: numbers and text.
    """

    title: str
    kind: str
    url: str
    parameters: Mapping[str, int]
    build: str
    begin: int
    end: int
    waves: Mapping[str, Path]
    reported: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def on(cls, device: Device, title: str, begin: int, end: int, waves: Mapping[str, Path], **reported: Any) -> "Job":
        """A job on ``device``."""
        return cls(title, device.name, device.url, device.parameters, device.build, begin, end, waves,
                   {name.replace("_", " "): value for name, value in reported.items()})


def waves_path(system: str) -> Path:
    """Where the waves of the run stay, for ``rackgate waves``. The folder is made."""
    path = build_root() / "waves" / f"trace-{system}.fst"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def check_url(url: str, kinds: Sequence[str]) -> None:
    """Refuse a device whose stages nobody can see."""
    parsed = DeviceURL.parse(url)
    if parsed.scheme != "sim" or parsed.name not in kinds:
        wanted = " or ".join(f"sim:{kind}" for kind in kinds)
        raise UsageError(f"a timeline is drawn from the simulated gateware, {wanted}, not from {url}")


def seeded(url: str, seed: int) -> dict[str, int]:
    """The option ``seed`` for a device, unless its URL has one."""
    return {} if "seed" in DeviceURL.parse(url).options else {"seed": seed}


def opened(url: str, kinds: Sequence[str], waves: Path, seed: int,
           progress: Callable[[str], None] | None = None) -> AbstractContextManager[Device]:
    """The device at ``url``, of one of ``kinds``, which writes ``waves`` until the context ends."""
    check_url(url, kinds)
    return closing(open_device(url, waves=str(waves), progress=progress, **seeded(url, seed)))
