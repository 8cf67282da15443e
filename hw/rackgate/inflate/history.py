# SPDX-License-Identifier: Apache-2.0
"""The window: eight byte-wide banks, read and written at any alignment, 8 bytes a cycle.

Position p of the output lives in bank p % 8, row p // 8, so any 8 bytes in a row lie in different banks. A byte
that is copied moves from one bank to another; which one to take it from differs from bank to bank, but one 8:1
selector for each bank is all the rotation there is, because the chunk is also written and put out by banks.

A byte must not be read from block RAM before it is written there. A chunk reads in stage 0 and is written at
the end of stage 3, so the three chunks before it, at most 24 bytes, may still be missing. A match from fewer
than RECENT = 32 bytes back therefore takes all its bytes from the recent rows: the last four bytes of each bank,
in LUT RAM, written in stage 2 and read in stage 2 of the next chunk. Any other match needs no byte from fewer
than 25 back. The far end is safe too: a byte ``window`` back has the place of the byte that replaces it, and a
chunk reads before it writes.
"""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.inflate.steps import BANKS, RECENT, Operation, Row, check_contexts, check_window, chunk_layout

__all__ = ["History"]

#: Rows that hold the recent bytes of a context.
_RECENT_ROWS = RECENT // BANKS


class History(wiring.Component):
    """Carry out chunks: copy, append, remember, and pass the new bytes on.

    One chunk a cycle, latency three cycles, no stalls. Chunks come in the order of positions in each
    context; contexts may alternate at any chunk.

    Parameters
    ----------
    contexts:
        How many contexts have a window, 1 to 8.
    window:
        Bytes that can be referred to in each, a power of two.

    Members
    -------
    i:
        Chunks; always ready.
    o:
        Rows, one for each chunk, always three cycles later; must always be ready.

    Reset empties the pipeline. It clears neither block RAM nor LUT RAM; that is harmless because no step
    refers to a byte that was not written since its START (see ``Admission``).
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, contexts, window):
        self.contexts = check_contexts(contexts)
        self.window = check_window(window)
        super().__init__({
            "i": In(stream.Signature(chunk_layout(self.window), always_ready=True)),
            "o": Out(stream.Signature(Row, always_ready=True)),
        })
        rows = self.window // BANKS
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._banks = [Memory(shape=8, depth=self.contexts * rows, init=[]) for _ in range(BANKS)]
        self._r_ports = [bank.read_port() for bank in self._banks]
        self._recents = [Memory(shape=8, depth=self.contexts * _RECENT_ROWS, init=[]) for _ in range(BANKS)]
        self._chunk_1 = Signal(chunk_layout(self.window))
        self._valid_1 = Signal()
        self._chunk_2 = Signal(chunk_layout(self.window))
        self._valid_2 = Signal()
        self._plan_2 = Signal(data.ArrayLayout(data.StructLayout({
            "select": 3, "is_new": 1, "is_literal": 1, "literal": 8, "source_row": 2, "row": 2,
        }), BANKS))
        self._fetched_2 = Signal(data.ArrayLayout(8, BANKS))
        self._row_3 = Signal(range(rows))
        self._new_3 = Signal(BANKS)

    def elaborate(self, platform):
        m = Module()
        chunk_1, valid_1, chunk_2, valid_2 = self._chunk_1, self._valid_1, self._chunk_2, self._valid_2
        plan_2, fetched_2, row_3, new_3 = self._plan_2, self._fetched_2, self._row_3, self._new_3
        m.d.sync += [
            valid_1.eq(self.i.valid),
            chunk_1.eq(self.i.payload),
            valid_2.eq(valid_1),
            chunk_2.eq(chunk_1),
            self.o.valid.eq(valid_2),
        ]
        for bank in range(BANKS):
            self._plan(m, chunk_1, plan_2[bank], bank)
            self._bank(m, bank, fetched_2[bank], row_3, new_3[bank])

        # Stage 2: the loop. The bytes of one chunk reach the recent rows in time for the next chunk.
        sources = self._sources(m, chunk_2, plan_2, fetched_2)
        for bank in range(BANKS):
            plan = plan_2[bank]
            value = Mux(plan.is_literal, plan.literal, _pick(sources, plan.select))
            m.d.sync += self.o.payload.data[bank].eq(value)
            port = self._recents[bank].write_port()
            m.d.comb += [
                port.addr.eq(Cat(plan.row, chunk_2.context)),
                port.data.eq(value),
                port.en.eq(valid_2 & plan.is_new),
            ]
            m.d.sync += new_3[bank].eq(valid_2 & plan.is_new)

        out = self.o.payload
        m.d.sync += [
            row_3.eq(chunk_2.position[3:]),
            out.low.eq(chunk_2.position),
        ]
        for name in ("operation", "context", "quiet", "flags", "count"):
            m.d.sync += getattr(out, name).eq(getattr(chunk_2, name))
        with m.If(self.i.valid):
            m.d.sync += self._rules(self.i.payload)
        return m

    def _plan(self, m, chunk, plan, bank):
        """What goes into a bank: of the chunk's bytes number ``index``, a copy from bank ``select`` or a literal."""
        low = chunk.position[:3]
        index = Signal(3, name=f"index_{bank}")
        offset = Signal(3, name=f"offset_{bank}")
        m.d.comb += [index.eq(bank - low), offset.eq(index)]
        # A distance below 8 repeats the bytes before the chunk rather than reading bytes of the chunk itself.
        with m.Switch(chunk.repeat):
            for repeat in range(1, 8):
                with m.Case(repeat):
                    with m.Switch(index):
                        for value in range(repeat, 8):
                            with m.Case(value):
                                m.d.comb += offset.eq(value % repeat)
        literal = (index - chunk.copied)[:2]
        m.d.sync += [
            plan.select.eq(chunk.source[:3] + offset),
            plan.is_new.eq(index < chunk.count),
            plan.is_literal.eq(index >= chunk.copied),
            plan.literal.eq(_pick(list(chunk.bytes), literal)),
            plan.source_row.eq(_row_of(chunk.source, bank)),
            plan.row.eq(_row_of(chunk.position, bank)),
        ]

    def _bank(self, m, bank, fetched, row_3, is_new):
        """A bank's block RAM: read in stage 0, its output registered in stage 1, written in stage 3."""
        m.submodules[f"bank_{bank}"] = memory = self._banks[bank]
        r_port, w_port = self._r_ports[bank], memory.write_port()
        i = self.i.payload
        out = self.o.payload
        m.d.comb += [
            r_port.addr.eq(Cat(_row_of(i.source, bank), i.context)),
            w_port.addr.eq(Cat((row_3 + (bank < out.low))[:len(row_3)], out.context)),
            w_port.data.eq(out.data[bank]),
            w_port.en.eq(is_new),
        ]
        m.d.sync += fetched.eq(r_port.data)

    def _sources(self, m, chunk, plan, fetched):
        """For each bank the byte that may be copied from it."""
        sources = []
        for bank in range(BANKS):
            m.submodules[f"recent_{bank}"] = memory = self._recents[bank]
            port = memory.read_port(domain="comb")
            m.d.comb += port.addr.eq(Cat(plan[bank].source_row, chunk.context))
            source = Signal(8, name=f"source_{bank}")
            m.d.comb += source.eq(Mux(chunk.near, port.data, fetched[bank]))
            sources.append(source)
        return sources

    def _rules(self, chunk):
        """What a chunk must keep to, as assertions."""
        distance = (chunk.position - chunk.source)[:len(chunk.position)]
        has_copy = chunk.copied != 0
        return [
            Assert(chunk.count <= BANKS, "a chunk of more than 8 bytes"),
            Assert(chunk.copied <= chunk.count, "a chunk copies more bytes than it has"),
            Assert((chunk.operation == Operation.BYTES) | (chunk.count == 0), "a chunk with bytes where none belong"),
            Assert(~has_copy | (chunk.near == ((distance != 0) & (distance < RECENT))), "near is wrong"),
            Assert(~has_copy | (chunk.repeat == Mux(distance < 8, distance, 0)), "repeat is wrong"),
            Assert(chunk.context < self.contexts, "there is no such context"),
        ]


def _row_of(place, bank):
    """The row in ``bank`` of the one byte there among the 8 from ``place`` on."""
    row = place[3:]
    return (row + (bank < place[:3]))[:len(row)]


def _pick(values, select):
    """``values[select]`` as a tree of two-way selectors, which fits the FPGA's wide multiplexers."""
    for bit in range((len(values) - 1).bit_length()):
        values = [Mux(select[bit], odd, even) for even, odd in zip(values[::2], values[1::2], strict=True)]
    return values[0]
