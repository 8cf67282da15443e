# SPDX-License-Identifier: Apache-2.0
"""RFC 1071's checksums of packets, and of payloads as they pass."""

import operator
from collections.abc import Collection, Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.hdl import Const as Constant
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.pisa.declare import Checksum, Header
from rackgate.pisa.layout import value_in
from rackgate.stream.packet import WIDTHS

__all__ = ["ChecksumUnit", "WordSum", "delayed", "header_bytes", "swapped"]

_GROUP = 4  # values that are added in one cycle


def header_bytes(header: Header, at, *, without=None) -> list[Value]:
    """A header's bytes in the order of the wire. ``at`` gives a field's value; the field ``without`` is taken as 0."""
    whole = Cat(*(Constant(0, item.width) if item is without else at(item)
                  for item in reversed(list(header.fields.values()))))
    return [whole[8 * place:8 * place + 8] for place in reversed(range(header.size))]


def swapped(word: Value) -> Value:
    """16 bits with their bytes exchanged: what a sum of words becomes when its content moves by a byte."""
    return Cat(word[8:16], word[:8])


def _tree(m: Module, values: Sequence[Value], name: str) -> tuple[Value, int]:
    """The sum of ``values``, through registers, and the cycles that takes: at least one."""
    level, depth = list(values) or [Constant(0, 16)], 0
    while len(level) > 1 or not depth:
        groups = [level[k:k + _GROUP] for k in range(0, len(level), _GROUP)]
        level = []
        for number, group in enumerate(groups):
            total = sum(group[1:], group[0])
            kept = Signal(len(total), name=f"{name}_{depth}_{number}")
            m.d.sync += kept.eq(total)
            level.append(kept)
        depth += 1
    return level[0], depth


def delayed(m: Module, value: Value, cycles: int, name: str) -> Value:
    """``value`` as it was ``cycles`` before."""
    for number in range(cycles):
        later = Signal(len(value), name=f"{name}_{number}")
        m.d.sync += later.eq(value)
        value = later
    return value


def _folded(value: Value) -> Value:
    """One step towards 16 bits: the carries come back in at the bottom."""
    return value[:16] + value[16:]


class ChecksumUnit(wiring.Component):
    """What a :class:`~.declare.Checksum` must be, for a packet a cycle; no stalls, order kept.

    Reset empties it.

    Parameters
    ----------
    checksum:
        The declaration.
    layout:
        What comes in: members as :func:`~.layout.phv_layout` names them.
    always:
        Headers that are valid in each packet.
    payload_late:
        Cycles by which ``payload_sum`` comes behind its packet.

    Members
    -------
    i:
        Packets.
    payload_sum:
        Sum of the payload's words, its first byte the upper half of a word; not looked at if the checksum covers none.
    o:
        ``answer``, the checksum; ``applies``: the packet has the target's header; ``agrees``: the target holds the
        answer, or says that there is none, or there is no target.

    Attributes
    ----------
    latency:
        Cycles from ``i`` to ``o``.
    """

    def __init__(self, checksum: Checksum, layout: data.StructLayout, always: Collection[Header] = (), *,
                 payload_late: int = 0):
        if checksum.target.width != 16:
            raise ValueError(f"a checksum has 16 bits, but {checksum.target!r} has {checksum.target.width}")
        self.checksum = checksum
        self.always = frozenset(always)
        self.payload_late = operator.index(payload_late)
        if self.payload_late < 0:
            raise ValueError(f"payload_late must not be negative, not {payload_late}")
        super().__init__({
            "i": In(stream.Signature(layout, always_ready=True)),
            "payload_sum": In(16),
            "o": Out(stream.Signature(data.StructLayout({"answer": 16, "applies": 1, "agrees": 1}),
                                      always_ready=True)),
        })
        words = sum((item.width + 15) // 16 for item in checksum.pseudo)
        words += sum((header.size + 2) // 2 for header in checksum.headers)
        depth, left = 0, words
        while left > 1 or not depth:
            left, depth = -(-left // _GROUP), depth + 1
        self._tree_latency = depth
        self.latency = max(depth, self.payload_late if checksum.payload else 0) + 3

    def elaborate(self, platform):
        m = Module()
        item, at = self.checksum, value_in(self.i.payload)
        words, is_odd = self._words(at)
        total, depth = _tree(m, words, "sum")
        # All joins where the later of headers' sum and payload's is there.
        joins = self.latency - 3
        total = delayed(m, total, joins - depth, "total")
        if item.payload:
            payload = delayed(m, self.payload_sum, joins - self.payload_late, "payload")
            is_odd = delayed(m, is_odd, joins, "is_odd")
            total = total + Mux(is_odd, swapped(payload), payload)
        joined, folded = Signal(len(total)), Signal(17)
        m.d.sync += [joined.eq(total), folded.eq(_folded(joined) if len(joined) > 16 else joined)]
        answer, found = Signal(16), at(item.target)
        m.d.comb += answer.eq(~_folded(folded))
        applies = delayed(m, at(item.target.owner.is_valid), self.latency - 1, "applies")
        found = delayed(m, found, self.latency - 1, "found")
        sent = Mux(answer == 0, 0xFFFF, answer) if item.zero_is_none else answer
        out = self.o.payload
        m.d.sync += [
            out.answer.eq(sent),
            out.applies.eq(applies),
            out.agrees.eq(~applies | (found == sent) | (found == 0 if item.zero_is_none else 0)),
            self.o.valid.eq(delayed(m, self.i.valid, self.latency - 1, "valid")),
        ]
        return m

    def _words(self, at):
        """Words to add up, and whether the payload begins in the lower half of a word."""
        words, is_odd = [], Constant(0, 1)
        for item in self.checksum.pseudo:
            value = at(item)
            words += [value[low:low + 16] for low in range(0, item.width, 16)]
        for header in self.checksum.headers:
            content = header_bytes(header, at, without=self.checksum.target)
            content += [Constant(0, 8)] * (header.size % 2)
            here = [Cat(low, high) for high, low in zip(content[::2], content[1::2], strict=True)]
            if not (isinstance(is_odd, Constant) and not is_odd.value):
                here = [Mux(is_odd, swapped(word), word) for word in here]
            valid = Constant(1, 1) if header in self.always else at(header.is_valid)
            words += [Mux(valid, word, 0) for word in here]
            if header.size % 2:
                is_odd = is_odd ^ valid
        return words, is_odd


class WordSum(wiring.Component):
    """The sum of the 16-bit words of a row of bytes that comes word by word, folded to 16 bits.

    A word a cycle, no stalls; ``latency`` cycles from the last word to the sum. Reset forgets what has come.

    Parameters
    ----------
    width:
        Bytes of a word, see :data:`~rackgate.stream.packet.WIDTHS`.
    most:
        Words of the longest row.

    Members
    -------
    i:
        Bytes that do not count are 0. Byte 0 of a row's first word is the upper half of a 16-bit word. ``last`` ends a
        row.
    o:
        The sum of each row.
    """

    def __init__(self, width: int, most: int):
        if width not in WIDTHS:
            raise ValueError(f"width must be one of {WIDTHS} bytes, not {width}")
        self.width, self.most = width, operator.index(most)
        if self.most < 1:
            raise ValueError(f"most must be at least 1, not {most}")
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"data": 8 * width, "last": 1}), always_ready=True)),
            "o": Out(stream.Signature(16, always_ready=True)),
        })
        depth, left = 0, max(width // 2, 1)
        while left > 1 or not depth:
            left, depth = -(-left // _GROUP), depth + 1
        self.latency = depth + 3

    def elaborate(self, platform):
        m = Module()
        content, is_second = self.i.payload.data, Signal()
        if self.width == 1:
            words = [Mux(is_second, content, Cat(Constant(0, 8), content))]
            with m.If(self.i.valid):
                m.d.sync += is_second.eq(~is_second & ~self.i.payload.last)
        else:
            words = [swapped(content[low:low + 16]) for low in range(0, 8 * self.width, 16)]
        total, depth = _tree(m, words, "sum")
        valid = delayed(m, self.i.valid, depth, "valid")
        last = delayed(m, self.i.payload.last, depth, "last")
        # The longest row cannot overflow it: no carry is lost before the end.
        row = Signal(16 + max(self.most * max(self.width // 2, 1), 2).bit_length())
        is_over, folded, is_folded = Signal(), Signal(17), Signal()
        is_first = Signal(init=1)
        m.d.sync += is_over.eq(valid & last)
        with m.If(valid):
            m.d.sync += [row.eq(Mux(is_first, 0, row) + total), is_first.eq(last)]
        m.d.sync += [
            folded.eq(_folded(row)),
            is_folded.eq(is_over),
            self.o.payload.eq(_folded(folded)),
            self.o.valid.eq(is_folded),
        ]
        return m
