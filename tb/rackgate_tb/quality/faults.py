# SPDX-License-Identifier: Apache-2.0
"""Faults in Verilog text: where one could be, and one text that has many of them, each asleep until its number is set.

Only Verilog as Yosys writes it is read: a statement a line, operands without operators.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["VARIABLE", "Fault", "choose", "find", "locate", "plant"]

#: Environment variable with the number of the fault that a simulation has; 0 or nothing: none.
VARIABLE = "RACKGATE_FAULT"

_NAME = r"(?:\\\S+ |[A-Za-z_$][\w$]*)"
_OPERAND = rf"(?:{_NAME} ?(?:\[[\d:]+\])*|\d+'s?[hdb][0-9a-fxz_]+|\{{[^{{}}?]*\}})"
_MODULE = re.compile(rf"^module (?P<name>{_NAME})")
_ASSIGN = re.compile(r"^(?P<indent> *)assign (?P<target>[^=]+?) = (?P<value>.*);$")
_BINARY = re.compile(rf"^(?P<a>{_OPERAND}) (?P<operator>==|!=|<=|>=|<|>|&&|\|\||[-+&|^]) (?P<b>{_OPERAND})$")
_UNARY = re.compile(rf"^[~!] ?(?P<a>{_OPERAND})$")
_CHOICE = re.compile(rf"^(?P<c>{_OPERAND}) \? (?P<a>{_OPERAND}) : (?P<b>{_OPERAND})$")
_ENABLE = re.compile(rf"^(?P<head> *(?:else )?if \()(?P<c>{_OPERAND})"
                     rf"(?P<tail>\) (?P<target>{_NAME}[^=]*) <= (?P<v>.*);)$")
_CONSTANT = re.compile(r"^\d+'s?[hdb][0-9a-fxz_]+$")

_OTHER = {"+": "-", "-": "+", "&": "|", "|": "&", "^": "|", "==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=",
          ">=": ">", "&&": "||", "||": "&&"}


@dataclass(frozen=True)
class Fault:
    """One faulty statement: in which module and line, what it says, and what it says with the fault.

    ``kind`` is ``operator``, ``negation``, ``choice``, ``always`` (a register that takes a value in every cycle) or
    ``never``.
    """

    module: str
    line: int
    kind: str
    right: str
    wrong: str

    def __str__(self) -> str:
        return f"{self.module}: {self.right} -> {self.wrong}"


def find(verilog: str) -> list[Fault]:
    """Every fault that could be planted.

    Resets are left alone: a simulation begins with the values that they give. So are assertions: nothing follows from
    them but their own message.
    """
    found: list[Fault] = []
    module = ""
    for number, line in enumerate(verilog.split("\n")):
        if match := _MODULE.match(line):
            module = match["name"].strip()
        elif match := _ASSIGN.match(line):
            found += [Fault(module, number, kind, line.strip(), f"assign {match['target']} = {wrong};")
                      for kind, wrong in _wrong_values(match["value"])]
        elif (match := _ENABLE.match(line)) and not _CONSTANT.match(match["v"]):
            found += [Fault(module, number, kind, line.strip(), f"{match['head']}{wrong}{match['tail']}".strip())
                      for kind, wrong in (("always", "1'h1"), ("never", "1'h0"))]
    return found


def _wrong_values(value: str) -> list[tuple[str, str]]:
    if match := _BINARY.match(value):
        return [("operator", f"{match['a']} {_OTHER[match['operator']]} {match['b']}")]
    if match := _UNARY.match(value):
        return [("negation", match["a"])]
    if match := _CHOICE.match(value):
        if all(_CONSTANT.match(match[name]) for name in "ab") and "x" in match["a"] + match["b"]:
            return []  # what may be anything is as good as the other
        return [("choice", f"{match['c']} ? {match['b']} : {match['a']}")]
    return []


def choose(faults: Sequence[Fault], count: int, seed: int) -> list[Fault]:
    """So many of them, at most one a line; modules and kinds in turn, so that a large table is not all there is."""
    rng = random.Random(seed)
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.module, fault.kind), []).append(fault)
    order = sorted(groups)
    rng.shuffle(order)
    for group in groups.values():
        rng.shuffle(group)
    chosen: dict[int, Fault] = {}
    while len(chosen) < count and any(groups.values()):
        for key in order:
            while groups[key]:
                fault = groups[key].pop()
                if fault.line not in chosen:
                    chosen[fault.line] = fault
                    break
            if len(chosen) == count:
                break
    return list(chosen.values())


def locate(verilog: str, faults: Sequence[Fault]) -> list[Fault | None]:
    """The same faults in another text: with other parameters statements move, or are not there."""
    lines: dict[tuple[str, str], int] = {}
    module = ""
    for number, line in enumerate(verilog.split("\n")):
        if match := _MODULE.match(line):
            module = match["name"].strip()
        lines.setdefault((module, line.strip()), number)
    return [replace(fault, line=place) if (place := lines.get((fault.module, fault.right))) is not None else None
            for fault in faults]


def plant(verilog: str, faults: Sequence[Fault | None]) -> str:
    """The text with all of these, fault k active while :data:`VARIABLE` is k + 1 when the simulation begins."""
    lines = verilog.split("\n")
    modules = {fault.module for fault in faults if fault}
    for number, fault in enumerate(faults, start=1):
        if fault:
            lines[fault.line] = _both(lines[fault.line], fault, number)
    out = []
    is_wanted = False
    for line in lines:
        if match := _MODULE.match(line):
            is_wanted = match["name"].strip() in modules
        out.append(line)
        if is_wanted and line.rstrip().endswith(");"):
            out.append(_SWITCH)
            is_wanted = False
    return "\n".join(out)


# Read once a module, when the simulation begins.
_SWITCH = (f"  int rackgate_fault;\n  initial rackgate_fault = $c32(\"(std::getenv(\\\"{VARIABLE}\\\") ? "
           f"std::atoi(std::getenv(\\\"{VARIABLE}\\\")) : 0)\");")


def _both(line: str, fault: Fault, number: int) -> str:
    """A statement that says the wrong thing when asked to."""
    chosen = f"rackgate_fault == {number}"
    if match := _ASSIGN.match(line):
        wrong = _ASSIGN.match(fault.wrong)
        assert wrong is not None
        return f"{match['indent']}assign {match['target']} = ({chosen}) ? ({wrong['value']}) : ({match['value']});"
    match, wrong = _ENABLE.match(line), _ENABLE.match(fault.wrong)
    assert match is not None and wrong is not None
    return f"{match['head']}({chosen}) ? {wrong['c']} : {match['c']}{match['tail']}"
