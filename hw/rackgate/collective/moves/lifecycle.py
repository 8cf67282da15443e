# SPDX-License-Identifier: Apache-2.0
"""Which moves are under way, which may go on, and which have failed."""

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CONTEXTS, MOVES, Cause, Status
from rackgate.collective.moves.installer import Fixed
from rackgate.collective.moves.scheduler import Refused
from rackgate.collective.moves.scoreboard import MOVES_PER_CONTEXT
from rackgate.collective.records import Done, Failure, Retired

__all__ = ["Lifecycle"]

#: Segments of one move in a lane at a time.
_MOST = 7


class Lifecycle(wiring.Component):
    """Begin and end of moves: what they wait for, what is in the lanes, time-outs, and the end of a context's call.

    A move ends when its last segment has been handed out and all have been retired. A move that fails fails its
    context: no segment of it is handed out any more; when those in the lanes have been retired its receives are
    cancelled, and ``killed`` says that nothing of the context is left.

    Time is looked after in a round of 16 cycles: a time-out is found up to 32 cycles late. A move that waits for
    earlier ones does not age.

    Members
    -------
    install, place, conflicts, is_receive:
        A move begins; it waits for those moves of its context in ``conflicts`` that are under way.
    issued, issued_move, issued_last:
        A segment of it goes to a lane.
    retired_send, retired_receive:
        Segments that leave the lanes; always ready.
    refused, refusal:
        A packet that it cannot take.
    active, eligible:
        For each move: it is under way; in the cycle before, it might have handed out another segment.
    waits_credit, waits_packet, waits_clear:
        What keeps a move, for the cause of a time-out. One that waits for the last of them hands out nothing.
    asked, told:
        Look into the table for the nodes.
    timeout:
        Cycles without a segment handed out after which a move fails, or 0.
    done:
        Moves that end, one a cycle.
    failed, failure:
        For each context: high for a cycle when its call has failed, and how. Once a call.
    kill:
        For each context: end all of its moves; high until ``killed``, also after a failure.
    killed:
        For each context: high for a cycle, when after ``kill`` nothing is left of it.
    arriving:
        For each context: a move of it is on its way into the table, or may yet hand out a segment.
    cancel:
        Receives to be forgotten; taken when that is done.
    stuck:
        A context is being ended of which segments are in the lanes: kernels' streams must not hold them up. A cycle
        late, since it goes far; no segment of the context can be in the lanes again so soon.

    Reset: no move is under way.
    """

    retired_send: stream.Interface
    retired_receive: stream.Interface
    cancel: stream.Interface

    def __init__(self):
        super().__init__({
            "install": In(1), "place": In(4), "conflicts": In(MOVES_PER_CONTEXT), "is_receive": In(1),
            "issued": In(1), "issued_move": In(4), "issued_last": In(1),
            "retired_send": In(stream.Signature(Retired)), "retired_receive": In(stream.Signature(Retired)),
            "refused": In(1), "refusal": In(Refused),
            "active": Out(MOVES), "eligible": Out(MOVES),
            "waits_credit": In(MOVES), "waits_packet": In(MOVES), "waits_clear": In(MOVES),
            "asked": Out(4), "told": In(Fixed),
            "timeout": In(32),
            "done": Out(Done),
            "failed": Out(CONTEXTS), "failure": Out(data.ArrayLayout(Failure, CONTEXTS)),
            "kill": In(CONTEXTS), "killed": Out(CONTEXTS), "arriving": In(CONTEXTS),
            "cancel": Out(stream.Signature(data.StructLayout({"move": 4}))),
            "stuck": Out(1),
        })
        # State is made here, not in elaborate, so that a proof can state invariants about it.
        self._is_finished = Signal(MOVES)  # its last segment has been handed out
        self._is_posted = Signal(MOVES)  # the queues know of it
        self._in_lane = Array(Signal(range(_MOST + 1), name=f"in_lane_{k}") for k in range(MOVES))
        self._waits_for = Array(Signal(MOVES_PER_CONTEXT, name=f"waits_for_{k}") for k in range(MOVES))
        self._is_dying = Signal(CONTEXTS)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.retired_send.ready.eq(1), self.retired_receive.ready.eq(1)]
        over, ends = Signal(MOVES), Signal(MOVES)
        m.d.comb += ends.eq(Cat(over[k] & ~over[:k].any() for k in range(MOVES)))  # one a cycle
        for k in range(MOVES):
            self._account(m, k, over, ends)
        m.d.sync += [self.done.valid.eq(over.any()), self.failed.eq(0)]
        for context in reversed(range(CONTEXTS)):
            with m.If(over.word_select(context, MOVES_PER_CONTEXT).any()):
                m.d.sync += self.done.context.eq(context)
        self._fail(m)
        self._watch(m)
        self._bury(m)
        return m

    def _account(self, m, k, over, ends):
        """Move ``k``."""
        context, number = k // MOVES_PER_CONTEXT, k % MOVES_PER_CONTEXT
        in_lane, begins, issues, leaves = self._in_lane[k], Signal(), Signal(), Signal()
        m.d.comb += [
            begins.eq(self.install & (self.place == k)),
            issues.eq(self.issued & (self.issued_move == k)),
            leaves.eq(self.retired_send.valid & (self.retired_send.payload.move == k)
                      | self.retired_receive.valid & (self.retired_receive.payload.move == k)),
            over[k].eq(self.active[k] & self._is_finished[k] & (in_lane == 0)),
        ]
        m.d.sync += [
            # Not in the cycle in which a segment is handed out, which counts in the next.
            self.eligible[k].eq(self.active[k] & ~self._is_finished[k] & (self._waits_for[k] == 0)
                                & (in_lane != _MOST) & ~self._is_dying[context] & ~issues & ~self.waits_clear[k]),
            in_lane.eq(in_lane + issues - leaves),
            Assert(~issues | (in_lane != _MOST), "more segments of a move than a lane holds"),
            Assert(~leaves | (in_lane != 0), "a segment is retired that was not handed out"),
            Assert(~begins | ~self.active[k], "a move is installed over another"),
        ]
        with m.If(issues & self.issued_last):
            m.d.sync += [self._is_finished[k].eq(1), self._is_posted[k].eq(0)]
        with m.If(ends[k]):
            m.d.sync += self.active[k].eq(0)
            for other in range(MOVES_PER_CONTEXT):
                m.d.sync += self._waits_for[MOVES_PER_CONTEXT * context + other][number].eq(0)
        with m.If(begins):
            m.d.sync += [self.active[k].eq(1), self._is_finished[k].eq(0), self._is_posted[k].eq(self.is_receive)]
            for other in range(MOVES_PER_CONTEXT):
                place = MOVES_PER_CONTEXT * context + other
                # One that ends in this very cycle is not waited for.
                m.d.sync += self._waits_for[k][other].eq(self.conflicts[other] & self.active[place] & ~ends[place])

    def _fail(self, m):
        """Everything but time that makes a call fail."""
        for lane in (self.retired_send, self.retired_receive):
            segment = lane.payload
            with m.If(lane.valid & (segment.read_error | segment.write_error)):
                self._end(m, segment.move, Mux(segment.write_error, Status.WRITE_ERROR, Status.READ_ERROR))
        with m.If(self.refused):
            self._end(m, self.refusal.move, self.refusal.status, Cause.PACKET, self.refusal.node)
        for context in range(CONTEXTS):
            with m.If(self.kill[context] & ~self.killed[context]):
                m.d.sync += self._is_dying[context].eq(1)

    def _end(self, m, move, status, cause=Cause.NONE, node=0):
        """The call that ``move`` belongs to has failed, if it has not already."""
        context = move[2:]
        with m.If(~self._is_dying.bit_select(context, 1)):
            failure = self.failure[context]
            m.d.sync += [self._is_dying.bit_select(context, 1).eq(1), self.failed.bit_select(context, 1).eq(1),
                         failure.status.eq(status), failure.cause.eq(cause), failure.node.eq(node)]

    def _watch(self, m):
        """Time-outs. Each move in its turn: note the time if it has got on, else see how long ago that was."""
        m.submodules.stamps = stamps = Memory(shape=32, depth=MOVES, init=[])
        stamp, note = stamps.read_port(domain="comb"), stamps.write_port()
        now, k, has_moved = Signal(32), Signal(range(MOVES)), Signal(MOVES)
        waits_for, is_late = Signal(MOVES), Signal()
        with m.If(self.active.any() | has_moved.any()):  # time stands still without moves: an idle node costs nothing
            m.d.sync += [now.eq(now + 1), k.eq(k + 1)]
        m.d.comb += [
            waits_for.eq(Cat(mask.any() for mask in self._waits_for)),
            stamp.addr.eq(k), note.addr.eq(k), note.data.eq(now), self.asked.eq(k),
            note.en.eq(has_moved.bit_select(k, 1) | ~self.active.bit_select(k, 1) | waits_for.bit_select(k, 1)),
        ]
        age = Signal(32)
        m.d.comb += age.eq(now - stamp.data)
        # A cycle behind, so that the comparison has one of its own.
        late_age, late_k, told = Signal(32), Signal(range(MOVES)), Signal(Fixed)
        m.d.sync += [late_age.eq(Mux(note.en, 0, age)), late_k.eq(k), told.eq(self.told),
                     is_late.eq(~note.en & (self.timeout != 0))]
        with m.If(is_late & (late_age > self.timeout) & self.active.bit_select(late_k, 1)):
            with m.If(self.waits_packet.bit_select(late_k, 1)):
                self._end(m, late_k, Status.TIMEOUT, Cause.PACKET, told.source)
            with m.Elif(self.waits_clear.bit_select(late_k, 1)):
                self._end(m, late_k, Status.TIMEOUT, Cause.CLEAR_TO_SEND, told.destination)
            with m.Elif(self.waits_credit.bit_select(late_k, 1)):
                self._end(m, late_k, Status.TIMEOUT, Cause.CREDIT, told.destination)
            with m.Else():
                self._end(m, late_k, Status.TIMEOUT, Cause.LANE)
        m.d.sync += has_moved.bit_select(k, 1).eq(0)
        with m.If(self.issued):
            m.d.sync += has_moved.bit_select(self.issued_move, 1).eq(1)
        with m.If(self.install):
            m.d.sync += has_moved.bit_select(self.place, 1).eq(1)

    def _bury(self, m):
        """Contexts whose call has failed, one after the other: when nothing is in the lanes, cancel and report."""
        context, number = Signal(range(CONTEXTS)), Signal(range(MOVES_PER_CONTEXT))
        place, is_quiet = Signal(range(MOVES)), Signal(CONTEXTS)
        m.d.sync += self.killed.eq(0)
        for k in range(CONTEXTS):
            in_lanes = Cat(self._in_lane[MOVES_PER_CONTEXT * k + n] != 0 for n in range(MOVES_PER_CONTEXT))
            m.d.comb += is_quiet[k].eq(~in_lanes.any() & ~self.arriving[k])
        m.d.comb += [place.eq(Cat(number, context)), self.cancel.payload.move.eq(place)]
        m.d.sync += self.stuck.eq((self._is_dying & ~is_quiet).any())
        with m.FSM():
            with m.State("SEEK"):
                m.d.sync += number.eq(0)
                with m.If((self._is_dying & self.kill & is_quiet).bit_select(context, 1)):
                    m.next = "LOOK"
                with m.Elif(self._is_dying.any()):
                    m.d.sync += context.eq(context + 1)
            with m.State("LOOK"):
                with m.If((self.active & self._is_posted).bit_select(place, 1)):
                    m.next = "CANCEL"
                with m.Else():
                    m.next = "BURY"
            with m.State("CANCEL"):
                m.d.comb += self.cancel.valid.eq(1)
                with m.If(self.cancel.ready):
                    m.next = "BURY"
            with m.State("BURY"):
                m.d.sync += [self.active.bit_select(place, 1).eq(0), number.eq(number + 1)]
                m.next = "LOOK"
                with m.If(number == MOVES_PER_CONTEXT - 1):
                    m.d.sync += [self.killed.bit_select(context, 1).eq(1),
                                 self._is_dying.bit_select(context, 1).eq(0)]
                    m.next = "SEEK"
