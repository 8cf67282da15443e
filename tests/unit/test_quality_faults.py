# SPDX-License-Identifier: Apache-2.0
"""Faults in Verilog: found where one makes a difference, planted asleep, and the same in a text that has moved."""

import pytest
from amaranth.hdl import Assert, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.export import to_verilog
from rackgate_tb.quality.faults import VARIABLE, choose, find, locate, plant


class Part(wiring.Component):
    i: In(8)
    go: In(1)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.go):
            m.d.sync += self.o.eq(self.i + 3)
        m.d.sync += Assert(self.o != 99)
        return m


class Whole(wiring.Component):
    i: In(8)
    go: In(1)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.part = part = Part()
        m.d.comb += [part.i.eq(self.i ^ 0x55), part.go.eq(self.go & ~self.i[0]), self.o.eq(part.o)]
        return m


@pytest.fixture(scope="module")
def verilog():
    return to_verilog(Whole(), name="whole", trees=True)


def test_every_kind_of_statement_is_found(verilog):
    found = find(verilog)
    assert {"operator", "negation", "always", "never"} <= {fault.kind for fault in found}
    assert {fault.module.strip("\\") for fault in found} == {"whole", "whole.part"}
    lines = verilog.split("\n")
    for fault in found:
        assert lines[fault.line].strip() == fault.right != fault.wrong
    text = {str(fault) for fault in found}
    assert any("i + 2'h3" in one and "i - 2'h3" in one for one in text), text


@pytest.mark.parametrize("right, wrong", [
    ("assign a = b + c;", {"assign a = b - c;"}),
    ("assign a = b[3:0] == 4'hf;", {"assign a = b[3:0] != 4'hf;"}),
    ("assign \\a.b  = \\c.d  & e;", {"assign \\a.b  = \\c.d  | e;"}),
    ("assign a = ~ b;", {"assign a = b;"}),
    ("assign a = c ? d : 8'h00;", {"assign a = c ? 8'h00 : d;"}),
    ("assign a = { b, c } < 2'h2;", {"assign a = { b, c } <= 2'h2;"}),
    ("else if (go) o <= d[7:0];", {"else if (1'h1) o <= d[7:0];", "else if (1'h0) o <= d[7:0];"}),
    ("assign a = b;", set()),
    ("assign a = c ? 1'h1 : 1'hx;", set()),  # anything is as good as 1
    ("if (rst) o <= 8'h00;", set()),  # a simulation begins there anyhow
    ("assign a = b + c + d;", set()),  # no statement of Yosys'
])
def test_what_becomes_of_a_statement(right, wrong):
    assert {fault.wrong for fault in find(f"module m(a);\n  {right}\nendmodule")} == wrong


def test_choice_is_of_all_modules_and_repeats(verilog):
    found = find(verilog)
    assert choose(found, 4, 1) == choose(found, 4, 1)
    assert any(choose(found, 4, seed) != choose(found, 4, 1) for seed in range(2, 9))
    few = choose(found, 4, 1)
    assert len({fault.line for fault in few}) == 4 and len({fault.module for fault in few}) == 2
    everything = choose(found, 10_000, 1)
    assert len(everything) == len({fault.line for fault in found})


def _switches_before(text, fault):
    """Lines that were put in before a fault's: two for each module with faults that begins before it."""
    places = [number for number, line in enumerate(text.split("\n")) if line == "  int rackgate_fault;"]
    return sum(2 for place in places if place <= fault.line + 2)


def test_what_is_planted_sleeps_beside_what_stood_there(verilog):
    faults = choose(find(verilog), 5, 1)
    text = plant(verilog, faults)
    assert text.count(f'std::getenv(\\"{VARIABLE}\\")') == 2 * len({fault.module for fault in faults})
    for number, fault in enumerate(faults, start=1):
        assert f"(rackgate_fault == {number}) ?" in text.split("\n")[fault.line + _switches_before(text, fault)]
    assert plant(verilog, []) == verilog


def test_a_fault_is_found_again_where_it_has_moved(verilog):
    faults = choose(find(verilog), 5, 1)
    moved = "// a line more\n" + verilog
    assert [fault.line for fault in locate(moved, faults)] == [fault.line + 1 for fault in faults]
    gone = verilog.replace(faults[0].right, "")
    assert locate(gone, faults)[0] is None
    assert plant(gone, locate(gone, faults)).count("rackgate_fault == 1)") == 0
