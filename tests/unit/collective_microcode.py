# SPDX-License-Identifier: Apache-2.0
"""What tests of collectives share: compiled programs in the golden model of the sequencer."""

from rackgate.arith.abi import ElementType
from rackgate.collective.abi import Call, CallFlag, Status
from rackgate.collective.isa import Local, MoveControl, Other, Target
from rackgate.collective.programs.interpreter import Pause, Place, Step, moves
from rackgate_sim.collective.sequencer import CommunicatorState, End, Entry, Execution, Move, Wait

ELEMENTS = {1: ElementType.FLOAT16, 2: ElementType.FLOAT32, 3: ElementType.FLOAT64}
_AT = 37


def place_call(place: Place) -> Call:
    """The call that a place describes."""
    return Call(32, place.count, 0, place.root, 0, place.tag, ELEMENTS[place.shift],
                CallFlag.WIRE if place.is_compressed else 0, place.streams, place.operand, place.operand_1,
                place.result)


def microcode_steps(program, place: Place) -> list[tuple]:
    """What a program's instructions do at a place, as :func:`interpreted_steps` says it."""
    words = [0] * _AT + list(program.placed(_AT))
    state = CommunicatorState(place.size, place.rank, list(range(place.size)), 4)
    entry = Entry.from_int(program.entry_word(_AT))
    run = Execution(words, place_call(place), entry, state, segment=place.segment, strict=True)
    found: list[tuple] = []
    outstanding = 0
    while True:
        match run.advance(outstanding):
            case Move() as move:
                found.append(_fields(MoveControl.from_int(move.control), move.count, move.local, move.other,
                                     move.result, move.source, move.destination, move.tag))
                outstanding = min(outstanding + 1, 3)  # as many as possible without ever holding up a move
            case Wait(limit):
                if limit < 3:
                    found.append(("sync", limit))
                outstanding = limit
            case End(status):
                assert status == Status.SUCCESS, (status, program.name, place)
                if found and found[-1] == ("sync", 0):
                    found.pop()  # of the end itself
                return found
            case result:
                raise AssertionError(result)


def interpreted_steps(trace, place: Place) -> list[tuple]:
    """What the statements say, without waits that cannot last."""
    found: list[tuple] = []
    outstanding = 0
    for step in moves(trace, place):
        if isinstance(step, Pause):
            if outstanding > step.moves:
                found.append(("sync", step.moves))
                outstanding = step.moves
        else:
            found.append(step_fields(step))
            outstanding = min(outstanding + 1, 3)
    if found and found[-1] == ("sync", 0):
        found.pop()
    return found


def step_fields(step: Step) -> tuple:
    """A step's fields, as far as they are used."""
    return _fields(step.control, step.count, step.local, step.other, step.result, step.source, step.destination,
                   step.tag)


def _fields(control, count, local, other, result, source, destination, tag):
    receives = control.other == Other.RECEIVE
    return (control, count, local if control.local == Local.MEMORY and count else 0,
            other if control.other == Other.MEMORY and count else 0,
            result if control.target == Target.MEMORY and count else 0,
            source if receives else 0, destination if control.send else 0, tag if receives or control.send else 0)
