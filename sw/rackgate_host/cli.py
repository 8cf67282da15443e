# SPDX-License-Identifier: Apache-2.0
"""The ``rackgate`` command.

Exit codes: 0 pass, 1 failed, 2 usage, 3 environment, 4 time-out. A command raises; only :func:`main` turns an
exception into a sentence and a code.
"""

import importlib.metadata
import os
import sys
from typing import Annotated, NoReturn

import typer

from . import board, doctor, waves
from .bench import command as bench
from .collective import command as collectives
from .inflate import command as inflate
from .locks import command as locks
from .report import command as report
from .sabre import command as sabre
from .sharing import command as server
from .trace import command as trace
from .zeronic import command as zeronic

__all__ = ["app", "exit_code", "main", "sentence"]

_DEBUG = "RACKGATE_DEBUG"

app = typer.Typer(name="rackgate", no_args_is_help=True, pretty_exceptions_enable=False,
                  context_settings={"help_option_names": ["-h", "--help"]})


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rackgate {importlib.metadata.version('rackgate')}")
        raise typer.Exit


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", envvar=_DEBUG,
                                        show_envvar=False)] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                          help="Print the version.")] = False,
) -> None:
    """Open gateware for datacenter offload: run it, measure it, look into it.

    Exit codes: 0 pass, 1 failed, 2 usage, 3 environment, 4 time-out.
    """
    if debug:
        os.environ[_DEBUG] = "1"


for _module in (inflate, sabre, locks, collectives, zeronic, board, server, trace, doctor, waves, bench, report):
    _module.register(app)


def exit_code(error: BaseException) -> int:
    """The exit code that ``error`` ends a command with."""
    own = getattr(error, "exit_code", None)
    if isinstance(own, int):
        return own
    match error:
        case TimeoutError():
            return 4
        case ImportError():
            return 3
        case FileNotFoundError() | IsADirectoryError() | NotADirectoryError() | PermissionError():
            return 2
    return 1


def sentence(error: BaseException) -> str:
    """What a user is told of ``error``: one sentence, and what to do where that is known."""
    match error:
        case OSError() if error.filename is not None and error.strerror:
            return f"{error.filename}: {error.strerror}"
        case ModuleNotFoundError() if error.name:
            return f"the Python package {error.name.partition('.')[0]} is not installed: run `make test`, or " \
                   "pip install 'rackgate[cosim]'; `rackgate doctor` lists what is missing"
    first, _, rest = str(error).partition("\n")
    if rest and isinstance(error, TimeoutError):  # what follows is the device's state
        return f"{first} (rackgate --debug shows the device's state)"
    text = " ".join(str(error).split())
    if isinstance(getattr(error, "exit_code", None), int) or isinstance(error, (AssertionError, TimeoutError)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (rackgate --debug shows where)"


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        app()
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        print(f"rackgate: {sentence(error)}", file=sys.stderr)
        sys.exit(exit_code(error))
    sys.exit(0)
