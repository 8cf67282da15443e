# SPDX-License-Identifier: Apache-2.0
"""Cuts steps into chunks of up to 8 bytes."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.inflate.steps import BANKS, check_window, chunk_layout, step_layout

__all__ = ["Chunker"]


class Chunker(wiring.Component):
    """Cut each step into chunks of at most 8 bytes, one chunk a cycle, in order.

    Literals go into the chunk that ends the match if they fit there, else into one of their own. A step
    without bytes is one chunk without bytes. Latency one cycle; the next step is taken in the cycle in which
    the last chunk leaves, so ``i.ready`` depends on ``o.ready``. ``o.valid`` and ``o.payload`` depend on
    nothing but registers.

    Parameters
    ----------
    window:
        Window in bytes, a power of two.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, window):
        self.window = check_window(window)
        super().__init__({
            "i": In(stream.Signature(step_layout(self.window))),
            "o": Out(stream.Signature(chunk_layout(self.window))),
        })

    def elaborate(self, platform):
        m = Module()
        step = Signal.like(self.i.payload)
        is_last = Signal()  # what is left fits one chunk
        is_full = step.length[3:].any()  # at least 8 bytes to copy; without carry chains, for speed
        copied = Mux(is_full, BANKS, step.length[:3])
        chunk = self.o.payload
        m.d.comb += [
            chunk.copied.eq(copied),
            chunk.count.eq(Mux(is_last, step.total[:4], copied)),
            self.i.ready.eq(~self.o.valid | (is_last & self.o.ready)),
        ]
        for name in ("operation", "context", "quiet", "flags", "position", "source", "near", "repeat", "bytes"):
            m.d.comb += getattr(chunk, name).eq(getattr(step, name))

        with m.If(self.i.ready):
            m.d.sync += [
                self.o.valid.eq(self.i.valid),
                step.eq(self.i.payload),
                is_last.eq(_is_at_most(self.i.payload.total, BANKS)),
            ]
        with m.Elif(self.o.ready):
            # Not the last chunk: either it copies 8 bytes, or it ends the match and leaves the literals.
            m.d.sync += [
                step.length.eq(Mux(is_full, step.length - BANKS, 0)),
                step.total.eq(Mux(is_full, step.total - BANKS, step.literals)),
                step.position.eq(step.position + copied),
                step.source.eq(step.source + BANKS),
                is_last.eq(~is_full | _is_at_most(step.total, 2 * BANKS)),
            ]
        with m.If(self.o.valid):
            m.d.sync += Assert(step.total == step.length + step.literals, "a step is not its match and literals")
        return m


def _is_at_most(value, power):
    """Whether ``value`` is at most ``power``, a power of two, without a carry chain."""
    return ~value[exact_log2(power):].any() | (value == power)
