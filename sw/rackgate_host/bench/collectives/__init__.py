# SPDX-License-Identifier: Apache-2.0
"""The bench ``collectives``: cycles of collectives against what links allow, and against ACCL's algorithms."""

from .run import run, units

__all__ = ["run", "units"]
