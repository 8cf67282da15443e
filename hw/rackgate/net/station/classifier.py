# SPDX-License-Identifier: Apache-2.0
"""Which frames are for the station, and which for the system behind it."""

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.net.headers import ETHER_TYPE_IPV4, PROTOCOL_UDP
from rackgate.net.station.records import ETHER_TYPE_ARP, PROTOCOL_ICMP, Address, wire_bytes
from rackgate.stream.packet import PacketSignature, packet_layout
from rackgate.stream.queue import Queue

__all__ = ["Classifier", "check_station_width"]

#: In the byte of IPv4's flags: fragments are not allowed. A whole datagram may say so or not.
_DONT_FRAGMENT = 0x40
#: Bytes that the decision is made on: to the end of ARP, or of the UDP header.
_DECIDING = 42
#: Words that wait for the decision, which needs 11 of them at the least width.
_DEPTH = 16


def check_station_width(width: int) -> int:
    """``width``, if a station can have it: 4, 8 or 16 bytes."""
    if width not in (4, 8, 16):
        raise ValueError(f"width must be 4, 8 or 16 bytes, not {width}")
    return width


def _rows(address) -> dict[str, dict[int, Value]]:
    """What must be at which byte of a frame, for each condition.

    Sources: IEEE 802.3 3.1.1, RFC 826, RFC 791 3.1, RFC 792, RFC 768.
    """
    def row(**fields) -> dict[int, Value]:
        """Bytes of fields ``at_<offset>``, each a number of so many bytes, or a signal."""
        found = {}
        for name, value in fields.items():
            start = int(name.removeprefix("at_"))
            content = Const(value[0], 8 * value[1]) if isinstance(value, tuple) else value
            found |= {start + number: byte for number, byte in enumerate(wire_bytes(content, len(content) // 8))}
        return found

    # Version 4 without options, fragment offset 0; the flags beside the offset are looked at apart.
    ipv4 = row(at_12=(ETHER_TYPE_IPV4, 2), at_14=(0x45, 1), at_21=(0, 1), at_30=address.address)
    return {
        "own": row(at_0=address.mac), "everyone": row(at_0=(0xFFFF_FFFF_FFFF, 6)),
        "arp": row(at_12=(ETHER_TYPE_ARP, 2), at_14=(1, 2), at_16=(ETHER_TYPE_IPV4, 2), at_18=(0x0604, 2),
                   at_20=(1, 2), at_38=address.address),
        "echo": ipv4 | row(at_23=(PROTOCOL_ICMP, 1), at_34=(0x0800, 2)),
        "message": ipv4 | row(at_23=(PROTOCOL_UDP, 1), at_36=address.port),
        "unfragmented": row(at_20=(0, 1)),  # but for the flag _DONT_FRAGMENT
    }


class Classifier(wiring.Component):
    """Send frames one way or the other, by their headers alone.

    For the station are: ARP requests for its IPv4 address, to its MAC address or all; and to its MAC and its IPv4
    address, not in fragments and without options, ICMP echo requests and UDP datagrams to its port. All other frames,
    also too short ones, are for the system.

    A word a cycle. The first word of a frame comes out some cycles after byte 41, or the frame's end; order is kept. A
    frame that is stalled holds up those behind it. ``i.ready`` depends on no input. Reset forgets what has come.

    Parameters
    ----------
    width:
        Bytes of a word: 4, 8 or 16.

    Members
    -------
    i:
        Frames without FCS.
    address:
        Who the station is.
    o_station, o_system:
        The frames, each at one of them.
    """

    def __init__(self, width: int = 4):
        self.width = check_station_width(width)
        super().__init__({
            "i": In(PacketSignature(self.width)), "address": In(Address),
            "o_station": Out(PacketSignature(self.width)), "o_system": Out(PacketSignature(self.width)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.words = words = Queue(packet_layout(self.width), depth=_DEPTH)
        m.submodules.ways = ways = Queue(1, depth=_DEPTH)
        takes, word, is_ours = Signal(), words.o.payload, ways.o.payload
        m.d.comb += [
            self.i.ready.eq(words.i.ready & ways.i.ready),
            takes.eq(self.i.valid & self.i.ready),
            words.i.valid.eq(takes), words.i.payload.eq(self.i.payload),
            ways.o.ready.eq(words.o.valid & words.o.ready & word.last),
        ]
        self._decide(m, takes, ways.i)
        for way, is_chosen in ((self.o_station, is_ours), (self.o_system, ~is_ours)):
            m.d.comb += [way.payload.eq(word), way.valid.eq(words.o.valid & ways.o.valid & is_chosen)]
            with m.If(is_chosen):
                m.d.comb += words.o.ready.eq(ways.o.valid & way.ready)
        return m

    def _decide(self, m, takes, way):
        """Follow a frame's headers; put its way into the queue when they are over."""
        word, decides = self.i.payload, (_DECIDING - 1) // self.width
        beat, holds = Signal(range(decides + 2)), {}
        for name, row in _rows(self.address).items():
            held, here = Signal(name=f"{name}_held"), Signal(name=f"{name}_here")
            holds[name] = here & (held | (beat == 0))
            m.d.comb += here.eq(1)  # words without a place in the row
            with m.Switch(beat):
                for number in range(decides + 1):
                    with m.Case(number):
                        m.d.comb += here.eq(Cat(
                            self._byte(name, number * self.width + place) == row[number * self.width + place]
                            for place in range(self.width) if number * self.width + place in row).all())
            with m.If(takes):
                m.d.sync += held.eq(holds[name])
        is_whole, is_ours = Signal(), Signal()
        m.d.comb += [
            is_whole.eq((beat == decides) & (word.count >= _DECIDING - decides * self.width)),
            is_ours.eq(holds["arp"] & (holds["own"] | holds["everyone"])
                       | holds["own"] & (holds["echo"] | holds["message"]) & holds["unfragmented"]),
            way.valid.eq(takes & ((beat == decides) | word.last & (beat < decides))),
            way.payload.eq(is_whole & is_ours),
        ]
        with m.If(takes):
            with m.If(word.last):
                m.d.sync += beat.eq(0)
            with m.Elif(beat <= decides):
                m.d.sync += beat.eq(beat + 1)

    def _byte(self, name, place):
        """The byte at ``place`` of a frame, in the word that has it, as the row ``name`` looks at it."""
        byte = self.i.payload.data.word_select(place % self.width, 8)
        return byte & ~_DONT_FRAGMENT if name == "unfragmented" else byte
