# SPDX-License-Identifier: Apache-2.0
"""The station: what a board says on its network by itself, and the rest for the system behind it."""

import dataclasses
import operator

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4LiteSignature
from rackgate.bridge.abi import UDP_PORT
from rackgate.csr.bank import Bank
from rackgate.net.station.abi import DEFAULT_ADDRESS, DEFAULT_MAC, STATION_REGISTERS, StationCounter
from rackgate.net.station.answers import AnswerStore
from rackgate.net.station.classifier import Classifier, check_station_width
from rackgate.net.station.intake import Intake
from rackgate.net.station.opener import Opener
from rackgate.net.station.records import PARCEL_WIDTH, Address, Kind
from rackgate.net.station.sender import Sender
from rackgate.stream.arbiter import Arbiter
from rackgate.stream.overflow import OverflowGuard
from rackgate.stream.packet import PacketSignature, packet_layout
from rackgate.stream.packetqueue import PacketQueue
from rackgate.stream.queue import Queue
from rackgate.stream.width import Narrower, Widener

__all__ = ["Station"]

#: Bytes of the longest frame for which there is room in one piece.
_LONGEST = 1518
#: Words for requests of ARP and echo: one block RAM, and more than the longest frame has.
_REPLY_WORDS = 512


class Station(wiring.Component):
    """Answer ARP and ping, carry the bridge's messages in UDP, and pass all other frames to and from the system.

    Which frames are for the station says :class:`~.classifier.Classifier`, and which of them are in order
    :class:`~.intake.Intake`; the others are counted and dropped. A datagram's data is a message; the answer goes to
    the MAC address, IPv4 address and port that the message came from. So the bridge must take the first word of a
    message only when the last word of the answer to the one before it was taken, or when there will be none.

    Nothing on the network stops for want of room: messages, requests and frames for the system are dropped if their
    queue is full, and counted; a frame that the system has begun to take ends with ``error``. So a system that takes
    no frames, or none while it is reset, keeps neither ping nor the bridge from working. Frames of the system are sent
    when all of them is there; those that end with ``error`` are dropped. The system's frames and the station's take
    turns.

    ``net_rx`` takes 4 bytes a cycle or more, and a frame for the station takes up to 14 cycles beside its words: more
    than 1 Gb/s, also in frames of the least size, at 50 MHz. The first word for the system comes some 5 cycles behind
    byte 41. Reset forgets all frames and gives the registers the values of the parameters.

    Parameters
    ----------
    width:
        Bytes of a word of frames: 4, 8 or 16.
    mac, address, port:
        Who the station is after reset, as numbers.
    messages:
        Words for messages that wait; one needs 3 beside its own.
    backlog:
        Words for frames that wait for the system.

    Members
    -------
    net_rx, net_tx:
        Frames without FCS, from and to the MAC.
    system_rx, system_tx:
        Frames to and from the system.
    o_message, i_answer:
        The bridge's messages and answers, a packet each; an answer has 1 to 1472 bytes, else it is dropped.
    csr:
        Registers (:data:`~.abi.STATION_REGISTERS`). A new address counts from the next word on.
    errors:
        Datagrams and requests for the station that were dropped.
    """

    def __init__(self, width: int = 4, *, mac: int = DEFAULT_MAC, address: int = DEFAULT_ADDRESS, port: int = UDP_PORT,
                 messages: int = 2048, backlog: int = 512):
        self.width, self.messages, self.backlog = check_station_width(width), operator.index(messages), backlog
        self.mac, self.address, self.port = operator.index(mac), operator.index(address), operator.index(port)
        for name, bits in (("mac", 48), ("address", 32), ("port", 16)):
            if not 0 < getattr(self, name) < 1 << bits:
                raise ValueError(f"{name} must be a number of {bits} bits above 0, not {getattr(self, name):#x}")
        if self.mac >> 40 & 1:
            raise ValueError(f"mac must be no address of a group, as {mac:#x} is")
        if self.messages < 512:
            raise ValueError(f"messages must be at least 512, not {messages}")
        super().__init__({
            "net_rx": In(PacketSignature(width)), "net_tx": Out(PacketSignature(width)),
            "system_rx": Out(PacketSignature(width)), "system_tx": In(PacketSignature(width)),
            "o_message": Out(PacketSignature(PARCEL_WIDTH)), "i_answer": In(PacketSignature(PARCEL_WIDTH)),
            "csr": In(AXI4LiteSignature(addr_width=12)), "errors": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        who = Signal(Address)
        events = {counter: Signal(name=counter.name.lower()) for counter in StationCounter}
        m.submodules.classifier = classifier = Classifier(self.width)
        wiring.connect(m, wiring.flipped(self.net_rx), classifier.i)
        m.d.comb += classifier.address.eq(who)
        self._to_system(m, classifier.o_system, events)
        sender = self._answer(m, classifier.o_station, who, events)
        self._merge(m, sender.o)
        self._tell(m, who, events)
        return m

    def _to_system(self, m, frames, events):
        """A queue that loses frames when it is full."""
        m.submodules.guard = guard = OverflowGuard(self.width)
        m.submodules.backlog = backlog = Queue(packet_layout(self.width), depth=self.backlog, block_ram=True)
        wiring.connect(m, frames, guard.i)
        wiring.connect(m, guard.o, backlog.i)
        wiring.connect(m, backlog.o, wiring.flipped(self.system_rx))
        m.d.comb += [
            events[StationCounter.SYSTEM_LOST].eq(guard.lost),
            events[StationCounter.SYSTEM_FRAMES].eq(
                backlog.o.valid & backlog.o.ready & backlog.o.payload.last & ~backlog.o.payload.error),
        ]

    def _answer(self, m, frames, who, events):
        """Frames for the station, through the bridge or not, to its own frames."""
        m.submodules.narrower = narrower = Narrower(self.width, PARCEL_WIDTH)
        m.submodules.intake = intake = Intake()
        m.submodules.messages = messages = PacketQueue(PARCEL_WIDTH, depth=self.messages, waits=False)
        m.submodules.replies = replies = PacketQueue(PARCEL_WIDTH, depth=_REPLY_WORDS, waits=False)
        m.submodules.opener = opener = Opener()
        m.submodules.answers = answers = AnswerStore()
        m.submodules.sender = sender = Sender()
        wiring.connect(m, frames, narrower.i)
        wiring.connect(m, narrower.o, intake.i)
        for out, queue in ((intake.o_message, messages), (intake.o_reply, replies)):
            m.d.comb += [queue.i.payload.eq(out.payload), queue.i.valid.eq(out.valid)]
        wiring.connect(m, messages.o, opener.i)
        wiring.connect(m, opener.o, wiring.flipped(self.o_message))
        wiring.connect(m, wiring.flipped(self.i_answer), answers.i)
        wiring.connect(m, replies.o, sender.i_reply)
        wiring.connect(m, answers.record, sender.record)
        wiring.connect(m, answers.words, sender.words)
        was_damaged = Signal()  # a queue tells a cycle after the last word
        m.d.sync += was_damaged.eq(intake.damaged)
        m.d.comb += [
            answers.peer.eq(opener.peer), sender.address.eq(who),
            events[StationCounter.ARP_REPLIES].eq(sender.sent[Kind.ARP.value]),
            events[StationCounter.ECHO_REPLIES].eq(sender.sent[Kind.ECHO.value]),
            events[StationCounter.ANSWERS].eq(sender.sent[Kind.MESSAGE.value]),
            events[StationCounter.MESSAGES].eq(messages.kept),
            events[StationCounter.DAMAGED].eq(was_damaged),
            events[StationCounter.NO_ROOM].eq((messages.dropped | replies.dropped) & ~was_damaged),
        ]
        return sender

    def _merge(self, m, own):
        """The system's frames and the station's."""
        words = _LONGEST // self.width + 1
        m.submodules.store = store = PacketQueue(self.width, depth=1 << ceil_log2(words), waits=True, longest=words)
        m.submodules.widener = widener = Widener(PARCEL_WIDTH, self.width)
        m.submodules.turns = turns = Arbiter(packet_layout(self.width), 2, packets=True)
        wiring.connect(m, wiring.flipped(self.system_tx), store.i)
        wiring.connect(m, own, widener.i)
        wiring.connect(m, store.o, turns.i[0])
        wiring.connect(m, widener.o, turns.i[1])
        wiring.connect(m, turns.o, wiring.flipped(self.net_tx))

    def _tell(self, m, who, events):
        """The registers."""
        reset = {"MAC_LOW": self.mac & 0xFFFF_FFFF, "MAC_HIGH": self.mac >> 32, "ADDRESS": self.address,
                 "PORT": self.port}
        registers = [dataclasses.replace(item, reset=reset.get(item.name, 0)) for item in STATION_REGISTERS.registers]
        m.submodules.bank = bank = Bank(dataclasses.replace(STATION_REGISTERS, registers=tuple(registers)))
        wiring.connect(m, wiring.flipped(self.csr), bank.bus)
        m.d.comb += [
            who.mac.eq(Cat(bank.mac_low, bank.mac_high[:16])), who.address.eq(bank.address), who.port.eq(bank.port),
        ]
        m.d.sync += self.errors.eq(self.errors + (events[StationCounter.DAMAGED] | events[StationCounter.NO_ROOM]))
        for counter, event in events.items():
            total = Signal(32, name=f"total_{counter.name.lower()}")
            m.d.sync += total.eq(total + event)
            m.d.comb += getattr(bank, f"count_{counter.name.lower()}").eq(total)
