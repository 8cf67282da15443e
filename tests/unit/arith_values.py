# SPDX-License-Identifier: Apache-2.0
"""Operands that find mistakes in arithmetic, and an exact reference for floats of any format."""

from fractions import Fraction

import numpy as np

from rackgate.arith.abi import Function

__all__ = ["array", "decode", "encode", "exact", "pairs", "special_pairs", "specials", "words"]


def specials(element_type):
    """Encodings at the edges of a type."""
    bits, fmt = 8 * element_type.size, element_type.format
    if fmt is None:
        top = 1 << bits - 1
        values = {0, 1, 2, 3, top - 1, top, top + 1, 2 * top - 1, 2 * top - 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
                  0x5555555555555555, 0xAAAAAAAAAAAAAAAA, 1 << bits // 2, (1 << bits // 2) - 1, top >> 1}
        return sorted({value % (1 << bits) for value in values})
    one = fmt.bias << fmt.mantissa
    lowest = 1 << fmt.mantissa  # the smallest normal number
    positive = {
        0, 1, 2, 3, lowest >> 1, lowest - 1, lowest, lowest + 1, 2 * lowest - 1, 2 * lowest, 3 * lowest + 1,
        one - 1, one, one + 1, one + lowest, one + lowest - 1, one + (lowest >> 1),
        one + fmt.mantissa * lowest, one + (fmt.mantissa + 1) * lowest, one + (fmt.mantissa + 2) * lowest + 1,
        fmt.infinity - 1, fmt.infinity - 2, fmt.infinity - lowest, fmt.infinity - lowest + 1,
        fmt.infinity, fmt.infinity + 1, fmt.quiet_nan, fmt.quiet_nan + 1, fmt.infinity | lowest - 1,
    }
    return sorted(positive | {value | 1 << fmt.bits - 1 for value in positive})


def array(values, element_type):
    """Encodings as an array of the type."""
    return np.array(values, dtype=f"u{element_type.size}").view(element_type.dtype)


def special_pairs(element_type):
    """All pairs of specials, as two arrays."""
    edges = array(specials(element_type), element_type)
    return np.repeat(edges, len(edges)), np.tile(edges, len(edges))


def pairs(element_type, count, rng):
    """Random pairs as two arrays; most floats have exponents so close that the operands meet."""
    size, fmt = element_type.size, element_type.format
    a, b = (np.frombuffer(rng.bytes(count * size), f"<u{size}").copy() for _ in range(2))
    if fmt is not None:
        field = (1 << fmt.exponent) - 1
        exponent = (a >> fmt.mantissa & field).astype(np.int64)
        kind = rng.integers(8, size=count)
        # Some come close to the ends of the range, most differ by what an addition can bridge.
        exponent = np.where(kind == 0, exponent % 4, np.where(kind == 1, field - exponent % 4, exponent))
        other = np.clip(exponent - rng.integers(-3, fmt.mantissa + 5, count), 0, field)
        for value, place, where in ((a, exponent, kind < 2), (b, other, kind < 7)):
            moved = value & np.array(~(field << fmt.mantissa) % (1 << fmt.bits), value.dtype)
            moved |= place.astype(value.dtype) << np.array(fmt.mantissa, value.dtype)
            value[where] = moved[where]
        # Operands that almost cancel.
        near = kind == 5
        b[near] = a[near] ^ np.array(1 << fmt.bits - 1, a.dtype) ^ rng.integers(4, size=near.sum()).astype(a.dtype)
    return a.view(element_type.dtype), b.view(element_type.dtype)


def words(values, width):
    """An array's bytes as the numbers that a stream of ``width`` bytes a word carries; zeros fill the last."""
    raw = values.tobytes()
    return [int.from_bytes(raw[k:k + width], "little") for k in range(0, len(raw), width)]


def decode(value, fmt):
    """Sign and magnitude of a finite float."""
    exponent, mantissa = value >> fmt.mantissa & (1 << fmt.exponent) - 1, value & (1 << fmt.mantissa) - 1
    if exponent:
        mantissa |= 1 << fmt.mantissa
    scale = max(exponent, 1) - fmt.bias - fmt.mantissa
    return value >> fmt.bits - 1, Fraction(mantissa) * Fraction(2) ** scale


def encode(value, fmt):
    """A number above or at zero, rounded to nearest, ties to even: the definition, in exact numbers."""
    if not value:
        return 0
    exponent = max(1 - fmt.bias, value.numerator.bit_length() - value.denominator.bit_length() - 1)
    while value >= Fraction(2) ** (exponent + 1):
        exponent += 1
    steps = round(value / Fraction(2) ** (exponent - fmt.mantissa))  # of Fractions, to the even one if halfway
    # Counted in units of the last place the encodings follow each other, from denormals on to infinity.
    return min((exponent + fmt.bias - 1 << fmt.mantissa) + steps, fmt.infinity)


def exact(function, a, b, fmt):
    """What :mod:`rackgate.arith.abi` says of two encoded floats of any format, without a float in use."""
    top, infinity = 1 << fmt.bits - 1, fmt.infinity
    magnitudes = a & top - 1, b & top - 1
    if max(magnitudes) > infinity:
        return fmt.quiet_nan
    if function == Function.SUM:
        if infinity in magnitudes:
            infinite = {x for x in (a, b) if x & top - 1 == infinity}
            return infinite.pop() if len(infinite) == 1 else fmt.quiet_nan
        total = sum((-1) ** sign * magnitude for sign, magnitude in (decode(x, fmt) for x in (a, b)))
        if not total:
            return a & b & top
        return encode(abs(total), fmt) | (top if total < 0 else 0)
    ordered = sorted((a, b), key=lambda x: -(x & top - 1) - 1 if x & top else x)
    return ordered[-1] if function == Function.MAX else ordered[0]

