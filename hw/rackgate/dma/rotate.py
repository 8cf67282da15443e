# SPDX-License-Identifier: Apache-2.0
"""Turn the bytes of a word."""

from amaranth.hdl import Module, Mux, Signal, Value

__all__ = ["rotate_down", "rotate_up"]


def rotate_down(m: Module, word: Value, places: Value) -> Value:
    """``word`` with byte ``places`` moved to byte 0, and the bytes below it to the top.

    Adds the logic to ``m``: a level of two-way multiplexers for each bit of ``places``, which takes half the LUTs
    of one multiplexer with an input for each byte.
    """
    for bit, is_set in enumerate(places):
        turned = Signal(len(word), name=f"down_{1 << bit}")
        m.d.comb += turned.eq(Mux(is_set, word.rotate_right(8 << bit), word))
        word = turned
    return word


def rotate_up(m: Module, word: Value, places: Value) -> Value:
    """``word`` with byte 0 moved to byte ``places``, and the bytes at the top to the bottom: undoes `rotate_down`."""
    for bit, is_set in enumerate(places):
        turned = Signal(len(word), name=f"up_{1 << bit}")
        m.d.comb += turned.eq(Mux(is_set, word.rotate_left(8 << bit), word))
        word = turned
    return word
