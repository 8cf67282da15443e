# SPDX-License-Identifier: Apache-2.0
"""``rackgate zeronic demo``: Redis, as Debian has it, through simulated NICs."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..errors import Unavailable
from ..output import JsonOption, SeedOption, print_json
from . import demo_client, namespaces
from .errors import NoHosts
from .hosts import HOSTS, Hosts, HostsConfig
from .wire import Conditions

__all__ = ["demo"]

_PORT, _LIMIT = 6379, 300.0
_COALESCE = 1024
_SERVER = "redis-server"


def demo(
    device: Annotated[str, typer.Option("--device", help="The NICs: sim:zeronic is the gateware, model:zeronic its "
                                        "model.")] = "sim:zeronic?variant=brief",
    values: Annotated[int, typer.Option("--values", min=2, help="Values to store.")] = 8,
    loss: Annotated[float, typer.Option("--loss", min=0, max=0.5, help="Probability that a frame is lost.")] = 0.0,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Store values in an unmodified redis-server, and read them back, over Linux' TCP that sees headers only.

    Needs root and redis-server. Where they are not to be had the reason is printed, and the exit code is 0. Exit code 1
    if a value came back as another. JSON: shown (false then, with why), values, bytes, equal, hosts (as `rackgate
    zeronic status` has them).

    Example: rackgate zeronic demo --loss 0.01
    """
    console = Console(stderr=as_json)
    try:
        namespaces.check_possible()
        if shutil.which(_SERVER) is None:
            raise Unavailable(f"there is no {_SERVER}: apt-get install {_SERVER}")
    except (NoHosts, Unavailable) as error:
        if as_json:
            print_json({"shown": False, "why": str(error)})
        console.print(f"zeronic demo is not shown: {error}", markup=False, highlight=False)
        return
    # Headers wait less than by default: most cycles of a short session would be spent on that.
    config = HostsConfig(device, dict.fromkeys(HOSTS, Conditions(loss=loss)), seed, coalesce=_COALESCE)
    with console.status(f"opening {device}") as status, tempfile.TemporaryDirectory(prefix="rackgate-") as folder:
        with Hosts.start(config, Path(folder) / "hosts", progress=status.update) as hosts:
            status.update("values through redis-server")
            told = _session(hosts, Path(folder), seed, values)
            found = {host: hosts.status(host) for host in HOSTS}
    if as_json:
        print_json({"shown": True, **told, "hosts": found, "seed": seed})
    else:
        _show(console, told, found)
    raise typer.Exit(0 if told["equal"] == told["values"] else 1)


def _session(hosts: Hosts, folder: Path, seed: int, values: int) -> dict[str, Any]:
    """Run server and client; what the client said."""
    arguments = ("--bind", hosts.address("b"), "--port", str(_PORT), "--save", "", "--protected-mode", "no")
    with (folder / "redis.log").open("w") as log:
        server = hosts.popen("b", (_SERVER, *arguments), stdout=log, stderr=log, cwd=folder)
    try:
        client = hosts.popen("a", (sys.executable, demo_client.__file__, hosts.address("b"), str(_PORT), str(seed),
                                   str(values)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            output, errors = client.communicate(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            client.terminate()
            client.communicate()
            raise Unavailable(f"the client of {_SERVER} has not ended after {_LIMIT:g} s") from None
        if client.returncode:
            raise Unavailable(f"the client of {_SERVER} failed: {errors.strip()[-300:]}")
        return json.loads(output)
    finally:
        server.terminate()
        server.wait()


def _show(console: Console, told: dict[str, Any], found: dict[str, Any]) -> None:
    table = Table("host", "payload bytes", "through the kernel", "for host software", "device cycles",
                  title="redis-server on host b, its client on host a")
    for host, about in found.items():
        stack, costs = about["stack"], about["costs"]
        payload, crossing = stack["payload_up"] + stack["payload_down"], costs["entry_bytes"] + costs["command_bytes"]
        table.add_row(host, f"{payload:,}", f"{stack['payload_deferred']:,}",
                      f"{crossing:,} ({crossing / payload:.3f} a byte)" if payload else f"{crossing:,}",
                      f"{about['cycles']:,}")
    console.print(table)
    lines = (
        f"{told['equal']} of {told['values']} values, {told['bytes']:,} bytes, came back as they were stored.",
        "What next:", "  rackgate zeronic up --device sim        then: rackgate zeronic run --host b -- PROGRAM",
        "  rackgate zeronic demo --loss 0.02        over a bad wire",
        "  rackgate bench zeronic                   cycles of the NIC, and what a host saves")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
