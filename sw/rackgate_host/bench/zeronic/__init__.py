# SPDX-License-Identifier: Apache-2.0
"""The bench ``zeronic``: cycles of the NIC, and what real TCP through it costs the host."""

from .run import run, units

__all__ = ["run", "units"]
