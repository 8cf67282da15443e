# SPDX-License-Identifier: Apache-2.0
"""Moves into segments, each handed out when all that it needs is there."""

import operator

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CONTEXTS, MOVES, HeaderFlag, PacketType, Status
from rackgate.collective.isa import Local, Other, Target
from rackgate.collective.moves.installer import REMAINING_BITS, Fixed, Progress
from rackgate.collective.records import Clear, HeaderFields, Packet, Received, ReceiveSegment, SendSegment

__all__ = ["Refused", "Scheduler"]


class Refused(data.Struct):
    """A packet that a move cannot take, and why: its call has failed."""

    move: 4
    status: 8
    node: 4


#: The entry of a packet for the kernel's stream.
_STREAM = Fixed.const({"control": {"other": Other.RECEIVE, "target": Target.STREAM}})


class _Cut(data.Struct):
    """A segment in the making. ``size``: of its payload in bytes; ``remaining``: with it and all behind it."""

    size: 13
    remaining: REMAINING_BITS
    is_last: 1
    credit: 8
    has_packet: 1
    packet: Packet


class Scheduler(wiring.Component):
    """The table of moves, and turns among those that can go on.

    A move that can go on is looked at, in turn with the others; it takes a packet if it receives, and a credit if it
    sends, and gives a segment of at most ``segment`` bytes of payload to its lane, 5 cycles after it was picked. One
    that finds no credit is not looked at again before credit comes. All segments of a move are cut alike on both
    sides: as many whole elements as fit a packet.

    A message that ``asks`` is sent as far as its first packet, a REQUEST_TO_SEND. The others follow when a receive
    there has taken that one, and a CLEAR_TO_SEND has told so; until then the message holds one buffer. The answer names
    the move. One for a move that has not asked, or from where its message does not go, does nothing; and all that one
    too many could do is to let a message take the credits that it has.

    Parameters
    ----------
    segment:
        Payload bytes of the largest packet, a power of two from 256 to 4096.

    Members
    -------
    install, place, fixed, progress:
        Write an entry. Not in a cycle with ``busy``.
    busy:
        The table is being written.
    eligible:
        For each move: it may hand out a segment, as far as packets and credits do not matter. Of the cycle before.
    has_packet:
        For each move: a packet waits for it. The last: one waits for the kernel's stream.
    front, take, taken:
        Take the first packet of move ``front``; it is at ``taken`` in the next cycle.
    credit_communicator, credit_node, look_credit, available, take_credit:
        Look for a credit, and take it in the next cycle.
    credit_came:
        Look again for credit.
    communicator, node, owed:
        Credits that ``node`` is owed, in the cycle after ``take_credit``: they ride with the packet.
    send, receive:
        Segments for the two lanes.
    issued:
        High for a cycle: move ``issued_move`` has handed out a segment; with ``issued_last`` it was the last.
    received:
        A packet has been taken.
    refused:
        Strobe: ``refusal`` tells which move. Its packet is thrown away by the receive lane.
    clear:
        Messages whose first packet has been taken here, and that asked.
    cleared, is_cleared:
        Strobe: a message of this node may be sent on.
    waits_credit, waits_clear:
        For each move: it found no credit; it has asked, and is not answered.
    deciding:
        For each context: a move of it has been picked, and may still hand out a segment though it is not eligible
        any more.
    asked, told:
        The entry of a move, for others.

    Reset: nothing is under way. The table, in LUT RAM, counts only as far as moves are active.
    """

    send: stream.Interface
    receive: stream.Interface

    def __init__(self, segment=1024):
        self.segment = operator.index(segment)
        if self.segment not in (256, 512, 1024, 2048, 4096):
            raise ValueError(f"segment must be 256, 512, 1024, 2048 or 4096 bytes, not {segment}")
        super().__init__({
            "install": In(1), "place": In(4), "fixed": In(Fixed), "progress": In(Progress),
            "busy": Out(1),
            "eligible": In(MOVES),
            "has_packet": In(MOVES + 1),
            "front": Out(5), "take": Out(1), "taken": In(Packet),
            "credit_communicator": Out(3), "credit_node": Out(4), "look_credit": Out(1), "available": In(1),
            "take_credit": Out(1), "credit_came": In(1),
            "communicator": Out(3), "node": Out(4), "owed": In(8),
            "send": Out(stream.Signature(SendSegment)),
            "receive": Out(stream.Signature(ReceiveSegment)),
            "issued": Out(1), "issued_move": Out(4), "issued_last": Out(1),
            "received": Out(Received),
            "refused": Out(1), "refusal": Out(Refused),
            "clear": Out(stream.Signature(Clear)), "cleared": In(Clear), "is_cleared": In(1),
            "waits_credit": Out(MOVES), "waits_packet": Out(MOVES), "waits_clear": Out(MOVES),
            "deciding": Out(CONTEXTS),
            "asked": In(4), "told": Out(Fixed),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.table = table = Memory(shape=Fixed, depth=MOVES, init=[])
        m.submodules.state = state = Memory(shape=Progress, depth=MOVES, init=[])
        entry, told, write = (table.read_port(domain="comb"), table.read_port(domain="comb"), table.write_port())
        # Whose credit is looked for, by a register of its own: that of all the table is far from the credits. Its bits
        # start as the inverse, or Yosys makes one register of both.
        sends, sends_pick = table.read_port(domain="comb"), Signal(range(MOVES), init=MOVES - 1)
        now, update = state.read_port(domain="comb"), state.write_port()
        is_sender, is_receiver = Signal(MOVES), Signal(MOVES)  # uses the send lane; waits for packets
        pick, fixed, progress, cut = Signal(5), Signal(Fixed), Signal(Progress), Signal(_Cut)
        is_stream = pick[4]
        candidates = Signal(MOVES + 1)
        # Those behind the one picked last, a cycle late: nothing is picked in the cycle after.
        behind = Signal(MOVES + 1, init=(2 << MOVES) - 2)
        m.d.sync += behind.eq(Cat(pick < k for k in range(MOVES + 1)))
        m.d.comb += [
            write.addr.eq(self.place), write.data.eq(self.fixed), write.en.eq(self.install),
            told.addr.eq(self.asked), self.told.eq(told.data),
            self.front.eq(pick), self.issued_move.eq(pick[:4]), self.issued_last.eq(cut.is_last),
            self.communicator.eq(fixed.communicator), self.node.eq(fixed.destination),
            self.waits_packet.eq(is_receiver & ~self.has_packet[:MOVES]),
            candidates.eq(Cat(self.eligible & ~self.waits_packet & ~self.waits_credit
                              & ~Mux(self.send.valid, is_sender, 0) & ~Mux(self.receive.valid, ~is_sender, 0),
                              self.has_packet[MOVES] & ~self.receive.valid)),
            update.addr.eq(self.place), update.data.eq(self.progress), update.en.eq(self.install),
            entry.addr.eq(pick), now.addr.eq(pick), sends.addr.eq(sends_pick),
            self.credit_communicator.eq(sends.data.communicator), self.credit_node.eq(sends.data.destination),
        ]
        m.d.sync += [self.take.eq(0), self.take_credit.eq(0)]
        control = self.fixed.control
        with m.If(self.install):
            m.d.sync += [
                is_sender.bit_select(self.place, 1).eq(
                    control.send & (control.other == Other.NONE) & (control.target == Target.NONE)),
                is_receiver.bit_select(self.place, 1).eq(control.other == Other.RECEIVE),
            ]
        for lane in (self.send, self.receive):
            with m.If(lane.ready):
                m.d.sync += lane.valid.eq(0)
        with m.FSM() as fsm:
            m.d.comb += self.deciding.eq(Mux(fsm.ongoing("PICK") | is_stream, 0, 1 << pick[2:4]))
            with m.State("PICK"):
                later, first = Signal(MOVES + 1), Signal(5)
                m.d.comb += [
                    later.eq(candidates & behind),
                    first.eq(Mux(later.any(), _first(later), _first(candidates))),
                ]
                m.d.sync += Assert(behind == ~((Const(2, MOVES + 2) << pick) - 1)[:MOVES + 1], "the turn is not known")
                with m.If(candidates.any()):
                    m.d.sync += [pick.eq(first), sends_pick.eq(first)]
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += self.look_credit.eq(1)
                m.d.sync += Assert(sends_pick == pick[:4], "the credit of another move is looked for")
                self._look(m, pick, entry.data, sends.data.control.send, now.data, fixed, progress)
            with m.State("TAKE"):
                m.next = "SIZE"
            with m.State("SIZE"):
                self._cut(m, fixed, progress, is_stream, cut)
                m.next = "ISSUE"
            with m.State("ISSUE"):
                size = Signal(14)  # in memory
                m.d.comb += size.eq(cut.size << fixed.compressed)
                self._issue(m, pick, fixed, progress, size, cut, is_sender)
                self._update(m, pick, progress, size, cut, update)
                m.next = "PICK"
        # After the state machine: what comes in the same cycle as the look that failed counts, a cycle later.
        with m.If(self.credit_came):
            m.d.sync += self.waits_credit.eq(0)
        m.d.sync += Assert(~(self.install & self.busy), "two writes to the table of moves")
        self._answer(m, table, pick, fixed, progress, cut, fsm.ongoing("ISSUE"))
        return m

    def _answer(self, m, table, pick, fixed, progress, cut, issues):
        """Messages that ask: answer those that come, and hold back those that go."""
        asked, answer = table.read_port(domain="comb"), self.cleared
        m.d.comb += asked.addr.eq(answer.handle)
        with m.If(self.is_cleared & (asked.data.communicator == answer.communicator)
                  & (asked.data.destination == answer.node)):
            m.d.sync += self.waits_clear.bit_select(answer.handle, 1).eq(0)
        with m.If(issues & fixed.asks & ~progress.is_begun & ~pick[4]):
            m.d.sync += self.waits_clear.bit_select(pick[:4], 1).eq(1)
        with m.If(self.install):
            m.d.sync += self.waits_clear.bit_select(self.place, 1).eq(0)
        with m.If(self.clear.ready):
            m.d.sync += self.clear.valid.eq(0)
        answers = issues & cut.has_packet & ~pick[4] & ((cut.packet.flags & HeaderFlag.REQUEST_TO_SEND) != 0)
        with m.If(answers):
            m.d.sync += [
                self.clear.valid.eq(1), self.clear.payload.communicator.eq(fixed.communicator),
                self.clear.payload.node.eq(cut.packet.node), self.clear.payload.handle.eq(cut.packet.handle),
            ]
        m.d.sync += [
            Assert(~issues | pick[4] | ~self.waits_clear.bit_select(pick[:4], 1), "a message goes on that has asked"),
            Assert(~answers | ~self.clear.valid, "an answer is lost"),
        ]

    def _look(self, m, pick, entry, sends, now, fixed, progress):
        """Read the entry, and go on if the move still may and has the credit that it needs."""
        is_stream, is_eligible, has_credit = pick[4], Signal(), Signal()
        m.d.comb += [
            # What comes may have to be answered: not before the last answer has left.
            is_eligible.eq(~(self.clear.valid & (entry.control.other == Other.RECEIVE))
                           & self.eligible.bit_select(pick[:4], 1) | is_stream),
            has_credit.eq(is_stream | ~sends | self.available),
        ]
        m.d.sync += [fixed.eq(entry), progress.eq(now)]
        with m.If(is_stream):
            m.d.sync += [fixed.eq(_STREAM), progress.is_begun.eq(1), progress.remaining.eq(~0)]
        m.next = "PICK"
        with m.If(is_eligible & has_credit):
            m.d.sync += [
                self.take.eq(is_stream | (entry.control.other == Other.RECEIVE)),
                self.take_credit.eq(~is_stream & sends),
            ]
            m.next = "TAKE"
        with m.Elif(is_eligible):
            m.d.sync += self.waits_credit.bit_select(pick[:4], 1).eq(1)

    def _cut(self, m, fixed, progress, is_stream, cut):
        """The segment's size: of the packet taken, or as much as fits one.

        In bytes of payload all along: what comes out of the packets' block RAM is late, and is not shifted.
        """
        packet, is_receiver = self.taken, fixed.control.other == Other.RECEIVE
        part = Signal(3)  # bits of a size that are a part of an element; those of the stream are bytes
        m.d.comb += part.eq((Const(1, 4) << Mux(fixed.compressed, 1, fixed.shift)) - 1)
        with m.If(is_stream):
            m.d.sync += fixed.compressed.eq(_is_compressed(packet))
        m.d.sync += [
            cut.credit.eq(self.owed), cut.packet.eq(packet),
            cut.has_packet.eq(is_receiver), cut.remaining.eq(progress.remaining),
        ]
        with m.If(is_receiver):
            m.d.sync += [cut.size.eq(Cat(packet.size[:3] & ~part, packet.size[3:])),
                         cut.is_last.eq((packet.flags & HeaderFlag.LAST) != 0)]
            with m.If(~progress.is_begun):
                m.d.sync += cut.remaining.eq(packet.length)
            m.d.comb += [self.received.valid.eq(~is_stream), self.received.context.eq(self.front[2:4]),
                         self.received.size.eq(packet.size), self.received.node.eq(packet.node),
                         self.received.tag.eq(packet.tag)]
        with m.Elif(progress.remaining <= self.segment):
            m.d.sync += [cut.size.eq(progress.remaining), cut.is_last.eq(1)]
        with m.Else():
            m.d.sync += [cut.size.eq(self.segment), cut.is_last.eq(0)]

    def _issue(self, m, pick, fixed, progress, size, cut, senders):
        """The segment to its lane."""
        control, header, is_stream = fixed.control, Signal(HeaderFields), pick[4]
        is_sender, packet = senders.bit_select(pick[:4], 1) & ~is_stream, cut.packet
        is_bad = cut.has_packet & ~progress.is_begun & ((packet.length > fixed.length)
                                                        | (_is_compressed(packet) != fixed.compressed))
        m.d.comb += [
            header.type.eq(PacketType.DATA),
            header.flags.eq(Mux(progress.is_begun, 0, HeaderFlag.FIRST) | Mux(cut.is_last, HeaderFlag.LAST, 0)
                            | Mux(control.put, HeaderFlag.STREAM, 0)
                            | Mux(fixed.asks & ~progress.is_begun, HeaderFlag.REQUEST_TO_SEND, 0)
                            | Mux(fixed.compressed, HeaderFlag.COMPRESSED, 0)),
            header.credit.eq(cut.credit), header.node.eq(fixed.destination),
            header.handle.eq(Mux(fixed.asks & ~progress.is_begun, pick[:4], 0)),
            header.length.eq(fixed.length), header.offset.eq(progress.offset), header.size.eq(cut.size),
            *(getattr(header, name).eq(getattr(fixed, name))
              for name in ("communicator", "operation", "tag", "element")),
            self.issued.eq(~is_stream),
        ]
        common = {"move": pick, "last": cut.is_last, "from_stream": control.local == Local.STREAM, "size": size,
                  "compress": fixed.compressed, "header": header}
        with m.If(is_sender):
            m.d.sync += [self.send.valid.eq(1), self.send.payload.address.eq(progress.local),
                         *(self.send.payload[name].eq(value) for name, value in common.items())]
        with m.Else():
            segment = self.receive.payload
            m.d.sync += [
                self.receive.valid.eq(1), *(segment[name].eq(value) for name, value in common.items()),
                segment.has_packet.eq(cut.has_packet), segment.slot.eq(packet.slot),
                segment.packet_size.eq(packet.size), segment.expand.eq(fixed.compressed),
                segment.has_other.eq(control.other == Other.MEMORY), segment.other.eq(progress.other),
                segment.has_local.eq(control.local == Local.MEMORY), segment.local.eq(progress.local),
                segment.reduce.eq(control.reduce), segment.function.eq(fixed.function),
                segment.element.eq(fixed.element), segment.to_memory.eq(control.target == Target.MEMORY),
                segment.to_stream.eq(control.target == Target.STREAM), segment.result.eq(progress.result),
                segment.send.eq(control.send), segment.header.handle.eq(0),
            ]
            with m.If(is_bad | (cut.size > cut.remaining)):
                m.d.comb += [self.refused.eq(1), self.refusal.move.eq(pick[:4]),
                             self.refusal.status.eq(Status.RECEIVE_SIZE), self.refusal.node.eq(packet.node)]
                m.d.sync += [segment.size.eq(0), segment.has_other.eq(0), segment.has_local.eq(0),
                             segment.from_stream.eq(0), segment.to_memory.eq(0), segment.to_stream.eq(0),
                             segment.send.eq(0)]

    def _update(self, m, pick, progress, size, cut, update):
        """The entry after the segment."""
        m.d.comb += [
            self.busy.eq(1),
            update.en.eq(~pick[4]), update.addr.eq(pick[:4]),
            update.data.remaining.eq(cut.remaining - cut.size), update.data.is_begun.eq(1),
            update.data.offset.eq(progress.offset + cut.size),
            *(update.data[name].eq(progress[name] + size) for name in ("local", "other", "result")),
        ]


def _is_compressed(packet):
    return (packet.flags & HeaderFlag.COMPRESSED) != 0


def _first(bits):
    """Number of the lowest bit that is set."""
    number = Const(0, 5)
    for k in reversed(range(len(bits))):
        number = Mux(bits[k], k, number)
    return number
