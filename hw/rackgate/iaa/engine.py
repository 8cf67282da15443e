# SPDX-License-Identifier: Apache-2.0
"""One engine of the device: lanes around an inflate engine, behind address translation."""

import operator

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4Signature
from rackgate.axi.read_arbiter import ReadArbiter
from rackgate.axi.write_arbiter import WriteArbiter
from rackgate.iaa.abi import QUEUES, Opcode
from rackgate.iaa.addresspath import PathParameters
from rackgate.iaa.lane import Lane
from rackgate.iaa.lister import Lister
from rackgate.iaa.pagerequest import PageAnswer, PageQuestion
from rackgate.iaa.record import CompletionWriter, RecordJob
from rackgate.iaa.translate import Translator
from rackgate.iaa.utility import Utility, UtilityJob
from rackgate.iaa.work import ErrorReport, Work
from rackgate.inflate.engine import Engine as InflateEngine
from rackgate.inflate.task import ADDR_WIDTH
from rackgate.stream.arbiter import Arbiter

__all__ = ["ENGINE_BUS", "IaaEngine"]

_ID_WIDTH = 4  # on the translator's side: the number of a user from bit 1 on
_WRITER_ID_WIDTH = 3
#: What an engine shows to the memory.
ENGINE_BUS = AXI4Signature(addr_width=ADDR_WIDTH, id_width=_ID_WIDTH + 1)


class IaaEngine(wiring.Component):
    """Carry out descriptors, as many at a time as there are contexts, and one LIST beside them.

    While a LIST of the front's lane ``k`` is under way, the lane that it would have taken is free: for the list's own
    descriptors, which go to any lane. They take turns with the front's.

    The users of memory are, by number: each lane's context, the utility, the completion writer, the lister. Each has
    an address space and faults of its own.

    Parameters
    ----------
    contexts:
        Lanes, 1 to 5. window, lanes: see :class:`rackgate.inflate.engine.Engine`. tlb: entries of the TLB.

    Members
    -------
    i: descriptors, a stream a lane. retired: bit per lane, a strobe: done with one.
    abort: bit per queue. generation, now: AECS_GENERATION, the cycle counter.
    error: what no completion record tells. interrupt: strobe, a descriptor with REQUEST_INTERRUPT has completed.
    completed, consumed, produced: descriptors and bytes to be counted in this cycle. busy: anything is under way.
    o_question, i_answer, invalidate, hits, misses, faults: see :class:`~rackgate.iaa.translate.Translator`.
    mem: AXI4 initiator.

    Reset forgets all descriptors; transactions under way must be reset with it.
    """

    def __init__(self, *, contexts: int = 2, window: int = 32768, lanes: int = 16, tlb: int = 64):
        self.contexts = operator.index(contexts)
        if not 1 <= self.contexts <= 5:
            raise ValueError(f"contexts must be 1 to 5, not {contexts}")
        self._users = self.contexts + 3
        self._utility_user, self._record_user, self._list_user = range(self.contexts, self._users)
        self._inflate = InflateEngine(contexts=contexts, window=window, lanes=lanes, extended=True)
        self._lanes = [Lane(context=context, window=window) for context in range(self.contexts)]
        self._list_lane, self._lister = Lane(context=None, window=window), Lister(lanes=self.contexts)
        self._utility = Utility(window=window)
        self._translator = Translator(PathParameters(contexts=self._users, id_width=_ID_WIDTH, id_shift=1), entries=tlb)
        counts = range(self.contexts + 2)
        super().__init__({
            "i": In(stream.Signature(Work)).array(self.contexts),
            "retired": Out(self.contexts), "abort": In(QUEUES), "generation": In(32), "now": In(64),
            "error": Out(stream.Signature(ErrorReport)), "interrupt": Out(1),
            "completed": Out(counts), "consumed": Out(35), "produced": Out(35), "busy": Out(1),
            "o_question": Out(stream.Signature(PageQuestion)), "i_answer": In(PageAnswer),
            "invalidate": In(1), "hits": Out(2), "misses": Out(1), "faults": Out(1),
            "mem": Out(ENGINE_BUS),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.inflate = inflate = self._inflate
        m.submodules.translator = translator = self._translator
        m.submodules.utility = utility = self._utility
        m.submodules.record = record = CompletionWriter()
        m.submodules.errors = errors = Arbiter(ErrorReport, self.contexts + 1)
        wiring.connect(m, errors.o, wiring.flipped(self.error))
        for number, lane in enumerate([*self._lanes, self._list_lane]):
            m.submodules[f"lane_{number}"] = lane
            wiring.connect(m, lane.o_error, errors.i[number])
            m.d.comb += [
                lane.abort.eq(self.abort), lane.generation.eq(self.generation), lane.now.eq(self.now),
            ]
        for number, lane in enumerate(self._lanes):
            wiring.connect(m, lane.o_task, inflate.i[number])
            m.d.comb += [
                lane.fault.eq(translator.fault[number]), translator.clear[number].eq(lane.clear),
                translator.space[number].eq(lane.space), translator.cut[number].eq(lane.cut),
                # The outcome of a task has its lane as tag.
                lane.i_outcome.payload.eq(inflate.o.payload),
                lane.i_outcome.valid.eq(inflate.o.valid & (inflate.o.payload.record.tag == number)),
            ]
        m.d.comb += [
            inflate.now.eq(self.now),
            inflate.o.ready.eq(Array(lane.i_outcome.ready for lane in self._lanes)[inflate.o.payload.record.tag]),
        ]
        self._list(m, translator)
        self._share_utility(m, utility, translator)
        self._share_record(m, record, translator)
        self._read(m, inflate, utility, translator)
        self._write(m, inflate, utility, record, translator)
        self._outside(m, translator)
        self._count(m, inflate, utility, record)
        return m

    def _list(self, m, translator):
        """Who gets what: LISTs go to the list's lane, their descriptors and all others to the lanes."""
        m.submodules.lister = lister = self._lister
        lane, user, holder = self._list_lane, self._list_user, Signal(range(self.contexts))
        wiring.connect(m, lane.o_list, lister.i)
        wiring.connect(m, lister.o_result, lane.i_list)
        m.d.comb += [
            lane.fault.eq(translator.fault[user]), translator.clear[user].eq(lane.clear),
            translator.space[user].eq(lane.space), translator.cut[user].eq(lane.cut),
        ]
        is_given, has_list = Const(0, 1), Const(0, 1)
        for number, (work, other) in enumerate(zip(self.i, self._lanes, strict=True)):
            is_list = work.valid & (work.payload.descriptor.opcode == Opcode.LIST)
            is_other = work.valid & ~is_list
            turn = Signal(name=f"turn_{number}")  # the list's
            # A lane takes what it is offered as soon as it is ready, so no offer is ever taken back.
            gets = lister.o.valid & other.i.ready & (~is_other | turn) & ~is_given
            takes_list = is_list & ~has_list
            m.d.comb += [
                other.i.valid.eq((is_other | gets) & other.i.ready),
                other.i.payload.eq(Mux(gets, lister.o.payload, work.payload)),
                work.ready.eq(Mux(is_list, takes_list & lane.i.ready, other.i.ready & ~gets)),
                self.retired[number].eq((other.retired & ~other.listed) | (lane.retired & (holder == number))),
                lister.retired[number].eq(other.retired & other.listed),
                lister.succeeded[number].eq(other.succeeded),
            ]
            with m.If(takes_list):
                m.d.comb += [lane.i.payload.eq(work.payload), lane.i.valid.eq(1)]
                with m.If(lane.i.ready):
                    m.d.sync += holder.eq(number)
            with m.If(other.i.valid):
                m.d.sync += turn.eq(~gets)
            is_given, has_list = is_given | gets, has_list | is_list
        m.d.comb += lister.o.ready.eq(is_given)

    def _share_utility(self, m, utility, translator):
        """The utility works for one lane at a time, in its address space."""
        user = self._utility_user
        m.submodules.utility_turns = turns = Arbiter(UtilityJob, self.contexts)
        wiring.connect(m, turns.o, utility.i)
        spaces = Array(lane.space for lane in self._lanes)
        m.d.comb += [
            translator.space[user].eq(spaces[utility.lane]),
            translator.clear[user].eq(utility.o.valid & utility.o.ready),
            translator.cut[user].eq(utility.busy & Array(lane.cut for lane in self._lanes)[utility.lane]),
            utility.o.ready.eq(Array(lane.i_result.ready for lane in self._lanes)[utility.lane]),
        ]
        for number, lane in enumerate(self._lanes):
            wiring.connect(m, lane.o_utility, turns.i[number])
            m.d.comb += [
                lane.i_result.payload.eq(utility.o.payload),
                lane.i_result.valid.eq(utility.o.valid & (utility.lane == number)),
                lane.utility_fault.eq(translator.fault[user]),
            ]

    def _share_record(self, m, record, translator):
        """Records are written one at a time, each in its lane's address space."""
        user = self._record_user
        lanes = [*self._lanes, self._list_lane]
        m.submodules.record_turns = turns = Arbiter(RecordJob, len(lanes))
        wiring.connect(m, turns.o, record.i)
        writing = Signal(range(len(lanes)))
        with m.If(record.i.valid & record.i.ready):
            m.d.sync += writing.eq(turns.source)
        spaces = Array(lane.space for lane in lanes)
        m.d.comb += [
            translator.space[user].eq(spaces[writing]),
            translator.clear[user].eq(record.done),
        ]
        for number, lane in enumerate(lanes):
            wiring.connect(m, lane.o_record, turns.i[number])
            m.d.comb += [
                lane.record_done.eq(record.done & (writing == number)), lane.record_failed.eq(record.failed),
            ]

    def _read(self, m, inflate, utility, translator):
        """Reads: an arbiter whose ports are the users, in front of the translator; the walks go past it."""
        m.submodules.reads = reads = ReadArbiter(self._users, addr_width=ADDR_WIDTH, id_width=1)
        m.submodules.all_reads = both = ReadArbiter(2, addr_width=ADDR_WIDTH, id_width=_ID_WIDTH)
        users = {**dict(enumerate(zip(inflate.ar, inflate.r, strict=True))),
                 self._utility_user: (utility.ar, utility.r), self._list_user: (self._lister.ar, self._lister.r)}
        for number, (ar, r) in users.items():
            wiring.connect(m, ar, reads.i_ar[number])
            wiring.connect(m, r, reads.o_r[number])
        _join(m, reads.o_ar, translator.i.ar)
        _join(m, translator.i.r, reads.i_r)
        for number, (ar, r) in enumerate(((translator.o.ar, translator.o.r),
                                          (translator.walk_ar, translator.walk_r))):
            _join(m, ar, both.i_ar[number])
            _join(m, both.o_r[number], r)
        _join(m, both.o_ar, self.mem.ar)
        _join(m, self.mem.r, both.i_r)

    def _write(self, m, inflate, utility, record, translator):
        """Writes: the arbiter's ids, port above context, are put in terms of users, and back."""
        m.submodules.writes = writes = WriteArbiter(3, addr_width=ADDR_WIDTH, id_width=_WRITER_ID_WIDTH)
        for number, (aw, w, b) in enumerate(((inflate.aw, inflate.w, inflate.b), (utility.aw, utility.w, utility.b),
                                             (record.aw, record.w, record.b))):
            _join(m, aw, writes.i_aw[number])
            _join(m, w, writes.i_w[number])
            _join(m, writes.o_b[number], b)
        _join(m, writes.o_aw, translator.i.aw)
        _join(m, writes.o_w, translator.i.w)
        _join(m, translator.i.b, writes.i_b)
        context, port = Signal(_WRITER_ID_WIDTH), Signal(2)
        user = Signal(_WRITER_ID_WIDTH)
        m.d.comb += [
            Cat(context, port).eq(writes.o_aw.payload.id),
            translator.i.aw.payload.id.eq(Cat(0, Mux(port == 0, context, self._utility_user - 1 + port))),
            user.eq(translator.i.b.payload.id[1:]),
            writes.i_b.payload.id.eq(Mux(user < self.contexts, user,
                                         Cat(context & 0, (user - (self._utility_user - 1))[:2]))),
        ]
        _join(m, translator.o.aw, self.mem.aw)
        _join(m, translator.o.w, self.mem.w)
        _join(m, self.mem.b, translator.o.b)

    def _outside(self, m, translator):
        wiring.connect(m, translator.o_question, wiring.flipped(self.o_question))
        m.d.comb += [
            translator.i_answer.eq(self.i_answer), translator.invalidate.eq(self.invalidate),
            self.hits.eq(translator.hits), self.misses.eq(translator.misses), self.faults.eq(translator.faults),
        ]

    def _count(self, m, inflate, utility, record):
        lanes = [*self._lanes, self._list_lane]
        m.d.comb += self.busy.eq(Cat(lane.busy for lane in lanes).any() | inflate.busy | utility.busy | record.busy)
        m.d.sync += [
            self.interrupt.eq(Cat(lane.retired & lane.interrupt for lane in lanes).any()),
            self.completed.eq(sum(lane.retired for lane in lanes)),
            self.consumed.eq(sum(Mux(lane.retired, lane.consumed, 0) for lane in lanes)),
            self.produced.eq(sum(Mux(lane.retired, lane.produced, 0) for lane in lanes)),
        ]


def _join(m, source, target):
    """Connect two streams whose payloads differ in the width of their ids; ``id`` stays as it is, or is left out."""
    m.d.comb += [target.valid.eq(source.valid), source.ready.eq(target.ready)]
    m.d.comb += [target.payload[name].eq(source.payload[name]) for name, _ in source.payload.shape()]
