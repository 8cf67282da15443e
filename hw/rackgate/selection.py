# SPDX-License-Identifier: Apache-2.0
"""Choices by a number as trees of choices by one bit.

Yosys makes of a ``Switch`` on a number a comparison for each case and a selector with one control for each, which
simulators work out whole. One bit after the other, they need a branch or a move for each bit of the number.
"""

import re

__all__ = ["split_choices"]

_SWITCH = re.compile(r"^(?P<indent> *)switch (?P<signal>\S+) \[(?P<high>\d+):(?P<low>\d+)\]$")
#: Widest number whose values are listed.
_WIDTH_LIMIT = 6
#: Fewer different outcomes are chosen as they stand.
_FEWEST_OUTCOMES = 3

#: The lines of a case, each with its indent.
_Body = tuple[str, ...]


def split_choices(text: str) -> str:
    """RTLIL of Amaranth with ``switch`` statements on 2 to 6 bits written as nested ones on one bit each."""
    return "\n".join(_split(text.split("\n")))


def _split(lines: list[str]) -> list[str]:
    out: list[str] = []
    place = 0
    while place < len(lines):
        tree, place = _tree_at(lines, place)
        out += tree
    return out


def _tree_at(lines: list[str], place: int) -> tuple[list[str], int]:
    """What stands for the statement that begins at a line, or for the line itself, and the line after it."""
    alone = [lines[place]], place + 1
    if (match := _SWITCH.match(lines[place])) is None:
        return alone
    high, low = int(match["high"]), int(match["low"])
    width = high - low + 1
    if not 2 <= width <= _WIDTH_LIMIT or (found := _cases(lines, place, len(match["indent"]))) is None:
        return alone
    cases, after = found
    outcomes = [_outcome(cases, format(value, f"0{width}b")) for value in range(1 << width)]
    if len(set(outcomes)) < _FEWEST_OUTCOMES:
        return alone
    return _split(_tree(match["signal"], high, outcomes, match["indent"])), after


def _cases(lines: list[str], place: int, indent: int) -> tuple[list[tuple[list[str], _Body]], int] | None:
    """Patterns and body of each case of the switch at a line, and the line after it; None if it has attributes."""
    cases: list[tuple[list[str], list[str]]] = []
    for number in range(place + 1, len(lines)):
        line = lines[number].lstrip(" ")
        depth = len(lines[number]) - len(line)
        if depth > indent + 2:
            cases[-1][1].append(lines[number][indent + 4:])
        elif depth == indent + 2 and line.startswith("case"):
            cases.append((re.findall(r"'([01-]+)", line), []))
        elif depth == indent and line == "end":
            return [(patterns, tuple(body)) for patterns, body in cases], number + 1
        else:
            return None
    return None


def _outcome(cases: list[tuple[list[str], _Body]], value: str) -> _Body:
    """Body of the first case that a value, in binary, matches; the default matches all."""
    for patterns, body in cases:
        if not patterns or any(all(want in ("-", bit) for want, bit in zip(pattern, value, strict=True))
                               for pattern in patterns):
            return body
    return ()


def _tree(signal: str, bit: int, outcomes: list[_Body], indent: str) -> list[str]:
    """Statements that choose among the outcomes by the bits of the signal from ``bit`` down."""
    if len(set(outcomes)) == 1:
        return [indent + line for line in outcomes[0]]
    half = len(outcomes) // 2
    return [
        f"{indent}switch {signal} [{bit}]",
        f"{indent}  case 1'1", *_tree(signal, bit - 1, outcomes[half:], indent + "    "),
        f"{indent}  case", *_tree(signal, bit - 1, outcomes[:half], indent + "    "),
        f"{indent}end",
    ]
