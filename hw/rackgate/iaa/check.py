# SPDX-License-Identifier: Apache-2.0
"""What a descriptor is refused with."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import (
    AECS_ALIGNMENT,
    COMPLETION_SIZE,
    DESCRIPTOR_SIZE,
    Crc64Flag,
    DecompressFlag,
    Flag,
    Framing,
    Opcode,
    Status,
    WriteSource2,
)
from rackgate.iaa.aecs import AECS_SIZE, saved_size
from rackgate.iaa.work import Work
from rackgate.inflate.steps import check_window
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["DescriptorChecker", "Verdict"]

_COMMON = (Flag.BLOCK_ON_FAULT | Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION | Flag.REQUEST_INTERRUPT
           | Flag.CACHE_CONTROL)
_DECOMPRESS = (
    DecompressFlag.ENABLE | DecompressFlag.FLUSH | DecompressFlag.STOP_ON_EOB | DecompressFlag.CHECK_FOR_EOB
    | DecompressFlag.EOB_IS_BFINAL | DecompressFlag.IGNORE_END_BITS | DecompressFlag.SUPPRESS_OUTPUT
    | DecompressFlag.FRAMING)
_GENERAL_BITS, _OPERATION_BITS = 24, 16
_WRITE_SOURCE2 = Flag.WRITE_SOURCE2_ALWAYS | Flag.WRITE_SOURCE2_ON_OVERFLOW


class Verdict(data.Struct):
    """``status`` is IN_PROGRESS for a descriptor that can be carried out; ``invalid`` as in ``abi.Completion``."""

    status: 8
    invalid: 64


class _Ranges(data.Struct):
    """Results of the arithmetic on addresses, one step at a time."""

    overlap: 1
    read_beyond: 1
    write_beyond: 1


class DescriptorChecker(wiring.Component):
    """Check a descriptor in 7 cycles from ``start`` to ``done``, 9 if it has an AECS written.

    Checks and their order are those of ``rackgate_sim.iaa.model``. Reset forgets the check under way.

    Parameters
    ----------
    window:
        History that a written AECS has, in bytes.

    Members
    -------
    start, i: begin; the descriptor, stable from then until ``done``.
    done, o: strobe, and the verdict, valid with it.
    """

    start: In(1)
    i: In(Work)
    done: Out(1)
    o: Out(Verdict)

    def __init__(self, *, window: int = 32768):
        self.window = check_window(window)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        raw = self.i.descriptor
        kind = {opcode: Signal(name=f"is_{opcode.name.lower()}") for opcode in Opcode}
        aecs, writes_aecs, has_source, has_destination = Signal(), Signal(), Signal(), Signal()
        general, operation = Signal(_GENERAL_BITS), Signal(_OPERATION_BITS)
        suppressed = raw.operation_flags & DecompressFlag.SUPPRESS_OUTPUT
        m.d.sync += [
            *(signal.eq(raw.opcode == opcode) for opcode, signal in kind.items()),
            aecs.eq((raw.opcode == Opcode.DECOMPRESS)
                    & (raw.flags & (Flag.READ_SOURCE2_AECS | _WRITE_SOURCE2)).any()),
            writes_aecs.eq((raw.opcode == Opcode.DECOMPRESS) & (raw.flags & _WRITE_SOURCE2).any()),
            has_source.eq(raw.opcode.matches(Opcode.DECOMPRESS, Opcode.CRC64, Opcode.LIST)),
            has_destination.eq(((raw.opcode == Opcode.DECOMPRESS) & (suppressed == 0)) | (raw.opcode == Opcode.FILL)),
            general.eq(self._general_flags(raw)),
            operation.eq(self._operation_flags(raw)),
        ]
        ranges = self._ranges(m, raw, kind, aecs, writes_aecs, has_source, has_destination)
        is_reserved, is_size_bad = Signal(), Signal()
        m.d.sync += [
            is_reserved.eq(self._reserved(raw, kind, aecs)),
            is_size_bad.eq(self._size(raw, kind, aecs, writes_aecs, has_source, has_destination)),
        ]
        is_misaligned = ((kind[Opcode.LIST] & (raw.source % DESCRIPTOR_SIZE != 0))
                         | (aecs & (raw.source2 % AECS_ALIGNMENT != 0)))
        bad_completion = (raw.flags & Flag.COMPLETION_ADDRESS_VALID).any() & (raw.completion % COMPLETION_SIZE != 0)
        unknown = ~Cat(kind.values()).any() | (self.i.listed & (kind[Opcode.DRAIN] | kind[Opcode.LIST]))
        checks = (
            (bad_completion, Status.COMPLETION_MISALIGNED),
            (unknown, Status.BAD_OPCODE),
            (general.any(), Status.BAD_FLAGS),
            (operation.any(), Status.BAD_OPERATION_FLAGS),
            (is_reserved, Status.RESERVED_NONZERO),
            (raw.interrupt_handle != 0, Status.BAD_INTERRUPT_HANDLE),
            (is_size_bad, Status.BAD_SIZE),
            (is_misaligned, Status.AECS_MISALIGNED),
            (ranges.overlap, Status.OVERLAP),
            (ranges.read_beyond, Status.READ_ERROR),
            (ranges.write_beyond, Status.WRITE_ERROR),
        )
        status = Value.cast(Const(Status.IN_PROGRESS, 8))
        for condition, refusal in reversed(checks):
            status = Mux(condition, refusal, status)
        m.d.sync += self.o.status.eq(status)
        with m.Switch(self.o.status):
            with m.Case(Status.BAD_FLAGS):
                m.d.comb += self.o.invalid.eq(general)
            with m.Case(Status.BAD_OPERATION_FLAGS):
                m.d.comb += self.o.invalid.eq(operation << 32)
        return m

    def _ranges(self, m, raw, kind, aecs, writes_aecs, has_source, has_destination):
        """Arithmetic on addresses, with one adder and one subtractor, a step a cycle; raises ``done`` behind it.

        Ranges A and B overlap if B begins in A or A in B: if one of the differences of their addresses is below a size.
        """
        ranges = Signal(_Ranges)
        difference, size, compares = Signal(64), Signal(32), Signal()
        end, is_read, is_write = Signal(ADDR_WIDTH + 1), Signal(), Signal()
        high, counts = Signal(), Signal()
        hit = compares & ~difference[32:].any() & (difference[:32] < size)
        beyond = counts & (high | (end[ADDR_WIDTH] & end[:ADDR_WIDTH].any()))
        m.d.sync += [
            compares.eq(0), counts.eq(0),
            ranges.overlap.eq(ranges.overlap | hit),
            ranges.read_beyond.eq(ranges.read_beyond | (beyond & is_read)),
            ranges.write_beyond.eq(ranges.write_beyond | (beyond & is_write)),
        ]

        def subtract(one, other, other_size, condition):
            m.d.sync += [difference.eq(one - other), size.eq(other_size), compares.eq(condition)]

        def add(address, length, condition, writes):
            m.d.sync += [
                end.eq(address[:ADDR_WIDTH] + length), high.eq(address[ADDR_WIDTH:].any()), counts.eq(condition),
                is_read.eq(not writes), is_write.eq(writes),
            ]

        both = kind[Opcode.DECOMPRESS] & has_destination
        aecs_room = Mux(writes_aecs, raw.source2_size << 1, raw.source2_size)  # of both
        steps = (
            lambda: (subtract(raw.source, raw.destination, raw.destination_size, both),
                     add(raw.source, raw.source_size, has_source, False)),
            lambda: (subtract(raw.destination, raw.source, raw.source_size, both),
                     add(raw.destination, raw.destination_size, has_destination, True)),
            lambda: (subtract(raw.source2, raw.destination, raw.destination_size, both & aecs),
                     add(raw.source2, aecs_room, aecs, False)),
            lambda: subtract(raw.destination, raw.source2, aecs_room, both & aecs),
            lambda: subtract(raw.source2, raw.source, raw.source_size, 1),
            lambda: subtract(raw.source, raw.source2, aecs_room, 1),
        )
        only_with_writes = 4  # the step from which on
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += ranges.eq(0)
                with m.If(self.start):
                    m.next = "STEP_0"
            for number, step in enumerate(steps):
                with m.State(f"STEP_{number}"):
                    step()
                    m.next = f"STEP_{number + 1}" if number + 1 < len(steps) else "COLLECT"
                    with m.If((number + 1 == only_with_writes) & ~writes_aecs):
                        m.next = "COLLECT"
            with m.State("COLLECT"):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        return ranges

    def _general_flags(self, raw):
        """The general flags to refuse."""
        is_decompress = raw.opcode == Opcode.DECOMPRESS
        is_gzip = is_decompress & (_framing(raw) == Framing.GZIP)
        # As wide as the flags: its complement must have the highest ones.
        own = Flag.READ_SOURCE2_AECS | _WRITE_SOURCE2 | Flag.AECS_TOGGLE | Flag.CRC32C
        known = Mux(is_decompress, Const(_COMMON | own, _GENERAL_BITS), Const(_COMMON, _GENERAL_BITS))
        write = raw.flags[18:20]
        refused = Mux((raw.flags & Flag.COMPLETION_ADDRESS_VALID).any(), 0, int(Flag.REQUEST_COMPLETION))
        refused |= Mux(self.i.space.block, 0, int(Flag.BLOCK_ON_FAULT))
        refused |= Mux(is_gzip, int(Flag.CRC32C), 0)
        refused |= Mux(write > WriteSource2.ON_OVERFLOW, int(_WRITE_SOURCE2), 0)
        refused |= Mux(write == WriteSource2.NEVER, int(Flag.AECS_TOGGLE), 0)
        return raw.flags & (~known | refused)

    def _operation_flags(self, raw):
        """The flags of the operation to refuse."""
        flags, framing = raw.operation_flags, _framing(raw)
        is_framed = framing != Framing.RAW
        writes = (raw.flags & _WRITE_SOURCE2).any()
        with_aecs = writes | (raw.flags & Flag.READ_SOURCE2_AECS).any()
        no_framing = (framing == 3) | (is_framed & with_aecs)
        refused = Mux(no_framing, int(DecompressFlag.FRAMING), 0)
        refused |= Mux(is_framed, int(DecompressFlag.IGNORE_END_BITS), 0)
        refused |= Mux(writes, int(DecompressFlag.SUPPRESS_OUTPUT), 0)
        refused |= Mux(writes & ~(flags & DecompressFlag.EOB_IS_BFINAL).any(), int(DecompressFlag.STOP_ON_EOB), 0)
        decompress = (flags & (~int(_DECOMPRESS) | refused)) | (~flags & int(DecompressFlag.ENABLE))
        crc64 = flags & ~int(Crc64Flag.INVERT | Crc64Flag.BIG_ENDIAN)
        return Mux(raw.opcode == Opcode.DECOMPRESS, decompress, Mux(raw.opcode == Opcode.CRC64, crc64, 0))

    def _reserved(self, raw, kind, aecs):
        """Whether a field that the operation does not have is not zero."""
        source = raw.source.any() | raw.source_size.any()
        destination = raw.destination.any() | raw.destination_size.any()
        rest = raw.filter_flags.any() | raw.elements.any()
        flags = raw.operation_flags.any()
        source2 = raw.source2.any() | raw.source2_size.any()
        nothing = kind[Opcode.NOOP] | kind[Opcode.DRAIN]
        return (
            # A queue with an address space of its own has put its PASID in.
            Mux(self.i.space.translate, raw.pasid_priv[20:31].any(), raw.pasid_priv.any())
            | (~(raw.flags & Flag.REQUEST_INTERRUPT).any() & raw.interrupt_handle.any())
            | (nothing & (source | destination | source2 | rest | flags))
            | (kind[Opcode.DECOMPRESS] & (rest | (~aecs & source2)))
            | (kind[Opcode.CRC64] & (destination | source2))
            | (kind[Opcode.LIST] & (destination | source2 | rest | flags))
            | (kind[Opcode.FILL] & (source | raw.source2_size.any() | rest | flags))
        )

    def _size(self, raw, kind, aecs, writes_aecs, has_source, has_destination):
        """Whether a size is zero, above the queue's limit, or not what the operation wants."""
        def is_bad(size):
            above = (size >> self.i.max_transfer_shift)[1:].any()
            exact = ((size >> self.i.max_transfer_shift) == 1) & (size != 1 << self.i.max_transfer_shift)
            return (size == 0) | above | exact
        return (
            (has_source & is_bad(raw.source_size))
            | (has_destination & is_bad(raw.destination_size))
            | (kind[Opcode.LIST] & (raw.source_size % DESCRIPTOR_SIZE != 0))
            | (aecs & (raw.source2_size != saved_size(self.window)) & (writes_aecs | (raw.source2_size != AECS_SIZE)))
        )


def _framing(raw):
    return raw.operation_flags[13:15]
