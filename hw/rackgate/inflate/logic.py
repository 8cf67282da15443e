# SPDX-License-Identifier: Apache-2.0
"""Combinational helpers that map well to LUTs."""

from amaranth.hdl import Const, Mux, Value

__all__ = ["at_least", "select"]


def select(values, index):
    """``values[index]`` as a tree of two-way multiplexers; what an index past the last one gives is left open.

    Raises ``ValueError`` if the index is too narrow for the values.
    """
    values, index = [Value.cast(value) for value in values], Value.cast(index)
    if len(values) > 1 << len(index):
        raise ValueError(f"index must reach all {len(values)} values, which {len(index)} bits do not")
    for bit in index:
        if len(values) > 1:
            values = [Mux(bit, pair[-1], pair[0]) for pair in (values[k:k + 2] for k in range(0, len(values), 2))]
    return values[0]


def at_least(value, constant: int):
    """``value >= constant`` for a constant, in gates: synthesis would make an adder of the operator."""
    value = Value.cast(value)
    if constant <= 0 or constant >> len(value):
        return Const(constant <= 0, 1)
    result = Const(1, 1)
    for place, bit in enumerate(value):
        result = bit & result if constant >> place & 1 else bit | result
    return result
