# SPDX-License-Identifier: Apache-2.0
"""What a pipeline is: headers, a parser, stages, copies, a deparser. Plain data in P4's words.

A :class:`Pipeline` is declared once. :mod:`rackgate.pisa.pipeline` makes gateware of it, and the ``pisa`` package
of the simulators a model in plain Python; tests hold the two to each other.

Order of things for a packet: the parser extracts headers; the ``ingress`` stages see it one after the other; the
``copies`` say what becomes of it (none that applies: it is dropped); each copy goes through the ``egress`` stages;
the deparser writes the headers that are valid, in its order, and behind them the payload: what the parser left.
A copy with ``recirculate`` starts again before the ingress stages instead, parsed as it is, metadata kept.

In a stage everything is read before anything is written. A register is accessed by one stage, at one index a packet;
packets access it in the order in which they enter the ingress, whatever their distance.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rackgate.pisa.expr import Const, Expr, Field, as_expr, truth

__all__ = [
    "ACCEPT", "REJECT", "Access", "Action", "Assign", "Checksum", "Compute", "Copy", "Entry", "Header", "Key",
    "Metadata", "Parser", "Pipeline", "Register", "RegisterAction", "Stage", "State", "Table", "assign", "standard",
]

#: Ends of the parser: take the packet, or drop it (and count it).
ACCEPT, REJECT = "accept", "reject"

_RESERVED = frozenset({"name", "fields", "is_valid", "width"})


class _Fields:
    """Named fields, each an attribute."""

    def __init__(self, name: str, widths: Mapping[str, int]):
        if not name.isidentifier():
            raise ValueError(f"name must be an identifier, not {name!r}")
        self.name = name
        for key in widths:
            if key in _RESERVED or key.startswith("_"):
                raise ValueError(f"a field of {name} must not be named {key!r}")
        self.fields = {key: Field(self, key, width) for key, width in widths.items()}
        for key, value in self.fields.items():
            setattr(self, key, value)

    def __getitem__(self, key: str) -> Field:
        return self.fields[key]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    @property
    def width(self) -> int:
        """Bits of all fields."""
        return sum(value.width for value in self.fields.values())


class Header(_Fields):
    """A header: fields in the order of the wire, most significant bit first. ``is_valid``: the packet has it.

    Each field is an attribute, ``header.field``; ``header[name]`` too. The fields make whole bytes.
    """

    def __init__(self, name: str, /, **widths: int):
        super().__init__(name, widths)
        if self.width % 8 or not self.fields:
            raise ValueError(f"header {name} must be whole bytes, not {self.width} bits")
        self.is_valid = Field(self, "is_valid", 1)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.width // 8


class Metadata(_Fields):
    """Values that travel with the packet inside the pipeline; 0 when it enters."""

    def __init__(self, name: str, /, **widths: int):
        super().__init__(name, widths)


class _Word(_Fields):
    pass


class _Parameters(_Fields):
    pass


#: What every packet has: port and bytes as received (``payload_length``: those behind the extracted headers), the
#: port that it leaves by, and ``drop``: where the egress stages leave it set, the copy is dropped.
standard = Metadata("standard", ingress_port=8, egress_port=8, packet_length=16, payload_length=16, drop=1)


@dataclass(frozen=True, eq=False)
class Assign:
    """``target``, a field of a header or of metadata, becomes ``value``."""

    target: Field
    value: Expr


def assign(target: Field, value: Expr | int) -> Assign:
    """Write ``value``, as wide as ``target`` or an integer, to ``target``."""
    if not isinstance(target, Field) or not isinstance(target.owner, Header | Metadata):
        raise TypeError(f"only fields of headers and metadata can be assigned, not {target!r}")
    return Assign(target, as_expr(value, target.width))


def _distinct(assigns: Sequence[Assign], place: str) -> tuple[Assign, ...]:
    seen = set()
    for item in assigns:
        if not isinstance(item, Assign):
            raise TypeError(f"{place}: an assignment is made by assign(), not {item!r}")
        if id(item.target) in seen:
            raise ValueError(f"{place}: {item.target!r} is assigned twice")
        seen.add(id(item.target))
    return tuple(assigns)


# Parser ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class State:
    """A state of the parser: extract ``header``, then go where ``select`` says.

    ``transitions`` maps values of ``select`` (a tuple for several fields) to the next state's name or to
    :data:`ACCEPT` or :data:`REJECT`; any other value goes to ``default``.
    """

    header: Header
    select: Sequence[Field] = ()
    transitions: Mapping[Any, str] = field(default_factory=dict)
    default: str = ACCEPT

    def key_of(self, value: Any) -> tuple[int, ...]:
        """A transition's key as one number for each field of ``select``."""
        return tuple(value) if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, eq=False)
class Checksum:
    """RFC 1071's Internet checksum in ``target``, a field of 16 bits that counts as 0.

    It covers ``headers`` (whole ones, in this order, those that are valid), ``pseudo`` (fields of any width, each
    padded to 16 bits at its upper end) and, with ``payload``, the payload. ``zero_is_none``: as UDP has it, a 0 that
    is received says that there is none, and a 0 that is computed is sent as all ones. It applies to packets with
    ``target``'s header.
    """

    target: Field
    headers: Sequence[Header]
    pseudo: Sequence[Field] = ()
    payload: bool = False
    zero_is_none: bool = False


@dataclass(frozen=True, eq=False)
class Parser:
    """A graph of states from ``start``. A packet that ends within a header is rejected.

    ``verify``: checksums that must be right, else the packet is rejected. ``length``: a field that counts the bytes
    from its header's first on. What is behind them, such as the padding of a short frame, is cut off; a packet with
    fewer bytes, or with headers that reach beyond them, is rejected.
    """

    states: Mapping[str, State]
    start: str
    verify: Sequence[Checksum] = ()
    length: Field | None = None

    def __post_init__(self) -> None:
        for place in (self.start, *(target for state in self.states.values()
                                    for target in (*state.transitions.values(), state.default))):
            if place not in self.states and place not in (ACCEPT, REJECT):
                raise ValueError(f"the parser has no state {place!r}")
        for name, state in self.states.items():
            for key in state.transitions:
                values = state.key_of(key)
                if len(values) != len(state.select):
                    raise ValueError(f"state {name}: key {key!r} must have {len(state.select)} values")
                for value, item in zip(values, state.select, strict=True):
                    Const(value, item.width)
        self.paths()

    def paths(self) -> list[tuple[str, ...]]:
        """All ways from the start to :data:`ACCEPT`, as names of states. Raises ValueError for a circle."""
        found: list[tuple[str, ...]] = []

        def walk(place: str, way: tuple[str, ...]) -> None:
            if place == ACCEPT:
                found.append(way)
            elif place != REJECT:
                if place in way:
                    raise ValueError(f"the parser goes in a circle at state {place!r}")
                state = self.states[place]
                for target in dict.fromkeys((*state.transitions.values(), state.default)):
                    walk(target, (*way, place))

        walk(self.start, ())
        return found


# Stages ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Action:
    """Assignments under a name. ``parameters`` (name to bits) come with the table's entry; see :meth:`Action.of`."""

    name: str
    assigns: tuple[Assign, ...] = ()
    parameters: Any = None

    @classmethod
    def of(cls, name: str, *assigns: Assign) -> "Action":
        """An action without parameters."""
        return cls(name, _distinct(assigns, f"action {name}"))

    @classmethod
    def with_parameters(cls, name: str, widths: Mapping[str, int], body: Any) -> "Action":
        """An action whose ``body`` is called with the parameters and returns the list of assignments."""
        parameters = _Parameters(name, widths)
        return cls(name, _distinct(body(parameters), f"action {name}"), parameters)


class Key:
    """How a key's field is matched: ``EXACT``; ``TERNARY`` with a mask; ``INDEX``: it is the entry's number."""

    EXACT, TERNARY, INDEX = "exact", "ternary", "index"


@dataclass(frozen=True, eq=False)
class Entry:
    """An entry: one number a key field, or None for any (a pair of value and mask in ternary tables)."""

    key: tuple[Any, ...]
    action: Action
    arguments: Mapping[str, int] = field(default_factory=dict)


class Stage:
    """Base of what can stand in ``ingress`` and ``egress``: it has a ``name``, and acts on packets ``when`` it says."""


@dataclass(frozen=True, eq=False)
class Compute(Stage):
    """Assignments, for packets with ``when``."""

    name: str
    assigns: Sequence[Assign]
    when: Expr = Const(1, 1)

    def __post_init__(self) -> None:
        _distinct(self.assigns, f"stage {self.name}")
        truth(self.when)


@dataclass(frozen=True, eq=False)
class Table(Stage):
    """A match-action table.

    The first of the constant ``entries`` that matches wins; any entry may match any field with ``None`` (or, in a
    ternary table, under a mask). ``size`` > 0 makes a table that the control plane fills at run time instead: a hash
    table (``EXACT``), a list in order of priority (``TERNARY``), or an array (``INDEX``: one key field, ``size`` a
    power of two that it addresses). ``actions`` are those that entries may name; ``default`` applies when nothing
    matches.
    """

    name: str
    keys: Sequence[Expr]
    entries: Sequence[Entry] = ()
    default: Action | None = None
    kind: str = Key.EXACT
    size: int = 0
    actions: Sequence[Action] = ()
    when: Expr = Const(1, 1)

    def __post_init__(self) -> None:
        truth(self.when)
        if self.kind not in (Key.EXACT, Key.TERNARY, Key.INDEX):
            raise ValueError(f"table {self.name}: kind must be exact, ternary or index, not {self.kind!r}")
        if bool(self.size) == bool(self.entries):
            raise ValueError(f"table {self.name} must have either constant entries or a size")
        if self.size and not self.actions:
            raise ValueError(f"table {self.name} must name the actions of its entries")
        if self.kind == Key.INDEX and (len(self.keys) != 1 or self.size != 1 << self.keys[0].width):
            raise ValueError(f"table {self.name}: an index has one key, and the size that it addresses")
        for entry in self.entries:
            if len(entry.key) != len(self.keys):
                raise ValueError(f"table {self.name}: key {entry.key} must have {len(self.keys)} values")
            for value, key in zip(entry.key, self.keys, strict=True):
                for number in () if value is None else value if isinstance(value, tuple) else (value,):
                    Const(number, key.width)

    @property
    def all_actions(self) -> tuple[Action, ...]:
        """Every action that a packet may meet here, each once; an entry of a table names one by its place."""
        named = [*self.actions, *(entry.action for entry in self.entries)]
        if self.default is not None:
            named.append(self.default)
        return tuple({id(action): action for action in named}.values())


class Register:
    """An array of ``depth`` words with named fields (``register.word.field``). All words are ``init`` after reset."""

    def __init__(self, name: str, depth: int, /, *, init: int = 0, **widths: int):
        self.name = name
        self.depth = operator.index(depth)
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self.word = _Word(f"{name}_word", widths)
        self.init = operator.index(init)
        Const(self.init, self.word.width)

    @property
    def width(self) -> int:
        """Bits of a word; the first field is in the lowest bits."""
        return self.word.width


class RegisterAction:
    """Read, modify and write one word, in one indivisible step.

    Parameters
    ----------
    name:
        For waves and tables.
    when:
        Which packets do it; may read the packet only.
    update:
        New values of fields of the word, by name; the others keep theirs.
    out:
        Assignments to the packet.

    ``update`` and ``out`` read the word as it was, and the packet as it came into the stage.
    """

    def __init__(self, name: str, when: Expr | bool, *, update: Mapping[str, Expr | int] | None = None,
                 out: Sequence[Assign] = ()):
        self.name = name
        self.when = truth(when)
        self.update = dict(update or {})
        self.out = _distinct(out, f"register action {name}")


@dataclass(frozen=True, eq=False)
class Access(Stage):
    """One access to ``register`` at ``index`` by the first of ``actions`` whose ``when`` holds, if any does.

    An index that is not below the depth accesses nothing.
    """

    register: Register
    index: Expr
    actions: Sequence[RegisterAction]
    when: Expr = Const(1, 1)

    def __post_init__(self) -> None:
        truth(self.when)
        for action in self.actions:
            for name, value in action.update.items():
                if name not in self.register.word.fields:
                    raise ValueError(f"register {self.register.name} has no field {name!r}")
                as_expr(value, self.register.word[name].width)

    @property
    def name(self) -> str:
        """The register's name."""
        return self.register.name

    def new_word(self, action: RegisterAction) -> dict[str, Expr]:
        """Every field of the word after ``action``, from the lowest bits up; what it does not update stays."""
        return {name: as_expr(action.update.get(name, part), part.width)
                for name, part in self.register.word.fields.items()}


@dataclass(frozen=True, eq=False)
class Copy:
    """One copy of the packet, made where ``when`` holds, with ``assigns`` applied to it.

    ``payload``: the payload goes with it. ``recirculate``: it starts again before the ingress stages.
    """

    name: str
    when: Expr
    assigns: Sequence[Assign] = ()
    payload: bool = True
    recirculate: bool = False

    def __post_init__(self) -> None:
        _distinct(self.assigns, f"copy {self.name}")
        truth(self.when)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A pipeline, see the top of this module. ``emit``: the deparser's headers in order."""

    name: str
    parser: Parser
    ingress: Sequence[Stage]
    copies: Sequence[Copy]
    emit: Sequence[Header]
    egress: Sequence[Stage] = ()
    metadata: Sequence[Metadata] = ()
    checksums: Sequence[Checksum] = ()

    def __post_init__(self) -> None:
        if sum(copy.recirculate for copy in self.copies) > 1:
            raise ValueError(f"pipeline {self.name}: at most one copy recirculates, or its queue has no bound")
        if any(isinstance(stage, Access) for stage in self.egress):
            raise ValueError(f"pipeline {self.name}: registers are accessed in the ingress, before the copies are made")
        names = [stage.name for stage in (*self.ingress, *self.egress)]
        if len(set(names)) != len(names):
            raise ValueError(f"pipeline {self.name}: two stages have the same name (a register has one access)")

    @property
    def headers(self) -> tuple[Header, ...]:
        """Every header, each once."""
        found = [*(state.header for state in self.parser.states.values()), *self.emit]
        return tuple({id(header): header for header in found}.values())

    @property
    def all_metadata(self) -> tuple[Metadata, ...]:
        """:data:`standard` and the pipeline's own."""
        return (standard, *self.metadata)

    @property
    def registers(self) -> tuple[Register, ...]:
        """Registers in the order of the stages."""
        return tuple(stage.register for stage in self.ingress if isinstance(stage, Access))

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables that are filled at run time, in the order of the stages."""
        return tuple(stage for stage in (*self.ingress, *self.egress) if isinstance(stage, Table) and stage.size)

    @property
    def phv(self) -> tuple[Field, ...]:
        """Fields of the packet header vector: of each header ``is_valid`` and its fields, then the metadata's."""
        return tuple([item for header in self.headers for item in (header.is_valid, *header.fields.values())]
                     + [item for metadata in self.all_metadata for item in metadata.fields.values()])
