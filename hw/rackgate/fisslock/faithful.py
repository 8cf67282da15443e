# SPDX-License-Identifier: Apache-2.0
"""The lock switch of FissLock (OSDI 2024) as its authors published it, quirks included. Plain Python.

It is the oracle of the paper's behaviour: the model checker shows in it what goes wrong, see ``docs/fisslock.md``.
Users run :mod:`rackgate.fisslock.hardened`.

A packet passes four register stages in the order of the P4 program: the counter of shared grants, the free bit, the
mode bit, the agent. Quirks that follow from that order and from the tables, all kept:

- The counter counts every shared ACQUIRE, before it is known what becomes of it.
- Every packet but FREE sets the free bit to acquired. A RELEASE of a free lock so leaves it acquired by agent 0.
- TRANSFER and FREE are believed whoever sends them, if the count agrees or the lock was exclusive.
- A packet leaves through multicast groups: group 1 to 127 is host 1 to 127 as the agent's flow, group 129 to 191 is
  host 1 to 63 as the client's flow. Groups that do not exist, 0 and 128 above all, drop the copy.
- The egress rewrites what has the flag ``multicasted``, whoever set it, and leaves the flag set.

Where the description that this was made from is silent (:data:`SILENT`), it does the least.

The P4 program has each register three times, as Tofino's compiler does not split an array over stages, and lock ids
choose the slice by their upper bits. One register over all ids has the same outputs for the same inputs, so there is
one here. The multicast groups and the addresses of hosts are the table :func:`rackgate.net.hosts.host_table`, as this
switch has one port: that, and not the lock header, is where its frames differ.
"""

from rackgate.net.headers import IPV4_CHECKSUM, ethernet, ipv4, udp, udp_checksum, udp_parser
from rackgate.net.hosts import host_table, route
from rackgate.pisa.declare import (
    Access,
    Compute,
    Copy,
    Header,
    Metadata,
    Pipeline,
    Register,
    RegisterAction,
    State,
    assign,
)
from rackgate.pisa.expr import Const, Expr, mux

from .abi import AGENT_PORT, CLIENT_PORT, Type

__all__ = ["FAITHFUL", "LOCKS", "SILENT", "lock", "pipeline"]

#: Locks of the published program: three slices of 2**19.
LOCKS = 3 << 19

#: What the description does not say, and what is done here.
SILENT = (
    "TRANSFER and FREE of a lock that is free: the free bit is swapped, mode and agent stay, and it goes back to the "
    "sender",
    "MEM_DIFF, GRANT_W_AGENT and unknown types from a host: the free bit is set, and it goes to its agent field",
    "GRANT_WO_AGENT from an agent: the agent field stays as it is",
    "groups above 191, which were broadcasts: they do not exist",
)

#: The lock header, 17 bytes.
lock = Header("lock", type=8, multicasted=1, granted=1, transferred=1, reserved=3, old_mode=1, mode=1, id=32,
              machine_id=8, task_id=32, agent=8, wq_size=32, ncnt=8)

#: Groups above this one are clients' flows.
_CLIENT_GROUP = 128
_LAST_GROUP = 191


def pipeline(locks: int = LOCKS, count_width: int = 8) -> Pipeline:
    """The switch for ids below ``locks``; others are sent to the server in their agent field.

    Parameters
    ----------
    locks:
        1 to 2**32. After a reset all are free.
    count_width:
        Bits of the counter of shared grants, 1 to 8; the published one has 8. A narrow one shows what happens when it
        wraps. It is compared with as many of the packet's bits.

    Raises
    ------
    ValueError
        A parameter is out of its range.
    """
    if not 1 <= locks <= 1 << 32:
        raise ValueError(f"locks must be 1 to 2**32, not {locks}")
    if not 1 <= count_width <= 8:
        raise ValueError(f"count_width must be 1 to 8, not {count_width}")
    index_width = max(1, (locks - 1).bit_length())
    meta = Metadata("fisslock", index=index_width, decides=1, relayed=1, was_acquired=1, was_exclusive=1, both=1,
                    first_group=8, client_group=1)
    counter = Register("counter", locks, count=count_width)
    free = Register("free", locks, acquired=1)
    mode = Register("mode", locks, exclusive=1)
    agent = Register("agent", locks, host=8)

    acquire, release = lock.type == Type.ACQUIRE, lock.type == Type.RELEASE
    transfer, give_up = lock.type == Type.TRANSFER, lock.type == Type.FREE
    handing_over = transfer | give_up
    relayed = lock.type == Type.GRANT_WO_AGENT
    agrees: Expr = counter.word.count == lock.ncnt[0:count_width]
    taken, first, to_client = meta.was_acquired, meta.first_group, meta.client_group

    def send_grant(**flags: int):
        return [assign(lock.type, Type.GRANT_W_AGENT), assign(route.to_client, 1), assign(lock.agent, lock.machine_id),
                *(assign(lock[name], value) for name, value in flags.items())]

    in_range: Expr = lock.id < locks if locks < 1 << 32 else lock.id == lock.id
    return Pipeline(
        "fisslock_faithful",
        parser=udp_parser({AGENT_PORT: "lock", CLIENT_PORT: "lock"}, {"lock": State(lock)}, lock),
        metadata=[route, meta],
        ingress=[
            Compute("begin", [
                assign(meta.index, lock.id[0:index_width]),
                assign(meta.decides, in_range & ~relayed),
                assign(route.to_client, (udp.destination_port == CLIENT_PORT) | (~in_range & relayed)),
                assign(meta.relayed, in_range & relayed),
            ]),
            Access(counter, meta.index, [
                RegisterAction("count", acquire & ~lock.mode, update={"count": counter.word.count + 1}),
                RegisterAction("clear", handing_over & lock.old_mode, update={"count": 0}),
                RegisterAction("compare_and_clear", handing_over,
                               update={"count": mux(agrees, 0, counter.word.count)},
                               out=[assign(meta.decides, agrees)]),
            ], when=meta.decides),
            Access(free, meta.index, [
                RegisterAction("give_back", give_up, update={"acquired": 0}, out=[assign(taken, free.word.acquired)]),
                RegisterAction("take", True, update={"acquired": 1}, out=[assign(taken, free.word.acquired)]),
            ], when=meta.decides),
            Access(mode, meta.index, [
                RegisterAction("set", (acquire & ~taken) | (transfer & taken), update={"exclusive": lock.mode}),
                RegisterAction("reset", give_up & taken, update={"exclusive": 0}),
                RegisterAction("read", acquire, out=[assign(meta.was_exclusive, mode.word.exclusive)]),
            ], when=meta.decides),
            Access(agent, meta.index, [
                RegisterAction("new_agent", acquire & ~taken, update={"host": lock.machine_id},
                               out=send_grant(transferred=0)),
                RegisterAction("multicast_to_agent", acquire & ~lock.mode & ~meta.was_exclusive, out=[
                    assign(lock.agent, agent.word.host), assign(lock.multicasted, 1), assign(meta.both, 1)]),
                RegisterAction("forward_to_agent", acquire | (release & taken), out=[
                    assign(lock.agent, agent.word.host)]),
                RegisterAction("transfer_agent", transfer & taken, update={"host": lock.machine_id},
                               out=send_grant(transferred=1)),
                RegisterAction("reset_agent", give_up & taken, update={"host": 0}, out=[assign(lock.agent, 0)]),
            ], when=meta.decides),
            Compute("groups", [assign(meta.first_group, mux(meta.relayed, lock.machine_id, lock.agent))]),
        ],
        copies=[
            Copy("first", (first[0:7] != 0) & (first <= _LAST_GROUP),
                 [assign(route.host, first[0:7].resize(8)), assign(meta.client_group, first[7])]),
            Copy("second", meta.both & (lock.machine_id != 0) & (lock.machine_id <= _LAST_GROUP - _CLIENT_GROUP),
                 [assign(route.host, lock.machine_id), assign(meta.client_group, 1)]),
        ],
        egress=[
            Compute("rewrite", [
                assign(lock.type, mux(to_client, Type.GRANT_WO_AGENT, Const(Type.ACQUIRE, 8))),
                assign(lock.granted, mux(to_client, lock.granted, 1)),
                assign(route.to_client, to_client),
            ], when=lock.multicasted),
            host_table(),
        ],
        emit=[ethernet, ipv4, udp, lock],
        checksums=[IPV4_CHECKSUM, udp_checksum(lock)],
    )


#: The published shape.
FAITHFUL = pipeline()
