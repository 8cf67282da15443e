# SPDX-License-Identifier: Apache-2.0
"""From the number of codes of each length to what the comparators need."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.code import LENGTHS, MAX_LENGTH, CodeTables, bucket
from rackgate.inflate.counts import Counts
from rackgate.inflate.fixed import fixed_tables
from rackgate.inflate.logic import select

__all__ = ["SUM_FIELDS", "CodeSums", "Kraft"]

#: The fields of CodeTables that come from here.
SUM_FIELDS = ("literal_limit", "literal_split", "literal_base", "length_index", "distance_limit", "distance_index")

_TABLES = data.Layout.cast(CodeTables)
_BUCKETS = (0, *(bucket(length) for length in LENGTHS))


class Kraft(data.Struct):
    """Whether a code has ``over`` 2 ** L codes up to some length L, or (if not) is ``incomplete``."""

    over: 1
    incomplete: 1


class _Sum(wiring.Component):
    """Limits of one code, a length a cycle from the shortest on."""

    clear: In(1)
    step: In(1)
    count: In(9)
    power: In(16)  # 2 to the power of the length last done
    first: Out(16)
    limit: Out(16)
    kraft: Out(Kraft)

    def elaborate(self, platform):
        m = Module()
        done, over = Signal(16), Signal()  # limit of the length before
        m.d.comb += [
            self.first.eq(done << 1),
            self.limit.eq(self.first + self.count),
            self.kraft.over.eq(over),
            self.kraft.incomplete.eq(done != 1 << MAX_LENGTH),
        ]
        # While the code was not yet over, the limit has no more than 2**15 + 286: no overflow goes unseen.
        m.d.sync += over.eq(over | (done > self.power))
        with m.If(self.step):
            m.d.sync += done.eq(self.limit)
        with m.If(self.clear):
            m.d.sync += [done.eq(0), over.eq(0)]
        return m


class CodeSums(wiring.Component):
    """Makes the limits, splits, bases and indices of a block's codes in a pass over the lengths.

    Takes 18 cycles from ``start`` to ``done``. ``load_fixed`` sets the tables to the fixed codes. Reset leaves the
    tables as they are.

    Members
    -------
    start, done:
        Begins the pass; it has ended, and the outputs are valid.
    length, counts:
        Asks for the counts of a length; they come in the same cycle.
    tables:
        :data:`SUM_FIELDS` of :class:`~rackgate.inflate.code.CodeTables`.
    literals, distances:
        Whether the codes are sound, from ``done`` on.
    """

    def __init__(self):
        super().__init__({
            "start": In(1),
            "done": Out(1),
            "length": Out(4),
            "counts": In(Counts),
            "load_fixed": In(1),
            "tables": Out(data.StructLayout({name: _TABLES[name].shape for name in SUM_FIELDS})),
            "literals": Out(Kraft),
            "distances": Out(Kraft),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.literal = literal = _Sum()
        m.submodules.distance = distance = _Sum()
        row, row_length, row_valid = Signal(Counts), Signal(4), Signal()
        power, last = Signal(16), Signal()
        m.d.sync += [row.eq(self.counts), row_length.eq(self.length), row_valid.eq(self.length.any()),
                     last.eq(row_valid & (row_length == MAX_LENGTH)), self.done.eq(last)]
        with m.If(self.start):
            m.d.sync += [self.length.eq(1), power.eq(1)]
        with m.Elif(self.length.any()):
            m.d.sync += self.length.eq(self.length + 1)  # wraps to zero after 15
        with m.If(row_valid):
            m.d.sync += power.eq(power << 1)
        m.d.comb += [
            literal.count.eq(row.total), distance.count.eq(row.distances),
            self.literals.eq(literal.kraft), self.distances.eq(distance.kraft),
        ]
        for part in (literal, distance):
            m.d.comb += [part.clear.eq(self.start), part.step.eq(row_valid), part.power.eq(power)]
        self._store(m, literal, distance, row, row_length, row_valid)
        return m

    def _store(self, m, literal, distance, row, row_length, row_valid):
        split, length_rank, distance_rank = Signal(16), Signal(5), Signal(5)
        m.d.comb += split.eq(literal.first + (row.total - row.lengths)[:9])
        values = {
            "literal_limit": literal.limit,
            "literal_split": split,
            "literal_base": select(_BUCKETS, row_length) - literal.first,
            "length_index": length_rank - split[:5],
            "distance_limit": distance.limit,
            "distance_index": distance_rank - distance.first[:5],
        }
        with m.If(row_valid):
            m.d.sync += [length_rank.eq(length_rank + row.lengths), distance_rank.eq(distance_rank + row.distances)]
        with m.Else():
            m.d.sync += [length_rank.eq(0), distance_rank.eq(0)]
        # With the initial value to be loaded and no reset, loading takes only a flip-flop's set or reset input.
        fixed = {name: value for name, value in fixed_tables().items() if name in SUM_FIELDS}
        tables = Signal(self.tables.shape(), init=fixed, reset_less=True)
        m.d.comb += self.tables.eq(tables)
        for length in LENGTHS:
            with m.If(row_valid & (row_length == length)):
                m.d.sync += [tables[name][str(length)].eq(value) for name, value in values.items()]
        with m.If(self.load_fixed):
            m.d.sync += [tables[name][str(length)].eq(fixed[name][str(length)])
                         for name in SUM_FIELDS for length in LENGTHS]
