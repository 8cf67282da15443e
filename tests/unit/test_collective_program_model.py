# SPDX-License-Identifier: Apache-2.0
"""The golden model of the sequencer, by hand-made programs."""

import pytest

from rackgate.collective.abi import Call, Status
from rackgate.collective.isa import MoveControl, Other
from rackgate.collective.programs.assembler import assemble
from rackgate_sim.collective.sequencer import (
    CommunicatorState,
    End,
    Entry,
    Execution,
    Move,
    UnsetRegister,
    Wait,
    breaks_communicator,
    check_call,
)

COMMUNICATOR = CommunicatorState(3, 1, [9, 4, 12], credits=4)
SEND = MoveControl(send=True).to_int()
RECEIVE = MoveControl(other=Other.RECEIVE).to_int()


def execution(text, call=None, *, is_collective=False, **options):
    options.setdefault("strict", True)
    return Execution(assemble(text), call or Call(1), Entry(0, is_collective), COMMUNICATOR, **options)


def registers(text, call=None):
    """Registers of a program without moves."""
    run = execution(text + "\n ret", call)
    assert run.advance(0) == End(Status.SUCCESS)
    return run.registers


@pytest.mark.parametrize("text,expected", [
    ("add r3, r1, r2", 107), ("add r3, r1, -101", (1 << 40) - 1), ("sub r3, r2, r1", (1 << 40) - 93),
    ("and r3, r1, 6", 4), ("or r3, r1, r2", 103), ("xor r3, r1, -1", (1 << 40) - 101),
    ("shl r3, r1, r2", 12800), ("shl r3, r1, 40", 0), ("shl r3, r1, 38", 0), ("shl r3, r2, 38", 3 << 38),
    ("shr r3, r1, 2", 25), ("shr r3, r1, 64", 100), ("min r3, r1, -1", 100), ("max r3, r1, -1", (1 << 40) - 1),
    ("mul r3, r1, -1", (1 << 40) - 100), ("div r3, r1, r2", 14), ("mod r3, r1, r2", 2),
    ("addm r3, r4, 2", 1), ("addm r3, r4, r0", 2), ("subm r3, r4, r2", 62), ("subm r3, r0, 1", 2),
    ("addm r0, r4, 2\n add r3, r0, r0", 0), ("li r3, -1", (1 << 40) - 1),
])
def test_arithmetic(text, expected):
    """r1 = 100, r2 = 7, r4 = 2; three ranks."""
    assert registers(f"li r1, 100\n li r2, 7\n li r4, 2\n {text}")[3] == expected


def test_loads():
    call = Call(1, count=0x87654321, element=4, result=0xABCDEF0123456789)
    found = registers("ldd r1, 1\n lda r2, 13\n ldd r3, 14\n lds r4, size\n lds r5, rank\n lds r6, shift\n"
                      "lds r7, segment", call)
    assert found[1:8] == [0x87654321, 0xEF_0123_4567_89 & (1 << 40) - 1, 0xABCDEF01, 3, 1, 3, 1024]


def test_loop():
    found = registers("li r1, 0\n li r2, 0\n top: add r2, r2, r1\n add r1, r1, 1\n li r3, 10\n blt r1, r3, top\n"
                      "beq r1, r3, over\n li r2, 0\n over: bne r1, r1, over\n bge r1, r3, end\n li r2, 1\n end:")
    assert found[2] == 45


@pytest.mark.parametrize("text", [
    ".word 0", "div r1, r0, 0", "li r1, 1\n mod r1, r1, r0", "ldd r1, 16", "lda r1, 15", "ldd r1, -1",
    ".word 0x5C000004", "beq r0, r0, 4000", "mv CONTROL, r0, 3\n go", "mv CONTROL, r0, 12\n go",
    "mv CONTROL, r0, 48\n go", "li r1, 1", ".word 0xC0000000", ".word 0x62000000",
])
def test_program_errors(text):
    assert execution(text).advance(0) == End(Status.PROGRAM_ERROR)


def test_moves():
    """All fields; those of parts that a move does not have are 0."""
    text = f"""
        li r1, 2
        mv CONTROL, r0, {SEND | RECEIVE}
        mv COUNT, r1, 5
        mv LOCAL, r1, 10
        mv OTHER, r1, 20
        mv RESULT, r1, -3
        mv SOURCE, r1, -2
        mv DESTINATION, r1
        mv TAG, r0, 1
        go
        mv CONTROL, r0, 0
        go
        go
        sync 1
        mv CONTROL, r0, {RECEIVE}
        mv SOURCE, r0, -1
        mv TAG, r0, -1
        go
        err 5
    """
    run = execution(text, Call(1, communicator=6, function=2, element=3, compression=8), context=2)
    first = Move(2, 6, 0, SEND | RECEIVE, 2, 3, 1, 7, 12, 22, (1 << 40) - 1, 9, 0, 12, 1, 0)
    assert run.advance(4) == Wait(3)
    assert run.advance(3) == first
    assert run.advance(1) == first._replace(control=0, source=0, destination=0)
    assert run.advance(1).control == 0
    assert run.advance(3) == Wait(1)
    assert run.advance(1) == first._replace(control=RECEIVE, source=0, any_source=1, destination=0, tag=0xFFFFFFFF,
                                            any_tag=1)
    assert run.advance(1) == Wait(0)
    assert run.advance(0) == run.advance(0) == run.end == End(Status.PROGRAM_RAISED, 5)


def test_a_collective_has_no_wildcards():
    text = f"mv CONTROL, r0, {RECEIVE}\n mv SOURCE, r0, 1\n mv TAG, r0, -1\n go\n mv SOURCE, r0, -1\n go"
    run = execution(text, is_collective=True, operation=77)
    move = run.advance(0)
    assert (move.any_tag, move.tag, move.operation, move.source) == (0, 0xFFFFFFFF, 77, 4)
    assert run.advance(0) == End(Status.BAD_PEER)


@pytest.mark.parametrize("text,status", [
    (f"mv CONTROL, r0, {SEND}\n mv DESTINATION, r0, 3\n go", Status.BAD_PEER),
    (f"mv CONTROL, r0, {RECEIVE}\n mv SOURCE, r0, 3\n go", Status.BAD_PEER),
    (f"mv CONTROL, r0, {SEND}\n mv SOURCE, r0, 3\n go\n ret", Status.SUCCESS),
    ("mv CONTROL, r0, 128\n go", Status.BAD_TYPE),
])
def test_moves_refused(text, status):
    run = execution(text, types=0x1E)
    found = run.advance(0)
    if isinstance(found, Move):
        found = run.advance(0)
    assert found == End(status)


def test_budget():
    run = execution("top: beq r0, r0, top")
    assert run.advance(0, budget=1000) is None
    assert run.instructions == 1000


def test_unset_registers():
    with pytest.raises(UnsetRegister, match="instruction 1 reads r2, which has not been written"):
        execution("li r1, 1\n add r1, r1, r2").advance(0)
    assert execution("add r1, r2, r3\n ret", strict=False).advance(0) == End(Status.SUCCESS)


GOOD = Call(1, communicator=2, element=3, compression=8, streams=0xFF03, id=0xFFFF)


@pytest.mark.parametrize("changes,options,status", [
    ({}, {}, Status.SUCCESS),
    ({}, {"is_aborted": True}, Status.ABORTED),
    ({"scenario": 2}, {}, Status.NO_SUCH_SCENARIO),
    ({"scenario": 4, "communicator": 1}, {}, Status.NO_SUCH_SCENARIO),
    ({"scenario": 0x101}, {}, Status.NO_SUCH_SCENARIO),
    ({"communicator": 1, "element": 9}, {}, Status.NO_SUCH_COMMUNICATOR),
    ({"communicator": 10}, {}, Status.NO_SUCH_COMMUNICATOR),
    ({"communicator": 3, "element": 9}, {}, Status.COMMUNICATOR_BROKEN),
    ({"element": 5, "streams": 4}, {}, Status.BAD_TYPE),
    ({"element": 0x13}, {}, Status.BAD_TYPE),
    ({"element": 0}, {}, Status.BAD_TYPE),
    ({"element": 4, "compression": 0}, {"types": 0}, Status.SUCCESS),
    ({}, {"types": 0xF}, Status.BAD_TYPE),
    ({"function": 3}, {}, Status.BAD_TYPE),
    ({"function": 0x100}, {}, Status.BAD_TYPE),
    ({"compression": 9}, {}, Status.BAD_FLAGS),
    ({"compression": 1 << 31}, {}, Status.BAD_FLAGS),
    ({"streams": 4}, {}, Status.BAD_FLAGS),
    ({"streams": 1 << 16}, {}, Status.BAD_FLAGS),
    ({"id": 1 << 16}, {}, Status.BAD_FLAGS),
])
def test_checks_of_a_call(changes, options, status):
    communicators = {2: COMMUNICATOR, 3: CommunicatorState(1, 0, [0], is_broken=True)}
    entries = {1: Entry(0), 4: Entry(0, is_valid=False)}
    options = {"types": 1 << 31, **options}
    assert check_call(GOOD._replace(**changes), entries, communicators, **options) == status


def test_operations_are_numbered():
    state = CommunicatorState(2, 0, [0, 1])
    numbers = [state.take_operation() for _ in range(65537)]
    assert numbers[:2] == [1, 2] and numbers[65534:] == [65535, 1, 2]


def test_what_breaks_a_communicator():
    assert not breaks_communicator(Status.SUCCESS, is_collective=True, has_moved=True)
    assert not breaks_communicator(Status.BAD_PEER, is_collective=True, has_moved=False)
    assert not breaks_communicator(Status.ABORTED, is_collective=False, has_moved=False)
    assert breaks_communicator(Status.ABORTED, is_collective=True, has_moved=False)
    assert breaks_communicator(Status.TIMEOUT, is_collective=False, has_moved=True)


def test_entry_words():
    for entry in (Entry(4095, True), Entry(0), Entry(17, False, False)):
        assert Entry.from_int(entry.to_int()) == entry
    assert Entry(5, True).to_int() == 0xC0000005
