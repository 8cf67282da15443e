# SPDX-License-Identifier: Apache-2.0
"""The lock managers that are compared, each made ready for the simulated cluster."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rackgate.fisslock import hardened
from rackgate.fisslock.abi import AGENT_PORT, CLIENT_PORT
from rackgate.fisslock.participant import HardenedParticipant
from rackgate.netlock import pipeline as netlock
from rackgate.netlock.abi import PORT
from rackgate.netlock.participant import Participant
from rackgate.netlock.placement import Demand, place

from .cluster import Setup
from .messages import MessageSwitch
from .parameters import Parameters
from .workloads import Trace, Workload

__all__ = ["SYSTEMS", "WORD", "demands", "make"]

#: FissLock as users run it, NetLock, and a lock manager in one server.
SYSTEMS = ("fisslock", "netlock", "server")

#: Bits of a lock's word in FissLock's switch.
WORD = 36


def demands(workload: Workload, traces: Sequence[Trace]) -> list[Demand]:
    """What NetLock's placement must know before: how often each lock is asked for, and by how many at a time.

    The latter is read off the traces as if all clients went in step: how many of them have the lock in their k-th
    transaction, for the k in which they are most.
    """
    clients = workload.coroutines
    steps, locks = [], []
    for trace in traces:
        sizes = np.diff(trace.starts)
        steps.append(np.repeat(np.arange(len(trace)) // clients, sizes))
        locks.append(trace.locks)
    lock = np.concatenate(locks).astype(np.int64)
    both = np.concatenate(steps).astype(np.int64) << 32 | lock
    at_a_time, together = np.unique(both, return_counts=True)
    wanted, rates = np.unique(lock, return_counts=True)
    most = np.zeros(len(wanted), np.int64)
    np.maximum.at(most, np.searchsorted(wanted, at_a_time & 0xFFFF_FFFF), together)
    return [Demand(*one) for one in zip(wanted.tolist(), rates.astype(float).tolist(), most.tolist(), strict=True)]


def make(name: str, workload: Workload, known: Sequence[Demand], parameters: Parameters, cycles: int) -> Setup:
    """A lock manager at its start; ``cycles`` are those of a pass through its pipeline.

    ``known`` is what NetLock's placement goes by. Raises ValueError if there is no such lock manager.
    """
    if name == "fisslock":
        return _fisslock(workload, parameters, cycles)
    if name in ("netlock", "server"):
        return _with_server(name, known, parameters, cycles)
    raise ValueError(f"name must be one of {', '.join(SYSTEMS)}, not {name!r}")


def _fisslock(workload: Workload, parameters: Parameters, cycles: int) -> Setup:
    hosts = range(1, int(parameters.hosts) + 1)
    switch = MessageSwitch(hardened.pipeline(locks=workload.locks, word=WORD), hardened.lock, hosts)
    cores = int(parameters.client_cores)
    participants = {host: HardenedParticipant(host, hosts) for host in hosts}
    return Setup("fisslock", participants, switch, (AGENT_PORT, CLIENT_PORT), cycles,
                 [core * len(hosts) // cores + 1 for core in range(cores)],
                 dict.fromkeys(hosts, int(parameters.agent_cores)), lock_at=4, kind_at=1, client_table=True)


def _with_server(name: str, known: Sequence[Demand], parameters: Parameters, cycles: int) -> Setup:
    server = int(parameters.hosts)
    clients = range(1, server)
    cores = int(parameters.client_cores)
    # The published layout: as many client cores as without a server, on one host less.
    layout = Counter(core * len(clients) // cores + 1 for core in range(cores))
    homes = [host for host in clients for _ in range(layout[host])]
    switch = None
    if name == "netlock":
        locks, slots = int(parameters.netlock_locks), int(parameters.netlock_slots)
        switch = MessageSwitch(netlock.pipeline(locks=locks, slots=-(-slots // locks)), netlock.lock,
                               range(1, server + 1))
        tables = switch.model.tables
        for number in range(netlock.PARTITIONS):
            tables["servers"].insert(number, netlock.SERVER, host=server)
        for one in place(known, locks, slots):
            for register, fields in one.registers.items():
                switch.model.write(register, one.index, **fields)
            tables["locks"].insert(one.lock, netlock.LOCAL, index=one.index)
    return Setup(name, {host: Participant(host, server=server if name == "server" else None)
                        for host in range(1, server + 1)}, switch, (PORT, PORT), cycles, homes,
                 {server: int(parameters.server_cores)}, lock_at=8, kind_at=1, client_table=False)
