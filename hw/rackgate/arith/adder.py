# SPDX-License-Identifier: Apache-2.0
"""Sum, maximum and minimum of two floats."""

import operator

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .abi import FUNCTION_BITS, FloatFormat, Function

__all__ = ["FloatAdder", "float_layout"]


def float_layout(fmt: FloatFormat) -> data.StructLayout:
    """Fields of an encoded float: ``mantissa``, ``exponent``, ``sign``."""
    return data.StructLayout({"mantissa": fmt.mantissa, "exponent": fmt.exponent, "sign": 1})


class FloatAdder(wiring.Component):
    """Add two floats, or choose the larger or the smaller: one pair a cycle, a fixed time later its result.

    The results are those of :mod:`rackgate.arith.abi`: correctly rounded (to nearest, ties to even), with
    denormals, signed zeros and infinities; every NaN is the canonical one. Flags are not kept.

    A single path: the operand of the smaller magnitude is shifted right, with a sticky bit, and added or
    subtracted; the result is shifted left, first by whole nibbles, then by 0 to 3 bits, but never below the
    smallest exponent; then rounded. What is not a sum of finite numbers goes the same way: the result takes the
    place of the larger operand, and nothing is added to it.

    Latency 5 cycles with ``en`` high, one pair a cycle. While ``en`` is low everything stands still, so that many
    adders can share one stall. There is no ``valid``: the user delays one beside it. Reset clears nothing: what
    comes out in the first 5 cycles means nothing.

    Parameters
    ----------
    exponent, mantissa:
        Bits of the format's fields: 5 and 10, 8 and 23, 11 and 52 for binary16, binary32, binary64. At least 2.

    Members
    -------
    en:
        Move on.
    function:
        SUM, MAX or MIN (:class:`~rackgate.arith.abi.Function`); the result of any other number means nothing.
    a, b:
        Operands.
    o:
        Result.
    """

    LATENCY = 5

    def __init__(self, exponent: int = 8, mantissa: int = 23):
        exponent, mantissa = operator.index(exponent), operator.index(mantissa)
        if exponent < 2:
            raise ValueError(f"exponent must be at least 2 bits, not {exponent}")
        if mantissa < 2:
            raise ValueError(f"mantissa must be at least 2 bits, not {mantissa}")
        self.format = FloatFormat(exponent, mantissa)
        super().__init__({
            "en": In(1), "function": In(FUNCTION_BITS),
            "a": In(self.format.bits), "b": In(self.format.bits), "o": Out(self.format.bits),
        })

    def elaborate(self, platform):
        m = Module()
        ordered = self._order(m)
        aligned = self._align(m, ordered)
        total = self._add(m, aligned)
        coarse = self._normalize(m, total)
        self._round(m, coarse)
        return m

    def _register(self, m, name, values):
        """A stage's registers, which take ``values`` when ``en`` is high."""
        stage = Signal(data.StructLayout({field: len(value) for field, value in values.items()}), name=name,
                       reset_less=True)
        with m.If(self.en):
            m.d.sync += [stage[field].eq(value) for field, value in values.items()]
        return stage

    def _order(self, m):
        """Stage 1: the operand that decides sign and exponent, the other, and how far apart they are."""
        layout = float_layout(self.format)
        a, b = data.View(layout, self.a), data.View(layout, self.b)
        exponent, mantissa = self.format.exponent, self.format.mantissa
        is_sum, is_below, take_b = Signal(), Signal(), Signal()
        m.d.comb += [
            is_sum.eq(self.function == Function.SUM),
            # Of x and -x the positive one counts as larger: an exact zero is then positive.
            is_below.eq(Cat(~a.sign, a.mantissa, a.exponent) < Cat(~b.sign, b.mantissa, b.exponent)),
        ]
        with m.If(is_sum):
            m.d.comb += take_b.eq(is_below)
        with m.Elif(self.function == Function.MAX):
            m.d.comb += take_b.eq(Mux(a.sign == b.sign, is_below ^ a.sign, a.sign))
        with m.Else():
            m.d.comb += take_b.eq(Mux(a.sign == b.sign, is_below ^ ~a.sign, b.sign))

        is_top = [Signal(name=f"is_top_{k}") for k in range(2)]  # infinity or NaN
        is_nan, is_alone = Signal(), Signal()
        m.d.comb += [
            is_top[0].eq(a.exponent.all()),
            is_top[1].eq(b.exponent.all()),
            is_nan.eq(is_top[0] & a.mantissa.any() | is_top[1] & b.mantissa.any()
                      | is_sum & is_top[0] & is_top[1] & (a.sign ^ b.sign)),
            is_alone.eq(~is_sum | is_top[0] | is_top[1]),
        ]

        # A denormal has the exponent of the smallest normal number, and no leading one.
        levels = min(exponent, ceil_log2(mantissa + 4))
        exponents = [Cat(x.exponent[0] | ~x.exponent.any(), x.exponent[1:]) for x in (a, b)]
        distances = []
        for k in range(2):
            difference = Signal(exponent, name=f"difference_{k}")
            m.d.comb += difference.eq(exponents[k] - exponents[1 - k])
            # Beyond ``levels`` bits nothing is left of the operand but the sticky bit.
            distances.append(difference[:levels] | difference[levels:].any().replicate(levels))

        def significand(x):
            return Cat(x.mantissa, x.exponent.any())

        top = C(self.format.quiet_nan, self.format.bits)
        return self._register(m, "ordered", {
            "sign": Mux(take_b, b.sign, a.sign) & ~is_nan,
            "exponent": Mux(take_b, exponents[1], exponents[0]) | is_nan.replicate(exponent),
            "large": Mux(is_nan, Cat(top[:mantissa], C(1, 1)), Mux(take_b, significand(b), significand(a))),
            "small": Mux(is_alone, 0, Mux(take_b, significand(a), significand(b))),
            "distance": Mux(take_b, distances[1], distances[0]),
            "is_difference": a.sign ^ b.sign,
        })

    def _align(self, m, before):
        """Stage 2: shift the smaller operand; guard, round and sticky bit below it. Inverted for a difference."""
        value = Cat(C(0, 3), before.small)
        for level in reversed(range(len(before.distance))):
            step = 1 << level
            lost = value[:min(step, len(value))].any()
            moved = Cat(value[step] | lost if step < len(value) else lost, value[step + 1:])
            shifted = Signal(len(value), name=f"shifted_{level}")
            m.d.comb += shifted.eq(Mux(before.distance[level], moved, value))
            value = shifted
        return self._register(m, "aligned", {
            "sign": before.sign, "exponent": before.exponent, "large": before.large,
            "small": value ^ before.is_difference.replicate(len(value)), "is_difference": before.is_difference,
        })

    def _add(self, m, before):
        """Stage 3: the sum, with room for a carry, in whole nibbles; and which nibbles must stay in sight.

        These are the nibbles with a one, and the one that the leading bit cannot leave without the exponent
        falling below the smallest.
        """
        width = len(before.small) + 1
        total = Signal(width + 1)
        m.d.comb += total.eq(Cat(C(1, 1), C(0, 3), before.large, C(0, 1))
                             + Cat(before.is_difference, before.small, before.is_difference))
        padding = -width % 4
        nibbles = Cat(C(0, padding), total[1:])
        count = len(nibbles) // 4
        is_stop = Cat(nibbles.word_select(count - 1 - k, 4).any() | (before.exponent[2:] == k) for k in range(count))
        last = (1 << self.format.exponent) - 2
        return self._register(m, "total", {
            "sign": before.sign, "exponent": before.exponent, "value": nibbles, "is_stop": is_stop,
            "is_overflow": total[-1] & (before.exponent == last),
        })

    def _normalize(self, m, before):
        """Stage 4: shift left by nibbles, up to the first that must stay in sight."""
        count = len(before.is_stop)
        skip = Signal(range(count))
        for k in reversed(range(count)):
            with m.If(before.is_stop[k]):
                m.d.comb += skip.eq(k)
        value = before.value
        for level in reversed(range(len(skip))):
            shifted = Signal(len(value), name=f"nibbles_{level}")
            m.d.comb += shifted.eq(Mux(skip[level], value << (4 << level), value))
            value = shifted
        is_limit = before.exponent[2:] == skip
        return self._register(m, "coarse", {
            "sign": before.sign,
            # A zero has no nibble to stop at; its exponent is that of zero.
            "exponent": Mux(before.is_stop.any(), before.exponent - (skip << 2), 0)[:self.format.exponent],
            "value": Cat(Mux(before.is_overflow, 0, value[:-1]), value[-1]),
            "limit": Cat(is_limit & (before.exponent[:2] == 3 - k) for k in range(4)),
        })

    def _round(self, m, before):
        """Stage 5: shift left by 0 to 3 bits, round, and put the fields together.

        The exponent is one too low on purpose: the leading one of the significand is added to it, and so is
        the carry of the rounding.
        """
        exponent, mantissa = self.format.exponent, self.format.mantissa
        marks, shift = Signal(4), Signal(2)
        m.d.comb += marks.eq(before.value[-4:] | before.limit)
        for k in range(4):
            with m.If(marks[k]):
                m.d.comb += shift.eq(3 - k)
        width = len(before.value)
        value, low = Signal(width), width - mantissa - 1
        base, is_up = Signal(exponent), Signal()
        m.d.comb += [
            value.eq(before.value << shift),
            base.eq(before.exponent - shift),
            is_up.eq(value[low - 1] & (value[low] | value[:low - 1].any())),
        ]
        packed = Cat(C(1, 1), value[low:], C(0, exponent - 1)) + Cat(is_up, C(0, mantissa), base)
        with m.If(self.en):
            m.d.sync += self.o.eq(Cat(packed[1:exponent + mantissa + 1], before.sign))
