# SPDX-License-Identifier: Apache-2.0
"""The bench ``sabre``: how well memory of functions compresses, and how long it takes to bring it back."""

from .run import run, units

__all__ = ["run", "units"]
