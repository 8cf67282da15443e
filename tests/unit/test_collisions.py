# SPDX-License-Identifier: Apache-2.0
"""Verilog tells synthesis which memories need no order of a read and a write in one cycle."""

import re

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collisions import ATTRIBUTE, keep_marks
from rackgate.export import to_verilog


class Two(wiring.Component):
    """Two memories, of which one is marked."""

    address: In(2)
    data: In(4)
    q: Out(8)

    def elaborate(self, platform):
        m = Module()
        for number, attrs in enumerate(({ATTRIBUTE: 1}, {})):
            memory = Memory(shape=4 + number, depth=4, init=[], attrs=attrs)
            m.submodules[f"memory_{number}"] = memory
            r_port, w_port = memory.read_port(), memory.write_port()
            m.d.comb += [r_port.addr.eq(self.address), w_port.addr.eq(self.address), w_port.data.eq(self.data),
                         w_port.en.eq(1), self.q[4 * number:4 * number + 4].eq(r_port.data)]
        return m


def test_the_mark_reaches_verilog():
    text = to_verilog(Two(), name="top")
    assert re.findall(r"\(\* (\w+) \*\) reg \[(\d):0\]", text) == [(ATTRIBUTE, "3")]
    assert len(re.findall(r"reg \[\d:0\] \S+ \[3:0\];", text)) == 2
    assert "attribute" not in text and "(* src" not in text


def test_names_with_dots_and_others():
    text = ("attribute \\no_rw_check 1\nmodule \\a\n  memory width 4 size 4 \\x\nmodule \\b.c\n"
            "  attribute \\src \"f\"\n  attribute \\no_rw_check 1\n  memory width 4 size 4 \\x\n")
    verilog = "module a(clk);\n  reg [3:0] x [3:0];\nmodule \\b.c (clk);\n  reg [3:0] x [3:0];\n"
    marked = keep_marks(verilog, text)
    assert marked.count(ATTRIBUTE) == 1 and marked.index(ATTRIBUTE) > marked.index("b.c")
