# SPDX-License-Identifier: Apache-2.0
"""The copier's first register: an entry with all that can be known of it alone."""

from amaranth.hdl import Assert, Cat, Module, Mux
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.inflate.entry import Entry, Kind, Mark, Start
from rackgate.inflate.steps import check_window

__all__ = ["Intake", "Pending"]


class Pending(data.Struct):
    """An entry under consideration.

    ``length`` is zero without a match, ``literals`` without literals, ``total`` is their sum. ``given`` bytes
    were taken off the front. ``is_empty``: ``total`` is zero (known a cycle late after trimming). ``is_far``: no
    match can have this distance.
    """

    kind: Kind
    context: 3
    bits: 7
    flags: Start
    length: 9
    distance: 16
    is_far: 1
    literals: 3
    total: 10
    is_empty: 1
    given: 10
    bytes: data.ArrayLayout(8, 4)
    mark: Mark
    final: 1
    error: 8


class Intake(wiring.Component):
    """Hold an entry until it is taken, and trim it on demand.

    Trimming takes bytes off the front that need not be carried out: of a match as many as wanted in a cycle,
    then literals one by one.

    Parameters
    ----------
    window:
        Window in bytes, a power of two.

    Members
    -------
    i:
        Entries. ``ready`` depends on ``take`` alone, apart from registers.
    entry, valid:
        The entry held. It stays until taken, but for trimming.
    take:
        The entry is done with.
    trim:
        Take up to ``skip`` bytes off; ``trimmed`` says how many they are. Not together with ``take``.

    Reset drops the entry.
    """

    i: stream.Interface

    def __init__(self, *, window):
        self.window = check_window(window)
        super().__init__({
            "i": In(stream.Signature(Entry)),
            "entry": Out(Pending),
            "valid": Out(1),
            "take": In(1),
            "trim": In(1),
            "skip": In(10),
            "trimmed": Out(10),
        })

    def elaborate(self, platform):
        m = Module()
        i, entry = self.i.payload, self.entry
        has_bytes = (i.kind == Kind.TOKEN) | (i.kind == Kind.RAW)
        length = Mux((i.kind == Kind.TOKEN) & i.has_match, i.length, 0)
        literals = Mux(has_bytes, i.literals, 0)
        m.d.comb += self.i.ready.eq(~self.valid | self.take)
        with m.If(self.i.ready):
            m.d.sync += [
                self.valid.eq(self.i.valid),
                entry.length.eq(length),
                entry.literals.eq(literals),
                entry.total.eq(length + literals),
                entry.is_empty.eq((length == 0) & (literals == 0)),
                entry.given.eq(0),
                entry.flags.eq(i.length),
                entry.is_far.eq(i.distance > self.window),
            ]
            for name in ("kind", "context", "bits", "distance", "bytes", "mark", "final", "error"):
                m.d.sync += getattr(entry, name).eq(getattr(i, name))
        with m.Elif(self.trim):
            self._trim(m)
        with m.If(self.valid & (entry.length != 0)):
            m.d.sync += Assert(entry.distance != 0, "a match copies from no distance")
        return m

    def _trim(self, m):
        entry = self.entry
        count = Mux(self.skip < entry.length, self.skip, entry.length)
        with m.If(entry.length != 0):
            m.d.comb += self.trimmed.eq(count)
            m.d.sync += entry.length.eq(entry.length - count)
        with m.Elif((entry.literals != 0) & (self.skip != 0)):
            m.d.comb += self.trimmed.eq(1)
            m.d.sync += [
                entry.literals.eq(entry.literals - 1),
                Cat(entry.bytes).eq(Cat(entry.bytes)[8:]),
            ]
        m.d.sync += [
            entry.total.eq(entry.total - self.trimmed),
            entry.is_empty.eq(entry.total == 0),
            entry.given.eq(entry.given + self.trimmed),
        ]
