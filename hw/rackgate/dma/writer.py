# SPDX-License-Identifier: Apache-2.0
"""Streams to memory: write bytes of several streams at any alignment."""

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.dma.burst import BurstMaker, BurstParameters
from rackgate.stream.aligner import Aligner, pieces_layout
from rackgate.stream.skid import SkidBuffer

__all__ = ["Writer"]

#: Inputs that may be between ``i`` and the burst maker: three in the aligner, one at its output, two in the
#: buffer behind it.
_IN_FLIGHT = 6


class Writer(wiring.Component):
    """Write byte streams of several contexts, in turn, to memory over AXI4.

    Each context's bytes go to consecutive addresses from the one that its last ``begin`` loaded. Exactly the
    bytes given are written: strobes are low for the rest of the first and the last word. Bursts are
    INCR and never cross 4 KiB. The contexts may take turns at any word; bytes that do not fill a word wait
    until more come or a flush does. Addresses must not run past the end of the address space.

    8 bytes a cycle are sustained. A flush with bytes takes a cycle more, and so does a change of context.
    The first address is out 8 cycles after the word that closes its burst (a flush, a multiple of
    ``burst`` words, or a word of another context), when nothing is in the way. ``i.ready`` depends on no
    input. ``b.ready`` is always high. Reset forgets everything; bursts under way must be reset with it.

    Parameters
    ----------
    addr_width, id_width, id, contexts, burst, fifo_depth, outstanding:
        As in :class:`~rackgate.dma.burst.BurstParameters`; kept in ``parameters``.

    Members
    -------
    i:
        Pieces of 8 bytes (:func:`~rackgate.stream.aligner.pieces_layout`); ``data`` of a ``begin`` is not
        looked at. Before ``begin`` a context's bytes must have been flushed.
    address:
        For each context the byte address that ``begin`` loads, sampled when it is taken at ``i``.
    idle:
        For each context: nothing of it is between ``i`` and the last answer. It falls in the cycle after a
        piece is taken, and stays low while bytes wait for a flush.
    errors:
        For each context: a write since its last ``begin`` was answered with an error.
    aw, w, b:
        AXI4 write channels.
    """

    i: stream.Interface
    aw: stream.Interface
    w: stream.Interface
    b: stream.Interface

    def __init__(self, *, addr_width=40, id_width=4, id=0, contexts=2, burst=16, fifo_depth=64, outstanding=16):
        self.parameters = BurstParameters(addr_width=addr_width, id_width=id_width, id=id, contexts=contexts,
                                          burst=burst, fifo_depth=fifo_depth, outstanding=outstanding)
        self.contexts = self.parameters.contexts
        bus = self.parameters.bus
        super().__init__({
            "i": In(stream.Signature(pieces_layout(8))),
            "address": In(data.ArrayLayout(bus.addr_width, self.contexts)),
            "idle": Out(self.contexts),
            "errors": Out(self.contexts),
            "aw": bus.members["aw"],
            "w": bus.members["w"],
            "b": bus.members["b"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.bursts = bursts = BurstMaker(self.parameters)
        m.submodules.aligner = aligner = Aligner(8, contexts=self.contexts)
        # Cuts the path from the burst maker's ready to all registers of the aligner.
        m.submodules.skid = skid = SkidBuffer(aligner.o.signature.members["payload"].shape)
        wiring.connect(m, wiring.flipped(self.i), aligner.i)
        wiring.connect(m, aligner.o, skid.i)
        wiring.connect(m, skid.o, bursts.i)
        for name in ("aw", "w", "b"):
            wiring.connect(m, getattr(bursts, name), wiring.flipped(getattr(self, name)))
        with m.If(self.i.payload.begin):
            m.d.comb += aligner.i.payload.data.eq(self.address[self.i.payload.context])

        is_taken, is_done = Signal(), Signal()
        m.d.comb += [
            is_taken.eq(self.i.valid & self.i.ready),
            is_done.eq(bursts.i.valid & bursts.i.ready & bursts.i.payload.end),
        ]
        for k in range(self.contexts):
            self._account(m, bursts, k, is_taken & (self.i.payload.context == k),
                          is_done & (bursts.i.payload.context == k))
        return m

    def _account(self, m, bursts, k, is_taken, is_done):
        in_flight, is_unflushed = Signal(range(_IN_FLIGHT + 1), name=f"in_flight_{k}"), Signal(name=f"is_unflushed_{k}")
        m.d.sync += [
            in_flight.eq(in_flight + is_taken - is_done),
            Assert(in_flight <= _IN_FLIGHT, "more pieces in flight than there are places"),
        ]
        with m.If(is_taken):
            with m.If(self.i.payload.flush):
                m.d.sync += is_unflushed.eq(0)
            with m.Elif(self.i.payload.count != 0):
                m.d.sync += is_unflushed.eq(1)
            with m.If(self.i.payload.begin):
                m.d.sync += self.errors[k].eq(0)
            m.d.sync += Assert(~(self.i.payload.begin & is_unflushed), "begin before the context's bytes were flushed")
        with m.If(bursts.errors[k]):
            m.d.sync += self.errors[k].eq(1)
        m.d.comb += self.idle[k].eq((in_flight == 0) & ~is_unflushed & ~bursts.is_pending[k])
