# SPDX-License-Identifier: Apache-2.0
"""A memory that answers reads when it likes, for proofs."""

from amaranth.asserts import AnySeq
from amaranth.hdl import Assume, Module, Mux, Signal
from amaranth.lib import stream

__all__ = ["answer_reads"]


def answer_reads(m: Module, ar: stream.Interface, r: stream.Interface, *, bursts: int) -> tuple[Signal, list[Signal]]:
    """Answer what was asked, in order, at any time and with any data; at most ``bursts`` are under way.

    Returns the number of bursts under way, and the beats left of each, the oldest first.
    """
    count, beats = Signal(range(bursts + 1)), [Signal(9, name=f"beats_{k}") for k in range(bursts)]
    is_asked, is_ended, after = ar.valid & ar.ready, Signal(), Signal(range(bursts + 1))
    m.d.comb += [
        r.payload.eq(AnySeq(len(r.payload.as_value()))),
        r.valid.eq(AnySeq(1)),
        Assume(~r.valid | (count != 0)),
        Assume(r.payload.last == (beats[0] == 1)),
        is_ended.eq(r.valid & r.payload.last),
        after.eq(count - is_ended),
    ]
    m.d.sync += count.eq(count + is_asked - is_ended)
    with m.If(r.valid):
        m.d.sync += beats[0].eq(Mux(is_ended, beats[1] if bursts > 1 else 0, beats[0] - 1))
    with m.If(is_ended):
        for k in range(1, bursts):
            m.d.sync += beats[k].eq(beats[k + 1] if k + 1 < bursts else 0)
    for k in range(bursts):
        with m.If(is_asked & (after == k)):
            m.d.sync += beats[k].eq(ar.payload.len + 1)
    return count, beats
