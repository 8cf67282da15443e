# SPDX-License-Identifier: Apache-2.0
"""What simulated hosts have in their directory: a lock, a log, sockets."""

import fcntl
from pathlib import Path

from ..errors import RackgateError, UsageError
from .errors import HostFailed, NoHosts

__all__ = ["clear", "default_directory", "failure", "last_line", "running"]


def default_directory(name: str = "default") -> Path:
    """Where hosts of this name have their sockets."""
    if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise UsageError(f"a name of hosts must be of letters, digits, - and _, not {name!r}")
    return Path("/run/rackgate/zeronic") / name


def failure(error: str, code: int, directory: Path) -> RackgateError:
    """The error that a process of the hosts has told; if it just ended, with the last line of the log."""
    if "has ended" in error and (last := last_line(directory)):
        error = f"{error}: {last}"
    kind = NoHosts if code == NoHosts.exit_code else UsageError if code == 2 else HostFailed
    found = kind(error)
    found.exit_code = code
    return found


def last_line(directory: Path) -> str:
    """The last line that the hosts have logged; nothing if there is none."""
    try:
        lines = (directory / "log").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def running(directory: Path) -> int | None:
    """The process that holds the directory's lock."""
    try:
        with (directory / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    except OSError:
        return None
    try:
        return int((directory / "lock").read_text() or 0) or None
    except (OSError, ValueError):
        return None


def clear(directory: Path) -> None:
    """Remove what hosts have left in their directory; a log stays."""
    for path in (*directory.glob("*.flows"), *directory.glob("*.control"), directory / "lock"):
        path.unlink(missing_ok=True)
