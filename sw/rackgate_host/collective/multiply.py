# SPDX-License-Identifier: Apache-2.0
"""Distributed vector-matrix multiplication: NumPy at each rank, the sum of their products on the engines.

The first use case of ACCL+ (OSDI'24, section 6): a matrix too large for one node is split by rows, and so is the
vector. Each rank multiplies its parts, which gives a vector of full length, and these are added up by a collective.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from ..errors import UsageError
from ..output import JsonOption, SeedOption, print_json, table_console
from .bounds import bound
from .cluster import Cluster, open_cluster
from .communicator import Communicator
from .constants import SUM
from .errors import WrongResult
from .names import TypeName, WireName, device_url

__all__ = ["Product", "multiply", "multiply_command", "rows_of", "run_product"]


class Sum(StrEnum):
    """Values of ``--sum``."""

    ALLREDUCE = "allreduce"
    REDUCE = "reduce"


def rows_of(rows: int, rank: int, ranks: int) -> slice:
    """The rows of a matrix that a rank has: equally many, the first ranks one more if they cannot be equal."""
    return slice(rank * rows // ranks, (rank + 1) * rows // ranks)


def multiply(comm: Communicator, vector: np.ndarray, matrix: np.ndarray, *, root: int | None = None,
             wire: str | None = None) -> np.ndarray | None:
    """The product of a vector and a matrix of which each rank has some rows: at all ranks, or only at ``root``.

    Parameters
    ----------
    comm:
        All of whose ranks must call it, with as many columns and the same type.
    vector, matrix:
        The own elements of the vector, and the own rows of the matrix, of one type that the engine adds.
    root, wire:
        As of :meth:`.Communicator.Reduce`.

    Returns ``None`` at ranks other than the root. Raises TypeError or ValueError for arrays that do not fit.
    """
    if vector.ndim != 1 or matrix.ndim != 2 or vector.shape[0] != matrix.shape[0]:
        raise ValueError(f"a vector of as many elements as the matrix has rows is needed, not shapes {vector.shape} "
                         f"and {matrix.shape}")
    if vector.dtype != matrix.dtype:
        raise TypeError(f"vector and matrix must have one type, not {vector.dtype} and {matrix.dtype}")
    with comm.device.allocate(matrix.shape[1], matrix.dtype) as own:
        np.matmul(vector, matrix, out=np.asarray(own))
        if root is None:
            product = np.empty(matrix.shape[1], matrix.dtype)
            comm.Allreduce(own, product, SUM, wire=wire)
            return product
        product = np.empty(matrix.shape[1], matrix.dtype) if comm.rank == root else None
        comm.Reduce(own, product, SUM, root, wire=wire)
        return product


@dataclass(frozen=True)
class Product:
    """What a run came to.

    ``cycles``: from the first rank's call of the collective to the last one's end, counted by the devices.
    ``busiest_bytes``: payload that the busiest node sent or received. ``greatest_error``: of an element, relative to
    the sum of its summands' absolute values; 0 for integers that are right.
    """

    cycles: int
    busiest_bytes: int
    greatest_error: float
    is_right: bool


def run_product(cluster: Cluster, rows: int, columns: int, dtype: np.dtype, *, root: int | None = None,
                wire: str | None = None, seed: int = 1) -> Product:
    """Multiply a random vector and matrix, and compare with NumPy's product of the whole."""
    vector, matrix = _operands(rows, columns, dtype, seed)
    before = cluster.payload()

    def program(comm: Communicator) -> tuple[int, np.ndarray | None, int]:
        own = rows_of(rows, comm.rank, comm.size)
        begin = comm.device.cycles
        product = multiply(comm, vector[own], matrix[own], root=root, wire=wire)
        return begin, product, comm.device.cycles

    results = cluster.run(program)
    moved = cluster.payload() - before
    errors = [_error(product, vector, matrix) for _, product, _ in results if product is not None]
    step = 0.0 if dtype.kind == "i" else float(np.finfo(dtype).eps) * rows
    if wire is not None:
        step += float(np.finfo(wire).eps) * cluster.size
    return Product(max(end for *_, end in results) - min(begin for begin, *_ in results),
                   int(max(moved.sum(axis=0).max(), moved.sum(axis=1).max())), max(errors), max(errors) <= step)


def _operands(rows: int, columns: int, dtype: np.dtype, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    if dtype.kind == "i":
        return draw.integers(-1000, 1000, rows, dtype), draw.integers(-1000, 1000, (rows, columns), dtype)
    return draw.standard_normal(rows).astype(dtype), draw.standard_normal((rows, columns)).astype(dtype)


def _error(product: np.ndarray, vector: np.ndarray, matrix: np.ndarray) -> float:
    if vector.dtype.kind == "i":
        return float((product != vector @ matrix).any())
    exact, most = (array.astype(np.float64) for array in (vector, matrix)), np.finfo(np.float64).tiny
    vector, matrix = exact
    return float((np.abs(product - vector @ matrix) / np.maximum(np.abs(vector) @ np.abs(matrix), most)).max())


def multiply_command(
    ranks: Annotated[int, typer.Option("--ranks", min=1, max=16, help="Nodes.")] = 8,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Of the matrix; each rank has some.")] = 4096,
    columns: Annotated[int, typer.Option("--columns", min=1, help="Of the matrix.")] = 1024,
    dtype: Annotated[TypeName, typer.Option("--type", help="Of the elements.")] = TypeName.FLOAT32,
    how: Annotated[Sum, typer.Option("--sum", help="The product at all ranks, or at the root.")] = Sum.REDUCE,
    root: Annotated[int, typer.Option("--root", min=0, help="Rank that gets it from reduce.")] = 0,
    wire: Annotated[WireName | None, typer.Option("--wire", help="Send float32 as float16.")] = None,
    device: Annotated[str, typer.Option("--device", help="model (quick), sim (the gateware), or a URL.")] = "model",
    latency: Annotated[int, typer.Option("--latency", min=1, help="Cycles of a link.")] = 20,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="How often.")] = 1,
    seed: SeedOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Multiply a vector and a matrix whose rows the ranks share: NumPy at each rank, the sum on the engines.

    The result is compared with NumPy's product of the whole. Exit codes: 0 right; 1 wrong; 4 time-out. JSON: ranks,
    rows, columns, type, sum, root, wire, device, latency, runs (cycles, busiest_link_bytes, bound_bytes, right,
    greatest_error).

    Example: rackgate collectives multiply --ranks 4 --rows 4096 --columns 2048
    """
    element = np.dtype(dtype.value)
    if root >= ranks:
        raise UsageError(f"--root must be a rank from 0 to {ranks - 1}, not {root}")
    if wire and dtype is not TypeName.FLOAT32:
        raise UsageError(f"--wire float16 needs --type float32, not {dtype.value}")
    url, scheme = device_url(device)
    size = columns * element.itemsize
    least = bound(how.value, ranks, size // 2 if wire else size).bytes
    rows_of_table: list[dict[str, Any]] = []
    with Console(stderr=True).status(f"opening {ranks} x {url}") as status:
        options: dict[str, Any] = {"progress": status.update} if scheme == "sim" else {}
        memory = -(-4 * size // 4096) * 4096 + (1 << 20)
        with open_cluster(url, ranks, link_latency=latency, memory=memory, credits="all", **options) as cluster:
            for turn in range(repeat):
                status.update(f"run {turn + 1} of {repeat}")
                product = run_product(cluster, rows, columns, element, root=root if how is Sum.REDUCE else None,
                                      wire=wire.value if wire else None, seed=seed + turn)
                rows_of_table.append({
                    "cycles": product.cycles, "busiest_link_bytes": product.busiest_bytes, "bound_bytes": least,
                    "right": product.is_right, "greatest_error": product.greatest_error})
    if as_json:
        print_json({"ranks": ranks, "rows": rows, "columns": columns, "type": dtype.value, "sum": how.value,
                    "root": root, "wire": wire.value if wire else None, "device": url, "latency": latency,
                    "runs": rows_of_table})
    else:
        _show(f"{rows:,} x {columns:,} {dtype.value} on {ranks} ranks, {how.value}; {url}", rows_of_table, scheme)
    if wrong := [turn for turn, row in enumerate(rows_of_table, 1) if not row["right"]]:
        raise WrongResult(f"the product was another than NumPy's in run {', '.join(map(str, wrong))}")


def _show(title: str, rows: list[dict[str, Any]], scheme: str) -> None:
    console = table_console()
    table = Table(title=title, title_justify="left")
    for heading in ("run", "cycles", "busiest node, bytes", "bound, bytes", "error"):
        table.add_column(heading, justify="right")
    table.add_column("right")
    for turn, row in enumerate(rows, 1):
        table.add_row(str(turn), f"{row['cycles']:,}", f"{row['busiest_link_bytes']:,}", f"{row['bound_bytes']:,}",
                      f"{row['greatest_error']:.2g}", "yes" if row["right"] else "no",
                      style=None if row["right"] else "bold red")
    console.print(table)
    if scheme == "model":
        console.print("A model's cycles mean nothing: --device sim counts those of the gateware.", style="dim")
