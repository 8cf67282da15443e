# SPDX-License-Identifier: Apache-2.0
"""What a symbol would be if it began at a given bit."""

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.code import LENGTHS, MAX_LENGTH, CodeTables
from rackgate.inflate.pairs import FirstStep

__all__ = ["LANE_STAGES", "Lane", "LaneResult"]

#: Registers between a lane's bits and its result.
LANE_STAGES = 4


class LaneResult(data.Struct):
    """What a symbol would be if it began at this offset.

    ``literal_*`` if a literal/length code is expected there, ``distance_*`` if a distance code is.
    ``*_bits`` is the whole symbol with its extra bits (1 when no code matches, which ``*_bad`` says),
    ``*_code`` the code alone.
    """

    literal_bits: 5
    literal_code: 4
    literal_bad: 1
    distance_bits: 5
    distance_code: 4
    distance_bad: 1


def select_by_length(reached, leaves):
    """Leaf of the code's length: a binary search in a thermometer.

    ``reached[L]`` says that the source bits are at or above the limit of length L, so it is set for every L
    below the code's length and clear from there on.
    """
    def search(lengths):
        if len(lengths) == 1:
            return leaves[lengths[0]]
        middle = len(lengths) // 2
        return Mux(reached[lengths[middle - 1]], search(lengths[middle:]), search(lengths[:middle]))
    return search(list(LENGTHS))


class Lane(wiring.Component):
    """Decode the size of a literal/length symbol and of a distance symbol that begin with ``ahead``.

    The result stands :data:`LANE_STAGES` cycles later; one a cycle. ``tables`` must be stable while anything that uses
    them is on its way. Reset clears nothing.

    The top L of the 15 bits are compared with ``limit[L]`` for all lengths L (see :mod:`rackgate.inflate.code`),
    which gives a thermometer of the code's length; one more comparison a length tells match lengths from
    literals; the rank among length symbols gives the extra bits.

    Members
    -------
    ahead: the next bits, the first one highest. tables: the codes in force.
    result, step: what they are, and where they lead.

    Parameters
    ----------
    offset:
        The lane's place in its block, 0 to 15.
    """

    def __init__(self, offset: int):
        self.offset = operator.index(offset)
        if not 0 <= self.offset < 16:
            raise ValueError(f"offset must be 0 to 15, not {offset}")
        super().__init__({
            "ahead": In(MAX_LENGTH),
            "tables": In(CodeTables),
            "result": Out(LaneResult),
            "step": Out(FirstStep),
        })

    def elaborate(self, platform):
        m = Module()
        tables = self.tables
        literal = self._alphabet(m, "literal", tables.literal_limit, tables.length_index, tables.length_extra,
                                 tables.literal_split)
        distance = self._alphabet(m, "distance", tables.distance_limit, tables.distance_index, tables.distance_symbol)
        m.d.comb += [
            self.result.literal_bits.eq(literal.bits), self.result.literal_code.eq(literal.code),
            self.result.literal_bad.eq(literal.bad),
            self.step.literal_stop.eq(literal.stop), self.step.is_length.eq(literal.flag),
            self.step.distance_stop.eq(distance.stop),
            self.result.distance_bits.eq(distance.bits), self.result.distance_code.eq(distance.code),
            self.result.distance_bad.eq(distance.bad),
        ]
        return m

    def _alphabet(self, m, name, limits, index, ranks, split=None):
        """One alphabet.

        ``ranks`` tells the extra bits of each rank; without ``split``, the distance symbol, which tells them. With
        ``split``, ``flag`` tells codes from there on, and only they have extra bits.

        A stage is one register, which simulators handle much faster than one for each bit.
        """
        ahead = self.ahead
        compare, choose, ranked, result = (
            Signal(shape, name=f"{name}_{stage}", reset_less=True)
            for stage, shape in enumerate((_Compared, _Chosen, _Ranked, _Sized), start=1))
        leaves = {length: Cat(_low_bits(compare.ahead, length), index[str(length)], compare.above[length - 1],
                              Const(length, 4))
                  for length in LENGTHS}
        reached = [Const(0, 1), *compare.reached]
        found = ranks[ranked.index]
        if split is None:  # 30 and 31 are no distances: like a code that is bad, they ask for no more bits
            extra = Mux((found < 2) | (found >= 30), 0, (found >> 1) - 1)[:4]
        else:
            extra = Mux(ranked.flag, found, 0)
        m.d.sync += [
            compare.ahead.eq(ahead),
            compare.reached.eq(Cat(ahead[MAX_LENGTH - length:] >= limits[str(length)] for length in LENGTHS)),
            compare.above.eq(0 if split is None else Cat(
                ahead[MAX_LENGTH - length:] >= split[str(length)] for length in LENGTHS)),
            choose.leaf.eq(select_by_length(reached, leaves)),
            choose.bad.eq(reached[MAX_LENGTH]),
            ranked.index.eq(choose.leaf[0:5] + choose.leaf[5:10]),
            ranked.flag.eq(choose.leaf[10] & ~choose.bad),
            ranked.code.eq(Mux(choose.bad, 0, choose.leaf[11:15])),
            ranked.stop.eq(self.offset + Mux(choose.bad, 1, choose.leaf[11:15])),
            ranked.bad.eq(choose.bad),
            result.bits.eq(Mux(ranked.bad, 1, ranked.code + extra)),
            result.stop.eq(ranked.stop + Mux(ranked.bad, 0, extra)),
            result.code.eq(ranked.code),
            result.flag.eq(ranked.flag),
            result.bad.eq(ranked.bad),
        ]
        return result


class _Compared(data.Struct):
    """Stage 1: the next bits, and for each length whether they reach its limit and its split."""

    ahead: MAX_LENGTH
    reached: MAX_LENGTH
    above: MAX_LENGTH


class _Chosen(data.Struct):
    """Stage 2: low code bits, what to add to them, above the split, and the length of the code found."""

    leaf: 15
    bad: 1


class _Ranked(data.Struct):
    """Stage 3: rank among the symbols that may have extra bits."""

    index: 5
    flag: 1
    code: 4
    stop: 5
    bad: 1


class _Sized(data.Struct):
    """Stage 4: the result."""

    bits: 5
    stop: 6
    code: 4
    flag: 1
    bad: 1


def _low_bits(ahead, length):
    """Low five bits of the code of ``length`` bits that begins ``ahead``."""
    code = ahead[MAX_LENGTH - length:]
    return Cat(code, Const(0, 5))[:5] if length < 5 else code[:5]
