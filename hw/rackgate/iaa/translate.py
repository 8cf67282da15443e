# SPDX-License-Identifier: Apache-2.0
"""Address translation between an engine and memory."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.addresspath import AddressPath, PathParameters
from rackgate.iaa.misses import Fault, Misses
from rackgate.iaa.pagerequest import PageAnswer, PageQuestion
from rackgate.iaa.refuser import Refuser
from rackgate.iaa.walker import WALK_BUS
from rackgate.iaa.work import Space
from rackgate.iaa.writepath import WritePath
from rackgate.stream.queue import Queue

__all__ = ["Translator"]


class Translator(wiring.Component):
    """Translate the addresses of an engine's bursts, each in the address space of its context.

    Without ``Space.translate`` addresses pass as they are. Bursts of a context keep their order in each direction;
    one that must wait for its translation is parked, with its data, and other contexts' overtake it. A burst whose
    page is not there, or is written and not writable, is a fault: if the space blocks, the host is asked and the burst
    waits for its answer; else, or when the answer is no, ``fault`` says so, and all bursts of the context
    are answered with SLVERR and reach no memory until ``clear``. An answer never overtakes an earlier one of its
    context and direction. ``clear`` and changes of a space must come when the context has nothing under way.

    Each context and direction keeps its last translation, which costs nothing: the address of a read takes
    1 cycle, that of a write 2, its data 1, and answers none; a beat a cycle goes in each direction, and an address.
    Another page takes 9 to 9 + 3 * contexts cycles more if the TLB has it, else a walk longer; the engine's contexts
    are served in turn. A context with ``depth`` bursts of a direction parked holds up the others in it.

    ``i.ar.ready`` and ``i.aw.ready`` depend combinationally on the payload, ``i.ar.ready`` on ``o.ar.ready``;
    answers pass combinationally. Reset forgets all; the bus must be quiet then.

    Parameters
    ----------
    parameters:
        See :class:`~rackgate.iaa.addresspath.PathParameters`.
    entries:
        Of the TLB.

    Members
    -------
    i: the engine, with virtual addresses. o: memory.
    walk: AXI4 read channels ``ar`` and ``r`` of the walks.
    space: of each context.
    fault, clear: of each context: its first fault, and that it may go on.
    cut: bursts of these contexts are answered with SLVERR as after a fault, as long as it is high. It must not fall
    before the context has nothing under way.
    o_question, i_answer: page requests, for :class:`~rackgate.iaa.pagerequest.PageRequests`.
    invalidate: forget all translations.
    hits, misses, faults: how many accesses this cycle that had their translation here, that needed a walk, and walks
    that found no page.
    """

    def __init__(self, parameters: PathParameters, *, entries: int = 64):
        self.parameters = parameters
        contexts = parameters.contexts
        self._misses = Misses(contexts=contexts, entries=entries)
        self._reads, self._writes = AddressPath(parameters, write=False), AddressPath(parameters, write=True)
        self._data = WritePath(parameters)
        super().__init__({
            "i": In(parameters.bus), "o": Out(parameters.bus),
            "walk_ar": WALK_BUS.members["ar"], "walk_r": WALK_BUS.members["r"],
            "space": In(data.ArrayLayout(Space, contexts)),
            "fault": Out(data.ArrayLayout(Fault, contexts)), "clear": In(contexts), "cut": In(contexts),
            "o_question": Out(stream.Signature(PageQuestion)), "i_answer": In(PageAnswer),
            "invalidate": In(1), "hits": Out(2), "misses": Out(1), "faults": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.misses = misses = self._misses
        m.submodules.reads = reads = self._reads
        m.submodules.writes = writes = self._writes
        m.submodules.read_answers = read_answers = Refuser(self.parameters, write=False)
        m.submodules.write_answers = write_answers = Refuser(self.parameters, write=True)
        self._connect_misses(m, misses, reads, writes)

        wiring.connect(m, wiring.flipped(self.i.ar), reads.i)
        wiring.connect(m, reads.o, wiring.flipped(self.o.ar))
        wiring.connect(m, reads.o_refused, read_answers.i_refused)
        m.d.comb += [reads.released.eq(reads.unparked), reads.released_context.eq(reads.unparked_context)]
        for path, answers, name in ((reads, read_answers, "r"), (writes, write_answers, "b")):
            wiring.connect(m, wiring.flipped(getattr(self.o, name)), answers.i)
            wiring.connect(m, answers.o, wiring.flipped(getattr(self.i, name)))
            m.d.comb += [path.answered.eq(answers.answered), path.answered_context.eq(answers.answered_context)]
        self._connect_writes(m, writes, write_answers)
        return m

    def _connect_misses(self, m, misses, reads, writes):
        for name in ("walk_ar", "walk_r"):
            wiring.connect(m, getattr(misses, name[5:]), wiring.flipped(getattr(self, name)))
        wiring.connect(m, misses.o_question, wiring.flipped(self.o_question))
        m.d.comb += [
            misses.space.eq(self.space), misses.clear.eq(self.clear), misses.i_answer.eq(self.i_answer),
            misses.cut.eq(self.cut), misses.invalidate.eq(self.invalidate), self.fault.eq(misses.fault),
            self.hits.eq(reads.hit + writes.hit + misses.found), self.misses.eq(misses.miss),
            self.faults.eq(misses.faulted),
        ]
        failed = Cat(self.fault[k].valid for k in range(self.parameters.contexts)) | self.cut
        for write, path in enumerate((reads, writes)):
            m.d.comb += [
                path.space.eq(self.space), path.failed.eq(failed), path.hold.eq(misses.hold[write]),
                misses.want[write].eq(path.want), misses.address[write].eq(path.address),
                path.select.eq(misses.select), path.invalidate.eq(self.invalidate), path.fill.eq(misses.fill),
                path.fill_context.eq(misses.fill_context),
                path.fill_valid.eq(misses.fill_valid & (misses.fill_write == write)),
            ]

    def _connect_writes(self, m, writes, answers):
        """Addresses of writes go out with a note for their data; refused ones leave a note alone."""
        m.submodules.data = beats = self._data
        m.submodules.addresses = addresses = Queue(self.o.aw.signature.members["payload"].shape, depth=2)
        wiring.connect(m, wiring.flipped(self.i.aw), writes.i)
        wiring.connect(m, addresses.o, wiring.flipped(self.o.aw))
        wiring.connect(m, wiring.flipped(self.i.w), beats.i_w)
        wiring.connect(m, beats.o_w, wiring.flipped(self.o.w))
        # The ready of these queues stays once it is high, until something is put in.
        passes, refused = Signal(), writes.o_refused.payload
        sends, drops = Signal(), Signal()
        m.d.comb += [
            passes.eq(writes.o.valid & writes.o.ready),
            writes.o.ready.eq(1),
            writes.open.eq(addresses.i.ready & beats.o_burst.ready & (writes.o_source | beats.i_burst.ready)),
            writes.park_open.eq(beats.i_burst.ready),
            addresses.i.valid.eq(passes),
            addresses.i.payload.eq(writes.o.payload),
            sends.eq(passes & ~writes.o_source),
            beats.i_burst.valid.eq(sends | writes.parking),
            beats.i_burst.payload.is_parked.eq(writes.parking),
            beats.i_burst.payload.context.eq(writes.context),
        ]
        # A refused burst: its data away, then its answer. One at a time.
        is_dropping, is_dropped = Signal(), Signal()
        m.d.comb += [
            drops.eq(writes.o_refused.valid & ~is_dropping & ~is_dropped & ~passes),
            beats.o_burst.valid.eq(passes | drops),
            beats.o_burst.payload.is_refused.eq(~passes),
            beats.o_burst.payload.is_parked.eq(writes.o_source | ~passes),
            answers.i_refused.valid.eq(is_dropped),
            answers.i_refused.payload.eq(refused),
            writes.o_refused.ready.eq(is_dropped & answers.i_refused.ready),
            writes.released.eq(beats.released),
            writes.released_context.eq(beats.released_context),
        ]
        with m.If(passes):
            m.d.comb += [beats.o_burst.payload.context.eq(writes.context),
                         beats.o_burst.payload.len.eq(writes.o.payload.len)]
        with m.Else():
            m.d.comb += [beats.o_burst.payload.context.eq(refused.context),
                         beats.o_burst.payload.len.eq(refused.len)]
        with m.If(drops & beats.o_burst.ready):
            m.d.sync += is_dropping.eq(1)
        with m.If(beats.released & beats.is_refused):
            m.d.sync += [is_dropping.eq(0), is_dropped.eq(1)]
        with m.Elif(writes.o_refused.ready):
            m.d.sync += is_dropped.eq(0)
