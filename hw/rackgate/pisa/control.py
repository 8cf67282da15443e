# SPDX-License-Identifier: Apache-2.0
"""The control plane of a switch: one access to a register array or to a table at a time."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.pisa.abi import Command, CommandError
from rackgate.pisa.declare import Pipeline
from rackgate.pisa.entries import EntryFormat, TableImage
from rackgate.pisa.layout import control_layout
from rackgate.pisa.tables import EntriesSignature

__all__ = ["Control", "control_width"]


def control_width(pipeline: Pipeline) -> int:
    """Bits of the widest word or entry."""
    return max([1, *(register.width for register in pipeline.registers),
                *(EntryFormat(table).width for table in pipeline.tables)])


class Control(wiring.Component):
    """Carry out commands (:class:`~.abi.Command`), one at a time.

    After reset it reads a word: when that has come back, all arrays and tables are empty, and it is ``ready``. A
    command that comes while one is under way, or before that, is refused. Reset forgets the command.

    Parameters
    ----------
    pipeline:
        The declaration.

    Members
    -------
    start:
        Begin a command, given by ``operation``, ``target``, ``index`` and ``data``.
    ready, busy, fresh:
        As in the register STATUS.
    done, refused:
        High for a cycle.
    error, result:
        Of the last command; of a write the result is the data.
    request, response:
        Accesses to register arrays, on their way into the pipeline and out of it.
    entries_NAME:
        Access to table NAME.
    """

    def __init__(self, pipeline: Pipeline):
        self.pipeline = pipeline
        self.width = control_width(pipeline)
        access = control_layout(pipeline)
        super().__init__({
            "start": In(1), "operation": In(4), "target": In(8), "index": In(32), "data": In(self.width),
            "ready": Out(1), "busy": Out(1), "fresh": Out(1, init=1), "done": Out(1), "refused": Out(1),
            "error": Out(4), "result": Out(self.width),
            "request": Out(stream.Signature(access)),
            "response": In(stream.Signature(access, always_ready=True)),
            **{f"entries_{table.name}": Out(EntriesSignature(table)) for table in pipeline.tables},
        })

    def elaborate(self, platform):
        m = Module()
        tables = [getattr(self, f"entries_{table.name}") for table in self.pipeline.tables]
        # The command that is under way; after reset, the first read.
        target, index, is_write, error = Signal(8), Signal(32), Signal(), Signal(4)
        is_entry, access = Signal(), self.request.payload
        m.d.comb += [
            is_entry.eq((self.operation == Command.READ_ENTRY) | (self.operation == Command.WRITE_ENTRY)),
            error.eq(self._error(is_entry)),
            access.valid.eq(1), access.write.eq(is_write), access.register.eq(target), access.index.eq(index),
            access.data.eq(self.result),
        ]
        asks, is_answered, found = Signal(), Signal(), Signal(self.width)
        for number, entries in enumerate(tables):
            m.d.comb += [
                entries.write.eq(is_write), entries.place.eq(index), entries.word.eq(self.result),
                entries.request.eq(asks & (target == number)),
            ]
            with m.If(target == number):
                m.d.comb += [is_answered.eq(entries.done), found.eq(entries.found)]

        m.d.comb += self.busy.eq(1)
        with m.FSM():
            with m.State("PROBE"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.next = "PROBED"
            with m.State("PROBED"):
                with m.If(self.response.valid):
                    m.d.sync += self.ready.eq(1)
                    m.next = "IDLE"
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                with m.If(self.start):
                    m.d.sync += [
                        self.error.eq(error), target.eq(self.target), index.eq(self.index), self.result.eq(self.data),
                        is_write.eq((self.operation == Command.WRITE_REGISTER)
                                    | (self.operation == Command.WRITE_ENTRY)),
                    ]
                    with m.If(error != CommandError.NONE):
                        m.next = "DONE"
                    with m.Elif(is_entry):
                        m.next = "ENTRY"
                    with m.Else():
                        m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += self.request.valid.eq(1)
                with m.If(self.request.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(self.response.valid):
                    with m.If(~is_write):
                        m.d.sync += self.result.eq(self.response.payload.data)
                    m.next = "DONE"
            with m.State("ENTRY"):
                m.d.comb += asks.eq(1)
                with m.If(is_write):
                    m.d.sync += self.fresh.eq(0)
                with m.If(is_answered):
                    m.next = "FOUND"
            with m.State("FOUND"):
                with m.If(~is_write):
                    m.d.sync += self.result.eq(found)
                m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "IDLE"
        m.d.comb += self.refused.eq(self.start & self.busy)
        return m

    def _error(self, is_entry):
        """Why the command cannot be done."""
        registers = [register.depth for register in self.pipeline.registers]
        tables = [TableImage(table).capacity for table in self.pipeline.tables]

        def of(sizes):
            if not sizes:
                return CommandError.BAD_TARGET
            size = Array(sizes)[self.target]
            return Mux(self.target >= len(sizes), CommandError.BAD_TARGET,
                       Mux(self.index >= size, CommandError.BAD_INDEX, CommandError.NONE))

        is_known = Cat(self.operation == command for command in Command).any()
        return Mux(is_known, Mux(is_entry, of(tables), of(registers)), CommandError.BAD_OPERATION)
