# SPDX-License-Identifier: Apache-2.0
"""All benches by name, and the units of work that each falls into.

A unit is its bench with narrower options: what it measures can be had by ``rackgate bench NAME --set ...`` as well, and
it is known by its content, so that it can run in any process of any machine and be kept.
"""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .record import Result

__all__ = ["ALONE", "ANYWHERE", "BENCHES", "HERE", "Bench", "Points", "Unit", "measure", "points_of", "units_of"]

Points = list[dict[str, Any]]
#: Where a unit may run: see :class:`Unit`.
ANYWHERE, HERE, ALONE = "anywhere", "here", "alone"
#: A bench takes ``seed``, ``report`` (called with a line on what is under way) and options of its own as keywords, and
#: returns points as mappings with the names of :class:`Result`.
Runner = Callable[..., Iterable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Bench:
    """Where a bench is, as "module:function", what it measures, and how it is split.

    Named and not imported: a bench lives where its tools are, and the host depends on none of them.

    Parameters
    ----------
    place:
        What measures.
    about:
        What is measured.
    quick:
        Options of ``--quick``. The quick runs of all benches end within ten minutes on two processors.
    units:
        What splits the bench: takes the options that were given, and returns for each unit its name, its options, and
        where it may run (:class:`Unit`). Empty: the bench is one unit.
    join:
        What gives points that depend on several units: takes all points. Empty: there are none.
    where:
        Where a bench that is one unit may run.
    """

    place: str
    about: str
    quick: Mapping[str, Any] = field(default_factory=dict)
    units: str = ""
    join: str = ""
    where: str = ALONE

    def load(self) -> Runner:
        """Import the bench. Raises ImportError when the packages it needs are not installed."""
        return _load(self.place)


def _load(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


BENCHES: Mapping[str, Bench] = {
    "inflate": Bench("rackgate_host.bench.inflate:run", "output bytes a cycle of the inflate engine on real data",
                     {"pages": 64, "only": "anon-4k-dynamic,anon-4k-fixed,code-4k-dynamic,made-4k-dynamic"},
                     "rackgate_host.bench.inflate:units"),
    "iaa": Bench("rackgate_host.bench.iaa:run", "output bytes a cycle, latency and scaling of the accelerator",
                 {"quick": True, "pages": 64}, "rackgate_host.bench.iaa:units"),
    "sabre": Bench("rackgate_host.bench.sabre:run", "ratios of functions' memory, and how long restoring it takes",
                   {"quick": True}, "rackgate_host.bench.sabre:units"),
    "locks": Bench("rackgate_sim.locks.bench:run", "FissLock, NetLock and one server: grants, throughput, cycles",
                   {"quick": True, "clock_mhz": 100.0}, "rackgate_sim.locks.bench:units",
                   "rackgate_sim.locks.bench:join"),
    "collectives": Bench("rackgate_host.bench.collectives:run",
                         "cycles of collectives against what links allow, and against ACCL's algorithms",
                         {"quick": True}, "rackgate_host.bench.collectives:units"),
    "zeronic": Bench("rackgate_host.bench.zeronic:run", "cycles of the NIC, and what TCP through it costs a host",
                     {"quick": True}, "rackgate_host.bench.zeronic:units"),
    "wire": Bench("rackgate_host.bench.wire:run", "bytes a second to and from a board's memory over a cable",
                  {"size": 1 << 20, "repeats": 3}),
    "cosim": Bench("rackgate_tb.speed:run", "simulated cycles a second of the inflate engine on four simulators",
                   {"seconds": 2.0, "only": "pysim,cocotb-tight,native"}),
    "area": Bench("rackgate_boards.bench:run", "routed ECP5 clock and area of the engines",
                  {"only": "fisslock-words-64k"}, "rackgate_boards.bench:units"),
}


@dataclass(frozen=True)
class Unit:
    """One piece of work: a bench with narrower options.

    Parameters
    ----------
    bench, name, options, seed:
        What is measured. Options are values of JSON.
    where:
        ``anywhere``: its points are counts, of cycles, bytes and bits in a simulation, or by a tool, and the same
        wherever they are measured. ``here``: they are counts too, of data that this machine has. ``alone``: they are
        times, and this machine must do nothing else.
    """

    bench: str
    name: str
    options: Mapping[str, Any]
    seed: int
    where: str

    def __post_init__(self) -> None:
        if self.where not in (ANYWHERE, HERE, ALONE):
            raise ValueError(f"{self.title}: where must be {ANYWHERE}, {HERE} or {ALONE}, not {self.where!r}")

    @property
    def counted(self) -> bool:
        """Whether its points are counts."""
        return self.where != ALONE

    @property
    def title(self) -> str:
        """Bench and name."""
        return f"{self.bench}: {self.name}" if self.name else self.bench

    def as_dict(self) -> dict[str, Any]:
        """The unit for JSON; ``Unit(**unit.as_dict())`` is the same unit."""
        return {"bench": self.bench, "name": self.name, "options": dict(self.options), "seed": self.seed,
                "where": self.where}


def _known(name: str, options: Mapping[str, Any]) -> Bench:
    if name not in BENCHES:
        raise UsageError(f"there is no bench {name!r}; there are {', '.join(sorted(BENCHES))}")
    known = [key for key in inspect.signature(BENCHES[name].load()).parameters if key not in ("seed", "report")]
    for key in options:
        if key not in known:
            raise UsageError(f"bench {name} has no option {key!r}; it has {', '.join(known) or 'none'}")
    return BENCHES[name]


def units_of(name: str, seed: int, options: Mapping[str, Any]) -> list[Unit]:
    """The units of a bench with ``options``, in the order of its points.

    Raises
    ------
    UsageError
        If there is no such bench, it has no such option, or a value makes no sense.
    """
    bench = _known(name, options)
    if not bench.units:
        return [Unit(name, "", dict(options), seed, bench.where)]
    return [Unit(name, part, narrowed, seed, where) for part, narrowed, where in _load(bench.units)(**options)]


def measure(unit: Unit, report: Callable[[str], None]) -> Points:
    """Run a unit in this process; its points as the record keeps them."""
    runner = BENCHES[unit.bench].load()
    return [Result(**{**point, "counted": unit.counted}).as_dict()
            for point in runner(seed=unit.seed, report=report, **unit.options)]


def points_of(name: str, parts: Sequence[Points], *, whole: bool) -> list[Result]:
    """The points of a bench from those of its units, in their order; if the units are all there, also what follows from
    them together."""
    points = [point for part in parts for point in part]
    join = BENCHES[name].join if whole else ""
    return [Result(**point) for point in [*points, *(_load(join)(points) if join else ())]]
