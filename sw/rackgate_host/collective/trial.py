# SPDX-License-Identifier: Apache-2.0
"""One collective, run by all ranks of a cluster and compared with NumPy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from rackgate.arith.abi import Function
from rackgate.collective.programs.contract import Case

from .bounds import Bound, bound
from .cluster import Cluster
from .communicator import Communicator
from .constants import IN_PLACE
from .requests import Request

__all__ = ["Trial", "Work", "run_trial"]

#: Operations that MPI allows in place, those with a root at it only.
_IN_PLACE = ("scatter", "gather", "reduce", "allgather", "reduce_scatter", "allreduce", "alltoall")


@dataclass(frozen=True)
class Work:
    """What to run. ``count``: elements, as the call counts them. ``operation``: one of :data:`.bounds.OPERATIONS`.

    ``is_in_place``: with the operand in the result's buffer, at the ranks at which MPI allows it. ``program``: name of
    a collective that was loaded and does it instead of the shipped one; its buffers are apart.
    """

    operation: str
    count: int
    dtype: np.dtype
    op: Function = Function.SUM
    root: int = 0
    wire: str | None = None
    is_in_place: bool = False
    program: str | None = None

    @property
    def wire_bytes(self) -> int:
        """Bytes of ``count`` elements on the links."""
        return self.count * (2 if self.wire else self.dtype.itemsize)

    def bound(self, ranks: int) -> Bound:
        """What the links alone allow."""
        return bound(self.operation, ranks, self.wire_bytes)


@dataclass(frozen=True)
class Trial:
    """What a run came to.

    ``cycles``: of each rank's call. ``elapsed``: from the last rank's call to the last rank's end; ranks call at almost
    the same time, ``skew`` cycles apart at most. ``bytes_out``, ``bytes_in``: payload that each node sent and received,
    and ``busiest_bytes`` the greatest of them. ``greatest_error``: relative to the greatest value; 0 for integers that
    are right.
    """

    cycles: tuple[int, ...]
    elapsed: int
    skew: int
    bytes_out: tuple[int, ...]
    bytes_in: tuple[int, ...]
    is_right: bool
    greatest_error: float

    @property
    def busiest_bytes(self) -> int:
        """Payload on the busiest direction of a node's port."""
        return max(*self.bytes_out, *self.bytes_in)


def operand(work: Work, rank: int, count: int, seed: int) -> np.ndarray:
    """A rank's operand: different on every rank."""
    draw = np.random.default_rng([seed, rank])
    if work.dtype.kind == "i":
        info = np.iinfo(work.dtype)
        return draw.integers(info.min, info.max, count, work.dtype, endpoint=True)
    return draw.standard_normal(count).astype(work.dtype)


class _Case:
    """Buffers of one rank, how to begin the call, and what it should give."""

    def __init__(self, comm: Communicator, work: Work, operands: list[np.ndarray]):
        size, count, self.rank = comm.size, work.count, comm.rank
        self.work, self.operands = work, operands
        own = operands[comm.rank]
        self.is_in_place = work.is_in_place and work.operation in _IN_PLACE and (
            comm.rank == work.root or work.operation not in ("scatter", "gather", "reduce"))
        many = work.operation in ("gather", "allgather", "alltoall")
        length = count * size if many or self.is_in_place and work.operation == "reduce_scatter" else count
        self.given = comm.device.allocate(own.size, work.dtype)
        self.given[:] = own
        self.result = comm.device.allocate(length, work.dtype)
        self.result[:] = 0
        if work.operation == "bcast" and comm.rank == work.root:
            self.result[:] = own
        elif self.is_in_place and work.operation != "scatter":
            begin = comm.rank * count if work.operation in ("gather", "allgather") else 0
            self.result[begin:begin + own.size] = own

    def begin(self, comm: Communicator) -> Iterator[Request]:
        """Make the calls, one after the other."""
        work, result, wire = self.work, self.result, self.work.wire
        is_root = comm.rank == work.root
        if work.program is not None:
            yield self._call_program(comm, work.program)
            return
        given = IN_PLACE if self.is_in_place else self.given
        match work.operation:
            case "sendrecv":
                following, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
                yield comm.Irecv(result, before, 0, wire=wire)
                yield comm.Isend(self.given, following, 0, wire=wire)
            case "bcast":
                yield comm.Ibcast(result, work.root, wire=wire)
            case "scatter":
                target = IN_PLACE if self.is_in_place else result
                yield comm.Iscatter(self.given if is_root else None, target, work.root, wire=wire)
            case "gather":
                yield comm.Igather(given, result if is_root else None, work.root, wire=wire)
            case "reduce":
                yield comm.Ireduce(given, result if is_root else None, work.op, work.root, wire=wire)
            case "allgather":
                yield comm.Iallgather(given, result, wire=wire)
            case "reduce_scatter":
                yield comm.Ireduce_scatter_block(given, result, work.op, wire=wire)
            case "allreduce":
                yield comm.Iallreduce(given, result, work.op, wire=wire)
            case "alltoall":
                yield comm.Ialltoall(given, result, wire=wire)
            case _:
                yield comm.Ibarrier()

    def _call_program(self, comm: Communicator, name: str) -> Request:
        """A loaded collective that does the same, with the buffers that its contract wants at this rank."""
        contract = comm.engine.program(comm.engine.names[name]).contract
        case = Case(comm.size, self.work.count, self.work.root)
        has_result = contract.result(case, comm.rank)
        return comm.Icall(name, self.given if contract.operand(case, comm.rank) else None,
                          self.result if has_result else None, root=self.work.root, op=self.work.op,
                          count=self.work.count, wire=self.work.wire)

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
        if self.is_in_place and self.work.operation == "scatter":  # the root's own part is where it was
            got = np.asarray(self.given)[self.rank * wanted.size:]
        got = got[:wanted.size]
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
    whole = work.operation in ("scatter", "alltoall", "reduce_scatter")
    size = cluster.size

    report("filling the buffers")
    operands = [operand(work, rank, work.count * size if whole else work.count, seed) for rank in range(size)]
    cases = [_Case(comm, work, operands) for comm in cluster.comms]
    try:
        cluster.run(lambda comm: comm.Barrier())
        return _measured(cluster, work, cases, report)
    finally:
        for case in cases:
            case.given.free()
            case.result.free()


def _measured(cluster: Cluster, work: Work, cases: list[_Case], report: Callable[[str], None]) -> Trial:
    """The run itself."""
    size, world = cluster.size, cluster.world
    before = cluster.payload()
    began = world.cycle
    start = max(device.cycles for device in cluster.devices)

    def measure(comm: Communicator) -> tuple[int, int, int]:
        comm.device.run(start - comm.device.cycles)  # nodes may be a little ahead of each other
        requests, called = [], []
        for request in cases[comm.rank].begin(comm):
            requests.append(request)
            called.append(comm.device.cycles)
        for request in requests:
            request.Wait()
        cycles = [request.completion.cycles for request in requests if request.completion is not None]
        return called[-1], max(cycles), max(map(int.__add__, called, cycles))

    def tell() -> None:
        report(f"{work.operation}: {world.cycle - began:,} cycles")

    world.pollers.append(tell)
    try:
        times = cluster.run(measure)
    finally:
        world.pollers.remove(tell)
    report("comparing with NumPy")
    moved = cluster.payload() - before
    worst = max(case.error() for case in cases)
    last_call = max(called for called, _, _ in times)
    return Trial(tuple(cycles for _, cycles, _ in times), max(end for _, _, end in times) - last_call,
                 last_call - min(called for called, _, _ in times), tuple(moved.sum(axis=1).tolist()),
                 tuple(moved.sum(axis=0).tolist()), worst <= tolerance(work, size), worst)
