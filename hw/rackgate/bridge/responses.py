# SPDX-License-Identifier: Apache-2.0
"""Keep the last responses, to be sent again."""

import operator

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.bridge.abi import BODY_WORDS
from rackgate.bridge.readout import Readout

__all__ = ["ResponseStore"]

#: Words of block RAM for a response: a DP16KD of ECP5 has as many of up to 36 bits.
_SLOT = 512


class ResponseStore(wiring.Component):
    """Hold the bodies of ``slots`` responses in block RAM.

    Writes take a cycle. Reading a body begins 4 cycles after ``fetch`` and gives a word a cycle. Reset forgets a body
    that is being read; the RAM keeps its contents.

    Parameters
    ----------
    slots:
        A power of two.

    Members
    -------
    slot:
        Which response the other members are about.
    w_en, w_addr, w_data:
        Write a word of its body.
    finish, length:
        High for a cycle: the body is whole, and has ``length`` words.
    fetch:
        High for a cycle: read the body. All of it must be taken before the next.
    words:
        Words of the body of ``slot``, from the cycle after ``finish`` on.
    o:
        The words of the body.
    """

    def __init__(self, slots: int):
        self.slots = operator.index(slots)
        if self.slots < 1 or self.slots & self.slots - 1:
            raise ValueError(f"slots must be a power of two, not {slots}")
        place = range(BODY_WORDS + 1)
        super().__init__({
            "slot": In(range(self.slots)), "w_en": In(1), "w_addr": In(place), "w_data": In(32),
            "finish": In(1), "length": In(place), "fetch": In(1), "words": Out(place), "o": Out(stream.Signature(32)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=32, depth=self.slots * _SLOT, init=[])
        m.submodules.readout = readout = Readout(self.slots * _SLOT)
        lengths = Array(Signal(range(BODY_WORDS + 1), name=f"length_{slot}") for slot in range(self.slots))
        w_port, r_port, width = memory.write_port(), memory.read_port(), exact_log2(_SLOT)
        wiring.connect(m, readout.o, wiring.flipped(self.o))
        m.d.comb += [
            w_port.en.eq(self.w_en), w_port.addr.eq(Cat(self.w_addr[:width], self.slot)), w_port.data.eq(self.w_data),
            r_port.addr.eq(readout.ram_addr), r_port.en.eq(readout.ram_en), readout.ram_data.eq(r_port.data),
            self.words.eq(lengths[self.slot]),
            readout.i.valid.eq(self.fetch), readout.i.payload.first.eq(Cat(Signal(width), self.slot)),
            readout.i.payload.count.eq(self.words),
        ]
        with m.If(self.finish):
            m.d.sync += lengths[self.slot].eq(self.length)
        return m
