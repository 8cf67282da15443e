# SPDX-License-Identifier: Apache-2.0
"""What of an AECS the device needs."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.dma.reader import ReadWord
from rackgate.iaa.aecs import (
    ACCUMULATOR_OFFSET,
    ACCUMULATOR_SIZE,
    FORMAT_OFFSET,
    HEADER_SIZE,
    HISTORY_WRITE_OFFSET,
    POSITION_OFFSET,
    SAVED_FORMAT,
    STATE_OFFSET,
    ParserState,
)
from rackgate.inflate.steps import check_window

__all__ = ["AecsFields", "AecsReader", "SavedFields"]

_COUNTS = ACCUMULATOR_OFFSET + ACCUMULATOR_SIZE
_COUNTS_END = _COUNTS + ACCUMULATOR_SIZE // 8


class SavedFields(data.Struct):
    """Of an AECS that the device has written: fields as in :class:`~rackgate.iaa.aecs.SavedState`.

    ``valid``: it is one. ``is_within``: the parser is within a block, which the header is of. ``history`` counts bytes.
    """

    valid: 1
    is_within: 1
    start_bit: 3
    first_bit: 3
    header_bits: 16
    history: 16


class AecsFields(data.Struct):
    """``size`` counts the bytes in the accumulator. ``is_bad``: it is no AECS that this device can go on from."""

    crc: 32
    xor_checksum: 16
    size: 9
    is_bad: 1
    saved: SavedFields


class AecsReader(wiring.Component):
    """Pick the fields out of an AECS as its words come, lowest address first.

    A word a cycle, but those with the accumulator's counts take 9. Reset clears what was read.

    Parameters
    ----------
    window:
        Most bytes of history, 4096 or 32768.

    Members
    -------
    start: begin with the next word. i: the words, of which one has ``last``.
    done, o, failed: strobe after the last word; the fields; a word could not be read, and they mean nothing.
    """

    start: In(1)
    i: In(stream.Signature(ReadWord))
    done: Out(1)
    o: Out(AecsFields)
    failed: Out(1)

    def __init__(self, *, window: int = 32768):
        self.window = check_window(window)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        index = Signal(8)  # of the word
        word, is_counts = self.i.payload, Signal()
        m.d.comb += is_counts.eq((index >= _COUNTS // 8) & (index < _COUNTS_END // 8))
        m.d.sync += self.done.eq(0)
        counts, left, has_ended, is_bad_header = Signal(64), Signal(4), Signal(), Signal()
        saved = self.o.saved
        m.d.comb += self.i.ready.eq(left == 0)
        with m.If(self.start):
            m.d.sync += [index.eq(0), has_ended.eq(0), self.o.eq(0), self.failed.eq(0), left.eq(0),
                         is_bad_header.eq(0)]
        with m.Elif(left != 0):
            self._count(m, counts[:8], has_ended)
            m.d.sync += [counts.eq(counts >> 8), left.eq(left - 1)]
        with m.Elif(self.i.valid):
            m.d.sync += [index.eq(index + 1), self.done.eq(word.last), counts.eq(word.data)]
            with m.If(word.error):
                m.d.sync += self.failed.eq(1)
            with m.If(index == 0):
                m.d.sync += [self.o.crc.eq(word.data), self.o.xor_checksum.eq(word.data >> 32)]
            with m.If(is_counts):
                m.d.sync += left.eq(8)
            with m.If(index == FORMAT_OFFSET // 8):
                form = word.data[8 * (FORMAT_OFFSET % 8):][:8]
                m.d.sync += saved.valid.eq(form == SAVED_FORMAT)
                with m.If(form == SAVED_FORMAT):  # what the accumulator says does not count, and is no error
                    m.d.sync += [self.o.size.eq(0), self.o.is_bad.eq(1)]  # until the history is known
                with m.Elif(form != 0):
                    m.d.sync += self.o.is_bad.eq(1)
            with m.If(index == STATE_OFFSET // 8):
                self._state(m, word.data[8 * (STATE_OFFSET % 8):][:16], saved, is_bad_header)
            with m.If(index == POSITION_OFFSET // 8):
                position = word.data[8 * (POSITION_OFFSET % 8):][:32]
                m.d.sync += [saved.start_bit.eq(position), saved.first_bit.eq(position[8:]),
                             saved.header_bits.eq(position[16:])]
            with m.If((index == HISTORY_WRITE_OFFSET // 8) & saved.valid):
                offset, is_full = word.data[32:47], word.data[47]
                m.d.sync += [
                    saved.history.eq(Mux(is_full, self.window, offset)),
                    self.o.is_bad.eq(is_bad_header | (~is_full & (offset > self.window))
                                     | (saved.is_within & ((saved.header_bits > 8 * HEADER_SIZE)
                                                           | (saved.header_bits <= saved.first_bit)))),
                ]
        return m

    def _state(self, m, state, saved, is_bad_header):
        """Whether something can go on from the parser's state, and within a block."""
        within = state.matches(ParserState.LITERAL_LENGTH, ParserState.STORED, ParserState.FINAL_LITERAL_LENGTH,
                               ParserState.FINAL_STORED)
        m.d.sync += [saved.is_within.eq(within & saved.valid),
                     is_bad_header.eq(~within & (state != ParserState.HEADER))]
        with m.If(~saved.valid & (state != ParserState.HEADER)):
            m.d.sync += self.o.is_bad.eq(1)

    def _count(self, m, count, has_ended):
        """Add up the bits of a word of the accumulator: 64, up to the last word in use, which has whole bytes."""
        m.d.sync += self.o.size.eq(self.o.size + Mux(has_ended, 0, count[3:]))
        with m.If(count != 64):
            m.d.sync += has_ended.eq(1)
        with m.If(count[:3].any() | (count > 64) | (has_ended & (count != 0))):
            m.d.sync += self.o.is_bad.eq(1)
