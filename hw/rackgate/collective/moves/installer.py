# SPDX-License-Identifier: Apache-2.0
"""A move from the sequencer into the table of moves."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.arith.abi import ElementType
from rackgate.collective.abi import MOVES
from rackgate.collective.isa import Local, Other, Target
from rackgate.collective.moves.scoreboard import MOVES_PER_CONTEXT, Scoreboard
from rackgate.collective.records import ADDRESS_BITS, Key, Move

__all__ = ["REMAINING_BITS", "Control", "Fixed", "Installer", "Post", "Progress", "element_shift"]


#: Of a move's payload in bytes: of 2 ** 32 - 1 elements of 8.
REMAINING_BITS = 35


class Control(data.Struct):
    """Bits of isa.MoveControl."""

    local: Local
    other: Other
    target: Target
    send: 1
    reduce: 1
    put: 1


class Fixed(data.Struct):
    """What does not change while a move is under way. ``length``: payload bytes of what it sends or expects.
    ``asks``: it sends its first packet alone, and the others once that has been answered.
    """

    communicator: 3
    operation: 16
    control: Control
    function: 4
    element: 4
    compressed: 1
    shift: 2
    source: 4
    destination: 4
    tag: 32
    length: 32
    asks: 1


class Progress(data.Struct):
    """What changes with every segment. ``remaining``, ``offset``: payload bytes not yet handed out, and those that are;
    ``is_begun``: a segment has been handed out.
    """

    remaining: REMAINING_BITS
    local: ADDRESS_BITS
    other: ADDRESS_BITS
    result: ADDRESS_BITS
    offset: 32
    is_begun: 1


class Post(data.Struct):
    """A receive: the move and what it waits for."""

    move: 4
    key: Key


def element_shift(element):
    """Binary logarithm of an element's bytes; ``element`` is a value of 4 bits."""
    return Array(Const({2: 1, 4: 2, 8: 3}[kind.size], 2) for kind in sorted(ElementType))[element[:3]]


class Installer(wiring.Component):
    """Give a move a place in the table, post its receive, and find out what it has to wait for.

    A move takes 4 cycles, one more for each other move of its context under way, and as long as posting takes.

    A message of send that comes from memory, or a kernel's stream, asks before it is sent if it has more packets than
    ``eager``. Messages of collectives never do: that each of their ranks will receive is known before a program is
    loaded, and with how few credits.

    Parameters
    ----------
    segment:
        Payload bytes of the largest packet, a power of two.

    Members
    -------
    i:
        Moves. There must be a free place for one: the sequencer counts.
    active:
        For each place: a move is under way there.
    post:
        Receives, before their move is installed.
    install:
        High for a cycle: write ``fixed`` and ``progress`` to place ``move``, which from then on is active and waits
        for the moves of its context in ``conflicts``.
    communicator, eager:
        Packets of the largest message on a communicator that does not ask, in the same cycle; 0: none asks.
    hold:
        Do not install in this cycle.
    busy:
        ``move`` is on its way into the table.

    Reset forgets the move.
    """

    i: stream.Interface
    post: stream.Interface

    def __init__(self, segment=1024):
        self._segment_bits = exact_log2(segment)
        super().__init__({
            "i": In(stream.Signature(Move)),
            "active": In(MOVES),
            "post": Out(stream.Signature(Post)),
            "install": Out(1),
            "communicator": Out(3), "eager": In(8),
            "hold": In(1),
            "busy": Out(1),
            "move": Out(4),
            "fixed": Out(Fixed),
            "progress": Out(Progress),
            "conflicts": Out(MOVES_PER_CONTEXT),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.scoreboard = scoreboard = Scoreboard()
        move = Signal(Move)
        number = Signal(2)  # of the place, within its context
        is_answered, is_posted = Signal(), Signal()
        m.d.comb += [
            self.move.eq(Cat(number, move.context)),
            scoreboard.active.eq(self.active),
            self.conflicts.eq(scoreboard.conflicts),
        ]
        self._describe(m, move, scoreboard)
        with m.If(scoreboard.done):
            m.d.sync += is_answered.eq(1)
        with m.If(self.post.ready):
            m.d.sync += [self.post.valid.eq(0), is_posted.eq(is_posted | self.post.valid)]
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [move.eq(self.i.payload), is_answered.eq(0), is_posted.eq(0)]
                for k in reversed(range(MOVES_PER_CONTEXT)):
                    with m.If(~self.active.bit_select(Cat(Const(k, 2), self.i.payload.context), 1)):
                        m.d.sync += number.eq(k)
                with m.If(self.i.valid):
                    m.next = "ASK"
            with m.State("ASK"):
                is_receive = Control(move.control).other == Other.RECEIVE
                m.d.comb += scoreboard.i.valid.eq(1)
                m.d.sync += [
                    self.post.valid.eq(is_receive), is_posted.eq(~is_receive),
                    self.post.payload.move.eq(self.move),
                    self.post.payload.key.communicator.eq(move.communicator),
                    self.post.payload.key.operation.eq(move.operation),
                    self.post.payload.key.tag.eq(move.tag), self.post.payload.key.any_tag.eq(move.any_tag),
                    self.post.payload.key.node.eq(move.source), self.post.payload.key.any_node.eq(move.any_source),
                ]
                m.next = "WAIT"
            with m.State("WAIT"):
                with m.If((is_answered | scoreboard.done) & is_posted & ~self.hold):
                    m.d.comb += self.install.eq(1)
                    m.next = "IDLE"
        return m

    def _describe(self, m, move, scoreboard):
        """The entries of the table, and the ranges of memory."""
        control = Control(move.control)
        shift, size, payload = Signal(2), Signal(ADDRESS_BITS), Signal(REMAINING_BITS)
        m.d.comb += [
            shift.eq(element_shift(move.element)),
            size.eq(move.count << shift),
            *(getattr(self.fixed, name).eq(getattr(move, name))
              for name in ("communicator", "operation", "control", "function", "element", "compressed", "source",
                           "destination", "tag")),
            self.fixed.shift.eq(shift),
            payload.eq(Mux(move.compressed, move.count << 1, size)),
            self.fixed.length.eq(payload), self.progress.remaining.eq(payload),
            *(getattr(self.progress, name).eq(getattr(move, name)) for name in ("local", "other", "result")),
        ]
        whole, rest = payload[self._segment_bits:], payload[:self._segment_bits]  # packets, and what is left over
        m.d.comb += [
            self.communicator.eq(move.communicator),
            self.fixed.asks.eq(control.send & ~control.put & (control.other == Other.NONE) & (move.operation == 0)
                               & (control.target == Target.NONE) & (self.eager != 0)
                               & ((whole > self.eager) | (whole == self.eager) & (rest != 0))),
            scoreboard.i.payload.move.eq(self.move),
        ]
        used = {"local": control.local == Local.MEMORY, "other": control.other == Other.MEMORY,
                "result": control.target == Target.MEMORY}
        for name, is_used in used.items():
            part = scoreboard.i.payload.ranges[name]
            m.d.comb += [part.used.eq(is_used & (move.count != 0)), part.first.eq(getattr(move, name)),
                         part.end.eq(getattr(move, name) + size)]
