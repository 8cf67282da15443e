# SPDX-License-Identifier: Apache-2.0
"""``rackgate server``: one board for many clients."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..errors import UsageError
from ..output import JsonOption, print_json
from ..transport.udp import split_address
from ..url import DeviceURL
from .hello import PORT, read_token
from .server import Server

__all__ = ["register"]


def _server(
    url: Annotated[str, typer.Argument(help="The board: uart:/dev/ttyUSB0 or udp:192.0.2.10.")],
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where clients come to.")] = "127.0.0.1",
    token_file: Annotated[Path | None, typer.Option("--token-file", help="File with the token that clients must have; "
                                                    "by default $RACKGATE_TOKEN.")] = None,
    share: Annotated[bool, typer.Option("--share", help="Every client may write registers, not only one.")] = False,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.0, help="End after so long.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Share a board with many clients, which open tcp:HOST:PORT. It ends with Ctrl-C.

    Exit codes: 0 ended; 1 the board was lost; 2 usage; 3 there is no such port; 4 the board does not answer. JSON, at
    the beginning: url (of the board), client_url, system, memory_bytes, token (whether one is needed).

    Example: rackgate server uart:/dev/ttyUSB0 --listen 0.0.0.0 --token-file token.txt
    """
    parsed = DeviceURL.parse(url)
    if parsed.scheme not in ("uart", "udp"):
        raise UsageError(f"a server shares a board at uart: or udp:, not {url!r}")
    address, token = split_address(listen, PORT, "127.0.0.1 or 127.0.0.1:21075", least_port=0), read_token(token_file)
    options: dict[str, Any] = dict(parsed.options)
    log = Console(stderr=True)
    transport = importlib.import_module(f"..transport.{parsed.scheme}", __package__).attach(parsed.name, options)
    try:
        if options:
            raise UsageError(f"unknown option {next(iter(options))!r} in {url!r}: there are timeout, and baud of uart:")
        server = Server(transport, url, address, token=token, is_shared=share,
                        report=lambda line: log.print(line, markup=False, highlight=False))
    except BaseException:
        transport.close()
        raise
    with server:
        client_url = "tcp:{}:{}".format(*server.address)
        if as_json:
            print_json({"url": url, "client_url": client_url, "system": transport.identity.system,
                        "memory_bytes": transport.memory_size, "token": bool(token)})
        else:
            print(client_url)
        sys.stdout.flush()
        try:
            server.ends.wait(seconds)
        except KeyboardInterrupt:
            pass
    if server.failure is not None:
        raise server.failure


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("server")(_server)
