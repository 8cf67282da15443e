# SPDX-License-Identifier: Apache-2.0
"""Hold one message until it is known to be whole, and let it be read then."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ETHERNET
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.bridge.abi import HEADER_WORDS, MESSAGE_WORDS
from rackgate.bridge.readout import Readout
from rackgate.stream.packet import PacketSignature

__all__ = ["MessageStore"]

#: Words of block RAM: one DP16KD of ECP5 is 512 words of 36 bits.
_DEPTH = 512


class MessageStore(wiring.Component):
    """Take messages, check length and CRC, and give out the words of those that are right.

    A message is dropped when its last word says ``error``, when it is no whole number of words, shorter than header
    and CRC or longer than a message may be, or when its CRC-32 (IEEE 802.3) is wrong. One that is right is held, and
    no other is taken, until ``release``.

    Takes a word a cycle and needs 2 cycles more for a message. ``i.ready`` depends on no input. Reset drops what is
    held; the RAM keeps its contents, which no longer count.

    Members
    -------
    i:
        Messages.
    is_held:
        A message is held. It comes 2 cycles after its last word.
    words:
        Words of the message that is held, without its CRC.
    o:
        These words, in their order, as :class:`~rackgate.bridge.readout.Readout` gives them.
    release:
        In a cycle with ``is_held``: forget the message, and with it what of it has not been read.
    damaged:
        High for a cycle for each message that is dropped.
    """

    i: In(PacketSignature(4))
    is_held: Out(1)
    words: Out(range(MESSAGE_WORDS))
    o: Out(stream.Signature(32))
    release: In(1)
    damaged: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=32, depth=_DEPTH, init=[])
        m.submodules.readout = readout = Readout(_DEPTH)
        m.submodules.crc = crc = CRC32_ETHERNET(data_width=32).create()
        w_port, r_port = memory.write_port(), memory.read_port()
        wiring.connect(m, readout.o, wiring.flipped(self.o))
        count, is_whole = Signal(range(MESSAGE_WORDS + 2)), Signal()  # words taken; one too many stands for all above
        word = self.i.payload
        m.d.comb += [
            w_port.addr.eq(count), w_port.data.eq(word.data),
            crc.data.eq(word.data),
            r_port.addr.eq(readout.ram_addr), r_port.en.eq(readout.ram_en), readout.ram_data.eq(r_port.data),
            readout.i.payload.count.eq(count - 1),
        ]
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.comb += [w_port.en.eq(1), crc.valid.eq(1)]
                    m.d.sync += count.eq(Mux(count > MESSAGE_WORDS, count, count + 1))
                    with m.If(word.last):
                        m.d.sync += is_whole.eq((word.count == 4) & ~word.error)
                        m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.comb += crc.start.eq(1)
                m.d.sync += [self.words.eq(readout.i.payload.count), count.eq(0)]
                with m.If(is_whole & crc.match_detected & (count > HEADER_WORDS) & (count <= MESSAGE_WORDS)):
                    m.d.comb += readout.i.valid.eq(1)
                    m.d.sync += Assert(readout.i.ready, "the message before is still being read")
                    m.next = "HOLD"
                with m.Else():
                    m.d.comb += self.damaged.eq(1)
                    m.next = "TAKE"
            with m.State("HOLD"):
                m.d.comb += self.is_held.eq(1)
                with m.If(self.release):
                    m.d.comb += readout.cancel.eq(1)
                    m.next = "TAKE"
        m.d.sync += Assert(count < _DEPTH, "a message outgrows the RAM")
        return m
