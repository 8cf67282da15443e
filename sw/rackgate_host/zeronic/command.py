# SPDX-License-Identifier: Apache-2.0
"""``rackgate zeronic``: simulated hosts whose TCP runs over headers only, and programs on them."""

import contextlib
import os
import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..device import device_type
from ..errors import UsageError
from ..output import JsonOption, SeedOption, print_json, table_console
from ..url import DeviceURL
from . import namespaces
from .demo import demo
from .errors import NoHosts
from .hosts import HOSTS, Hosts, HostsConfig
from .inside import run
from .pcap import Capture, record
from .rundirectory import default_directory
from .wire import Conditions

__all__ = ["app", "register"]

#: The group that the commands of the NIC belong to.
app = typer.Typer(name="zeronic", no_args_is_help=True,
                  help="Hosts whose Linux TCP sees headers only: a NIC moves the payload, as in ZeroNIC (OSDI'24).")


class HostName(StrEnum):
    """Values of ``--host``."""

    A = "a"
    B = "b"


_NameOption = Annotated[str, typer.Option("--name", help="Of the hosts, where there are several pairs.")]
_BOTH = "One number for both directions, or two, from a and from b: 0.01,0."


def _directions(option: str, text: str) -> tuple[float, ...]:
    """A number for each host."""
    parts = text.split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) not in (1, len(HOSTS)):
        raise UsageError(f"{option} must be a number, or {len(HOSTS)} with a comma between them, not {text!r}")
    return tuple(values * len(HOSTS))[:len(HOSTS)]


def _device(text: str, width: int | None) -> str:
    """The URL of the NIC."""
    parsed = DeviceURL.parse(text if ":" in text else f"{text}:zeronic")
    if parsed.name != "zeronic":
        raise UsageError(f"{text!r} is no NIC: there are model:zeronic and sim:zeronic")
    options = dict(parsed.options)
    if width is not None:
        options["width"] = str(width)
    url = str(DeviceURL(parsed.scheme, parsed.name, options))
    device_type(url)
    return url


def _up(
    device: Annotated[str, typer.Option("--device", help="model (quick), sim (the gateware), or a URL such as "
                                        "sim:zeronic?width=16&flows=64.")] = "model",
    width: Annotated[int | None, typer.Option("--width", help="Bytes a cycle of the NIC: 8, 16 or 32.")] = None,
    loss: Annotated[str, typer.Option("--loss", help=f"Probability that a frame is lost. {_BOTH}")] = "0",
    duplicate: Annotated[str, typer.Option("--duplicate", help="That it comes twice.")] = "0",
    reorder: Annotated[str, typer.Option("--reorder", help="That others overtake it.")] = "0",
    corrupt: Annotated[str, typer.Option("--corrupt", help="That one of its bits is flipped.")] = "0",
    delay: Annotated[str, typer.Option("--delay", help="Seconds that each frame is on the way.")] = "0",
    mtu: Annotated[int, typer.Option("--mtu", help="Bytes of an IPv4 packet.")] = namespaces.MTU,
    coalesce: Annotated[int, typer.Option("--coalesce", help="NIC cycles that a header may wait to be merged; 0: none "
                                          "is.")] = 4096,
    cable: Annotated[str, typer.Option("--cable", help="How the kernel and the NIC are connected: veth or tap. By "
                                       "default the first that can be had.")] = "",
    name: _NameOption = "default",
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Bring up two simulated hosts, a (10.77.0.1) and b (10.77.0.2), with a NIC each and a wire between them.

    Needs root. They stay until `rackgate zeronic down`. Exit codes: 0 up; 2 usage; 3 they cannot be here, or are up
    already. JSON: pid, device, hosts (address, socket), directory, seed.

    Example: rackgate zeronic up --loss 0.01 --reorder 0.05,0
    """
    values = {option: _directions(f"--{option}", text) for option, text in (
        ("loss", loss), ("duplicate", duplicate), ("reorder", reorder), ("corrupt", corrupt), ("delay", delay))}
    conditions = {host: Conditions(**{option: value[k] for option, value in values.items()})
                  for k, host in enumerate(HOSTS)}
    url = _device(device, width)
    config = HostsConfig(url, conditions, seed, mtu, coalesce, cable)
    directory = default_directory(name)
    with Console(stderr=True).status(f"opening {url}") as status:
        hosts = Hosts.start(config, directory, detached=True, progress=status.update)
    found = {host: {"address": hosts.address(host), "socket": str(hosts.socket(host))} for host in HOSTS}
    if as_json:
        print_json({"pid": hosts.pid, "device": url, "hosts": found, "directory": str(directory), "seed": seed})
        return
    console = table_console()
    for host, about in found.items():
        console.print(f"host {host}: {about['address']}, {url}", markup=False, highlight=False)
    option = "" if name == "default" else f" --name {name}"
    for line in ("What next:", f"  rackgate zeronic run{option} --host b -- redis-server --bind 10.77.0.2 --save ''",
                 f"  rackgate zeronic run{option} --host a -- redis-benchmark -h 10.77.0.2 -t set,get -d 16384",
                 f"  rackgate zeronic status{option}     rackgate zeronic down{option}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _run(
    program: Annotated[list[str], typer.Argument(help="The program and its arguments, behind --.")],
    host: Annotated[HostName, typer.Option("--host", help="Where.")] = HostName.A,
    unsplit: Annotated[bool, typer.Option("--unsplit", help="Let its payload go through the kernel, as with any NIC: "
                                          "to compare.")] = False,
    name: _NameOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Run a program on a simulated host. The payload of its TCP connections bypasses the kernel.

    What it leaves running when it ends is killed. Static programs, and what uses io_uring, go through the kernel all
    the same. The exit code is the program's; 1 if the host ended first; 3 if it is not up.

    JSON, behind the program's own output: host, program, exit_code.

    Example: rackgate zeronic run --host b -- redis-server --bind 10.77.0.2 --save ''
    """
    hosts = Hosts.find(default_directory(name))
    environment = {**os.environ, **hosts.environment(host.value, split=not unsplit)}
    with hosts.control(host.value) as control:
        code = run(control, program, environment)
    if as_json:
        print_json({"host": host.value, "program": program, "exit_code": code})
    raise typer.Exit(code)


def _status(name: _NameOption = "default", as_json: JsonOption = False) -> None:
    """Show what the hosts, their NICs and the wire have counted.

    Crossing: bytes that host software reads and writes (entries up, commands down) for a byte of payload. Copied: bytes
    that a CPU copied for it. Exit codes: 3 if no hosts are up. JSON: pid, hosts (by name: pid, address, device,
    parameters, cycles, seconds, applications, nic, stack, wire, costs).

    Example: rackgate zeronic status --json
    """
    hosts = Hosts.find(default_directory(name))
    found = {host: hosts.status(host) for host in HOSTS}
    if as_json:
        print_json({"pid": hosts.pid, "hosts": found})
        return
    table = Table(title="rackgate zeronic status", title_justify="left")
    table.add_column("")
    for host, about in found.items():
        table.add_column(f"{host} ({about['address']})", justify="right")
    for label, pick in _ROWS.items():
        values = [pick(about) for about in found.values()]
        table.add_row(label, *("-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
                               for value in values))
    table_console().print(table)


_ROWS: dict[str, Any] = {
    "device": lambda about: about["device"],
    "applications": lambda about: about["applications"],
    "flows split: now": lambda about: about["stack"]["flows_now"],
    "so far": lambda about: about["stack"]["flows"],
    "payload received": lambda about: about["stack"]["payload_up"],
    "of that deferred": lambda about: about["stack"]["payload_deferred"],
    "payload sent": lambda about: about["stack"]["payload_down"],
    "bytes of frames not split": lambda about: about["stack"]["whole_bytes"],
    "crossing, received": lambda about: about["costs"]["crossing_up"],
    "crossing, sent": lambda about: about["costs"]["crossing_down"],
    "copied, received": lambda about: about["costs"]["copied_up"],
    "copied, sent": lambda about: about["costs"]["copied_down"],
    "frames received": lambda about: about["nic"]["frames_received"],
    "dropped for a checksum": lambda about: about["nic"]["bad_checksum"] + about["nic"]["bad_ip_checksum"],
    "frames sent": lambda about: about["nic"]["frames_sent"],
    "of those on the wire: lost": lambda about: about["wire"]["lost"],
    "duplicated": lambda about: about["wire"]["duplicated"],
    "reordered": lambda about: about["wire"]["reordered"],
    "corrupted": lambda about: about["wire"]["corrupted"],
}


def _trace(
    file: Annotated[Path, typer.Argument(help="The capture file to write.")],
    seconds: Annotated[float | None, typer.Option("--seconds", help="End after so long; else on Ctrl-C.")] = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many frames.")] = None,
    name: _NameOption = "default",
    as_json: JsonOption = False,
) -> None:
    """Record the frames that leave the hosts, as the wire delivers them, for Wireshark or tcpdump -r.

    JSON: file, frames, bytes (of the file).

    Example: rackgate zeronic trace wire.pcap --seconds 10
    """
    if seconds is not None and not seconds > 0:
        raise UsageError(f"--seconds must be positive, not {seconds}")
    hosts = Hosts.find(default_directory(name))
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    with contextlib.ExitStack() as stack:
        capture = stack.enter_context(Capture(file))
        controls = [stack.enter_context(hosts.control(host)) for host in HOSTS]
        record(controls, capture, seconds, lambda: bool(stopped), count)
    size = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "frames": capture.frames, "bytes": size})
    else:
        print(f"{capture.frames} frames in {file} ({size} bytes)")


def _down(name: _NameOption = "default", as_json: JsonOption = False) -> None:
    """End the hosts, and the programs that run on them.

    JSON: ended (whether there were any).

    Example: rackgate zeronic down
    """
    if os.geteuid() != 0:
        raise NoHosts("simulated hosts are root's: try sudo")
    ended = Hosts(default_directory(name)).stop()
    if as_json:
        print_json({"ended": ended})
    else:
        print("hosts have ended" if ended else "no simulated hosts were up")


app.command("up")(_up)
app.command("run")(_run)
app.command("status")(_status)
app.command("trace")(_trace)
app.command("down")(_down)
app.command("demo")(demo)


def register(parent: typer.Typer) -> None:
    """Add the group to ``parent``."""
    parent.add_typer(app)

