# SPDX-License-Identifier: Apache-2.0
"""What the processes of simulated hosts have in common: they start quickly, and die with who started them."""

import ctypes
import os
import signal
from typing import Any

__all__ = ["die_with_parent", "explained"]

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; it ends now if that is not ``parent`` any more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def explained(error: Exception) -> dict[str, Any]:
    """What a user is told of ``error`` and the exit code that it means, as ``error`` and ``exit_code``."""
    from ..cli import exit_code, sentence  # all commands come with it, and it is seldom needed

    return {"error": sentence(error), "exit_code": exit_code(error)}
