# SPDX-License-Identifier: Apache-2.0
"""Figures and conditions as they are read."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["conditions_of", "number", "slug"]

#: Characters of a value that are shown: a critical path has thousands.
_MOST = 160
#: Endings of names of conditions, and the units that they say.
_UNITS = {"_gb_per_s": " GB/s", "_mhz": " MHz", "_ns": " ns", "_us": " us", "_ms": " ms"}


def number(value: Any) -> str:
    """A figure with four significant digits, thousands parted by commas; whole ones as they are.

    >>> number(1572864), number(98.5714), number(0.000123456)
    ('1,572,864', '98.57', '0.0001235')
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 10000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    return text if abs(value) < 1000 else f"{float(text):,g}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return {True: "yes", False: "no", None: "unknown"}[value] if value is None or isinstance(value, bool) \
        else number(value)


def conditions_of(conditions: Mapping[str, Any], names: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Conditions as names and values to be read: those of ``names`` that are there, in their order, or all.

    A unit at the end of a name is put behind the value. Very long ones are cut.

    >>> conditions_of({"clock_mhz": 80.0, "pages": 4096})
    [('clock', '80 MHz'), ('pages', '4,096')]
    """
    found = []
    for name in list(names) or list(conditions):
        if name in conditions:
            word, unit = next(((name.removesuffix(ending), unit) for ending, unit in _UNITS.items()
                               if name.endswith(ending)), (name, ""))
            text = _text(conditions[name]) + unit
            found.append((word.replace("_", " "), text if len(text) <= _MOST else f"{text[:_MOST]} ..."))
    return found


def slug(text: str) -> str:
    """Letters and digits of a text, with dashes between: a name for a place in a page.

    >>> slug("Restoring json: pipelined, GB/s")
    'restoring-json-pipelined-gb-s'
    """
    kept = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return "-".join(kept.split())
