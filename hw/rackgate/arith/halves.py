# SPDX-License-Identifier: Apache-2.0
"""One float32 to float16, and back."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .abi import FloatFormat
from .adder import float_layout

__all__ = ["HalfToSingle", "SingleToHalf"]

_HALF, _SINGLE = FloatFormat(5, 10), FloatFormat(8, 23)
#: Exponent of a float32 that is the smallest normal float16: 1 is added for the difference of the biases.
_LOWEST = _SINGLE.bias - _HALF.bias + 1
#: Exponent of the smallest float32 that is too large for a float16.
_OVERFLOW = _SINGLE.bias + _HALF.bias + 1


class SingleToHalf(wiring.Component):
    """Round a float32 to the nearest float16, ties to even.

    What is too large becomes infinity, what is too small a denormal or a zero of its sign, a NaN the canonical one.

    Latency 2 cycles with ``en`` high, one number a cycle; while ``en`` is low everything stands still. Reset clears
    nothing.

    Members
    -------
    en:
        Move on.
    i, o:
        float32 and float16.
    """

    LATENCY = 2

    en: In(1)
    i: In(32)
    o: Out(16)

    def elaborate(self, platform):
        m = Module()
        single = data.View(float_layout(_SINGLE), self.i)
        exponent, mantissa = single.exponent, single.mantissa
        is_low, is_far, is_overflow, is_nan = (Signal(name=name) for name in (
            "is_low", "is_far", "is_overflow", "is_nan"))
        m.d.comb += [
            is_low.eq(exponent < _LOWEST),
            is_far.eq(exponent < _LOWEST - 15),
            is_overflow.eq(exponent >= _OVERFLOW),
            is_nan.eq(exponent.all() & mantissa.any()),
        ]
        # Significand, round bit, sticky bit. Shifted by 12 or more it is below half of the smallest denormal.
        distance = ((_LOWEST - exponent)[:4] | is_far.replicate(4)) & is_low.replicate(4)
        value = Cat(mantissa[:12].any(), mantissa[12:], C(1, 1))
        for level in reversed(range(4)):
            step = 1 << level
            shifted = Signal(13, name=f"shifted_{level}")
            m.d.comb += shifted.eq(
                Mux(distance[level], Cat(value[:step + 1].any(), value[step + 1:]), value))
            value = shifted

        sign, base, rest = (Signal(width, name=name, reset_less=True) for name, width in (
            ("sign", 1), ("base", 5), ("rest", 13)))
        with m.If(self.en):
            m.d.sync += [
                sign.eq(single.sign & ~is_nan),
                # One too low if it is that of a normal number: the significand's leading one is added to it.
                base.eq(Mux(is_overflow, 31, Mux(is_low, 0, (exponent - _LOWEST)[:5]))),
                rest.eq(Mux(is_overflow, Mux(is_nan, 1 << 11, 0), value)),
                self.o.eq(Cat((Cat(rest[2:], C(0, 4)) + Cat(C(0, 10), base)
                               + (rest[1] & (rest[2] | rest[0])))[:15], sign)),
            ]
        return m


class HalfToSingle(wiring.Component):
    """The float32 that equals a float16; a NaN becomes the canonical one.

    Latency 2 cycles with ``en`` high, one number a cycle; while ``en`` is low everything stands still. Reset clears
    nothing.

    Members
    -------
    en:
        Move on.
    i, o:
        float16 and float32.
    """

    LATENCY = 2

    en: In(1)
    i: In(16)
    o: Out(32)

    def elaborate(self, platform):
        m = Module()
        half = data.View(float_layout(_HALF), self.i)
        is_nan, shift, denormal = Signal(), Signal(4), Signal(8)
        m.d.comb += is_nan.eq(half.exponent.all() & half.mantissa.any())
        # A denormal is shifted until its leading one is gone. A zero, which has none, keeps the exponent 0.
        for place in range(10):
            with m.If(half.mantissa[place]):
                m.d.comb += [shift.eq(10 - place), denormal.eq(_LOWEST - 10 + place)]
        is_denormal = ~half.exponent.any()
        normal = Cat(half.exponent[:4], ~half.exponent[4].replicate(3), half.exponent[4])  # 112 more

        sign, exponent, mantissa, distance = (Signal(width, name=name, reset_less=True) for name, width in (
            ("sign", 1), ("exponent", 8), ("mantissa", 10), ("distance", 4)))
        with m.If(self.en):
            m.d.sync += [
                sign.eq(half.sign & ~is_nan),
                exponent.eq(Mux(is_denormal, denormal, normal | half.exponent.all().replicate(8))),
                mantissa.eq(Mux(is_nan, 1 << 9, half.mantissa)),
                distance.eq(Mux(is_denormal, shift, 0)),
                self.o.eq(Cat(C(0, 13), (mantissa << distance)[:10], exponent, sign)),
            ]
        return m
