# SPDX-License-Identifier: Apache-2.0
"""What a lane has its context do for a descriptor."""

from amaranth.hdl import Module, Mux
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import DecompressFlag, Flag, Framing, WriteSource2
from rackgate.iaa.aecs import ACCUMULATOR_OFFSET, HEADER_OFFSET, HISTORY_OFFSET
from rackgate.iaa.aecsread import SavedFields
from rackgate.iaa.work import RawDescriptor
from rackgate.inflate.abi import MAX_DESTINATION_SIZE
from rackgate.inflate.task import ADDR_WIDTH, Task

__all__ = ["AecsState", "LaneTask", "TaskMaker"]


class LaneTask(enum.Enum, shape=2):
    """The tasks of a descriptor, of which it has the last and those of the first that its AECS asks for."""

    TABLES = 0  # make tables of the header in the accumulator, and keep them
    HISTORY = 1  # load the history
    HEADER = 2  # read the header of the block that was left
    SOURCE = 3  # decompress


class AecsState(data.Struct):
    """What was read of an AECS.

    ``size`` bytes are in its accumulator, from which the context's codes are if there are any. ``saved``: if the device
    has written it, where the stream was left.
    """

    crc: 32
    xor_checksum: 16
    size: 9
    saved: SavedFields


class TaskMaker(wiring.Component):
    """Make the task for the context; there are no registers.

    Parameters
    ----------
    context:
        Number of the context in its engine, 0 to 7.

    Members
    -------
    raw: a descriptor with DECOMPRESS. kind: which task. uses_aecs, aecs: whether it has an AECS read, and this.
    place: address of the AECS that is read. o: the task.
    """

    raw: In(RawDescriptor)
    kind: In(LaneTask)
    uses_aecs: In(1)
    aecs: In(AecsState)
    place: In(ADDR_WIDTH)
    o: Out(Task)

    def __init__(self, *, context: int):
        self.context = context
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        task, raw, saved = self.o, self.raw, self.aecs.saved
        m.d.comb += [
            task.tag.eq(self.context), task.context.eq(self.context), task.strict_lengths.eq(1),
            task.options.crc32c.eq((raw.flags & Flag.CRC32C).any()),
            task.options.whole.eq(raw.flags[18:20] != WriteSource2.NEVER),
            task.options.crc.eq(Mux(self.uses_aecs, self.aecs.crc, 0)),
            task.options.xor_checksum.eq(Mux(self.uses_aecs, self.aecs.xor_checksum, 0)),
        ]
        with m.Switch(self.kind):
            with m.Case(LaneTask.TABLES):
                m.d.comb += [
                    task.tables.eq(1), task.last.eq(1),
                    task.source.eq(self.place + ACCUMULATOR_OFFSET), task.source_size.eq(self.aecs.size),
                ]
            with m.Case(LaneTask.HISTORY):
                m.d.comb += [
                    task.load.eq(1), task.source.eq(self.place + HISTORY_OFFSET), task.source_size.eq(saved.history),
                ]
            with m.Case(LaneTask.HEADER):
                m.d.comb += [
                    task.resume.eq(saved.history != 0), task.start_bit.eq(saved.first_bit),
                    task.source.eq(self.place + HEADER_OFFSET), task.source_size.eq((saved.header_bits + 7) >> 3),
                    task.ignored_bits.eq(-saved.header_bits[:3]),
                ]
            with m.Default():
                self._source(m, task, raw, saved)
        return m

    def _source(self, m, task, raw, saved):
        flags = raw.operation_flags
        stops, checks, wants_last, suppressed = ((flags & flag).any() for flag in (
            DecompressFlag.STOP_ON_EOB, DecompressFlag.CHECK_FOR_EOB, DecompressFlag.EOB_IS_BFINAL,
            DecompressFlag.SUPPRESS_OUTPUT))
        framing = flags[13:15]
        is_raw, goes_on = framing == Framing.RAW, self.uses_aecs & saved.valid
        m.d.comb += [
            task.source.eq(raw.source), task.source_size.eq(raw.source_size),
            task.framing.eq(framing), task.last.eq(checks & (wants_last | ~is_raw)),
            task.multi.eq((framing == Framing.GZIP) & ~stops),
            task.one_block.eq(is_raw & stops & ~wants_last), task.ignored_bits.eq(flags[6:9]),
            task.canned.eq(self.uses_aecs & ~saved.valid & (self.aecs.size != 0)),
            task.resume.eq(goes_on & (saved.is_within | (saved.history != 0))),
            task.start_bit.eq(Mux(goes_on, saved.start_bit, 0)),
            task.options.discard.eq(suppressed),
            task.destination.eq(raw.destination),
            task.destination_size.eq(Mux(suppressed, MAX_DESTINATION_SIZE, raw.destination_size)),
        ]
