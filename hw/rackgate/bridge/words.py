# SPDX-License-Identifier: Apache-2.0
"""Operations that read what the bridge itself knows: its identity, and its status."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from rackgate.bridge.abi import StatusWord, unpack_words
from rackgate.bridge.identity import IDENTITY_WORDS
from rackgate.bridge.unit import Command, Status, UnitSignature, is_inside

__all__ = ["IdentityUnit", "StatusUnit"]


def _serve(m: Module, i, words: int) -> tuple[Signal, Signal]:
    """Give the words of a command, from 0 to ``words - 1``, one every other cycle.

    Returns the number of a word, and whether it is to be at ``i.r.payload`` from the next cycle on.
    """
    command, index, is_asked, status = Signal(Command), Signal(range(words)), Signal(), Signal(Status)
    m.d.comb += [index.eq(command.address >> 2), i.done.payload.eq(status)]
    with m.FSM():
        with m.State("IDLE"):
            m.d.comb += i.command.ready.eq(~i.cancel)
            m.d.sync += command.eq(i.command.payload)
            with m.If(i.command.valid & i.command.ready):
                m.next = "CHECK"
        with m.State("CHECK"):
            m.d.sync += status.eq(Status.DECERR)
            m.next = "END"
            with m.If(is_inside(command, 0, 4 * words)):
                m.next = "LOOK"
        with m.State("LOOK"):
            m.d.comb += is_asked.eq(1)
            m.d.sync += status.eq(Status.OK)
            m.next = "GIVE"
        with m.State("GIVE"):
            m.d.comb += i.r.valid.eq(1)
            with m.If(i.r.ready):
                m.d.sync += [command.address.eq(command.address + 4), command.count.eq(command.count - 1)]
                m.next = "LOOK"
                with m.If(command.count == 1):
                    m.next = "END"
        with m.State("END"):
            m.d.comb += i.done.valid.eq(1)
            with m.If(i.done.ready):
                m.next = "IDLE"
    return index, is_asked


class IdentityUnit(wiring.Component):
    """Read the identity, a table in a memory that is never written.

    A word every other cycle. Words behind the table are DECERR. It never waits, so ``cancel`` changes nothing. Reset
    forgets the command.

    Parameters
    ----------
    table:
        Bytes, whole words: 1 to :data:`~rackgate.bridge.identity.IDENTITY_WORDS`.

    Members
    -------
    i: the executor.
    """

    i: In(UnitSignature())

    def __init__(self, table: bytes):
        self.table = bytes(table)
        if len(table) % 4 or not 4 <= len(table) <= 4 * IDENTITY_WORDS:
            raise ValueError(f"table must have 1 to {IDENTITY_WORDS} whole words, not {len(table)} bytes")
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        words = unpack_words(self.table)
        m.submodules.memory = memory = Memory(shape=32, depth=len(words), init=words)
        port = memory.read_port()
        index, is_asked = _serve(m, self.i, len(words))
        m.d.comb += [port.addr.eq(index), port.en.eq(is_asked), self.i.r.payload.eq(port.data)]
        return m


class StatusUnit(wiring.Component):
    """Read the words of :class:`~rackgate.bridge.abi.StatusWord`.

    A word every other cycle, as it was the cycle before. It never waits, so ``cancel`` changes nothing. Reset: the
    count of cycles is 0.

    Members
    -------
    i:
        The executor.
    words:
        By :class:`~rackgate.bridge.abi.StatusWord`; those of CYCLES are not looked at.
    """

    i: In(UnitSignature())
    words: In(data.ArrayLayout(32, len(StatusWord)))

    def __init__(self):
        super().__init__()
        # Made here so that a test can let it begin elsewhere.
        self._cycles = Signal(64)

    def elaborate(self, platform):
        m = Module()
        cycles, high = self._cycles, Signal(32)
        index, is_asked = _serve(m, self.i, len(StatusWord))
        known = [self.words[number] for number in StatusWord]
        known[StatusWord.CYCLES_LO], known[StatusWord.CYCLES_HI] = cycles[:32], high
        m.d.sync += cycles.eq(cycles + 1)
        with m.If(is_asked):
            m.d.sync += self.i.r.payload.eq(Array(known)[index])
            with m.If(index == StatusWord.CYCLES_LO):
                m.d.sync += high.eq(cycles[32:])
        return m
