# SPDX-License-Identifier: Apache-2.0
"""Everything of the collective engine below its sequencer: moves, lanes, packets."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.axi.read_arbiter import ReadArbiter
from rackgate.collective.abi import COMMUNICATORS, CONTEXTS
from rackgate.collective.lanes.receivelane import ReceiveLane
from rackgate.collective.lanes.sendlane import SendLane
from rackgate.collective.moves.moveunit import MoveUnit
from rackgate.collective.packets.answers import Answers
from rackgate.collective.packets.packetizer import Packetizer
from rackgate.collective.packets.receiver import Receiver
from rackgate.collective.records import (
    ADDRESS_BITS,
    Done,
    Failure,
    Key,
    Move,
    Opening,
    ProbedPacket,
    Received,
)
from rackgate.stream.packet import PacketSignature
from rackgate.stream.skid import SkidBuffer

__all__ = ["EVENTS", "Datapath"]

_ID_WIDTH = 1
#: Cycles without a packet, or the wish for one, after which the link counts as idle.
_IDLE_CYCLES = 32
#: What the datapath counts: strobes, and sizes that go with two of them.
EVENTS = ("packets_sent", "packets_received", "credit_packets", "matched_posted", "matched_late", "bad_header",
          "bad_sequence", "no_buffer", "no_communicator", "bad_length", "stalled_credit", "clears")


class _Events(data.Struct):
    """A bit for each of EVENTS, and how many bytes of payload went with the packets sent and received."""

    packets_sent: 1
    packets_received: 1
    credit_packets: 1
    matched_posted: 1
    matched_late: 1
    bad_header: 1
    bad_sequence: 1
    no_buffer: 1
    no_communicator: 1
    bad_length: 1
    stalled_credit: 1
    clears: 1
    bytes_sent: 14
    bytes_received: 14


class Datapath(wiring.Component):
    """Carry out moves between memory, link and kernels' streams.

    Parameters
    ----------
    width:
        Bytes a cycle of link, memory and streams: 4, 8, 16, 32 or 64.
    segment:
        Payload bytes of the largest packet, a power of two from 256 to 4096.
    slots:
        Receive buffers, a power of two from 16 to 256.
    types:
        Element types that can be reduced.
    convert:
        Whether 32-bit floats can travel as 16-bit ones.
    ports:
        Memory ports: 1, or 2 of which the second is the send lane's. With one, what reduces and sends at a time reads
        two bytes for each byte of the link, and is bound by that.

    Members
    -------
    net_rx, net_tx, mem, kernel, kernel_out:
        Link, memory, streams of kernels.
    node:
        This node's number.
    timeout:
        Cycles without progress after which a move fails; 0: never.
    open, is_open, is_broken:
        Communicators that open (taken when receive buffers and credits are ready), and their state.
    probe, probed:
        As in :class:`~rackgate.collective.packets.receivequeues.ReceiveQueues`.
    move, done, received, failed, failure, kill, killed:
        The sequencer's side of :class:`~rackgate.collective.moves.moveunit.MoveUnit`.
    events:
        To be counted.

    Reset forgets everything and takes some 130 cycles to clear its tables; bursts and packets under way must be
    reset with it.
    """

    def __init__(self, width, segment, slots, *, types, convert, ports):
        self._receiver = Receiver(width, segment=segment, slots=slots)
        self._moves = MoveUnit(segment)
        axi = {"addr_width": ADDRESS_BITS, "id_width": _ID_WIDTH}
        self._send_lane = SendLane(width, convert=convert, **axi)
        # Room for a packet, so that the lane goes on with the next one while what it sends waits for the send lane's.
        self._receive_lane = ReceiveLane(width, types=types, convert=convert, ids=(0, 0, 0),
                                         departing=segment // width, **axi)
        self._packetizer = Packetizer(width, 3)
        if ports not in (1, 2):
            raise ValueError(f"ports must be 1 or 2, not {ports}")
        self.ports = ports
        self._read = ReadArbiter(4 - ports, addr_width=ADDRESS_BITS, data_width=8 * width, id_width=_ID_WIDTH)
        self.bus = AXI4Signature(addr_width=ADDRESS_BITS, data_width=8 * width, id_width=self._read.bus_id_width)
        super().__init__({
            "net_rx": In(PacketSignature(width)), "net_tx": Out(PacketSignature(width)),
            "mem": Out(self.bus).array(ports),
            "kernel": In(PacketSignature(width)), "kernel_out": Out(PacketSignature(width)),
            "node": In(4), "timeout": In(32),
            "open": In(stream.Signature(Opening)), "is_open": In(COMMUNICATORS), "is_broken": In(COMMUNICATORS),
            "probe": In(stream.Signature(Key)), "probed": Out(ProbedPacket),
            "move": In(stream.Signature(Move)), "done": Out(Done), "received": Out(Received),
            "failed": Out(CONTEXTS), "failure": Out(data.ArrayLayout(Failure, CONTEXTS)),
            "kill": In(CONTEXTS), "killed": Out(CONTEXTS),
            "events": Out(_Events),
        })

    def elaborate(self, platform):
        m = Module()
        receiver, moves, packetizer = self._receiver, self._moves, self._packetizer
        for name, part in (("receiver", receiver), ("moves", moves), ("send_lane", self._send_lane),
                           ("receive_lane", self._receive_lane), ("packetizer", packetizer), ("read", self._read)):
            m.submodules[name] = part
        wiring.connect(m, wiring.flipped(self.net_rx), receiver.i)
        wiring.connect(m, packetizer.o, wiring.flipped(self.net_tx))
        wiring.connect(m, wiring.flipped(self.move), moves.move)
        m.d.comb += [
            receiver.node.eq(self.node), packetizer.node.eq(self.node),
            receiver.is_open.eq(self.is_open), receiver.is_broken.eq(self.is_broken),
            moves.timeout.eq(self.timeout), moves.kill.eq(self.kill),
            *(getattr(self, name).eq(getattr(moves, name))
              for name in ("done", "received", "failed", "failure", "killed")),
        ]
        self._open(m)
        self._queues(m)
        self._lanes(m)
        self._memory(m)
        self._count(m)
        return m

    def _open(self, m):
        """A communicator opens at the receive buffers first, then for credits."""
        receiver, moves = self._receiver, self._moves
        with m.FSM():
            with m.State("RECEIVER"):
                m.d.comb += [receiver.open.valid.eq(self.open.valid),
                             receiver.open.payload.communicator.eq(self.open.payload.communicator),
                             receiver.open.payload.credits.eq(self.open.payload.credits)]
                with m.If(receiver.open.valid & receiver.open.ready):
                    m.next = "CREDITS"
            with m.State("CREDITS"):
                m.d.comb += [moves.open.valid.eq(self.open.valid), moves.open.payload.eq(self.open.payload),
                             self.open.ready.eq(moves.open.ready)]
                with m.If(moves.open.valid & moves.open.ready):
                    m.next = "RECEIVER"

    def _queues(self, m):
        """The queues of received packets."""
        receiver, moves = self._receiver, self._moves
        for name in ("post", "cancel"):
            wiring.connect(m, getattr(moves, name), getattr(receiver, name))
        wiring.connect(m, receiver.credit, moves.credit)
        wiring.connect(m, wiring.flipped(self.probe), receiver.probe)
        m.d.comb += [
            self.probed.eq(receiver.probed),
            moves.has_packet.eq(receiver.has_packet), receiver.take.eq(moves.take),
            receiver.take_move.eq(moves.front), moves.taken.eq(receiver.taken),
            receiver.owe_take.eq(moves.take_credit), receiver.owe_communicator.eq(moves.communicator),
            receiver.owe_node.eq(moves.node), moves.owed.eq(receiver.owe_count),
        ]

    def _lanes(self, m):
        """The lanes, and the three that send packets."""
        receiver, moves, packetizer = self._receiver, self._moves, self._packetizer
        send, receive = self._send_lane, self._receive_lane
        wiring.connect(m, moves.send, send.i)
        wiring.connect(m, moves.receive, receive.i)
        wiring.connect(m, send.retired, moves.retired_send)
        wiring.connect(m, receive.retired, moves.retired_receive)
        wiring.connect(m, receive.read, receiver.read)
        wiring.connect(m, receiver.words, receive.packet)
        m.submodules.freed = freed = SkidBuffer(receive.free.payload.shape())  # between what both ends have to wait for
        wiring.connect(m, receive.free, freed.i)
        wiring.connect(m, freed.o, receiver.free)
        for k, lane in ((1, receive), (2, send)):
            wiring.connect(m, lane.header, packetizer.header[k])
            wiring.connect(m, lane.payload, packetizer.payload[k])
        m.submodules.answers = answers = Answers()
        wiring.connect(m, receiver.credit_packet, answers.credit)
        wiring.connect(m, moves.clear, answers.clear)
        wiring.connect(m, answers.o, packetizer.header[0])
        m.d.comb += [
            moves.cleared.eq(receiver.cleared), moves.is_cleared.eq(receiver.is_cleared),
            send.skip_kernel.eq(moves.stuck), receive.skip_kernel.eq(moves.stuck),
        ]
        quiet = Signal(range(_IDLE_CYCLES + 1))
        m.d.comb += receiver.idle.eq(quiet == _IDLE_CYCLES)
        with m.If(packetizer.o.valid | Cat(one.valid for one in packetizer.header).any()):
            m.d.sync += quiet.eq(0)
        with m.Elif(~receiver.idle):
            m.d.sync += quiet.eq(quiet + 1)
        wiring.connect(m, receive.kernel_out, wiring.flipped(self.kernel_out))
        # Both lanes may take from the kernels' stream; the receive lane asks first.
        m.d.comb += [
            receive.kernel.valid.eq(self.kernel.valid), receive.kernel.payload.eq(self.kernel.payload),
            send.kernel.valid.eq(self.kernel.valid & ~receive.kernel.ready),
            send.kernel.payload.eq(self.kernel.payload),
            self.kernel.ready.eq(receive.kernel.ready | send.kernel.ready),
        ]

    def _memory(self, m):
        """The receive lane has the first port, and writes there alone; the send lane reads through the last."""
        read, send, receive, mem = self._read, self._send_lane, self._receive_lane, self.mem[0]
        readers = [(receive.ar_local, receive.r_local), (receive.ar_other, receive.r_other), (send.ar, send.r)]
        if self.ports == 2:
            ar, r = readers.pop()
            theirs = self.mem[1]
            m.d.comb += [*_copy(theirs.ar, ar), *_copy(r, theirs.r), theirs.b.ready.eq(1)]
        for k, (ar, r) in enumerate(readers):
            wiring.connect(m, ar, read.i_ar[k])
            wiring.connect(m, read.o_r[k], r)
        wiring.connect(m, read.o_ar, wiring.flipped(mem.ar))
        wiring.connect(m, wiring.flipped(mem.r), read.i_r)
        m.d.comb += [*_copy(mem.aw, receive.aw), *_copy(mem.w, receive.w), *_copy(receive.b, mem.b)]

    def _count(self, m):
        receiver, packetizer, events = self._receiver, self._packetizer, self.events
        m.d.comb += [
            events.packets_sent.eq(packetizer.sent),
            events.credit_packets.eq(packetizer.sent & packetizer.sent_credit),
            events.clears.eq(packetizer.sent & packetizer.sent_clear),
            events.bytes_sent.eq(packetizer.sent_size), events.packets_received.eq(receiver.received),
            events.bytes_received.eq(receiver.received_size), events.stalled_credit.eq(self._moves.stalled),
            *(getattr(events, name).eq(getattr(receiver, name)) for name in EVENTS[3:10]),
        ]


def _copy(to, of):
    """Stream ``of`` goes on as ``to``, whose ids may have another width."""
    return [to.valid.eq(of.valid), of.ready.eq(to.ready),
            *(to.payload[field].eq(of.payload[field]) for field, _ in to.payload.shape())]
