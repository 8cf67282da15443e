# SPDX-License-Identifier: Apache-2.0
"""Choices by a number become choices by bits, with the same outcome for every value."""

import random
import re

import pytest
from amaranth.hdl import Array, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.export import to_verilog
from rackgate.selection import split_choices


def run(lines, values, outcome=0):
    """What a process assigns: the switches are on ``\\s`` and ``\\t``, the assignments of numbers."""
    lines, place = [line.strip() for line in lines], 0

    def block(live):
        nonlocal place, outcome
        while place < len(lines) and not lines[place].startswith("case") and lines[place] != "end":
            line = lines[place]
            place += 1
            if line.startswith("assign"):
                outcome = int(line.split()[-1]) if live else outcome
                continue
            _, signal, bits = line.split()
            high, _, low = bits.strip("[]").partition(":")
            width = int(high) - int(low or high) + 1
            value = format(values[signal] >> int(low or high) & (1 << width) - 1, f"0{width}b")
            taken = not live
            while lines[place] != "end":
                patterns = re.findall(r"'([01-]+)", lines[place])
                place += 1
                fits = not patterns or any(re.fullmatch(pattern.replace("-", "."), value) for pattern in patterns)
                block(not taken and fits)
                taken |= fits
            place += 1

    block(True)
    return outcome


def switch(random_, indent, depth):
    """A random switch, with don't-cares, defaults, cases of nothing, and others within."""
    high = random_.randrange(7)
    low = random_.randrange(high + 1)
    pad = " " * indent
    lines = [f"{pad}switch \\{random_.choice('st')} [{high}:{low}]"]
    for _ in range(random_.randrange(9)):
        patterns = ["".join(random_.choices("01-", (4, 4, 1), k=high - low + 1))
                    for _ in range(random_.randrange(1, 3))]
        lines.append(f"{pad}  case " + ", ".join(f"{high - low + 1}'{pattern}" for pattern in patterns))
        lines += body(random_, indent + 4, depth)
    if random_.randrange(2):
        lines += [f"{pad}  case", *body(random_, indent + 4, depth)]
    return [*lines, f"{pad}end"]


def body(random_, indent, depth):
    what = random_.randrange(4)
    if what == 0:
        return []
    if what == 1 and depth:
        return switch(random_, indent, depth - 1)
    return [" " * indent + f"assign \\o {random_.randrange(6)}"]


@pytest.mark.parametrize("seed", range(40))
def test_every_value_has_the_same_outcome(seed):
    random_ = random.Random(seed)
    before = switch(random_, 4, 2)
    after = split_choices("\n".join(before)).split("\n")
    for s in range(128):
        values = {"\\s": s, "\\t": random_.randrange(128)}
        assert run(after, values) == run(before, values), f"seed {seed}, {values}"


def test_nothing_else_is_touched():
    kept = ["process $1", "  assign \\o 1'0", "  switch { \\a \\b }", "    case 2'00", "      assign \\o 1'1", "  end",
            "end"]
    assert split_choices("\n".join(kept)).split("\n") == kept
    attributes = ["switch \\s [1:0]", "  attribute \\src \"x\"", "  case 2'00", "end"]
    assert split_choices("\n".join(attributes)).split("\n") == attributes
    wide = ["switch \\s [9:0]", *(f"  case 10'{k:010b}" for k in range(5)), "end"]
    assert split_choices("\n".join(wide)).split("\n") == wide


class Chooser(wiring.Component):
    number: In(3)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.o.eq(Array(Signal(8, name=f"value_{k}", init=k) for k in range(8))[self.number])
        return m


def test_trees_have_no_selector_of_many_controls():
    assert "casez" in to_verilog(Chooser(), name="chooser")
    assert "casez" not in to_verilog(Chooser(), name="chooser", trees=True)
