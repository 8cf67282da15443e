# SPDX-License-Identifier: Apache-2.0
"""Device URLs: ``scheme:name?option=value&...``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from .errors import UsageError

__all__ = ["DeviceURL", "flag", "fraction", "number"]

_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class DeviceURL:
    """A parsed device URL.

    Parameters
    ----------
    scheme:
        Which world the device lives in: ``sim``, ``model``, ``uart``, ``udp``.
    name:
        The device (``inflate``), or the place of a board.
    options:
        What stands behind the question mark, in order, as text.
    """

    scheme: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "DeviceURL":
        """Parse ``text``. Raises :class:`UsageError` when it has not the form of a device URL."""
        if not isinstance(text, str):
            raise TypeError(f"a device URL must be a str, not {type(text).__name__}")
        scheme, colon, rest = text.partition(":")
        name, _, query = rest.partition("?")
        if not colon or not scheme or not name:
            raise UsageError(f"a device URL must look like 'sim:inflate' or 'sim:inflate?contexts=1', not {text!r}")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise UsageError(f"the options in {text!r} must look like name=value&name=value, not {query!r}") from None
        options: dict[str, str] = {}
        for key, value in pairs:
            if key in options:
                raise UsageError(f"option {key} stands twice in {text!r}")
            options[key] = value
        return cls(scheme, name, options)

    def __str__(self) -> str:
        query = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.scheme}:{self.name}" + (f"?{query}" if query else "")


def number(option: str, value: object) -> int:
    """``value`` as an integer: Python notation, and K, M, G (binary) at its end."""
    if isinstance(value, int):
        return int(value)
    text = str(value).strip()
    scale = _SUFFIXES.get(text[-1:].upper(), 1)
    try:
        return int(text[:-1] if scale > 1 else text, 0) * scale
    except ValueError:
        raise UsageError(f"option {option} must be an integer (K, M, G allowed), not {value!r}") from None


def fraction(option: str, value: object) -> float:
    """``value`` as a number that need not be whole."""
    try:
        return float(str(value))
    except ValueError:
        raise UsageError(f"option {option} must be a number, not {value!r}") from None


def flag(option: str, value: object) -> bool:
    """``value`` as yes (1, true, yes, on, nothing at all) or no (0, false, no, off)."""
    text = str(value).lower()
    if text in ("", "1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"option {option} must be 0 or 1, not {value!r}")
