# SPDX-License-Identifier: Apache-2.0
"""Bench of :class:`rackgate.collective.control.unit.ControlUnit`: random programs, against their model.

They run in four contexts.

A host writes programs, communicators and calls, and reads completions; a move unit takes moves and ends them, late and
in any order, fails some, and ends those of contexts that are killed.
"""

from collections import defaultdict, deque

import cocotb
from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

from rackgate.collective.abi import ConfigSpace, Status
from rackgate.collective.records import CompletionFields
from rackgate.collective.records import Move as MoveFields
from rackgate_sim.collective.programs import ProgramMaker, place, random_call, run_alone
from rackgate_sim.collective.sequencer import CommunicatorState, Entry, Execution, Move

from . import session

PERIOD_NS = 10
#: Cycles in which something must have happened.
PATIENCE = 5000
PROGRAMS, CALLS = 6, 24


def _unpack(shape, raw):
    """Fields of a number that has the layout of a structure."""
    return {name: raw >> field.offset & (1 << field.width) - 1
            for name, field in data.Layout.cast(shape)}


class Bench:
    """Everything around the unit, a cycle at a time. ``writes``: (strobe, values) that the host has still to do."""

    def __init__(self, dut, purpose, *, fails=0.0):
        self.dut, self.rng, self.fails = dut, session.rng(purpose), fails
        self.types = session.parameters()["types"]
        self.writes, self.calls = deque(), deque()
        self.words = deque()
        self.moves, self.received, self.failures = defaultdict(list), defaultdict(int), defaultdict(list)
        self.completions = {}
        self._under_way, self._owner, self._dying = [[] for _ in range(4)], [0] * 4, [0] * 4
        self._idle = 0

    async def reset(self):
        """Start the clock, and forget everything."""
        dut = self.dut
        Clock(dut.clk, PERIOD_NS, unit="ns").start()
        for name in ("enable", "config_write", "call_word_write", "abort_write", "completion_pop", "done", "received",
                     "failed", "killed", "move__ready"):
            getattr(dut, name).value = 0
        dut.open__ready.value = 1
        dut.rst.value = 1
        for _ in range(2):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        dut.enable.value = 1

    def config(self, address, *values):
        """Have words written to the configuration."""
        for number, value in enumerate(values):
            self.writes.append(("config_write", {"config_address": address + number, "config_data": value}))

    def open(self, number, state):
        """Have a communicator opened."""
        base = ConfigSpace.COMMUNICATOR + 32 * number
        self.config(base + 16, *state.nodes)
        self.config(base, state.size | state.rank << 8 | 1 << 31, state.credits)

    async def cycle(self):
        """One clock cycle of everybody."""
        dut, rng = self.dut, self.rng
        for name in ("config_write", "call_word_write", "abort_write", "completion_pop", "done", "received", "failed",
                     "killed"):
            getattr(dut, name).value = 0
        self._host()
        kill = int(dut.kill.value)
        self._move_unit(kill)
        ready = rng.random() < 0.6
        dut.move__ready.value = ready
        await ReadOnly()
        if dut.move__valid.value:
            fields = _unpack(MoveFields, int(dut.move__payload.value))
            assert not int(dut.kill.value) >> fields["context"] & 1, "a move of a context that is killed"
            if ready:
                self._take(Move(**{name: fields[name] for name in Move._fields}))
        if dut.completion_pop.value and int(dut.completions.value):
            self._complete(_unpack(CompletionFields, int(dut.completion.value)))
        self._idle += 1
        assert self._idle < PATIENCE, f"nothing happens; {sorted(self.completions)} have ended"
        await RisingEdge(dut.clk)

    def _host(self):
        dut, rng = self.dut, self.rng
        if self.writes:
            name, values = self.writes.popleft()
            getattr(dut, name).value = 1
            for port, value in values.items():
                getattr(dut, port).value = value
            self._idle = 0
        elif not self.words and self.calls and int(dut.call_space.value):
            self.words.extend(self.calls.popleft().words())
        elif self.words and rng.random() < 0.9:
            dut.call_word_write.value = 1
            dut.call_word.value = self.words.popleft()
        dut.completion_pop.value = rng.random() < 0.3

    def _move_unit(self, kill):
        dut, rng = self.dut, self.rng
        for context in range(4):
            if kill >> context & 1:
                self._dying[context] = self._dying[context] or rng.choice([2, 3, 40])
                self._dying[context] -= 1
                if not self._dying[context]:
                    self._under_way[context].clear()
                    dut.killed.value = 1 << context
                    break
        busy = [k for k in range(4) if self._under_way[k] and not kill >> k & 1]
        if not busy or rng.random() < 0.5:
            return
        context = rng.choice(busy)
        number, event = self._owner[context], rng.random()
        if event < self.fails:
            failure = (rng.choice([Status.TIMEOUT, Status.READ_ERROR]), rng.randrange(4), rng.randrange(16))
            self.failures[number].append(failure)
            getattr(dut, f"failure__{context}").value = failure[0] | failure[1] << 8 | failure[2] << 12
            dut.failed.value = 1 << context
        elif event < 0.5:
            size = rng.choice([0, 1, 1024, 8192])
            self.received[number] += size
            dut.received.value = 1 | context << 1 | size << 3
        else:
            self._under_way[context].pop()
            dut.done.value = 1 | context << 1

    def _take(self, move):
        self._under_way[move.context].append(move)
        assert len(self._under_way[move.context]) <= 4, "too many moves of a context"
        self._owner[move.context] = move.result
        self.moves[move.result].append(move)
        self._idle = 0

    def _complete(self, found):
        assert found["id"] not in self.completions, "a call has ended twice"
        self.completions[found["id"]] = found
        self._idle = 0


def _draw(bench, number):
    """Communicators, programs that end well, and calls; they are on their way into the unit."""
    rng = bench.rng
    communicators = []
    for _ in range(8):
        size = rng.randrange(1, 17)
        communicators.append(CommunicatorState(size, rng.randrange(size), rng.sample(range(16), size), 9))
    words, origins = place(ProgramMaker(rng, 1).program(rng.randrange(60)) for _ in range(PROGRAMS))
    entries = [Entry(origin, rng.random() < 0.5) for origin in origins]
    calls = [random_call(rng, scenario=rng.randrange(PROGRAMS), communicator=rng.randrange(8),
                         id=CALLS * number + k + 1) for k in range(CALLS)]
    bench.config(ConfigSpace.PROGRAM, *words)
    bench.config(ConfigSpace.ENTRY, *(entry.to_int() for entry in entries))
    for place_, state in enumerate(communicators):
        bench.open(place_, state)
    bench.calls.extend(calls)
    return words, entries, communicators, calls


def _check(bench, call, words, entry, state, operation):
    """Moves and end of a call; how it ended."""
    execution = Execution(words, call, entry, state, operation, bench.types, strict=True)
    expected, end = run_alone(execution)
    found, moves = bench.completions[call.id], bench.moves.pop(call.id, [])
    assert [move._replace(context=0) for move in moves] == expected[:len(moves)], f"moves of {call}"
    assert len({move.context for move in moves}) <= 1
    assert found["bytes"] == bench.received[call.id]
    if found["status"] == Status.SUCCESS:
        assert len(moves) == len(expected) and end.status == Status.SUCCESS
    return Status(found["status"])


@cocotb.test()
async def random_programs(dut):
    """Nothing goes wrong: each call has all of its moves, and succeeds. Programs are replaced between rounds."""
    bench = Bench(dut, "programs")
    await bench.reset()
    moves = 0
    for number in range(session.options()["rounds"]):
        words, entries, communicators, calls = _draw(bench, number)
        while not all(call.id in bench.completions for call in calls):
            await bench.cycle()
        for call in calls:
            entry, state = entries[call.scenario], communicators[call.communicator]
            moves += len(bench.moves[call.id])
            operation = state.take_operation() if entry.is_collective else 0
            assert _check(bench, call, words, entry, state, operation) == Status.SUCCESS
    session.report(moves=moves)


@cocotb.test()
async def failures_and_aborts(dut):
    """Moves fail and calls are aborted: each call ends once, with the first reason that there was."""
    bench = Bench(dut, "failures", fails=0.02)
    await bench.reset()
    counts = defaultdict(int)
    for number in range(session.options()["rounds"]):
        words, entries, communicators, calls = _draw(bench, number)
        aborted = set()
        while not all(call.id in bench.completions for call in calls):
            if not bench.writes and bench.rng.random() < 0.003:
                call = bench.rng.choice(calls)
                aborted.add(call.id)
                bench.writes.append(("abort_write", {"abort_id": call.id}))
            await bench.cycle()
        for call in calls:
            entry, found = entries[call.scenario], bench.completions[call.id]
            operations = {move.operation for move in bench.moves[call.id]}
            assert len(operations) <= 1 and (0 in operations) <= (not entry.is_collective)
            status = _check(bench, call, words, entry, communicators[call.communicator], *operations or {0})
            counts[status.name] += 1
            if status == Status.ABORTED:
                assert call.id in aborted
            elif status not in (Status.SUCCESS, Status.COMMUNICATOR_BROKEN):
                assert (found["status"], found["cause"], found["node"]) == bench.failures[call.id][0]
    session.report(**counts)
