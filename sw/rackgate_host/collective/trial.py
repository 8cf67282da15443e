# SPDX-License-Identifier: Apache-2.0
"""One collective, run by all ranks of a cluster and compared with NumPy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rackgate.arith.abi import Function
from rackgate.collective.abi import Counter

from .bounds import Bound, bound
from .cluster import Cluster
from .communicator import Communicator
from .requests import Request

__all__ = ["Trial", "Work", "run_trial"]


@dataclass(frozen=True)
class Work:
    """What to run. ``count``: elements, as the call counts them. ``operation``: one of :data:`.bounds.OPERATIONS`."""

    operation: str
    count: int
    dtype: np.dtype
    op: Function = Function.SUM
    root: int = 0
    wire: str | None = None

    @property
    def wire_bytes(self) -> int:
        """Bytes of ``count`` elements on the links."""
        return self.count * (2 if self.wire else self.dtype.itemsize)

    def bound(self, ranks: int) -> Bound:
        """What the links alone allow."""
        return bound(self.operation, ranks, self.wire_bytes)


@dataclass(frozen=True)
class Trial:
    """What a run came to. ``cycles``: of each rank's call. ``busiest_bytes``: payload that the busiest node sent or
    received. ``greatest_error``: relative to the greatest value; 0 for integers that are right."""

    cycles: tuple[int, ...]
    busiest_bytes: int
    is_right: bool
    greatest_error: float


def operand(work: Work, rank: int, count: int, seed: int) -> np.ndarray:
    """A rank's operand: different on every rank."""
    draw = np.random.default_rng([seed, rank])
    if work.dtype.kind == "i":
        info = np.iinfo(work.dtype)
        return draw.integers(info.min, info.max, count, work.dtype, endpoint=True)
    return draw.standard_normal(count).astype(work.dtype)


class _Case:
    """Buffers of one rank, how to begin the call, and what it should give."""

    def __init__(self, comm: Communicator, work: Work, seed: int):
        size, count, self.rank = comm.size, work.count, comm.rank
        whole = work.operation in ("scatter", "alltoall", "reduce_scatter")
        self.work = work
        self.operands = [operand(work, rank, count * size if whole else count, seed) for rank in range(size)]
        self.given = comm.device.allocate(self.operands[comm.rank].size, work.dtype)
        self.given[:] = self.operands[comm.rank]
        many = work.operation in ("gather", "allgather", "alltoall")
        self.result = comm.device.allocate(count * size if many else count, work.dtype)
        if work.operation != "bcast" or comm.rank != work.root:
            self.result[:] = 0
        else:
            self.result[:] = self.given

    def begin(self, comm: Communicator) -> list[Request]:
        """The call."""
        work, given, result, wire = self.work, self.given, self.result, self.work.wire
        is_root = comm.rank == work.root
        match work.operation:
            case "sendrecv":
                following, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
                return [comm.Irecv(result, before, 0, wire=wire), comm.Isend(given, following, 0, wire=wire)]
            case "bcast":
                return [comm.Ibcast(result, work.root, wire=wire)]
            case "scatter":
                return [comm.Iscatter(given if is_root else None, result, work.root, wire=wire)]
            case "gather":
                return [comm.Igather(given, result if is_root else None, work.root, wire=wire)]
            case "reduce":
                return [comm.Ireduce(given, result if is_root else None, work.op, work.root, wire=wire)]
            case "allgather":
                return [comm.Iallgather(given, result, wire=wire)]
            case "reduce_scatter":
                return [comm.Ireduce_scatter_block(given, result, work.op, wire=wire)]
            case "allreduce":
                return [comm.Iallreduce(given, result, work.op, wire=wire)]
            case "alltoall":
                return [comm.Ialltoall(given, result, wire=wire)]
        return [comm.Ibarrier()]

    def wanted(self) -> np.ndarray | None:
        """What should be in ``result``; ``None``: nothing of meaning."""
        work, rank, operands = self.work, self.rank, self.operands
        parts = [array.reshape(len(operands), -1) for array in operands] if work.operation in (
            "scatter", "alltoall", "reduce_scatter") else []
        match work.operation:
            case "sendrecv":
                return operands[(rank - 1) % len(operands)]
            case "bcast":
                return operands[work.root]
            case "scatter":
                return parts[work.root][rank]
            case "gather" | "allgather":
                return np.concatenate(operands) if work.operation == "allgather" or rank == work.root else None
            case "alltoall":
                return np.concatenate([part[rank] for part in parts])
            case "reduce_scatter":
                return _reduced([part[rank] for part in parts], work.op)
            case "reduce":
                return _reduced(operands, work.op) if rank == work.root else None
            case "allreduce":
                return _reduced(operands, work.op)
        return None

    def error(self) -> float:
        """Greatest error, relative to the greatest value that should be there."""
        wanted = self.wanted()
        if wanted is None or not wanted.size:
            return 0.0
        self.result.sync_from_device()
        got = np.asarray(self.result)
        if got.tobytes() == wanted.astype(got.dtype).tobytes():
            return 0.0
        if wanted.dtype.kind == "i":
            return 1.0
        difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max()
        return float(difference / max(np.abs(wanted).max(), np.finfo(np.float32).tiny))


def _reduced(arrays: list[np.ndarray], op: Function) -> np.ndarray:
    """What NumPy makes of it, floats with 64 bits."""
    stacked = np.stack(arrays)
    if op == Function.SUM:
        return stacked.sum(axis=0, dtype=stacked.dtype if stacked.dtype.kind == "i" else np.float64)
    return (stacked.max if op == Function.MAX else stacked.min)(axis=0)


def tolerance(work: Work, ranks: int) -> float:
    """Greatest error that rounding may cause."""
    if work.dtype.kind == "i":
        return 0.0
    step = np.finfo(np.float16 if work.wire else work.dtype).eps
    is_moved = work.op != Function.SUM or work.operation not in ("reduce", "allreduce", "reduce_scatter")
    return float(step) if is_moved else float(step) * ranks


def run_trial(cluster: Cluster, work: Work, *, seed: int = 1,
              report: Callable[[str], None] = lambda text: None) -> Trial:
    """Run ``work`` once at all ranks, which begin together: what it came to.

    ``report`` is called with a line of text from time to time.
    """
    def sums() -> list[tuple[int, int]]:
        return [(counts[Counter.BYTES_SENT], counts[Counter.BYTES_RECEIVED]) for counts in cluster.counters()]

    def prepare(comm: Communicator) -> _Case:
        return _Case(comm, work, seed)

    report("filling the buffers")
    cases: list[Any] = [prepare(comm) for comm in cluster.comms]
    cluster.run(lambda comm: comm.Barrier())
    before = sums()
    started = cluster.world.cycle

    def measure(comm: Communicator) -> int:
        requests = cases[comm.rank].begin(comm)
        for request in requests:
            request.Wait()
        return max(request.completion.cycles for request in requests if request.completion is not None)

    def tell() -> None:
        report(f"{work.operation}: {cluster.world.cycle - started:,} cycles")

    cluster.world.pollers.append(tell)
    try:
        cycles = cluster.run(measure)
    finally:
        cluster.world.pollers.remove(tell)
    report("comparing with NumPy")
    busiest = max(max(after[k] - then[k] & 0xFFFFFFFF for k in range(2))
                  for after, then in zip(sums(), before, strict=True))
    worst = max(case.error() for case in cases)
    for case in cases:
        case.given.free()
        case.result.free()
    return Trial(tuple(cycles), busiest, worst <= tolerance(work, cluster.size), worst)
