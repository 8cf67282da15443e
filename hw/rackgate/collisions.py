# SPDX-License-Identifier: Apache-2.0
"""Memories whose reads never count in the cycle of a write to the same word.

Amaranth's memories give such a read the old word. The block RAM of an FPGA gives anything, so synthesis adds registers
and a bypass to each port. A memory with the attribute ``no_rw_check`` says that nobody looks; Yosys then leaves them
out. Verilog is written without attributes, apart from this one.
"""

import re

__all__ = ["ATTRIBUTE", "keep_marks"]

#: The attribute, as Yosys has it.
ATTRIBUTE = "no_rw_check"

_RTLIL_MODULE = re.compile(r"^module \\(?P<name>\S+)$")
_RTLIL_MEMORY = re.compile(r"^  memory .*\\(?P<name>\S+)$")
_MODULE = re.compile(r"^module \\?(?P<name>[^\s(;]+)")
_MEMORY = re.compile(r"^(?P<head>\s*)(?P<rest>reg \[\d+:0\] \\?(?P<name>\S+) +\[\d+:0\];)$")


def keep_marks(verilog: str, text: str) -> str:
    """Give the memories of ``verilog`` the attribute that they have in the RTLIL ``text``."""
    marked: set[tuple[str, str]] = set()
    module, has_mark = "", False
    for line in text.split("\n"):
        if match := _RTLIL_MODULE.match(line):
            module = match["name"]
        elif (match := _RTLIL_MEMORY.match(line)) and has_mark:
            marked.add((module, match["name"]))
        if not line.lstrip().startswith("attribute"):
            has_mark = False
        elif line.strip() == f"attribute \\{ATTRIBUTE} 1":
            has_mark = True
    if not marked:
        return verilog
    out = []
    for line in verilog.split("\n"):
        if match := _MODULE.match(line):
            module = match["name"]
        elif (match := _MEMORY.match(line)) and (module, match["name"]) in marked:
            line = f"{match['head']}(* {ATTRIBUTE} *) {match['rest']}"
        out.append(line)
    return "\n".join(out)
