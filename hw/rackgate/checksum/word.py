# SPDX-License-Identifier: Apache-2.0
"""What goes into a checksum."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data

__all__ = ["CheckWord", "move_to_top"]


class CheckWord(data.Struct):
    """The low ``count`` (0 to 8) bytes of ``data``, first byte lowest, to be added to a running checksum.

    With ``restart`` the running checksum becomes ``value`` first.
    """

    data: 64
    count: 4
    restart: 1
    value: 32


def move_to_top(m: Module, target: Signal, word: Value, count: Value) -> None:
    """Register in ``target`` the low ``count`` bytes of ``word`` moved to its top, zeros below.

    So the last byte stands at one place, whatever the count, and what a byte adds to a checksum depends
    on its place alone.
    """
    with m.Switch(count):
        for number in range(8):
            with m.Case(number):
                m.d.sync += target.eq(word << 8 * (8 - number))
        with m.Default():
            m.d.sync += target.eq(word)
