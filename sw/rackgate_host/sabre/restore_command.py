# SPDX-License-Identifier: Apache-2.0
"""``rackgate sabre record`` and ``rackgate sabre restore``: run a guest, record what it touches, bring it back."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from rackgate.paths import build_root

from ..errors import UsageError
from ..output import JsonOption, SeedOption, print_json
from . import kvm
from .errors import SabreError
from .guests import GuestKind, kvm_module
from .images import make_image
from .restorer import Policy, Prefetch
from .snapshot import Region, Snapshot, write
from .touches import Stability, Touches, working_set
from .userfault import PAGE, supported
from .workload import record_guest, restore_guest, touch_trace

__all__ = ["byte_rate", "register", "show_restore", "timing"]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def byte_rate(text: str) -> float:
    """Bytes a second of a text such as ``250M``, ``1.5G`` or ``1e9``; units are powers of 1000."""
    number = text.rstrip("kKmMgG")
    try:
        value = float(number) * _UNITS[text[len(number):].upper()]
    except (KeyError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"a rate must be a number of bytes/s above 0 with K, M or G behind it or not, not {text!r}")
    return value


@contextmanager
def _bar(console: Console, what: str, enabled: bool) -> Iterator[Callable[[int, int], None]]:
    """A live bar; gives the function to call with what is done and the whole."""
    columns = TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.percentage:>3.0f} %")
    with Progress(*columns, console=console, transient=True, disable=not enabled) as progress:
        task = progress.add_task(what, total=1)
        yield lambda done, total: progress.update(task, completed=done, total=max(total, 1))


def _check_guest(guest: GuestKind) -> None:
    if guest is GuestKind.KVM:
        kvm.supported()


def _folder(path: Path) -> Path:
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.absolute().parent}")
    return path


def _trace(path: Path | None, pages: int, seed: int, share: float, number: int) -> list[tuple[int, int]]:
    """A run's trace: the file's run of that number (they repeat), or a drawn one."""
    if path is None:
        return touch_trace([pages], seed, share, number=number)
    runs = Touches.load(path)
    if not runs:
        raise UsageError(f"{path}: there is no run in it")
    return runs[number % len(runs)].order


_Image = Annotated[Path | None, typer.Argument(
    metavar="[IMAGE]", show_default=False,
    help="The guest's memory: a file of whole pages. Without it one is made of this machine's Python and libraries.")]
_Touches = Annotated[Path | None, typer.Option(
    "--output", "-o", metavar="TOUCHES", show_default=False,
    help="Where the record goes, for `rackgate sabre snapshot --working-set`; in the build folder if left out.")]
_Trace = Annotated[Path | None, typer.Option(
    "--trace", metavar="TOUCHES", help="Touch what a record says, in its order.")]
_Guest = Annotated[GuestKind, typer.Option(
    "--guest", help="Who touches the pages: a process, or a virtual machine on its memory (needs /dev/kvm).")]
_Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.001,
                                         help="Longest time in which nothing is heard of the guest.")]


def _record(
    image: _Image = None,
    output: _Touches = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="How often the guest runs.")] = 3,
    size: Annotated[int, typer.Option("--size", metavar="MB", min=1, help="Size of an image that is made.")] = 16,
    share: Annotated[float, typer.Option("--share", min=0.0, max=1.0,
                                         help="Part of the pages that a drawn trace touches.")] = 0.3,
    trace: _Trace = None,
    guest: _Guest = GuestKind.PROCESS,
    snapshot: Annotated[Path | None, typer.Option(
        "--snapshot", metavar="FILE", help="Write a snapshot with the working set first, too.")] = None,
    timeout: _Timeout = 60.0,
    as_json: JsonOption = False,
    seed: SeedOption = 1,
) -> None:
    """Run a guest whose memory is served page by page, and record which pages it touches first, and when.

    The guest is a process with the image as its memory; its touches are drawn from the seed, or follow --trace. Every
    page that it touches, and in the end all, is compared with the image. With --guest kvm a virtual machine's processor
    touches the pages. Exit codes: 1 if bytes differ, 3 if this machine does not permit userfaultfd or KVM, 4 if the
    guest is stuck.

    JSON: image, pages, guest, seed, runs (list of touches, first_touches, repeated, seconds, microseconds_per_fault,
    wrong, equal), stability (runs, union, intersection, jaccard_mean, jaccard_least), working_set (pages), output,
    snapshot.

    Example: rackgate sabre record --runs 5 -o touches.json --snapshot function.rgs
    """
    supported()
    _check_guest(guest)
    folder = build_root() / "sabre"
    target = _folder(output) if output else folder / "touches.json"
    if snapshot is not None:
        _folder(snapshot)
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=as_json)
    made = image is None
    if image is None:
        image = folder / f"image-{size}-{seed}.bin"
        make_image(image, size * 10**6 // PAGE, seed)
    if not image.is_file():
        raise UsageError(f"there is no file {image}")
    pages, odd = divmod(image.stat().st_size, PAGE)
    if odd or not pages:
        raise UsageError(f"{image}: memory has whole pages of {PAGE} bytes, not {image.stat().st_size} bytes")
    recorded, rows = [], []
    with _bar(console, "recording", console.is_terminal and not as_json) as progress:
        for number in range(runs):
            touches, result = record_guest(image, [pages], _trace(trace, pages, seed, share, number), timeout, guest)
            recorded.append(touches)
            rows.append({"touches": result["touches"], "first_touches": len(touches), "repeated": touches.repeated,
                         "seconds": round(result["guest_seconds"], 6),
                         "microseconds_per_fault": round(result["guest_seconds"] * 1e6 / max(len(touches), 1), 2),
                         "wrong": result["wrong"], "equal": result["equal"]})
            progress(number + 1, runs)
    Touches.save(target, recorded)
    order = working_set(recorded)
    if snapshot is not None:
        write(snapshot, [Region("memory", 0, np.memmap(image, np.uint8, mode="r"))], working_set=order, seed=seed)
    stability = Stability.of(recorded).as_json()
    failed = any(row["wrong"] or not row["equal"] for row in rows)
    if as_json:
        print_json({"image": str(image), "pages": pages, "guest": guest.value, "seed": seed, "runs": rows,
                    "stability": stability, "working_set": len(order), "output": str(target),
                    "snapshot": str(snapshot) if snapshot else None})
    else:
        _show_record(console, f"{image}{' (made)' if made else ''}: {pages:,} pages", rows, stability)
        files = f"{target}, {snapshot}" if snapshot else f"{target}"
        console.print(f"{files}: working set of {len(order):,} pages", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise SabreError("the guest found wrong bytes in its memory")


def _show_record(console: Console, title: str, rows: list[dict[str, Any]], stability: dict[str, Any]) -> None:
    caption = f"In all runs {stability['intersection']:,} pages, in any {stability['union']:,}; Jaccard index of two " \
              f"runs {stability['jaccard_mean']:.3f} in the mean."
    table = Table(title=title, caption=caption)
    for name in ("run", "touches", "first", "us/fault", "equal"):
        table.add_column(name, justify="right")
    for number, row in enumerate(rows, 1):
        table.add_row(str(number), f"{row['touches']:,}", f"{row['first_touches']:,}",
                      f"{row['microseconds_per_fault']:.1f}", "yes" if row["equal"] and not row["wrong"] else "NO")
    console.print(table)


def _engine_options(engine: str, **given: Any) -> dict[str, Any]:
    """The options that were given, if the engine takes them."""
    known = {"software": {"workers"}, "paced": {"clock", "engines"}, "device": {"clock", "engines", "device"}}
    for name, value in given.items():
        if value is not None and name not in known.get(engine, given):
            raise UsageError(f"--{name} means nothing to the engine {engine}")
    return {"url" if name == "device" else name: value for name, value in given.items() if value is not None}


def timing(engine: str, options: dict[str, Any]) -> str:
    """What the times mean."""
    if engine == "software":
        return "wall"
    if engine == "paced":
        return f"paced: {options.get('engines', 1)} engines at {options.get('clock', 100.0):g} MHz, a prediction"
    return f"wall, with {options.get('url', 'sim:iaa')} decompressing; cycles are the device's"


def _restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A snapshot.")],
    policy: Annotated[Policy, typer.Option("--policy", help="When the guest runs.")] = Policy.EAGER,
    prefetch: Annotated[Prefetch, typer.Option(
        "--prefetch", help="What comes without being touched; the rest does at the end.")] = Prefetch.ALL,
    engine: Annotated[str, typer.Option(
        "--engine", help="What decompresses: software, paced (software at a device's pace), device.")] = "software",
    clock: Annotated[float | None, typer.Option("--clock", metavar="MHZ", show_default=False,
                                                help="Clock of the device; paced: 100 if left out.")] = None,
    engines: Annotated[int | None, typer.Option("--engines", show_default=False,
                                                help="Engines of the device; 1 if left out.")] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="URL", show_default=False,
                                               help="Of the engine device; sim:iaa if left out.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", show_default=False,
                                                help="Processes of the software; one a core if left out.")] = None,
    serial: Annotated[bool, typer.Option(
        "--serial", help="Read all, then decompress all, then install all, as Sabre does.")] = False,
    throttle: Annotated[str | None, typer.Option(
        "--throttle", metavar="B/S", help="Bound storage to so many bytes/s: 250M, 1.5G.")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Drop the file from the page cache first.")] = False,
    trace: _Trace = None,
    guest: _Guest = GuestKind.PROCESS,
    compare: Annotated[Path | None, typer.Option(
        "--compare", metavar="ORIGINAL", help="The image that all bytes are compared with.")] = None,
    timeout: _Timeout = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Restore a snapshot into the memory of a guest process, and let the guest follow a trace.

    Every partition's CRC is checked before it is installed; with --compare every byte is compared with the original,
    during the trace and in the end. With --guest kvm a virtual machine follows the trace on the memory, and the time
    is that until it halts. Exit codes: 1 if bytes differ or the snapshot is damaged, 3 if this machine does not permit
    userfaultfd or KVM, 4 if the restore is stuck.

    JSON: file, guest, kvm (what runs it, null for a process), policy, prefetch, engine, engine_options, serial,
    throttle (bytes/s or null), timing (what the times mean), touches, wrong, equal (null without --compare),
    resume_seconds, guest_seconds (until the trace was done), seconds (total, resume, read, decompress, install: busy
    times of the stages), bytes (read, stored, restored, regions), pages (installed, removed, repeated), demand (faults,
    mean_us, p50_us, p99_us, max_us), cycles (null without a device), direct (whether O_DIRECT was used), cached_before
    (fraction, null without --cold).

    Examples:

    rackgate sabre restore function.rgs --compare memory.img

    rackgate sabre restore function.rgs --policy working-set-first --trace touches.json --throttle 500M --json

    rackgate sabre restore function.rgs --engine paced --clock 100 --engines 4

    rackgate sabre restore function.rgs --guest kvm --trace touches.json --policy resume-at-once

    rackgate sabre restore function.rgs --engine device --device sim:iaa --compare memory.img
    """
    supported()
    _check_guest(guest)
    options = _engine_options(engine, clock=clock, engines=engines, workers=workers, device=device)
    rate = None if throttle is None else byte_rate(throttle)
    with Snapshot.open(file):  # a damaged file is told of by this process, in its words
        pass
    for other in (trace, compare):
        if other is not None and not other.is_file():
            raise UsageError(f"there is no file {other}")
    touches = [] if trace is None else _trace(trace, 0, 0, 0, 0)
    console = Console(stderr=as_json)
    chosen = {"policy": policy.value, "prefetch": prefetch.value, "engine": engine, "engine_options": options,
              "serial": serial, "throttle": rate, "cold": cold, "timeout": timeout}
    with _bar(console, "restoring", console.is_terminal and not as_json) as progress:
        result = restore_guest(file, touches, compare, chosen, timeout, progress, guest, lambda line: console.print(
            line, markup=False, highlight=False, soft_wrap=True))
    report = result.pop("report")
    if as_json:
        module = kvm_module() if guest is GuestKind.KVM else None
        shown = {name: value for name, value in chosen.items() if name not in ("cold", "timeout")}
        print_json({"file": str(file), "guest": guest.value, "kvm": module, **shown,
                    "timing": timing(engine, options), **result, **report})
    else:
        show_restore(console, str(file), result, report, timing(engine, options))
    if result["equal"] is False or result["wrong"]:
        raise SabreError(f"{file}: the restored memory differs from {compare}")


def show_restore(console: Console, title: str, result: dict[str, Any], report: dict[str, Any], times: str) -> None:
    """Print the table of a restore; ``times`` says what its times are."""
    seconds, size, demand = report["seconds"], report["bytes"], report["demand"]
    table = Table(title=title, caption=f"Times: {times}. Busy times overlap; those of workers are summed.")
    table.add_column("")
    table.add_column("ms", justify="right")
    table.add_column("", justify="right")
    rows = {"until the guest ran": (result["resume_seconds"], ""),
            "until its trace was done": (result["guest_seconds"], f"{result['touches']:,} touches"),
            "until all was restored": (seconds["total"], f"{size['regions']:,} bytes"),
            "reading": (seconds["read"], f"{size['read']:,} bytes"),
            "decompressing": (seconds["decompress"], f"{size['restored']:,} bytes"),
            "installing": (seconds["install"], f"{report['pages']['installed']:,} pages")}
    for name, (value, note) in rows.items():
        table.add_row(name, f"{value * 1e3:,.1f}", note)
    if demand["faults"]:
        table.add_row("a fault, in the mean", f"{demand['mean_us'] / 1e3:.3f}", f"{demand['faults']:,} faults")
    console.print(table)
    verdict = {True: "Equal to the original, byte for byte.", False: "DIFFERS from the original.",
               None: "All CRCs were right; --compare ORIGINAL compares every byte."}[result["equal"]]
    console.print(verdict)


def register(app: typer.Typer) -> None:
    """Add the commands to Sabre's group ``app``."""
    app.command("record")(_record)
    app.command("restore")(_restore)
