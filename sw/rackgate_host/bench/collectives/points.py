# SPDX-License-Identifier: Apache-2.0
"""One operation at one size: measured, and the points of the record that come of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...collective.bounds import bound
from ...collective.cluster import Cluster
from ...collective.errors import CollectiveError
from ...collective.trial import Trial, Work, run_trial
from ...errors import DeviceFault
from .aims import BLOCKS, Link, aimed_cycles, fraction_goals, is_long
from .peers import EAGER_BYTES, SERIAL, algorithm, bytes_ratio

__all__ = ["Bench", "VARIANTS", "measure", "points"]

_TYPE = np.dtype(np.int32)
#: How the operand and the result lie, by operation, besides the usual way. In the usual way no own part is copied:
#: in place where that would be a copy, apart elsewhere.
_IN_PLACE = ("scatter", "gather", "allgather", "alltoall")
VARIANTS = {"allgather": "separate", "alltoall": "separate", "reduce_scatter": "in-place"}


@dataclass(frozen=True)
class Bench:
    """Clusters' links, and what all points tell."""

    link: Link
    seed: int
    conditions: dict[str, Any] = field(default_factory=dict)

    def point(self, case: str, metric: str, value: float | None, unit: str, *, floor: float | None = None,
              target: float | None = None, source: str = "", **conditions: Any) -> dict[str, Any]:
        """A point of the record."""
        return {"case": case, "metric": metric, "value": value, "unit": unit, "floor": floor, "target": target,
                "conditions": {**self.conditions, **conditions}, "source": source}


def measure(cluster: Cluster, operation: str, size: int, *, seed: int, is_in_place: bool = False,
            program: str | None = None) -> Trial:
    """Run an operation with int32 elements, ``size`` bytes as the call counts them. Every result is compared.

    Raises
    ------
    DeviceFault
        If a result is wrong, or a link carried less than the operation takes at least.
    """
    work = Work(operation, size // _TYPE.itemsize, _TYPE, is_in_place=is_in_place, program=program)
    trial = run_trial(cluster, work, seed=seed)
    what = f"{program or operation} of {size} bytes at {cluster.size} ranks"
    if not trial.is_right:
        raise DeviceFault(f"{what} gave something else than NumPy")
    least = bound(operation, cluster.size, size).bytes
    if trial.busiest_bytes < least:
        raise DeviceFault(f"{what}: the busiest link carried {trial.busiest_bytes} bytes, which cannot be: {least} are "
                          "needed at least")
    return trial


def points(bench: Bench, cluster: Cluster, operation: str, size: int) -> Iterator[dict[str, Any]]:
    """All points of an operation at one size."""
    own = yield from _own(bench, cluster, operation, size, operation in _IN_PLACE, "")
    if (variant := VARIANTS.get(operation)) is not None:
        yield from _own(bench, cluster, operation, size, variant == "in-place", f"-{variant}")
    if operation != "sendrecv":
        yield from _peer(bench, cluster, operation, size, own)


def _case(operation: str, ranks: int, size: int) -> str:
    return f"{operation}-p{ranks}-{size}"


def _own(bench: Bench, cluster: Cluster, operation: str, size: int, is_in_place: bool,
         suffix: str) -> Iterator[dict[str, Any]]:
    ranks, link = cluster.size, bench.link
    trial = measure(cluster, operation, size, seed=bench.seed, is_in_place=is_in_place)
    case = _case(operation + suffix, ranks, size)
    told: dict[str, Any] = {"ranks": ranks, "bytes": size, "in_place": is_in_place}
    source = f"{operation} of int32, in place" if is_in_place else f"{operation} of int32, buffers apart"
    aimed = aimed_cycles(operation, ranks, size, link, is_separate=suffix == "-separate")
    least = bound(operation, ranks, size)
    has_goals = is_long(operation, ranks, size, link)
    floor, target = fraction_goals(operation) if has_goals else (None, None)
    yield bench.point(case, "cycles", trial.elapsed, "cycle", source=source, skew=trial.skew, **told)
    yield bench.point(case, "fraction_of_bound", round(aimed / trial.elapsed, 4), "1", floor=floor, target=target,
                      source=source, bound_cycles=round(aimed, 1), hop=link.hop(operation), **told)
    # Nobody, whatever the algorithm, takes less than this.
    nobody = least.cycles(link.width, link.segment, link.hop(operation))
    yield bench.point(case, "fraction_of_least", round(nobody / trial.elapsed, 4), "1", source=source,
                      least_cycles=round(nobody, 1), hop=link.hop(operation), **told)
    is_even = operation in BLOCKS or size % (ranks * _TYPE.itemsize) == 0  # parts of one length
    exact = least.bytes if has_goals and is_even else None
    yield bench.point(case, "busiest_link_bytes", trial.busiest_bytes, "byte", floor=exact, target=exact,
                      source="payload, as the crossbar counted it", **told)
    return trial


def _peer(bench: Bench, cluster: Cluster, operation: str, size: int, own: Trial) -> Iterator[dict[str, Any]]:
    ranks = cluster.size
    program = algorithm(operation, size)
    if program.name not in cluster.engines[0].names:
        cluster.load_collective(program)
    case = _case(f"peer-{operation}", ranks, size)
    told = {"ranks": ranks, "bytes": size, "algorithm": program.name, "eager_bytes": EAGER_BYTES}
    source = "ACCL's algorithm on the same engines and links"
    try:
        trial = measure(cluster, operation, size, seed=bench.seed, program=program.name)
    except CollectiveError as error:  # its algorithms take no heed of credits
        cluster.reset()
        yield {**bench.point(case, "cycles", None, "cycle", source=source, **told), "why": str(error)}
        return
    yield bench.point(case, "cycles", trial.elapsed, "cycle", source=source, skew=trial.skew, **told)
    yield bench.point(case, "busiest_link_bytes", trial.busiest_bytes, "byte", source=source, **told)
    serial = trial.busiest_bytes
    if operation in SERIAL and program.name.endswith("rendezvous"):
        serial = max(out + into for out, into in zip(trial.bytes_out, trial.bytes_in, strict=True))
        yield bench.point(case, "serial_link_bytes", serial, "byte",
                          source=f"{source}: into a port, and then out of it", **told)
    case = _case(operation, ranks, size)
    yield bench.point(case, "peer_cycles_ratio", round(trial.elapsed / own.elapsed, 3), "1", source=source, **told)
    if own.busiest_bytes:
        has_goals = is_long(operation, ranks, size, bench.link) and size > EAGER_BYTES
        goal = bytes_ratio(operation, ranks) if has_goals else None
        rounded = None if goal is None else round(goal, 3)
        yield bench.point(case, "peer_bytes_ratio", round(serial / own.busiest_bytes, 3), "1", floor=rounded,
                          target=rounded, source=f"{source}: bytes that pass its busiest port one after the other",
                          **told)
