# SPDX-License-Identifier: Apache-2.0
"""The lock switch's gateware in the sizes whose clock and area are measured."""

from rackgate.fisslock import faithful
from rackgate.fisslock.hardened import pipeline
from rackgate.netlock import pipeline as netlock
from rackgate.pisa.layout import carried_layout
from rackgate.pisa.liveness import carried, live_behind_ingress
from rackgate.pisa.pipeline import PipelineCore
from rackgate.pisa.registerarray import RegisterArray
from rackgate.pisa.tables import runtime_table

__all__ = ["FaithfulCore", "LockCore", "LockWords", "NetLockCore"]


class LockWords(RegisterArray):
    """The register array of hardened FissLock alone: ``locks`` words of ``word`` bits, and what they do to a packet."""

    def __init__(self, *, locks: int, word: int):
        declared = pipeline(locks, word)
        carry = carried(declared.ingress, live_behind_ingress(declared), clears_metadata=True)
        super().__init__(declared.ingress[0], *map(carried_layout, carry.at))


class LockCore(PipelineCore):
    """Hardened FissLock from header vector to header vectors: locks, copies, and the table of hosts."""

    def __init__(self, *, locks: int, word: int):
        super().__init__(pipeline(locks, word), make_table=runtime_table)


class FaithfulCore(PipelineCore):
    """FissLock as published, register by register, with the table of hosts."""

    def __init__(self, *, locks: int):
        super().__init__(faithful.pipeline(locks=locks), make_table=runtime_table)


class NetLockCore(PipelineCore):
    """NetLock: ``locks`` queues of ``slots`` slots on average, and its tables of locks, servers and hosts."""

    def __init__(self, *, locks: int, slots: int):
        super().__init__(netlock.pipeline(locks=locks, slots=slots), make_table=runtime_table)
