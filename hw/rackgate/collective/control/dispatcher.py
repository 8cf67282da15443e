# SPDX-License-Identifier: Apache-2.0
"""What happens between a call and its program."""

import operator

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.arith.abi import ElementType, Function
from rackgate.collective.abi import CALL_WORDS, COMMUNICATORS, CONTEXTS, CallFlag, Status, StreamFlag
from rackgate.collective.control.communicators import Membership
from rackgate.collective.control.programmemory import EntryFields
from rackgate.collective.records import CallInfo

__all__ = ["Dispatcher"]

#: Pairs of words that are read, in this order: scenario; communicator; function; element, compression; streams; id.
_PAIRS = (0, 1, 2, 3, 4, 7)
#: Stream flags that may be set, ACCL's host flags among them, which are ignored.
_STREAMS = 0xFF00 | int(StreamFlag.OPERAND_0 | StreamFlag.RESULT)
_WIRE = CallFlag.WIRE.bit_length() - 1


class Dispatcher(wiring.Component):
    """Take whole calls in turn, check them, and begin them in a free context.

    A call begins 7 cycles after it was offered, if there is a free context. It is checked in this order: aborted;
    scenario, communicator, broken, type, flags; one that fails begins with that status, so that the context only has
    it reported. Collectives are numbered here. Reset forgets the call that is being read.

    Parameters
    ----------
    slots:
        Calls in the store.
    converts:
        Whether 32-bit floats can be 16-bit ones on the wire.

    Members
    -------
    enable:
        Take calls.
    call:
        Slots.
    look, look_slot, look_pair, words:
        Read a pair of words in one cycle, while ``look`` is high.
    scenario, entry:
        Lookup of an entry, in one cycle.
    is_open, is_broken, communicator, membership, operation, count:
        Of communicators, see :class:`~rackgate.collective.control.communicators.Communicators`.
    is_aborted:
        Bit per slot.
    is_free, start, context, status, address, info:
        See :class:`~rackgate.collective.control.sequencer.Sequencer`.
    """

    call: stream.Interface

    def __init__(self, *, slots: int = 16, converts: bool = True):
        self.slots, self.converts = operator.index(slots), bool(converts)
        slot, context = range(self.slots), range(CONTEXTS)
        super().__init__({
            "enable": In(1), "call": In(stream.Signature(slot)),
            "look": Out(1), "look_slot": Out(slot), "look_pair": Out(range(CALL_WORDS // 2)), "words": In(64),
            "scenario": Out(8), "entry": In(EntryFields),
            "is_open": In(COMMUNICATORS), "is_broken": In(COMMUNICATORS),
            "communicator": Out(range(COMMUNICATORS)), "membership": In(Membership), "operation": In(16),
            "count": Out(1), "is_aborted": In(self.slots),
            "is_free": In(CONTEXTS), "start": Out(1), "context": Out(context), "status": Out(4), "address": Out(12),
            "info": Out(CallInfo),
        })
        self._read = Signal(CallInfo)  # those fields that are read word by word

    def elaborate(self, platform):
        m = Module()
        step, entry = Signal(range(len(_PAIRS) + 2)), Signal(EntryFields)
        m.d.comb += [self.look_slot.eq(self.call.payload), self.scenario.eq(self.words)]
        for number in reversed(range(CONTEXTS)):
            with m.If(self.is_free[number]):
                m.d.comb += self.context.eq(number)
        goes_on = (step != 0) | self.call.valid & self.enable & self.is_free.any()
        with m.Switch(step):
            for number, pair in enumerate(_PAIRS):
                with m.Case(number):
                    m.d.comb += [self.look_pair.eq(pair), self.look.eq(goes_on)]
        has_scenario, has_type, has_flags, has_communicator = (Signal(name=name) for name in (
            "has_scenario", "has_type", "has_flags", "has_communicator"))
        with m.If(goes_on):
            m.d.sync += step.eq(step + 1)
        # What is read comes late in its cycle. So it is only looked at by fours of bits, and judged in the next step.
        some, low, low_second = Signal(16), Signal(4), Signal(4)
        m.d.sync += [
            some.eq(Cat(self.words[place:place + 4].any() for place in range(0, 64, 4))),
            low.eq(self.words), low_second.eq(self.words[32:]),
        ]
        read = self._read
        with m.Switch(step):
            with m.Case(1):
                m.d.sync += [has_type.eq(1), has_flags.eq(1)]
            with m.Case(2):
                m.d.sync += [entry.eq(self.entry), has_scenario.eq(~_has_others(some, low, 0xFF)),
                             self.communicator.eq(self.words)]
            with m.Case(3):
                m.d.sync += [read.function.eq(self.words), has_communicator.eq(
                    ~_has_others(some, low, COMMUNICATORS - 1) & self.is_open.bit_select(self.communicator, 1))]
            with m.Case(4):
                self._read_element(m)
                with m.If(_has_others(some, low, 15) | (read.function > Function.MIN)):
                    m.d.sync += has_type.eq(0)
            with m.Case(5):
                can_convert = (read.element == ElementType.FLOAT32) & Const(self.converts, 1)
                with m.If(_has_others(some, low, 15) | (read.element >= len(ElementType))
                          | read.compressed & ~can_convert):
                    m.d.sync += has_type.eq(0)
                with m.If(_has_others(some[8:], low_second, int(CallFlag.WIRE))):
                    m.d.sync += has_flags.eq(0)
            with m.Case(6):
                m.d.sync += read.id.eq(self.words[32:])
                with m.If(_has_others(some, low, _STREAMS)):
                    m.d.sync += has_flags.eq(0)
            with m.Case(7):
                m.d.comb += [self.start.eq(1), self.call.ready.eq(1)]
                m.d.sync += step.eq(0)
        self._judge(m, entry, has_scenario, has_communicator, has_type, has_flags & ~some[12:].any())
        return m

    def _read_element(self, m):
        element, compression = self.words[:4], self.words[32:]
        m.d.sync += [self._read.element.eq(element), self._read.compressed.eq(compression[_WIRE])]
        with m.Switch(element):
            for kind in ElementType:
                with m.Case(kind):
                    m.d.sync += self._read.shift.eq(kind.size.bit_length() - 1)

    def _judge(self, m, entry, has_scenario, has_communicator, has_type, has_flags):
        """The first that is wrong counts."""
        is_broken = self.is_broken.bit_select(self.communicator, 1)
        m.d.comb += self.status.eq(Status.SUCCESS)
        for is_wrong, status in (
            (~has_flags, Status.BAD_FLAGS), (~has_type, Status.BAD_TYPE), (is_broken, Status.COMMUNICATOR_BROKEN),
            (~has_communicator, Status.NO_SUCH_COMMUNICATOR),
            (~has_scenario | ~entry.is_valid, Status.NO_SUCH_SCENARIO),
            (self.is_aborted.bit_select(self.call.payload, 1), Status.ABORTED),
        ):
            with m.If(is_wrong):
                m.d.comb += self.status.eq(status)
        is_good, info = self.status == Status.SUCCESS, self.info
        m.d.comb += [
            self.count.eq(self.start & is_good & entry.is_collective), self.address.eq(entry.address),
            *(getattr(info, name).eq(getattr(self._read, name))
              for name in ("function", "element", "compressed", "shift", "id")),
            info.slot.eq(self.call.payload), info.communicator.eq(self.communicator),
            info.is_collective.eq(is_good & entry.is_collective),
            info.operation.eq(Mux(entry.is_collective, self.operation, 0)),
            info.size.eq(self.membership.size), info.rank.eq(self.membership.rank),
        ]


def _has_others(some, low, allowed):
    """Whether a word of 32 bits has others than ``allowed``.

    ``some``: for each four of its bits, whether one is set. ``low``: the lowest four. Of any other four all bits are
    allowed, or none.
    """
    fours = [allowed >> place & 15 for place in range(0, 32, 4)]
    assert all(four in (0, 15) for four in fours[1:]), f"{allowed:#x} holds a part of a four of bits"
    return (low & (fours[0] ^ 15)).any() | Cat(some[place] for place in range(1, 8) if not fours[place]).any()
