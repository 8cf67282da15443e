# SPDX-License-Identifier: Apache-2.0
"""Golden model of the sequencer: what a call's program does, instruction by instruction.

There is no time in it. Whoever runs an :class:`Execution` tells it how many of its moves are under way, and gets the
moves that it starts, in order, and how it ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rackgate.arith.abi import ElementType, Function
from rackgate.collective.abi import COMMUNICATORS, Call, CallFlag, Status, StreamFlag
from rackgate.collective.isa import MAX_PROGRAM, REGISTER_BITS, Field, Instruction, Opcode, Other, Special

__all__ = ["MOVES_PER_CONTEXT", "CommunicatorState", "End", "Entry", "Execution", "Move", "UnsetRegister", "Wait",
           "breaks_communicator", "check_call"]

#: Moves of a call that can be under way.
MOVES_PER_CONTEXT = 4
_MASK = (1 << REGISTER_BITS) - 1
_ANY = 0xFFFFFFFF
_FLOATS_CONVERT = 1 << 31


@dataclass
class CommunicatorState:
    """A communicator as the host has written it, and what has become of it since.

    ``eager``: packets of the largest message that does not ask before it is sent, 0 if none does. ``next_operation``
    numbers its collectives: 1 to 65535, and then 1 again.
    """

    size: int
    rank: int
    nodes: Sequence[int]
    credits: int = 0
    eager: int = 0
    is_broken: bool = False
    next_operation: int = 1

    def take_operation(self) -> int:
        """Number of the collective that begins now."""
        operation = self.next_operation
        self.next_operation = operation % 0xFFFF + 1
        return operation


class Entry(NamedTuple):
    """A word of the entry table."""

    address: int
    is_collective: bool = False
    is_valid: bool = True

    def to_int(self) -> int:
        """As the host writes it."""
        return self.address | self.is_collective << 30 | self.is_valid << 31

    @classmethod
    def from_int(cls, word: int) -> "Entry":
        """Bits between the address and the flags are ignored."""
        return cls(word & MAX_PROGRAM - 1, bool(word >> 30 & 1), bool(word >> 31))


class Move(NamedTuple):
    """A move, with the fields and values of ``rackgate.collective.records.Move``."""

    context: int
    communicator: int
    operation: int
    control: int
    function: int
    element: int
    compressed: int
    count: int
    local: int
    other: int
    result: int
    source: int
    any_source: int
    destination: int
    tag: int
    any_tag: int


class Wait(NamedTuple):
    """The program goes on when at most ``limit`` of its moves are under way."""

    limit: int


class End(NamedTuple):
    """The program has ended. Unless ``status`` is SUCCESS or PROGRAM_RAISED, moves under way must be stopped."""

    status: Status
    cause: int = 0


class UnsetRegister(Exception):
    """A program read a register that it has not written; in hardware it holds whatever was there."""


def check_call(call: Call, entries: Mapping[int, Entry], communicators: Mapping[int, CommunicatorState], *,
               types: int, is_aborted: bool = False) -> Status:
    """What is checked when a call's turn comes, in this order; SUCCESS: its program runs.

    Parameters
    ----------
    call:
        The call; fields may have any value of their words.
    entries, communicators:
        The valid ones, by scenario and number.
    types:
        As the register PARAM_TYPES.
    is_aborted:
        The host has asked to end it before it began.
    """
    if is_aborted:
        return Status.ABORTED
    if call.scenario not in entries or not entries[call.scenario].is_valid:
        return Status.NO_SUCH_SCENARIO
    if call.communicator >= COMMUNICATORS or call.communicator not in communicators:
        return Status.NO_SUCH_COMMUNICATOR
    if communicators[call.communicator].is_broken:
        return Status.COMMUNICATOR_BROKEN
    converts = call.compression & CallFlag.WIRE
    if (call.element not in list(ElementType) or call.function >= Function.MIN + 1
            or converts and not (call.element == ElementType.FLOAT32 and types & _FLOATS_CONVERT)):
        return Status.BAD_TYPE
    known_streams = 0xFF00 | int(StreamFlag.OPERAND_0 | StreamFlag.RESULT)  # ACCL's host flags are ignored
    if call.compression & ~int(CallFlag.WIRE) or call.streams & ~known_streams or call.id >> 16:
        return Status.BAD_FLAGS
    return Status.SUCCESS


def breaks_communicator(end: Status, *, is_collective: bool, has_moved: bool) -> bool:
    """Whether the end of a call whose program ran breaks its communicator."""
    return end != Status.SUCCESS and (has_moved or is_collective and end == Status.ABORTED)


def _alu(opcode: int, a: int, b: int, size: int) -> int | None:
    """Result of ADD to SUBM, or None for a division by zero."""
    match opcode:
        case Opcode.ADD:
            return a + b & _MASK
        case Opcode.SUB:
            return a - b & _MASK
        case Opcode.AND:
            return a & b
        case Opcode.OR:
            return a | b
        case Opcode.XOR:
            return a ^ b
        case Opcode.SHL:
            return a << (b & 63) & _MASK
        case Opcode.SHR:
            return a >> (b & 63)
        case Opcode.MIN:
            return min(a, b)
        case Opcode.MAX:
            return max(a, b)
        case Opcode.MUL:
            return a * b & _MASK
        case Opcode.DIV:
            return a // b if b else None
        case Opcode.MOD:
            return a % b if b else None
    a, b = a & 31, b & 31
    if opcode == Opcode.ADDM:
        return a + b - (size if a + b >= size else 0)
    return a - b + (size if a < b else 0) & 63


@dataclass
class Execution:
    """A program that runs for a call.

    Parameters
    ----------
    program:
        Words of the program memory; addresses beyond are outside it. It may change while the program runs.
    call:
        The call; it has passed :func:`check_call`.
    entry:
        Of its scenario.
    communicator:
        Of the call.
    operation:
        Number of the collective; 0 if the entry is none.
    types, segment:
        The registers PARAM_TYPES and PARAM_SEGMENT.
    context:
        Goes into the moves.
    strict:
        Raise :class:`UnsetRegister` instead of taking 0 for a register that has not been written.
    """

    program: Sequence[int]
    call: Call
    entry: Entry
    communicator: CommunicatorState
    operation: int = 0
    types: int = 0xFFFFFFFF
    segment: int = 1024
    context: int = 0
    strict: bool = False
    pc: int = field(init=False)
    registers: list[int | None] = field(init=False, default_factory=lambda: [0] + [None] * 15)
    latch: dict[Field, int] = field(init=False, default_factory=lambda: dict.fromkeys(Field, 0))
    #: Whether a move has been started.
    has_moved: bool = field(init=False, default=False)
    #: Set when the program has ended.
    end: End | None = field(init=False, default=None)
    #: Instructions carried out.
    instructions: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.pc = self.entry.address
        self._words = self.call.words()

    def advance(self, outstanding: int, budget: int | None = None) -> Move | Wait | End | None:
        """Run up to the next move that starts, wait that lasts, or end.

        A :class:`Wait` is returned again, at the same instruction, until ``outstanding`` (moves of this call under way
        now) is small enough.

        Parameters
        ----------
        outstanding:
            Moves under way; the caller counts a move that this returns.
        budget:
            Greatest number of instructions; None is returned when they are used up.
        """
        while self.end is None:
            if budget is not None:
                if budget == 0:
                    return None
                budget -= 1
            result = self._step(outstanding)
            if isinstance(result, End):
                self.end = result
            elif result is not None:
                return result
        return self.end

    def _step(self, outstanding: int) -> Move | Wait | End | None:
        if self.pc >= len(self.program):
            return End(Status.PROGRAM_ERROR)
        instruction = Instruction.from_int(self.program[self.pc])
        opcode, rd, ra, rb, immediate = instruction
        alu = opcode & ~Opcode.IMMEDIATE
        result: Move | Wait | End | None = None
        following = self.pc + 1
        if Opcode.ADD <= alu <= Opcode.SUBM:
            second = immediate & _MASK if opcode & Opcode.IMMEDIATE else self._read(rb)
            value = _alu(alu, self._read(ra), second, self.communicator.size)
            result = self._write(rd, value)
        elif opcode in (Opcode.BEQ, Opcode.BNE, Opcode.BLT, Opcode.BGE):
            if self._is_taken(opcode, self._read(ra), self._read(rb)):
                following = immediate
        elif opcode == Opcode.LI:
            result = self._write(rd, immediate & _MASK)
        elif opcode in (Opcode.LDD, Opcode.LDA):
            result = self._write(rd, self._load(opcode, immediate))
        elif opcode == Opcode.LDS:
            special: dict[int, int] = {
                Special.SIZE: self.communicator.size, Special.RANK: self.communicator.rank,
                Special.SHIFT: ElementType(self.call.element).size.bit_length() - 1, Special.SEGMENT: self.segment}
            result = self._write(rd, special.get(immediate))
        elif opcode == Opcode.MV and rd in list(Field):
            self.latch[Field(rd)] = self._read(ra) + immediate & _MASK
        elif opcode == Opcode.GO:
            result = self._go(outstanding)
        elif opcode in (Opcode.SYNC, Opcode.RET, Opcode.ERR):
            result = self._wait(opcode, immediate, outstanding)
        else:
            result = End(Status.PROGRAM_ERROR)
        if not isinstance(result, Wait):
            self.pc = following
            self.instructions += 1
        return result

    def _read(self, register: int) -> int:
        value = self.registers[register]
        if value is None:
            if self.strict:
                raise UnsetRegister(f"instruction {self.pc} reads r{register}, which has not been written")
            return 0
        return value

    def _write(self, register: int, value: int | None) -> End | None:
        """None is what an instruction has that cannot be carried out."""
        if value is None:
            return End(Status.PROGRAM_ERROR)
        if register:
            self.registers[register] = value
        return None

    @staticmethod
    def _is_taken(opcode: int, a: int, b: int) -> bool:
        match opcode:
            case Opcode.BEQ:
                return a == b
            case Opcode.BNE:
                return a != b
            case Opcode.BLT:
                return a < b
        return a >= b

    def _load(self, opcode: int, word: int) -> int | None:
        words = self._words[word:word + (1 if opcode == Opcode.LDD else 2)] if word >= 0 else ()
        if opcode == Opcode.LDD:
            return words[0] if words else None
        return (words[0] | words[1] << 32) & _MASK if len(words) == 2 else None

    def _wait(self, opcode: int, immediate: int, outstanding: int) -> Wait | End | None:
        limit = immediate & 0x3FFF if opcode == Opcode.SYNC else 0
        if outstanding > limit:
            return Wait(limit)
        if opcode == Opcode.SYNC:
            return None
        return End(Status.SUCCESS) if opcode == Opcode.RET else End(Status.PROGRAM_RAISED, immediate & 15)

    def _go(self, outstanding: int) -> Move | Wait | End:
        latch, size = self.latch, self.communicator.size
        control = latch[Field.CONTROL] & 0x1FF
        receives, sends, reduces = control >> 2 & 3 == Other.RECEIVE, control >> 6 & 1, control >> 7 & 1
        source, destination, tag = latch[Field.SOURCE], latch[Field.DESTINATION], latch[Field.TAG] & _ANY
        is_any = source & _ANY == _ANY and not self.entry.is_collective
        if 3 in (control & 3, control >> 2 & 3, control >> 4 & 3):
            return End(Status.PROGRAM_ERROR)
        if receives and not is_any and source >= size or sends and destination >= size:
            return End(Status.BAD_PEER)
        if reduces and not self.types >> self.call.element & 1:
            return End(Status.BAD_TYPE)
        if outstanding >= MOVES_PER_CONTEXT:
            return Wait(MOVES_PER_CONTEXT - 1)
        self.has_moved = True
        # Fields that the move does not use are 0, here as in the gateware.
        return Move(
            context=self.context, communicator=self.call.communicator, operation=self.operation, control=control,
            function=self.call.function, element=self.call.element,
            compressed=int(bool(self.call.compression & CallFlag.WIRE)), count=latch[Field.COUNT] & _ANY,
            local=latch[Field.LOCAL], other=latch[Field.OTHER], result=latch[Field.RESULT],
            source=self.communicator.nodes[source] if receives and not is_any else 0,
            any_source=int(receives and is_any),
            destination=self.communicator.nodes[destination] if sends else 0, tag=tag,
            any_tag=int(receives and not self.entry.is_collective and tag == _ANY))
