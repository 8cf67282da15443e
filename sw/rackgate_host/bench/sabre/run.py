# SPDX-License-Identifier: Apache-2.0
"""What ``rackgate bench sabre`` runs."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rackgate.paths import build_root

from ...errors import Unavailable, UsageError
from ...sabre.corpora import FUNCTIONS, Corpus, Workload
from ...sabre.corpora.command import default_folder
from ...sabre.corpora.corpus import from_process
from ...sabre.cycles import clock
from ...sabre.guests import GuestKind
from ...sabre.userfault import supported
from ..benches import ALONE, HERE
from ..record import commit
from .ledger import Ledger
from .ratios import ratios
from .restores import PAPER_SAVING, measure
from .settings import Settings

__all__ = ["run", "units"]

_PARTS = ("ratios", "restores")
_CODECS = ("zlib", "isal", "libdeflate", "lz4", "zstd")


def _list(name: str, value: Any, kind: Callable[[Any], Any]) -> list[Any]:
    """A list of one option: "a,b", one value, or a list."""
    items = value if isinstance(value, list | tuple) else str(value).split(",")
    try:
        found = [kind(item) for item in items if str(item)]
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be {kind.__name__} values with commas between, not {value!r}") from None
    if not found:
        raise UsageError(f"{name} must name at least one")
    return found


def _workloads(names: Sequence[str], corpus: str, seed: int, report: Callable[[str], None]) -> Iterator[Workload]:
    """The workloads, from the corpus where it has them, else made in a process here."""
    for name in names:
        if name not in FUNCTIONS:
            raise UsageError(f"there is no workload {name!r}; there are {', '.join(FUNCTIONS)}")
    folder = Path(corpus) if corpus else default_folder()
    kept: Corpus | None = None
    if corpus or (folder / "corpus.json").is_file():
        kept = Corpus.open(folder)
    for name in names:
        if kept is not None and name in kept.names:
            yield kept.load(name)
            continue
        report(f"{name}: running it in a process")
        yield from_process(name, seed, f"not in the corpus {folder}: rackgate sabre corpus make")


def _parts(only: str) -> tuple[str, ...]:
    if only not in ("", *_PARTS):
        raise UsageError(f"only must be {' or '.join(_PARTS)}, not {only!r}")
    return (only,) if only else _PARTS


def _chosen(workloads: Any, quick: bool) -> list[str]:
    return _list("workloads", workloads or (["json"] if quick else list(FUNCTIONS)), str)


def units(*, quick: bool = False, workloads: Any = "", only: str = "",
          **options: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The ratios of each workload, and all restores together: what they take is compared on one machine."""
    options |= {"quick": quick, "workloads": workloads}
    for part in _parts(only):
        if part == "restores":
            yield part, {**options, "only": part}, ALONE
            continue
        for name in _chosen(workloads, quick):
            yield f"ratios of {name}", {**options, "workloads": name, "only": part}, HERE


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, quick: bool = False,
        workloads: Any = "", restore: Any = "", corpus: str = "", storage: Any = "", engines: Any = "",
        headline: int = 4, codecs: Any = "", pages: int = 0, repeats: int = 0, workers: int = 1, clock_mhz: float = 0.0,
        cycles_from: str = "sim:iaa", sample: int = 0, guests: Any = "",
        resume: bool = False, only: str = "") -> Iterator[dict[str, Any]]:
    """Measure and yield the points of ``rackgate bench sabre``.

    Parameters
    ----------
    seed:
        Seeds traces, tables, functions and the simulation.
    report:
        Called with a line on what is under way.
    quick:
        Little of everything, in about a minute. The other options go before it.
    workloads, restore:
        Functions whose ratios and whose restores are measured. Of the first in ``restore`` all flows are, of the others
        REAP-raw and the device with ``headline`` engines.
    corpus:
        Folder of memory contents; a process's memory stands in for workloads that are not there.
    storage:
        Speeds of storage, GB/s.
    engines, headline:
        Numbers of the device's engines, and the one whose saving is the case ``restore-<workload>-<storage>``.
    codecs:
        Software to compare with.
    pages, repeats:
        Pages of a restored image, and how often each restore is done; the quickest counts.
    workers:
        Processes of software engines.
    clock_mhz:
        The device's clock; 0 takes the routed one that `rackgate bench area` has recorded, else 80.
    cycles_from:
        Device whose cycles are counted, or "model".
    sample:
        Pages of an image of which cycles are counted.
    guests:
        What touches the first restored workload: "process", "kvm" (quick: only that), both if left out, or "none".
    resume:
        Take over what a run with the same options that was broken off has measured.
    only:
        ``ratios`` or ``restores``; both by default.
    """
    options, parts, chosen = dict(locals()), _parts(only), _chosen(workloads, quick)
    restored = _list("restore", restore or (["json"] if quick else ["json", "image"]), str)
    touching = [] if guests == "none" else _list(
        "guests", guests or ([GuestKind.KVM] if quick else list(GuestKind)), GuestKind)
    counts = _list("engines", engines or ([headline] if quick else [1, 2, 4, 8]), int)
    mhz, source = (clock_mhz, "asked for") if clock_mhz else clock()
    begin, load, skipped = time.monotonic(), os.getloadavg()[0], 0
    with tempfile.TemporaryDirectory(prefix="bench-sabre-", dir=_scratch()) as folder:
        ledger = _ledger(options, mhz) if "restores" in parts else None
        settings = Settings(
            Path(folder), _list("storage", storage or ([0.25] if quick else [0.25, 0.5, 1.0, 1.5]), float),
            sorted({*counts, headline}), headline,
            _list("codecs", codecs or (["libdeflate", "lz4"] if quick else _CODECS), str),
            pages or (1024 if quick else 4096), repeats or (3 if quick else 5), workers, mhz, source, cycles_from,
            sample or (64 if quick else 512), seed, report, touching, ledger)
        for workload in _workloads(chosen if "ratios" in parts else (), corpus, seed, report):
            report(f"{workload.name}: ratios")
            yield from settings.part(f"{workload.name} ratios", lambda workload=workload: ratios(
                workload, settings.folder, settings.pages, seed))
        if "restores" not in parts:
            return
        for point in _restores(restored, corpus, settings):
            skipped += point["value"] is None
            yield point
    yield {"case": "conditions", "metric": "seconds", "value": round(time.monotonic() - begin, 1), "unit": "s",
           "conditions": {"load_before": round(load, 2), "load_after": round(os.getloadavg()[0], 2), "nice": _nice(),
                          "points_not_measured": skipped, "clock_mhz": mhz, "clock_source": source,
                          "parts_of_an_earlier_run": ledger.taken if ledger else 0},
           "source": "this run; a load above the number of cores makes wall times longer than they need be"}


def _nice() -> str:
    """How this process is scheduled: its niceness, and that of its group where the kernel makes groups by session."""
    try:
        group = Path("/proc/self/autogroup").read_text().split()[-1]
    except (OSError, IndexError):
        return str(os.nice(0))
    return f"{os.nice(0)}, group {group}"


def _ledger(options: dict[str, Any], mhz: float) -> Ledger:
    """What is kept of a run; it depends on the options, the clock, the corpus and this code."""
    resume = bool(options["resume"])
    options = {name: value for name, value in options.items() if name not in ("report", "resume")}
    manifest = (Path(options["corpus"]) if options["corpus"] else default_folder()) / "corpus.json"
    corpus = manifest.read_text() if manifest.is_file() else ""
    about = {**options, "clock": mhz, "commit": commit(), "corpus_is": corpus}
    return Ledger(_scratch() / "ledgers", about, resume)


def _scratch() -> Path:
    """A folder on a disk, where files can be dropped from the page cache."""
    folder = build_root() / "sabre"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _restores(names: Sequence[str], corpus: str, settings: Settings) -> Iterator[dict[str, Any]]:
    """Points of all restores, and the best and the worst saving of them."""
    try:
        supported()
    except Unavailable as error:
        for name in names:
            for rate in settings.storage:
                for shape in ("serial", "pipelined"):
                    yield {"case": f"restore-{name}-{rate:g}", "metric": f"saving_percent_{shape}", "value": None,
                           "unit": "%", "paper": PAPER_SAVING, "why": str(error)}
        return
    points: list[dict[str, Any]] = []
    for number, workload in enumerate(_workloads(names, corpus, settings.seed, settings.report)):
        for point in measure(workload, settings, others=not number):
            points.append(point)
            yield point
    for shape in ("serial", "pipelined"):
        metric = f"saving_percent_{shape}"
        found = [point for point in points if point["metric"] == metric and point["case"].startswith("device-x")]
        for case, pick in (("restore-best", max), ("restore-worst", min)):
            point = pick(found, key=lambda one: one["value"])
            yield {**point, "case": case, "conditions": {**point["conditions"], "of": point["case"]}}
