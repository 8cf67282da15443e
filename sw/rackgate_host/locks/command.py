# SPDX-License-Identifier: Apache-2.0
"""``rackgate locks``: serve locks, take them, show them, and check the protocols."""

import asyncio
import importlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..device import open_device
from ..errors import UsageError
from ..output import JsonOption, print_json, table_console
from ..switch import Switch
from ..transport.udp import split_address
from ..url import DeviceURL
from .client import Grant, LockClient
from .control import Address, parse_address, show_address
from .demo import Lesson, demonstrate
from .errors import LockError
from .keys import Key
from .protocols import PROTOCOLS, Protocol
from .server import Service

__all__ = ["app", "register"]

#: The group that the commands of locks belong to.
app = typer.Typer(name="locks", no_args_is_help=True,
                  help="Locks that a switch grants, as in FissLock (OSDI'24), and what they are compared with.")

#: The model checker, as "module:function": named and not imported, as the host depends on no simulator.
_CHECKS = "rackgate_sim.locks.checks:run"

# How the URLs of devices begin that say themselves what they are.
_BOARDS = ("tcp:", "uart:", "udp:")

ProtocolName = StrEnum("ProtocolName", {name.upper(): name for name in PROTOCOLS})


class ModeName(StrEnum):
    """Values of ``--mode``."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class Checked(StrEnum):
    """Values of ``--protocol`` of the check."""

    PUBLISHED = "published"
    FISSLOCK = "fisslock"
    NETLOCK = "netlock"
    SERVER = "server"


_DeviceOption = Annotated[str, typer.Option("--device", help="The switch: model:fisslock, sim:fisslock, "
                                            "model:netlock or sim:netlock, with parameters as in "
                                            "sim:fisslock?locks=1024; or a board, as udp:192.0.2.10.")]


def _protocol(name: str | None, device: str, kind: str = "") -> Protocol:
    """The protocol of that name, or that of the device, which is of a ``kind`` if its URL does not say."""
    if name is not None:
        return PROTOCOLS[name]
    kind = kind or device.partition(":")[2].partition("?")[0]
    for protocol in PROTOCOLS.values():
        if protocol.device == kind:
            return protocol
    known = ", ".join(f"model:{protocol.device}" for protocol in PROTOCOLS.values() if protocol.device)
    raise UsageError(f"{device!r} is no switch for locks: there are {known}, and sim: for model:")


def _board(url: str, switch: str | None, protocol: Protocol) -> Address | None:
    """Where hosts reach the switch, if it is on a board."""
    parsed = DeviceURL.parse(url)
    if switch is not None:
        return parse_address(switch)
    if parsed.scheme == "udp":
        return split_address(parsed.name, protocol.port, "192.0.2.10")[0], protocol.port
    if parsed.scheme in ("tcp", "uart"):
        raise UsageError("--switch must tell where hosts reach the switch, if that does not follow from its device")
    return None


def _serve(
    device: _DeviceOption = "model:fisslock",
    listen: Annotated[str, typer.Option("--listen", help="IP:PORT; port 0 takes any.")] = "127.0.0.1:20000",
    protocol: Annotated[ProtocolName | None, typer.Option(
        "--protocol", help="By default that of the device; server needs no device.")] = None,
    hosts: Annotated[int | None, typer.Option("--hosts", help="Most hosts at a time.")] = None,
    switch_at: Annotated[str | None, typer.Option(
        "--switch", help="IP:PORT where a board takes lock packets; by default the device's, the protocol's.")] = None,
    placed: Annotated[int, typer.Option("--placed", min=0, help="NetLock: locks that the switch has.")] = 64,
    seconds: Annotated[float | None, typer.Option("--seconds", help="End after so long; else on Ctrl-C.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve locks on a UDP socket, before a simulated switch, a model of one, or one on a board.

    Clients connect with `rackgate locks client` or rackgate_host.locks. Ends on Ctrl-C, and then shows what it counted.
    JSON: protocol, device, address, seconds, statistics.

    Example: rackgate locks serve --device sim:fisslock --listen 127.0.0.1:20000
    """
    address = parse_address(listen)
    if seconds is not None and not seconds > 0:
        raise UsageError(f"seconds must be positive, not {seconds}")
    named = protocol.value if protocol else None
    console = Console(stderr=True)
    with ExitStack() as stack:
        opened = None
        if device.startswith(_BOARDS):
            with console.status(f"opening {device}"):
                opened = stack.enter_context(open_device(device))
        wanted = _protocol(named, device, opened.name if opened else "")
        switch = None
        if wanted.device is not None:
            with console.status(f"opening {device}"):
                switch = Switch(opened or stack.enter_context(open_device(device)))
        service = Service(wanted, switch, most_hosts=hosts, placed=placed,
                          board=_board(device, switch_at, wanted) if switch else None)
        service.report = lambda line: console.print(line, markup=False, highlight=False)
        began = time.monotonic()
        where = asyncio.run(_run(service, address, seconds, console, device if switch else "no switch"))
        statistics = service.statistics()
    if as_json:
        print_json({"protocol": wanted.name, "device": device if switch else None, "address": where,
                    "seconds": round(time.monotonic() - began, 3), "statistics": statistics})
    else:
        _show_statistics(statistics)


async def _run(service: Service, address: tuple[str, int], seconds: float | None, console: Console,
               device: str) -> str:
    loop = asyncio.get_running_loop()
    where = show_address(await service.start(address))
    try:
        main = asyncio.ensure_future(service.run(seconds))
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, main.cancel)
        console.print(f"{service.protocol.name} on {where} ({device}), {service.locks} locks; Ctrl-C ends it",
                      markup=False, highlight=False)
        try:
            await main
        except asyncio.CancelledError:
            pass
    finally:
        await service.stop()
    return where


def _show_statistics(statistics: dict[str, Any]) -> None:
    table = Table("counted", "number", title="rackgate locks serve", title_justify="left")
    flat = {name: value for name, value in statistics.items() if isinstance(value, int)}
    flat |= {f"switch {name}": value for name, value in statistics.get("switch", {}).items()}
    for name, value in flat.items():
        table.add_row(name, str(value))
    table_console().print(table)


def _key(text: str) -> Key:
    return int(text) if text.isdecimal() and int(text) < 1 << 64 else text


def _client(
    key: Annotated[str, typer.Argument(help="What to lock: a number of 64 bits, or any text.")],
    command: Annotated[list[str] | None, typer.Argument(help="A command to run meanwhile.")] = None,
    service: Annotated[str, typer.Option("--service", help="IP:PORT of the service.")] = "127.0.0.1:20000",
    mode: Annotated[ModeName, typer.Option("--mode", help="With others, or alone.")] = ModeName.EXCLUSIVE,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Most seconds to wait.")] = None,
    no_wait: Annotated[bool, typer.Option("--try", help="Do not wait for another holder.")] = False,
    host: Annotated[int | None, typer.Option("--host", help="Number of this host; else any that is free.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take a lock, run a command while it is held, and give it back.

    The command finds the fencing token in RACKGATE_FENCING_TOKEN. Exit codes: that of the command; 1 when the lock is
    held (--try); 4 when it was not to be had in time. JSON: key, lock, mode, fencing_token, waited, host, exit_code.

    Example: rackgate locks client --timeout 5 nightly-backup -- rsync -a /data /backup
    """
    if timeout is not None and not timeout > 0:
        raise UsageError(f"timeout must be positive, not {timeout}: use --try to not wait")

    async def work() -> tuple[Grant | None, int, int]:
        async with await LockClient.connect(service, host=host) as client:
            if no_wait:
                grant = await client.try_lock(_key(key), mode.value, timeout=timeout or 1.0)
            else:
                grant = await client.acquire(_key(key), mode.value, timeout)
            if grant is None:
                return None, client.host, 1
            code = 0
            if command:
                environment = {**os.environ, "RACKGATE_FENCING_TOKEN": str(grant.fencing_token)}
                process = await asyncio.create_subprocess_exec(
                    *command, env=environment, stdout=2 if as_json else None, stdin=subprocess.DEVNULL)
                code = await process.wait()
            client.release(grant)
            return grant, client.host, code if code >= 0 else 128 - code

    grant, number, code = asyncio.run(work())
    if grant is None:
        raise LockError(f"lock {key!r} is held")
    if as_json:
        print_json({"key": grant.key, "lock": grant.lock, "mode": grant.mode.name.lower(),
                    "fencing_token": grant.fencing_token, "waited": round(grant.waited, 6), "host": number,
                    "exit_code": code})
    elif not command:
        print(f"{key}: lock {grant.lock} held ({grant.mode.name.lower()}), fencing token {grant.fencing_token}, "
              f"after {grant.waited * 1e3:.3f} ms, and given back")
    raise typer.Exit(code)


def _check(
    protocol: Annotated[list[Checked] | None, typer.Option("--protocol", help="Only these; may be repeated.")] = None,
    long: Annotated[bool, typer.Option("--long", help="Also what takes minutes.")] = False,
    traces: Annotated[bool, typer.Option("--traces", help="Show the steps to each violation.")] = False,
    limit: Annotated[float, typer.Option("--limit", help="Most seconds for one configuration.")] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Explore every state of the lock protocols: where they are right, and where the published one is not.

    Exit codes: 0 when all comes out as it must, violations of the published protocol included; 1 when not; 4 when a
    limit was met. JSON: passed, cases (protocol, configuration, network, expected, verdict, broken, message, states,
    transitions, depth, steps, seconds, as_expected, not_finished, trace).

    Example: rackgate locks check --protocol published --traces
    """
    if not limit > 0:
        raise UsageError(f"limit must be positive, not {limit}")
    run = _load(_CHECKS)
    console = Console(stderr=True)
    wanted = tuple(item.value for item in protocol or Checked)
    rows = []
    with console.status("exploring") as status:
        for row in run(protocols=wanted, long=long, most_seconds=limit, report=status.update):
            rows.append(row)
    wrong = [row for row in rows if not row["as_expected"]]
    if as_json:
        print_json({"passed": not wrong, "cases": rows})
    else:
        _show_checks(rows, traces)
    if wrong:
        raise typer.Exit(4 if all(row["not_finished"] for row in wrong) else 1)


def _load(place: str) -> Callable[..., Iterator[dict[str, Any]]]:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


def _show_checks(rows: list[dict[str, Any]], traces: bool) -> None:
    console = table_console()
    table = Table(title="rackgate locks check", title_justify="left")
    for heading in ("protocol", "configuration; network", "outcome"):
        table.add_column(heading)
    for heading in ("steps", "states", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        outcome = f"not {row['broken'].replace('_', ' ')}" if row["broken"] else row["verdict"]
        table.add_row(row["protocol"], f"{row['configuration']}; {row['network']}",
                      outcome if row["as_expected"] else f"{outcome}: {row['message']}", str(row["steps"] or ""),
                      str(row["states"]), f"{row['seconds']:.1f}", style=None if row["as_expected"] else "bold red")
    console.print(table)
    for row in rows:
        if row["trace"] and (traces or not row["as_expected"]):
            console.print(f"\n{row['protocol']}, {row['configuration']}:", markup=False, highlight=False)
            for number, line in enumerate(row["trace"], 1):
                console.print(f"{number:4} {line}", markup=False, highlight=False, soft_wrap=True)


def _demo(
    device: _DeviceOption = "sim:fisslock?locks=1024&variant=brief",
    clients: Annotated[int, typer.Option("--clients", min=1, max=64, help="Coroutines on each of two hosts.")] = 4,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="What each does.")] = 25,
    as_json: JsonOption = False,
) -> None:
    """Show clients that lock through a simulated switch: they count together, and nobody's count is lost.

    JSON: device, right, counted, wanted, seconds, cycles, packets, workers (host, name, locks, longest_wait_ms,
    last_token), late (what a deadlock's time-out said).

    Example: rackgate locks demo --device model:fisslock
    """
    console = Console(stderr=as_json)
    wanted = _protocol(None, device)
    with console.status(f"building {device}") as status, open_device(device) as opened:
        status.update("locking")
        lesson = asyncio.run(demonstrate(wanted, Switch(opened), clients, rounds))
    if as_json:
        print_json({"device": device, **lesson.as_dict()})
    else:
        _show_lesson(console, device, lesson)
    if not lesson.right:
        raise LockError(f"{lesson.counted} counted, {lesson.wanted} wanted: the lock did not exclude")


def _show_lesson(console: Console, device: str, lesson: Lesson) -> None:
    table = Table(title=f"Clients that count together through {device}", title_justify="left")
    for heading in ("client", "locks", "longest wait", "last fencing token"):
        table.add_column(heading, justify="right" if heading != "client" else "left")
    for worker in lesson.workers:
        table.add_row(f"host {worker.host}, {worker.name}", str(worker.locks), f"{worker.longest * 1e3:.1f} ms",
                      str(worker.token))
    console.print(table)
    for line in (
            f"{lesson.counted} of {lesson.wanted} counted; {lesson.packets} packets through the switch in "
            f"{lesson.cycles} device cycles, {lesson.seconds:.1f} s of this machine.",
            f"Two clients that take two locks in opposite order: {lesson.late}",
            "What next:",
            "  rackgate locks serve                     then, elsewhere: rackgate locks client KEY -- COMMAND",
            "  rackgate locks check                     every state of the protocols, the published one's faults too"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


app.command("serve")(_serve)
app.command("client")(_client)
app.command("check")(_check)
app.command("demo")(_demo)


def register(parent: typer.Typer) -> None:
    """Add the group to ``parent``."""
    parent.add_typer(app)
