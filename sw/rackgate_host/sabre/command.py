# SPDX-License-Identifier: Apache-2.0
"""``rackgate sabre``: make snapshot files, look into them, and turn them into Sabre's own."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from ..errors import UsageError
from ..output import JsonOption, SeedOption, print_json
from . import demo_command, restore_command
from .corpora import command as corpora_command
from .format import NAME_SIZE, PAGE, VERSION, Kind
from .sabre_files import SabrePair, export_snapshot
from .snapshot import Snapshot
from .touches import Touches, working_set
from .writer import Region, Summary, write

__all__ = ["CompressorName", "LayoutName", "ModeName", "app", "bar", "register"]

#: The group that the commands of Sabre belong to.
app = typer.Typer(name="sabre", no_args_is_help=True, help="Snapshots of memory, compressed as in Sabre (OSDI'24).")

_PAIR = ".partitions"


class ModeName(StrEnum):
    """Values of ``--mode``."""

    CANNED = "canned"
    DYNAMIC = "dynamic"
    FIXED = "fixed"
    RAW = "raw"


class CompressorName(StrEnum):
    """Values of ``--compressor``."""

    ZLIB = "zlib"
    LIBDEFLATE = "libdeflate"


class LayoutName(StrEnum):
    """Values of ``--layout``."""

    SCATTERED = "scattered"
    SINGLE = "single"
    PASSTHROUGH = "passthrough"


@contextmanager
def bar(console: Console, what: str, total: int, enabled: bool) -> Iterator[Callable[[int], None]]:
    """A live bar over ``total`` bytes; gives the function to call with the bytes of each step."""
    columns = TextColumn("{task.description}"), BarColumn(24), DownloadColumn(True), TransferSpeedColumn()
    with Progress(*columns, console=console, transient=True, disable=not enabled) as progress:
        task = progress.add_task(what, total=max(total, 1))
        yield lambda count: progress.advance(task, count)


def _region(path: Path, address: int) -> Region:
    """The memory in ``path``: an image, or Sabre's pair of files."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    name = "".join(letter for letter in path.name if letter.isprintable())
    while len(name.encode()) > NAME_SIZE:
        name = name[:-1]
    if path.suffix == _PAIR:
        region = SabrePair.read(path.with_suffix("")).region(name=name, address=address)
        if not len(region.pages):
            raise UsageError(f"{path}: there are no partitions in it")
        return region
    size = path.stat().st_size
    if size == 0 or size % PAGE:
        raise UsageError(f"{path}: an image of memory has whole pages of {PAGE} bytes, not {size} bytes")
    return Region(name, address, np.memmap(path, np.uint8, mode="r"))


def _regions(files: Sequence[Path], addresses: Sequence[str] | None) -> list[Region]:
    if addresses and len(addresses) != len(files):
        raise UsageError(f"there must be an --address for each of the {len(files)} files, not {len(addresses)}")
    regions: list[Region] = []
    behind = 0
    for number, path in enumerate(files):
        address = behind
        if addresses:
            try:
                address = int(addresses[number], 0)
            except ValueError:
                raise UsageError(f"--address must be a number, not {addresses[number]!r}") from None
        regions.append(_region(path, address))
        behind = address + len(regions[-1].pages) * PAGE
    return regions


def _figures(summary: Summary) -> dict[str, Any]:
    def ratio(pages: int, size: int) -> float | None:
        return round(pages * PAGE / size, 3) if size else None

    return {
        "partitions": summary.partitions,
        "working_set": summary.working_set,
        "tables": summary.tables,
        "bytes_in": summary.bytes_in,
        "bytes_out": summary.bytes_out,
        "ratio": round(summary.ratio, 3),
        "stored_ratio": None if summary.stored_ratio is None else round(summary.stored_ratio, 3),
        "kinds": [{"kind": kind.name.lower(), "partitions": count, "pages": pages, "bytes": size,
                   "ratio": ratio(pages, size)} for kind, (count, pages, size) in summary.kinds.items()],
    }


def _show(console: Console, title: str, figures: dict[str, Any], caption: str) -> None:
    table = Table(title=title, caption=caption)
    table.add_column("kind")
    for name in ("partitions", "pages", "bytes", "ratio"):
        table.add_column(name, justify="right")
    for row in figures["kinds"]:
        table.add_row(row["kind"], f"{row['partitions']:,}", f"{row['pages']:,}", f"{row['bytes']:,}",
                      "" if row["ratio"] is None else f"{row['ratio']:.2f}")
    table.add_section()
    table.add_row("file", f"{figures['partitions']:,}", f"{figures['bytes_in'] // PAGE:,}", f"{figures['bytes_out']:,}",
                  f"{figures['ratio']:.2f}")
    console.print(table)


_Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The snapshot; replaced if it is there.")]
_WorkingSet = Annotated[Path | None, typer.Option(
    "--working-set", metavar="TOUCHES", help="What `rackgate sabre record` saw: these pages come first in the file.")]


@app.command("snapshot")
def _snapshot(
    files: Annotated[list[Path], typer.Argument(
        metavar="FILE...", help="Images of memory, each a region; or NAME.partitions of Sabre's own pair.")],
    output: _Output,
    mode: Annotated[ModeName, typer.Option("--mode", help="How partitions are compressed.")] = ModeName.CANNED,
    partition_pages: Annotated[int, typer.Option("--partition-pages", help="Pages of a partition, 1 to 4096.")] = 1,
    window: Annotated[int, typer.Option("--window", help="How far matches reach back: 4096 or 32768 bytes.")] = 4096,
    level: Annotated[int, typer.Option("--level", help="Effort, 1 to 9.")] = 6,
    tables: Annotated[int, typer.Option("--tables", help="Canned tables to make.")] = 1,
    compressor: Annotated[CompressorName, typer.Option(
        "--compressor", help="libdeflate goes with --mode dynamic.")] = CompressorName.ZLIB,
    addresses: Annotated[list[str] | None, typer.Option(
        "--address", metavar="ADDRESS", show_default=False,
        help="Where a file's memory begins, once for each; one behind the other from 0 if left out.")] = None,
    touches: _WorkingSet = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="Processes; one for each core if left out.",
                                             show_default=False)] = None,
    as_json: JsonOption = False,
    seed: SeedOption = 1,
) -> None:
    """Compress memory into a snapshot file.

    Examples:

    rackgate sabre snapshot memory.img -o memory.rgs

    rackgate sabre snapshot low.img high.img --address 0 --address 0x100000000 -o vm.rgs --working-set touches.json

    rackgate sabre snapshot function.partitions -o function.rgs      Sabre's pair of files
    """
    if not output.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {output.absolute().parent}")
    if output.exists() and (not output.is_file() or any(path.exists() and path.samefile(output) for path in files)):
        raise UsageError(f"{output} cannot be the output: it is {'an input' if output.is_file() else 'no file'}")
    regions = _regions(files, addresses)
    console = Console(stderr=as_json)
    total = sum(len(region.pages) * PAGE for region in regions)
    order = [] if touches is None else working_set(Touches.load(touches))
    start = time.monotonic()
    with bar(console, "compressing", total, console.is_terminal and not as_json) as progress:
        summary = write(output, regions, working_set=order, mode=mode.value, partition_pages=partition_pages,
                        window=window, level=level, tables=tables, compressor=compressor.value, jobs=jobs, seed=seed,
                        progress=progress)
    seconds = time.monotonic() - start
    figures = _figures(summary)
    if as_json:
        print_json({"file": str(output), "mode": mode.value, "partition_pages": partition_pages, "window": window,
                    "level": level, "compressor": compressor.value, "seed": seed, **figures,
                    "seconds": round(seconds, 3)})
        return
    _show(console, str(output), figures,
          f"{total / 1e6:,.1f} MB in {seconds:.1f} s; working set: {summary.working_set:,} partitions.")


def _described(snapshot: Snapshot) -> dict[str, Any]:
    header = snapshot.header
    return {
        "file": str(snapshot.path),
        "version": VERSION,
        "window": header.window,
        "regions": [{"name": region.name, "address": region.address, "pages": region.pages}
                    for region in snapshot.regions],
        **_figures(Summary.of(header, snapshot.partitions)),
        "working_set_kinds": {Kind(kind).name.lower(): int(count) for kind, count in
                              zip(*np.unique(snapshot.working_set["kind"], return_counts=True), strict=True)},
    }


@app.command("inspect")
def _inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A snapshot.")],
    verify: Annotated[bool, typer.Option(
        "--verify", help="Read every byte, decompress every partition, check all CRCs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a snapshot holds. Exit code 1 if it is damaged: headers and index always, data with --verify.

    Example: rackgate sabre inspect memory.rgs --verify
    """
    console = Console(stderr=as_json)
    with Snapshot.open(file) as snapshot:
        described = _described(snapshot)
        if verify:
            total = snapshot.header.file_size - snapshot.header.data_offset + snapshot.size
            with bar(console, "verifying", total, console.is_terminal and not as_json) as progress:
                snapshot.verify(progress)
        described["verified"] = verify
    if as_json:
        print_json(described)
        return
    for number, region in enumerate(described["regions"]):
        console.print(f"region {number}: {region['name'] or '(no name)'}, {region['pages']:,} pages from "
                      f"{region['address']:#x}", markup=False, highlight=False)
    first = ", ".join(f"{count:,} {kind}" for kind, count in described["working_set_kinds"].items())
    caption = f"version {VERSION}, window {described['window']}, canned tables: {described['tables']}, " \
              f"working set: {first or 'none'}; " + ("every byte checked." if verify else "--verify checks the data.")
    _show(console, str(file), described, caption)


@app.command("export")
def _export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A snapshot.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="NAME",
                                        help="NAME.partitions and NAME.snapshot are written.")],
    layout: Annotated[LayoutName, typer.Option(
        "--layout", help="A stream for each run of pages, one for all, or no compression.")] = LayoutName.SCATTERED,
    as_json: JsonOption = False,
) -> None:
    """Write a snapshot as Sabre's own pair of files. Zero pages are left out, as Sabre does with pages not dirtied.

    Example: rackgate sabre export memory.rgs -o function --layout single
    """
    if not Path(output).absolute().parent.is_dir():
        raise UsageError(f"there is no folder {Path(output).absolute().parent}")
    with Snapshot.open(file) as snapshot:
        size = export_snapshot(snapshot, output, layout.value)
        whole = snapshot.size
    if as_json:
        print_json({"file": str(file), "output": output, "layout": layout.value, "bytes_in": whole, "bytes_out": size})
    else:
        print(f"{output}.partitions, {output}.snapshot: {size:,} bytes for {whole:,} bytes of memory")


def register(root: typer.Typer) -> None:
    """Add the group to ``root``."""
    restore_command.register(app)
    demo_command.register(app)
    corpora_command.register(app)
    root.add_typer(app)
