# SPDX-License-Identifier: Apache-2.0
"""The collective engine's sequencer: it runs the programs of calls and starts their moves."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CALL_WORDS, COMMUNICATORS, CONTEXTS, NODES, Status
from rackgate.collective.control.context import Context
from rackgate.collective.control.decode import Predecoded
from rackgate.collective.control.execute import Execute
from rackgate.collective.control.fetch import PC_BITS, Fetch
from rackgate.collective.control.operands import Operands
from rackgate.collective.isa import MAX_PROGRAM
from rackgate.collective.records import CallInfo, Done, Failure, Move

__all__ = ["Sequencer"]

_CONTEXT = range(CONTEXTS)


class _Outcome(data.Struct):
    """What an instruction has led to: see :class:`~rackgate.collective.control.execute.Execute`."""

    valid: 1
    context: _CONTEXT
    jump: 1
    target: PC_BITS
    resume: 1
    sleep: 1
    wake: 1
    end: 1
    end_stops: 1
    end_status: 4
    end_cause: 4


class Sequencer(wiring.Component):
    """Run calls in four contexts, which take turns.

    An instruction is fetched, decoded while its operands are read, and carried out; a cycle later it is known what
    follows. One is fetched a cycle. A context's next one is fetched two cycles after the one before, three after a SYNC
    or a branch that is not taken, four after one that is or after GO. It is fetched one cycle after it if no other
    context is ready, the program was written in order, and it needs neither the register that the one before writes
    nor, as a GO does, its field; but not as the second one where a branch leads to. A multiplication takes 8 cycles, a
    division 45, a shift by n bits 8 or n + 5, and more when another context has the unit. Contexts that wait take no
    turns.

    Parameters
    ----------
    words:
        Instructions in the program memory, a power of two from 64 to 4096.
    slots:
        Calls in the store.
    segment, types:
        The registers PARAM_SEGMENT and PARAM_TYPES.

    Members
    -------
    is_free:
        Bit per context: a call can begin there.
    start, context, status, address, info:
        A call begins: its program is at ``address``; or it has ended already if ``status`` is not SUCCESS.
    fetch, instruction, predecoded, leads:
        The program memory, read in one cycle.
    load_slot, load_word, load:
        Words of calls, read in one cycle.
    is_aborted:
        Bit per slot: end this call.
    is_broken, breaks:
        Communicators that are broken; those that break now.
    communicator, rank, node:
        Lookup of a rank's node, in the same cycle.
    move:
        Moves that start.
    done, failed, failure, kill, killed:
        What becomes of them, see :class:`~rackgate.collective.moves.lifecycle.Lifecycle`.
    has_ended, result, answered:
        Per context: its call has ended, how, and that it has been reported.

    Reset frees all contexts. Registers keep what they have: programs must set those that they use.
    """

    move: stream.Interface

    def __init__(self, *, words: int = 2048, slots: int = 16, segment: int = 1024, types: int = 0):
        self.words, self.slots = operator.index(words), operator.index(slots)
        self.segment, self.types = operator.index(segment), operator.index(types)
        if not 64 <= self.words <= MAX_PROGRAM or self.words & self.words - 1:
            raise ValueError(f"words must be a power of two from 64 to {MAX_PROGRAM}, not {words}")
        super().__init__({
            "is_free": Out(CONTEXTS),
            "start": In(1), "context": In(_CONTEXT), "status": In(4), "address": In(12), "info": In(CallInfo),
            "fetch": Out(range(self.words)), "instruction": In(32), "predecoded": In(Predecoded),
            "leads": In(1),
            "load_slot": Out(range(self.slots)), "load_word": Out(range(CALL_WORDS)), "load": In(64),
            "is_aborted": In(self.slots), "is_broken": In(COMMUNICATORS), "breaks": Out(COMMUNICATORS),
            "communicator": Out(range(COMMUNICATORS)), "rank": Out(range(NODES)), "node": In(range(NODES)),
            "move": Out(stream.Signature(Move)),
            "done": In(Done), "failed": In(CONTEXTS), "failure": In(Failure).array(CONTEXTS),
            "kill": Out(CONTEXTS), "killed": In(CONTEXTS),
            "has_ended": Out(CONTEXTS), "result": Out(Failure).array(CONTEXTS), "answered": In(CONTEXTS),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.fetch = fetch = Fetch()
        m.submodules.operands = operands = Operands(words=self.words, slots=self.slots)
        m.submodules.execute = execute = Execute(segment=self.segment, types=self.types)
        contexts = [Context() for _ in _CONTEXT]
        for number, context in enumerate(contexts):
            m.submodules[f"context_{number}"] = context
        wiring.connect(m, execute.move, wiring.flipped(self.move))
        issued, outcome = operands.issued, self._conclude(m, operands, execute)
        m.d.comb += [
            fetch.ready.eq(Cat(context.is_ready for context in contexts)),
            fetch.running.eq(Cat(context.is_running for context in contexts)),
            fetch.start.eq(self.start), fetch.context.eq(self.context), fetch.address.eq(self.address),
            fetch.clear.eq(self.status == Status.SUCCESS),
            fetch.jump.eq(outcome.jump), fetch.jump_context.eq(outcome.context), fetch.target.eq(outcome.target),
            self.fetch.eq(fetch.pc), fetch.leads.eq(self.leads), fetch.goes_on.eq(self.predecoded.goes_on),
            operands.fetched.eq(fetch.o),
            operands.instruction.eq(self.instruction), operands.predecoded.eq(self.predecoded),
            operands.start.eq(self.start), operands.context.eq(self.context), operands.info.eq(self.info),
            operands.write.eq(execute.write), operands.value.eq(execute.value),
            self.load_slot.eq(operands.load_slot), self.load_word.eq(operands.load_word),
            # What was fetched behind an instruction that ended the call has no effect.
            execute.valid.eq(operands.valid & execute.is_running.bit_select(issued.context, 1)),
            execute.issued.eq(issued), execute.clear.eq(operands.clear),
            execute.load.eq(self.load), execute.is_running.eq(Cat(context.is_running for context in contexts)),
            self.communicator.eq(execute.communicator), self.rank.eq(execute.rank), execute.node.eq(self.node),
        ]
        with m.Switch(issued.context):
            for number, context in enumerate(contexts):
                with m.Case(number):
                    m.d.comb += execute.outstanding.eq(context.outstanding)
        breaks = 0
        for number, context in enumerate(contexts):
            self._wire(m, number, context, fetch, operands, execute, outcome)
            breaks |= context.breaks
        m.d.comb += self.breaks.eq(breaks)
        return m

    def _conclude(self, m, operands, execute):
        """What follows from an instruction, a cycle later."""
        outcome = Signal(_Outcome)
        m.d.sync += [
            outcome.valid.eq(operands.valid), outcome.context.eq(operands.issued.context),
            # What goes to sleep comes again.
            outcome.jump.eq(execute.jump | execute.sleep),
            outcome.target.eq(Mux(execute.sleep, operands.pc, execute.target)),
            outcome.wake.eq(execute.wake | self.done.valid),
            *(getattr(outcome, name).eq(getattr(execute, name))
              for name in ("resume", "sleep", "end", "end_stops", "end_status", "end_cause")),
        ]
        return outcome

    def _wire(self, m, number, context, fetch, operands, execute, outcome):
        """A context and everything around it."""
        is_concluded = outcome.valid & (outcome.context == number)
        is_issued = operands.valid & (operands.issued.context == number)
        is_fetched = fetch.o.valid & (fetch.o.context == number)
        is_offered = self.move.valid & (self.move.payload.context == number)
        is_done = self.done.valid & (self.done.context == number)
        slot = Signal(range(self.slots))
        with m.If(context.start):
            m.d.sync += slot.eq(self.info.slot)
        m.d.comb += [
            context.start.eq(self.start & (self.context == number)), context.status.eq(self.status),
            context.communicator.eq(self.info.communicator), context.is_collective.eq(self.info.is_collective),
            context.fetch.eq(fetch.taken[number]),
            context.resume.eq(operands.resume[number] & ~fetch.follows | is_issued & execute.passes
                              | is_concluded & outcome.resume),
            context.sleep.eq(is_concluded & outcome.sleep),
            # Also what happened in the cycle in which the instruction found that it had to wait.
            context.wake.eq(execute.wake | self.done.valid | outcome.wake),
            context.end.eq(is_concluded & outcome.end), context.end_stops.eq(outcome.end_stops),
            context.end_status.eq(outcome.end_status), context.end_cause.eq(outcome.end_cause),
            context.is_moving.eq(is_issued | is_fetched | is_concluded | is_offered),
            context.go.eq(is_issued & execute.go), context.done.eq(is_done),
            context.failed.eq(self.failed[number]), context.failure.eq(self.failure[number]),
            context.is_aborted.eq(self.is_aborted.bit_select(slot, 1)), context.is_broken.eq(self.is_broken),
            context.killed.eq(self.killed[number]), context.answered.eq(self.answered[number]),
            self.is_free[number].eq(context.is_free), self.has_ended[number].eq(context.has_ended),
            self.kill[number].eq(context.kill), self.result[number].eq(context.result),
        ]
