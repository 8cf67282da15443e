# SPDX-License-Identifier: Apache-2.0
"""Makes whole output words of the copier's chunks."""

from amaranth.hdl import Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.entry import OutputWord
from rackgate.inflate.steps import BANKS, Operation, Row, check_contexts
from rackgate.stream.queue import Queue

__all__ = ["RowAssembler"]

_DEPTH = 16
#: Rows on their way when ``go`` falls: three in the history, one here, one because ``go`` is a register.
_IN_FLIGHT = 5


class RowAssembler(wiring.Component):
    """Collect rows until a word of eight positions is complete, and queue the words.

    One row a cycle. A word is put out when its byte 7 has come, or with what there is when the segment ends.

    Parameters
    ----------
    contexts:
        How many contexts may have an incomplete word at a time, 1 to 8.

    Members
    -------
    i:
        Rows; always ready, provided that they are started only when ``go`` is high.
    o:
        Output words. Waiting for them here does not hold up the copier before 11 words do.
    go:
        Further chunks may enter the history: there is room for what they may put out. A register.

    Reset drops what is queued and what is incomplete.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, contexts):
        self.contexts = check_contexts(contexts)
        super().__init__({
            "i": In(stream.Signature(Row, always_ready=True)),
            "o": Out(stream.Signature(OutputWord)),
            "go": Out(1),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._queue = Queue(OutputWord, depth=_DEPTH)
        # Where the word of each context begins: after a start or end not at its byte 0.
        self._firsts = Signal(data.ArrayLayout(3, self.contexts))

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = self._queue
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        m.d.sync += self.go.eq(queue.level <= _DEPTH - _IN_FLIGHT)

        row, word = self.i.payload, queue.i.payload
        first = self._firsts[row.context]
        is_bytes = row.operation == Operation.BYTES
        is_start = row.operation == Operation.START
        is_end = row.operation == Operation.END
        is_complete = is_bytes & ((row.low + row.count) >= BANKS) & ~row.quiet
        m.d.comb += [
            word.first.eq(Mux(is_start, row.low, first)),
            word.count.eq(Mux(is_complete, BANKS - first, Mux(is_end & ~row.quiet, row.low - first, 0))),
            word.context.eq(row.context),
            word.start.eq(is_start),
            word.end.eq(is_end),
            queue.i.valid.eq(self.i.valid & (is_complete | is_start | is_end)),
        ]
        self._hold(m, row, word, is_start)
        with m.If(self.i.valid):
            with m.If(is_start | is_end):
                m.d.sync += self._firsts[row.context].eq(row.low)
            with m.Elif(is_complete):
                m.d.sync += self._firsts[row.context].eq(0)
            m.d.sync += Assert(row.quiet | is_start | (row.low >= first), "a word ends before it begins")
        with m.If(queue.i.valid):
            m.d.sync += Assert(queue.i.ready, "no room for an output word")
        return m

    def _hold(self, m, row, word, is_start):
        """Keep the newest byte of each bank; of a complete word, the row has those from ``low`` on."""
        value = []
        for bank in range(BANKS):
            m.submodules[f"held_{bank}"] = held = Memory(shape=8, depth=self.contexts, init=[])
            r_port, w_port = held.read_port(domain="comb"), held.write_port()
            m.d.comb += [
                r_port.addr.eq(row.context),
                w_port.addr.eq(row.context),
                w_port.data.eq(row.data[bank]),
                w_port.en.eq(self.i.valid & ((bank - row.low)[:3] < row.count)),
            ]
            value.append(Mux((bank >= row.low) & (row.count != 0), row.data[bank], r_port.data))
        flags = row.flags.as_value()
        for bank in range(BANKS):
            flag = flags[8 * bank:8 * bank + 8]
            m.d.comb += word.data[8 * bank:8 * bank + 8].eq(Mux(is_start, flag if len(flag) else 0, value[bank]))
