# SPDX-License-Identifier: Apache-2.0
"""Block RAM as an AXI4 target: the read channels, and the write channels."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4Signature, Burst, Response

__all__ = ["RamReads", "RamWrites", "Region"]

_BYTES = 8  # of a word
_SIZE = 3  # AxSIZE of a beat of so many bytes


class Region:
    """``size`` bytes from ``base`` on, in words of 8 bytes.

    Raises
    ------
    ValueError
        When the size is no multiple of 8, or the base no multiple of the power of two that holds it.
    """

    def __init__(self, base: int, size: int):
        self.base, self.size = operator.index(base), operator.index(size)
        if self.size < 2 * _BYTES or self.size % _BYTES:
            raise ValueError(f"size must be a multiple of {_BYTES} from {2 * _BYTES} on, not {size}")
        #: Words, and bits of a word's number.
        self.depth = self.size // _BYTES
        self.bits = ceil_log2(self.depth)
        if self.base < 0 or self.base % (_BYTES << self.bits):
            raise ValueError(f"base must be a multiple of {_BYTES << self.bits:#x}, not {base:#x}")

    def holds(self, word: Value) -> Value:
        """Whether a word of the bus's address space is one of these."""
        is_near = word[self.bits:] == self.base // _BYTES >> self.bits
        return is_near if self.depth == 1 << self.bits else is_near & (word[:self.bits] < self.depth)


def _is_legal(request) -> Value:
    """Whether a burst is of a kind that our initiators send."""
    return (request.burst == Burst.INCR) & (request.size == _SIZE)


def _response(region, word, is_legal) -> Value:
    return Mux(is_legal, Mux(region.holds(word), Response.OKAY, Response.DECERR), Response.SLVERR)


class RamReads(wiring.Component):
    """Answer reads from a synchronous read port.

    Bursts are answered in their order, a beat a cycle, also from burst to burst. The first beat is offered 3 cycles
    after its address was taken. A beat outside the region is DECERR; all beats of a burst that is not INCR with 8 bytes
    a beat are SLVERR; their data mean nothing. ``ar.ready`` depends combinationally on ``r.ready``, not on
    ``ar.valid``. Reset forgets the bursts.

    Parameters
    ----------
    bus:
        Signature of the bus, 64 bits wide.
    region:
        Addresses that are there.

    Members
    -------
    ar, r: channels of the bus. ram_addr, ram_en, ram_data: to the read port.
    """

    def __init__(self, bus: AXI4Signature, region: Region):
        self.bus, self.region = bus, region
        super().__init__({
            "ar": In(bus.members["ar"].signature), "r": Out(bus.members["r"].signature.flip()),
            "ram_addr": Out(region.bits), "ram_en": Out(1), "ram_data": In(8 * _BYTES),
        })
        word = bus.addr_width - _SIZE
        beat = data.StructLayout({"word": word, "id": bus.id_width, "is_legal": 1, "last": 1})
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._word, self._left = Signal(word), Signal(8)  # the beat to be asked for, and those behind it
        self._is_busy, self._id, self._is_legal = Signal(), Signal(bus.id_width), Signal()
        self._fetched, self._is_fetched = Signal(beat), Signal()  # the beat at the RAM's output

    def elaborate(self, platform):
        m = Module()
        is_free, is_moving, is_last, fetched = Signal(), Signal(), Signal(), self._fetched
        m.d.comb += [
            is_free.eq(~self.r.valid | self.r.ready),
            is_moving.eq(~self._is_fetched | is_free),
            is_last.eq(self._left == 0),
            self.ram_en.eq(is_moving), self.ram_addr.eq(self._word),
            self.ar.ready.eq(~self._is_busy | (is_moving & is_last)),
        ]
        with m.If(is_moving):
            m.d.sync += [
                self._is_fetched.eq(self._is_busy),
                fetched.word.eq(self._word), fetched.id.eq(self._id), fetched.is_legal.eq(self._is_legal),
                fetched.last.eq(is_last),
                self._word.eq(self._word + 1), self._left.eq(self._left - 1),
            ]
        with m.If(is_free):
            m.d.sync += [
                self.r.valid.eq(self._is_fetched), self.r.payload.data.eq(self.ram_data),
                self.r.payload.id.eq(fetched.id), self.r.payload.last.eq(fetched.last),
                self.r.payload.resp.eq(_response(self.region, fetched.word, fetched.is_legal)),
            ]
        with m.If(self.ar.ready):
            request = self.ar.payload
            m.d.sync += [
                self._is_busy.eq(self.ar.valid), self._word.eq(request.addr[_SIZE:]), self._left.eq(request.len),
                self._id.eq(request.id), self._is_legal.eq(_is_legal(request)),
            ]
        return m


class RamWrites(wiring.Component):
    """Carry out writes at a write port with an enable for each byte.

    Bursts are written in their order, a beat a cycle, also from burst to burst; a response is offered in the cycle
    after the last beat, and a read whose address is taken behind it sees the data. Nothing is written outside the
    region, or by a burst that is not INCR with 8 bytes a beat: DECERR when a beat is outside, SLVERR for the burst.
    ``w.ready`` depends combinationally on ``b.ready`` and ``w.payload``, and ``aw.ready`` on these and on ``w.valid``.
    Reset forgets the bursts; what is in the RAM stays.

    Parameters
    ----------
    bus, region:
        As of :class:`RamReads`.

    Members
    -------
    aw, w, b: channels of the bus. ram_addr, ram_en, ram_data: to the write port, from registers.
    """

    def __init__(self, bus: AXI4Signature, region: Region):
        self.bus, self.region = bus, region
        super().__init__({
            "aw": In(bus.members["aw"].signature), "w": In(bus.members["w"].signature),
            "b": Out(bus.members["b"].signature.flip()),
            "ram_addr": Out(region.bits), "ram_en": Out(_BYTES), "ram_data": Out(8 * _BYTES),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._word, self._left = Signal(bus.addr_width - _SIZE), Signal(8)  # the next beat's, and beats behind it
        self._is_busy, self._id, self._is_legal = Signal(), Signal(bus.id_width), Signal()
        self._has_failed = Signal()  # a beat before was outside

    def elaborate(self, platform):
        m = Module()
        beat, is_taken, is_inside, is_last = self.w.payload, Signal(), Signal(), Signal()
        m.d.comb += [
            self.w.ready.eq(self._is_busy & (~beat.last | ~self.b.valid | self.b.ready)),
            is_taken.eq(self.w.valid & self.w.ready),
            is_last.eq(is_taken & beat.last),
            is_inside.eq(self.region.holds(self._word)),
            self.aw.ready.eq(~self._is_busy | is_last),
        ]
        m.d.sync += [
            self.ram_addr.eq(self._word), self.ram_data.eq(beat.data),
            self.ram_en.eq(Mux(is_taken & is_inside & self._is_legal, beat.strb, 0)),
        ]
        with m.If(self.b.ready):
            m.d.sync += self.b.valid.eq(0)
        with m.If(is_taken):
            m.d.sync += [
                self._word.eq(self._word + 1), self._left.eq(self._left - 1),
                self._has_failed.eq(self._has_failed | ~is_inside),
                Assert(beat.last == (self._left == 0), "the last beat is not where the address says"),
            ]
        with m.If(is_last):
            is_good = is_inside & ~self._has_failed
            m.d.sync += [
                self.b.valid.eq(1), self.b.payload.id.eq(self._id),
                self.b.payload.resp.eq(Mux(self._is_legal, Mux(is_good, Response.OKAY, Response.DECERR),
                                           Response.SLVERR)),
            ]
        with m.If(self.aw.ready):
            request = self.aw.payload
            m.d.sync += [
                self._is_busy.eq(self.aw.valid), self._word.eq(request.addr[_SIZE:]), self._left.eq(request.len),
                self._id.eq(request.id), self._is_legal.eq(_is_legal(request)), self._has_failed.eq(0),
            ]
        return m
