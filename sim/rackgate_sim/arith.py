# SPDX-License-Identifier: Apache-2.0
"""Golden functions of :mod:`rackgate.arith`: what its gateware computes, on NumPy arrays, bit for bit."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rackgate.arith.abi import ElementType, FloatFormat, Function

__all__ = ["canonical", "compress", "expand", "reduce"]

_FORMATS = {each.dtype: each.format for each in ElementType}


def canonical(values: NDArray[Any]) -> NDArray[Any]:
    """A copy of floats in which every NaN is the canonical one."""
    fmt = _FORMATS.get(str(values.dtype))
    if fmt is None:
        raise TypeError(f"values must be of a float type of rackgate.arith.abi, not {values.dtype}")
    result = values.copy()
    _bits(result)[np.isnan(values)] = fmt.quiet_nan
    return result


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """The same memory as unsigned numbers."""
    return values.view(f"u{values.dtype.itemsize}")


def _key(values: NDArray[Any], fmt: FloatFormat) -> NDArray[Any]:
    """Signed numbers in the order of the floats (no NaN among them), with -0 below +0."""
    signed = values.view(f"i{values.dtype.itemsize}")
    return signed ^ (signed >> fmt.bits - 1 & (1 << fmt.bits - 1) - 1)


def reduce(function: Function, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """What the reducer gives for operands ``a`` and ``b``, two arrays of one shape and one type.

    Raises
    ------
    TypeError
        If the types differ, or are none of :class:`~rackgate.arith.abi.ElementType`.
    ValueError
        If the shapes differ, or there is no such function.
    """
    function = Function(function)
    if a.dtype != b.dtype or str(a.dtype) not in _FORMATS:
        raise TypeError(f"operands must be of one type of rackgate.arith.abi, not {a.dtype} and {b.dtype}")
    if a.shape != b.shape:
        raise ValueError(f"operands must have one shape, not {a.shape} and {b.shape}")
    if function == Function.PASS:
        return b.copy()
    fmt = _FORMATS[str(a.dtype)]
    if function == Function.SUM:
        with np.errstate(all="ignore"):
            total = np.add(a, b)
        return total if fmt is None else canonical(total)
    if fmt is None:
        return (np.maximum if function == Function.MAX else np.minimum)(a, b)
    below = _key(a, fmt) < _key(b, fmt)
    result = np.where(below if function == Function.MAX else ~below, b, a)
    _bits(result)[np.isnan(a) | np.isnan(b)] = fmt.quiet_nan
    return result


def compress(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """float32 to float16: rounded to nearest, ties to even; what is too large becomes infinity."""
    if values.dtype != np.float32:
        raise TypeError(f"values must be float32, not {values.dtype}")
    with np.errstate(all="ignore"):
        return canonical(values.astype(np.float16))


def expand(values: NDArray[np.float16]) -> NDArray[np.float32]:
    """float16 to float32, exactly."""
    if values.dtype != np.float16:
        raise TypeError(f"values must be float16, not {values.dtype}")
    with np.errstate(all="ignore"):
        return canonical(values.astype(np.float32))
