# SPDX-License-Identifier: Apache-2.0
"""The control side of the collective engine: calls, programs, communicators, completions."""

import operator

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import COMMUNICATORS, CONTEXTS, ConfigSpace
from rackgate.collective.control.aborts import Aborts
from rackgate.collective.control.callstore import CallStore
from rackgate.collective.control.communicators import Communicators
from rackgate.collective.control.completer import Completer
from rackgate.collective.control.completions import Completions
from rackgate.collective.control.dispatcher import Dispatcher
from rackgate.collective.control.programmemory import ProgramMemory
from rackgate.collective.control.sequencer import Sequencer
from rackgate.collective.records import CompletionFields, Done, Failure, Move, Opening, Received

__all__ = ["ControlUnit"]

_CONVERTS = 31


class ControlUnit(wiring.Component):
    """Take calls, run their programs, hand out their moves, report how they ended.

    From the last word of a call whose program is RET alone until its completion can be read: 20 cycles. A call that
    fails breaks its communicator if it has started a move, or is a collective that was aborted; other calls that run
    on it then end with COMMUNICATOR_BROKEN. Calls are taken in turn from the host and the kernels, each one's in order;
    up to four run at a time, and end in any order. Reset forgets everything but the words of programs, whose entries
    are no longer valid.

    Parameters
    ----------
    program, segment, types:
        The registers PARAM_PROGRAM, PARAM_SEGMENT and PARAM_TYPES.
    calls:
        Calls of the host that have been begun and whose completion has not been forgotten, 2 to 64.
    kernels:
        Ports for kernels, 0 to 8, each with two calls.

    Members
    -------
    enable:
        Begin calls.
    config_address, config_data, config_write:
        Write a word of :class:`~rackgate.collective.abi.ConfigSpace`.
    call_word, call_word_write, call_space:
        The host's calls. A call that is begun without space is dropped.
    abort_id, abort_write:
        End calls with this id.
    completions, completion, completion_pop:
        How many can be read, the oldest if there is one, and forget it.
    call_ended, ended:
        High for a cycle: a call of the host, of anyone, has ended.
    kernel_call, kernel_completion:
        Calls of kernels, word by word, and their completions.
    move, done, received, failed, failure, kill, killed:
        Moves, and what becomes of them: :class:`~rackgate.collective.moves.moveunit.MoveUnit`. ``kill`` answers every
        failure, too.
    open, is_open, is_broken:
        Communicators that open, and their state.
    """

    move: stream.Interface
    open: stream.Interface

    def __init__(self, *, program: int = 2048, calls: int = 16, kernels: int = 0, segment: int = 1024,
                 types: int = 0):
        self.segment, self.types = operator.index(segment), operator.index(types)
        self._memory = ProgramMemory(words=program)
        self._calls = CallStore(calls=calls, kernels=kernels)
        self._completions = Completions(calls=calls, kernels=kernels)
        if not 256 <= self.segment <= 4096 or self.segment & self.segment - 1:
            raise ValueError(f"segment must be a power of two from 256 to 4096, not {segment}")
        if not 0 <= self.types < 1 << 32:
            raise ValueError(f"types must fit 32 bits, not {types:#x}")
        super().__init__({
            "enable": In(1),
            "config_address": In(13), "config_data": In(32), "config_write": In(1),
            "call_word": In(32), "call_word_write": In(1), "call_space": Out(range(self._calls.calls + 1)),
            "abort_id": In(16), "abort_write": In(1),
            "completions": Out(range(self._calls.calls + 1)), "completion": Out(CompletionFields),
            "completion_pop": In(1), "call_ended": Out(1), "ended": Out(1),
            "kernel_call": In(stream.Signature(32)).array(self._calls.kernels),
            "kernel_completion": Out(stream.Signature(CompletionFields)).array(self._calls.kernels),
            "move": Out(stream.Signature(Move)), "done": In(Done), "received": In(Received),
            "failed": In(CONTEXTS), "failure": In(Failure).array(CONTEXTS),
            "kill": Out(CONTEXTS), "killed": In(CONTEXTS),
            "open": Out(stream.Signature(Opening)), "is_open": Out(COMMUNICATORS), "is_broken": Out(COMMUNICATORS),
        })

    def elaborate(self, platform):
        m = Module()
        slots = self._calls.slots
        m.submodules.memory = self._memory
        m.submodules.calls = self._calls
        m.submodules.completions = self._completions
        m.submodules.communicators = communicators = Communicators()
        m.submodules.dispatcher = dispatcher = Dispatcher(slots=slots, converts=self.types >> _CONVERTS & 1)
        m.submodules.sequencer = sequencer = Sequencer(words=self._memory.words, slots=slots, segment=self.segment,
                                                       types=self.types)
        m.submodules.completer = completer = Completer(slots=slots)
        self._configure(m, communicators)
        self._call(m, dispatcher)
        self._begin(m, dispatcher, communicators, sequencer, completer)
        self._run(m, sequencer, communicators)
        self._end(m, sequencer, completer)
        return m

    def _configure(self, m, communicators):
        """What the host writes."""
        memory, relative = self._memory, self.config_address - ConfigSpace.COMMUNICATOR
        m.d.comb += [
            memory.address.eq(self.config_address), memory.value.eq(self.config_data),
            memory.write.eq(self.config_write),
            communicators.address.eq(relative), communicators.value.eq(self.config_data),
            communicators.write.eq(self.config_write & (self.config_address[8:] == ConfigSpace.COMMUNICATOR >> 8)),
            self.is_open.eq(communicators.is_open), self.is_broken.eq(communicators.is_broken),
        ]
        wiring.connect(m, communicators.open, wiring.flipped(self.open))

    def _call(self, m, dispatcher):
        """Calls that come in."""
        calls = self._calls
        m.submodules.aborts = aborts = Aborts(calls.slots)
        m.d.comb += [
            calls.word.eq(self.call_word), calls.word_write.eq(self.call_word_write), self.call_space.eq(calls.space),
            calls.look_slot.eq(dispatcher.look_slot), calls.look_pair.eq(dispatcher.look_pair),
            dispatcher.words.eq(calls.look), aborts.look.eq(calls.look), aborts.may_look.eq(~dispatcher.look),
            aborts.id.eq(self.abort_id), aborts.write.eq(self.abort_write),
            aborts.begin.eq(calls.begin), aborts.begin_slot.eq(calls.begin_slot),
            dispatcher.is_aborted.eq(aborts.is_aborted),
            calls.release.eq(self._completions.release),
        ]
        with m.If(~dispatcher.look):
            m.d.comb += [calls.look_slot.eq(aborts.look_slot), calls.look_pair.eq(aborts.look_pair)]
        for ours, theirs in zip(self.kernel_call, calls.kernel, strict=True):
            wiring.connect(m, wiring.flipped(ours), theirs)
        for ours, theirs in zip(calls.release_slot, self._completions.release_slot, strict=True):
            m.d.comb += ours.eq(theirs)
        wiring.connect(m, calls.call, dispatcher.call)
        self._aborts = aborts

    def _begin(self, m, dispatcher, communicators, sequencer, completer):
        """Calls that begin."""
        m.d.comb += [
            # A call that was written behind a communicator's words finds it open.
            dispatcher.enable.eq(self.enable & ~communicators.is_opening),
            self._memory.scenario.eq(dispatcher.scenario), dispatcher.entry.eq(self._memory.entry),
            dispatcher.is_open.eq(communicators.is_open), dispatcher.is_broken.eq(communicators.is_broken),
            communicators.communicator.eq(dispatcher.communicator), communicators.count.eq(dispatcher.count),
            dispatcher.membership.eq(communicators.membership), dispatcher.operation.eq(communicators.operation),
            dispatcher.is_free.eq(sequencer.is_free),
            sequencer.status.eq(dispatcher.status), sequencer.address.eq(dispatcher.address),
        ]
        for name in ("start", "context", "info"):
            m.d.comb += [getattr(part, name).eq(getattr(dispatcher, name)) for part in (sequencer, completer)]

    def _run(self, m, sequencer, communicators):
        """Calls that run."""
        m.d.comb += [
            self._memory.fetch.eq(sequencer.fetch), sequencer.instruction.eq(self._memory.instruction),
            sequencer.predecoded.eq(self._memory.predecoded), sequencer.leads.eq(self._memory.leads),
            self._calls.load_slot.eq(sequencer.load_slot), self._calls.load_word.eq(sequencer.load_word),
            sequencer.load.eq(self._calls.load),
            sequencer.is_aborted.eq(self._aborts.is_aborted),
            sequencer.is_broken.eq(communicators.is_broken), communicators.break_.eq(sequencer.breaks),
            communicators.node_communicator.eq(sequencer.communicator), communicators.rank.eq(sequencer.rank),
            sequencer.node.eq(communicators.node),
            sequencer.done.eq(self.done), sequencer.failed.eq(self.failed), self.kill.eq(sequencer.kill),
            sequencer.killed.eq(self.killed),
            *(theirs.eq(ours) for ours, theirs in zip(self.failure, sequencer.failure, strict=True)),
        ]
        wiring.connect(m, sequencer.move, wiring.flipped(self.move))

    def _end(self, m, sequencer, completer):
        """Calls that end."""
        completions, ended = self._completions, completer.o
        m.d.comb += [
            completer.received.eq(self.received), completer.has_ended.eq(sequencer.has_ended),
            *(theirs.eq(ours) for ours, theirs in zip(sequencer.result, completer.result, strict=True)),
            sequencer.answered.eq(completer.answered),
            self._calls.age_slot.eq(completer.age_slot), completer.age.eq(self._calls.age),
            self._aborts.end.eq(ended.valid), self._aborts.end_slot.eq(ended.payload.slot),
            self.completions.eq(completions.waiting), self.completion.eq(completions.first),
            completions.pop.eq(self.completion_pop),
            self.ended.eq(ended.valid), self.call_ended.eq(completions.arrived),
        ]
        wiring.connect(m, ended, completions.i)
        for ours, theirs in zip(self.kernel_completion, completions.kernel, strict=True):
            wiring.connect(m, theirs, wiring.flipped(ours))
