# SPDX-License-Identifier: Apache-2.0
"""Symbol sizes at every bit offset of a block of source bits, without knowing where symbols begin."""

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.code import LENGTHS, MAX_LENGTH, CodeTables

__all__ = ["LANE_STAGES", "LaneResult", "Lanes", "lookahead_blocks"]

#: Registers between a block's bits and its results.
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
    is_length: 1
    distance_bits: 5
    distance_code: 4
    distance_bad: 1


def lookahead_blocks(lanes: int, bits: int = MAX_LENGTH) -> int:
    """Blocks that hold the next ``bits`` bits of every offset of the first of them."""
    return -(-(lanes - 1 + bits) // lanes)


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


class Lanes(wiring.Component):
    """Decode the size of the symbol at each of ``lanes`` bit offsets.

    Purely feed-forward: results of the block whose first bit is ``bits[0]`` stand in ``results`` after
    :data:`LANE_STAGES` cycles with ``enable``. One block a cycle. ``tables`` must be stable while blocks that
    use them are in the pipeline.

    Each lane compares the top L of the next 15 bits with ``limit[L]`` for all lengths L (see
    :mod:`rackgate.inflate.code`), which gives a thermometer of the code's length; one more comparison a
    length tells match lengths from literals; the rank among length symbols gives the extra bits.

    Reset clears nothing that matters: the user counts the stages until the first result is valid.

    Parameters
    ----------
    lanes:
        Bit offsets, 8 or 16.

    Members
    -------
    enable: the pipeline moves.
    bits: the next bits of the source, the block's first bit in bit 0.
    tables: the codes in force.
    results: one :class:`LaneResult` an offset.
    """

    def __init__(self, lanes: int = 16):
        self.lanes = operator.index(lanes)
        if self.lanes not in (8, 16):
            raise ValueError(f"lanes must be 8 or 16, not {lanes}")
        super().__init__({
            "enable": In(1),
            "bits": In(self.lanes * lookahead_blocks(self.lanes)),
            "tables": In(CodeTables),
            "results": Out(data.ArrayLayout(LaneResult, self.lanes)),
        })

    def elaborate(self, platform):
        m = Module()
        for offset in range(self.lanes):
            # The first bit of a code is its highest, so bits are taken in reverse.
            ahead = Signal(MAX_LENGTH, name=f"ahead_{offset}")
            m.d.comb += ahead.eq(Cat(reversed(self.bits[offset:offset + MAX_LENGTH])))
            result = Signal(LaneResult, name=f"result_{offset}")
            literal, is_length = self._literal(m, offset, ahead)
            distance = self._distance(m, offset, ahead)
            for name, lane in (("literal", literal), ("distance", distance)):
                code, bad, bits = lane
                with m.If(self.enable):
                    m.d.sync += [result[f"{name}_code"].eq(code), result[f"{name}_bad"].eq(bad),
                                 result[f"{name}_bits"].eq(bits)]
            with m.If(self.enable):
                m.d.sync += result.is_length.eq(is_length)
            m.d.comb += self.results[offset].eq(result)
        return m

    def _stage(self, m, name, value):
        """``value`` one enabled cycle later."""
        register = Signal(len(value), name=name)
        with m.If(self.enable):
            m.d.sync += register.eq(value)
        return register

    def _thermometer(self, m, name, ahead, limits):
        """Stage 1: which lengths' limits the next bits reach."""
        reached = [Const(0, 1)]
        for length in LENGTHS:
            reached.append(self._stage(m, f"{name}_reached_{length}",
                                       ahead[MAX_LENGTH - length:] >= limits[str(length)]))
        return reached

    def _rank(self, m, name, leaf, reached):
        """Stages 2 and 3: code length, whether no code matches, and the sum that indexes the extra bits.

        ``leaf(L)`` gives (low five bits of the code, what to add, one flag) for length L.
        """
        leaves = {length: Cat(*leaf(length), Const(length, 4)) for length in LENGTHS}
        chosen = self._stage(m, f"{name}_chosen", select_by_length(reached, leaves))
        bad = self._stage(m, f"{name}_none", reached[MAX_LENGTH])
        index = self._stage(m, f"{name}_index", (chosen[0:5] + chosen[5:10])[:5])
        flag = self._stage(m, f"{name}_flag", chosen[10] & ~bad)
        code = self._stage(m, f"{name}_code", Mux(bad, 0, chosen[11:15]))
        return index, flag, code, self._stage(m, f"{name}_bad", bad)

    def _literal(self, m, offset, ahead):
        name = f"literal_{offset}"
        reached = self._thermometer(m, name, ahead, self.tables.literal_limit)
        ahead_1 = self._stage(m, f"{name}_ahead", ahead)
        above = {length: self._stage(m, f"{name}_above_{length}",
                                     ahead[MAX_LENGTH - length:] >= self.tables.literal_split[str(length)])
                 for length in LENGTHS}

        def leaf(length):
            return (_low_bits(ahead_1, length), self.tables.length_index[str(length)], above[length])

        index, is_length, code, bad = self._rank(m, name, leaf, reached)
        extra = Mux(is_length, self.tables.length_extra[index], 0)
        return (code, bad, Mux(bad, 1, code + extra)), is_length

    def _distance(self, m, offset, ahead):
        name = f"distance_{offset}"
        reached = self._thermometer(m, name, ahead, self.tables.distance_limit)
        ahead_1 = self._stage(m, f"{name}_ahead", ahead)

        def leaf(length):
            return (_low_bits(ahead_1, length), self.tables.distance_index[str(length)], Const(0, 1))

        index, _, code, bad = self._rank(m, name, leaf, reached)
        return code, bad, Mux(bad, 1, code + self.tables.distance_extra[index])


def _low_bits(ahead, length):
    """Low five bits of the code of ``length`` bits that begins ``ahead``."""
    code = ahead[MAX_LENGTH - length:]
    return Cat(code, Const(0, 5))[:5] if length < 5 else code[:5]
