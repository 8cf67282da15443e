# SPDX-License-Identifier: Apache-2.0
"""The ``rackgate`` command.

Exit codes: 0 pass, 1 failed, 2 usage, 3 environment, 4 time-out. A command raises; only :func:`main` turns an
exception into a sentence and a code.
"""

import functools
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable
from typing import Annotated, Any, NoReturn

import typer

__all__ = ["exit_code", "main", "sentence"]

_DEBUG = "RACKGATE_DEBUG"
#: The module that registers each command, in the order of the help.
_MODULES = {
    "inflate": "inflate.command", "sabre": "sabre.command", "locks": "locks.command",
    "collectives": "collective.command", "zeronic": "zeronic.command", "board": "board", "server": "sharing.command",
    "trace": "trace.command", "doctor": "doctor", "setup": "doctor", "waves": "waves", "bench": "bench.command",
    "report": "report.command",
}


def _version(wanted: bool) -> None:
    if wanted:
        print(f"rackgate {importlib.metadata.version('rackgate')}")
        raise typer.Exit


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


def _app_of(modules: Iterable[str]) -> typer.Typer:
    made = typer.Typer(name="rackgate", no_args_is_help=True, pretty_exceptions_enable=False,
                       context_settings={"help_option_names": ["-h", "--help"]})
    made.callback()(_global)
    for module in dict.fromkeys(modules):
        importlib.import_module(f".{module}", __package__).register(made)
    return made


@functools.cache
def _app() -> typer.Typer:
    return _app_of(_MODULES.values())


def __getattr__(name: str) -> Any:
    """``app``, the Typer application with all commands, is made when it is asked for."""
    if name == "app":
        return _app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    """Run the command line and exit. A command that comes first is imported alone: all take half a second."""
    try:
        first = _MODULES.get(sys.argv[1]) if len(sys.argv) > 1 else None
        (_app_of([first]) if first else _app())()
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        print(f"rackgate: {sentence(error)}", file=sys.stderr)
        sys.exit(exit_code(error))
    sys.exit(0)
