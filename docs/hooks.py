# SPDX-License-Identifier: Apache-2.0
"""What of the manual is made when it is built.

Tables come from the contracts: ``<!-- table: NAME -->``. Fenced blocks of the language ``wavedrom`` become drawings.
"""

import ast
import dataclasses
import itertools
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import wavedrom

from rackgate.bridge import abi as bridge
from rackgate.bridge import operations
from rackgate.collective import abi as collective
from rackgate.collective import isa
from rackgate.collective.link import abi as link
from rackgate.csr.map import IDENTITY_REGISTERS, Register
from rackgate.echo import abi as echo
from rackgate.fisslock import abi as fisslock
from rackgate.iaa import abi as iaa
from rackgate.inflate import abi
from rackgate.mac import abi as mac
from rackgate.net.station import abi as station
from rackgate.pisa import abi as pisa
from rackgate.zeronic import abi as zeronic
from rackgate.zeronic import messages
from rackgate_boards.boards import BOARDS
from rackgate_boards.build import Figures
from rackgate_boards.built import changes, read_record
from rackgate_boards.pairs import DoesNotFit, Pair, pairs
from rackgate_host.sabre import format as sabre
from rackgate_sim.locks import check as hardened
from rackgate_sim.locks import traces
from rackgate_sim.locks.parameters import Parameters

__all__ = ["on_page_markdown"]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _registers(registers: Iterable[Register]) -> str:
    rows: list[tuple[object, ...]] = []
    for register in registers:
        rows.append((f"`{register.offset:#05x}`", f"`{register.name}`", register.access.value, register.doc))
        for bits in register.fields:
            place = f"{bits.lsb + bits.width - 1}:{bits.lsb}" if bits.width > 1 else str(bits.lsb)
            rows.append(("", f"`.{bits.name}` [{place}]", "", bits.doc))
    return _table(("offset", "register", "access", "meaning"), rows)


def _codes(kind: Iterable) -> str:
    return _table(("code", "name"), ((f"`{member.value:#04x}`", f"`{member.name}`") for member in kind))


def _layout(layout: sabre.Layout, behind: Sequence[tuple[int, str, str, str]] = ()) -> str:
    names = {"S": "bytes", "u": "unsigned"}
    rows: list[tuple[object, ...]] = []
    for field, offset in zip(layout.fields, layout.offsets, strict=True):
        kind = field.type.lstrip("<")
        rows.append((offset, f"`{field.name}`", f"{names[kind[0]]} {kind[1:]}", field.doc))
    return _table(("offset", "field", "type, bytes", "meaning"), [*rows, *behind])


def _sabre_header() -> str:
    end = sabre.HEADER.offsets[-1] + 4
    return _layout(sabre.HEADER, [
        (end, "", f"bytes {sabre.PAGE - 4 - end}", "0"),
        (sabre.PAGE - 4, "`header_crc32`", "unsigned 4", f"of the {sabre.PAGE - 4} bytes before it"),
    ])


def _plain(text: str) -> str:
    """A docstring's text with Markdown's marks for reStructuredText's."""
    return re.sub(r":(?:class|func|data|meth|attr|mod):`~?(?:\w*\.)*(\w+)`", r"`\1`", text).replace("``", "`")


def _documented(kind: type, header: Sequence[str]) -> str:
    """The table in a class's docstring: between two lines of equal signs, which say where its columns begin."""
    lines = (kind.__doc__ or "").splitlines()
    rules = [k for k, line in enumerate(lines) if re.fullmatch(r"\s*=+(\s+=+)+", line)]
    begins = [match.start() for match in re.finditer("=+", lines[rules[0]])]
    rows: list[list[str]] = []
    for line in lines[rules[0] + 1:rules[1]]:
        cells = [line[begin:end].strip() for begin, end in zip(begins, [*begins[1:], None], strict=True)]
        if not line[:begins[1]].strip() and rows:  # the line before goes on
            rows[-1] = [f"{first} {more}".strip() for first, more in zip(rows[-1], cells, strict=True)]
        else:
            rows.append(cells)
    return _plain(_table(header, rows))


def _described(kinds: Iterable[type]) -> str:
    """Docstrings of classes of a wire format, one below the other."""
    parts = []
    for kind in kinds:
        first, *others = re.sub(r"\n[ ]+", "\n", (kind.__doc__ or "").strip()).split("\n\n")
        parts.append("\n\n".join([f"**{kind.__name__}.** {first}", *others]))
    return _plain("\n\n".join(parts))


def _packed(kind: Callable[..., Any], names: Iterable[str]) -> str:
    """Offset and size of each field, as they are found in what ``kind(...).pack()`` gives."""
    blank = dict.fromkeys(names, 0)
    empty = kind(**blank).pack()
    rows = []
    for name in blank:
        for size in (8, 4, 2, 1):
            try:
                full = kind(**{**blank, name: (1 << 8 * size) - 1}).pack()
                break
            except struct.error:  # too large for this field
                continue
        places = [k for k, (one, other) in enumerate(zip(empty, full, strict=True)) if one != other]
        rows.append((places[0], len(places), f"`{name}`"))
    return _table(("byte", "bytes", "field"), sorted(rows))


#: What a move waited for, by cause.
_CAUSES = {
    collective.Cause.NONE: "nothing: no time-out",
    collective.Cause.PACKET: "a packet from that node",
    collective.Cause.CREDIT: "a credit of that node: it does not take what it was sent",
    collective.Cause.LANE: "the data path: memory, or a kernel's stream",
    collective.Cause.CLEAR_TO_SEND: "an answer of that node: it does not receive the message",
}
_KINDS = {
    sabre.Kind.ZERO: "nothing; all bytes are zero",
    sabre.Kind.RAW: "the bytes as they are",
    sabre.Kind.FIXED: "raw Deflate (RFC 1951) of fixed and stored blocks",
    sabre.Kind.DYNAMIC: "raw Deflate of any blocks",
    sabre.Kind.CANNED: "codes of a canned table, below",
    sabre.Kind.DUPLICATE: "nothing; the same bytes and pages as partition `duplicate_of`, which comes before it and is "
                          "neither ZERO nor DUPLICATE",
}


def _fields(kind: type) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _faults() -> str:
    rows = []
    for fault in traces.FINDINGS:
        its = fault.configuration
        tasks = ", ".join(f"{host}{mode.name[0]}" for host, mode in its.tasks) if len(its.tasks) < 9 \
            else f"{len(its.tasks)} tasks"
        broken = {"exclusion": "mutual exclusion", "one_agent": "one agent", "served": "no lost waiter",
                  "freed": "free at the end"}[fault.broken]
        rows.append((f"`{fault.name}`", broken, tasks, len(fault.steps), fault.states or "by hand", fault.claim))
    return _table(("name", "broken", "tasks (host, Shared or Exclusive)", "steps", "states", "how"), rows)


_TOP = Path(__file__).parents[1]


def _count(folder: str, wanted: Callable[[ast.AST], bool]) -> int:
    """How many nodes of the sources below ``folder`` are ``wanted``."""
    return sum(wanted(node) for file in (_TOP / folder).rglob("*.py") for node in ast.walk(ast.parse(file.read_text())))


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")


def _is_assertion(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Assert"


def _tests() -> str:
    folders = [f"tests/{folder}" for folder in ("unit", "formal", "cosim", "host", "build")]
    rows = [(f"`{one}`", len(list((_TOP / one).glob("test_*.py"))), _count(one, _is_test)) for one in folders]
    total = ("all", *(sum(row[k] for row in rows) for k in (1, 2)))
    return _table(("folder", "files of tests", "test functions"), [*rows, total])


def _numbers() -> str:
    states = sum(case.states for case in hardened.CASES if case.states)
    return _table(("what", "how many"), (
        ("hardware assertions in the gateware's source; many stand once for every instance and parameter",
         _count("hw", _is_assertion)),
        ("states of the hardened lock protocol's systems, all visited", f"{states:,}"),
        ("states of the published protocol's safe systems, all visited", f"{sum(s.states for s in traces.SAFE):,}"),
        ("faults of the published protocol that are found again and replayed on its gateware", len(traces.FINDINGS)),
    ))


def _built(pair: Pair, figures: Figures) -> tuple[object, ...]:
    """What was measured, what of, and what has changed since."""
    used = (f"{figures.lut4:,} ({figures.lut4 / figures.available['lut4']:.0%})",
            f"{figures.ebr} ({figures.ebr / figures.available['ebr']:.0%})")
    since = changes(pair, figures)
    return (f"{figures.fmax_mhz:.1f}", *used, f"{figures.seconds:,.0f}",
            f"`{figures.commit}`, {figures.date[:10]}{': ' if since else ''}{since}")


def _pairs() -> str:
    """Boards and systems, with the figures of bitstreams that were built and kept."""
    rows, record = [], read_record()
    for board, system, pair in pairs():
        if isinstance(pair, DoesNotFit):
            rows.append((f"`{board}`", f"`{system}`", f"does not fit: {pair}", *[""] * 6))
            continue
        configuration = pair.configuration
        made_with = [f"{name} {value}" for name, value in configuration.parameters.items()]
        made_with += [f"memory {configuration.memory >> 10} KB"] if configuration.memory else []
        figures = record.get(pair.name)
        measured = ("not built yet", *[""] * 4) if figures is None else _built(pair, figures)
        rows.append((f"`{board}`", f"`{system}`", ", ".join(made_with), f"{configuration.clock_mhz:g}", *measured))
    return _table(("board", "system", "built with", "clock, MHz", "routed, MHz", "LUT4", "block RAMs", "build, s",
                   "as of"), rows)


def _delays() -> str:
    """Who makes the delays of RGMII, by board."""
    def by(delay_ns: float) -> str:
        return f"{delay_ns:g} ns in the FPGA" if delay_ns else "the PHY's strap"

    return _table(("board", "received data", "transmit clock"), (
        (f"`{name}`", by(board.receive_delay_ns), by(board.transmit_delay_ns))
        for name, board in BOARDS.items() if board.rgmii is not None))


_TABLES: dict[str, Callable[[], str]] = {
    "board-ethernet": _delays,
    "board-pairs": _pairs,
    "bridge-kinds": lambda: _codes(bridge.Kind),
    "bridge-opcodes": lambda: _codes(operations.Opcode),
    "bridge-refusals": lambda: _codes(bridge.Refusal),
    "bridge-status": lambda: _codes(bridge.Status),
    "bridge-status-words": lambda: _codes(bridge.StatusWord),
    "identity": lambda: _registers(IDENTITY_REGISTERS),
    "mac-counters": lambda: _documented(mac.MacCounter, ("counter", "meaning")),
    "mac-registers": lambda: _registers(mac.MAC_REGISTERS.registers),
    "station-counters": lambda: _documented(station.StationCounter, ("counter", "meaning")),
    "station-registers": lambda: _registers(station.STATION_REGISTERS.registers),
    "collective-call": lambda: _documented(collective.Call, ("field", "words", "meaning")),
    "collective-causes": lambda: _table(("code", "cause", "waited for"), (
        (f"`{cause.value:#04x}`", f"`{cause.name}`", _CAUSES[cause]) for cause in collective.Cause)),
    "collective-header": lambda: _documented(collective.Header, ("field", "bytes", "meaning")),
    "collective-header-flags": lambda: _codes(collective.HeaderFlag),
    "collective-link-header": lambda: _documented(link.LinkHeader, ("field", "bytes", "meaning")),
    "collective-opcodes": lambda: _codes(isa.Opcode),
    "collective-packets": lambda: _codes(collective.PacketType),
    "collective-registers": lambda: _registers(
        collective.REGISTERS[name] for name in collective.REGISTERS if collective.REGISTERS[name].offset >= 0x20),
    "collective-scenarios": lambda: _codes(collective.Scenario),
    "collective-status": lambda: _codes(collective.Status),
    "echo-registers": lambda: _registers(
        register for register in echo.REGISTERS.values() if register.offset >= 0x20),
    "iaa-registers": lambda: _registers(
        register for name, register in iaa.REGISTERS.items()
        if register.offset >= 0x20 and not re.match("WQ[1-7]|GRP[1-3]", name)),
    "iaa-opcodes": lambda: _codes(iaa.Opcode),
    "iaa-flags": lambda: _codes(iaa.Flag),
    "iaa-decompress-flags": lambda: _codes(iaa.DecompressFlag),
    "iaa-status": lambda: _codes(iaa.Status),
    "inflate-registers": lambda: _registers(abi.REGISTERS[name] for name in abi.REGISTERS
                                            if abi.REGISTERS[name].offset >= 0x20),
    "inflate-completion": lambda: _packed(abi.Completion, _fields(abi.Completion)),
    "inflate-descriptor": lambda: _packed(abi.Descriptor, _fields(abi.Descriptor)),
    "inflate-status": lambda: _codes(abi.Status),
    "inflate-errors": lambda: _codes(abi.ErrorCode),
    "inflate-flags": lambda: _codes(abi.Flag),
    "fisslock-message": lambda: _documented(fisslock.Message, ("field", "bits", "meaning")),
    "locks-constants": lambda: _table(("name", "value", "meaning", "source"), (
        (f"`{one['name']}`", f"{one['default']:,g}", one["meaning"], one["source"]) for one in Parameters.describe())),
    "locks-hardened": lambda: _table(("system", "states"), (
        (case.name, f"{case.states:,}" if case.states else "not counted") for case in hardened.CASES)),
    "locks-published-faults": _faults,
    "locks-published-safe": lambda: _table(("configuration", "states", "transitions"), (
        (safe.name, f"{safe.states:,}", f"{safe.transitions:,}") for safe in traces.SAFE)),
    "pisa-commands": lambda: _codes(pisa.Command),
    "pisa-errors": lambda: _codes(pisa.CommandError),
    "pisa-registers": lambda: _registers(
        register for name, register in pisa.switch_registers("PISA").items()
        if register.offset >= 0x20 and not re.match(r"(DATA|RESULT)_[^0]", name)),
    "pisa-rejections": lambda: _codes(pisa.Rejection),
    "sabre-header": _sabre_header,
    "sabre-region": lambda: _layout(sabre.REGION),
    "sabre-partition": lambda: _layout(sabre.ENTRY),
    "sabre-kinds": lambda: _table(("code", "kind", "stored bytes"), (
        (int(kind), f"`{kind.name}`", _KINDS[kind]) for kind in sabre.Kind)),
    "verification-numbers": _numbers,
    "verification-tests": _tests,
    "zeronic-commands": lambda: _codes(messages.CommandKind),
    "zeronic-counters": lambda: _codes(zeronic.Counter),
    "zeronic-entries": lambda: _codes(messages.EntryKind),
    "zeronic-formats": lambda: _described((
        messages.Command, messages.Post, messages.Retire, messages.Cursor, messages.Fence, messages.Flow, messages.Key,
        messages.Region, messages.Profile, messages.Send, messages.Entry)),
    "zeronic-registers": lambda: _registers(
        register for name, register in zeronic.REGISTERS.items()
        if register.offset >= 0x20 and not name.startswith("COUNT_")),
}


def _drawing(match: re.Match) -> str:
    """The SVG of a wave. Its identifiers are told from those of the page's other drawings."""
    number = next(_NUMBERS)
    svg = wavedrom.render(match[1]).tostring()
    svg = re.sub(r'\b(id="|(?:xlink:)?href="#)', rf"\g<1>wave{number}-", svg)
    return f'\n<figure class="wave">{svg}</figure>\n'


_NUMBERS = itertools.count()


def on_page_markdown(markdown: str, **page: object) -> str:
    """Put tables and drawings in their places. An unknown name, or a wave that is wrong, stops the build."""
    markdown = re.sub(r"<!-- table: (\S+) -->", lambda match: _TABLES[match[1]](), markdown)
    return re.sub(r"^```wavedrom\n(.*?)^```$", _drawing, markdown, flags=re.MULTILINE | re.DOTALL)
