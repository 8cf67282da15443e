# SPDX-License-Identifier: Apache-2.0
"""Moves of all contexts: into segments, in the order that their data and credits allow."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import COMMUNICATORS, CONTEXTS, MOVES
from rackgate.collective.isa import Other
from rackgate.collective.moves.credits import Credits
from rackgate.collective.moves.installer import Installer, Post
from rackgate.collective.moves.lifecycle import Lifecycle
from rackgate.collective.moves.scheduler import Scheduler
from rackgate.collective.records import (
    Clear,
    Credit,
    Done,
    Failure,
    Move,
    Opening,
    Packet,
    Received,
    ReceiveSegment,
    Retired,
    SendSegment,
)

__all__ = ["MoveUnit"]


class MoveUnit(wiring.Component):
    """Take moves from the sequencer and give segments to the lanes.

    A lone move's segment is at its lane 10 cycles after the move was taken; segments of one move follow each other in
    6 cycles, those of several in 5. Moves of a context wait for earlier ones only where they share memory; moves of
    different contexts never do.

    Parameters
    ----------
    segment:
        As in :class:`~rackgate.collective.moves.scheduler.Scheduler`.

    Members
    -------
    move:
        Moves; of each context at most four under way, counted by ``done``.
    post, cancel, has_packet, front, take, taken:
        The queues of received packets.
    open, credit:
        Communicators that open; credits that came back.
    clear, cleared, is_cleared:
        Messages that may be sent on to here, and, by a strobe, one of this node.
    communicator, node, take_credit, owed:
        What is owed to whom a packet goes, to ride with it: asked for in the cycle of ``take_credit``, there in the
        next.
    send, receive, retired_send, retired_receive, stuck:
        The lanes.
    timeout, done, failed, failure, kill, killed:
        As in :class:`~rackgate.collective.moves.lifecycle.Lifecycle`.
    received:
        A packet that a move has taken.
    stalled:
        A move waits for credit.

    Reset forgets all moves and credits.
    """

    move: stream.Interface

    def __init__(self, segment=1024):
        self._scheduler, self._installer = Scheduler(segment), Installer(segment)
        super().__init__({
            "move": In(stream.Signature(Move)),
            "post": Out(stream.Signature(Post)),
            "cancel": Out(stream.Signature(data.StructLayout({"move": 4}))),
            "has_packet": In(MOVES + 1), "front": Out(5), "take": Out(1), "taken": In(Packet),
            "open": In(stream.Signature(Opening)), "credit": In(stream.Signature(Credit)),
            "clear": Out(stream.Signature(Clear)), "cleared": In(Clear), "is_cleared": In(1),
            "communicator": Out(3), "node": Out(4), "take_credit": Out(1), "owed": In(8),
            "send": Out(stream.Signature(SendSegment)), "receive": Out(stream.Signature(ReceiveSegment)),
            "retired_send": In(stream.Signature(Retired)), "retired_receive": In(stream.Signature(Retired)),
            "stuck": Out(1),
            "timeout": In(32),
            "done": Out(Done), "failed": Out(CONTEXTS), "failure": Out(data.ArrayLayout(Failure, CONTEXTS)),
            "kill": In(CONTEXTS), "killed": Out(CONTEXTS),
            "received": Out(Received),
            "stalled": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.installer = installer = self._installer
        m.submodules.scheduler = scheduler = self._scheduler
        m.submodules.lifecycle = lifecycle = Lifecycle()
        m.submodules.credits = credits = Credits()
        wiring.connect(m, wiring.flipped(self.move), installer.i)
        for part, name in ((installer, "post"), (lifecycle, "cancel"), (scheduler, "send"), (scheduler, "receive"),
                           (scheduler, "clear")):
            wiring.connect(m, getattr(part, name), wiring.flipped(getattr(self, name)))
        for part, inner, name in ((lifecycle, "retired_send", "retired_send"), (credits, "open", "open"),
                                  (lifecycle, "retired_receive", "retired_receive"), (credits, "add", "credit")):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(part, inner))
        m.d.comb += [
            *(getattr(lifecycle, name).eq(getattr(self, name)) for name in ("timeout", "kill")),
            *(getattr(self, name).eq(getattr(lifecycle, name))
              for name in ("stuck", "done", "failed", "failure", "killed")),
            *(getattr(scheduler, name).eq(getattr(self, name))
              for name in ("has_packet", "taken", "owed", "cleared", "is_cleared")),
            *(getattr(self, name).eq(getattr(scheduler, name))
              for name in ("front", "take", "communicator", "node", "take_credit", "received")),
            lifecycle.arriving.eq(Cat(
                self.move.valid & (self.move.payload.context == k) | installer.busy & (installer.move[2:] == k)
                | scheduler.deciding[k]
                for k in range(CONTEXTS))),
        ]
        self._join(m, installer, scheduler, lifecycle, credits)
        self._limit(m, installer, credits)
        return m

    def _limit(self, m, installer, credits):
        """How large a message does not ask, of each communicator; it counts from when that has been opened."""
        m.submodules.limits = limits = Memory(shape=8, depth=COMMUNICATORS, init=[])
        write, read, opening = limits.write_port(), limits.read_port(domain="comb"), credits.open
        m.d.comb += [
            write.addr.eq(opening.payload.communicator), write.data.eq(opening.payload.eager),
            write.en.eq(opening.valid & opening.ready),
            read.addr.eq(installer.communicator), installer.eager.eq(read.data),
        ]

    def _join(self, m, installer, scheduler, lifecycle, credits):
        """The parts with each other."""
        came = Signal()
        m.d.sync += came.eq(credits.add.valid & credits.add.ready)  # the count says so from this cycle on
        m.d.comb += [
            installer.active.eq(lifecycle.active), installer.hold.eq(scheduler.busy),
            scheduler.install.eq(installer.install), scheduler.place.eq(installer.move),
            scheduler.fixed.eq(installer.fixed), scheduler.progress.eq(installer.progress),
            scheduler.eligible.eq(lifecycle.eligible), scheduler.available.eq(credits.available),
            scheduler.credit_came.eq(came | credits.open.ready & credits.open.valid),
            scheduler.asked.eq(lifecycle.asked), lifecycle.told.eq(scheduler.told),
            credits.communicator.eq(scheduler.credit_communicator), credits.node.eq(scheduler.credit_node),
            credits.look.eq(scheduler.look_credit), credits.take.eq(scheduler.take_credit),
            lifecycle.install.eq(installer.install), lifecycle.place.eq(installer.move),
            lifecycle.conflicts.eq(installer.conflicts),
            lifecycle.is_receive.eq(installer.fixed.control.other == Other.RECEIVE),
            *(getattr(lifecycle, name).eq(getattr(scheduler, name))
              for name in ("issued", "issued_move", "issued_last", "refused", "refusal", "waits_credit",
                           "waits_packet", "waits_clear")),
            self.stalled.eq((scheduler.waits_credit & lifecycle.eligible).any()),
        ]
