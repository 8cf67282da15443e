# SPDX-License-Identifier: Apache-2.0
"""From the work queues to the lanes."""

import operator

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import DESCRIPTOR_SIZE, GROUPS, Opcode
from rackgate.iaa.chooser import Chooser
from rackgate.iaa.lane_map import LaneMap
from rackgate.iaa.settings import QueueSettings
from rackgate.iaa.work import RawDescriptor, Work

__all__ = ["Dispatch"]

_WORDS = DESCRIPTOR_SIZE // 8


class Dispatch(wiring.Component):
    """Read the next descriptor from its queue and hand it to a lane.

    Lane ``n`` is of engine ``n // contexts``. A queue's descriptors go only to engines of its groups. Which queue is
    served: :class:`~rackgate.iaa.chooser.Chooser`; which lane: :class:`~rackgate.iaa.lane_map.LaneMap`. Descriptors
    of a queue leave it in order. A DRAIN stays at the head of its queue until every earlier descriptor of the queue
    has retired; other queues go on. One descriptor is under way at a time: it is offered 10 cycles after it was
    chosen (11 with 8 engines), and the next is chosen 3 cycles after it was taken.

    A lane that takes a descriptor is busy until it strobes ``retired``; meanwhile its ``ready`` is not looked at. A
    lane that is ready and not busy stays ready until it takes a descriptor: others may wait for it. ``valid`` does
    not depend on ``ready``. Reset forgets the descriptor under way, which is still in its queue, and all lanes' work.

    Parameters
    ----------
    engines:
        Number of engines, 1 to 8.
    contexts:
        Lanes of an engine, 1 to 8.
    queues, entries:
        As of :class:`~rackgate.iaa.queues.Queues`.

    Members
    -------
    settings:
        Of each queue.
    members, engine_masks:
        Masks of the queues and of the engines of each group.
    abort:
        Bit per queue: hand out its descriptors with ``aborted``.
    has_work, head, read_entry, read_word, data, take, take_queue:
        See :class:`~rackgate.iaa.queues.Queues`. A descriptor is taken off its queue when a lane has it.
    running:
        Bit per queue: a lane has a descriptor of it that it has not retired. It comes when the descriptor leaves the
        queue, so that one of ``has_work`` and ``running`` is high as long as anything is to do.
    o:
        The lanes. ``retired``: strobe for each.
    """

    def __init__(self, *, engines: int = 1, contexts: int = 2, queues: int = 4, entries: int = 64):
        self.queues = operator.index(queues)
        self.entries = operator.index(entries)
        self._map = LaneMap(engines=engines, contexts=contexts, queues=queues)
        self.engines, self.contexts, self.lanes = self._map.engines, self._map.contexts, self._map.lanes
        super().__init__({
            "settings": In(QueueSettings).array(self.queues),
            "members": In(self.queues).array(GROUPS),
            "engine_masks": In(self.engines).array(GROUPS),
            "abort": In(self.queues),
            "has_work": In(self.queues),
            "head": In(range(self.entries)).array(self.queues),
            "read_entry": Out(range(self.entries)),
            "read_word": Out(range(_WORDS)),
            "data": In(64),
            "take": Out(1),
            "take_queue": Out(range(self.queues)),
            "running": Out(self.queues),
            "o": Out(stream.Signature(Work)).array(self.lanes),
            "retired": In(self.lanes),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.map = lane_map = self._map
        m.submodules.chooser = chooser = Chooser(self.queues)
        held, step, raw = Signal(self.queues), Signal(range(_WORDS + 1)), Signal(RawDescriptor)
        queue, is_given, is_offered, is_waiting = self.take_queue, Signal(), Signal(), Signal()
        m.d.comb += [
            chooser.has_work.eq(self.has_work & ~held),
            lane_map.ready.eq(Cat(o.ready for o in self.o)),
            lane_map.retired.eq(self.retired),
            lane_map.queue.eq(queue),
            lane_map.give.eq(is_given),
            self.running.eq(lane_map.running),
            self.take.eq(is_given),
            self.read_word.eq(step),
            is_given.eq(Cat(o.valid & o.ready for o in self.o).any()),
            # A DRAIN is known by its first word, which is then at the top of ``raw``.
            is_waiting.eq((Value.cast(raw)[-8:] == Opcode.DRAIN) & Array(lane_map.running)[queue]),
        ]
        m.d.sync += held.eq(held & lane_map.running)  # until nothing runs
        for lane, o in enumerate(self.o):
            m.d.comb += o.valid.eq(is_offered & lane_map.lane[lane])
        self._groups(m, chooser, lane_map)
        self._payload(m, raw, step)

        with m.FSM():
            with m.State("CHOOSE"):
                m.d.sync += step.eq(0)
                for number, head in enumerate(self.head):
                    with m.If(chooser.choice[number]):
                        m.d.sync += [queue.eq(number), self.read_entry.eq(head)]
                m.d.comb += chooser.grant.eq(1)
                with m.If(chooser.choice.any()):
                    m.next = "READ"
            with m.State("READ"):  # word ``step`` is addressed, the one before shifted in
                m.d.sync += [step.eq(step + 1), raw.eq(Cat(Value.cast(raw)[64:], self.data))]
                m.d.comb += lane_map.search.eq(step == 0)
                with m.If((step == 2) & is_waiting):
                    m.d.sync += held.eq((held & lane_map.running) | (1 << queue))
                    m.next = "SETTLE"
                with m.If(step == _WORDS):
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += [
                    is_offered.eq(lane_map.done & lane_map.found),
                    lane_map.search.eq(lane_map.done & ~lane_map.found),  # the groups have changed
                ]
                with m.If(is_given):
                    m.next = "SETTLE"
            with m.State("SETTLE"):  # until the chooser sees what has changed
                m.next = "SETTLED"
            with m.State("SETTLED"):
                m.next = "CHOOSE"
        return m

    def _groups(self, m, chooser, lane_map):
        """What a group has, and what the queue under way may use."""
        allowed = Const(0, self.engines)
        for queue in range(self.queues):
            m.d.comb += chooser.priority[queue].eq(self.settings[queue].priority)
        for group in range(GROUPS):
            m.d.comb += [
                chooser.members[group].eq(self.members[group]),
                chooser.has_lane[group].eq((self.engine_masks[group] & lane_map.has_free).any()),
            ]
            allowed |= Mux(Array(self.members[group])[self.take_queue], self.engine_masks[group], 0)
        m.d.sync += lane_map.engines_allowed.eq(allowed)

    def _payload(self, m, raw, step):
        """The descriptor with what its queue adds to it, taken while the last word is read."""
        settings, work = Signal(QueueSettings), Signal(Work)
        abort = Signal()
        with m.If(step == _WORDS):
            m.d.sync += [settings.eq(Array(self.settings)[self.take_queue]),
                         abort.eq(Array(self.abort)[self.take_queue])]
        pasid, reserved = raw.pasid_priv, Value.cast(raw.pasid_priv)[20:31]
        m.d.comb += [
            work.descriptor.eq(raw),
            work.descriptor.pasid_priv.eq(
                Mux(settings.pasid_enable, Cat(settings.pasid, reserved, settings.privileged), pasid)),
            work.space.translate.eq(settings.pasid_enable),
            work.space.block.eq(settings.block),
            work.space.table.eq(settings.table),
            work.max_transfer_shift.eq(settings.max_transfer_shift),
            work.aborted.eq(abort),
            work.space.queue.eq(self.take_queue),
        ]
        for o in self.o:
            m.d.comb += o.payload.eq(work)
