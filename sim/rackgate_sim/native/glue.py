# SPDX-License-Identifier: Apache-2.0
"""C++ that binds one Verilated model's signals to the generic harness."""

from collections.abc import Sequence

from .ports import PortInfo, SignalInfo, StreamInfo

__all__ = ["PREFIX", "glue_source"]

#: Class name of every Verilated model: each lives in a library of its own.
PREFIX = "Dut"

_MODELS = {
    "packet_in": "PacketInput",
    "packet_out": "PacketOutput",
    "element_in": "ElementInput",
    "element_out": "ElementOutput",
    "memory": "MemoryPort",
    "register": "LiteTarget",
}


def _mangled(name: str) -> str:
    """Verilator's spelling of a Verilog name: double underscores are its own."""
    return name.replace("__", "___05F")


def _stream_struct(name: str, info: StreamInfo) -> list[str]:
    lines = [f"struct {name} {{"]
    for signal in ("payload", "valid", "ready"):
        lines.append(
            f"    static RG_INLINE auto& {signal}(Model& m) {{ return m.{_mangled(f'{info.path}__{signal}')}; }}"
        )
    lines.append(
        f"    using Payload = std::decay_t<decltype(std::declval<Model&>().{_mangled(info.path + '__payload')})>;"
    )
    lines.append(f"    static constexpr unsigned width = {info.width};")
    for field, (lsb, width) in info.fields.items():
        lines.append(f"    static constexpr unsigned {field}_lsb = {lsb}, {field}_width = {width};")
    return [*lines, "};"]


def _port_struct(port: PortInfo) -> list[str]:
    if "" in port.streams:
        return _stream_struct(f"{port.name}_signals", port.streams[""])
    lines = [f"struct {port.name}_signals {{"]
    for channel, info in port.streams.items():
        lines += ["    " + line for line in _stream_struct(channel, info)]
    return [*lines, "};"]


def _signals(signals: Sequence[SignalInfo], *, has_reset: bool, edge_detector: str | None) -> list[str]:
    irq = any(s.name == "irq" and s.output for s in signals)
    reset = "m.rst = level;" if has_reset else "(void)m, (void)level;"
    rearm = f"m.rootp->{edge_detector} = 0; return true;" if edge_detector else "return false;"
    return [
        "struct Signals {",
        f"    using Model = {PREFIX};",
        "    static RG_INLINE void clock(Model& m, bool level) { m.clk = level; }",
        f"    static void reset(Model& m, bool level) {{ {reset} }}",
        f"    static RG_INLINE bool irq(Model& m) {{ return {'m.irq' if irq else '(void)m, false'}; }}",
        f"    static RG_INLINE bool rearm(Model& m) {{ (void)m; {rearm} }}",
        "    // Every register and memory of the design lies in this one object.",
        "    static const void* state(Model& m) { return m.rootp->vlSymsp; }",
        f"    static constexpr std::size_t STATE_SIZE = sizeof({PREFIX}__Syms);",
        "};",
    ]


def glue_source(
    ports: Sequence[PortInfo], signals: Sequence[SignalInfo], *, has_reset: bool, edge_detector: str | None
) -> str:
    """Return the glue for one design.

    Parameters
    ----------
    ports, signals:
        The design's ports, as :func:`.ports.describe` gives them.
    has_reset:
        Whether the Verilog has a port ``rst``.
    edge_detector:
        Name of the model's member that remembers the clock's last level, if the low phase of a cycle may be
        left out: no logic then looks at falling edges.
    """
    lines = [
        "// Generated from a component's signature.",
        "#include <type_traits>",
        "#include <utility>",
        f'#include "{PREFIX}.h"',
        f'#include "{PREFIX}__Syms.h"',
        '#include "simulation.hpp"',
        "",
        "namespace rackgate {",
        "namespace {",
        "",
        *_signals(signals, has_reset=has_reset, edge_detector=edge_detector),
        f"using Model = {PREFIX};",
    ]
    for port in ports:
        lines += _port_struct(port)
    lines += ["", "class Glue final : public Simulation<Glue, Signals> {", "public:", "    Glue() {"]
    lines += [f'        add({port.name}_, "{port.name}");' for port in ports]
    lines += [
        "    }",
        "    RG_INLINE bool drive(Model& m, uint64_t now) {",
        "        bool changed = false;",
        "        (void)m, (void)now;",
    ]
    lines += [f"        changed |= {port.name}_.drive(m, now);" for port in ports]
    lines += [
        "        return changed;",
        "    }",
        "    RG_INLINE uint32_t sample(Model& m, uint64_t now) {",
        "        uint32_t seen = 0;",
        "        (void)m, (void)now;",
    ]
    lines += [f"        seen |= {port.name}_.sample(m, now);" for port in ports]
    lines += [
        "        return seen;",
        "    }",
        "    uint64_t look(Model& m, uint32_t signal) {",
        "        switch (signal) {",
    ]
    lines += [
        f"        case {k}: return get(m.{_mangled(s.name)}, 0, {min(s.width, 64)});"
        for k, s in enumerate(signals)
        if s.width
    ]
    lines += [
        "        default: return m.clk;",
        "        }",
        "    }",
        "    void set(Model& m, uint32_t signal, uint64_t value) {",
        "        (void)m, (void)value;",
        "        switch (signal) {",
    ]
    lines += [
        f"        case {k}: put(m.{_mangled(s.name)}, 0, {min(s.width, 64)}, value); break;"
        for k, s in enumerate(signals)
        if s.width and not s.output
    ]
    lines += ["        default: break;", "        }", "    }", "", "private:"]
    lines += [f"    {_MODELS[port.kind]}<{port.name}_signals> {port.name}_;" for port in ports]
    lines += [
        "};",
        "",
        "}  // namespace",
        "",
        "Device* make_device() { return new Glue; }",
        "",
        "}  // namespace rackgate",
        "",
    ]
    return "\n".join(lines)
