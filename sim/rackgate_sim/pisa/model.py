# SPDX-License-Identifier: Apache-2.0
"""The reference model of a pipeline: packets in, packets out, one after the other."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from rackgate.pisa.abi import Rejection
from rackgate.pisa.declare import (
    ACCEPT,
    REJECT,
    Access,
    Action,
    Compute,
    Header,
    Pipeline,
    Register,
    Stage,
    Table,
    standard,
)
from rackgate.pisa.entries import TableImage
from rackgate.pisa.expr import Field

from .evaluate import assignment, define, source
from .wire import Codec, checksum_of

__all__ = ["Packet", "PipelineModel"]

#: A packet header vector: one int a field, in the order of :attr:`Pipeline.phv`.
Vector = list[int]


class Packet:
    """A packet inside the pipeline: its header vector and its payload."""

    __slots__ = ("payload", "phv")

    def __init__(self, phv: Vector, payload: bytes):
        self.phv = phv
        self.payload = payload


class PipelineModel:
    """A pipeline in plain Python.

    ``process`` takes a frame to the frames that come of it. ``one_pass`` is the transition itself: a header vector in,
    the vectors of the copies out, registers changed; a model checker calls it with registers of its own.

    Parameters
    ----------
    pipeline:
        The declaration.
    slot_size:
        Bytes of the largest frame; by default the most that ``standard.packet_length`` can tell.

    Attributes
    ----------
    registers:
        By name a mapping from index to word; words that were never written are absent and read as ``init``.
    tables:
        By name the :class:`TableImage` of each table that is filled at run time.
    rejections:
        Packets that the parser rejected, by cause.
    dropped:
        Packets of which no copy was made, and copies that the egress dropped or that are empty.
    """

    #: Passes after which a packet that goes round and round is given up.
    MOST_PASSES = 1 << 16

    def __init__(self, pipeline: Pipeline, *, slot_size: int = (1 << standard.packet_length.width) - 1):
        self.pipeline = pipeline
        self.slot_size = slot_size
        self.fields = pipeline.phv
        self._place = {id(item): number for number, item in enumerate(self.fields)}
        self.codec = Codec(pipeline, self._place)
        self.registers: dict[str, MutableMapping[int, int]] = {item.name: {} for item in pipeline.registers}
        self.tables = {table.name: TableImage(table) for table in pipeline.tables}
        self.rejections = dict.fromkeys(Rejection, 0)
        self.dropped = 0
        self._ingress = [self._stage(stage) for stage in pipeline.ingress]
        self._egress = [self._stage(stage) for stage in pipeline.egress]
        self._copies = [self._copy(copy) for copy in pipeline.copies]

    # Control plane

    def reset(self) -> None:
        """All registers as after a reset. Tables that the control plane filled are empty."""
        for words in self.registers.values():
            words.clear()
        for table in self.tables.values():
            table.clear()
        self.rejections = dict.fromkeys(Rejection, 0)
        self.dropped = 0

    @property
    def rejected(self) -> int:
        """Packets that the parser rejected."""
        return sum(self.rejections.values())

    def register(self, name: str) -> Register:
        """The register of that name. Raises KeyError."""
        return {item.name: item for item in self.pipeline.registers}[name]

    def read(self, name: str, index: int) -> dict[str, int]:
        """A register's word, by field."""
        item = self.register(name)
        word, low, out = self.registers[name].get(index, item.init), 0, {}
        for key, part in item.word.fields.items():
            out[key] = word >> low & (1 << part.width) - 1
            low += part.width
        return out

    def write(self, name: str, index: int, **values: int) -> None:
        """Change fields of a register's word."""
        item, low, word = self.register(name), 0, 0
        current = {**self.read(name, index), **values}
        for key, part in item.word.fields.items():
            if not 0 <= current[key] < 1 << part.width:
                raise ValueError(f"{name}.{key} must fit {part.width} bits, not {current[key]}")
            word |= current[key] << low
            low += part.width
        self.registers[name][index] = word

    # Packets

    def get(self, phv: Vector, item: Field) -> int:
        """A field of a header vector."""
        return phv[self._place[id(item)]]

    def vector(self, values: Mapping[Field, int] | None = None, headers: Sequence[Header] = ()) -> Vector:
        """A header vector with ``headers`` valid and fields set."""
        phv = [0] * len(self.fields)
        for header in headers:
            phv[self._place[id(header.is_valid)]] = 1
        for item, value in (values or {}).items():
            phv[self._place[id(item)]] = value
        return phv

    def parse(self, frame: bytes, port: int = 0, *, is_damaged: bool = False) -> Packet | None:
        """The packet, or None if the parser rejects it (which is counted)."""
        found = self._parse(frame, port) if not is_damaged else Rejection.DAMAGED
        if isinstance(found, Packet):
            return found
        self.rejections[found] += 1
        return None

    def _parse(self, frame: bytes, port: int) -> "Packet | Rejection":
        if len(frame) > self.slot_size:
            return Rejection.OVERSIZE
        parser = self.pipeline.parser
        phv, place, at, end_of_packet = [0] * len(self.fields), 0, parser.start, len(frame)
        while at not in (ACCEPT, REJECT):
            state = parser.states[at]
            end = place + state.header.size
            if end > len(frame):
                return Rejection.TRUNCATED
            self.codec.extract(state.header, frame[place:end], phv)
            if parser.length is not None and parser.length.owner is state.header:
                end_of_packet = place + self.get(phv, parser.length)
            place = end
            key = tuple(self.get(phv, item) for item in state.select)
            at = next((target for want, target in state.transitions.items() if state.key_of(want) == key),
                      state.default)
        if at == REJECT:
            return Rejection.REFUSED
        if not place <= end_of_packet <= len(frame):
            return Rejection.LENGTH
        payload = frame[place:end_of_packet]
        for item in parser.verify:
            if self.get(phv, item.target.owner.is_valid):
                found = self.get(phv, item.target)
                if not (item.zero_is_none and found == 0) and found != checksum_of(self.codec, item, phv, payload):
                    return Rejection.CHECKSUM
        for item, value in ((standard.ingress_port, port), (standard.packet_length, len(frame)),
                            (standard.payload_length, len(payload))):
            phv[self._place[id(item)]] = value
        return Packet(phv, payload)

    def one_pass(self, phv: Vector, registers: Mapping[str, MutableMapping[int, int]] | None = None,
                 ) -> list[tuple[int, Vector]]:
        """Take a vector through the ingress stages (which change it) and make its copies: (number of the copy, vector).

        ``registers`` in place of the model's own.
        """
        words = self.registers if registers is None else registers
        for stage in self._ingress:
            stage(phv, words)
        out = []
        for number, copy in enumerate(self._copies):
            made = copy(phv)
            if made is not None:
                out.append((number, made))
        return out

    def leave(self, phv: Vector) -> None:
        """Take a copy through the egress stages."""
        for stage in self._egress:
            stage(phv, self.registers)

    def deparse(self, packet: Packet) -> bytes:
        """The frame of a packet."""
        return self.codec.emit(packet.phv, packet.payload)

    def process(self, frame: bytes, port: int = 0) -> list[tuple[int, bytes]]:
        """What comes of one frame, as (egress port, frame); it recirculates to its end before anything else enters."""
        packet = self.parse(frame, port)
        out: list[tuple[int, bytes]] = []
        passes = 0
        while packet is not None:
            passes += 1
            if passes > self.MOST_PASSES:
                raise RuntimeError(f"pipeline {self.pipeline.name}: a packet recirculates without an end")
            left, packet = self.step(packet)
            out += left
        return out

    def step(self, packet: Packet) -> tuple[list[tuple[int, bytes]], Packet | None]:
        """One pass of a packet: the frames that leave, and the copy that recirculates, if one does."""
        again: Packet | None = None
        out: list[tuple[int, bytes]] = []
        copies = self.one_pass(packet.phv)
        self.dropped += not copies
        for number, phv in copies:
            declared = self.pipeline.copies[number]
            made = Packet(phv, packet.payload if declared.payload else b"")
            if declared.recirculate:
                again = made
            else:
                self.leave(phv)
                frame = b"" if self.get(phv, standard.drop) else self.deparse(made)
                if frame:
                    out.append((self.get(phv, standard.egress_port), frame))
                else:
                    self.dropped += 1
        return out, again

    # Compilation

    def _name(self, item: Field) -> str:
        return f"p[{self._place[id(item)]}]"

    def _copy(self, copy: Any) -> Callable[[Vector], Vector | None]:
        return define(copy.name, "p", [
            f"if not {source(copy.when, self._name)}: return None",
            "q = p[:]",
            assignment(copy.assigns, self._name, "q"),
            "return q",
        ])

    def _stage(self, stage: Stage) -> Callable[[Vector, Any], None]:
        when = f"if not {source(stage.when, self._name)}: return"
        if isinstance(stage, Compute):
            return define(stage.name, "p, registers", [when, assignment(stage.assigns, self._name)])
        if isinstance(stage, Access):
            return define(stage.name, "p, registers", [when, *self._access(stage)])
        if isinstance(stage, Table):
            return self._table(stage, when)
        raise TypeError(f"no such stage: {stage!r}")

    def _access(self, stage: Access) -> list[str]:
        register, low = stage.register, 0
        parts: dict[int, tuple[int, int]] = {}
        for part in register.word.fields.values():
            parts[id(part)] = (low, part.width)
            low += part.width

        def name(item: Field) -> str:
            if item.owner is not register.word:
                return self._name(item)
            at, width = parts[id(item)]
            return f"(w >> {at} & {(1 << width) - 1})"

        lines = [f"i = {source(stage.index, name)}", f"if i >= {register.depth}: return",
                 f"words = registers[{register.name!r}]", f"w = words.get(i, {register.init})"]
        for number, action in enumerate(stage.actions):
            terms = [f"({source(value, name)}) << {parts[id(register.word[key])][0]}"
                     for key, value in stage.new_word(action).items()]
            lines.append(f"{'elif' if number else 'if'} {source(action.when, self._name)}:")
            if action.update:
                lines.append(f"    v = {' | '.join(terms)}")
            lines.append(f"    {assignment(action.out, name)}")
            if action.update:
                lines.append("    words[i] = v")
        return lines

    def _bodies(self, actions: Sequence[Action]) -> list[Callable[[Vector, Sequence[int]], None]]:
        bodies = []
        for action in actions:
            places = {id(item): k for k, item in enumerate(action.parameters.fields.values())} \
                if action.parameters else {}

            def name(item: Field, places: Mapping[int, int] = places) -> str:
                return f"a[{places[id(item)]}]" if id(item) in places else self._name(item)

            bodies.append(define(action.name, "p, a", [assignment(action.assigns, name)]))
        return bodies

    def _table(self, table: Table, when: str) -> Callable[[Vector, Any], None]:
        actions = table.all_actions
        bodies = self._bodies(actions)
        key_of = define(f"{table.name}_key", "p",
                        [f"return ({''.join(source(key, self._name) + ', ' for key in table.keys)})"])
        applies = define(f"{table.name}_when", "p", [when.replace("return", "return False"), "return True"])
        default = None if table.default is None else bodies[actions.index(table.default)]
        if table.size:
            find = self.tables[table.name].find
        else:
            find = _constant_entries(table, actions)

        def run(phv: Vector, registers: Any) -> None:
            if applies(phv):
                entry = find(key_of(phv))
                if entry is not None:
                    bodies[entry[0]](phv, entry[1])
                elif default is not None:
                    default(phv, ())

        return run


def _constant_entries(table: Table, actions: Sequence[Action]) -> Callable[[tuple[int, ...]], Any]:
    entries = []
    for entry in table.entries:
        names = entry.action.parameters.fields if entry.action.parameters else ()
        wants = [(0, 0) if value is None else value if isinstance(value, tuple) else (value, -1) for value in entry.key]
        entries.append((wants, (actions.index(entry.action), [entry.arguments[name] for name in names])))
    known: dict[tuple[int, ...], Any] = {}

    def find(key: tuple[int, ...]) -> Any:
        if key not in known:
            if len(known) > 1 << 16:
                known.clear()
            known[key] = next((found for wants, found in entries
                               if all(value & mask == want & mask
                                      for value, (want, mask) in zip(key, wants, strict=True))), None)
        return known[key]

    return find
