# SPDX-License-Identifier: Apache-2.0
"""One workload on the lock managers that are compared, and what is told of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rackgate.fisslock import hardened
from rackgate.fisslock.abi import AGENT_PORT, Flag, Message, State, Type
from rackgate.netlock import pipeline as netlock
from rackgate.netlock.placement import Demand
from rackgate.pisa.declare import Pipeline
from rackgate.pisa.pipeline import PipelineCore
from rackgate.pisa.tables import runtime_table

from .cluster import Cluster, Outcome
from .cores import COPIES_LATENCY
from .messages import MessageSwitch
from .parameters import Parameters
from .systems import SYSTEMS, WORD, demands, make
from .workloads import WORKLOADS, Workload

__all__ = ["PAPER", "SHARES", "VARIATIONS", "Experiment", "Size", "core_latency", "held_at_once", "latencies"]

#: Published: least and most cut of the median grant time, and transactions a second over NetLock's.
PAPER = {"micro": (43.0, 79.1), "tatp": 1.76, "tpcc": 2.28}

#: Per cent of the grants at which their times are told: the median's place is among them, and the tail is closer.
SHARES = (*range(0, 100, 2), 99, 99.5, 99.9, 100)

#: What is halved and doubled, by name.
VARIATIONS: Mapping[str, Sequence[str]] = {
    "host": ("packet_ns", "table_ns", "wake_ns"),
    "link": ("link_ns",),
    "switch": ("switch_ns", "cycles"),
    "server_cores": ("server_cores",),
    "netlock_memory": ("netlock_locks", "netlock_slots"),
}

#: Another seed than that of the traces: NetLock's placement knows the load, not the very requests.
_PROFILE_SEED = 0x9E37_79B9


def core_latency(declared: Pipeline) -> int:
    """Cycles from a packet's entry into the gateware's stages to its copy's exit, the table of hosts included."""
    core = PipelineCore(declared, make_table=runtime_table)
    return core.latency + COPIES_LATENCY + core.egress_latency


def latencies(parameters: Parameters, locks: int) -> dict[str, int]:
    """Of each lock manager's pipeline, at the size that it has in the cluster."""
    own, slots = int(parameters.netlock_locks), int(parameters.netlock_slots)
    return {
        "fisslock": core_latency(hardened.pipeline(locks=locks, word=WORD)),
        "netlock": core_latency(netlock.pipeline(locks=own, slots=-(-slots // own))),
        "server": 0,
    }


def held_at_once(locks: int, step: int = 1) -> int:
    """Have FissLock's switch of ``locks`` locks grant every ``step``-th and the last; the number of its locks.

    Raises AssertionError if one is not granted, is granted twice, or is not free at the end.
    """
    switch = MessageSwitch(hardened.pipeline(locks=locks, word=WORD), hardened.lock, [1, 2])
    some = [*range(0, locks - 1, step), locks - 1]

    def answers(kind: Type, number: int, host: int, epoch: int = 0) -> list[tuple[int, int]]:
        message = Message(kind, Flag.EXCLUSIVE, 0, number, epoch, host, host)
        return [(one.host, Message.from_bytes(one.message).type) for one in
                switch.send(message.to_bytes(), AGENT_PORT, host)]

    for number in some:
        assert answers(Type.ACQUIRE, number, 1) == [(1, Type.GRANT_W_AGENT)], number
    for number in some:
        assert answers(Type.ACQUIRE, number, 2) == [(1, Type.ACQUIRE)], number
    for number in some:
        assert answers(Type.FREE, number, 1, 1) == [(1, Type.ACK)], number
    assert answers(Type.ACQUIRE, locks, 1) == [], "one more than there are"
    assert all(switch.model.read("locks", number)["state"] == State.FREE for number in some)
    return locks


@lru_cache(maxsize=2)
def _profile(name: str, seed: int, cores: int, transactions: int) -> list[Demand]:
    """What NetLock's placement knows of a workload."""
    workload = WORKLOADS[name]()
    return demands(workload, [workload.trace(seed ^ _PROFILE_SEED, core, cores, transactions) for core in range(cores)])


@dataclass(frozen=True)
class Size:
    """How long is measured: ``operations`` at least, for ``span_ns`` at least, after ``warm_up_ns``.

    ``profile`` is how many requests NetLock's placement is made from.
    """

    operations: int
    warm_up_ns: float
    span_ns: float
    profile: int


class Experiment:
    """A workload under one set of constants.

    Parameters
    ----------
    name:
        Of :data:`~.workloads.WORKLOADS`.
    parameters:
        Constants of the cluster.
    cycles:
        Of each lock manager's pipeline.
    size:
        How long.
    seed:
        Of the traces.
    """

    def __init__(self, name: str, parameters: Parameters, cycles: Mapping[str, int], size: Size, seed: int):
        self.name, self.parameters, self.cycles, self.size, self.seed = name, parameters, cycles, size, seed
        self.workload: Workload = WORKLOADS[name]()
        self.outcomes: dict[str, Outcome] = {}

    def run(self, report: Callable[[str], None]) -> "Experiment":
        """Run all lock managers on the same traces."""
        cores = int(self.parameters.client_cores)
        each = 9 if self.name == "tpcc" else 1  # locks of a transaction, roughly
        many = max(50, self.size.operations * 2 // (cores * each))
        traces = [self.workload.trace(self.seed, core, cores, many) for core in range(cores)]
        known = _profile(self.name, self.seed, cores, max(50, self.size.profile // (cores * each)))
        for name in SYSTEMS:
            report(f"{self.name}: {name}")
            setup = make(name, self.workload, known, self.parameters, self.cycles[name])
            cluster = Cluster(setup, self.workload, traces, self.parameters)
            self.outcomes[name] = cluster.run(self.size.operations, warm_up_ns=self.size.warm_up_ns,
                                              span_ns=self.size.span_ns)
        return self

    @property
    def conditions(self) -> dict[str, Any]:
        """Everything that the figures depend on."""
        return {"workload": self.name, "seed": self.seed, "operations": self.size.operations,
                "warm_up_ns": self.size.warm_up_ns, "span_ns": self.size.span_ns,
                "profile_requests": self.size.profile, "coroutines": self.workload.coroutines,
                "think_ns": self.workload.think_ns, "locks": self.workload.locks,
                **{f"cycles_{name}": number for name, number in self.cycles.items()}, **self.parameters.as_dict()}

    def cut(self, share: float) -> float:
        """By how much per cent FissLock's grant time at this percentile is below NetLock's."""
        return 100 * (1 - self.outcomes["fisslock"].percentile(share) / self.outcomes["netlock"].percentile(share))

    def ratio(self, other: str) -> float:
        """FissLock's transactions a second over another's. Raises ValueError if one has done none."""
        mine, its = (self.outcomes[name].transactions_per_second for name in ("fisslock", other))
        if not mine or not its:
            raise ValueError(f"{self.name}: {self.size.operations} operations are too few to see a transaction done")
        return mine / its

    def headline(self, case: str) -> Iterator[dict[str, Any]]:
        """What is compared with the paper."""
        source = "simulated cluster: the pipelines' models and the hosts' own code in discrete events"
        if self.name.startswith("micro"):
            figures = [("median_grant_cut_percent", self.cut(50), "%", None),
                       ("p99_grant_cut_percent", self.cut(99), "%", None)]
        else:
            figures = [("throughput_ratio_netlock", self.ratio("netlock"), "1", PAPER[self.name]),
                       ("throughput_ratio_server", self.ratio("server"), "1", None)]
        for metric, value, unit, paper in figures:
            conditions = dict(self.conditions)
            if self.name.startswith("micro") and metric.startswith("median"):
                conditions["paper_range"] = list(PAPER["micro"])
            yield {"case": case, "metric": metric, "value": round(value, 3), "unit": unit, "paper": paper,
                   "conditions": conditions, "source": source}

    def details(self, clock_source: str) -> Iterator[dict[str, Any]]:
        """Of each lock manager: times, throughput, packets."""
        for name, one in self.outcomes.items():
            conditions = {
                "clock_mhz": self.parameters.clock_mhz, "clock_source": clock_source,
                "simulated_ms": round(one.seconds * 1e3, 3), "operations": one.operations, "aborts": one.aborts,
                "grant_messages": {str(kind): count for kind, count in sorted(one.kinds.items())},
                "busiest_server_core": round(one.server_busy, 3),
            }
            figures = [
                ("grant_median_us", one.percentile(50) * 1e-3, "us"), ("grant_p99_us", one.percentile(99) * 1e-3, "us"),
                ("operations_per_us", one.operations / one.seconds * 1e-6, "1/us"),
                ("transactions_per_us", one.transactions_per_second * 1e-6, "1/us"),
                ("packets_per_operation", one.packets / one.operations, "packet"),
            ]
            if one.passes:
                figures += [("passes_per_operation", one.passes / one.operations, "pass"),
                            ("rounds_per_operation", one.rounds / one.operations, "pass")]
            for metric, value, unit in figures:
                point = {"case": f"{self.name}-{name}", "metric": metric, "value": round(value, 4), "unit": unit,
                         "conditions": conditions, "source": "simulated cluster"}
                if metric == "grant_median_us":
                    point["series"] = {"percent": list(SHARES), "grant_us": [
                        round(one.percentile(share) * 1e-3, 4) for share in SHARES]}
                yield point
