# SPDX-License-Identifier: Apache-2.0
"""Adler-32 of zlib, 8 bytes a cycle."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.checksum.word import CheckWord, move_to_top

__all__ = ["Adler32"]

_MODULUS = 65521
#: Stages that carry a word's control bits, from the bytes to the reduced value.
_STAGES = 11


def _fold(value):
    """A smaller number with the same remainder: 65536 = 15 modulo 65521."""
    high = value[16:]
    return value[:16] + (high << 4) - high


def _reduced(value):
    """Remainder of a number below twice the modulus."""
    return Mux(value >= _MODULUS, value - _MODULUS, value)[:16]


class Adler32(wiring.Component):
    """Keep a running Adler-32 (RFC 1950 section 9; ``zlib.adler32``) of the bytes of a stream.

    For n bytes d0, d1, ... the sums become ``a + d0 + d1 + ...`` and ``b + n * a + n * d0 + (n-1) * d1 + ...``,
    modulo 65521. All that does not depend on a and b comes out of an adder tree; b's part that depends on
    a is computed behind a's loop, so each loop is one short addition. The sums are not reduced in the
    loops, only kept from growing: a stays below 67591 and b below 140401 (see the comments).

    One word of 0 to 8 bytes a cycle, always: ``i.ready`` is high. Reset: the value is 1.

    Members
    -------
    i:
        Bytes (:class:`~rackgate.checksum.word.CheckWord`).
    value:
        The checksum of all bytes taken, while ``busy`` is low.
    busy:
        Bytes taken are not yet in ``value``: from the cycle after they were taken, for 11 cycles.
    """

    i: In(stream.Signature(CheckWord))
    value: Out(32, init=1)
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()
        control = [Signal(data.StructLayout({"valid": 1, "restart": 1, "value": 32, "count": 4}), name=f"control_{k}")
                   for k in range(_STAGES)]
        m.d.comb += [
            self.i.ready.eq(1),
            self.busy.eq(Cat(stage.valid for stage in control).any()),
        ]
        m.d.sync += [
            control[0].valid.eq(self.i.valid),
            control[0].restart.eq(self.i.payload.restart & self.i.valid),
            control[0].value.eq(self.i.payload.value),
            control[0].count.eq(Mux(self.i.valid, self.i.payload.count, 0)),
            Assert(~self.i.valid | (self.i.payload.count <= 8), "count is above 8"),
        ]
        for before, after in zip(control, control[1:], strict=False):
            m.d.sync += after.eq(before)

        moved = Signal(64)
        move_to_top(m, moved, self.i.payload.data, Mux(self.i.valid, self.i.payload.count, 0))
        total, weighted = self._sum_bytes(m, moved)  # in the cycle of control[3]
        base = self._sum_a(m, control[3], total)  # of control[4]
        term = self._weigh_a(m, base, control[4].count, weighted)  # of control[8]
        self._sum_b(m, control[8], term)
        return m

    def _sum_bytes(self, m, moved):
        """Sum of the 8 bytes, and the sum of each times its distance from the end; 3 cycles."""
        sums = [moved.word_select(k, 8) for k in range(8)]
        weighted = list(sums)
        for level in range(3):
            count, each = len(sums) // 2, 255 << level
            next_sums = [Signal(range(2 * each + 1), name=f"sum_{level}_{k}") for k in range(count)]
            # ``1 << level`` bytes have weights 1 to ``1 << level``; the left half of a pair is that much farther.
            size = 2 << level
            next_weighted = [Signal(range(255 * size * (size + 1) // 2 + 1), name=f"weighted_{level}_{k}")
                             for k in range(count)]
            for k in range(count):
                left, right = 2 * k, 2 * k + 1
                m.d.sync += [
                    next_sums[k].eq(sums[left] + sums[right]),
                    next_weighted[k].eq(weighted[left] + weighted[right] + (sums[left] << level)),
                ]
            sums, weighted = next_sums, next_weighted
        return sums[0], weighted[0]

    def _sum_a(self, m, control, total):
        """a's loop. Return, a cycle later, the a from before the word: at most 65550."""
        a, base, base_before = Signal(17, init=1), Signal(17), Signal(17)
        m.d.comb += base.eq(Mux(control.restart, control.value[:16], _fold(a)))
        m.d.sync += base_before.eq(base)
        with m.If(control.valid):
            m.d.sync += a.eq(base + total)  # at most 65550 + 2040
        m.d.sync += self.value[:16].eq(_reduced(a))
        return base_before

    def _weigh_a(self, m, base, count, weighted):
        """``count * base + weighted``, folded to at most 74835; 4 cycles (``weighted`` is a cycle older)."""
        low, high, product = Signal(19), Signal(20), Signal(20)
        rest, small, term = Signal(16), Signal(14), Signal(17)
        m.d.sync += [
            low.eq(Mux(count[0], base, 0) + Mux(count[1], base << 1, 0)),
            high.eq(Mux(count[3], base << 3, Mux(count[2], base << 2, 0))),
            product.eq(low + high),  # at most 8 * 65550, so its bits 19:16 are at most 8
        ]
        for k in range(3):
            delayed = Signal.like(weighted, name=f"weighted_delayed_{k}")
            m.d.sync += delayed.eq(weighted)
            weighted = delayed
        top = product[16:]
        m.d.sync += [
            rest.eq(product[:16]),
            small.eq(weighted + (top << 4) - top),  # at most 9180 + 15 * 8
            term.eq(rest + small),
        ]
        return term

    def _sum_b(self, m, control, term):
        """b's loop, and what is left to reduce."""
        b, folded = Signal(18), Signal(17)
        with m.If(control.valid):
            m.d.sync += b.eq(Mux(control.restart, control.value[16:], _fold(b)) + term)  # at most 65565 + 74835
        m.d.sync += [
            folded.eq(_fold(b)),  # at most 65565, below twice the modulus
            self.value[16:].eq(_reduced(folded)),
        ]
