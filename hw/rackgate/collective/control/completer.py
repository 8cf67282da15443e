# SPDX-License-Identifier: Apache-2.0
"""How calls that have ended are reported."""

import operator

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CONTEXTS, Status
from rackgate.collective.records import CallInfo, CompletionFields, Failure, Received

__all__ = ["Completer", "Ended"]

_CONTEXT = range(CONTEXTS)


class Ended(data.Struct):
    """A completion with the slot of its call."""

    slot: 8
    fields: CompletionFields


class _Kept(data.Struct):
    """What is kept of a call for its completion."""

    slot: 8
    id: 16


class Completer(wiring.Component):
    """Report the calls that have ended, one in 3 cycles at most.

    The completion is offered 3 cycles after the call has ended, and names the cycles from the call's last word to then.
    Reset: nothing is to be reported.

    Parameters
    ----------
    slots:
        Calls in the store.

    Members
    -------
    start, context, info:
        A call begins.
    received:
        A packet that a call has received.
    has_ended, result, answered:
        Of each context; see :class:`~rackgate.collective.control.sequencer.Sequencer`.
    age_slot, age:
        Read a call's age in one cycle.
    o:
        Completions; always taken at once.
    """

    o: stream.Interface

    def __init__(self, *, slots: int = 16):
        self.slots = operator.index(slots)
        super().__init__({
            "start": In(1), "context": In(_CONTEXT), "info": In(CallInfo),
            "received": In(Received),
            "has_ended": In(CONTEXTS), "result": In(Failure).array(CONTEXTS), "answered": Out(CONTEXTS),
            "age_slot": Out(range(self.slots)), "age": In(32),
            "o": Out(stream.Signature(Ended)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.kept = kept = Memory(shape=_Kept, depth=CONTEXTS, init=[])
        note, kept = kept.write_port(), kept.read_port(domain="comb")
        chosen, fields = Signal(_CONTEXT), self.o.payload.fields
        m.d.comb += [
            note.addr.eq(self.context), note.en.eq(self.start),
            note.data.slot.eq(self.info.slot), note.data.id.eq(self.info.id),
            kept.addr.eq(chosen), self.age_slot.eq(kept.data.slot),
        ]
        total, has_any = self._receive(m, chosen)
        m.d.sync += self.o.valid.eq(0)
        with m.FSM():
            with m.State("LOOK"):
                for number in _CONTEXT:
                    with m.If(self.has_ended[number]):
                        m.d.sync += chosen.eq(number)
                with m.If(self.has_ended.any()):
                    m.next = "READ"
            with m.State("READ"):
                m.next = "REPORT"
            with m.State("REPORT"):
                m.d.comb += self.answered.eq(1 << chosen)
                m.d.sync += [
                    self.o.valid.eq(1), self.o.payload.slot.eq(kept.data.slot), fields.id.eq(kept.data.id),
                    fields.cycles.eq(self.age), fields.bytes.eq(total.bytes), fields.tag.eq(total.tag),
                ]
                with m.If(~has_any):
                    m.d.sync += [fields.bytes.eq(0), fields.tag.eq(0)]
                with m.Switch(chosen):
                    for number, result in enumerate(self.result):
                        with m.Case(number):
                            m.d.sync += [fields.status.eq(result.status), fields.cause.eq(result.cause),
                                         fields.node.eq(result.node)]
                            with m.If(result.status == Status.SUCCESS):
                                m.d.sync += fields.node.eq(Mux(has_any, total.node, 0))
                m.next = "LOOK"
        m.d.sync += Assert(~self.o.valid | self.o.ready, "a completion is lost")
        return m

    def _receive(self, m, chosen):
        """Count the bytes of each call, note who sent, and the tag. Memory counts from a context's first packet on."""
        m.submodules.totals = totals = Memory(shape=data.StructLayout({"bytes": 32, "node": 4, "tag": 32}),
                                              depth=CONTEXTS, init=[])
        write, old, total = totals.write_port(), totals.read_port(domain="comb"), totals.read_port(domain="comb")
        received, has_any = Signal.like(self.received), Signal(CONTEXTS)
        m.d.sync += received.eq(self.received)
        m.d.comb += [
            old.addr.eq(received.context), write.addr.eq(received.context), write.en.eq(received.valid),
            write.data.bytes.eq(Mux(has_any.bit_select(received.context, 1), old.data.bytes, 0) + received.size),
            write.data.node.eq(received.node), write.data.tag.eq(received.tag),
            total.addr.eq(chosen),
        ]
        with m.If(received.valid):
            m.d.sync += has_any.bit_select(received.context, 1).eq(1)
        with m.If(self.start):
            m.d.sync += has_any.bit_select(self.context, 1).eq(0)
        return total.data, has_any.bit_select(chosen, 1)
