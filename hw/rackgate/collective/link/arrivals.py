# SPDX-License-Identifier: Apache-2.0
"""What has come from each peer, and what it is to be told: the receiver's half of go-back-N."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import NODES
from rackgate.collective.link.abi import LinkFlag
from rackgate.collective.link.frame import Acknowledgement, Arrival

__all__ = ["Arrivals"]


def _flag(flags, flag):
    return flags[flag.bit_length() - 1]


class Arrivals(wiring.Component):
    """Take each peer's packets in their order, drop others, and see that the peer hears of it.

    A frame a cycle, without latency. An acknowledgement is due at once when a second packet has come since the last
    one was sent, or one that has to be dropped, and otherwise when up to ``delay`` cycles have passed. For the first
    packet with a gap before it, the peer is asked to send again; for others before the gap is closed it is not.
    Reset forgets everything; sequences then begin with 0.

    Members
    -------
    i:
        Frames that have come.
    order:
        For those with words: whether they are a packet for the engine, and damaged.
    acknowledge:
        What good frames say; lost if it is not taken at once (the next one says it again).
    peer, expected, missing, told:
        A peer; the sequence number that is expected of it; whether a packet is missing; strobe: it is being told.
    due:
        Bit per peer: it should be told, even without a packet.
    delay:
        Cycles.
    received, foreign, damaged, ahead, duplicate:
        Strobes for each frame: good ones, those dropped, and good ones whose packet is dropped.
    """

    def __init__(self):
        super().__init__({
            "i": In(stream.Signature(Arrival, always_ready=True)),
            "order": Out(stream.Signature(data.StructLayout({"deliver": 1, "error": 1}), always_ready=True)),
            "acknowledge": Out(stream.Signature(Acknowledgement)),
            "peer": In(4), "expected": Out(16), "missing": Out(1), "told": In(1), "due": Out(NODES), "delay": In(32),
            "received": Out(1), "foreign": Out(1), "damaged": Out(1), "ahead": Out(1), "duplicate": Out(1),
        })
        self._expected = Memory(shape=16, depth=NODES, init=[])
        self._is_known = Signal(NODES)  # the memory keeps its contents in reset
        self._waiting = Signal(NODES)  # a packet has come since the last acknowledgement
        self._missing = Signal(NODES)  # the peer is to be asked to send again
        self._is_asked = Signal(NODES)  # that has been decided already for this gap

    def elaborate(self, platform):
        m = Module()
        m.submodules.expected = self._expected
        here, told = (self._expected.read_port(domain="comb") for _ in range(2))
        write = self._expected.write_port()
        frame, peer = self.i.payload, self.i.payload.peer
        expected, distance = Signal(16), Signal(16)
        is_good, has_packet, is_next = Signal(), Signal(), Signal()
        m.d.comb += [
            here.addr.eq(peer), told.addr.eq(self.peer),
            expected.eq(Mux(self._is_known.bit_select(peer, 1), here.data, 0)),
            self.expected.eq(Mux(self._is_known.bit_select(self.peer, 1), told.data, 0)),
            self.missing.eq(self._missing.bit_select(self.peer, 1)),
            is_good.eq(self.i.valid & ~frame.is_foreign & ~frame.is_damaged),
            has_packet.eq(is_good & _flag(frame.flags, LinkFlag.PACKET)),
            distance.eq(frame.sequence - expected),
            is_next.eq(has_packet & (distance == 0)),
            self.received.eq(is_good),
            self.foreign.eq(self.i.valid & frame.is_foreign),
            self.damaged.eq(self.i.valid & frame.is_damaged & ~frame.is_foreign),
            self.ahead.eq(has_packet & ~is_next & ~distance[-1]),
            self.duplicate.eq(has_packet & distance[-1]),
            self.order.valid.eq(self.i.valid & frame.has_words),
            self.order.payload.deliver.eq(is_next),
            self.order.payload.error.eq(_flag(frame.flags, LinkFlag.ERROR)),
            self.acknowledge.valid.eq(is_good),
            self.acknowledge.payload.peer.eq(peer),
            self.acknowledge.payload.acknowledgement.eq(frame.acknowledgement),
            self.acknowledge.payload.missing.eq(_flag(frame.flags, LinkFlag.MISSING)),
            write.addr.eq(peer), write.data.eq(expected + 1), write.en.eq(is_next),
        ]
        self._remember(m, peer, has_packet, is_next)
        return m

    def _remember(self, m, peer, has_packet, is_next):
        """What each peer has to be told, and when. What comes now counts even if the peer is being told now."""
        age, is_up = Signal(32), Signal()
        m.d.comb += is_up.eq(age >= self.delay)
        m.d.sync += age.eq(Mux(is_up, 0, age + 1))
        bits = {name: signal.bit_select(peer, 1) for name, signal in (
            ("known", self._is_known), ("waiting", self._waiting), ("missing", self._missing),
            ("asked", self._is_asked), ("due", self.due))}
        with m.If(is_up):
            m.d.sync += self.due.eq(self.due | self._waiting)
        with m.If(self.told):
            m.d.sync += [signal.bit_select(self.peer, 1).eq(0) for signal in (self._waiting, self.due, self._missing)]
        with m.If(has_packet):
            m.d.sync += bits["waiting"].eq(1)
            with m.If(bits["waiting"] | ~is_next):
                m.d.sync += bits["due"].eq(1)
        with m.If(is_next):
            m.d.sync += [bits["known"].eq(1), bits["asked"].eq(0)]
        with m.If(self.ahead & ~bits["asked"]):
            m.d.sync += [bits["missing"].eq(1), bits["asked"].eq(1)]
