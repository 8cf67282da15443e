# SPDX-License-Identifier: Apache-2.0
"""``rackgate board``: what board is there, and boards that are simulated."""

import enum
import importlib
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rackgate.bridge.abi import UDP_PORT

from . import board_flow
from .device import Device
from .errors import DeviceMismatch, UsageError
from .expect import expected_kind
from .output import JsonOption, print_json, table_console
from .transport.remote import RemoteTransport
from .url import DeviceURL, number

__all__ = ["register", "simulated_board"]

#: Where boards are simulated, as "module:function": named, because the host depends on no simulator.
_WORLDS = {"model": "rackgate_sim.bridge_links:serve", "pins": "rackgate_sim.board.serve:serve"}


class _World(enum.StrEnum):
    MODEL = "model"
    PINS = "pins"


class _LinkKind(enum.StrEnum):
    UART = "uart"
    UDP = "udp"


def simulated_board(system: str, link: str, world: str, parameters: Mapping[str, int],
                    report: Callable[[str], None]) -> AbstractContextManager[Any]:
    """A board that is simulated, as a context whose value has the ``url`` for :func:`rackgate_host.open`.

    Raises
    ------
    UsageError
        There is no such system, or it has no such parameter.
    """
    module, _, function = _WORLDS[world].partition(":")
    serve = getattr(importlib.import_module(module), function)
    try:
        return serve(system, link, parameters, report)
    except (TypeError, ValueError) as error:
        raise UsageError(f"board simulate: {error}") from None


def _attach(url: str) -> RemoteTransport:
    parsed = DeviceURL.parse(url)
    if parsed.scheme not in ("tcp", "uart", "udp"):
        raise UsageError(f"a board's URL begins with uart:, udp: or tcp:, not as {url!r}")
    options: dict[str, Any] = dict(parsed.options)
    backend = importlib.import_module(f".transport.{parsed.scheme}", __package__)
    return backend.attach(parsed.name, options)


def _refusal(transport: RemoteTransport, url: str) -> str | None:
    """Why this package's driver refuses the device, if it does."""
    try:
        Device(transport, expected_kind(transport.identity, {}, url), url)
    except DeviceMismatch as error:
        return str(error)
    return None


def _info(
    url: Annotated[str, typer.Argument(help="uart:/dev/ttyUSB0, udp:192.0.2.10, or tcp:HOST:PORT of a server.")],
    as_json: JsonOption = False,
) -> None:
    """Tell what a board carries, and whether this package drives it.

    Exit codes: 0 it does; 2 usage; 3 it does not, or there is no such port; 4 nothing answers. JSON: url, system,
    board, clock_khz, memory_base, memory_bytes, release, parameters, build, refusal (null if there is none),
    round_trip_ms, counters.

    Example: rackgate board info udp:192.0.2.10
    """
    transport = _attach(url)
    try:
        identity = transport.identity
        refusal = _refusal(transport, url)
        begin = time.monotonic()
        counters = transport.counters()
        round_trip = 1e3 * (time.monotonic() - begin)
    finally:
        transport.close()
    known = {"url": url, "system": identity.system, "board": identity.board, "clock_khz": identity.clock_khz,
             "memory_base": transport.memory_base, "memory_bytes": transport.memory_size,
             "release": ".".join(map(str, identity.release)), "parameters": dict(identity.parameters),
             "build": identity.build.hex(), "refusal": refusal, "round_trip_ms": round(round_trip, 3),
             "counters": counters}
    if as_json:
        print_json(known)
    else:
        _show(known)
    raise typer.Exit(3 if refusal else 0)


def _show(known: Mapping[str, Any]) -> None:
    table = Table(title=f"rackgate board info {known['url']}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    memory = f"{known['memory_bytes'] >> 10} KiB at {known['memory_base']:#x}" if known["memory_bytes"] else "none"
    parameters = ", ".join(f"{name}={value}" for name, value in known["parameters"].items())
    counters = ", ".join(f"{name} {value}" for name, value in known["counters"].items())
    for name, value in (
        ("system", known["system"]), ("board", known["board"]), ("clock", f"{known['clock_khz'] / 1e3:g} MHz"),
        ("memory", memory), ("parameters", parameters or "none"), ("built by", f"rackgate {known['release']}"),
        ("build", known["build"]), ("driver", known["refusal"] or "fits"),
        ("round trip", f"{known['round_trip_ms']:g} ms"), ("messages", counters),
    ):
        table.add_row(name, value)
    table_console().print(table)


def _parameters(texts: list[str] | None) -> dict[str, int]:
    parameters = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--set must look like name=value, not {text!r}")
        parameters[name] = number(name, value)
    return parameters


def _simulate(
    system: Annotated[str, typer.Argument(help="The system on the board, as in sim:NAME.")],
    link: Annotated[_LinkKind, typer.Option("--link", help="The cable.")] = _LinkKind.UDP,
    world: Annotated[_World, typer.Option("--as", help="model: the golden models of system and bridge. pins: the "
                                          "board's gateware at its pins.")] = _World.MODEL,
    setting: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the system, "
                                                      "or memory.")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.0, help="End after so long.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate a board, and print the URL where hosts find it. It ends with Ctrl-C.

    At its pins, UDP ports of the system itself, as those of a lock switch, have sockets of their own, which are named
    too. Exit codes: 0 ended; 2 usage; 3 something that the simulation needs is missing. JSON, at the beginning: system,
    link, as, url, ports (host and port of the socket of each UDP port of the system).

    Example: rackgate board simulate inflate --link uart
    """
    console = Console(stderr=True)
    parameters = _parameters(setting)
    with console.status(f"simulating {system}") as status:
        board = simulated_board(system, link.value, world.value, parameters, status.update)
    with board as serving:
        ports = {str(port): f"{host}:{own}" for port, (host, own) in getattr(serving, "addresses", {}).items()
                 if port != UDP_PORT}
        if as_json:
            print_json({"system": system, "link": link.value, "as": world.value, "url": serving.url, "ports": ports})
        else:
            print(serving.url)
            for port, place in ports.items():
                print(f"UDP port {port} of the system: {place}")
        sys.stdout.flush()
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while end is None or time.monotonic() < end:
                time.sleep(0.1)
        except KeyboardInterrupt:
            pass


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(name="board", no_args_is_help=True, help="Boards: what is there, and simulated ones.")
    group.command("info")(_info)
    group.command("simulate")(_simulate)
    board_flow.register(group)
    app.add_typer(group)
