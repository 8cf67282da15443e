# SPDX-License-Identifier: Apache-2.0
"""``rackgate board list | build | program | record``: bitstreams for boards."""

import importlib
import shutil
import subprocess
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .errors import Unavailable, UsageError
from .output import JsonOption, print_json, table_console

__all__ = ["register"]

#: What builds bitstreams, as "module:function": named, because the host depends on no tool of FPGAs.
_LIST, _BUILD, _PROGRAM, _RECORD = (f"rackgate_boards.commands:{name}"
                                    for name in ("listing", "build", "loader", "record"))
_LOADER = "openFPGALoader"

_BoardOption = Annotated[str, typer.Argument(metavar="BOARD", help="Name of the board, or its beginning.")]
_SystemOption = Annotated[str, typer.Argument(metavar="SYSTEM", help="The system, as in sim:NAME.")]
_LinkOption = Annotated[str | None, typer.Option("--link", metavar="uart|udp", help="How a host reaches it; Ethernet "
                                                 "for systems with packet streams, else the UART.")]
_MacOption = Annotated[str | None, typer.Option("--mac", metavar="MAC", help="MAC address of the board on Ethernet, "
                                                "02:52:47:00:00:01 unless given.")]
_AddressOption = Annotated[str | None, typer.Option("--address", metavar="IPV4", help="IPv4 address of the board, "
                                                    "192.168.1.50 unless given.")]


def _call(place: str, *arguments: Any, **options: Any) -> Any:
    module, _, function = place.partition(":")
    made = getattr(importlib.import_module(module), function)
    try:
        return made(*arguments, **options)
    except ValueError as error:
        if hasattr(error, "exit_code"):  # a pair that does not fit is no wrong use
            raise
        raise UsageError(str(error)) from None


def _figures(row: dict[str, Any]) -> list[str]:
    if (figures := row["figures"]) is None:
        return ["", "", ""]
    return [f"{figures['fmax_mhz']:.1f}", f"{figures['lut4']}", f"{figures['ebr']}"]


def _origins(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What figures are of, and the pairs of which that is said."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["why_not"] is None:
            figures, since = row["figures"], row["changes"]
            origin = "not built yet" if figures is None else f"as of {figures['commit']}{since and f', {since}'}"
            found.setdefault(origin, []).append(f"{row['board']} {row['system']}")
    return found


def _list(as_json: JsonOption = False) -> None:
    """Boards, the systems that fit them, and the figures of those that were built.

    JSON: pairs, each with board, system, link, parameters, memory_bytes, clock_mhz, why_not (null if it fits), figures
    (those of build; null if it was not built yet), changes (what of parameters and gateware has changed since; empty if
    nothing).

    Example: rackgate board list
    """
    rows = _call(_LIST)
    if as_json:
        print_json({"pairs": rows})
        return
    table = Table(box=SIMPLE_HEAD)
    for heading in ("board", "system", "link"):
        table.add_column(heading, no_wrap=True)
    for heading in ("memory", "MHz", "routed", "LUT4", "EBR"):
        table.add_column(heading, justify="right")
    for row in rows:
        if row["why_not"] is None:
            memory = f"{row['memory_bytes'] >> 10}K" if row["memory_bytes"] else ""
            table.add_row(row["board"], row["system"], row["link"], memory, f"{row['clock_mhz']:g}", *_figures(row))
    table_console().print(table)
    print("Memory in bytes, clocks in MHz. Figures are of bitstreams that were built.")
    for origin, names in _origins(rows).items():
        print(f"  {origin}: {', '.join(names)}")
    print("What does not fit:")
    for row in rows:
        if row["why_not"] is not None:
            print(f"  {row['board']}: {row['why_not']}")


def _build(board: _BoardOption, system: _SystemOption, link: _LinkOption = None, mac: _MacOption = None,
           address: _AddressOption = None, as_json: JsonOption = False) -> None:
    """Build a bitstream into build/boards, and keep its figures in build/reports.

    The clocks hold after routing, or it fails. Minutes for a small system, half an hour for a large one; what was built
    before is taken from the cache. Exit codes: 0 built; 1 it does not fit, a tool failed or a clock is missed; 2 usage;
    3 a tool is missing. JSON: bitstream, and board, system, link, mac and address (empty with a UART), parameters,
    memory, device, clock_mhz, fmax_mhz, clocks, lut4, ff, ebr, dsp, available, seed, seconds, tools, build, commit,
    python, date.

    Example: rackgate board build ulx3s echo
    """
    console = Console(stderr=True)
    with console.status("") as status:
        path, figures = _call(_BUILD, board, system, link=link, mac=mac, address=address,
                              report=lambda line: status.update(f"{system}: {line}"))
    if as_json:
        print_json({"bitstream": str(path), **figures})
        return
    clocks = ", ".join(f"{name} {timing['achieved_mhz']:.1f} of {timing['constraint_mhz']:.1f} MHz"
                       for name, timing in figures["clocks"].items())
    available = figures["available"]
    print(f"{path}: {figures['lut4']} of {available['lut4']} LUT4, {figures['ebr']} of {available['ebr']} block RAMs, "
          f"built in {figures['seconds']:.0f} s\n{clocks}")
    if figures["link"] == "udp":
        print(f"it answers as {figures['mac']} at {figures['address']}")


def _program(board: _BoardOption, system: _SystemOption, link: _LinkOption = None, mac: _MacOption = None,
             address: _AddressOption = None,
             flash: Annotated[bool, typer.Option("--flash", help="Into the flash, to stay there.")] = False,
             as_json: JsonOption = False) -> None:
    """Build if need be, then load a bitstream through openFPGALoader: lost at power-off, unless into the flash.

    Exit codes: those of build; 3 also if openFPGALoader is not installed; 1 also if it fails. JSON: bitstream, command
    (what was run), flash.

    Example: rackgate board program ecpix5 fisslock
    """
    if (tool := shutil.which(_LOADER)) is None:
        raise Unavailable(f"{_LOADER} is not installed: sudo apt-get install openfpgaloader, or see "
                          "https://trabucayre.github.io/openFPGALoader. The bitstream itself needs none: rackgate "
                          f"board build {board} {system}")
    console = Console(stderr=True)
    with console.status("") as status:
        path, _ = _call(_BUILD, board, system, link=link, mac=mac, address=address,
                        report=lambda line: status.update(f"{system}: {line}"))
    command = [tool, *_call(_PROGRAM, board), *(["--write-flash"] if flash else []), str(path)]
    # What the loader says goes where progress goes: standard output is for the answer.
    if code := subprocess.run(command, stdout=2 if as_json else None, check=False).returncode:
        raise Unavailable(f"{_LOADER} ended with {code}: is the board connected, and may you use its cable?")
    if as_json:
        print_json({"bitstream": str(path), "command": command, "flash": flash})


def _record(
    folders: Annotated[list[str] | None, typer.Argument(metavar="FOLDER", help="Folders with reports; build/reports of "
                                                        "this checkout unless given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep figures of bitstreams that were built with the sources, where the manual's table is made from.

    A report in place of an older one of the same pair. Exit codes: 0 kept; 1 a report is wrong, or there is none. JSON:
    kept, the figures that are new, as those of build.

    Example: rackgate board record build/reports
    """
    kept = _call(_RECORD, folders or [])
    if as_json:
        print_json({"kept": kept})
        return
    for figures in kept:
        print(f"{figures['board']} {figures['system']}: {figures['fmax_mhz']:.1f} MHz, {figures['lut4']} LUT4, "
              f"{figures['ebr']} block RAMs, as of {figures['commit']}")
    if not kept:
        print("nothing is newer than what is kept")


def register(group: typer.Typer) -> None:
    """Add the commands to the group ``rackgate board``."""
    group.command("list")(_list)
    group.command("build")(_build)
    group.command("program")(_program)
    group.command("record")(_record)
