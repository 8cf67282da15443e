# SPDX-License-Identifier: Apache-2.0
"""One allreduce."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ..collective import Communicator, open_cluster
from ..errors import RackgateError, UsageError
from .job import Job, check_url, seeded, waves_path

__all__ = ["RANKS", "run"]

#: Fewest and most ranks.
RANKS = (2, 4)

#: Cycles that the writing of a call may take, generously.
_CALL = 100


def _waves_of(waves: Path, ranks: int) -> dict[str, Path]:
    """Where each rank's waves are."""
    return {f"rank {rank}": waves.with_stem(f"{waves.stem}-{rank}") for rank in range(ranks)}


def _each(cycles: Iterable[int]) -> dict[str, int]:
    return {f"cycles of rank {rank}": number for rank, number in enumerate(cycles)}


def run(url: str, ranks: int, count: int, seed: int, progress: Callable[[str], None] | None = None) -> Job:
    """``ranks`` engines add up ``count`` int32 of each, and all get the sum."""
    if not RANKS[0] <= ranks <= RANKS[1]:
        raise UsageError(f"ranks must be {RANKS[0]} to {RANKS[1]}, not {ranks}")
    check_url(url, ("collective",))
    waves, draw = waves_path("collectives"), np.random.default_rng(seed)
    operands = draw.integers(-1 << 20, 1 << 20, (ranks, count), np.int32)

    def program(comm: Communicator) -> tuple[int, bool]:
        given, result = comm.device.allocate(count, np.int32), comm.device.allocate(count, np.int32)
        given[:] = operands[comm.rank]
        comm.Barrier()
        request = comm.Iallreduce(given, result)
        began[comm.rank] = comm.device.cycles
        request.Wait()
        result.sync_from_device()
        assert request.completion is not None
        return request.completion.cycles, bool((result == operands.sum(axis=0)).all())

    began: dict[int, int] = {}
    with open_cluster(url, ranks, waves=str(waves), progress=progress, **seeded(url, seed)) as cluster:
        cycles, right = zip(*cluster.run(program), strict=True)
        end = cluster.world.cycle
        if not all(right):
            raise RackgateError("the engines did not give the sum")
        title = f"allreduce of {4 * count} bytes on {ranks} ranks"
        # A call has been taken when its last word has been written: its first came some register accesses before.
        return Job.on(cluster.devices[0], title, max(0, min(began.values()) - _CALL), end, _waves_of(waves, ranks),
                      **_each(cycles))
