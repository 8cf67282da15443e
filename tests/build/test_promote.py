# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Resets and enables that go to thousands of flip-flops: by a global network, and nothing else of the design with
them."""

import copy
import re

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate_boards import build
from rackgate_boards.boards import BOARDS
from rackgate_boards.build import implement
from rackgate_boards.promote import LOADS, MOST_NETWORKS, NETWORKS, promote

pytestmark = pytest.mark.build

CLOCK, DATA = 2, 3


def flip_flop(output, **control):
    connections = {"CLK": [CLOCK], "DI": [DATA], "Q": [output], **{name: [bit] for name, bit in control.items()}}
    return {"type": "TRELLIS_FF", "hide_name": 0, "parameters": {}, "attributes": {}, "connections": connections}


def design(loads):
    """A module of flip-flops, so many for each control net; each net drives a LUT, block RAM and a clock as well."""
    nets = {"clk": [CLOCK], "d": [DATA], "wide": [10, 11, 12], **{f"n{bit}": [bit] for bit in range(13, 30)}}
    cells = {}
    for (port, bit), count in loads.items():
        for index in range(count):
            cells[f"ff_{port}_{bit}_{index}"] = flip_flop(1000 + len(cells), **{port: bit})
        cells[f"lut_{bit}"] = {"type": "LUT4", "connections": {"A": [bit], "B": ["0"], "Z": [100_000 + len(cells)]}}
        cells[f"ram_{bit}"] = {"type": "DP16KD", "connections": {"RSTA": [bit], "CEA": [bit]}}
    nets["q"] = [bit for cell in cells.values() for bit in cell["connections"].get("Q", [])]
    nets["z"] = [*(cell["connections"]["Z"][0] for name, cell in cells.items() if name.startswith("lut")), "x"]
    return {"cells": cells, "netnames": {name: {"hide_name": 0, "bits": bits, "attributes": {}}
                                         for name, bits in nets.items()}}


def test_a_reset_of_thousands_has_a_buffer():
    before = design({("LSR", 11): LOADS, ("CE", 14): LOADS - 1})
    after = copy.deepcopy(before)
    assert promote(after) == {"wide[1]": LOADS}
    ((name, buffer),) = ((name, cell) for name, cell in after["cells"].items() if name not in before["cells"])
    assert buffer["type"] == "DCCA" and buffer["connections"]["CLKI"] == [11]
    (out,) = buffer["connections"]["CLKO"]
    used = {bit for net in before["netnames"].values() for bit in net["bits"]}
    assert out not in used and after["netnames"]["wide[1]$global"]["bits"] == [out]
    for cell, entry in before["cells"].items():
        expected = copy.deepcopy(entry["connections"])
        if entry["type"] == "TRELLIS_FF" and expected.get("LSR") == [11]:
            expected["LSR"] = [out]
        assert after["cells"][cell]["connections"] == expected
    assert {net: after["netnames"][net] for net in before["netnames"]} == before["netnames"]


def test_loads_of_both_kinds_count_together():
    module = design({("LSR", 20): LOADS // 2, ("CE", 20): LOADS - LOADS // 2})
    assert promote(module) == {"n20": LOADS}
    ends = {module["cells"][f"ff_{port}_20_0"]["connections"][port][0] for port in ("LSR", "CE")}
    assert len(ends) == 1 and 20 not in ends


def test_as_many_as_there_are_networks_for():
    loads = {("LSR", 13 + index): LOADS + index for index in range(NETWORKS + 2)}
    module = design(loads)
    assert promote(module) == {f"n{13 + index}": LOADS + index for index in range(2, NETWORKS + 2)}
    buffers = [cell["connections"] for cell in module["cells"].values() if cell["type"] == "DCCA"]
    assert len({bits["CLKO"][0] for bits in buffers}) == NETWORKS == len({bits["CLKI"][0] for bits in buffers})


@pytest.mark.parametrize("networks", [0, 1, MOST_NETWORKS])
def test_as_many_as_are_asked_for(networks):
    module = design({("LSR", 13 + index): LOADS + index for index in range(9)})
    assert list(promote(module, networks)) == [f"n{21 - index}" for index in range(networks)]


@pytest.mark.parametrize("networks", [-1, MOST_NETWORKS + 1])
def test_more_than_there_are(networks):
    with pytest.raises(ValueError, match=f"networks must be 0 to 8, not {networks}"):
        promote(design({}), networks)


def test_a_net_goes_by_its_shortest_name():
    module = design({("LSR", 16): LOADS})
    module["netnames"] |= {"a": {"bits": [16]}, "another": {"bits": [16]}}
    assert promote(module) == {"a": LOADS}


@pytest.mark.parametrize("bit", ["0", "1", "x"])
def test_constants_are_no_nets(bit):
    module = design({("LSR", bit): LOADS + 5})
    before = copy.deepcopy(module)
    assert promote(module) == {} and module == before


def test_nothing_to_do():
    assert promote({"cells": {}, "netnames": {}}) == {}
    module = design({("CE", 15): LOADS - 1})
    del module["cells"]["lut_15"], module["cells"]["ff_CE_15_0"]["connections"]["CE"]
    before = copy.deepcopy(module)
    assert promote(module) == {} and module == before


class Registers(wiring.Component):
    """Shift registers that a pin's signal resets, gated by another register: none of it can be left out."""

    rx: In(1, init=1)
    tx: Out(1)

    def elaborate(self, platform):
        m, inner = Module(), Module()
        chain, clear, enable = Signal(LOADS + 50), Signal(), Signal(4)
        m.d.sync += [clear.eq(~self.rx & enable[0]), enable.eq(enable + 1)]
        inner.d.sync += chain.eq((chain << 1 | self.rx) ^ (chain << 3))
        m.submodules.inner = ResetInserter(clear)(inner)
        m.d.comb += self.tx.eq(chain[-1])
        return m


@pytest.mark.xdist_group("yowasp")
@pytest.mark.thorough
def test_a_bitstream_with_its_reset_on_a_network(tmp_path, monkeypatch):
    """nextpnr takes the buffer as one of those that reach the fabric, and routes every load by it."""
    monkeypatch.setattr(build, "cache_root", lambda: tmp_path)
    steps = []
    made = implement(BOARDS["colorlight_5a75b"], Registers(), clock_mhz=50, link="uart", report=steps.append)
    (said,) = (step for step in steps if "global network" in step)
    net, loads = re.fullmatch(r"(\S+) goes to (\d+) flip-flops by a global network", said).groups()
    assert int(loads) == LOADS + 50
    log = (made["folder"] / "top.tim").read_text()
    assert f"promoting clock net {net}$global to global network" in log
    network = int(re.search(rf"routing clock net {re.escape(net)}\$global using global (\d+)", log)[1])
    assert network < 8, "the networks that reach more than clock inputs"
