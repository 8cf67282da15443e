# SPDX-License-Identifier: Apache-2.0
"""Credits that other nodes have here, and credits that are owed to them."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal, signed
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


class _Step(data.Struct):
    """What is done to an account."""

    account: Account
    give: 1  # what is owed...
    pay: 1  # ...by a packet, if it is enough...
    late: 1  # ...or if it is anything
    spend: 1
    owe: 1
    open: 1
    clear: 1
    credits: 8


class OwedCredits(wiring.Component):
    """Keep an account for each other node on each communicator.

    A node may send as many packets as it has credits. Each packet spends one, and once its buffer is free again, one is
    owed; owed credits are given back at the next ``take``, or by a packet of their own as soon as the threshold is
    reached (:func:`rackgate.collective.packets.abi.credit_threshold`), or, fewer than that, while ``idle``: then the
    accounts are looked at in turn, one a cycle, as long as any is owed something. What a node has, what it is owed and
    what it has in buffers come to what it was opened with, always.

    One change a cycle, seen by the next: ``take`` is never put off, then ``change`` goes before ``owe``, and that
    before packets. A packet shows 6 cycles after the change that makes it due, if nothing is in the way; by then it may
    take more credits along, and if a ``take`` came before it, it need not be sent. ``ready`` depends on ``take``, that
    of ``owe`` also on ``change.valid``.

    Reset clears the accounts, which takes a cycle each: nothing is taken until then.

    Parameters
    ----------
    communicators, nodes:
        Powers of two up to 8 and 16; proofs make them small.

    Members
    -------
    change:
        Changes (:class:`AccountChange`). One that does nothing is for ``may_spend``.
    may_spend:
        The account of the last change had a credit before it, from the cycle after it on.
    owe:
        Accounts that are owed one more.
    take, account:
        Strobe: give back what ``account`` is owed.
    count:
        In the cycle after: how much that was.
    idle:
        Packets for few credits are in nobody's way.
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
            "idle": In(1),
            "packet": Out(stream.Signature(CreditPacket)),
        })
        accounts = self.communicators * self.nodes
        self._entries = Memory(shape=_Entry, depth=accounts, init=[])
        self._uncleared = Signal(range(accounts + 1), init=accounts)
        self._thresholds = Array(Signal(8, name=f"threshold_{k}") for k in range(self.communicators))
        self._due = Queue(Account, depth=accounts, block_ram=accounts > 16)
        # What all accounts together are owed, and what the last change adds to it; the account to look at when idle.
        self._total, self._added, self._place = Signal(16), Signal(signed(9)), Signal(range(accounts))
        # Two stages: the account's entry is read, or taken from the step before, then it is changed.
        self._step, self._has_step, self._entry = Signal(_Step), Signal(), Signal(_Entry)
        self._threshold = Signal(8)  # of its communicator
        self._after = Signal(_Entry)

    def _index(self, account):
        return Cat(account.node[:exact_log2(self.nodes)], account.communicator[:exact_log2(self.communicators)])

    def _account(self, step):
        """A step's account, from its number."""
        return Cat(step.account.node[:exact_log2(self.nodes)], step.account.communicator)

    def elaborate(self, platform):
        m = Module()
        m.submodules.entries, m.submodules.due = self._entries, self._due
        read, write = self._entries.read_port(domain="comb"), self._entries.write_port()
        entry, seen = Signal(_Entry), Signal(8)
        step, has_step, change = Signal(_Step), Signal(), self.change.payload
        is_swept, may_pay, pays, pays_late = self._uncleared == 0, Signal(), Signal(), Signal()
        m.d.comb += [
            self.change.ready.eq(~self.take & is_swept),
            self.owe.ready.eq(self.change.ready & ~self.change.valid),
            may_pay.eq(self.owe.ready & ~self.owe.valid & ~self.packet.valid & ~(self._has_step & self._step.pay)),
            pays.eq(may_pay & self._due.o.valid),
            pays_late.eq(may_pay & ~self._due.o.valid & self.idle & (self._total != 0)),
            self._due.o.ready.eq(pays),
            has_step.eq(self.take | ~is_swept | self.change.valid | self.owe.valid | pays | pays_late),
        ]
        with m.If(self.take):
            m.d.comb += [step.account.eq(self.account), step.give.eq(1)]
        with m.Elif(~is_swept):
            m.d.comb += [self._account(step).eq(self._uncleared - 1), step.clear.eq(1)]
            m.d.sync += self._uncleared.eq(self._uncleared - 1)
        with m.Elif(self.change.valid):
            m.d.comb += [
                step.account.eq(change.account), step.spend.eq(change.spend), step.owe.eq(change.owe),
                step.open.eq(change.open), step.credits.eq(change.credits),
            ]
            m.d.sync += seen.eq(entry.granted)
        with m.Elif(self.owe.valid):
            m.d.comb += [step.account.eq(self.owe.payload), step.owe.eq(1)]
        with m.Elif(self._due.o.valid):
            m.d.comb += [step.account.eq(self._due.o.payload), step.pay.eq(1)]
        with m.Else():
            m.d.comb += [self._account(step).eq(self._place), step.pay.eq(1), step.late.eq(1)]
        with m.If(pays_late):
            m.d.sync += self._place.eq(self._place + 1)

        index, last = self._index(step.account), self._index(self._step.account)
        m.d.comb += [
            read.addr.eq(index),
            entry.eq(Mux(self._has_step & (index == last), self._after, read.data)),
            self.may_spend.eq(seen != 0),
            self.count.eq(self._entry.owed),
            write.addr.eq(last), write.data.eq(self._after), write.en.eq(self._has_step),
        ]
        opens, opened = self._has_step & self._step.open, (self._step.credits + 1) >> 1
        with m.If(opens):
            m.d.sync += self._thresholds[self._step.account.communicator].eq(opened)
        m.d.sync += [
            self._step.eq(step), self._has_step.eq(has_step), self._entry.eq(entry),
            self._threshold.eq(Mux(opens & (step.account.communicator == self._step.account.communicator),
                                   opened, self._thresholds[step.account.communicator])),
        ]
        self._change(m)
        return m

    def _change(self, m):
        """Second stage."""
        step, entry, after, threshold, is_due = self._step, self._entry, self._after, self._threshold, Signal()
        is_paid = Signal()
        m.d.comb += [
            is_due.eq((threshold != 0) & (entry.owed + step.owe >= threshold)),
            is_paid.eq(step.pay & (is_due | step.late & (threshold != 0) & (entry.owed != 0))),
            after.eq(entry),
            self._due.i.payload.eq(step.account),
        ]
        with m.If(step.spend):
            m.d.comb += after.granted.eq(entry.granted - 1)
        with m.If(step.owe):
            m.d.comb += after.owed.eq(entry.owed + 1)
            with m.If(self._has_step & is_due & ~entry.is_queued):
                m.d.comb += [self._due.i.valid.eq(1), after.is_queued.eq(1)]
        with m.If(step.pay & ~step.late):
            m.d.comb += after.is_queued.eq(0)
        with m.If(step.give | is_paid):
            m.d.comb += [after.granted.eq(entry.granted + entry.owed), after.owed.eq(0)]
        with m.If(step.open):
            m.d.comb += [after.granted.eq(step.credits), after.owed.eq(0)]
        with m.If(step.clear):
            m.d.comb += after.eq(0)

        with m.If(self.packet.ready):
            m.d.sync += self.packet.valid.eq(0)
        with m.If(self._has_step & step.pay):
            m.d.sync += [
                self.packet.valid.eq(is_paid),
                self.packet.payload.communicator.eq(step.account.communicator),
                self.packet.payload.node.eq(step.account.node),
                self.packet.payload.count.eq(entry.owed),
            ]
        m.d.sync += [
            self._added.eq(Mux(self._has_step & ~step.clear, after.owed - entry.owed, 0)),
            self._total.eq(self._total + self._added),
            Assert(~(self._has_step & step.spend) | (entry.granted != 0), "a credit is spent that nobody has"),
            Assert(~self._due.i.valid | self._due.i.ready, "an account is due twice"),
            Assert(~self._has_step | (after.granted + after.owed < 256), "more credits than an account holds"),
        ]
