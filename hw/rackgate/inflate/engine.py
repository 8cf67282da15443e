# SPDX-License-Identifier: Apache-2.0
"""The inflate engine: tasks in, completion records out, memory in between."""

import operator

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.dma.writer import Writer
from rackgate.inflate.pipe import Pipe
from rackgate.inflate.record import Outcome
from rackgate.inflate.slot import Slot
from rackgate.inflate.task import ADDR_WIDTH, Task
from rackgate.stream.arbiter import Arbiter

__all__ = ["Engine"]


class Engine(wiring.Component):
    """Decompress for several contexts: their headers in parallel, their bodies in turn.

    Each context has a task under way; while one context's block is decoded and copied, the others read
    their sources and headers ahead. Records come in the order in which jobs end.

    Parameters
    ----------
    contexts:
        Contexts, 1 to 8. window: bytes of history of each, 4096 or 32768. lanes: source bits decoded a
        cycle, 8 or 16. extended: the checks that ``entry.Options`` can ask for are there.

    Members
    -------
    i: tasks, a stream a context. o: records. now: the cycle counter. busy: a task is under way.
    ar, r: read channels, one pair a context. aw, w, b: write channels of the output, id = context.

    Reset forgets all tasks, streams and history (block RAM keeps its bytes, but nothing refers to them).
    """

    def __init__(self, *, contexts: int = 2, window: int = 32768, lanes: int = 16, extended: bool = False):
        self.contexts = operator.index(contexts)
        self.window = operator.index(window)
        self.lanes = operator.index(lanes)
        self._pipe = Pipe(contexts=contexts, window=window, lanes=lanes, extended=extended)
        self._writer = Writer(addr_width=ADDR_WIDTH, id_width=3, contexts=self.contexts)
        self._slots = [Slot(context=context, lanes=lanes) for context in range(self.contexts)]
        read = AXI4Signature(addr_width=ADDR_WIDTH, id_width=1)
        write = AXI4Signature(addr_width=ADDR_WIDTH, id_width=3)
        super().__init__({
            "i": In(stream.Signature(Task)).array(self.contexts),
            "o": Out(stream.Signature(Outcome)),
            "now": In(64),
            "busy": Out(1),
            "ar": read.members["ar"].array(self.contexts),
            "r": read.members["r"].array(self.contexts),
            "aw": write.members["aw"],
            "w": write.members["w"],
            "b": write.members["b"],
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.pipe = pipe = self._pipe
        m.submodules.writer = writer = self._writer
        m.submodules.records = records = Arbiter(Outcome, self.contexts)
        wiring.connect(m, pipe.o, writer.i)
        wiring.connect(m, records.o, wiring.flipped(self.o))
        for name in ("aw", "w", "b"):
            wiring.connect(m, getattr(writer, name), wiring.flipped(getattr(self, name)))
        busy = []
        for context, slot in enumerate(self._slots):
            m.submodules[f"slot_{context}"] = slot
            busy.append(slot.busy)
            wiring.connect(m, wiring.flipped(self.i[context]), slot.i)
            wiring.connect(m, slot.o, records.i[context])
            for name in ("ar", "r"):
                wiring.connect(m, getattr(slot, name), wiring.flipped(getattr(self, name)[context]))
            for ours, theirs in (("o_entry", "i_entry"), ("o_run", "i_run"), ("i_stop", "o_stop"),
                                 ("i_outcome", "o_outcome"), ("i_summary", "o_summary")):
                wiring.connect(m, getattr(slot, ours), getattr(pipe, theirs)[context])
            m.d.comb += [
                slot.now.eq(self.now),
                slot.writer_idle.eq(writer.idle[context]),
                slot.writer_error.eq(writer.errors[context]),
                writer.address[context].eq(slot.destination),
                slot.grant.eq(pipe.grant[context]),
                slot.fault.eq(pipe.fault[context]),
                slot.want_block.eq(pipe.want_block[context]),
                pipe.has_block[context].eq(slot.has_block),
                pipe.block[context].eq(slot.block),
                pipe.block_count[context].eq(slot.block_count),
                pipe.want[context].eq(slot.want),
                pipe.options[context].eq(slot.options),
                pipe.tables[context].eq(slot.tables),
                pipe.writes[context].eq(slot.o_symbol),
            ]
        m.d.comb += self.busy.eq(sum(busy) != 0)
        return m
