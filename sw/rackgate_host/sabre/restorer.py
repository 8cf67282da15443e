# SPDX-License-Identifier: Apache-2.0
"""Restore memory from a snapshot through userfaultfd, by a monitor process.

>>> import numpy as np
>>> from rackgate_host.sabre import snapshot
>>> from rackgate_host.sabre.restorer import restore
>>> memory = np.frombuffer(bytes(4096) + b"page" * 1024, np.uint8)
>>> _ = snapshot.write("/dev/shm/example.rgs", [snapshot.Region("ram", 0x10000, memory)])
>>> regions, report = restore("/dev/shm/example.rgs")
>>> regions[0][4096:4100]
b'page'
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..errors import UsageError
from .channel import SabreTimeout
from .engines import prepare_engine
from .monitor import Monitor, MonitorError
from .owner import OwnedMemory, anonymous
from .snapshot import Snapshot
from .touches import Touches
from .userfault import Userfault

__all__ = ["Policy", "Prefetch", "Report", "Restored", "Restorer", "restore"]

_SLACK = 3.0  # seconds that the monitor has longer than a wait of its own, to say what it waited for
_SESSION = "rackgate_host.sabre.pipeline:RestoreSession"


class Policy(StrEnum):
    """When the guest runs: after all is restored, after the working set is, or at once."""

    EAGER = "eager"
    WORKING_SET_FIRST = "working-set-first"
    RESUME_AT_ONCE = "resume-at-once"


class Prefetch(StrEnum):
    """What is restored without being asked for; the rest comes when it is touched, or with
    :meth:`Restored.finish`."""

    ALL = "all"
    WORKING_SET = "working-set"
    NONE = "none"


@dataclass(frozen=True)
class Report:
    """What a restore took, in seconds and bytes as the monitor measured them.

    ``seconds``: ``total`` until all was there (without the start of the monitor), ``resume`` until the guest could
    run, and the busy times of the stages: ``read`` with the throttle's waits, ``decompress`` summed over workers or
    device engines, ``install`` in the kernel. ``bytes``: ``read`` from the file, ``stored`` and ``restored`` of all
    partitions with stored bytes, ``regions`` as they are in memory. ``demand``: faults served, and microseconds from
    a fault's arrival in the monitor to its page's installation. ``cycles``: of a device, else ``None``. ``direct``:
    whether O_DIRECT was used; ``cached_before``: the fraction of the file in the page cache after it was dropped,
    ``None`` if that was not asked for.
    """

    seconds: dict[str, float]
    bytes: dict[str, int]
    pages: dict[str, int]
    demand: dict[str, float]
    cycles: int | None
    direct: bool
    cached_before: float | None
    touches: Touches = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """All but the touches."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "touches"}


class Restored:
    """A restore that has let the guest run. ``buffers`` are its regions, in the order of the snapshot's.

    Until :meth:`wait` or :meth:`finish` returned, a touch of a missing page waits for the monitor; after a failure it
    raises SIGBUS. With policy eager nothing is missing from the begin. Use as a context manager; leaving it early
    abandons what is missing.
    """

    def __init__(self, buffers: Sequence[Any], memory: OwnedMemory, userfault: Userfault, monitor: Monitor,
                 prefetch: Prefetch, timeout: float):
        self.buffers = list(buffers)
        self._memory = memory
        self._userfault = userfault
        self._monitor = monitor
        self._prefetch = prefetch
        self._timeout = timeout
        self._asked = False
        self._report: Report | None = None

    @property
    def monitor(self) -> Monitor:
        """The monitor process."""
        return self._monitor

    def wait(self, progress: Callable[[int, int], None] | None = None, timeout: float | None = None) -> Report:
        """Wait until all is restored; only with ``Prefetch.ALL``, or after :meth:`finish`.

        ``progress`` is called with partitions done and their number. ``timeout`` bounds, in seconds, the time in
        which nothing is heard. Raises :class:`~rackgate_host.sabre.monitor.MonitorError` if the restore failed.
        """
        if self._report is None:
            if self._prefetch is not Prefetch.ALL and not self._asked:
                raise UsageError(f"with prefetch {self._prefetch} the rest comes when it is asked for: use finish")
            message = self._until("finished", progress, self._timeout if timeout is None else timeout)
            report = message["report"]
            self._report = Report(**{**report, "touches": Touches.from_json(report["touches"])})
            self.close()
        return self._report

    def finish(self, progress: Callable[[int, int], None] | None = None) -> Report:
        """Have the rest restored too, and wait for it."""
        if self._report is None and self._prefetch is not Prefetch.ALL and not self._asked:
            self._asked = True
            self._monitor.tell("finish")
        return self.wait(progress)

    def close(self) -> None:
        """End the monitor. If not all was restored the missing pages are lost: touching them raises SIGBUS."""
        self._monitor.close()
        self._userfault.close()
        self._memory.settle()

    def __enter__(self) -> "Restored":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _until(self, kind: str, progress: Callable[[int, int], None] | None, timeout: float) -> dict[str, Any]:
        while True:
            try:
                message = self._monitor.message(timeout + _SLACK, f"the restore to get to {kind!r}", timeout)
            except (MonitorError, SabreTimeout):
                self.close()
                raise
            if message["kind"] == kind:
                return message
            if message["kind"] == "progress" and progress is not None:
                progress(message["units"], message["of"])


class Restorer:
    """Restores one snapshot, once.

    ``policy`` and ``prefetch`` as :class:`Policy` and :class:`Prefetch` say. ``engine`` names what decompresses
    (:data:`rackgate_host.sabre.engines.ENGINES`, or ``module:factory``) and ``engine_options`` goes to it. ``serial``
    reads all, then decompresses all, then installs all, as Sabre does (eager only). At most ``depth`` batches of
    ``run_pages`` pages are between the stages; ``read_bytes`` is the size of a read. ``throttle`` bounds storage in
    bytes/s and ``latency`` adds seconds to each read. ``direct`` reads with O_DIRECT where that works, ``cold`` drops
    the file from the page cache before. ``timeout`` bounds every wait, in seconds.

    Making one checks the snapshot, has what the engine takes long for the first time (minutes for the model of a
    simulated device; ``timeout`` does not bound that), and starts the monitor, so that :meth:`restore` need not. Raises
    :class:`~rackgate_host.sabre.errors.SnapshotError` for a damaged file,
    :class:`~rackgate_host.errors.Unavailable` where userfaultfd is not permitted or the engine is not there,
    :class:`~rackgate_host.errors.UsageError` for options that make no sense.
    """

    def __init__(self, path: str | os.PathLike[str], *, policy: Policy | str = Policy.EAGER,
                 prefetch: Prefetch | str = Prefetch.ALL, engine: str = "software",
                 engine_options: dict[str, Any] | None = None, serial: bool = False, depth: int = 16,
                 run_pages: int = 64, read_bytes: int = 512 << 10, throttle: float | None = None,
                 latency: float = 0.0, direct: bool = True, cold: bool = False, timeout: float = 60.0):
        policy, prefetch = _choice(Policy, "policy", policy), _choice(Prefetch, "prefetch", prefetch)
        if policy is Policy.EAGER and prefetch is not Prefetch.ALL:
            raise UsageError(f"policy eager restores all before the guest runs: prefetch must be all, not {prefetch}")
        if policy is Policy.WORKING_SET_FIRST and prefetch is Prefetch.NONE:
            raise UsageError("policy working-set-first restores the working set: prefetch must not be none")
        if serial and policy is not Policy.EAGER:
            raise UsageError(f"serial restores all before the guest runs: policy must be eager, not {policy}")
        for name, value, least in (("depth", depth, 1), ("run_pages", run_pages, 1), ("read_bytes", read_bytes, 4096)):
            if value < least:
                raise UsageError(f"{name} must be at least {least}, not {value}")
        if not timeout > 0:
            raise UsageError(f"timeout must be above 0 s, not {timeout}")
        if throttle is not None and not throttle > 0 or latency < 0:
            raise UsageError(f"throttle must be above 0 bytes/s and latency 0 s or more, not {throttle} and {latency}")
        with Snapshot.open(path) as snapshot:
            self.sizes = [region.pages for region in snapshot.regions]
        self._timeout = timeout
        self._policy: Policy = policy
        self._prefetch: Prefetch = prefetch
        self._used = False
        self._restored: Restored | None = None
        self._userfault = Userfault.open()
        options = {"path": os.fspath(os.path.abspath(path)), "policy": policy, "prefetch": prefetch, "engine": engine,
                   "engine_options": engine_options or {}, "serial": serial, "depth": depth, "run_pages": run_pages,
                   "read_bytes": read_bytes, "throttle": throttle, "latency": latency, "direct": direct, "cold": cold,
                   "timeout": timeout}
        self._monitor = Monitor(_SESSION, options, timeout)
        try:
            prepare_engine(engine, engine_options or {})
            self._monitor.start()
        except BaseException:
            self._userfault.close()
            raise

    @property
    def monitor(self) -> Monitor:
        """The monitor process."""
        return self._monitor

    def restore(self, buffers: Sequence[Any] | None = None,
                progress: Callable[[int, int], None] | None = None) -> Restored:
        """Begin the restore and wait until the guest may run.

        ``buffers`` are the regions' memory, by default new mappings: private anonymous memory of the snapshot's sizes,
        whose content is thrown away. ``progress`` as in :meth:`Restored.wait`.
        """
        if self._used:
            raise UsageError("a Restorer restores once; make another one")
        own = [anonymous(pages) for pages in self.sizes] if buffers is None else list(buffers)
        memory = OwnedMemory(own)
        sizes = [pages for _, pages in memory.regions]
        if sizes != self.sizes:
            raise UsageError(f"the memory has regions of {sizes} pages, the snapshot of {self.sizes}")
        self._used = True
        restored = self._restored = Restored(own, memory, self._userfault, self._monitor, self._prefetch, self._timeout)
        try:
            memory.register(self._userfault)
            self._monitor.begin(self._userfault, memory.regions)
            restored._until("resume", progress, self._timeout)
            if self._policy is Policy.EAGER:
                # All is there, and nobody waits for the monitor to end: that takes as long as a small restore.
                memory.settle()
        except BaseException:
            restored.close()
            raise
        return restored

    def close(self) -> None:
        """End the monitor if :meth:`restore` was not called or has restored all; else that is :class:`Restored`'s to
        do."""
        if not self._used:
            self._monitor.close()
            self._userfault.close()
        elif self._policy is Policy.EAGER and self._restored is not None:
            self._restored.close()

    def __enter__(self) -> "Restorer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def restore(path: str | os.PathLike[str], buffers: Sequence[Any] | None = None, **options: Any) -> tuple[list[Any],
                                                                                                        Report]:
    """Restore all of a snapshot eagerly; the regions' memory and the report. ``options`` as of :class:`Restorer`."""
    with Restorer(path, **options) as restorer:
        restored = restorer.restore(buffers)
        return restored.buffers, restored.finish()


def _choice(kind: type[StrEnum], name: str, value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name} must be one of {', '.join(kind)}, not {value!r}") from None

