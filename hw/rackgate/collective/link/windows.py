# SPDX-License-Identifier: Apache-2.0
"""What was sent to each peer, and what it has acknowledged: the sender's half of go-back-N."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import NODES
from rackgate.collective.link.frame import BUFFER_BITS, Acknowledgement
from rackgate.collective.link.store import check_buffers

__all__ = ["Windows"]


class _Operation(enum.Enum, shape=3):
    NONE = 0
    ACKNOWLEDGE = 1
    EXPIRE = 2
    TAKE = 3
    APPEND = 4


class Windows(wiring.Component):
    """Keep the packets for each peer in a list, from the oldest that is not acknowledged on, and say which to send.

    A cursor in the list parts what has been sent from what is to be sent. An acknowledgement takes packets from the
    list's front; one that says that packets are missing, or none for ``timeout`` cycles, puts the cursor back there.
    The time counts from the latest of: the oldest packet was sent, a packet was acknowledged.
    An acknowledgement of what is not in the list changes nothing.

    One operation at a time, in this order of preference: acknowledge, expire, take, append; each takes 2 cycles, an
    acknowledgement a cycle more for each packet. Reset empties all lists, in 16 cycles.

    Parameters
    ----------
    buffers:
        Number of buffers, 2 to 511.

    Members
    -------
    append:
        A packet for ``peer``, in a buffer, to be sent behind those before it.
    pending:
        Bit per peer: there is something to be sent.
    take:
        A peer, of which the next packet will be sent. When it is taken, ``taken`` says which one; ``found`` is low if
        there is none any more.
    acknowledge:
        What a peer said.
    held:
        Buffers that are being sent now: they are not given back before that is done.
    freed:
        Buffers whose packets were acknowledged.
    timeout:
        Cycles; 0: never.
    expired:
        Strobe: a peer's time was up.
    """

    def __init__(self, buffers: int = 80):
        self.buffers = check_buffers(buffers)
        holding = data.StructLayout({"valid": 1, "buffer": BUFFER_BITS})
        super().__init__({
            "append": In(stream.Signature(data.StructLayout({"peer": 4, "buffer": BUFFER_BITS}))),
            "pending": Out(NODES),
            "take": In(stream.Signature(4)),
            "taken": Out(data.StructLayout({"found": 1, "buffer": BUFFER_BITS, "sequence": 16, "again": 1})),
            "acknowledge": In(stream.Signature(Acknowledgement)),
            "held": In(holding).array(2),
            "freed": Out(stream.Signature(BUFFER_BITS, always_ready=True)),
            "timeout": In(32), "expired": Out(1),
        })
        # Sequence numbers by peer: of the oldest packet, at the cursor, of the first never sent, of the next to come.
        numbers = ("oldest", "cursor", "unsent", "next")
        self._numbers = {name: Memory(shape=16, depth=NODES, init=[]) for name in numbers}
        # Buffers by peer: of the oldest packet, at the cursor, of the last one.
        self._places = {name: Memory(shape=BUFFER_BITS, depth=NODES, init=[]) for name in ("first", "at", "last")}
        self._stamps = Memory(shape=32, depth=NODES, init=[])
        self._links = Memory(shape=BUFFER_BITS, depth=self.buffers, init=[])
        self._is_sent = Signal(NODES)  # something before the cursor
        self._peer, self._now = Signal(4), Signal(32)

    def elaborate(self, platform):
        m = Module()
        values, writes = {}, {}
        for name, memory in (self._numbers | self._places | {"stamp": self._stamps}).items():
            m.submodules[name] = memory
            read, write = memory.read_port(domain="comb"), memory.write_port()
            m.d.comb += [read.addr.eq(self._peer), write.addr.eq(self._peer)]
            values[name], writes[name] = read.data, write
        m.submodules.links = self._links
        link = self._links.read_port(domain="comb")
        m.d.sync += self._now.eq(self._now + 1)

        operation = Signal(_Operation)
        with m.FSM():
            with m.State("CLEAR"):
                for name in self._numbers:
                    m.d.comb += [writes[name].data.eq(0), writes[name].en.eq(1)]
                m.d.sync += self._peer.eq(self._peer + 1)
                with m.If(self._peer == NODES - 1):
                    m.next = "CHOOSE"
            with m.State("CHOOSE"):
                self._choose(m, operation)
                m.next = "WORK"
            with m.State("WORK"):
                with m.Switch(operation):
                    with m.Case(_Operation.ACKNOWLEDGE):
                        self._acknowledge(m, values, writes, link)
                    with m.Case(_Operation.EXPIRE):
                        with m.If(self._is_late(values["stamp"], self._peer)):
                            m.d.comb += self.expired.eq(1)
                            self._go_back(m, values, writes)
                        m.next = "CHOOSE"
                    with m.Case(_Operation.TAKE):
                        self._take(m, values, writes, link)
                        m.next = "CHOOSE"
                    with m.Case(_Operation.APPEND):
                        self._append(m, values, writes)
                        m.next = "CHOOSE"
                    with m.Default():
                        m.next = "CHOOSE"
        return m

    def _is_late(self, stamp, peer):
        return (self.timeout != 0) & self._is_sent.bit_select(peer, 1) & ((self._now - stamp)[:32] >= self.timeout)

    def _choose(self, m, operation):
        """What to do next, and with which peer. A peer at a time is looked at for its time."""
        looked, late, is_late = Signal(4), Signal(4), Signal()
        stamp = self._stamps.read_port(domain="comb")
        m.d.comb += stamp.addr.eq(looked)
        m.d.sync += [looked.eq(looked + 1), late.eq(looked), is_late.eq(self._is_late(stamp.data, looked))]
        m.d.sync += operation.eq(_Operation.NONE)
        with m.If(self.acknowledge.valid):
            m.d.sync += [operation.eq(_Operation.ACKNOWLEDGE), self._peer.eq(self.acknowledge.payload.peer)]
        with m.Elif(is_late):
            m.d.sync += [operation.eq(_Operation.EXPIRE), self._peer.eq(late)]
        with m.Elif(self.take.valid):
            m.d.sync += [operation.eq(_Operation.TAKE), self._peer.eq(self.take.payload)]
        with m.Elif(self.append.valid):
            m.d.sync += [operation.eq(_Operation.APPEND), self._peer.eq(self.append.payload.peer)]

    @staticmethod
    def _set(m, write, value):
        m.d.comb += [write.data.eq(value), write.en.eq(1)]

    def _go_back(self, m, values, writes):
        """All that was sent is to be sent again."""
        self._set(m, writes["cursor"], values["oldest"])
        self._set(m, writes["at"], values["first"])
        m.d.sync += [
            self._is_sent.bit_select(self._peer, 1).eq(0),
            self.pending.bit_select(self._peer, 1).eq(1),
        ]

    def _acknowledge(self, m, values, writes, link):
        said = self.acknowledge.payload
        oldest, cursor, end = values["oldest"], values["cursor"], values["next"]
        distance, outstanding, is_held, is_behind = Signal(16), Signal(16), Signal(), Signal()
        m.d.comb += [
            distance.eq(said.acknowledgement - oldest),
            outstanding.eq(end - oldest),
            is_held.eq((self.held[0].valid & (self.held[0].buffer == values["first"]))
                       | (self.held[1].valid & (self.held[1].buffer == values["first"]))),
            is_behind.eq(cursor == oldest),
            link.addr.eq(values["first"]),
            self.freed.payload.eq(values["first"]),
        ]
        with m.If((distance == 0) | (distance > outstanding)):
            m.d.comb += self.acknowledge.ready.eq(1)
            with m.If((distance == 0) & said.missing & self._is_sent.bit_select(self._peer, 1)):
                self._go_back(m, values, writes)
            m.next = "CHOOSE"
        with m.Elif(~is_held):
            m.d.comb += self.freed.valid.eq(1)
            self._set(m, writes["oldest"], oldest + 1)
            self._set(m, writes["first"], link.data)
            self._set(m, writes["stamp"], self._now)
            after = Mux(is_behind, oldest + 1, cursor)[:16]
            with m.If(is_behind):  # it came after all, before it was sent again
                self._set(m, writes["cursor"], after)
                self._set(m, writes["at"], link.data)
            with m.If(values["unsent"] == oldest):  # an honest peer does not say so of what was never sent
                self._set(m, writes["unsent"], oldest + 1)
            m.d.sync += [
                self._is_sent.bit_select(self._peer, 1).eq(after != (oldest + 1)[:16]),
                self.pending.bit_select(self._peer, 1).eq(after != end),
            ]

    def _take(self, m, values, writes, link):
        cursor, taken = values["cursor"], self.taken
        m.d.comb += [
            self.take.ready.eq(1),
            taken.found.eq(self.pending.bit_select(self._peer, 1)),
            taken.buffer.eq(values["at"]), taken.sequence.eq(cursor), taken.again.eq(cursor != values["unsent"]),
            link.addr.eq(values["at"]),
        ]
        with m.If(taken.found):
            after = (cursor + 1)[:16]
            self._set(m, writes["cursor"], after)
            self._set(m, writes["at"], link.data)
            with m.If(~taken.again):
                self._set(m, writes["unsent"], after)
            with m.If(cursor == values["oldest"]):
                self._set(m, writes["stamp"], self._now)
            m.d.sync += [
                self._is_sent.bit_select(self._peer, 1).eq(1),
                self.pending.bit_select(self._peer, 1).eq(after != values["next"]),
            ]

    def _append(self, m, values, writes):
        buffer, end = self.append.payload.buffer, values["next"]
        link = self._links.write_port()
        m.d.comb += [
            self.append.ready.eq(1),
            link.addr.eq(values["last"]), link.data.eq(buffer), link.en.eq(end != values["oldest"]),
        ]
        self._set(m, writes["next"], end + 1)
        self._set(m, writes["last"], buffer)
        with m.If(end == values["oldest"]):
            self._set(m, writes["first"], buffer)
        with m.If(end == values["cursor"]):
            self._set(m, writes["at"], buffer)
        m.d.sync += [
            self.pending.bit_select(self._peer, 1).eq(1),
            Assert((end - values["oldest"])[:16] < self.buffers, "more packets wait than there are buffers"),
        ]
