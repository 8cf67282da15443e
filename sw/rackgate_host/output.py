# SPDX-License-Identifier: Apache-2.0
"""What all commands share: the options that mean the same everywhere, and JSON on standard output."""

import json
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

__all__ = ["JsonOption", "SeedOption", "WavesOption", "print_json", "table_console"]

#: Columns of tables that go into a file or a pipe, where no window is too narrow; rich takes 80, which hides figures.
_FILE_COLUMNS = 160

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random; the same seed gives the same run.",
                                         envvar="RACKGATE_SEED", show_envvar=False)]
WavesOption = Annotated[bool, typer.Option("--waves", help="Write an FST trace; see it with `rackgate waves`.")]


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON and a newline on standard output, without any colour."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def table_console() -> Console:
    """Return a console on standard output: as wide as the terminal or ``COLUMNS`` says, else 160 columns."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _FILE_COLUMNS
    return console
