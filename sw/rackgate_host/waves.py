# SPDX-License-Identifier: Apache-2.0
"""``rackgate waves``: look at the trace of a run."""

import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from rackgate.paths import build_root

from .errors import UsageError
from .output import JsonOption, print_json

__all__ = ["newest_trace", "register"]

# Surfer reads FST fastest and shows Amaranth's enums; the editor's command opens VaporView where it is installed.
_VIEWERS = (("surfer", ()), ("gtkwave", ()), ("code", ("--reuse-window",)))


def newest_trace(folder: Path) -> Path | None:
    """The FST file under ``folder`` that was written last; None if there is none."""
    traces = [path for path in folder.rglob("*.fst") if path.is_file()]
    return max(traces, key=lambda path: path.stat().st_mtime, default=None)


def _waves(
    trace: Annotated[Path | None, typer.Argument(help="An FST file; by default the newest under build/.")] = None,
    path_only: Annotated[bool, typer.Option("--path", help="Print the file's path and open nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Open a trace in Surfer, GTKWave or VS Code (VaporView), whichever is there.

    Without a viewer the path is printed. Example: rackgate inflate FILE.gz --waves && rackgate waves
    """
    if trace is not None and not trace.is_file():
        raise UsageError(f"there is no trace {trace}")
    found = trace or newest_trace(build_root())
    if found is None:
        raise UsageError(f"there is no trace under {build_root()} yet: run something with --waves, "
                         "for instance `rackgate inflate FILE.gz --waves`")
    viewer = next(((shutil.which(name), arguments) for name, arguments in _VIEWERS if shutil.which(name)), None)
    if as_json:
        print_json({"trace": str(found), "viewer": viewer[0] if viewer else None})
    elif path_only or viewer is None:
        print(found)
    else:
        command, arguments = viewer
        subprocess.Popen([str(command), *arguments, str(found)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         start_new_session=True)
        print(f"{found} in {command}")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("waves")(_waves)
