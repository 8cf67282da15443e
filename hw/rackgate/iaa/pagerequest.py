# SPDX-License-Identifier: Apache-2.0
"""Page requests of all engines, on their way to the host and back."""

import operator

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import PageResponse
from rackgate.iaa.tlb import PAGE_WIDTH
from rackgate.stream.arbiter import Arbiter
from rackgate.stream.queue import Queue

__all__ = ["PageAnswer", "PageQuestion", "PageRequests", "ShownRequest"]


class PageQuestion(data.Struct):
    """An engine asks the host for a page. ``write``: it is to be written."""

    page: PAGE_WIDTH
    write: 1
    queue: 3
    context: 3


class PageAnswer(data.Struct):
    """The question of ``context`` and ``write`` is answered in this cycle, if ``valid``.

    With ``success`` the page may be there now; else there is none, or nobody answered in time (``timeout``).
    """

    valid: 1
    context: 3
    write: 1
    success: 1
    timeout: 1


class ShownRequest(data.Struct):
    """What the registers PAGE_REQUEST and PAGE_ADDRESS show. Fields are zero without ``valid``."""

    valid: 1
    write: 1
    engine: 4
    queue: 3
    page: PAGE_WIDTH


class PageRequests(wiring.Component):
    """Show the host page requests in the order they came in, and hand its answers to the engines.

    ``respond`` answers the request that is shown; without one it does nothing. A request that is not answered
    ``timeout`` cycles after it came in is answered as timed out once it is the one shown. A host that answers
    too late may so answer the next request: PageResponse.SUCCESS does no harm then, as the tables are walked again.

    Between two requests shown there is at least a cycle with ``raised``. Each ``i[k].ready`` depends
    combinationally on the ``valid`` of all. Reset forgets the requests; the engines must be reset with it.

    Parameters
    ----------
    engines:
        Engines, 1 to 16.
    depth:
        Requests that are kept. An engine has at most two a context: with room for all, none has to wait.

    Members
    -------
    i: questions, a stream an engine. o: answers, one for each engine.
    shown: the oldest request. raised: high in the first cycle of each.
    respond, code: the host's answer (``abi.PageResponse``). timeout: cycles, 0 for never.
    """

    def __init__(self, *, engines: int = 1, depth: int = 16):
        self.engines = operator.index(engines)
        self.depth = operator.index(depth)
        if not 1 <= self.engines <= 16:
            raise ValueError(f"engines must be 1 to 16, not {engines}")
        super().__init__({
            "i": In(stream.Signature(PageQuestion)).array(self.engines),
            "o": Out(PageAnswer).array(self.engines),
            "shown": Out(ShownRequest),
            "raised": Out(1),
            "respond": In(1),
            "code": In(4),
            "timeout": In(32),
        })

    def elaborate(self, platform):
        m = Module()
        entry = data.StructLayout({"question": PageQuestion, "engine": 4, "time": 32})
        m.submodules.turns = turns = Arbiter(PageQuestion, self.engines)
        m.submodules.queue = queue = Queue(entry, depth=self.depth)
        for ours, theirs in zip(self.i, turns.i, strict=True):
            wiring.connect(m, wiring.flipped(ours), theirs)
        now, age, is_shown, is_late, is_answered = Signal(32), Signal(32), Signal(), Signal(), Signal()
        head = Signal(entry)
        m.d.sync += [now.eq(now + 1), self.raised.eq(0)]
        m.d.comb += [
            queue.i.valid.eq(turns.o.valid),
            turns.o.ready.eq(queue.i.ready),
            queue.i.payload.question.eq(turns.o.payload),
            queue.i.payload.engine.eq(turns.source),
            queue.i.payload.time.eq(now),
            queue.o.ready.eq(~is_shown),
            is_answered.eq(is_shown & (self.respond | is_late)),
        ]
        with m.If(~is_shown):
            m.d.sync += [head.eq(queue.o.payload), is_shown.eq(queue.o.valid), self.raised.eq(queue.o.valid)]
        with m.Else():
            m.d.sync += [
                age.eq(now - head.time),
                is_late.eq((self.timeout != 0) & (age >= self.timeout) & ~self.raised),
            ]
        with m.If(is_answered):
            m.d.sync += [is_shown.eq(0), is_late.eq(0)]

        question = head.question
        with m.If(is_shown):
            m.d.comb += [
                self.shown.valid.eq(1), self.shown.write.eq(question.write), self.shown.engine.eq(head.engine),
                self.shown.queue.eq(question.queue), self.shown.page.eq(question.page),
            ]
        for k, answer in enumerate(self.o):
            m.d.comb += [
                answer.valid.eq(is_answered & (head.engine == k)),
                answer.context.eq(question.context),
                answer.write.eq(question.write),
                answer.success.eq(self.respond & (self.code == PageResponse.SUCCESS)),
                answer.timeout.eq(~self.respond),
            ]
        return m
