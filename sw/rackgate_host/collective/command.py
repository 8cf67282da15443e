# SPDX-License-Identifier: Apache-2.0
"""``rackgate collectives``: run collectives on simulated engines, and show the programs that they are."""

from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rackgate.arith.abi import Function
from rackgate.collective.programs.assembler import disassemble
from rackgate.collective.programs.shipped import programs

from ..errors import UsageError
from ..output import JsonOption, SeedOption, print_json, table_console
from ..url import number
from .bounds import OPERATIONS
from .cluster import Cluster, open_cluster
from .errors import WrongResult
from .multiply import multiply_command
from .names import TypeName, WireName, device_url
from .trial import Trial, Work, run_trial

__all__ = ["app", "register"]

#: The group that the commands of collectives belong to.
app = typer.Typer(name="collectives", no_args_is_help=True,
                  help="Collectives of an engine that runs them as programs, as in ACCL+ (OSDI'24).")

#: Cycles from the start of a move until its first payload is at the receiver, besides the link's latency.
_HOP_CYCLES = 32

OperationName = StrEnum("OperationName", {name.upper(): name for name in OPERATIONS})


class OpName(StrEnum):
    """Values of ``--op``."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


def _run(
    operation: Annotated[OperationName, typer.Argument(help="Which.")],
    ranks: Annotated[int, typer.Option("--ranks", min=1, max=16, help="Nodes.")] = 8,
    size: Annotated[str, typer.Option("--bytes", help="Of the call's count (K, M allowed): the whole vector of "
                                      "sendrecv, bcast, reduce, allreduce, one rank's part of the others.")] = "64K",
    dtype: Annotated[TypeName, typer.Option("--type", help="Of the elements.")] = TypeName.FLOAT32,
    op: Annotated[OpName, typer.Option("--op", help="What reductions do.")] = OpName.SUM,
    root: Annotated[int, typer.Option("--root", min=0, help="Rank, where there is one.")] = 0,
    wire: Annotated[WireName | None, typer.Option("--wire", help="Send float32 as float16.")] = None,
    device: Annotated[str, typer.Option("--device", help="model (quick), sim (the gateware), or a URL such as "
                                        "sim:collective?width=16&slots=128.")] = "model",
    latency: Annotated[int, typer.Option("--latency", min=1, help="Cycles of a link.")] = 20,
    eager: Annotated[str | None, typer.Option("--eager", help="Bytes of the largest message of sendrecv that does not "
                                              "ask before it is sent, or all. Default: what the receive buffers hold.",
                                              show_default=False)] = None,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="How often.")] = 1,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Run a collective at all ranks of a simulated cluster, and compare the result with NumPy.

    Each rank has data of its own. Cycles are those of the slowest rank's call. Those of a model mean nothing.
    Exit codes: 0 right; 1 wrong; 4 time-out. JSON: operation, ranks, bytes, type, op, root, wire, device, latency,
    eager (null: the default), runs (cycles, bound_cycles, fraction_of_bound, busiest_link_bytes, bound_bytes, right,
    greatest_error).

    Example: rackgate collectives run allreduce --ranks 8 --bytes 1M --device sim
    """
    element = np.dtype(dtype.value)
    wanted = number("--bytes", size)
    if wanted < 0 or wanted % element.itemsize:
        raise UsageError(f"--bytes must be a multiple of {element.itemsize}, the size of {dtype.value}, not {size}")
    if root >= ranks:
        raise UsageError(f"--root must be a rank from 0 to {ranks - 1}, not {root}")
    if wire and dtype.value != "float32":
        raise UsageError(f"--wire float16 needs --type float32, not {dtype.value}")
    work = Work(operation.value, 0 if operation.value == "barrier" else wanted // element.itemsize, element,
                Function[op.name], root, wire.value if wire else None)
    limit = eager if eager is None or eager == "all" else number("--eager", eager)
    if isinstance(limit, int) and limit < 0:
        raise UsageError(f"--eager must be bytes, 0 or more, or all, not {eager}")
    url, scheme = device_url(device)
    console = Console(stderr=True)
    rows = []
    with console.status(f"opening {ranks} x {url}") as status:
        options: dict[str, Any] = {"progress": status.update} if scheme == "sim" else {}
        memory = max(1 << 20, -(-(ranks + 2) * 2 * wanted // 4096) * 4096 + (1 << 20))
        with open_cluster(url, ranks, link_latency=latency, memory=memory, credits="all", eager=limit,
                          **options) as cluster:
            for turn in range(repeat):
                trial = run_trial(cluster, work, seed=seed + turn, report=status.update)
                rows.append(_row(cluster, work, trial, latency, is_timed=scheme != "model"))
    if as_json:
        print_json({"operation": work.operation, "ranks": ranks, "bytes": wanted, "type": dtype.value,
                    "op": op.value, "root": root, "wire": work.wire, "device": url, "latency": latency, "eager": limit,
                    "runs": rows})
    else:
        _show(work, ranks, wanted, url, latency, rows)
    if wrong := [turn for turn, row in enumerate(rows, 1) if not row["right"]]:
        raise WrongResult(f"{work.operation} gave something else than NumPy in run {', '.join(map(str, wrong))}")


def _row(cluster: Cluster, work: Work, trial: Trial, latency: int, *, is_timed: bool) -> dict[str, Any]:
    engine, least = cluster.engines[0], work.bound(cluster.size)
    bound_cycles = least.cycles(engine.width, engine.segment, _HOP_CYCLES + latency)
    cycles = max(trial.cycles)
    return {"cycles": cycles, "bound_cycles": round(bound_cycles, 1) if is_timed else None,
            "fraction_of_bound": round(bound_cycles / cycles, 4) if is_timed and cycles else None,
            "busiest_link_bytes": trial.busiest_bytes, "bound_bytes": least.bytes, "right": trial.is_right,
            "greatest_error": trial.greatest_error}


def _show(work: Work, ranks: int, size: int, url: str, latency: int, rows: list[dict[str, Any]]) -> None:
    console = table_console()
    told = f"{work.operation}, {ranks} ranks, {size:,} bytes of {work.dtype}"
    if work.operation in ("reduce", "allreduce", "reduce_scatter"):
        told += f", {work.op.name}"
    table = Table(title=f"{told}; {url}, links of {latency} cycles", title_justify="left")
    for heading in ("run", "cycles", "bound", "bound / cycles", "busiest node, bytes", "bound, bytes", "error"):
        table.add_column(heading, justify="right")
    table.add_column("right")
    for turn, row in enumerate(rows, 1):
        is_timed = row["fraction_of_bound"] is not None
        table.add_row(
            str(turn), f"{row['cycles']:,}", f"{row['bound_cycles']:,.0f}" if is_timed else "",
            f"{row['fraction_of_bound']:.1%}" if is_timed else "", f"{row['busiest_link_bytes']:,}",
            f"{row['bound_bytes']:,}", f"{row['greatest_error']:.2g}", "yes" if row["right"] else "no",
            style=None if row["right"] else "bold red")
    console.print(table)
    if url.startswith("model:"):
        console.print("A model's cycles mean nothing: --device sim counts those of the gateware.", style="dim")


def _list(as_json: JsonOption = False) -> None:
    """List the programs that every engine is loaded with.

    JSON: list of scenario, name, instructions, numbered.

    Example: rackgate collectives list
    """
    rows = [{"scenario": int(scenario), "name": program.name, "instructions": len(program.words),
             "numbered": program.is_collective} for scenario, program in sorted(programs().items())]
    if as_json:
        print_json(rows)
        return
    table = Table("scenario", "name", "instructions", "all ranks take part", title="Shipped programs",
                  title_justify="left")
    for row in rows:
        table.add_row(str(row["scenario"]), row["name"], str(row["instructions"]), "yes" if row["numbered"] else "no")
    table_console().print(table)


def _show_program(
    name: Annotated[str, typer.Argument(help="Of a shipped program.")],
    credits: Annotated[int, typer.Option("--credits", min=1, help="Of the communicator: few have other rings.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Show a shipped program's instructions.

    JSON: scenario, name, words, assembly.

    Example: rackgate collectives show barrier
    """
    known = {program.name: (scenario, program) for scenario, program in programs(credits=credits).items()}
    if name not in known:
        raise UsageError(f"there is no program {name!r}: there are {', '.join(sorted(known))}")
    scenario, program = known[name]
    text = disassemble(program.words)
    if as_json:
        print_json({"scenario": int(scenario), "name": name, "words": list(program.words), "assembly": text})
    else:
        print(f"; {name}, scenario {int(scenario)}, {len(program.words)} instructions, entered at {program.entry}")
        print(text)


app.command("run")(_run)
app.command("multiply")(multiply_command)
app.command("list")(_list)
app.command("show")(_show_program)


def register(parent: typer.Typer) -> None:
    """Add the group to ``parent``."""
    parent.add_typer(app)
