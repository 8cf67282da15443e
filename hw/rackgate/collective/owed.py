# SPDX-License-Identifier: Apache-2.0
"""Credits that other nodes have here, and credits that are owed to them."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.collective.abi import COMMUNICATORS, NODES
from rackgate.collective.records import CreditPacket
from rackgate.stream.queue import Queue

__all__ = ["Account", "AccountChange", "OwedCredits"]


class Account(data.Struct):
    """Whose credits: those of ``node`` on ``communicator``."""

    communicator: 3
    node: 4


class AccountChange(data.Struct):
    """Any of: ``spend`` a credit (of those it has); ``owe`` one; ``open``: have ``credits``, and owe none."""

    account: Account
    spend: 1
    owe: 1
    open: 1
    credits: 8


class _Entry(data.Struct):
    granted: 8  # packets that the node may still send
    owed: 8  # credits to be given back
    is_queued: 1  # is in the queue of those to be sent a packet


class OwedCredits(wiring.Component):
    """Keep an account for each other node on each communicator.

    A node may send as many packets as it has credits. Each packet spends one, and once its buffer is free again, one is
    owed; owed credits are given back at the next ``take``, or by a packet of their own as soon as the threshold is
    reached (:func:`rackgate.collective.abi.credit_threshold`). What a node has, what it is owed and what it has in
    buffers come to what it was opened with, always.

    One change a cycle: ``take`` is never put off, then ``change`` goes before ``owe``, and that before packets. A
    packet shows 4 cycles after the change that makes it due, if nothing is in the way; by then it may take more
    credits along, and if a ``take`` came before it, it need not be sent. ``ready`` depends on ``take``, that of
    ``owe`` also on ``change.valid``.

    Reset clears the accounts, which takes a cycle each: nothing is taken until then.

    Parameters
    ----------
    communicators, nodes:
        Powers of two up to 8 and 16; proofs make them small.

    Members
    -------
    change:
        Changes (:class:`AccountChange`).
    may_spend:
        The account of ``change`` has a credit; combinational, holds while ``change.ready``.
    owe:
        Accounts that are owed one more.
    take, account:
        Strobe: give back what ``account`` is owed.
    count:
        In the cycle after: how much that was.
    packet:
        Credits to be given back by a packet of their own. They have been taken from what is owed.
    """

    change: stream.Interface
    owe: stream.Interface
    packet: stream.Interface

    def __init__(self, *, communicators: int = COMMUNICATORS, nodes: int = NODES):
        self.communicators, self.nodes = operator.index(communicators), operator.index(nodes)
        if self.communicators not in (1, 2, 4, 8):
            raise ValueError(f"communicators must be a power of two up to 8, not {communicators}")
        if self.nodes not in (2, 4, 8, 16):
            raise ValueError(f"nodes must be a power of two from 2 to 16, not {nodes}")
        super().__init__({
            "change": In(stream.Signature(AccountChange)),
            "may_spend": Out(1),
            "owe": In(stream.Signature(Account)),
            "take": In(1), "account": In(Account), "count": Out(8),
            "packet": Out(stream.Signature(CreditPacket)),
        })
        accounts = self.communicators * self.nodes
        self._entries = Memory(shape=_Entry, depth=accounts, init=[])
        self._uncleared = Signal(range(accounts + 1), init=accounts)
        self._thresholds = Array(Signal(8, name=f"threshold_{k}") for k in range(self.communicators))
        self._due = Queue(Account, depth=accounts, block_ram=accounts > 16)

    def elaborate(self, platform):
        m = Module()
        m.submodules.entries, m.submodules.due = self._entries, self._due
        clears, pays = Signal(), Signal()
        account, change, owes = Signal(Account), self.change.payload, Signal()
        m.d.comb += [
            clears.eq((self._uncleared != 0) & ~self.take),
            self.change.ready.eq(~self.take & (self._uncleared == 0)),
            self.owe.ready.eq(self.change.ready & ~self.change.valid),
            pays.eq(self.owe.ready & ~self.owe.valid & self._due.o.valid & (~self.packet.valid | self.packet.ready)),
            self._due.o.ready.eq(pays),
            account.eq(Mux(self.take, self.account, Mux(self.change.valid, change.account, Mux(
                self.owe.valid, self.owe.payload, self._due.o.payload)))),
        ]

        read, write = self._entries.read_port(domain="comb"), self._entries.write_port()
        entry, after, threshold = read.data, write.data, Signal(8)
        index = Cat(account.node[:exact_log2(self.nodes)], account.communicator[:exact_log2(self.communicators)])
        is_due = Signal()
        m.d.comb += [
            read.addr.eq(index),
            write.addr.eq(Mux(clears, self._uncleared - 1, index)),
            threshold.eq(self._thresholds[account.communicator]),
            self.may_spend.eq(entry.granted != 0),
            after.eq(Mux(clears, 0, entry)),
        ]
        gives = self.take | pays & is_due
        m.d.comb += is_due.eq((threshold != 0) & (entry.owed + owes >= threshold))
        with m.If(clears):
            m.d.comb += write.en.eq(1)
            m.d.sync += self._uncleared.eq(self._uncleared - 1)
        with m.If(gives):
            m.d.comb += [after.granted.eq(entry.granted + entry.owed), after.owed.eq(0), write.en.eq(1)]
        with m.If(pays):
            m.d.comb += [after.is_queued.eq(0), write.en.eq(1)]
        with m.If(self.change.valid & self.change.ready):
            m.d.comb += write.en.eq(1)
            with m.If(change.spend):
                m.d.comb += after.granted.eq(entry.granted - 1)
            with m.If(change.open):
                m.d.comb += [after.granted.eq(change.credits), after.owed.eq(0)]
                m.d.sync += self._thresholds[account.communicator].eq((change.credits + 1) >> 1)
            m.d.comb += owes.eq(change.owe)
            m.d.sync += Assert(~change.spend | self.may_spend, "a credit is spent that nobody has")
        with m.If(self.owe.valid & self.owe.ready):
            m.d.comb += owes.eq(1)
        with m.If(owes):
            m.d.comb += [after.owed.eq(entry.owed + 1), write.en.eq(1)]
            with m.If(is_due & ~entry.is_queued):
                m.d.comb += [self._due.i.valid.eq(1), after.is_queued.eq(1)]
        m.d.comb += self._due.i.payload.eq(account)

        m.d.sync += self.count.eq(entry.owed)
        with m.If(self.packet.ready):
            m.d.sync += self.packet.valid.eq(0)
        with m.If(pays):
            m.d.sync += [
                self.packet.valid.eq(is_due),
                self.packet.payload.communicator.eq(account.communicator),
                self.packet.payload.node.eq(account.node),
                self.packet.payload.count.eq(entry.owed),
            ]
        m.d.sync += [
            Assert(~self._due.i.valid | self._due.i.ready, "an account is due twice"),
            Assert(~write.en | clears | (after.granted + after.owed < 256), "more credits than an account holds"),
        ]
        return m
