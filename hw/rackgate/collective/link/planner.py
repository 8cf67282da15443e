# SPDX-License-Identifier: Apache-2.0
"""Which frame to send next, with what in its headers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import NODES
from rackgate.collective.link.abi import LINK_VERSION, LinkFlag
from rackgate.collective.link.frame import (
    BUFFER_BITS,
    LINK_HEADER_SIZE,
    Departure,
    LinkSettings,
    StoredPacket,
)
from rackgate.net.headers import PROTOCOL_UDP

__all__ = ["Planner"]


def _folded(total):
    """One step towards 16 bits: the carries come back in at the bottom."""
    return total[:16] + total[16:]


class Planner(wiring.Component):
    """Choose among the peers that have a packet to be sent, or wait for an acknowledgement, in turns.

    A frame takes some 10 cycles from the choice to ``o``, most of which its checksums need (RFC 1071), and meanwhile
    the one before it leaves. Reset forgets the frame.

    Members
    -------
    node, settings:
        This node, and what the host has set.
    pending, take, found, buffer, sequence:
        Peers with packets, and what is to be sent: see :class:`~rackgate.collective.link.windows.Windows`.
    due:
        Bit per peer: an acknowledgement should go out even without a packet.
    peer, expected, missing, told:
        A peer; what to acknowledge to it; whether to ask it to send again; strobe: a frame will tell it.
    lookup, entry:
        A buffer, and what is known of the packet in it.
    held:
        The buffer that a frame under way needs.
    o:
        Frames to be sent.
    """

    def __init__(self):
        super().__init__({
            "node": In(4), "settings": In(LinkSettings),
            "pending": In(NODES), "take": Out(stream.Signature(4)),
            "found": In(1), "buffer": In(BUFFER_BITS), "sequence": In(16),
            "due": In(NODES), "peer": Out(4), "expected": In(16), "missing": In(1), "told": Out(1),
            "lookup": Out(BUFFER_BITS), "entry": In(StoredPacket),
            "held": Out(data.StructLayout({"valid": 1, "buffer": BUFFER_BITS})),
            "o": Out(stream.Signature(Departure)),
        })
        self._has_packet = Signal()
        # Sums on their way to the two checksums.
        self._addresses, self._ipv4, self._udp = Signal(18), Signal(20), Signal(22)

    def elaborate(self, platform):
        m = Module()
        frame, asked = self.o.payload, Signal(NODES)
        peer = frame.peer
        m.d.comb += [
            asked.eq(self.pending | self.due),
            self.take.payload.eq(peer), self.peer.eq(peer), self.lookup.eq(frame.buffer),
            self.held.valid.eq(self._has_packet), self.held.buffer.eq(frame.buffer),
        ]
        with m.FSM():
            with m.State("CHOOSE"):
                m.d.sync += self._has_packet.eq(0)
                with m.If(asked.any()):
                    self._choose(m, asked, peer)
                    m.next = "TAKE"
            with m.State("TAKE"):
                with m.If(self.pending.bit_select(peer, 1)):
                    m.d.comb += self.take.valid.eq(1)
                    m.d.sync += [frame.buffer.eq(self.buffer), frame.sequence.eq(self.sequence)]
                    with m.If(self.take.ready):
                        m.d.sync += self._has_packet.eq(self.found)
                        m.next = "TELL"
                with m.Else():
                    m.next = "TELL"
            with m.State("TELL"):
                self._tell(m)
                with m.If(~self._has_packet & ~self.due.bit_select(peer, 1)):  # acknowledged meanwhile
                    m.next = "CHOOSE"
                with m.Else():
                    m.d.comb += self.told.eq(1)
                    m.next = "LENGTHS"
            self._sum(m)
            with m.State("SEND"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += self._has_packet.eq(0)
                    m.next = "CHOOSE"
        return m

    @staticmethod
    def _choose(m, asked, peer):
        """The next one behind ``peer`` that asks, or else the first one."""
        behind, choice = Signal(NODES), Signal(NODES)
        m.d.comb += [
            behind.eq(asked & Cat(peer < number for number in range(NODES))),
            choice.eq(Mux(behind.any(), behind, asked)),
        ]
        for number in reversed(range(NODES)):
            with m.If(choice[number]):
                m.d.sync += peer.eq(number)

    def _tell(self, m):
        """All but the checksums, and the sum of the two addresses."""
        frame, address = self.o.payload, self.settings.address
        low = [Cat(number, address[4:16]) for number in (self.node, frame.peer)]
        m.d.sync += [
            frame.flags.eq(0),
            frame.length.eq(0),
            frame.acknowledgement.eq(self.expected),
            self._addresses.eq(low[0] + low[1] + Cat(Const(0, 1), address[16:])),
        ]
        with m.If(self.missing):
            m.d.sync += frame.flags[LinkFlag.MISSING.bit_length() - 1].eq(1)
        with m.If(self._has_packet):
            m.d.sync += [
                frame.length.eq(self.entry.length),
                frame.flags[LinkFlag.PACKET.bit_length() - 1].eq(1),
                frame.flags[LinkFlag.ERROR.bit_length() - 1].eq(self.entry.error),
            ]
        with m.Else():
            m.d.sync += frame.sequence.eq(0)

    def _sum(self, m):
        """The checksums, a few words a cycle."""
        frame, ipv4, udp = self.o.payload, self._ipv4, self._udp
        udp_length = Signal(16)
        m.d.comb += udp_length.eq(frame.length + 8 + LINK_HEADER_SIZE)
        with m.State("LENGTHS"):
            m.d.sync += [
                ipv4.eq(self._addresses + udp_length + (20 + 0x4500 + 0x4000 + (64 << 8 | PROTOCOL_UDP))),
                udp.eq(self._addresses + Cat(Const(0, 1), udp_length) + PROTOCOL_UDP),
            ]
            m.next = "HEADER"
        with m.State("HEADER"):
            second = Cat(frame.flags, self.settings.session, Const(LINK_VERSION, 8))
            m.d.sync += [ipv4.eq(_folded(ipv4)), udp.eq(udp + Cat(Const(0, 1), self.settings.port) + second)]
            m.next = "NUMBERS"
        with m.State("NUMBERS"):
            m.d.sync += [
                frame.ipv4_checksum.eq(~_folded(ipv4)[:16]),
                udp.eq(udp + frame.sequence + frame.acknowledgement),
            ]
            m.next = "PACKET"
        with m.State("PACKET"):
            m.d.sync += udp.eq(udp + Mux(frame.length == 0, 0, self.entry.sum))
            m.next = "FOLD"
        with m.State("FOLD"):
            m.d.sync += udp.eq(_folded(udp))
            m.next = "FINISH"
        with m.State("FINISH"):
            checksum = Signal(16)
            m.d.comb += checksum.eq(~_folded(udp))
            m.d.sync += frame.udp_checksum.eq(Mux(checksum == 0, 0xFFFF, checksum))
            m.next = "SEND"
