# SPDX-License-Identifier: Apache-2.0
"""The copier: carries out entries, in a window of up to 32 KiB for each context."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from rackgate.inflate.admission import Admission
from rackgate.inflate.chunker import Chunker
from rackgate.inflate.entry import Entry, OutputWord
from rackgate.inflate.history import History
from rackgate.inflate.rows import RowAssembler
from rackgate.inflate.steps import ContextResult, check_contexts, check_window, step_layout
from rackgate.stream.queue import Queue

__all__ = ["Copier"]


class Copier(wiring.Component):
    """Carry out a stream of entries; put out the bytes in words, and a result for each run.

    Eight bytes a cycle of any match, at any alignment and any distance; one TOKEN a cycle if its bytes are
    at most 8; 4 bytes of RAW a cycle. A word comes out about eight cycles after the entry that completes it
    went in. See ``Admission`` for bounds, errors and resuming, ``History`` for the window.

    Parameters
    ----------
    contexts:
        How many contexts have a window, 1 to 8. Entries of different contexts may alternate between runs.
    window:
        Bytes that a match can reach back, a power of two from 64 to 32768.

    Members
    -------
    i:
        Entries. ``ready`` does not depend on ``o.ready``.
    o:
        Output words, every one that belongs to a run before the ``end`` of its segment. After ``end`` the
        next bytes follow at the place in the word where the segment stopped, unless a START resets the history.
    o_result:
        Results, one for each MARK; may be ahead of the run's last words.
    fault:
        Per context: what follows in the run under way is being dropped, up to its MARK.

    Reset forgets all contexts and drops words in the queue (see the parts for what is kept in RAM).
    """

    i: stream.Interface
    o: stream.Interface
    o_result: stream.Interface

    def __init__(self, *, contexts=2, window=32768):
        self.contexts = check_contexts(contexts)
        self.window = check_window(window)
        super().__init__({
            "i": In(stream.Signature(Entry)),
            "o": Out(stream.Signature(OutputWord)),
            "o_result": Out(stream.Signature(ContextResult)),
            "fault": Out(self.contexts),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.admission = admission = Admission(contexts=self.contexts, window=self.window)
        m.submodules.chunker = chunker = Chunker(window=self.window)
        m.submodules.history = history = History(contexts=self.contexts, window=self.window)
        m.submodules.rows = rows = RowAssembler(contexts=self.contexts)
        connect(m, flipped(self.i), admission.i)
        # Cuts the path from the chunker's ready to the queue of entries.
        m.submodules.steps = steps = Queue(step_layout(self.window), depth=2)
        connect(m, admission.o, steps.i)
        connect(m, steps.o, chunker.i)
        connect(m, history.o, rows.i)
        connect(m, rows.o, flipped(self.o))
        connect(m, admission.o_result, flipped(self.o_result))
        # Nothing can stop between the chunker and the queue of words, so a chunk starts only if its word will fit.
        m.d.comb += [
            self.fault.eq(admission.fault),
            history.i.payload.eq(chunker.o.payload),
            history.i.valid.eq(chunker.o.valid & rows.go),
            chunker.o.ready.eq(rows.go),
        ]
        return m
