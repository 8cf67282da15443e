# SPDX-License-Identifier: Apache-2.0
"""The sequencer's last stage: carry an instruction out."""

from amaranth.hdl import Assert, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CONTEXTS, NODES, Cause, Status
from rackgate.collective.control.alu import Alu
from rackgate.collective.control.context import MOVES_PER_CONTEXT
from rackgate.collective.control.decode import Action, Decoded
from rackgate.collective.control.latch import Latch
from rackgate.collective.control.multicycle import Multicycle
from rackgate.collective.isa import REGISTER_BITS, Opcode, Other, Special
from rackgate.collective.records import CallInfo, Move

__all__ = ["Execute", "Issued"]

_CONTEXT = range(CONTEXTS)


class Issued(data.Struct):
    """An instruction with its operands. ``info``: its context's call."""

    context: _CONTEXT
    decoded: Decoded
    a: REGISTER_BITS
    b: REGISTER_BITS
    info: CallInfo


class Execute(wiring.Component):
    """Carry out one instruction a cycle, in the cycle in which it is there.

    What cannot be done yet (a wait, a move when there are enough or when the one before has not been taken, a product
    that is not there) puts the context to sleep; the instruction comes again when there has been a ``wake``. Fields of
    the latch are written a cycle later. Reset: nothing is under way.

    Parameters
    ----------
    segment, types:
        The registers PARAM_SEGMENT and PARAM_TYPES.

    Members
    -------
    valid, issued:
        The instruction.
    load:
        The words of the call that it loads.
    outstanding:
        Moves of its context that are under way.
    is_running:
        Bit per context: it can use what it has asked for.
    write, value:
        Result for its register.
    jump, target:
        Where the context goes on, if not after it.
    resume, sleep, go, end, end_stops, end_status, end_cause:
        For its context, see :class:`~rackgate.collective.control.context.Context`.
    passes:
        As ``resume``, of a branch or SYNC: it is known early, so that a context need not wait for it another cycle.
    wake:
        Something has happened that a context can have been waiting for.
    clear:
        In place of an instruction: clear the latch of ``issued``'s context.
    communicator, rank, node:
        Lookup of a rank's node.
    move:
        Moves that start. They are registered.
    """

    move: stream.Interface

    def __init__(self, *, segment: int, types: int):
        self.segment, self.types = segment, types
        super().__init__({
            "valid": In(1), "issued": In(Issued), "load": In(64),
            "outstanding": In(range(MOVES_PER_CONTEXT + 1)), "is_running": In(CONTEXTS),
            "write": Out(1), "value": Out(REGISTER_BITS),
            "jump": Out(1), "target": Out(14),
            "resume": Out(1), "passes": Out(1), "sleep": Out(1), "wake": Out(1), "go": Out(1),
            "end": Out(1), "end_stops": Out(1), "end_status": Out(4), "end_cause": Out(4),
            "clear": In(1),
            "communicator": Out(3), "rank": Out(range(NODES)), "node": In(range(NODES)),
            "move": Out(stream.Signature(Move)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.alu = alu = Alu()
        m.submodules.multicycle = multicycle = Multicycle()
        issued, decoded, was_released = self.issued, self.issued.decoded, Signal()
        m.d.comb += [
            alu.operation.eq(decoded.operation), alu.a.eq(issued.a), alu.b.eq(issued.b),
            alu.size.eq(issued.info.size),
            multicycle.context.eq(issued.context), multicycle.a.eq(issued.a), multicycle.b.eq(issued.b),
            multicycle.operation.eq(decoded.operation),
            self.target.eq(decoded.immediate),
            self.wake.eq(self.move.valid & self.move.ready | multicycle.is_soon | was_released),
        ]
        # A cycle late: that a unit is released follows from the instruction, and the wake goes a long way from here.
        m.d.sync += was_released.eq(multicycle.is_busy & multicycle.release)
        fields = self._latch(m, alu)
        self._evaluate(m, alu, multicycle)
        with m.If(self.valid):
            with m.Switch(decoded.action):
                with m.Case(Action.ILLEGAL):
                    self._refuse(m, Status.PROGRAM_ERROR)
                with m.Case(Action.BRANCH):
                    m.d.comb += [self.passes.eq(1), self.jump.eq(self._is_taken(alu))]
                with m.Case(Action.GO):
                    self._go(m, fields)
                with m.Case(Action.SYNC):
                    m.d.comb += [self.passes.eq(self.outstanding <= decoded.immediate), self.sleep.eq(~self.passes)]
                with m.Case(Action.END):
                    is_err = decoded.select[0]
                    m.d.comb += [
                        self.end.eq(self.outstanding == 0), self.sleep.eq(self.outstanding != 0),
                        self.end_status.eq(Mux(is_err, Status.PROGRAM_RAISED, Status.SUCCESS)),
                        self.end_cause.eq(Mux(is_err, decoded.immediate, Cause.NONE)),
                    ]
                with m.Case(Action.LONG):
                    self._calculate(m, multicycle)
        # Its owner was ended, or its program was rewritten under it.
        with m.If(~self.is_running.bit_select(multicycle.owner, 1)
                  | self.valid & (issued.context == multicycle.owner) & (decoded.action != Action.LONG)):
            m.d.comb += multicycle.release.eq(1)
        with m.If(self.move.valid & self.move.ready):
            m.d.sync += self.move.valid.eq(0)
        with m.If(self.go):
            m.d.sync += self.move.valid.eq(1)
        return m

    def _refuse(self, m, status):
        m.d.comb += [self.end.eq(1), self.end_stops.eq(1), self.end_status.eq(status)]

    def _proceed(self, m, may):
        m.d.comb += [self.resume.eq(may), self.sleep.eq(~may)]

    def _is_taken(self, alu):
        kinds = (Opcode.BEQ, Opcode.BNE, Opcode.BLT, Opcode.BGE)
        assert [kind & 3 for kind in kinds] == [0, 1, 2, 3]
        select = self.issued.decoded.select
        return Mux(select[1], alu.is_less, alu.is_equal) ^ select[0]

    def _evaluate(self, m, alu, multicycle):
        """The result, if there is one."""
        decoded, info = self.issued.decoded, self.issued.info
        specials = {Special.SIZE: info.size, Special.RANK: info.rank, Special.SHIFT: info.shift,
                    Special.SEGMENT: self.segment}
        with m.Switch(decoded.action):
            with m.Case(Action.LOAD_WORD):
                m.d.comb += self.value.eq(self.load[:32])
            with m.Case(Action.LOAD_ADDRESS):
                m.d.comb += self.value.eq(self.load)
            with m.Case(Action.LOAD_SPECIAL):
                with m.Switch(decoded.select):
                    for special, value in specials.items():
                        with m.Case(special):
                            m.d.comb += self.value.eq(value)
            with m.Case(Action.LONG):
                m.d.comb += self.value.eq(multicycle.result)
            with m.Default():
                m.d.comb += self.value.eq(alu.result)
        results = (Action.ALU, Action.LOAD_WORD, Action.LOAD_ADDRESS, Action.LOAD_SPECIAL)
        with m.Switch(decoded.action):
            with m.Case(*results):
                m.d.comb += self.write.eq(self.valid & decoded.writes)
            with m.Case(Action.LONG):
                m.d.comb += self.write.eq(self.valid & decoded.writes & self._has_result(multicycle))

    def _calculate(self, m, multicycle):
        """Begin; or, when the instruction comes again and the result is there, take it."""
        issued, divides = self.issued, self.issued.decoded.select[0]
        with m.If(divides & (issued.b == 0)):
            self._refuse(m, Status.PROGRAM_ERROR)
        with m.Else():
            self._proceed(m, self._has_result(multicycle))
            m.d.comb += [multicycle.start.eq(~multicycle.is_busy),
                         multicycle.release.eq(self._has_result(multicycle))]

    def _has_result(self, multicycle):
        """What the instruction has begun is done; it has then not been refused."""
        return multicycle.is_done & (multicycle.owner == self.issued.context)

    def _latch(self, m, alu):
        """Write a field a cycle after its value was known. What the latch has for the instruction's context."""
        m.submodules.latch = latch = Latch()
        issued, decoded = self.issued, self.issued.decoded
        m.d.comb += [
            self.rank.eq(latch.rank), latch.node.eq(self.node), latch.read.eq(issued.context),
        ]
        m.d.sync += [
            latch.write.eq(self.clear | self.valid & (decoded.action == Action.MOVE_FIELD)),
            latch.clear.eq(self.clear),
            latch.context.eq(issued.context), latch.field.eq(decoded.rd), latch.value.eq(alu.total),
            latch.size.eq(issued.info.size), self.communicator.eq(issued.info.communicator),
        ]
        with m.If(self.clear):
            m.d.sync += latch.value.eq(0)
        return latch.fields

    def _go(self, m, fields):
        """Start a move, or end the call if it cannot be one."""
        issued, info = self.issued, self.issued.info
        control = fields.control
        receives, sends, reduces = control[2:4] == Other.RECEIVE, control[6], control[7]
        is_any = fields.source.is_any & ~info.is_collective
        types, is_bad_peer, is_bad_type, goes = Const(self.types & 0xFFFF, 16), Signal(), Signal(), Signal()
        m.d.comb += [
            is_bad_peer.eq(receives & fields.source.is_bad & ~is_any | sends & fields.destination.is_bad),
            is_bad_type.eq(reduces & ~types.bit_select(info.element, 1)),
            goes.eq((self.outstanding != MOVES_PER_CONTEXT) & ~self.move.valid
                    & ~fields.is_illegal & ~is_bad_peer & ~is_bad_type),
            self.resume.eq(goes), self.go.eq(goes),
        ]
        with m.If(fields.is_illegal | is_bad_peer | is_bad_type):
            self._refuse(m, Mux(fields.is_illegal, Status.PROGRAM_ERROR,
                                Mux(is_bad_peer, Status.BAD_PEER, Status.BAD_TYPE)))
        with m.Else():
            m.d.comb += self.sleep.eq(~goes)
        move = self.move.payload
        with m.If(~self.move.valid):
            m.d.sync += [
                move.context.eq(issued.context),
                *(getattr(move, name).eq(getattr(info, name))
                  for name in ("communicator", "operation", "function", "element", "compressed")),
                *(getattr(move, name).eq(getattr(fields, name))
                  for name in ("control", "count", "local", "other", "result", "tag")),
                move.source.eq(Mux(receives & ~is_any, fields.source.node, 0)), move.any_source.eq(receives & is_any),
                move.destination.eq(Mux(sends, fields.destination.node, 0)),
                move.any_tag.eq(receives & ~info.is_collective & fields.tag.all()),
            ]
        m.d.sync += Assert(~self.go | ~self.move.valid, "a move is lost")
