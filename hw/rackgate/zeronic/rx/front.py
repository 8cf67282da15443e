# SPDX-License-Identifier: Apache-2.0
"""Frames from the wire: into the buffer, checked, and with what their headers say."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rackgate.pisa.checksum import delayed
from rackgate.stream.packet import PacketSignature
from rackgate.stream.queue import Queue
from rackgate.zeronic.records import FRAME_MOST, LENGTH_BITS, Ending, ProfileUpdate, Verdict, check_width
from rackgate.zeronic.rx.fields import FrameFields, FrameKind
from rackgate.zeronic.rx.profiles import ProfileTable
from rackgate.zeronic.rx.sums import IPV4, FrameSums, header_beats

__all__ = ["Front"]

#: Frames that are whole and whose end has not been taken.
_FRAMES = 32
#: Verdicts that wait, and those of them that may be on their way when the front stops taking frames.
_VERDICTS, _ON_THEIR_WAY = 16, 6
#: Bytes before what IPv4 says of its length.
_LENGTH = IPV4 + 2

#: What becomes of a frame: exactly one of ``keep`` and the reasons to drop it.
_outcome_layout = data.StructLayout({"keep": 1, "bad_frame": 1, "bad_ip_checksum": 1, "bad_checksum": 1})


class Front(wiring.Component):
    """Judge each frame as :mod:`rackgate.zeronic.abi` says, rules 1 to 6, while its words go into the frame buffer.

    Frames with IPv4 are IPv4 without options and not in fragments: all others are kept and not split, and so are those
    that no profile fits: no profile matches, the transport header is longer than what IPv4 has, than
    :data:`~rackgate.zeronic.abi.HEADER_MOST` allows, or too short for its stream position, for TCP or for UDP, or UDP's
    length is not IPv4's. Of each frame there is a verdict as soon as its headers have come, so that its place can be
    looked for while the payload comes, and an ending, both in order. Kept or dropped, each is ``judged`` once.

    A word a cycle, frames back to back; a verdict 5 cycles after the word with the last field (see
    :class:`~.fields.FrameFields`); an ending 7 cycles after the last word at width 8, else 8. When the frame buffer is
    full, or 32 frames wait for their endings to be taken or 10 for their verdicts, ``i`` waits; nothing is lost.
    ``i.ready`` depends combinationally on ``write.ready`` and ``profile.valid``. Reset forgets the frames; the next
    word is taken for a frame's first, and profiles are as :class:`~.profiles.ProfileTable` says.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Ethernet frames without FCS; ``error`` marks one whose FCS was wrong.
    profile:
        Profiles (:class:`~rackgate.zeronic.records.ProfileUpdate`), taken between frames.
    verdicts:
        What the headers of each frame say, also of one that is dropped at its end: of that it may be nonsense.
    endings:
        What became of each (:class:`~rackgate.zeronic.records.Ending`); never before its verdict.
    write, judged, first:
        To the :class:`~.framebuffer.FrameBuffer`. Of a frame that is too long for any, the rest is not written.
        ``judged`` comes in the cycle in which the ending is taken.
    received, received_bytes:
        For a cycle: a frame was judged; bytes of those kept.
    bad_frame, bad_ip_checksum, bad_checksum:
        For a cycle: a frame was dropped (see :class:`~rackgate.zeronic.abi.Counter`).
    idle:
        No frame is under way.
    """

    i: stream.Interface
    profile: stream.Interface
    verdicts: stream.Interface
    endings: stream.Interface
    write: stream.Interface
    judged: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        super().__init__({
            "i": In(PacketSignature(self.width)),
            "profile": In(stream.Signature(ProfileUpdate)),
            "verdicts": Out(stream.Signature(Verdict)),
            "endings": Out(stream.Signature(Ending)),
            "write": Out(stream.Signature(data.StructLayout({"data": 8 * self.width, "last": 1}))),
            "judged": Out(stream.Signature(data.StructLayout({"keep": 1}), always_ready=True)),
            "first": In(16),
            "received": Out(1), "received_bytes": Out(LENGTH_BITS),
            "bad_frame": Out(1), "bad_ip_checksum": Out(1), "bad_checksum": Out(1),
            "idle": Out(1),
        })
        self._most = -(-FRAME_MOST // self.width)  # words
        self._sums, self._fields, self._profiles = FrameSums(width), FrameFields(width), ProfileTable(width)
        self._told, self._outcomes = Queue(Verdict, depth=_VERDICTS), Queue(_outcome_layout, depth=_FRAMES)
        self._lengths = Queue(LENGTH_BITS, depth=_FRAMES)
        self._is_within, self._inside = Signal(), Signal(range(_FRAMES + 1))  # a frame has begun; whole ones
        # Three stages. In the first the sums and profiles see a word, in the last the fields do: when the frame's
        # profile is known.
        shape = data.StructLayout({"valid": 1, **dict(self._fields.i.payload.shape().members),
                                   "count": ceil_log2(self.width + 1)})
        self._stages = [Signal(shape, name=f"stage_{k}") for k in range(3)]
        self._left = Signal(signed(17))  # bytes from the first stage's word on that IPv4 has, when its length is known

    def elaborate(self, platform):
        m = Module()
        m.submodules.sums, m.submodules.fields, m.submodules.profiles = self._sums, self._fields, self._profiles
        m.submodules.told, m.submodules.outcomes, m.submodules.lengths = self._told, self._outcomes, self._lengths
        takes = self._accept(m)
        self._count(m)
        self._feed(m)
        self._decide(m)
        self._judge(m, takes)
        return m

    def _accept(self, m):
        """Words into the frame buffer and the first stage. Returns whether one is taken."""
        word, stage = self.i.payload, self._stages[0]
        words, beat = Signal(range(self._most + 1)), Signal.like(stage.beat)
        has_place, may, is_long, is_longest, takes = (Signal(name=name) for name in (
            "has_place", "may", "is_long", "is_longest", "takes"))
        m.d.sync += has_place.eq((self._inside < _FRAMES - 1) & (self._told.level <= _VERDICTS - _ON_THEIR_WAY))
        m.d.comb += [
            may.eq(has_place & (self._is_within | ~self.profile.valid)),
            self.write.valid.eq(self.i.valid & may & ~is_long),
            self.write.payload.data.eq(word.data),
            self.write.payload.last.eq(word.last | is_longest),
            self.i.ready.eq(may & (self.write.ready | is_long)),
            takes.eq(self.i.valid & self.i.ready),
            self.profile.ready.eq(~self._is_within & ~Cat(stage.valid for stage in self._stages).any()
                                  & ~self._fields.verdict.valid),
        ]
        length = (words << exact_log2(self.width)) + word.count
        m.d.sync += [
            stage.valid.eq(takes), stage.data.eq(word.data), stage.beat.eq(beat), stage.count.eq(word.count),
            stage.last.eq(word.last), stage.length.eq(length),
            stage.is_bad.eq(word.error | is_long | (length > FRAME_MOST)),
        ]
        with m.If(takes):
            m.d.sync += [
                self._is_within.eq(~word.last),
                words.eq(words + 1),
                beat.eq(Mux(beat == header_beats(self.width), beat, beat + 1)),
                is_longest.eq(words == self._most - 2),
                is_long.eq(is_long | is_longest),
            ]
            with m.If(word.last):
                m.d.sync += [words.eq(0), beat.eq(0), is_longest.eq(0), is_long.eq(0)]
        return takes

    def _count(self, m):
        """Count down what IPv4's length says, from when it is known."""
        stage = self._stages[0]
        beat, at = divmod(_LENGTH, self.width)
        total = Cat(stage.data[8 * at + 8:8 * at + 16], stage.data[8 * at:8 * at + 8])
        with m.If(stage.valid):
            m.d.sync += self._left.eq(self._left - self.width)  # goes below zero, but not as far as to come back
            with m.If(stage.beat == beat):
                m.d.sync += self._left.eq(total + IPV4 - (beat + 1) * self.width)

    def _feed(self, m):
        first, second, third = self._stages
        sums, fields, profiles, index = self._sums.i, self._fields.i, self._profiles, exact_log2(self.width)
        is_more = ~self._left[16]
        m.d.sync += [second.eq(first), second.lacks.eq(self._left > first.count), third.eq(second)]
        m.d.comb += [
            sums.valid.eq(first.valid),
            sums.payload.data.eq(first.data),
            sums.payload.beat.eq(first.beat),
            sums.payload.last.eq(first.last),
            sums.payload.below.eq(Cat(is_more & (self._left[index:16].any() | (self._left[:index] > k))
                                      for k in range(self.width))),
            profiles.i.valid.eq(first.valid),
            profiles.i.payload.data.eq(first.data),
            profiles.i.payload.beat.eq(first.beat),
            profiles.update.valid.eq(self.profile.valid & self.profile.ready),
            profiles.update.payload.eq(self.profile.payload),
            self._fields.chosen.eq(profiles.chosen),
            fields.valid.eq(third.valid),
            *(getattr(fields.payload, name).eq(third[name]) for name, _ in fields.payload.shape()),
            self._told.i.valid.eq(self._fields.verdict.valid),
            self._told.i.payload.eq(self._fields.verdict.payload),
            self._lengths.i.valid.eq(third.valid & third.last),
            self._lengths.i.payload.eq(third.length),
        ]
        m.d.sync += Assert(~self._told.i.valid | self._told.i.ready, "a verdict finds no room")

    def _decide(self, m):
        """Kind and sums of a frame, which come a fixed time after its last word."""
        early = self._sums.latency - (len(self._stages) - 1 + self._fields.latency)
        late = delayed(m, Cat(self._fields.kind.payload, self._fields.kind.valid), early, "kind")
        kind, sums, out = data.View(FrameKind, late[:-1]), self._sums.o.payload, self._outcomes.i.payload
        is_right, is_wrong = Signal(), Signal()  # IPv4's checksum is, if it has to be; the transport's is not
        m.d.comb += [
            is_right.eq(~kind.is_packet | sums.header),
            is_wrong.eq(kind.has_sum & ~sums.transport),
            out.keep.eq(~kind.is_bad & is_right & ~is_wrong),
            out.bad_frame.eq(kind.is_bad),
            out.bad_ip_checksum.eq(~kind.is_bad & ~is_right),
            out.bad_checksum.eq(~kind.is_bad & is_right & is_wrong),
            self._outcomes.i.valid.eq(self._sums.o.valid),
        ]
        m.d.sync += Assert(late[-1] == self._sums.o.valid, "kind and sums are not of the same frame")

    def _judge(self, m, takes):
        """The outcome of the oldest frame."""
        outcome, length, ending, ends = self._outcomes.o, self._lengths.o, self.endings.payload, Signal()
        what = outcome.payload
        wiring.connect(m, self._told.o, wiring.flipped(self.verdicts))
        m.d.comb += [
            self.endings.valid.eq(outcome.valid),
            ends.eq(outcome.valid & self.endings.ready),
            outcome.ready.eq(ends), length.ready.eq(ends),
            ending.keep.eq(what.keep), ending.word.eq(self.first), ending.length.eq(length.payload),
            self.judged.valid.eq(ends),
            self.judged.payload.keep.eq(what.keep),
            self.received.eq(ends),
            self.received_bytes.eq(Mux(ends & what.keep, length.payload, 0)),
            *(getattr(self, name).eq(ends & what[name]) for name in ("bad_frame", "bad_ip_checksum", "bad_checksum")),
            self.idle.eq(~self._is_within & (self._inside == 0)),
        ]
        m.d.sync += [
            self._inside.eq(self._inside + (takes & self.i.payload.last) - ends),
            Assert(~outcome.valid | length.valid, "an outcome without a length"),
        ]
