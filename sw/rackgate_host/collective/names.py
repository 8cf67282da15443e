# SPDX-License-Identifier: Apache-2.0
"""Values of options that several commands have."""

from enum import StrEnum

__all__ = ["TypeName", "WireName", "device_url"]


class TypeName(StrEnum):
    """Values of ``--type``."""

    INT32 = "int32"
    INT64 = "int64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"


class WireName(StrEnum):
    """Values of ``--wire``."""

    FLOAT16 = "float16"


def device_url(text: str) -> tuple[str, str]:
    """A device URL, and its scheme."""
    url = text if ":" in text else f"{text}:collective"
    return url, url.partition(":")[0]
