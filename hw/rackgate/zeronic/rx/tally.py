# SPDX-License-Identifier: Apache-2.0
"""What is counted of frames that are done."""

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.zeronic.records import LENGTH_BITS
from rackgate.zeronic.rx.records import Decision

__all__ = ["Tally"]


class Tally(wiring.Component):
    """Tell, for each frame that is done, which counters go on.

    Combinational, no state.

    Members
    -------
    done, frame, has_failed, is_merged:
        Strobe: a frame or fence is done; what it was; a write of its payload failed; it was merged.
    placed, bytes_placed, old, deferred, no_segment, conflict, no_interval, bad_region, merged, write_error:
        Events of the counters (:class:`~rackgate.zeronic.abi.Counter`), in the same cycle; ``bytes_placed`` is 0 in
        all others.
    """

    def __init__(self):
        events = ("placed", "old", "deferred", "no_segment", "conflict", "no_interval", "bad_region", "merged",
                  "write_error")
        super().__init__({
            "done": In(1), "frame": In(Decision), "has_failed": In(1), "is_merged": In(1),
            **{name: Out(1) for name in events},
            "bytes_placed": Out(LENGTH_BITS),
        })

    def elaborate(self, platform):
        m = Module()
        frame, counts = self.frame, self.done & ~self.frame.is_fence
        is_in_memory = counts & ~self.has_failed
        m.d.comb += [
            self.placed.eq(is_in_memory & (frame.payload != 0) & (frame.placed == frame.payload)),
            self.bytes_placed.eq(Mux(is_in_memory, frame.placed, 0)),
            self.deferred.eq(counts & frame.deferred & frame.split),
            *(getattr(self, name).eq(counts & getattr(frame, name)) for name in (
                "old", "no_segment", "conflict", "no_interval", "bad_region")),
            self.merged.eq(counts & self.is_merged),
            self.write_error.eq(counts & self.has_failed),
        ]
        return m
