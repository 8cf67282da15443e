# SPDX-License-Identifier: Apache-2.0
"""``rackgate sabre demo``: a restore to look at, from memory of this machine to memory of a guest."""

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from rackgate.paths import build_root

from ..errors import Unavailable
from ..output import JsonOption, SeedOption, print_json
from .cycles import clock, cycles_of
from .errors import SabreError
from .images import make_image
from .restore_command import show_restore, timing
from .snapshot import Region, Snapshot, write
from .userfault import PAGE, supported
from .workload import restore_guest, touch_trace

__all__ = ["EngineName", "register"]

_STEPS = 4


class EngineName(StrEnum):
    """Values of ``--engine``."""

    PACED = "paced"
    DEVICE = "device"
    SOFTWARE = "software"


def _demo(
    engine: Annotated[EngineName, typer.Option(
        "--engine", help="What decompresses: paced (by cycles counted on sim:inflate), device (sim:iaa), "
                         "software.")] = EngineName.PACED,
    pages: Annotated[int, typer.Option("--pages", min=16, help="Pages of the memory.")] = 1024,
    engines: Annotated[int, typer.Option("--engines", min=1, help="Engines of the paced device.")] = 4,
    as_json: JsonOption = False,
    seed: SeedOption = 1,
) -> None:
    """Snapshot memory of this machine's processes, and restore it through userfaultfd with a simulated device.

    Where userfaultfd is not permitted the reason is printed, and the exit code is 0. JSON: restored (false then, with
    why), pages, engine, timing, ratio, cycles_from, and what `rackgate sabre restore` has.

    Example: rackgate sabre demo --engine device
    """
    console = Console(stderr=as_json)
    try:
        supported()
    except Unavailable as error:
        if as_json:
            print_json({"restored": False, "why": str(error)})
        else:
            console.print(f"No restore here: {error}", markup=False, highlight=False, soft_wrap=True)
        return
    folder = build_root() / "sabre"
    folder.mkdir(parents=True, exist_ok=True)
    columns = TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.percentage:>3.0f} %")
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal or as_json)
    with tempfile.TemporaryDirectory(prefix="demo-", dir=folder) as scratch, bar:
        task = bar.add_task("taking memory", total=_STEPS)
        image, file = Path(scratch) / "memory.img", Path(scratch) / "memory.rgs"
        make_image(image, pages, seed)
        bar.update(task, description="compressing", completed=1)
        trace = touch_trace([pages], seed)
        order = list(dict.fromkeys(trace))
        summary = write(file, [Region("memory", 0, np.fromfile(image, np.uint8))], working_set=order, jobs=1, seed=seed)
        bar.update(task, description="counting cycles", completed=2)
        options, cycles = _options(engine, file, Path(scratch), engines, seed,
                                   lambda line: bar.update(task, description=line))
        bar.update(task, description="restoring", completed=3)
        result = restore_guest(file, trace, image, {
            "engine": engine.value, "engine_options": options, "policy": "working-set-first", "cold": True}, 120.0,
            lambda done, of: bar.update(task, description="restoring", completed=3 + done / max(of, 1)),
            report=lambda line: bar.update(task, description=line))
    report = result.pop("report")
    shown = {name: value for name, value in options.items() if name not in ("cycles", "latency")}
    ratio = summary.stored_ratio or 1.0
    if as_json:
        print_json({"restored": True, "pages": pages, "seed": seed, "engine": engine.value, "engine_options": shown,
                    "timing": timing(engine.value, shown), "ratio": round(ratio, 3), "cycles_from": cycles, **result,
                    **report})
    else:
        show_restore(console, f"{pages * PAGE / 1e6:.1f} MB, {ratio:.2f} times smaller in the file", result, report,
                     timing(engine.value, shown))
        for line in _next(cycles):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if result["equal"] is not True or result["wrong"]:
        raise SabreError("the restored memory differs from the original")


def _options(engine: EngineName, file: Path, folder: Path, engines: int, seed: int,
             report: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the engine, and where its cycles come from."""
    if engine is not EngineName.PACED:
        return {}, {}
    with Snapshot.open(file) as snapshot:
        # Of the inflate engine: `make sim` has it built already, while the accelerator takes a build of minutes.
        cycles = cycles_of(snapshot, device="sim:inflate", sample=128, seed=seed, report=report)
    mhz, source = clock()
    return ({"clock": mhz, "engines": engines, "cycles": cycles.save(folder / "cycles.npy"), "latency": cycles.latency},
            {**cycles.conditions, "clock_source": source})


def _next(cycles: dict[str, Any]) -> list[str]:
    lines = []
    if cycles:
        lines.append(f"Device: {cycles['cycles']}; clock {cycles['clock_source']}. Its time is simulated, the rest is "
                     "this machine's.")
    return [*lines, "What next:",
            "  rackgate sabre demo --engine device      every page through the simulated accelerator",
            "  rackgate sabre record --snapshot memory.rgs      then: rackgate sabre restore memory.rgs",
            "  rackgate bench sabre                     against REAP, lazy faults and five libraries"]


def register(app: typer.Typer) -> None:
    """Add the command to Sabre's group ``app``."""
    app.command("demo")(_demo)
