# SPDX-License-Identifier: Apache-2.0
"""The NIC's front with its frame buffer: what their bench runs on."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.zeronic.records import ProfileUpdate, Verdict
from rackgate.zeronic.rx.framebuffer import FrameBuffer, FrameRange
from rackgate.zeronic.rx.front import Front

from .axi_pins import AxiPins

__all__ = ["COUNTED", "FrameIntake", "frame_intake"]

#: Outputs of the front that are counted, each in 32 bits.
COUNTED = ("received", "received_bytes", "bad_frame", "bad_ip_checksum", "bad_checksum")


class FrameIntake(wiring.Component):
    """Take frames in, say what the headers of each are, give those that are kept out again, and forget them.

    Parameters
    ----------
    width:
        Bytes of a word.
    words:
        Of the frame buffer.

    Members
    -------
    net_rx, net_tx:
        Frames.
    profile, profile_valid, profile_ready:
        Profiles (:class:`~rackgate.zeronic.records.ProfileUpdate`).
    verdict, verdict_valid, verdict_ready:
        Verdicts (:class:`~rackgate.zeronic.records.Verdict`).
    received, received_bytes, bad_frame, bad_ip_checksum, bad_checksum:
        Counters.
    idle:
        Nothing is within.
    """

    def __init__(self, width: int, words: int):
        self.width, self.words = width, words
        super().__init__({
            "net_rx": In(PacketSignature(width)), "net_tx": Out(PacketSignature(width)),
            "profile": In(ProfileUpdate.as_shape().size), "profile_valid": In(1), "profile_ready": Out(1),
            "verdict": Out(Verdict.as_shape().size), "verdict_valid": Out(1), "verdict_ready": In(1),
            **dict.fromkeys(COUNTED, Out(32)), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.front, m.submodules.frames = front, frames = Front(self.width), FrameBuffer(
            self.width, words=self.words, tag=1)
        m.submodules.asked, m.submodules.held = asked, held = Queue(FrameRange, depth=8), Queue(FrameRange, depth=64)
        wiring.connect(m, wiring.flipped(self.net_rx), front.i)
        wiring.connect(m, front.write, frames.write)
        wiring.connect(m, front.judged, frames.judged)
        verdict, ending, takes, read, word = (front.verdicts, front.endings, Signal(), frames.read.payload,
                                              frames.o.payload)
        m.d.comb += [
            front.first.eq(frames.first),
            Value.cast(front.profile.payload).eq(self.profile),
            front.profile.valid.eq(self.profile_valid), self.profile_ready.eq(front.profile.ready),
            self.verdict.eq(verdict.payload),
            self.verdict_valid.eq(verdict.valid), verdict.ready.eq(self.verdict_ready),
            ending.ready.eq(asked.i.ready & held.i.ready),
            takes.eq(ending.valid & ending.ready & ending.payload.keep),
            frames.read.valid.eq(asked.o.valid), asked.o.ready.eq(frames.read.ready),
            read.word.eq(asked.o.payload.word), read.size.eq(asked.o.payload.size),
            self.net_tx.valid.eq(frames.o.valid), frames.o.ready.eq(self.net_tx.ready),
            *(self.net_tx.payload[name].eq(word[name]) for name in ("data", "count", "last", "error")),
            held.o.ready.eq(frames.o.valid & frames.o.ready & word.last),
            frames.release.valid.eq(held.o.ready), frames.release.payload.eq(held.o.payload),
            self.idle.eq(front.idle & frames.idle),
        ]
        for queue in (asked, held):
            m.d.comb += [queue.i.valid.eq(takes), queue.i.payload.word.eq(ending.payload.word),
                         queue.i.payload.size.eq(ending.payload.length)]
        for name in COUNTED:
            m.d.sync += getattr(self, name).eq(getattr(self, name) + getattr(front, name))
        return m


def frame_intake(**parameters: int) -> AxiPins:
    """The intake with pins."""
    return AxiPins(FrameIntake(**parameters))
