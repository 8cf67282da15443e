# SPDX-License-Identifier: Apache-2.0
"""What a bench and the one who launched it tell each other."""

import json
import os
import random
from pathlib import Path
from typing import Any

__all__ = ["VARIABLE", "options", "parameters", "report", "rng"]

#: Environment variable that holds what the launcher said, as JSON.
VARIABLE = "RACKGATE_BENCH"


def _said() -> dict[str, Any]:
    return json.loads(os.environ[VARIABLE])


def parameters() -> dict[str, Any]:
    """Parameters of the design."""
    return _said()["parameters"]


def options() -> dict[str, Any]:
    """The bench's own settings."""
    return _said()["options"]


def rng(purpose: str) -> random.Random:
    """Random numbers for one purpose: others that draw more or less do not change them."""
    return random.Random(f"{_said()['seed']} {purpose}")


def report(**values: Any) -> None:
    """Add values to the report that the launcher gets."""
    place = Path(_said()["report"])
    before = json.loads(place.read_text()) if place.is_file() else {}
    place.write_text(json.dumps(before | values))
