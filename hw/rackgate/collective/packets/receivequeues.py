# SPDX-License-Identifier: Apache-2.0
"""Which receive gets which packet: matching, queues of packets, and their buffers' credits."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import COMMUNICATORS, MOVES, NODES, HeaderFlag, PacketType
from rackgate.collective.packets.owed import AccountChange, OwedCredits
from rackgate.collective.packets.postedkeys import PostedKeys
from rackgate.collective.packets.slotstore import SlotStore
from rackgate.collective.packets.unexpected import UnexpectedScan
from rackgate.collective.records import SLOT_BITS, Clear, Credit, CreditPacket, HeaderFields, Key, Packet, ProbedPacket

__all__ = ["Admission", "ReceiveQueues"]


class Admission(data.Struct):
    """What becomes of the payload behind a header: it goes to ``slot``, or nowhere (``drop``)."""

    slot: SLOT_BITS
    drop: 1


class ReceiveQueues(wiring.Component):
    """Keep packets until they are taken, each in the queue of the move that waits for it.

    A DATA packet goes to the move whose key it matches, to the queue of streams if it has flag STREAM, and otherwise to
    the unexpected ones of its source. A move that is posted gets the unexpected packets that match, in the order in
    which they came, until one has flag LAST; then those that come, until then too. ANY fields of its key are bound by
    the first packet; where several sources have one, by that of the lowest node. Packets are dropped if their
    communicator is not open, or broken (the credit is then owed back), or if they have no credit; and if there is no
    slot, which cannot be if no more credits were given than there are slots (the credit is owed back).

    Timing: a header is taken 2 cycles after it came, unless something else is under way, and one can be taken every
    4 cycles; its packet shows in ``has_packet`` 3 cycles after it came. Headers wait while a move is posted: 3 cycles,
    2 for each packet that is looked at, 3 if it matches, and 1 for each further source if any will do. ``take`` and
    ``owe_take`` are never put off; each puts off all else by a cycle. Nothing here waits for the transmitter.

    Reset forgets everything; nothing is taken until the accounts are cleared, 128 cycles.

    Parameters
    ----------
    slots:
        Receive buffers: 2 to 256.
    moves, nodes, communicators:
        Less than the engine has, for proofs.

    Members
    -------
    header:
        Good headers (of :class:`~rackgate.collective.packets.depacketizer.Depacketizer`).
    admit:
        For each DATA header with a size: where its payload goes (:class:`Admission`).
    is_open, is_broken:
        Bit per communicator.
    open:
        Free all packets of a communicator that wait for receives or streams, owe nothing, and let each node send
        ``credits`` packets. No move and no lane may have packets of it. Also with 0 credits, when it is closed.
    post:
        A move waits for packets with a key. Taken when the unexpected ones have been looked at.
    cancel:
        It waits no longer, and its packets are freed; taken when that is done. Any move will do.
    probe, probed:
        Look for an unexpected packet with a key, and leave it where it is; taken as a post is. What was found, from
        then on until the next probe is looked at.
    has_packet:
        Bit per move, and above them one for streams: there is a packet. None for streams while a communicator opens,
        as it may be freed; that is at least 4 cycles later, in which one that was seen can still be taken.
    take, take_move:
        Strobe: take the first packet of a move, or (number ``moves``) of the streams.
    taken:
        It, in the cycle after, and until the next one.
    free:
        Slots of packets that were taken, when they are needed no more.
    credit:
        Credits that came in.
    cleared, is_cleared:
        This node's message may be sent on: a strobe in the cycle after that of its packet.
    owe_take, owe_communicator, owe_node, owe_count:
        Strobe: give back what is owed to a node; how much that was, in the cycle after.
    credit_packet, idle:
        Credits to be given back by packets of their own; few of them, too, while ``idle``.
    no_buffer, no_communicator, matched_posted, matched_late:
        Strobes, once a packet: dropped for want of a credit or slot, or of a communicator; came after its receive, or
        before.
    """

    def __init__(self, slots: int = 64, *, moves: int = MOVES, nodes: int = NODES, communicators: int = COMMUNICATORS):
        self.moves, self.nodes = operator.index(moves), operator.index(nodes)
        # Queues: of the moves, unexpected ones of the nodes, of streams.
        self._store = store = SlotStore(self.moves + self.nodes + 1, slots=slots)
        self._keys = PostedKeys(self.moves)
        self._accounts = OwedCredits(communicators=communicators, nodes=self.nodes)
        self._scanner = UnexpectedScan(self.nodes, slots=store.slots)
        self.slots = store.slots
        super().__init__({
            "header": In(stream.Signature(HeaderFields)),
            "admit": Out(stream.Signature(Admission)),
            "is_open": In(communicators), "is_broken": In(communicators),
            "open": In(stream.Signature(data.StructLayout({"communicator": 3, "credits": 8}))),
            "post": In(stream.Signature(data.StructLayout({"move": range(self.moves), "key": Key}))),
            "cancel": In(stream.Signature(data.StructLayout({"move": range(self.moves)}))),
            "probe": In(stream.Signature(Key)), "probed": Out(ProbedPacket),
            "has_packet": Out(self.moves + 1),
            "take": In(1), "take_move": In(range(self.moves + 1)), "taken": Out(Packet),
            "free": In(stream.Signature(data.StructLayout({"slot": SLOT_BITS}))),
            "credit": Out(stream.Signature(Credit)),
            "cleared": Out(Clear), "is_cleared": Out(1),
            "owe_take": In(1), "owe_communicator": In(3), "owe_node": In(4), "owe_count": Out(8),
            "credit_packet": Out(stream.Signature(CreditPacket)), "idle": In(1),
            "no_buffer": Out(1), "no_communicator": Out(1), "matched_posted": Out(1), "matched_late": Out(1),
        })
        # Of a header: which moves wait for it; then, what becomes of it; then, what it does to its account.
        self._matched = Signal(self.moves)
        self._verdict = Signal(data.StructLayout({
            "list": range(self.moves + self.nodes + 1), "move": range(self.moves), "is_posted": 1, "keeps": 1,
            "bounces": 1, "no_communicator": 1, "no_buffer": 1, "has_credit": 1, "has_words": 1, "clears": 1}))
        self._settles, self._has_settles = Signal(AccountChange), Signal()
        self._is_opening = Signal()  # what is scanned for is of a communicator that is opened
        self._has_peeked = Signal()  # the store shows what a probe has found
        self._node = Signal(range(self.nodes))  # whose account is opened
        self._cancelled = Signal(range(self.slots))

    def elaborate(self, platform):
        m = Module()
        store, keys, accounts, scan = self._store, self._keys, self._accounts, self._scanner
        m.submodules.store, m.submodules.keys, m.submodules.accounts, m.submodules.scan = store, keys, accounts, scan
        streams = self.moves + self.nodes
        wiring.connect(m, store.owe, accounts.owe)
        wiring.connect(m, wiring.flipped(self.free), store.free)
        wiring.connect(m, accounts.packet, wiring.flipped(self.credit_packet))
        m.d.comb += [
            self.has_packet.eq(Cat(store.has_slots[:self.moves], store.has_slots[streams] & ~self._is_opening)),
            store.take.eq(self.take),
            store.take_list.eq(Mux(self.take_move == self.moves, streams, self.take_move)),
            self.taken.eq(store.taken),
            accounts.take.eq(self.owe_take),
            accounts.account.communicator.eq(self.owe_communicator),
            accounts.account.node.eq(self.owe_node),
            self.owe_count.eq(accounts.count),
            accounts.idle.eq(self.idle),
            store.previous.eq(scan.previous),
            scan.go.eq(~self.take),
            scan.has_slots.eq(store.has_slots[self.moves:]),
            scan.first.eq(store.first), scan.next.eq(store.next), scan.is_last.eq(store.is_last),
            scan.seen.eq(store.seen),
            *(store.record.packet[name].eq(self.header.payload[name])
              for name in ("size", "flags", "node", "tag", "length", "element", "handle")),
            store.record.is_last.eq((self.header.payload.flags & HeaderFlag.LAST) != 0),
            *(store.record.key[name].eq(self.header.payload[name])
              for name in ("communicator", "operation", "tag", "node")),
            keys.packet.eq(store.record.key),
            keys.key.eq(scan.bound),
            scan.key.eq(self.post.payload.key),
            store.peek.eq(scan.peek),
        ]
        m.d.sync += [self._has_peeked.eq(scan.peek), self.is_cleared.eq(0)]
        with m.If(self._has_peeked):
            m.d.sync += [
                self.probed.found.eq(1),
                self.probed.compressed.eq((store.taken.flags & HeaderFlag.COMPRESSED) != 0),
                *(self.probed[name].eq(store.taken[name]) for name in ("node", "tag", "length", "element")),
            ]
        with m.If(self.admit.ready):
            m.d.sync += self.admit.valid.eq(0)
        with m.If(self.credit.ready):
            m.d.sync += self.credit.valid.eq(0)

        with m.If(~self.take), m.FSM():
            with m.State("IDLE"):
                self._idle(m)
            with m.State("MATCH"):
                self._match(m)
            with m.State("ADMIT"):
                self._admit(m)
            with m.State("SCAN"):
                self._scan(m)
            with m.State("PROBE"):
                self._use_store(m)
                with m.If(scan.done):
                    m.d.comb += self.probe.ready.eq(1)
                    m.next = "IDLE"
            with m.State("OPEN"):
                self._open(m)
            with m.State("CANCEL"):
                self._cancel(m)
            with m.State("CANCEL_SLOT"):
                self._cancel_slot(m)
        with m.If(self._has_settles):
            m.d.comb += [accounts.change.valid.eq(1), accounts.change.payload.eq(self._settles)]
            with m.If(accounts.change.ready):
                m.d.sync += self._has_settles.eq(0)
        m.d.sync += Assert(self.header.payload.node < self.nodes, "a node is too high")
        return m

    def _idle(self, m):
        """Choose what to do: whatever the host and the moves want goes before the next header."""
        accounts, header, scan = self._accounts, self.header.payload, self._scanner
        m.d.sync += [
            self._is_opening.eq(self.open.valid),
            self._node.eq(0),
            self._matched.eq(self._keys.match),
        ]
        with m.If(self.open.valid):
            m.d.comb += [scan.is_purge.eq(1), scan.key.communicator.eq(self.open.payload.communicator)]
        m.d.comb += [  # it changes nothing: only looks, even if the header is not what comes next
            accounts.change.valid.eq(self.header.valid),
            accounts.change.payload.account.communicator.eq(header.communicator),
            accounts.change.payload.account.node.eq(header.node),
        ]
        with m.If(self.cancel.valid):
            m.d.comb += [self._keys.move.eq(self.cancel.payload.move), self._keys.withdraw.eq(1)]
            m.next = "CANCEL"
        with m.Elif(self.open.valid | self.post.valid):
            m.d.comb += scan.start.eq(1)
            m.next = "SCAN"
        with m.Elif(self.probe.valid):
            m.d.comb += [scan.start.eq(1), scan.is_probe.eq(1), scan.key.eq(self.probe.payload)]
            m.d.sync += self.probed.found.eq(0)
            m.next = "PROBE"
        with m.Elif(self.header.valid):
            with m.If(accounts.change.ready & ~self._has_settles):
                m.next = "MATCH"

    def _match(self, m):
        """Decide on a header: to whom its packet goes, or why it is dropped. What is free now, stays so until then."""
        header, verdict, may_spend = self.header.payload, self._verdict, self._accounts.may_spend
        is_data, is_open, is_broken, keeps = Signal(), Signal(), Signal(), Signal()
        is_stream, matched, move = (header.flags & HeaderFlag.STREAM) != 0, Signal(), Signal.like(self._keys.move)
        for k in reversed(range(self.moves)):
            with m.If(self._matched[k]):
                m.d.comb += [matched.eq(~is_stream), move.eq(k)]
        m.d.comb += [
            is_open.eq(self.is_open.bit_select(header.communicator, 1)),
            is_broken.eq(self.is_broken.bit_select(header.communicator, 1)),
            is_data.eq(header.type == PacketType.DATA),
            keeps.eq(is_data & is_open & may_spend & ~is_broken & self._store.has_free),
        ]
        m.d.sync += [
            verdict.list.eq(Mux(is_stream, self.moves + self.nodes, Mux(matched, move, self.moves + header.node))),
            verdict.move.eq(move), verdict.is_posted.eq(matched), verdict.keeps.eq(keeps),
            verdict.bounces.eq(is_data & is_open & may_spend & ~keeps),
            verdict.no_communicator.eq(~is_open | is_data & is_broken & may_spend),
            verdict.no_buffer.eq(is_data & is_open & ~keeps & ~(is_broken & may_spend)),
            verdict.has_credit.eq(is_open & (header.credit != 0)),
            verdict.has_words.eq(is_data & (header.size != 0)),
            verdict.clears.eq(is_open & (header.type == PacketType.CLEAR_TO_SEND)),
        ]
        m.next = "ADMIT"

    def _admit(self, m):
        """Take a header: give its credits on, give its packet a slot and a queue, or drop it."""
        store, keys, header, verdict, goes = self._store, self._keys, self.header.payload, self._verdict, Signal()
        m.d.comb += [
            goes.eq((~verdict.has_credit | ~self.credit.valid | self.credit.ready)
                    & (~verdict.has_words | ~self.admit.valid | self.admit.ready)),
            self.header.ready.eq(goes),
            store.slot.eq(store.free_slot), store.list.eq(verdict.list), keys.move.eq(verdict.move),
        ]
        with m.If(goes):
            m.d.comb += [
                store.fill.eq(verdict.keeps), store.append.eq(verdict.keeps),
                keys.withdraw.eq(verdict.keeps & verdict.is_posted & store.record.is_last),
                keys.bind.eq(verdict.keeps & verdict.is_posted),
                self.matched_posted.eq(verdict.keeps & verdict.is_posted),
                self.no_communicator.eq(verdict.no_communicator),
                self.no_buffer.eq(verdict.no_buffer),
            ]
            m.d.sync += [
                self._has_settles.eq(verdict.keeps | verdict.bounces), self._settles.spend.eq(1),
                self._settles.owe.eq(verdict.bounces),
                self._settles.account.communicator.eq(header.communicator),
                self._settles.account.node.eq(header.node),
            ]
            m.d.sync += [
                self.is_cleared.eq(verdict.clears),
                *(self.cleared[name].eq(header[name]) for name in ("communicator", "node", "handle")),
            ]
            with m.If(verdict.has_words):
                m.d.sync += [
                    self.admit.valid.eq(1),
                    self.admit.payload.slot.eq(store.free_slot), self.admit.payload.drop.eq(~verdict.keeps),
                ]
            with m.If(verdict.has_credit):
                m.d.sync += [
                    self.credit.valid.eq(1),
                    self.credit.payload.communicator.eq(header.communicator),
                    self.credit.payload.node.eq(header.node), self.credit.payload.count.eq(header.credit),
                ]
            m.next = "IDLE"

    def _use_store(self, m):
        """Let the scan use the store."""
        store, scan = self._store, self._scanner
        m.d.comb += [
            store.look_list.eq(self.moves + scan.source),
            store.list.eq(store.look_list), store.slot.eq(scan.slot),
            store.look.eq(scan.look), store.look_slot.eq(scan.look_slot),
            store.remove.eq(scan.remove), store.has_previous.eq(scan.has_previous),
            scan.can_keep.eq(~self._is_opening | store.can_empty),
        ]

    def _scan(self, m):
        """Give the move what the scan finds; or free it."""
        store, scan = self._store, self._scanner
        self._use_store(m)
        with m.If(scan.keep & self._is_opening):
            m.d.comb += store.empty.eq(1)
        with m.Elif(scan.keep):
            m.d.comb += [store.list.eq(self.post.payload.move), store.append.eq(1), self.matched_late.eq(1)]
        with m.If(scan.done & self._is_opening):
            m.next = "OPEN"
        with m.Elif(scan.done):
            m.d.comb += [
                self._keys.move.eq(self.post.payload.move), self._keys.post.eq(~scan.has_last),
                self.post.ready.eq(1),
            ]
            m.next = "IDLE"

    def _open(self, m):
        """Fill the accounts of a communicator, when no credit is on its way to one."""
        change, is_last = self._accounts.change, self._node == self.nodes - 1
        m.d.comb += [
            change.valid.eq(~self._store.owe.valid),
            change.payload.account.communicator.eq(self.open.payload.communicator),
            change.payload.account.node.eq(self._node),
            change.payload.open.eq(1),
            change.payload.credits.eq(self.open.payload.credits),
        ]
        with m.If(change.valid & change.ready & ~self._has_settles):
            m.d.sync += self._node.eq(self._node + 1)
            with m.If(is_last):
                m.d.comb += self.open.ready.eq(1)
                m.next = "IDLE"

    def _cancel(self, m):
        """Free all packets of a move."""
        store = self._store
        m.d.comb += store.look_list.eq(self.cancel.payload.move)
        m.d.sync += self._cancelled.eq(store.first)
        m.next = "CANCEL_SLOT"
        with m.If(~store.has_slots.bit_select(store.look_list, 1)):
            m.d.comb += self.cancel.ready.eq(1)
            m.next = "IDLE"

    def _cancel_slot(self, m):
        """The first packet of the move: what follows from its slot is late enough."""
        store = self._store
        m.d.comb += [store.list.eq(self.cancel.payload.move), store.slot.eq(self._cancelled), store.owes.eq(1)]
        with m.If(store.can_empty):
            m.d.comb += [store.remove.eq(1), store.empty.eq(1)]
            m.next = "CANCEL"
