# SPDX-License-Identifier: Apache-2.0
"""A large memory cut into block RAMs, with registers between the parts of its address and output trees."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["ROWS_IN_BANK", "BankedMemory", "Geometry"]

#: Shapes of ECP5's 18-kbit block RAM: words, bits (Lattice TN1264, table 1).
_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))

#: Rows of block RAM whose outputs are chosen from before the first register.
ROWS_IN_BANK = 4


class Geometry:
    """How ``depth`` words of ``width`` bits are cut: ``banks`` of ``rows`` with ``row_depth`` words each.

    The cut takes as few block RAMs as can be, and then as few rows. The last bank may have fewer rows.
    """

    def __init__(self, width: int, depth: int, *, row_depth: int | None = None, rows_in_bank: int = ROWS_IN_BANK):
        self.width, self.depth = operator.index(width), operator.index(depth)
        if self.width < 1 or self.depth < 1:
            raise ValueError(f"width and depth must be at least 1, not {width} and {depth}")
        if row_depth is None:
            row_depth = min(_SHAPES, key=lambda shape: (-(-self.depth // shape[0]) * -(-self.width // shape[1]),
                                                        -shape[0]))[0]
        self.row_depth = min(row_depth, 1 << (self.depth - 1).bit_length())
        total = -(-self.depth // self.row_depth)
        self.rows = min(rows_in_bank, total)
        if self.rows & (self.rows - 1) and total > self.rows:
            raise ValueError(f"rows_in_bank must be a power of two, not {rows_in_bank}")
        self.total_rows = total
        self.banks = -(-total // self.rows)
        #: 1 if addresses pass a register for each bank before they get to its block RAM, and what is read one for each
        #: row, so that placement may put it beside its block RAM; else 0.
        self.tree_registers = int(self.banks > 1)

    def split(self, address):
        """An address as word in its row, row in its bank, and bank; each may have no bits."""
        word_bits, row_bits = (self.row_depth - 1).bit_length(), (self.rows - 1).bit_length()
        return address[:word_bits], address[word_bits:word_bits + row_bits], address[word_bits + row_bits:]


class BankedMemory(wiring.Component):
    """One read and one write a cycle, with an operand that stands in for what is read.

    An address at ``r_addr`` in cycle 0 leads to ``o`` in cycle ``latency``: 3, or 5 with several banks. Two cycles
    before that ``use`` says whether the memory's word takes part in ``o``, one before ``part`` is or-ed to it. A write
    in cycle 0 is seen by reads from cycle 1 on. A read in the same cycle as a write to its address returns anything:
    whoever reads does not ``use`` it.

    Each bank has its own address registers, loaded only when an access is to it, so that none of them drives more
    than the block RAMs of its bank.

    Reset does not clear it: whoever has it writes every word first.

    Parameters
    ----------
    geometry:
        Width, depth and how it is cut.

    Members
    -------
    r_addr, use, part, o:
        Reading.
    w_addr, w_data, w_en:
        Writing. An address beyond the depth must not be written.
    """

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self.latency = 3 + 2 * geometry.tree_registers
        # A write and a read of one word never meet where the read counts, so no logic need order them. Made here, not
        # in elaborate, so that a proof can look at them.
        self.rows = {divmod(row, geometry.rows): Memory(
            shape=geometry.width, depth=geometry.row_depth, init=[], attrs={"no_rw_check": 1})
            for row in range(geometry.total_rows)}
        super().__init__({
            "r_addr": In(range(geometry.depth)),
            "use": In(1),
            "part": In(geometry.width),
            "o": Out(geometry.width),
            "w_addr": In(range(geometry.depth)),
            "w_data": In(geometry.width),
            "w_en": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        geometry = self.geometry
        _, _, bank = geometry.split(self.r_addr)
        now = Cat(bank == number for number in range(geometry.banks))
        is_bank = self._delayed(m, "is_bank", now, self.latency - 2)
        is_wanted = Signal(geometry.banks)  # in the cycle in which one bank's word is chosen
        m.d.sync += is_wanted.eq(Mux(self.use, is_bank, 0))

        words = [Mux(is_wanted[number], self._bank(m, number, now[number]), 0) for number in range(geometry.banks)]
        m.d.sync += [
            self.o.eq(_any_of([*words, self.part])),
            Assert(~self.w_en | (self.w_addr < geometry.depth), "there is no such word to write"),
        ]
        return m

    def _bank(self, m, number, is_read):
        """A bank's block RAMs. Returns the word that was read, from a register."""
        geometry = self.geometry
        word, row, _ = geometry.split(self.r_addr)
        w_word, w_row, w_bank = geometry.split(self.w_addr)
        w_data, w_en = self.w_data, self.w_en & (w_bank == number)
        if geometry.tree_registers:
            with m.If(is_read):
                word, row = self._kept(m, f"r_{number}", word, row)
            is_written = w_en
            w_en = Signal(name=f"w_en_{number}")
            m.d.sync += w_en.eq(is_written)
            with m.If(is_written):
                w_word, w_row, w_data = self._kept(m, f"w_{number}", w_word, w_row, w_data)
        chosen = self._delayed(m, f"row_{number}", row, 1 + geometry.tree_registers)
        outputs = []
        for index in range(min(geometry.rows, geometry.total_rows - number * geometry.rows)):
            m.submodules[f"row_{number}_{index}"] = memory = self.rows[number, index]
            r_port, w_port = memory.read_port(), memory.write_port()
            m.d.comb += [
                r_port.addr.eq(word),
                w_port.addr.eq(w_word),
                w_port.data.eq(w_data),
                w_port.en.eq(w_en & (w_row == index)),
            ]
            outputs.append(self._delayed(m, f"read_{number}_{index}", r_port.data, geometry.tree_registers))
        kept = Signal(geometry.width, name=f"word_{number}")
        m.d.sync += kept.eq(_select(outputs, chosen))
        return kept

    def _delayed(self, m, name, value, cycles):
        """The value as it was so many cycles before."""
        for cycle in range(cycles):
            later = Signal(len(value), name=f"{name}_{cycle}")
            m.d.sync += later.eq(value)
            value = later
        return value

    def _kept(self, m, name, *values):
        """Registers for values, loaded under the condition that is open."""
        kept = [Signal(len(value), name=f"{name}_{index}") for index, value in enumerate(values)]
        m.d.sync += [register.eq(value) for register, value in zip(kept, values, strict=True)]
        return kept


def _select(values, select):
    """``values[select]`` as a tree of two-way selectors, which fits the FPGA's wide multiplexers."""
    for bit in range(len(select)):
        values = [Mux(select[bit], values[min(k + 1, len(values) - 1)], values[k]) for k in range(0, len(values), 2)]
    return values[0]


def _any_of(values):
    """The or of values, as a balanced tree."""
    while len(values) > 1:
        values = [values[k] | values[k + 1] if k + 1 < len(values) else values[k] for k in range(0, len(values), 2)]
    return values[0]
