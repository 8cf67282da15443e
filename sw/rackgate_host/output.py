# SPDX-License-Identifier: Apache-2.0
"""What all commands share: the options that mean the same everywhere, and JSON on standard output."""

import json
import sys
from typing import Annotated, Any

import typer

__all__ = ["JsonOption", "SeedOption", "WavesOption", "print_json"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random; the same seed gives the same run.",
                                         envvar="RACKGATE_SEED", show_envvar=False)]
WavesOption = Annotated[bool, typer.Option("--waves", help="Write an FST trace; see it with `rackgate waves`.")]


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON and a newline on standard output, without any colour."""
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
