# SPDX-License-Identifier: Apache-2.0
"""The lock switch that users run: one word a lock, read and changed once a packet. Plain Python.

A word has a state (:class:`~rackgate.fisslock.abi.State`), the host that is the agent, a count of the shared grants
that the switch has made in this epoch, and the epoch: an agentship has one or, when it is renewed, several.

======================  ====================  ===============================  =======================================
packet                  word                  word afterwards                  what leaves
======================  ====================  ===============================  =======================================
ACQUIRE                 free                  requester is agent, epoch + 1    GRANT_W_AGENT to the requester
shared, first           shared, count below   count + 1                        GRANT_WO_AGENT to the requester, and
transmission            its largest                                            ACQUIRE with GRANTED to the agent
exclusive, not TRY      shared                SHARED_WRITER                    ACQUIRE to the agent
any other ACQUIRE       held                  unchanged                        ACQUIRE to the agent
RELEASE                 held                  unchanged                        RELEASE to the agent: without the number
                                                                               of the grant if of another epoch
RELEASE                 free                  unchanged                        nothing
FREE of its agent and   held                  free, agent and count 0          ACK to the sender
epoch, count agrees
TRANSFER, as before     held                  next holder is agent, count 0,   GRANT_W_AGENT and the waiters to the
                                              epoch + 1                        next holder, ACK to the sender
RENEW, as before        held                  count 0, epoch + 1; with CANCEL  ACK to the sender
                                              SHARED_WRITER becomes SHARED
one of these, count     held                  unchanged                        REJECT with the count to the sender
differs
any other FREE,         any                   unchanged                        ACK to the sender: that epoch is over
TRANSFER or RENEW
======================  ====================  ===============================  =======================================

An ACK says which epoch the lock is in. GRANT_WO_AGENT, WAITING, REFUSE, QUERY and REPORT from a host go to the host
``machine_id``. All other packets, those of locks that there are not, and those with a host that the word has no room
for, are dropped.

Why each rule is there, and what the hosts do, is in ``docs/fisslock.md``.
"""

from rackgate.net.headers import IPV4_CHECKSUM, ethernet, ipv4, udp, udp_checksum, udp_parser
from rackgate.net.hosts import host_table, route
from rackgate.pisa.declare import (
    ACCEPT,
    REJECT,
    Access,
    Copy,
    Header,
    Metadata,
    Pipeline,
    Register,
    RegisterAction,
    assign,
)
from rackgate.pisa.declare import State as ParserState
from rackgate.pisa.expr import Const, Expr, mux, one_of

from .abi import AGENT_PORT, CLIENT_PORT, HARDENED_SIZE, VERSION, WORD_FORMATS, State, Type, WordFormat

__all__ = ["lock", "pipeline"]

#: The lock header, 24 bytes: :class:`rackgate.fisslock.abi.Message`.
lock = Header("lock", version=8, type=8, void=1, granted=1, transferred=1, retry=1, no_wait=1, writer=1, cancel=1,
              exclusive=1, count=8, id=32, epoch=32, machine_id=8, agent=8, waiters=16, task_id=32, attempt=32)

_UDP_SIZE, _IPV4_SIZE = 8, 20
_TO_CLIENTS = (Type.GRANT_WO_AGENT, Type.WAITING, Type.REFUSE)
_TO_AGENTS = (Type.QUERY, Type.REPORT)


def pipeline(locks: int = 65536, word: int | WordFormat = 36) -> Pipeline:
    """The switch for locks below ``locks``.

    Parameters
    ----------
    locks:
        1 to 2**32. After a reset all are free, in epoch 0.
    word:
        Width of a word, a key of :data:`~rackgate.fisslock.abi.WORD_FORMATS`, or a format of one's own, with 2 bits
        of state, 1 to 8 of agent and of count, 1 to 32 of epoch. With fewer than 7 bits of epoch, hosts must renew
        less often than they do by themselves (``most_renewals`` of :class:`~rackgate.fisslock.core.Core`).

    Raises
    ------
    ValueError
        A parameter is out of its range.
    """
    if not 1 <= locks <= 1 << 32:
        raise ValueError(f"locks must be 1 to 2**32, not {locks}")
    form = _format(word)
    register = Register("locks", locks, state=form.state, agent=form.agent, count=form.count, epoch=form.epoch)
    now = register.word
    meta = Metadata("verdict", grant=1, makes_agent=1, tell=1, joined=1, answer=1, rejected=1, agent=8, count=8,
                    epoch=32)

    def is_host(number: Expr) -> Expr:
        fits: Expr = number != 0
        return fits & (number[form.agent:8] == 0) if form.agent < 8 else fits

    free, shared = now.state == State.FREE, now.state == State.SHARED
    joins = shared & ~lock.exclusive & ~lock.retry & (now.count != (1 << form.count) - 1)
    writer = shared & lock.exclusive & ~lock.no_wait
    as_asked = mux(lock.exclusive, State.EXCLUSIVE, mux(lock.writer, Const(State.SHARED_WRITER, 2), State.SHARED))
    acquire = RegisterAction(
        "acquire", (lock.type == Type.ACQUIRE) & is_host(lock.machine_id), update={
            "state": mux(free, mux(lock.exclusive, Const(State.EXCLUSIVE, 2), State.SHARED),
                         mux(writer, State.SHARED_WRITER, now.state)),
            "agent": mux(free, lock.machine_id[0:form.agent], now.agent),
            "count": now.count + joins.resize(form.count),
            "epoch": now.epoch + free.resize(form.epoch),
        }, out=[
            assign(meta.grant, free | joins), assign(meta.makes_agent, free), assign(meta.tell, ~free),
            assign(meta.joined, joins), assign(meta.agent, mux(free, lock.machine_id, now.agent.resize(8))),
            assign(meta.count, mux(joins, now.count.resize(8) + 1, 0)),
            assign(meta.epoch, (now.epoch + free.resize(form.epoch)).resize(32)),
        ])
    this_epoch = lock.epoch == now.epoch.resize(32)
    release = RegisterAction("release", lock.type == Type.RELEASE, out=[
        assign(meta.tell, ~free), assign(meta.agent, now.agent.resize(8)),
        assign(meta.count, mux(this_epoch, lock.count, 0)), assign(meta.epoch, now.epoch.resize(32)),
    ])

    transfer, renew = lock.type == Type.TRANSFER, lock.type == Type.RENEW
    own = ~free & (now.agent.resize(8) == lock.agent) & this_epoch
    ends = own & (now.count.resize(8) == lock.count)
    begins, passes = ends & (transfer | renew), ends & transfer
    renewed = mux(lock.cancel & (now.state == State.SHARED_WRITER), Const(State.SHARED, 2), now.state)
    end = RegisterAction("end", (lock.type == Type.FREE) | renew | (transfer & is_host(lock.machine_id)), update={
        "state": mux(ends, mux(transfer, as_asked, mux(renew, renewed, State.FREE)), now.state),
        "agent": mux(ends & ~renew, mux(transfer, lock.machine_id[0:form.agent], 0), now.agent),
        "count": mux(ends, 0, now.count),
        "epoch": now.epoch + begins.resize(form.epoch),
    }, out=[
        assign(meta.grant, passes), assign(meta.makes_agent, 1), assign(meta.answer, 1),
        assign(meta.rejected, own & ~ends), assign(meta.agent, lock.machine_id),
        assign(meta.count, now.count.resize(8)), assign(meta.epoch, (now.epoch + begins.resize(form.epoch)).resize(32)),
    ])

    return Pipeline(
        f"fisslock_hardened_{form.width}",
        parser=udp_parser({AGENT_PORT: "lock", CLIENT_PORT: "lock"},
                          {"lock": ParserState(lock, [lock.version], {VERSION: ACCEPT}, REJECT)}, lock),
        metadata=[route, meta],
        ingress=[Access(register, lock.id, [acquire, release, end])],
        copies=[
            Copy("grant", meta.grant, [
                assign(lock.type, mux(meta.makes_agent, Const(Type.GRANT_W_AGENT, 8), Type.GRANT_WO_AGENT)),
                assign(lock.transferred, lock.type == Type.TRANSFER), assign(lock.epoch, meta.epoch),
                assign(lock.agent, meta.agent), assign(lock.count, mux(meta.makes_agent, 0, meta.count)),
                assign(route.host, lock.machine_id), assign(route.to_client, 1),
            ]),
            Copy("tell", meta.tell, [
                assign(lock.granted, meta.joined), assign(lock.epoch, meta.epoch), assign(lock.agent, meta.agent),
                assign(lock.count, meta.count), assign(route.host, meta.agent), assign(route.to_client, 0),
            ]),
            Copy("answer", meta.answer, [
                assign(lock.type, mux(meta.rejected, Const(Type.REJECT, 8), Type.ACK)),
                assign(lock.count, meta.count), assign(lock.waiters, 0),
                assign(lock.task_id, mux(meta.rejected, lock.task_id, meta.epoch)),
                assign(ipv4.total_length, _IPV4_SIZE + _UDP_SIZE + HARDENED_SIZE),
                assign(udp.length, _UDP_SIZE + HARDENED_SIZE),
                assign(route.host, lock.agent), assign(route.to_client, 1),
            ], payload=False),
            Copy("between_hosts", one_of(lock.type, (*_TO_CLIENTS, *_TO_AGENTS)), [
                assign(route.host, lock.machine_id), assign(route.to_client, one_of(lock.type, _TO_CLIENTS)),
            ]),
        ],
        emit=[ethernet, ipv4, udp, lock],
        egress=[host_table()],
        checksums=[IPV4_CHECKSUM, udp_checksum(lock)],
    )


def _format(word: int | WordFormat) -> WordFormat:
    if isinstance(word, WordFormat):
        if word.state != 2 or not (1 <= word.agent <= 8 and 1 <= word.count <= 8 and 1 <= word.epoch <= 32):
            raise ValueError(f"word must have 2 bits of state, 1 to 8 of agent and of count, 1 to 32 of epoch: {word}")
        return word
    if word not in WORD_FORMATS:
        raise ValueError(f"word must be one of {', '.join(map(str, WORD_FORMATS))}, not {word}")
    return WORD_FORMATS[word]
