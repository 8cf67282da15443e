# SPDX-License-Identifier: Apache-2.0
"""CRC of up to 64 bits with a polynomial given at run time."""

import operator
from functools import reduce
from operator import xor

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CRC64", "CRC64Job", "CRC64Word"]


class CRC64Job(data.Struct):
    """How a CRC is to be computed: ``abi.Crc64Flag``, and the polynomial as ``abi.Descriptor`` has it."""

    polynomial: 64
    invert: 1
    big_endian: 1


class CRC64Word(data.Struct):
    """``count`` bytes (0 to 8) of ``data`` from byte ``first`` on, byte 0 lowest. ``last`` ends the job."""

    data: 64
    first: 3
    count: 4
    last: 1


class CRC64(wiring.Component):
    """Compute CRCs over streams of bytes, each with its own polynomial.

    The register shifts left, as for bytes whose highest bit comes first; for the other order the bits of
    each byte, and those of the result, are reversed. ``x**(64 + k)`` modulo the polynomial is kept for each of the
    ``8 * step`` bits that leave the register in a cycle: these rows are computed when a job has another
    polynomial than the one before it, a row a cycle.

    A word takes as many cycles as powers of two up to ``step`` are needed to make up its count: 8 bytes take
    ``8 / step`` cycles, and so bytes go at ``step`` a cycle; a word of none takes 1. A job takes 3 cycles beside
    its words, and ``8 * step - 1`` more for another polynomial. ``i.ready`` depends on no input. Reset forgets the
    job; the rows count no more.

    Parameters
    ----------
    step:
        Bytes a cycle: 1, 2, 4 or 8. The rows are ``512 * step`` flip-flops, and there are about as many LUTs.

    Members
    -------
    i_job:
        Jobs (:class:`CRC64Job`), each taken when the result of the one before has been.
    i:
        The bytes of the jobs (:class:`CRC64Word`).
    o:
        The result of each job, in its 64 bits as ``abi.Completion.crc64`` has it.
    """

    i_job: stream.Interface
    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, step=4):
        self.step = operator.index(step)
        if self.step not in (1, 2, 4, 8):
            raise ValueError(f"step must be 1, 2, 4 or 8, not {step}")
        super().__init__({
            "i_job": In(stream.Signature(CRC64Job)),
            "i": In(stream.Signature(CRC64Word)),
            "o": Out(stream.Signature(64)),
        })

    def elaborate(self, platform):
        m = Module()
        job, ones = Signal(CRC64Job, reset_less=True), Signal(64, reset_less=True)
        # rows[k] is x**(64 + k) modulo the polynomial; they are pushed in from the highest, x**64 first.
        rows = [Signal(64, name=f"row_{k}", reset_less=True) for k in range(8 * self.step)]
        has_rows, rows_left = Signal(), Signal(range(8 * self.step))
        register = Signal(64, reset_less=True)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i_job.ready.eq(1)
                with m.If(self.i_job.valid):
                    m.d.sync += [
                        job.eq(self.i_job.payload),
                        has_rows.eq(has_rows & (job.polynomial == self.i_job.payload.polynomial)),
                    ]
                    m.next = "SEED"
            with m.State("SEED"):
                polynomial = job.polynomial
                m.d.sync += [
                    # All bits from the lowest set one up: as many as the CRC has.
                    ones.eq(Mux(job.invert, polynomial | -polynomial, 0)),
                    register.eq(Mux(job.invert, polynomial | -polynomial, 0)),
                    rows_left.eq(len(rows) - 1),
                ]
                m.next = "WORK"
                with m.If(~has_rows):
                    m.d.sync += rows[0].eq(polynomial)
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.sync += [rows_left.eq(rows_left - 1), self._push(rows, job.polynomial)]
                with m.If(rows_left == 1):
                    m.d.sync += has_rows.eq(1)
                    m.next = "WORK"
            with m.State("WORK"):
                is_end = self._take(m, job, register, rows)
                with m.If(is_end):
                    m.next = "RESULT"
            with m.State("RESULT"):
                result = register ^ ones
                m.d.comb += [
                    self.o.valid.eq(1),
                    self.o.payload.eq(Mux(job.big_endian, result[::-1], result)),
                ]
                with m.If(self.o.ready):
                    m.next = "IDLE"
        return m

    def _push(self, rows, polynomial):
        """Multiply the newest row by x, and move the others on. The newest ends as the highest power."""
        newest = rows[0]
        return [newest.eq((newest << 1) ^ Mux(newest[63], polynomial, 0)),
                *(after.eq(before) for before, after in zip(rows, rows[1:], strict=False))]

    def _take(self, m, job, register, rows):
        """Words in, and their bytes into the register. Return whether the job's last bytes go in now."""
        word, has_word, left = Signal(64), Signal(), Signal(4)  # the next byte on top
        is_last, is_through, step = Signal(), Signal(), Signal(4)
        taken, given = Signal(64), self.i.payload
        m.d.comb += [
            is_through.eq(left == step),
            self.i.ready.eq(~has_word | is_through & ~is_last),
        ]
        with m.If(self.i.ready):
            m.d.sync += [has_word.eq(self.i.valid), left.eq(given.count), is_last.eq(given.last), word.eq(taken)]
        with m.Elif(has_word):
            m.d.sync += left.eq(left - step)
            with m.If(is_through):
                m.d.sync += has_word.eq(0)

        # The first byte to the top; its first bit too.
        turned = [Mux(job.big_endian, byte[::-1], byte) for byte in (given.data.word_select(k, 8) for k in range(8))]
        with m.Switch(given.first):
            for first in range(8):
                with m.Case(first):
                    m.d.comb += taken.eq(Cat(reversed(turned)) << 8 * first)
        m.d.sync += Assert(~self.i.valid | (given.first + given.count <= 8), "a word's bytes reach past it")

        # What leaves the register, with the bytes that meet it there; and what stays, moved up.
        leaving, staying = Signal(8 * self.step), Signal(64)
        m.d.comb += staying.eq(register)
        for size in (1, 2, 4, 8):
            if size > self.step:
                break
            with m.If(left >= size):
                bits = 8 * size
                m.d.comb += [
                    step.eq(size),
                    leaving.eq((register ^ word)[64 - bits:]),
                    staying.eq(register << bits),
                ]
                with m.If(has_word & ~self.i.ready):
                    m.d.sync += word.eq(word << bits)
        with m.If(has_word):
            # rows[0] is the highest power.
            m.d.sync += register.eq(reduce(
                xor, (Mux(leaving[k], rows[len(rows) - 1 - k], 0) for k in range(len(rows))), staying))
        return has_word & is_last & is_through
