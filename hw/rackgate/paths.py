# SPDX-License-Identifier: Apache-2.0
"""Where builds and results lie. Plain Python, so that a host can import it."""

import os
from pathlib import Path

__all__ = ["build_root", "cache_root", "checkout"]


def checkout() -> Path | None:
    """The checkout that this package is imported from; None for an installed wheel."""
    top = Path(__file__).resolve().parents[2]
    return top if (top / "pyproject.toml").is_file() and (top / "hw" / "rackgate").is_dir() else None


def build_root() -> Path:
    """The folder for what a run leaves to be looked at (results, waves, logs): ``build`` in the checkout,
    or in the current folder when there is none. It is not created."""
    return (checkout() or Path.cwd()) / "build"


def cache_root() -> Path:
    """The folder of everything that can be built again and is found by a hash of its content:
    ``$RACKGATE_CACHE``, else ``build/cache`` in the checkout, else ``rackgate`` in the user's cache folder.
    It is not created."""
    if named := os.environ.get("RACKGATE_CACHE"):
        return Path(named).resolve()
    if checkout():
        return build_root() / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rackgate"
