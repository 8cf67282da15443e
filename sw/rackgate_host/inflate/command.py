# SPDX-License-Identifier: Apache-2.0
"""``rackgate inflate``: decompress files on a device, and show what it took."""

import contextlib
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from rackgate.inflate.abi import Format
from rackgate.paths import build_root

from ..device import Device, open_device
from ..errors import RackgateError, UsageError
from ..output import JsonOption, SeedOption, WavesOption, print_json
from ..url import DeviceURL
from .batch import Outcome, inflate_all
from .driver import InflateDriver
from .samples import samples

__all__ = ["FormatName", "Report", "register"]

_ENDINGS = {Format.GZIP: (".gz", ".tgz"), Format.ZLIB: (".zz", ".zlib")}


class FormatName(StrEnum):
    """Values of ``--format``."""

    AUTO = "auto"
    GZIP = "gzip"
    ZLIB = "zlib"
    RAW = "raw"


@dataclass
class _Input:
    """One thing to decompress. ``path`` is ``None`` for a sample."""

    name: str
    data: bytes
    format: Format | None
    path: Path | None = None


@dataclass(frozen=True)
class Report:
    """One row of the result. ``equal`` says whether zlib agrees byte for byte, ``None`` if it was not asked."""

    file: str
    format: str | None
    bytes_in: int
    bytes_out: int
    members: int
    cycles: int
    equal: bool | None
    error: str | None
    output: str | None

    @property
    def failed(self) -> bool:
        """Whether the data was wrong, or the device was."""
        return self.error is not None or self.equal is False

    def as_json(self) -> dict[str, Any]:
        """The row with the names of the manual."""
        rate = round(self.bytes_out / self.cycles, 3) if self.cycles else None
        return {"file": self.file, "format": self.format, "bytes_in": self.bytes_in, "bytes_out": self.bytes_out,
                "members": self.members, "cycles": self.cycles, "bytes_per_cycle": rate, "equal": self.equal,
                "error": self.error, "output": self.output}


def _detect(data: bytes, wanted: FormatName) -> Format | None:
    """Framing of ``data``; ``None`` if it cannot be told."""
    if wanted is not FormatName.AUTO:
        return Format[wanted.name]
    if data[:2] == b"\x1f\x8b":
        return Format.GZIP
    if len(data) >= 2 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0:
        return Format.ZLIB
    return None


def _paths(files: Sequence[Path]) -> Iterator[Path]:
    """``files`` with folders replaced by the gzip files below them."""
    for place in files:
        if place.is_dir():
            below = sorted(path for path in place.rglob("*.gz") if path.is_file())
            if not below:
                raise UsageError(f"there is no .gz file below {place}")
            yield from below
        elif place.exists():
            yield place
        else:
            raise UsageError(f"there is no file {place}")


def _inputs(files: Sequence[Path], wanted: FormatName) -> Iterator[_Input]:
    for path in _paths(files):
        data = path.read_bytes()
        yield _Input(str(path), data, _detect(data, wanted), path)


def _reference(data: bytes, format: Format) -> tuple[bytes, str | None]:
    """What zlib makes of ``data``, and what it says about it; of gzip data all members."""
    if format != Format.GZIP:
        return _one_member(data, -15 if format == Format.RAW else 15)[:2]
    output = b""
    while True:
        content, error, data = _one_member(data, 31)
        output += content
        rest = data.lstrip(b"\0")
        if error or rest[:2] != b"\x1f\x8b":
            return output, error
        data = rest


def _one_member(data: bytes, wbits: int) -> tuple[bytes, str | None, bytes]:
    decoder = zlib.decompressobj(wbits)
    parts, piece = [], data
    try:
        # In steps: an error keeps only the output of earlier calls.
        while piece and not decoder.eof:
            parts.append(decoder.decompress(piece, 1 << 16))
            piece = decoder.unconsumed_tail
    except zlib.error as error:
        return b"".join(parts), str(error), b""
    if not decoder.eof:
        return b"".join(parts), "Error -5 while decompressing data: incomplete or truncated stream", b""
    return b"".join(parts), None, decoder.unused_data


def _agrees(outcome: Outcome, data: bytes, format: Format) -> bool:
    """Whether zlib gives the same bytes, or refuses the data too."""
    content, error = _reference(data, format)
    if error is not None:
        return outcome.error is not None and outcome.output.startswith(content)
    return outcome.error is None and outcome.output == content


def _target(item: _Input, output: Path | None, several: bool) -> Path | None:
    """Where the output of ``item`` goes."""
    if output is None or item.path is None:
        return None
    if not several and not output.is_dir():
        return output
    name = item.path.name
    for ending in (ending for endings in _ENDINGS.values() for ending in endings):
        if name.endswith(ending) and name != ending:
            return output / (name.removesuffix(ending) + (".tar" if ending == ".tgz" else ""))
    return output / f"{name}.out"


def _write(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` at once: whoever looks sees the old file or the whole new one."""
    if path.exists() and not path.is_file():  # a pipe or a device cannot be replaced
        path.write_bytes(content)
        return
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


class _Bar:
    """A live bar: what is done of the input, simulated time, and how fast the simulation goes."""

    def __init__(self, console: Console, total: int, enabled: bool):
        columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[status]}"))
        # No thread of its own: it would be lost in the snapshots that --waves-on-fail forks.
        self._progress = Progress(*columns, console=console, auto_refresh=False, transient=True, disable=not enabled)
        self._task = self._progress.add_task("inflating", total=max(total, 1), status="")
        self._start = 0.0
        self._shown = 0.0
        self._first_cycle: int | None = None

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def build(self, line: str) -> None:
        """A step of building the simulation."""
        self._progress.update(self._task, description=line)
        self._progress.refresh()

    def cycles(self, device: Device) -> None:
        """Some device time has passed."""
        now = time.monotonic()
        if self._first_cycle is None:
            self._first_cycle, self._start = device.cycles, now
        elif now - self._shown > 0.1:
            self._shown = now
            speed = (device.cycles - self._first_cycle) / max(now - self._start, 1e-9)
            self._progress.update(self._task, description="inflating",
                                  status=f"{device.cycles / 1e6:.2f} M cycles, {speed / 1e3:,.0f} k cycles/s")
            self._progress.refresh()

    def advance(self, count: int) -> None:
        """So many bytes of input are done."""
        self._progress.advance(self._task, count)
        self._progress.refresh()


@dataclass(frozen=True)
class _Options:
    """What the command line says beside the files."""

    output: Path | None
    format: FormatName
    check: bool
    timeout: float | None
    device: str
    seed: int
    waves: bool
    waves_on_fail: bool
    side_by_side: bool

    @property
    def trace(self) -> Path:
        """The file for waves."""
        return build_root() / "waves" / "inflate.fst"

    def check_waves(self) -> None:
        """Refuse what the device's world cannot do, before anything is built or read."""
        if (self.waves or self.waves_on_fail) and DeviceURL.parse(self.device).scheme != "sim":
            raise UsageError(f"waves come from sim: devices only, not from {self.device}")

    def open(self, bar: _Bar) -> Device:
        """The device, with the options that its world takes."""
        url = DeviceURL.parse(self.device)
        extra: dict[str, Any] = {}
        if url.scheme == "sim":
            extra["progress"] = bar.build
            if "seed" not in url.options:
                extra["seed"] = self.seed
            if self.waves:
                self.trace.parent.mkdir(parents=True, exist_ok=True)
                extra["waves"] = str(self.trace)
            elif self.waves_on_fail:
                extra["variant"] = "debug"
        return open_device(self.device, **extra)


class _Mismatch(RackgateError):
    """Ends the run at the first disagreement with zlib, so that waves of it are written."""


def _run(device: Device, inputs: Sequence[_Input], options: _Options, bar: _Bar) -> list[Report]:
    driver = InflateDriver.of(device)
    driver.progress = bar.cycles
    reports: dict[int, Report] = {}
    known = []
    for index, item in enumerate(inputs):
        if item.format is None:
            reason = "neither gzip nor zlib data (--format raw reads raw Deflate)" if item.data else "the file is empty"
            reports[index] = Report(item.name, None, len(item.data), 0, 0, 0, None, reason, None)
        else:
            known.append((index, item, item.format))
    for number, outcome in inflate_all(driver, ((item.data, format) for _, item, format in known), options.timeout,
                                       None if options.side_by_side else 1):
        index, item, format = known[number]
        bar.advance(len(item.data))
        equal = _agrees(outcome, item.data, format) if options.check else None
        target = None
        if outcome.error is None and equal is not False:
            target = _target(item, options.output, len(inputs) > 1)
            if target is not None:
                _write(target, outcome.output)
        error = None if outcome.error is None else str(outcome.error)
        if equal is False:
            error = f"differs from zlib ({error})" if error else "differs from zlib"
        reports[index] = Report(item.name, format.name.lower(), len(item.data), len(outcome.output), outcome.members,
                                outcome.cycles, equal, error, str(target) if target else None)
        if equal is False and options.waves_on_fail:
            raise _Mismatch(f"{item.name}: {error}")
    return [reports[index] for index in sorted(reports)]


def _run_with_waves(device: Device, inputs: Sequence[_Input], options: _Options, bar: _Bar) -> list[Report]:
    """As :func:`_run`; a failure leaves waves of the cycles before it when that was asked for."""
    if not options.waves_on_fail:
        return _run(device, inputs, options, bar)
    try:
        with device.transport.waves_on_failure(options.trace):  # only sim: devices get here
            return _run(device, inputs, options, bar)
    except Exception as error:
        for note in getattr(error, "__notes__", ()):
            print(f"rackgate: {note}", file=sys.stderr)
        raise


def _summary(device: Device, reports: Sequence[Report], cycles: int, seconds: float,
             options: _Options) -> dict[str, Any]:
    """The JSON object of the manual."""
    produced = sum(report.bytes_out for report in reports)
    return {
        "device": device.url,
        "parameters": device.parameters,
        "build": device.build,
        "seed": options.seed,
        "side_by_side": options.side_by_side,
        "files": [report.as_json() for report in reports],
        "total": {
            "files": len(reports),
            "failed": sum(report.failed for report in reports),
            "bytes_in": sum(report.bytes_in for report in reports),
            "bytes_out": produced,
            "cycles": cycles,
            "bytes_per_cycle": round(produced / cycles, 3) if cycles else None,
        },
        "timing": "cycles" if device.url.startswith("sim:") else "none",
        "simulation": {"wall_seconds": round(seconds, 3), "cycles_per_second": round(cycles / max(seconds, 1e-9))},
        "waves": str(options.trace) if options.waves else None,
    }


def _caption(summary: dict[str, Any]) -> str:
    if summary["timing"] == "none":
        return "Cycles of a model: made up, no measurement."
    speed = summary["simulation"]
    return (f"{summary['total']['cycles']:,} cycles simulated in {speed['wall_seconds']:.1f} s "
            f"({speed['cycles_per_second'] / 1e6:.2f} M cycles/s); how fast hardware is follows from its clock.")


def _show(console: Console, summary: dict[str, Any]) -> None:
    parameters = ", ".join(f"{name}={value}" for name, value in summary["parameters"].items())
    table = Table(title=f"{summary['device']} ({parameters})", caption=_caption(summary))
    table.add_column("file", overflow="fold")
    for name in ("bytes in", "bytes out", "cycles", "bytes/cycle", "zlib equal"):
        table.add_column(name, justify="right")

    def rate(row: dict[str, Any]) -> str:
        return "" if row["bytes_per_cycle"] is None else f"{row['bytes_per_cycle']:.2f}"

    for row in summary["files"]:
        verdict = {True: "yes", False: "NO", None: "not checked"}[row["equal"]]
        table.add_row(row["file"], f"{row['bytes_in']:,}", f"{row['bytes_out']:,}", f"{row['cycles']:,}", rate(row),
                      verdict)
    total = summary["total"]
    if len(summary["files"]) > 1:
        table.add_section()
        table.add_row("all, side by side" if summary["side_by_side"] else "all", f"{total['bytes_in']:,}",
                      f"{total['bytes_out']:,}", f"{total['cycles']:,}", rate(total), "")
    console.print(table)


_Files = Annotated[list[Path] | None, typer.Argument(
    metavar="[FILE]...", show_default=False,
    help="Compressed files; of a folder all .gz below it. Without any, real data of this machine is compressed.")]
_Output = Annotated[Path | None, typer.Option(
    "--output", "-o", metavar="OUT",
    help="Write the output here: a file, or for several inputs a folder, which must be there.")]
_Format = Annotated[FormatName, typer.Option("--format", help="Framing; auto looks at the first bytes.")]
_Check = Annotated[bool, typer.Option("--check/--no-check", help="Compare with zlib byte for byte.")]
_Stats = Annotated[bool, typer.Option("--stats", help="Show the device's registers and counters at the end.")]
_Device = Annotated[str, typer.Option(
    "--device", metavar="URL", envvar="RACKGATE_DEVICE", show_envvar=False,
    help="The device: sim:inflate, model:inflate, with options as in sim:inflate?contexts=1&latency=40.")]
_SideBySide = Annotated[bool, typer.Option(
    "--side-by-side", help="Do as many inputs at a time as the device has contexts, not one after the other.")]
_WavesOnFail = Annotated[bool, typer.Option("--waves-on-fail", help="Write waves of the last cycles before a failure.")]
_Timeout = Annotated[float | None, typer.Option(
    "--timeout", metavar="SECONDS", min=0.001, help="Longest wait for one job, in seconds of this machine.")]


def _inflate(
    files: _Files = None,
    output: _Output = None,
    format: _Format = FormatName.AUTO,
    check: _Check = True,
    side_by_side: _SideBySide = False,
    stats: _Stats = False,
    as_json: JsonOption = False,
    device: _Device = "sim:inflate",
    seed: SeedOption = 1,
    waves: WavesOption = False,
    waves_on_fail: _WavesOnFail = False,
    timeout: _Timeout = None,
) -> None:
    """Decompress files on a simulated device and compare with zlib.

    Examples:

    rackgate inflate                              real data of this machine

    rackgate inflate a.gz b.zz -o out/            write what comes out

    rackgate inflate /usr/share/doc --json        every .gz file below

    rackgate inflate x.gz --device "sim:inflate?contexts=1&latency=200" --stats
    """
    options = _Options(output, format, check, timeout, device, seed, waves, waves_on_fail,
                       side_by_side)
    options.check_waves()
    console = Console(stderr=as_json)
    inputs = list(_inputs(files, format)) if files else [_Input(*sample) for sample in samples()]
    if output is not None:
        _check_target(output, inputs)
    bar = _Bar(console, sum(len(item.data) for item in inputs), console.is_terminal and not as_json)
    with bar, contextlib.closing(options.open(bar)) as opened:
        begin, start = opened.cycles, time.monotonic()
        reports = _run_with_waves(opened, inputs, options, bar)
        summary = _summary(opened, reports, opened.cycles - begin, time.monotonic() - start, options)
        state = opened.state() if stats else ""
        if stats:
            summary["registers"] = opened.regs.snapshot()
    if as_json:
        print_json(summary)
    else:
        _show(console, summary)
        if stats:
            console.print(state, markup=False, highlight=False)
        _show_next(console, options, bool(files))
    for report in reports:
        if report.error is not None:
            print(f"rackgate: {report.file}: {report.error}", file=sys.stderr)
    if summary["total"]["failed"]:
        raise typer.Exit(1)


def _check_target(output: Path, inputs: Sequence[_Input]) -> None:
    if inputs[0].path is None:
        raise UsageError("-o needs files to decompress")
    if len(inputs) > 1 and not output.is_dir():
        raise UsageError(f"{output} must be a folder, because there are {len(inputs)} inputs")
    if not output.is_dir() and not output.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {output.absolute().parent}")
    targets: dict[Path | None, _Input] = {}
    for item in inputs:
        target = _target(item, output, len(inputs) > 1)
        if target in targets:
            raise UsageError(f"{item.name} and {targets[target].name} would both be written to {target}")
        targets[target] = item


def _show_next(console: Console, options: _Options, had_files: bool) -> None:
    lines = []
    if options.waves:
        lines.append(f"rackgate waves {options.trace}")
    elif options.device.startswith("sim:"):
        lines.append("rackgate inflate FILE.gz --waves    then: rackgate waves")
    if not had_files:
        lines.append("rackgate inflate FILE.gz -o OUT      your own data")
        lines.append("rackgate bench inflate               the figures of the README")
        lines.append("make test                            everything that must hold")
    if lines:
        console.print("What next:", *(f"  {line}" for line in lines), sep="\n", markup=False, highlight=False)


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("inflate")(_inflate)
