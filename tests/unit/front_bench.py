# SPDX-License-Identifier: Apache-2.0
"""A bench around the front: the real input buffer, and in Python what else it meets, checked against the golden model.

The pipe (body decoder, copier, output stage) works symbol by symbol from the code tables that the front shows,
and on RAW entries as they come, so its results are exact to a symbol or a RAW entry.
"""

import random
import zlib

from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from rackgate.inflate.abi import Completion, Descriptor, ErrorCode, Flag, Format, Opcode
from rackgate.inflate.body import READ_AHEAD
from rackgate.inflate.entry import Kind, Mark, Start
from rackgate.inflate.front import Front
from rackgate.inflate.input import InputBuffer
from rackgate_sim.inflate.model import (
    DISTANCE_BASE,
    DISTANCE_EXTRA,
    LENGTH_BASE,
    LENGTH_EXTRA,
    BusError,
    Engine,
    difference,
)

CONTEXT = 5
CYCLE_LIMIT = 200_000


class JobMemory:
    """Memory of one job, for the model. With ``broken`` reads fail."""

    def __init__(self, source, broken):
        self.source, self.broken, self.written = source, broken, b""

    def read(self, address, size):
        if self.broken:
            raise BusError
        return self.source

    def write(self, address, data):
        self.written = data


class Copier:
    """What becomes of entries: history, room, checksums."""

    def __init__(self):
        self.history, self.room, self.skip, self.quiet, self.destination = bytearray(), 0, 0, False, bytearray()
        self.crc32, self.adler32, self.total, self.pending = 0, 1, 0, bytearray()
        self._begin_run()

    def _begin_run(self):
        self.bits, self.overflow, self.error = 0, False, ErrorCode.NONE

    @property
    def fault(self):
        return self.overflow or self.error != ErrorCode.NONE

    def start(self, flags, room):
        self.quiet = flags.suppress
        if flags.new_job:
            self.room, self.destination = room, bytearray()
        if flags.reset_history:
            self.history, self.skip = bytearray(), 0
        if flags.reset_check:
            self._check()
            self.crc32, self.adler32, self.total = 0, 1, 0

    def entry(self, data, bits):
        """Bytes, or (length, distance)."""
        if self.fault:
            return
        before = self.history[:len(self.history) - self.skip]  # what a job that overflowed delivered comes again
        if isinstance(data, tuple):
            length, distance = data
            if distance > len(before):
                self.error = ErrorCode.DISTANCE_BEFORE_START
                return
            data = bytes(before[k % distance - distance] for k in range(length))
        given, skipped, data = self.skip, data[:self.skip], data[self.skip:]
        fits = data if self.quiet else data[:self.room]
        self.history += fits
        if not self.quiet:
            self.destination += fits
            self.pending += fits
            self.room -= len(fits)
        if len(fits) < len(data):
            self.overflow, self.skip = True, given + len(fits)
        else:
            self.skip, self.bits = given - len(skipped), self.bits + bits

    def _check(self):
        self.crc32, self.adler32 = zlib.crc32(self.pending, self.crc32), zlib.adler32(self.pending, self.adler32)
        self.total += len(self.pending)
        self.pending = bytearray()

    def mark(self, mark, final, error=0, bits=0):
        """(Result, Summary or None)."""
        assert mark != Mark.ABORT or self.fault
        if not self.fault:
            self.bits += bits
            self.error = error
        result = {"mark": mark, "overflow": self.overflow, "error": self.error, "bits": self.bits,
                  "produced": len(self.destination)}
        summary = None
        if final or self.fault or mark != Mark.END_OF_BLOCK:
            self._check()
            summary = {"crc32": self.crc32, "adler32": self.adler32, "total": self.total}
        self._begin_run()
        return result, summary


class _World:
    """The design and its simulator: elaborated once a process, because that takes longer than most tests."""

    kept = None

    @classmethod
    def take(cls):
        """The world, which is nobody's until it comes back by :meth:`run`."""
        world, cls.kept = cls.kept or cls(), None
        return world

    def __init__(self):
        self.front, self.buffer, self.body_consume = Front(context=CONTEXT), InputBuffer(), Signal(6)
        self.simulator = Simulator(self._design())
        self.simulator.add_clock(1e-8)
        self.bench = None
        for name in ("main", "_feed", "_pipe", "_report", "_summarize", "_watch"):
            self._partner(name)

    def _partner(self, name):
        async def partner(ctx):
            await getattr(self.bench, name)(ctx)

        self.simulator.add_testbench(partner, background=name != "main")

    def _design(self):
        m = Module()
        m.submodules.front, m.submodules.buffer = front, buffer = self.front, self.buffer
        m.d.comb += [
            front.window.eq(buffer.window), front.level.eq(buffer.level), front.exhausted.eq(buffer.exhausted),
            front.read_error.eq(buffer.error), front.primed.eq(buffer.primed), front.position.eq(buffer.position),
            buffer.take.eq(front.take | self.body_consume.any()),
            buffer.consume.eq(front.consume | self.body_consume), buffer.end.eq(front.end),
            buffer.restart.eq(front.restart), buffer.restart_position.eq(front.restart_position),
            buffer.flush.eq(front.flush),
        ]
        return m

    def run(self, bench):
        """Simulate from reset until ``bench.main`` returns. After an error the world is not used again."""
        if self.bench is not None:
            self.simulator.reset()
        self.bench = bench
        self.simulator.run()
        _World.kept = self


class FrontBench:
    """Runs ``await driver(bench)`` with a front; :meth:`job` does a job and compares it with the golden model.

    ``gap`` is the share of cycles in which a partner is not ready or has nothing, for each of them.
    """

    def __init__(self, *, seed=0, gap=0.0):
        self.random, self.gap = random.Random(seed), gap
        self._world = _World.take()
        self.front, self.buffer, self.body_consume = (
            self._world.front, self._world.buffer, self._world.body_consume)
        self.words, self.value, self.end = [], 0, 0
        self.copier, self.symbols = Copier(), {}
        self.reports, self.summaries = [], []
        self.engine = Engine(1)
        self.cycles = self.grants = 0
        self.log = []  # START flags, RAW byte counts and MARKs of the last job

    def run(self, driver):
        """Simulate until ``driver`` returns."""
        self._driver = driver
        self._world.run(self)

    async def main(self, ctx):
        """The test."""
        self.ctx = ctx
        await self._driver(self)

    async def job(self, source, framing=Format.RAW, flags=Flag.LAST, *, room=1 << 20, opcode=Opcode.INFLATE,
                  start_bit=0, broken=None, compare=True):
        """Do a job: (completion, its output).

        ``broken`` is the index of a word that cannot be read. ``compare`` is for jobs that go on after an overflow:
        the model's resume point was another one then.
        """
        ctx, front = self.ctx, self.front
        offset = self.random.randrange(8) if source else 0
        stream = bytes(self.random.randrange(256) for _ in range(offset)) + source
        self.log.clear()
        self.grants = 0
        begin, self.end = 8 * offset + start_bit, 8 * len(stream)
        self.value = int.from_bytes(stream, "little")
        stream += bytes(self.random.randrange(256) for _ in range(-len(stream) % 8))
        words = [int.from_bytes(stream[k:k + 8], "little") for k in range(0, len(stream), 8)]
        if broken is not None:
            words[broken:] = [None]
            self.end = min(self.end, 64 * broken)
        self.copier.destination = bytearray()
        await self._send(ctx, front.i_job, {
            "load": opcode == Opcode.LOAD, "tables": opcode == Opcode.TABLES,
            "canned": bool(flags & Flag.CANNED), "framing": framing, "resume": bool(flags & Flag.RESUME),
            "last": bool(flags & Flag.LAST), "multi": bool(flags & Flag.MULTI),
            "strict_lengths": bool(flags & Flag.STRICT_LENGTHS),
            "source_bits": begin, "source_end": begin - start_bit + 8 * len(source), "room": room})
        self.words = words
        got = await self._receive(ctx, front.o_result)
        position = got.position - 8 * offset
        actual = Completion(got.produced, position >> 3, position & 7, got.crc32, got.adler32, got.members, got.total,
                            0, 0, got.dictionary, 0, got.status, got.error, got.flags)
        output = bytes(self.copier.destination)
        assert ctx.get(front.want) == 0
        assert not self.reports and not self.summaries, "a report was not taken"
        if compare:
            self._compare(actual, output, source, framing, flags, room, opcode, start_bit, broken is not None)
        return actual, output

    def _compare(self, actual, output, source, framing, flags, room, opcode, start_bit, broken):
        memory = JobMemory(source, broken)
        descriptor = Descriptor(0, len(source), 0, room, 0, opcode, framing, flags, start_bit=start_bit)
        expected = self.engine.run(descriptor, memory)
        if not broken:
            what = difference(expected, actual)
            assert not what, f"{what}\nexpected {expected}\n     got {actual}\nsource {source.hex()}"
            assert output == memory.written

    async def forget(self):
        """Have the front, and the model, forget what could be resumed."""
        self.ctx.set(self.front.forget, 1)
        await self.ctx.tick()
        self.ctx.set(self.front.forget, 0)
        self.engine = Engine(1)

    async def _pause(self, ctx):
        while self.random.random() < self.gap:
            await ctx.tick()

    @staticmethod
    async def _until(ctx, signal):
        while not (await ctx.tick().sample(signal))[-1]:
            pass

    async def _send(self, ctx, port, payload):
        await self._pause(ctx)
        ctx.set(port.payload, payload)
        ctx.set(port.valid, 1)
        await self._until(ctx, port.ready)
        ctx.set(port.valid, 0)

    async def _receive(self, ctx, port):
        """Take a payload, and see that it stands still meanwhile."""
        seen = None
        while True:
            ready = self.random.random() >= self.gap
            ctx.set(port.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(port.valid, port.payload)
            assert seen is None or (valid and payload.as_bits() == seen), "a waiting payload changed"
            if valid and ready:
                ctx.set(port.ready, 0)
                return payload
            seen = payload.as_bits() if valid else None

    async def _watch(self, ctx):
        while True:
            await ctx.tick()
            self.cycles += 1
            assert self.cycles < CYCLE_LIMIT, "the front hangs"
            write = ctx.get(self.front.o_symbol)
            if write.enable:
                self.symbols[write.address] = write.symbol

    async def _feed(self, ctx):
        port = self.buffer.i
        while True:
            await self._pause(ctx)
            if not self.words:
                await ctx.tick()
                continue
            words, word = self.words, self.words[0]
            ctx.set(port.payload, {"data": word or 0, "last": len(words) == 1, "error": word is None})
            ctx.set(port.valid, 1)
            _, _, ready = await ctx.tick().sample(port.ready)
            ctx.set(port.valid, 0)
            if ready:
                words.pop(0)

    async def _report(self, ctx):
        await self._send_all(ctx, self.front.i_outcome, self.reports)

    async def _summarize(self, ctx):
        await self._send_all(ctx, self.front.i_summary, self.summaries)

    async def _send_all(self, ctx, port, payloads):
        while True:
            if payloads:
                await self._send(ctx, port, payloads[0])
                payloads.pop(0)
            else:
                await ctx.tick()

    async def _pipe(self, ctx):
        """The lock, the entries and the body decoder."""
        front = self.front
        while True:
            await self._until(ctx, front.want)
            await self._pause(ctx)
            ctx.set(front.grant, 1)
            self.grants += 1
            assert self.grants == 1, "a job takes the pipe twice"
            waiting = None
            while ctx.get(front.want):
                ready = self.random.random() >= self.gap
                ctx.set(front.o_entry.ready, ready)
                ctx.set(front.o_run.ready, ready)
                _, _, has_entry, entry, has_run, run = await ctx.tick().sample(
                    front.o_entry.valid, front.o_entry.payload, front.o_run.valid, front.o_run.payload)
                assert not (has_entry and has_run)
                assert waiting in (None, (has_entry, entry.as_bits())), "a waiting entry changed"
                waiting = (1, entry.as_bits()) if has_entry and not ready else None
                if has_entry and ready:
                    self._take_entry(ctx, entry)
                if has_run and ready:
                    ctx.set(front.o_entry.ready, 0)
                    ctx.set(front.o_run.ready, 0)
                    await self._body(ctx, run)
            ctx.set(front.grant, 0)
            ctx.set(front.o_entry.ready, 0)
            ctx.set(front.o_run.ready, 0)

    def _take_entry(self, ctx, entry):
        assert entry.context == CONTEXT
        data = bytes(entry.bytes[k] for k in range(4))
        if entry.kind == Kind.START:
            flags = Start.from_bits(entry.length)
            self.log.append(("START", entry.length))
            self.copier.start(flags, int.from_bytes(data, "little"))
        elif entry.kind == Kind.RAW:
            assert 1 <= entry.literals <= 4 and entry.bits == 8 * entry.literals
            self.log.append(("RAW", entry.literals))
            self.copier.entry(data[:entry.literals], entry.bits)
        else:
            assert entry.kind == Kind.MARK and entry.bits == 0
            self.log.append(("MARK", entry.mark))
            self._mark(entry.mark, entry.final)
        ctx.set(self.front.fault, self.copier.fault)

    def _mark(self, mark, final, error=0, bits=0):
        result, summary = self.copier.mark(mark, final, error, bits)
        self.reports.append(result)
        if summary:
            self.summaries.append(summary)

    async def _body(self, ctx, run):
        """Decode a block, using the input buffer as roughly as the body decoder does."""
        assert run.context == CONTEXT and run.position == ctx.get(self.buffer.position)
        decoder = SymbolDecoder(ctx.get(self.front.tables), self.symbols, self.value, run.position, self.end)
        mark, error = decoder.run(self.copier)
        ctx.set(self.front.fault, self.copier.fault)
        limit = min(decoder.position + READ_AHEAD, self.end)
        for _ in range(self.random.randrange(3 + (limit - run.position) // 8)):
            room = min(ctx.get(self.buffer.level), limit - ctx.get(self.buffer.position))
            ctx.set(self.body_consume, self.random.randint(0, max(0, room)))
            await ctx.tick()
        ctx.set(self.body_consume, 0)
        self._mark(mark, run.final, error, decoder.last_bits)
        ctx.set(self.front.fault, 0)
        self.log.append(("RUN", mark))
        await self._send(ctx, self.front.i_stop, {"mark": mark, "position": decoder.position})


class SymbolDecoder:
    """The body decoder: symbols from code tables, as RFC 1951 3.2.2 and :class:`CodeTables` have it."""

    def __init__(self, tables, symbols, value, position, end):
        self.tables, self.symbols, self.value, self.position, self.end = tables, symbols, value, position, end
        self.last_bits = 0  # of the end-of-block symbol

    class Dry(Exception):
        pass

    def run(self, copier):
        """Decode up to where a run ends: (Mark, ErrorCode)."""
        while not copier.fault:
            begin = self.position
            try:
                symbol = self._literal()
                if symbol == 256:
                    self.last_bits = self.position - begin
                    return Mark.END_OF_BLOCK, 0
                if symbol > 285:
                    return Mark.ERROR, ErrorCode.BAD_LITERAL_CODE
                if symbol < 256:
                    data = bytes([symbol])
                else:
                    length = LENGTH_BASE[symbol - 257] + self._take(LENGTH_EXTRA[symbol - 257])
                    symbol = self._distance()
                    if symbol > 29:
                        return Mark.ERROR, ErrorCode.BAD_DISTANCE_CODE
                    data = (length, DISTANCE_BASE[symbol] + self._take(DISTANCE_EXTRA[symbol]))
            except self.Dry:
                return Mark.DRY, 0
            except LookupError as reason:
                return Mark.ERROR, reason.args[0]
            copier.entry(data, self.position - begin)
        return Mark.ABORT, 0

    def _take(self, count):
        if self.position + count > self.end:
            raise self.Dry
        value = self.value >> self.position & ((1 << count) - 1)
        self.position += count
        return value

    def _code(self, limits, error):
        code = 0
        for length in range(1, 16):
            code = code << 1 | self._take(1)
            if code < limits[str(length)]:
                return length, code
        raise LookupError(error)

    def _literal(self):
        length, code = self._code(self.tables.literal_limit, ErrorCode.BAD_LITERAL_CODE)
        return self.symbols[(code + self.tables.literal_base[str(length)]) % 4096]

    def _distance(self):
        length, code = self._code(self.tables.distance_limit, ErrorCode.BAD_DISTANCE_CODE)
        return self.tables.distance_symbol[(code + self.tables.distance_index[str(length)]) % 32]
