# SPDX-License-Identifier: Apache-2.0
"""Constants of the simulated cluster, each with what it stands for and where its value is from."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

__all__ = ["Parameters"]


def _constant(value: float, meaning: str, source: str) -> Any:
    return field(default=value, metadata={"meaning": meaning, "source": source})


@dataclass(frozen=True)
class Parameters:
    """What hosts, links and switch cost. Times in ns.

    The same for all lock managers. :meth:`describe` tells each one's meaning and source.
    """

    link_ns: float = _constant(
        1600, "one way between a host's memory and the switch: NIC, PCIe, cable",
        "chosen so that a grant without waiting takes the 4,000 ns of a round trip that the published experiment's "
        "evaluation assumes")
    link_gbps: float = _constant(100, "rate of each host's link", "the published test bed")
    switch_ns: float = _constant(
        400, "through the switch without the pipeline's stages: MACs, parser, queues, deparser",
        "estimate, of the order of a data-centre switch")
    clock_mhz: float = _constant(100, "clock of the pipeline's stages", "target of the routed pipelines")
    packet_ns: float = _constant(
        50, "a core receives or sends a packet", "eRPC (NSDI 2019): 10 million small RPCs a second and core, each "
        "received and sent")
    table_ns: float = _constant(
        150, "a core finds and changes a lock's record or queue", "estimate: one or two cache misses in a large table")
    wake_ns: float = _constant(50, "a core finds the waiting coroutine and goes on with it", "estimate")
    hosts: int = _constant(8, "hosts", "the published test bed: 4 machines with 2 NICs")
    client_cores: int = _constant(
        40, "cores that run clients, over all hosts",
        "published: 8 hosts x 5, and 6 hosts x 6 + 4 beside a server host")
    grant_cores: int = _constant(5, "cores of a host that receive grants", "published")
    agent_cores: int = _constant(1, "cores of a host that receive what is for agents (FissLock)", "published")
    server_cores: int = _constant(
        8, "cores of the server's host that receive requests (NetLock, one server)", "estimate: of the published 12 "
        "some send; NetLock's servers had 8")
    timeout_ns: float = _constant(10e6, "a client waits this long, then gives back all it has and begins anew",
                                  "published: 10 ms")
    tick_ns: float = _constant(100e3, "how often a host looks whether it has to send something again",
                               "of this simulation, in which nothing is lost")
    netlock_locks: int = _constant(11_000, "locks that NetLock's switch has", "published, for this comparison")
    netlock_slots: int = _constant(110_000, "slots that NetLock's switch has", "published, for this comparison")

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            least = 0 if item.name.endswith("_ns") and item.name not in ("tick_ns", "timeout_ns") else 1e-9
            if not value >= least:
                raise ValueError(f"{item.name} must be {'positive' if least else 'at least 0'}, not {value}")

    @property
    def cycle_ns(self) -> float:
        """A cycle of the pipeline's clock."""
        return 1000 / self.clock_mhz

    def wire_ns(self, message: bytes) -> float:
        """How long a message occupies a link: headers, FCS, padding, preamble and gap counted."""
        return (max(64, len(message) + 46) + 20) * 8 / self.link_gbps

    def scaled(self, factor: float, *names: str) -> "Parameters":
        """The same with some of them multiplied."""
        return replace(self, **{name: getattr(self, name) * factor for name in names})

    @classmethod
    def describe(cls) -> list[dict[str, Any]]:
        """Name, default, meaning and source of each."""
        return [{"name": item.name, "default": item.default, **item.metadata} for item in fields(cls)]

    def as_dict(self) -> dict[str, float]:
        """By name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
