# SPDX-License-Identifier: Apache-2.0
"""Components as SystemVerilog that every simulator and synthesis tool reads the same way.

Amaranth's own ``back.verilog`` writes ``always @*`` blocks, which never run when every input is a
constant (amaranth#1629); this writer asks Yosys for ``always_comb`` instead. It also puts the Python
line into the text of every hardware ``Assert``, so that a failure names its source in any simulator.
"""

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from amaranth._toolchain.yosys import find_yosys
from amaranth.back import rtlil
from amaranth.lib import wiring

from rackgate.collisions import keep_marks
from rackgate.selection import split_choices

__all__ = ["rtlil_to_verilog", "source_name", "to_verilog"]

_SRC = re.compile(r'^ *attribute \\src "(?P<file>[^"|]*):(?P<line>\d+)')
_CELL = re.compile(r"^ *cell (?P<type>\S+) ")
_FORMAT = re.compile(r'^(?P<head> *parameter \\FORMAT ")(?P<text>.*)"$')
_MODULE_END = re.compile(r"^end$")
_MEMORY_CONTENTS = re.compile(r"^ *cell \$meminit")
_ZERO_DATA = re.compile(r"^ *connect \\DATA \d+'0+$")
_ATTRIBUTE = re.compile(r"^ *attribute ")

# Muxes rather than branches, since simulators order them better; but registers with an enable or a reset keep it as
# a branch (opt_dff), so that what feeds only a register that holds need not be worked out.
_PASSES = (
    "proc -norom", "opt_expr", "opt_clean", "opt_merge", "opt_clean", "opt_dff", "opt_clean", "opt_expr", "opt_merge",
    "opt_clean", "memory_collect",
)


def source_name(path: str) -> str:
    """A source file's name without the machine's folders: relative to the import path, if it lies below it."""
    best = ""
    for root in sys.path:
        root = os.path.abspath(root)
        if path.startswith(root + os.sep) and len(root) > len(best):
            best = root
    return os.path.relpath(path, best) if best else Path(path).name


def _locate_assertions(text: str) -> str:
    """RTLIL with ``[file:line]`` at the end of every assertion's message.

    A combinational assertion of a clocked module is also made to look at clock edges only: between
    edges, a simulator shows it the new state with the old inputs.
    """
    out, location, in_check, clocked = [], "", False, False
    for line in text.splitlines():
        if match := _SRC.match(line):
            location = f"{source_name(match['file'])}:{match['line']}"
        elif match := _CELL.match(line):
            in_check = match["type"] == "$check"
        elif _MODULE_END.match(line):
            clocked = False
        elif re.match(r"^ *wire width 1 input \d+ +\\clk$", line):
            clocked = True
        elif in_check:
            if match := _FORMAT.match(line):
                line = f"{match['head']}{match['text'] or 'assertion failed'} [{location}]\""
            elif clocked:
                line = line.replace(r"\TRG_ENABLE 0", r"\TRG_ENABLE 1").replace(r"\TRG_WIDTH 0", r"\TRG_WIDTH 1")
                line = line.replace(r"\TRG_POLARITY 0", r"\TRG_POLARITY 1").replace(r"\TRG {  }", r"\TRG \clk [0]")
        out.append(line)
    return "\n".join(out)


def _drop_zero_contents(text: str) -> str:
    """RTLIL without the initial contents of memories that begin as zero.

    Simulators and FPGAs zero memories anyway, and Verilog would spend a line on each word.
    """
    out: list[str] = []
    cell: list[str] | None = None
    for line in text.splitlines():
        if cell is None and _MEMORY_CONTENTS.match(line):
            cell = []
        if cell is None:
            out.append(line)
            continue
        cell.append(line)
        if line.strip() == "end":
            if any(_ZERO_DATA.match(part) for part in cell):
                while _ATTRIBUTE.match(out[-1]):
                    out.pop()
            else:
                out += cell
            cell = None
    return "\n".join(out)


def to_verilog(component: wiring.Component, *, name: str, src_attributes: bool = False, trees: bool = False) -> str:
    """Return a component as SystemVerilog.

    The ports are those of the component's signature (``csr__aw__payload`` and so on), with ``clk`` and
    ``rst`` for the domain ``sync``.

    Parameters
    ----------
    component:
        What to export; it is elaborated once.
    name:
        Name of the top module, a Verilog identifier.
    src_attributes:
        Write attributes, among them ``src`` with the Python line of each signal.
    trees:
        Write choices by a number as choices by one bit after the other: the same design, which compiled simulators
        run about a sixth faster (see :mod:`rackgate.selection`).

    Raises
    ------
    TypeError
        If ``component`` is no component.
    ValueError
        If ``name`` is no identifier.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a Verilog identifier, not {name!r}")
    if not isinstance(component, wiring.Component):
        raise TypeError(f"component must be a wiring.Component, not {component!r}")
    text = _drop_zero_contents(_locate_assertions(rtlil.convert(component, name=name, emit_src=True)))
    if trees:
        text = split_choices(text)
    verilog = _write(text, _PASSES, src_attributes=src_attributes)
    return verilog if src_attributes else keep_marks(verilog, text)


def rtlil_to_verilog(text: str) -> str:
    """Return a design that Amaranth has written as RTLIL for a platform as SystemVerilog, for synthesis alone.

    Assertions and prints, which are for simulators, are left out.
    """
    return _write(_drop_zero_contents(text), ["delete t:$check t:$print", *_PASSES], src_attributes=False)


def _write(text: str, passes: Iterable[str], *, src_attributes: bool) -> str:
    # The locked Yosys of PyPI before any on PATH: the same text, and caches that hit, on every machine.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin,system")
    yosys = find_yosys(lambda version: version >= (0, 40))
    write = "write_verilog -sv" + ("" if src_attributes else " -noattr")
    script = "\n".join([f"read_rtlil <<rtlil\n{text}\nrtlil", *passes, write])
    return yosys.run(["-q", "-"], script, ignore_warnings=True)
