# SPDX-License-Identifier: Apache-2.0
"""The address channel of one direction: translated, or parked until it can be."""

import operator

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from rackgate.axi.bus import AXI4Signature
from rackgate.iaa.tlb import Translation
from rackgate.iaa.work import Space
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["AddressPath", "PathParameters", "Refusal"]

#: Bursts of a context that may be unanswered.
_OUTSTANDING = 63


class PathParameters:
    """How an engine uses its bus.

    Parameters
    ----------
    contexts:
        Contexts, 1 to 8.
    id_width, id_shift:
        Bits of the AXI id; the context's number stands in it from bit ``id_shift`` on.
    depth:
        Bursts of a kind that can be parked for each context, a power of two, at least 2.
    burst:
        Greatest beats in a burst of writes, a power of two up to 256.

    Raises
    ------
    ValueError, TypeError
        When one is out of range or no integer.
    """

    def __init__(self, *, contexts: int = 2, id_width: int = 4, id_shift: int = 0, depth: int = 16, burst: int = 16):
        self.contexts = operator.index(contexts)
        self.id_shift = operator.index(id_shift)
        self.depth = operator.index(depth)
        self.burst = operator.index(burst)
        self.bus = AXI4Signature(addr_width=ADDR_WIDTH, id_width=id_width)
        self.context_bits = ceil_log2(self.contexts)
        if not 1 <= self.contexts <= 8:
            raise ValueError(f"contexts must be 1 to 8, not {contexts}")
        if self.id_shift < 0 or self.id_shift + self.context_bits > self.bus.id_width:
            raise ValueError(f"id_shift must leave room for {self.contexts} contexts in {self.bus.id_width} bits, "
                             f"not be {id_shift}")
        if self.depth < 2 or self.depth & self.depth - 1:
            raise ValueError(f"depth must be a power of two and at least 2, not {depth}")
        if self.burst not in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"burst must be a power of two from 1 to 256, not {burst}")

    def context_of(self, id):
        """The context's number in an AXI id."""
        return id[self.id_shift:self.id_shift + self.context_bits]

    @property
    def refusal(self) -> data.StructLayout:
        """See :data:`Refusal`."""
        return Refusal(self.bus.id_width)


def Refusal(id_width: int) -> data.StructLayout:
    """A burst that is to be answered with errors."""
    return data.StructLayout({"context": 3, "id": id_width, "len": 8})


class AddressPath(wiring.Component):
    """Translate the bursts of one direction with the last translation of their context; park those that wait.

    Bursts come in at ``i`` in order. One whose page is the last that was translated for its context passes; so
    does every one of a context without translation. One that misses is parked, and so are those of
    its context behind it: bursts of a context keep their order. The first parked of a context tries again in
    its turn; when it misses, ``want`` asks for a translation, which ``fill`` brings. The parked bursts of a context
    that has ``failed`` come out at ``o_refused`` instead, each when all earlier ones of the context are answered.

    Latency 1 cycle, a burst a cycle; from ``fill`` to ``o`` at most ``contexts`` + 1 cycles. A context with
    ``depth`` bursts parked holds up the others at ``i``. ``i.ready`` depends combinationally on ``i.payload`` and
    ``o.ready``. ``o`` may only withdraw a burst while ``open`` is low. Reset forgets all.

    Parameters
    ----------
    parameters: see :class:`PathParameters`. write: the bursts are writes, and need writable pages.

    Members
    -------
    i, o: bursts. open: ``o`` may offer one. o_source: whether the burst at ``o`` was parked.
    parking, park_open: the burst of ``context`` that came in last is parked; that it may be.
    context: of what is at ``o``, or is parked.
    space, failed: of each context.
    hold: a context's first parked burst is being looked after, and must not be refused.
    answered, answered_context: a burst is answered. released, released_context: a parked one needs no room any more.
    want: contexts whose first parked burst needs a translation. select, address: the address of one's.
    fill_valid, fill_context, fill: a translation for a context's first parked burst.
    invalidate: forget all translations. hit: a burst passes that never had to be asked for.
    o_refused: bursts to be answered with errors. unparked, unparked_context: one leaves the parked.
    """

    def __init__(self, parameters: PathParameters, *, write: bool):
        self.parameters = parameters
        self.write = bool(write)
        contexts, address = parameters.contexts, parameters.bus.members["aw"].signature
        number = range(contexts)
        super().__init__({
            "i": In(address), "o": Out(address), "open": In(1, init=1), "o_source": Out(1),
            "parking": Out(1), "park_open": In(1, init=1), "context": Out(number),
            "space": In(data.ArrayLayout(Space, contexts)), "failed": In(contexts), "hold": In(contexts),
            "answered": In(1), "answered_context": In(number),
            "released": In(1), "released_context": In(number),
            "want": Out(contexts), "select": In(number), "address": Out(ADDR_WIDTH),
            "fill_valid": In(1), "fill_context": In(number), "fill": In(Translation),
            "invalidate": In(1), "hit": Out(1),
            "o_refused": Out(stream.Signature(parameters.refusal)),
            "unparked": Out(1), "unparked_context": Out(number),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        depth = parameters.depth
        self._request, self._has_request = Signal(address.members["payload"].shape), Signal()
        self._is_parked = Signal()  # the request stands first among the parked, too
        self._is_sure = Signal()  # it has been offered
        self._known = Array(Signal(name=f"known_{k}") for k in number)
        self._missed = Array(Signal(name=f"missed_{k}") for k in number)
        self._level = Array(Signal(range(depth + 1), name=f"level_{k}") for k in number)
        self._held = Array(Signal(range(depth + 1), name=f"held_{k}") for k in number)
        self._write_at = Array(Signal(range(depth), name=f"write_at_{k}") for k in number)
        self._read_at = Array(Signal(range(depth), name=f"read_at_{k}") for k in number)
        self._unanswered = Array(Signal(range(_OUTSTANDING + 1), name=f"unanswered_{k}") for k in number)
        self._turn, self._refuses = Signal(number), Signal()

    def elaborate(self, platform):
        m = Module()
        contexts, depth = self.parameters.contexts, self.parameters.depth
        m.submodules.last = last = Memory(shape=Translation, depth=contexts, init=[])
        m.submodules.parked = parked = Memory(shape=self._request.shape(), depth=contexts * depth, init=[])
        first, chosen = parked.read_port(domain="comb"), parked.read_port(domain="comb")
        park = parked.write_port()
        context, passes, may_pass = self.context, Signal(), Signal()
        m.d.comb += [
            context.eq(self.parameters.context_of(self._request.id)),
            first.addr.eq(self._turn * depth + self._read_at[self._turn]),
            chosen.addr.eq(self.select * depth + self._read_at[self.select]),
            self.address.eq(chosen.data.addr),
            park.addr.eq(context * depth + self._write_at[context]),
            park.data.eq(self._request),
            park.en.eq(self.parking),
            passes.eq(self.o.valid & self.o.ready),
        ]
        self._translate(m, last, may_pass)

        # What becomes of the request.
        returns, leaves, is_asked = Signal(), Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(self._has_request & may_pass & self.open),
            self.o_source.eq(self._is_parked),
            self.parking.eq(self._has_request & ~self._is_parked & ~may_pass & self.park_open
                            & (self._unanswered[context] != _OUTSTANDING)),
            returns.eq(self._has_request & self._is_parked & ~may_pass),
            is_asked.eq(returns & ~self.failed.bit_select(context, 1) & (self._unanswered[context] != _OUTSTANDING)),
            leaves.eq(passes | self.parking | returns),
            self.hit.eq(passes & self.space[context].translate & ~(self._is_parked & self._missed[context])),
        ]
        m.d.sync += self._is_sure.eq(self._has_request & may_pass & ~leaves)
        self._ask(m, context, is_asked, passes)
        self._choose(m, first, leaves)
        self._count(m, context, passes)
        return m

    def _translate(self, m, last, may_pass):
        """Whether the request may pass, and its address in memory."""
        space, r_port, w_port = self.space[self.context], last.read_port(domain="comb"), last.write_port()
        known, is_known = r_port.data, Signal()
        m.d.comb += [
            r_port.addr.eq(self.context),
            w_port.addr.eq(self.fill_context),
            w_port.data.eq(self.fill),
            w_port.en.eq(self.fill_valid),
            is_known.eq(self._known[self.context] & (known.page == self._request.addr[12:])
                        & (known.queue == space.queue)),
            may_pass.eq(self._is_sure | (~space.translate | is_known) & ~self.failed.bit_select(self.context, 1)
                        & (self._is_parked | (self._level[self.context] == 0))
                        & (self._unanswered[self.context] != _OUTSTANDING)),
            self.o.payload.eq(self._request),
        ]
        with m.If(space.translate):
            m.d.comb += self.o.payload.addr.eq(Cat(self._request.addr[:12], known.frame))
        with m.If(w_port.en):
            m.d.sync += self._known[self.fill_context].eq(1)
            # So what is known of a path of writes may be written.
            m.d.sync += Assert(self.fill.writable | (not self.write), "a page to be written is filled in read-only")
        with m.If(self.invalidate):
            m.d.sync += [known.eq(0) for known in self._known]

    def _ask(self, m, context, is_asked, passes):
        """``want`` lasts from a miss of the first parked burst to its translation, ``missed`` until it passes."""
        with m.If(passes):
            m.d.sync += self._missed[context].eq(0)
        with m.If(self.fill_valid):
            m.d.sync += self.want.bit_select(self.fill_context, 1).eq(0)
        with m.If(is_asked):
            m.d.sync += [self.want.bit_select(context, 1).eq(1), self._missed[context].eq(1)]

    def _choose(self, m, first, leaves):
        """The next request: the first parked of the context whose turn it is, or what comes in."""
        is_free, is_first_here, is_ours, comes = Signal(), Signal(), Signal(), self.parameters.context_of(
            self.i.payload.id)
        turn, may_go, retries = self._turn, Signal(), Signal()
        is_failed = self.failed.bit_select(turn, 1)
        m.d.sync += turn.eq(Mux(turn == self.parameters.contexts - 1, 0, turn + 1))
        m.d.comb += [
            is_free.eq(~self._has_request | leaves),
            is_ours.eq(self._has_request & (self.context == comes)),
            is_first_here.eq(self._has_request & self._is_parked & (self.context == turn)),
            may_go.eq((self._level[turn] != 0) & ~is_first_here & ~self.hold.bit_select(turn, 1)),
            retries.eq(may_go & ~is_failed & ~self.want.bit_select(turn, 1)),
            # With the request at hand parked, too, there is still room.
            self.i.ready.eq(is_free & ~retries & (self._held[comes] + (is_ours & ~self._is_parked)
                                                  < self.parameters.depth)),
        ]
        with m.If(is_free):
            m.d.sync += [
                self._has_request.eq(retries | self.i.valid & self.i.ready),
                self._is_parked.eq(retries),
                self._request.eq(Mux(retries, first.data, self.i.payload)),
            ]

        refuses, passes = self._refuses, self.o.valid & self.o.ready & self._is_parked
        m.d.comb += [
            refuses.eq(may_go & is_failed & (self._unanswered[turn] == 0) & ~self.o_refused.valid & ~passes),
            self.unparked.eq(refuses | passes),
            self.unparked_context.eq(Mux(refuses, turn, self.context)),
        ]
        with m.If(refuses):
            m.d.sync += [
                self.o_refused.valid.eq(1),
                self.o_refused.payload.context.eq(turn),
                self.o_refused.payload.id.eq(first.data.id),
                self.o_refused.payload.len.eq(first.data.len),
                self.want.bit_select(turn, 1).eq(0),
                self._missed[turn].eq(0),
            ]
        with m.Elif(self.o_refused.ready):
            m.d.sync += self.o_refused.valid.eq(0)

    def _count(self, m, context, passes):
        for k in range(self.parameters.contexts):
            parks, sent = self.parking & (context == k), passes & (context == k)
            leaves, done = self.unparked & (self.unparked_context == k), self.answered & (self.answered_context == k)
            m.d.sync += [
                self._level[k].eq(self._level[k] + parks - leaves),
                self._held[k].eq(self._held[k] + parks - (self.released & (self.released_context == k))),
                # A refused burst gets an answer, too.
                self._unanswered[k].eq(self._unanswered[k] + (sent | self._refuses & leaves) - done),
                Assert(~done | (self._unanswered[k] != 0), "an answer to a burst that was not sent"),
                Assert(self._level[k] <= self._held[k], "a burst is parked without room"),
            ]
            with m.If(parks):
                m.d.sync += self._write_at[k].eq(self._write_at[k] + 1)
            with m.If(leaves):
                m.d.sync += self._read_at[k].eq(self._read_at[k] + 1)
