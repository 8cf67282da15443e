# SPDX-License-Identifier: Apache-2.0
"""Commands from their ring: checked, and handed in order to those that carry them out."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.abi import COMMAND_ALIGNMENT, Direction
from rackgate.zeronic.commandcheck import ROOM_SHAPE, SEND_HEAD, add_check, field, room_in_send
from rackgate.zeronic.messages import CommandKind, SendFlag
from rackgate.zeronic.records import (
    FLOW_BITS,
    REGION_BITS,
    FlowUpdate,
    KeyUpdate,
    PostUpdate,
    ProfileUpdate,
    RegionUpdate,
    RetireUpdate,
    check_width,
)
from rackgate.zeronic.tx.records import SendCommand

__all__ = ["CommandDecoder"]


class CommandDecoder(wiring.Component):
    """Carry out commands, strictly one after the other.

    An update is offered to its table; the next command is looked at when the table has taken it. A SEND is offered at
    ``send``, and then its bytes from the header on, as ``words``; the next command is looked at when the last of them
    has been taken. What :mod:`rackgate.zeronic.messages` says is refused is skipped, by its ``units``.

    An update that a SEND ahead could see waits: see ``header_pending``, ``search_pending``, ``send_pending``.

    Timing: an update is offered 2 cycles after the last of its 32 bytes has come, a SEND 1 cycle after the last of its
    first 16 (at width 32, of 32). A SEND of n words takes n + 1 cycles, at width 32 n + 2. No output depends on an
    input but ``i.ready`` on ``words.ready``, ``words`` on ``i``, and the ``valid`` of updates on what they wait for.
    Reset forgets the command under way; ``consumer`` begins at 0.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.
    flows, regions:
        What the NIC has.

    Members
    -------
    i:
        Words of the ring.
    post, retire:
        Updates of segments, an array by Direction.
    flow, key, region, profile:
        Updates. ``flow``: of FLOW and CURSOR.
    fence:
        FENCE commands.
    send:
        SEND commands whose head is right.
    words:
        Of a SEND, packed, from the first byte of its header on to the end of its last unit (at width 32 the last one
        may be of zeros).
    header_pending:
        The header of a SEND is not yet wholly dealt with: all updates wait.
    search_pending:
        Bytes of a SEND have not yet been looked up: a POST of direction SEND waits.
    send_pending:
        Bytes of a SEND have not yet been read: RETIRE of direction SEND, FLOW and REGION wait.
    consumer:
        As in register COMMAND_CONSUMER.
    command, bad_command:
        Strobes: a command was taken; it was refused.
    idle:
        No command is under way.
    """

    i: stream.Interface
    flow: stream.Interface
    key: stream.Interface
    region: stream.Interface
    profile: stream.Interface
    fence: stream.Interface
    send: stream.Interface
    words: stream.Interface

    def __init__(self, width: int = 8, *, flows: int = 256, regions: int = 64):
        self.width, self.flows, self.regions = check_width(width), operator.index(flows), operator.index(regions)
        if not 1 <= self.flows <= 1 << FLOW_BITS:
            raise ValueError(f"flows must be 1 to {1 << FLOW_BITS}, not {flows}")
        if not 1 <= self.regions <= 1 << REGION_BITS:
            raise ValueError(f"regions must be 1 to {1 << REGION_BITS}, not {regions}")
        super().__init__({
            "i": In(stream.Signature(8 * self.width)),
            "post": Out(stream.Signature(PostUpdate)).array(2),
            "retire": Out(stream.Signature(RetireUpdate)).array(2),
            "flow": Out(stream.Signature(FlowUpdate)),
            "key": Out(stream.Signature(KeyUpdate)),
            "region": Out(stream.Signature(RegionUpdate)),
            "profile": Out(stream.Signature(ProfileUpdate)),
            "fence": Out(stream.Signature(data.StructLayout({"ring": 1, "cookie": 16}))),
            "send": Out(stream.Signature(SendCommand)),
            "words": Out(stream.Signature(data.StructLayout({"data": 8 * self.width, "last": 1}))),
            "header_pending": In(1), "search_pending": In(1), "send_pending": In(1),
            "consumer": Out(32), "command": Out(1), "bad_command": Out(1), "idle": Out(1),
        })
        self._unit = Signal(8 * COMMAND_ALIGNMENT)  # the command's first
        self._room = Signal(ROOM_SHAPE)  # if it is a SEND: worked out as its first word comes, the check is long enough
        self._left = Signal(range((COMMAND_ALIGNMENT // self.width << 16) + 1))  # words of it behind those taken
        self._position = Signal(32 - 5)  # units done with

    def _bytes(self, first: int, size: int):
        return field(self._unit, first, size)

    def elaborate(self, platform):
        m = Module()
        per_unit, send_words = COMMAND_ALIGNMENT // self.width, max(SEND_HEAD // self.width, 1)
        index, kind = Signal(range(per_unit)), self._bytes(0, 1)
        is_refused, is_taken, ends, units = Signal(), Signal(), Signal(), Signal(16)
        m.d.comb += [
            is_refused.eq(add_check(m, self._unit, self._room, flows=self.flows, regions=self.regions)),
            units.eq(Mux(self._bytes(2, 2) == 0, 1, self._bytes(2, 2))),
            self.consumer.eq(self._position << 5),
            self.command.eq(ends),
        ]
        self._make_updates(m)
        with m.If(ends):
            m.d.sync += self._position.eq(self._position + units)

        with m.FSM():
            with m.State("COLLECT"):
                m.d.comb += [self.i.ready.eq(1), self.idle.eq(index == 0)]
                is_send = Mux(index == 0, self.i.payload[:8], kind) == CommandKind.SEND
                with m.If(self.i.valid):
                    m.d.sync += [self._unit.word_select(index, 8 * self.width).eq(self.i.payload), index.eq(index + 1)]
                    with m.If(index == 0):
                        m.d.sync += self._room.eq(room_in_send(self.i.payload))
                    with m.If((index == per_unit - 1) | is_send & (index == send_words - 1)):
                        m.d.sync += index.eq(0)
                        m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += self._left.eq(units * per_unit - Mux(kind == CommandKind.SEND, send_words, per_unit))
                with m.If(is_refused | (kind == CommandKind.PAD)):
                    m.d.comb += self.bad_command.eq(is_refused)
                    m.next = "SKIP"
                with m.Elif(kind == CommandKind.SEND):
                    m.d.comb += self.send.valid.eq(1)
                    with m.If(self.send.ready):
                        m.next = "WORDS"
                with m.Else():
                    m.next = "UPDATE"
            with m.State("UPDATE"):
                self._offer(m, is_taken)
                with m.If(is_taken):
                    m.next = "SKIP"
                    with m.If(self._left == 0):
                        m.d.comb += ends.eq(1)
                        m.next = "COLLECT"
            with m.State("SKIP"):
                m.d.comb += [self.i.ready.eq(self._left != 0), ends.eq(self._left == 0)]
                self._count(m)
                with m.If(ends):
                    m.next = "COLLECT"
            with m.State("WORDS"):
                self._pass_words(m)
                with m.If(self.words.valid & self.words.ready & self.words.payload.last):
                    m.d.comb += ends.eq(1)
                    m.next = "COLLECT"
        m.d.sync += Assert(~self.words.valid | (self._left != 0) | (self.width == 32), "a word behind its command")
        return m

    def _pass_words(self, m):
        """From byte 16 of the command on. At width 32 half of each word is held back for the next one."""
        out, held = self.words.payload, self._unit[8 * SEND_HEAD:]
        if self.width < 2 * SEND_HEAD:
            m.d.comb += [out.data.eq(self.i.payload), out.last.eq(self._left == 1), self.words.valid.eq(self.i.valid),
                         self.i.ready.eq(self.words.ready)]
        else:
            m.d.comb += [
                out.last.eq(self._left == 0),
                out.data.eq(Cat(held, Mux(out.last, 0, self.i.payload[:8 * SEND_HEAD]))),
                self.words.valid.eq(self.i.valid | out.last),
                self.i.ready.eq(self.words.ready & ~out.last),
            ]
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += held.eq(self.i.payload[8 * SEND_HEAD:])
        self._count(m)

    def _count(self, m):
        with m.If(self.i.valid & self.i.ready):  # an enable, not a term: it comes late
            m.d.sync += self._left.eq(self._left - 1)

    def _make_updates(self, m):
        """All records, from where each has its fields."""
        flow, argument, flags = self._bytes(4, 2), self._bytes(6, 2), self._bytes(1, 1)
        for direction in Direction:
            post, retire = self.post[direction].payload, self.retire[direction].payload
            m.d.comb += [
                post.flow.eq(flow), post.start.eq(self._bytes(8, 4)), post.length.eq(self._bytes(12, 4)),
                post.offset.eq(self._bytes(16, 5)), post.region.eq(self._bytes(22, 2)),
                retire.flow.eq(flow), retire.count.eq(argument[8:]),
            ]
        cursor, key, region, profile = (port.payload for port in (self.flow, self.key, self.region, self.profile))
        send = self.send.payload
        m.d.comb += [
            cursor.flow.eq(flow), cursor.begin.eq(self._bytes(0, 1) == CommandKind.FLOW), cursor.flags.eq(flags),
            cursor.cursor.eq(self._bytes(8, 4)),
            key.place.eq(argument), key.valid.eq(flags[0]), key.flow.eq(flow),
            key.key.source.eq(self._bytes(8, 4)), key.key.destination.eq(self._bytes(12, 4)),
            key.key.source_port.eq(self._bytes(16, 2)), key.key.destination_port.eq(self._bytes(18, 2)),
            key.key.profile.eq(self._bytes(20, 1)),
            region.region.eq(argument), region.rights.eq(flags), region.base.eq(self._bytes(8, 5)),
            region.length.eq(self._bytes(16, 5)), region.owner.eq(self._bytes(14, 2)),
            profile.profile.eq(argument), profile.protocol.eq(self._bytes(8, 1)),
            profile.checksum.eq(self._bytes(9, 1)), profile.position.eq(self._bytes(10, 1)),
            profile.size.eq(self._bytes(11, 1)), profile.port.eq(self._bytes(12, 2)),
            profile.mask.eq(self._bytes(14, 2)),
            self.fence.payload.ring.eq(flags[0]), self.fence.payload.cookie.eq(argument),
            send.flow.eq(flow), send.gather.eq(flags & SendFlag.GATHER != 0),
            send.offload.eq(flags & SendFlag.OFFLOAD != 0), send.snoop.eq(flags & SendFlag.SNOOP != 0),
            send.headers.eq(argument), send.payload.eq(self._bytes(8, 4)), send.segment.eq(self._bytes(12, 2)),
        ]

    def _offer(self, m, is_taken):
        """Offer the update to its table, when no SEND ahead could see it."""
        direction, is_sends = self._bytes(6, 1)[0], self._bytes(6, 1)[0] == Direction.SEND
        ports = {
            CommandKind.POST: (Array(self.post)[direction], is_sends & self.search_pending),
            CommandKind.RETIRE: (Array(self.retire)[direction], is_sends & self.send_pending),
            CommandKind.CURSOR: (self.flow, 0),
            CommandKind.FENCE: (self.fence, 0),
            CommandKind.FLOW: (self.flow, self.send_pending),
            CommandKind.KEY: (self.key, 0),
            CommandKind.REGION: (self.region, self.send_pending),
            CommandKind.PROFILE: (self.profile, 0),
        }
        with m.Switch(self._bytes(0, 1)):
            for kind, (port, is_held) in ports.items():
                with m.Case(kind):
                    m.d.comb += [port.valid.eq(~self.header_pending & ~is_held), is_taken.eq(port.valid & port.ready)]
