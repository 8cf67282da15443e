# SPDX-License-Identifier: Apache-2.0
"""NetLock's switch: a queue of requests for each of its locks, first come, first served. Plain Python.

A lock has a slice of the slots, a ring. Requests stay in it from their arrival until their holder's release: those at
the head are the holders. What finds no slot goes to the lock's server, and so does all that follows until the server
has pushed everything back. A release takes the head out; who is next is read in a pass of its own, as a register is
accessed once a pass: the packet recirculates, and once more for each further shared request that may go with it.

Passes: an acquire takes one. A release takes one if nobody is to be told, else one for each request that it grants and,
where an exclusive one stands behind shared ones, one to find it.

What differs from NetLock, in which a packet that recirculates may be overtaken:

- While one is under way for a lock (``granting``), newcomers wait in the queue, and the packet goes on to the queue's
  end as it then is. NetLock grants shared newcomers in the meantime, whose release takes out somebody else's request.
- ``shared`` counts holders, not requests in the queue. So the last holder's release is known without reading the next
  request, and the others' need no second pass.
- The request that is taken out is read, and counted off by its own mode, not by what the release says.
- What stops a count from running below zero or a queue over its end, whatever comes: a release of an empty queue does
  nothing, a PUSH_BACK that finds no slot goes back to the server.
- The notice that a queue is empty counts the requests on their way back, so that a server does not push twice.

What does not: who releases is not checked, any release takes out the head. Nothing is acknowledged or sent again.

Bits of a lock: 257 and 144 for each of its slots, as in NetLock (its count of exclusive requests has 32 bits; here one
of them is ``granting``). Pointers are absolute, so slices may differ in size; the control plane sets them,
see :mod:`rackgate.netlock.placement`. After a reset the switch has no lock, and sends everything to the servers.
"""

import operator

from rackgate.net.headers import IPV4_CHECKSUM, ethernet, ipv4, udp, udp_checksum, udp_parser
from rackgate.net.hosts import host_table, route
from rackgate.pisa.declare import (
    Access,
    Action,
    Compute,
    Copy,
    Header,
    Key,
    Metadata,
    Pipeline,
    Register,
    RegisterAction,
    State,
    Table,
    assign,
)
from rackgate.pisa.expr import Const, Expr, mux, one_of, sat_add

from .abi import PORT, Flag, Op

__all__ = ["LOCAL", "PARTITIONS", "SERVER", "bits_per_lock", "lock", "meta", "pipeline"]

#: The lock header, 20 bytes.
lock = Header("lock", flags=8, op=8, mode=8, client=8, task=32, id=32, timestamp=64)

#: What travels with the packet; in the recirculated one ``at`` is the slot that is to be looked at.
meta = Metadata("netlock", server=8, found=1, index=32, left=32, right=32, shrink=1, length=32, at=32, next=32,
                last=1, recirculated=1, queued=1, popped=1, was_empty=1, emptied=1, backlog=32, exclusive=1, grant=1,
                go_on=1, to_server=1)

#: Entry of the table ``locks``: the switch has the lock, in this place.
LOCAL = Action.with_parameters("local", {"index": 32}, lambda argument: [
    assign(meta.index, argument.index), assign(meta.found, 1)])

#: Entry of the table ``servers``: the server of the lock ids that end in these bits.
SERVER = Action.with_parameters("server", {"host": 8}, lambda argument: [assign(meta.server, argument.host)])

_PARTITION_BITS = 4

#: Entries of the table ``servers``; the lowest bits of a lock's id choose one.
PARTITIONS = 1 << _PARTITION_BITS

_MOST = 1 << 17


def _checked(name: str, value: int) -> int:
    number = operator.index(value)
    if not 1 <= number <= _MOST:
        raise ValueError(f"{name} must be 1 to {_MOST}, not {value}")
    return number


def _after(position: Expr) -> Expr:
    """The slot behind ``position``, round the lock's slice."""
    return mux(position == meta.right, meta.left, position + 1)


def _less_one(count: Expr) -> Expr:
    return mux(count == 0, count, count - 1)


def bits_per_lock(declared: Pipeline) -> float:
    """Register bits of a lock, its slots included; the table of the switch's locks and its rings' slack are not."""
    bits = sum(register.width * register.depth for register in declared.registers)
    return bits / next(register.depth for register in declared.registers if register.name == "spaces")


def pipeline(locks: int = 1024, slots: int = 8) -> Pipeline:
    """The switch for ``locks`` locks that have ``locks * slots`` slots together.

    Raises
    ------
    TypeError
        A parameter is no integer.
    ValueError
        A parameter is not in 1 to 131072.
    """
    locks, slots = _checked("locks", locks), _checked("slots", slots)
    index = meta.index[0:max(1, (locks - 1).bit_length())]
    at = meta.at[0:max(1, (locks * slots - 1).bit_length())]

    bounds = Register("bounds", locks, left=32, right=32, shrink=1)
    spaces = Register("spaces", locks, empty=32, server=32)
    tail = Register("tail", locks, position=32)
    head = Register("head", locks, position=32)
    queue = Register("slots", locks * slots, ip=32, mode=8, client=8, task=32, timestamp=64)
    counts = Register("counts", locks, shared=32, exclusive=31, granting=1)

    fresh, found = ~meta.recirculated, meta.found
    acquire, push, release = (fresh & (lock.op == op) for op in (Op.ACQUIRE, Op.PUSH_BACK, Op.RELEASE))
    empty, server = spaces.word.empty, spaces.word.server
    roomy: Expr = (empty != 0) & (server == 0) & ~meta.shrink
    has_slot: Expr = empty != 0
    holds_some: Expr = empty != meta.length
    shared, exclusive, granting = (counts.word[name] for name in ("shared", "exclusive", "granting"))
    may_join = (exclusive == 0) & ~granting
    hands_over = ~meta.emptied & ~granting
    last_holder = (shared <= 1) & hands_over
    notice: Expr = meta.popped & meta.emptied & (meta.backlog != 0)

    return Pipeline(
        "netlock",
        parser=udp_parser({PORT: "lock"}, {"lock": State(lock)}, lock),
        metadata=[route, meta],
        ingress=[
            Table("servers", [lock.id[0:_PARTITION_BITS]], kind=Key.INDEX, size=PARTITIONS, actions=[SERVER]),
            Table("locks", [lock.id], size=locks, actions=[LOCAL],
                  when=fresh & one_of(lock.op, (Op.ACQUIRE, Op.RELEASE, Op.PUSH_BACK))),
            Access(bounds, index, [RegisterAction("read", True, out=[
                assign(meta.left, bounds.word.left), assign(meta.right, bounds.word.right),
                assign(meta.shrink, bounds.word.shrink),
            ])], when=found),
            Compute("follow", [assign(meta.length, meta.right - meta.left + 1), assign(meta.next, _after(meta.at))]),
            Access(spaces, index, [
                RegisterAction("take", acquire, update={
                    "empty": mux(roomy, empty - 1, empty), "server": mux(roomy, server, sat_add(server, 1)),
                }, out=[
                    assign(meta.queued, roomy), assign(meta.to_server, ~roomy),
                    assign(meta.was_empty, ~holds_some), assign(meta.backlog, server),
                ]),
                RegisterAction("take_back", push, update={
                    "empty": mux(has_slot, empty - 1, empty), "server": mux(has_slot, _less_one(server), server),
                }, out=[
                    assign(meta.queued, has_slot), assign(meta.to_server, ~has_slot),
                    assign(meta.was_empty, ~holds_some), assign(meta.backlog, server),
                ]),
                RegisterAction("give", release, update={"empty": mux(holds_some, empty + 1, empty)}, out=[
                    assign(meta.popped, holds_some), assign(meta.emptied, empty + 1 == meta.length),
                    assign(meta.backlog, server),
                ]),
            ], when=found),
            Access(tail, index, [
                RegisterAction("put", meta.queued, update={"position": _after(tail.word.position)},
                               out=[assign(meta.at, tail.word.position)]),
                RegisterAction("look", meta.recirculated, out=[assign(meta.last, meta.next == tail.word.position)]),
            ], when=found),
            Access(head, index, [
                RegisterAction("pop", meta.popped, update={"position": _after(head.word.position)}, out=[
                    assign(meta.at, head.word.position), assign(meta.next, _after(head.word.position))]),
            ], when=found),
            Access(queue, at, [
                RegisterAction("write", meta.queued, update={
                    "ip": ipv4.source, "mode": lock.mode, "client": lock.client, "task": lock.task,
                    "timestamp": lock.timestamp,
                }, out=[assign(meta.exclusive, lock.mode[0])]),
                RegisterAction("dequeue", meta.popped, out=[assign(meta.exclusive, queue.word.mode[0])]),
                RegisterAction("next", meta.recirculated, out=[
                    assign(meta.exclusive, queue.word.mode[0]), assign(lock.mode, queue.word.mode),
                    assign(lock.client, queue.word.client), assign(lock.task, queue.word.task),
                    assign(lock.timestamp, queue.word.timestamp),
                ]),
            ], when=found),
            Access(counts, index, [
                RegisterAction("ask_shared", meta.queued & ~meta.exclusive, update={
                    "shared": mux(may_join, shared + 1, shared),
                }, out=[assign(meta.grant, may_join)]),
                RegisterAction("ask_exclusive", meta.queued, update={"exclusive": exclusive + 1},
                               out=[assign(meta.grant, meta.was_empty)]),
                RegisterAction("end_shared", meta.popped & ~meta.exclusive, update={
                    "shared": _less_one(shared), "granting": granting | last_holder,
                }, out=[assign(meta.go_on, last_holder)]),
                RegisterAction("end_exclusive", meta.popped, update={
                    "exclusive": _less_one(exclusive), "granting": granting | hands_over,
                }, out=[assign(meta.go_on, hands_over)]),
                RegisterAction("grant_shared", meta.recirculated & ~meta.exclusive, update={
                    "shared": shared + 1, "granting": ~meta.last,
                }, out=[assign(meta.grant, 1), assign(meta.go_on, ~meta.last)]),
                RegisterAction("grant_exclusive", meta.recirculated, update={"granting": 0},
                               out=[assign(meta.grant, shared == 0)]),
            ], when=found),
        ],
        copies=[
            Copy("to_server", meta.to_server | notice | (fresh & ~found & one_of(
                lock.op, (Op.ACQUIRE, Op.RELEASE, Op.PUSH_BACK))), [
                assign(route.host, meta.server), assign(route.to_client, 0),
                assign(lock.op, mux(push, Op.ACQUIRE, lock.op)),
                assign(lock.flags, mux(found, mux(
                    notice | (meta.was_empty & (meta.backlog == 0)),
                    _flags(Flag.OVERFLOW | Flag.EMPTY), _flags(Flag.OVERFLOW)), _flags(Flag.NONE))),
                assign(lock.task, mux(notice, meta.length, lock.task)),
                assign(lock.timestamp, mux(notice, meta.backlog.resize(64), lock.timestamp)),
            ]),
            Copy("grant", meta.grant, [
                assign(lock.op, Op.DIRECT_GRANT), assign(lock.flags, Flag.NONE),
                assign(route.host, lock.client), assign(route.to_client, 1),
            ]),
            Copy("again", meta.go_on, [
                assign(meta.recirculated, 1), assign(meta.at, meta.next), assign(meta.queued, 0),
                assign(meta.popped, 0), assign(meta.grant, 0), assign(meta.go_on, 0), assign(meta.to_server, 0),
            ], recirculate=True),
        ],
        egress=[host_table()],
        emit=[ethernet, ipv4, udp, lock],
        checksums=[IPV4_CHECKSUM, udp_checksum(lock)],
    )


def _flags(value: Flag) -> Expr:
    return Const(value, 8)
