# SPDX-License-Identifier: Apache-2.0
"""SEND commands, cut into frames."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.zeronic.records import check_width
from rackgate.zeronic.tx.records import FrameJob, GatherRequest, SendJob
from rackgate.zeronic.tx.slicer import slice_layout

__all__ = ["Segmenter"]


class Segmenter(wiring.Component):
    """Cut commands into frames of ``segment`` bytes of payload; the last has what is left. Without payload: one frame.

    Each frame goes to ``frames`` and, if it has payload, in the same cycle to ``gathers`` or ``slices``. A frame a
    cycle, the first 1 cycle after its command. ``valid`` of an output depends on ``ready`` of the other ones, which
    must not depend on ``valid``. Reset forgets the command under way.

    Parameters
    ----------
    width:
        Bytes of a word, for ``slices``.

    Members
    -------
    i:
        Commands.
    frames:
        Frames.
    gathers:
        Their payload, if it is to be gathered.
    slices:
        Their payload, if it came with the command (:func:`~rackgate.zeronic.tx.slicer.slice_layout`).
    busy:
        A command is not yet wholly cut.
    """

    i: stream.Interface
    frames: stream.Interface
    gathers: stream.Interface
    slices: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        super().__init__({
            "i": In(stream.Signature(SendJob)),
            "frames": Out(stream.Signature(FrameJob)),
            "gathers": Out(stream.Signature(GatherRequest)),
            "slices": Out(stream.Signature(slice_layout(self.width))),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        # Of ``job``, payload, sequence and identification are those of what is left.
        job, is_busy, is_first, shift = Signal(SendJob), Signal(), Signal(), Signal(exact_log2(self.width))
        is_last, size, moves, gathers, slices = Signal(), Signal(16), Signal(), Signal(), Signal()
        header_end = Signal.like(self.frames.payload.header_end)
        m.d.comb += [
            is_last.eq((job.segment == 0) | (job.payload <= job.segment)),
            size.eq(Mux(is_last, job.payload, job.segment)),
            gathers.eq((job.payload != 0) & job.gather),
            slices.eq((job.payload != 0) & ~job.gather),
            moves.eq(is_busy & self.frames.ready & (~gathers | self.gathers.ready) & (~slices | self.slices.ready)),
            self.frames.valid.eq(is_busy & (~gathers | self.gathers.ready) & (~slices | self.slices.ready)),
            self.gathers.valid.eq(is_busy & gathers & self.frames.ready),
            self.slices.valid.eq(is_busy & slices & self.frames.ready),
            self.i.ready.eq(~is_busy | moves & is_last), self.busy.eq(is_busy),
        ]
        frame, gather, piece = self.frames.payload, self.gathers.payload, self.slices.payload
        for name in ("slot", "flow", "gather", "offload", "sequence", "identification"):
            m.d.comb += frame[name].eq(job[name])
        m.d.comb += [
            frame.header_end.eq(header_end),
            frame.payload.eq(size), frame.first.eq(is_first), frame.last.eq(is_last),
            gather.flow.eq(job.flow), gather.position.eq(job.sequence), gather.size.eq(size),
            piece.shift.eq(shift), piece.end.eq(shift + size - 1), piece.ends.eq(is_last),
        ]
        with m.If(moves):
            m.d.sync += [
                job.payload.eq(job.payload - size), job.sequence.eq(job.sequence + size),
                job.identification.eq(job.identification + 1), is_first.eq(0), shift.eq(shift + size),
                is_busy.eq(~is_last),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [job.eq(self.i.payload), is_busy.eq(1), is_first.eq(1), shift.eq(self.i.payload.headers),
                         header_end.eq(self.i.payload.headers - 1)]
        return m
