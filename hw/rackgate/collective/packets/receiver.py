# SPDX-License-Identifier: Apache-2.0
"""The receiving side of the link: from packets to queues of packets in buffers."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from rackgate.collective.packets.depacketizer import Depacketizer
from rackgate.collective.packets.receivebuffer import ReceiveBuffer
from rackgate.collective.packets.receivequeues import ReceiveQueues

__all__ = ["Receiver"]

#: What of its parts is outside.
_OF_QUEUES = ("is_open", "is_broken", "open", "post", "cancel", "probe", "probed", "has_packet", "take",
              "take_move", "taken", "free", "credit", "cleared", "is_cleared", "owe_take", "owe_communicator",
              "owe_node", "owe_count", "credit_packet", "idle", "no_buffer", "no_communicator", "matched_posted",
              "matched_late")
_OF_BUFFER = ("read", "words")
_OF_DEPACKETIZER = ("i", "node", "received", "received_size", "bad_header", "bad_sequence", "bad_length")


class Receiver(wiring.Component):
    """Take packets from the link, keep each in a slot, and give it to the move that waits for it.

    The members are those of :class:`~.depacketizer.Depacketizer` (``i``, ``node`` and strobes),
    :class:`~.receivequeues.ReceiveQueues` and :class:`~.receivebuffer.ReceiveBuffer` (``read``, ``words``).

    A packet for a posted move shows in ``has_packet`` 5 cycles after the last word of its header came. The link is
    never stopped for want of a buffer, credit or command; it is while headers wait, as ReceiveQueues says, when
    no more than 8 words of payload have come behind them. Reset forgets everything, and takes 128 cycles.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8, 16, 32 or 64.
    segment:
        Payload bytes of the largest packet: a power of two from 256 to 4096.
    slots:
        Receive buffers of a segment each: a power of two from 2 to 256.
    """

    def __init__(self, width: int = 8, *, segment: int = 1024, slots: int = 64):
        self._depacketizer = Depacketizer(width, segment=segment)
        self._buffer = ReceiveBuffer(width, segment=segment, slots=slots)
        self._queues = ReceiveQueues(slots)
        self.width, self.segment, self.slots = self._buffer.width, self._buffer.segment, self._buffer.slots
        # Flows are of the parts' members, seen from outside as from inside.
        super().__init__({name: part.signature.members[name] for part, names in self._parts() for name in names})

    def _parts(self):
        return ((self._depacketizer, _OF_DEPACKETIZER), (self._queues, _OF_QUEUES), (self._buffer, _OF_BUFFER))

    def elaborate(self, platform):
        m = Module()
        m.submodules.depacketizer, m.submodules.queues = depacketizer, queues = self._depacketizer, self._queues
        m.submodules.buffer = buffer = self._buffer
        wiring.connect(m, depacketizer.header, queues.header)
        wiring.connect(m, depacketizer.o, buffer.i)
        wiring.connect(m, queues.admit, buffer.admit)
        for part, names in self._parts():
            for name in names:
                inner, outer, member = getattr(part, name), getattr(self, name), self.signature.members[name]
                if member.is_signature:
                    wiring.connect(m, wiring.flipped(outer), inner)
                elif member.flow is In:
                    m.d.comb += inner.eq(outer)
                else:
                    m.d.comb += outer.eq(inner)
        return m
