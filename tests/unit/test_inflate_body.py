# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Body decoder against tables and tokens made in software."""

import random
import zlib

import pytest
from amaranth.sim import Simulator
from inflate_reference import Bits, code_tables, read_block_header, run_entries

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.body import READ_AHEAD, BodyDecoder
from rackgate.inflate.chain import Chain
from rackgate.inflate.entry import Kind, Mark
from rackgate.inflate.lanes import Lanes


class World:
    """A decoder and its simulator: elaborated once a process, because that takes longer than most tests."""

    kept = {}

    def __init__(self, lanes):
        self.dut, self.bench = BodyDecoder(lanes=lanes), None
        self.simulator = Simulator(self.dut)
        self.simulator.add_clock(1e-8)
        for number in range(3):
            self._partner(number)

    def _partner(self, number):
        async def partner(ctx):
            await self.bench.partners[number](ctx)

        self.simulator.add_testbench(partner, background=number != 0)

    def run(self, bench):
        """Simulate from reset until the first partner returns. After an error the world is not used again."""
        if self.bench is not None:
            self.simulator.reset()
        self.bench = bench
        self.simulator.run()
        World.kept[self.dut.lanes] = self


class Bench:
    """Plays front, input buffer and queue around a decoder; ``idle`` is the chance of each to pause."""

    def __init__(self, lanes=16, seed=0, idle=0.0):
        self.world = World.kept.pop(lanes, None) or World(lanes)
        self.dut, self.random, self.idle = self.world.dut, random.Random(seed), idle
        self.entries, self.stop, self.cycles, self.jobs = [], None, 0, []

    def run(self, source, literals, distances, position, *, end=None, context=0, fault_after=None, limit=60_000):
        value, end = int.from_bytes(source, "little"), 8 * len(source) if end is None else end
        tables, ram = code_tables(literals, distances)
        dut = self.dut

        async def front(ctx):
            for address, symbol in ram.items():
                ctx.set(dut.writes[context], {"enable": 1, "address": address, "symbol": symbol})
                await ctx.tick()
            ctx.set(dut.writes[context].enable, 0)
            ctx.set(dut.tables[context], tables)
            ctx.set(dut.i.payload, {"context": context, "position": position, "end": end, "final": 1})
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
            ctx.set(dut.o_stop.ready, 1)
            start = self.cycles
            for _ in range(limit):
                *_, stopped, stop = await ctx.tick().sample(dut.o_stop.valid, dut.o_stop.payload)
                if stopped:
                    self.stop, self.run_cycles = stop, self.cycles - start
                    break
            else:
                raise AssertionError("the run did not end")
            for _ in range(4):
                await ctx.tick()

        async def source_side(ctx):
            at, lanes = position, dut.lanes
            while True:
                *_, want = await ctx.tick().sample(dut.want)
                there = self.random.random() >= self.idle
                ctx.set(dut.i_valid, want and there)
                ctx.set(dut.i_bits, self.random.randrange(1 << lanes))
                ctx.set(dut.i_count, self.random.randrange(lanes + 1))
                if want and there:
                    ctx.set(dut.i_bits, (value & ((1 << end) - 1)) >> at & ((1 << lanes) - 1))
                    ctx.set(dut.i_count, min(lanes, end - at))
                    at += min(lanes, end - at)
                self.read_to = at

        async def queue_side(ctx):
            ctx.set(dut.o.ready, 1)
            while True:
                ctx.set(dut.room, self.random.random() >= self.idle)
                *_, valid, entry = await ctx.tick().sample(dut.o.valid, dut.o.payload)
                self.cycles += 1
                if valid:
                    self.entries.append({
                        "kind": Kind(entry.kind), "context": entry.context, "bits": entry.bits,
                        "has_match": entry.has_match, "length": entry.length, "distance": entry.distance,
                        "literals": entry.literals, "bytes": [entry.bytes[k] for k in range(4)],
                        "mark": Mark(entry.mark), "error": entry.error, "final": entry.final})
                if fault_after is not None and len(self.entries) >= fault_after:
                    ctx.set(dut.fault, 1 << context)

        self.partners = front, source_side, queue_side
        self.world.run(self)
        assert self.entries, "no entry came"
        assert [e["kind"] for e in self.entries].count(Kind.MARK) == 1
        assert self.entries[-1]["kind"] is Kind.MARK
        assert all(e["context"] == context for e in self.entries)
        return run_entries(self.entries[:-1]), self.entries[-1]


def one_block(seed, size=1500, strategy=zlib.Z_DEFAULT_STRATEGY):
    """(raw Deflate of one block, its plain text)."""
    rng = random.Random(seed)
    words = [bytes(rng.randrange(97, 123) for _ in range(rng.randint(2, 9))) for _ in range(40)]
    plain = b" ".join(rng.choice(words) if rng.random() < 0.8 else rng.randbytes(3) for _ in range(size // 6))
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(plain) + packer.flush(), plain


@pytest.mark.thorough
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("idle", [0.0, 0.3])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY])
def test_block(lanes, idle, strategy):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    source, plain = one_block(seed, strategy=strategy)
    bits = Bits(source)
    _, _, literals, distances = read_block_header(bits)
    bench = Bench(lanes, seed, idle)
    out, mark = bench.run(source, literals, distances, bits.position, context=seed & 1)
    assert out == plain
    assert mark["mark"] is Mark.END_OF_BLOCK and mark["final"] and not mark["error"]
    assert Mark(bench.stop.mark) is Mark.END_OF_BLOCK
    assert bits.position + sum(e["bits"] for e in bench.entries) == bench.stop.position
    assert 0 <= 8 * len(source) - bench.stop.position < 8
    if not idle:
        blocks = (bench.stop.position - bits.position) / lanes
        symbols = sum(2 * e["has_match"] + e["literals"] for e in bench.entries)
        assert bench.run_cycles <= blocks + symbols / 2 + 45


@pytest.mark.thorough
def test_lookahead_is_bounded():
    """The input buffer must be able to go back to the end of the block: 384 bits at most."""
    source, plain = one_block(5)
    bits = Bits(source)
    _, _, literals, distances = read_block_header(bits)
    bench = Bench()
    out, _ = bench.run(source + bytes(200), literals, distances, bits.position)
    assert out == plain
    assert bench.read_to - bench.stop.position <= READ_AHEAD


@pytest.mark.thorough
def test_end_of_source():
    """Cut after any bit, the run is dry at the last whole token before the cut."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    source, plain = one_block(seed, size=60)
    bits = Bits(source)
    _, _, literals, distances = read_block_header(bits)
    whole = Bench()
    whole.run(source, literals, distances, bits.position)
    ends = [bits.position]
    for entry in whole.entries[:-1]:
        ends.append(ends[-1] + entry["bits"])
    for end in random.Random(seed).sample(range(bits.position, whole.stop.position), 5):
        bench = Bench()
        out, mark = bench.run(source, literals, distances, bits.position, end=end)
        assert mark["mark"] is Mark.DRY
        assert plain.startswith(out)
        assert max(e for e in ends if e <= end) <= bench.stop.position <= end


@pytest.mark.thorough
@pytest.mark.parametrize("symbol, error", [(286, ErrorCode.BAD_LITERAL_CODE), (287, ErrorCode.BAD_LITERAL_CODE)])
def test_invalid_length_symbol(symbol, error):
    """Fixed codes 286 and 287 (8 bits, from 0b11000110) are errors after the literals before them."""
    text = "".join(f"{0x30 + byte:08b}" for byte in b"ab") + f"{0b11000000 + symbol - 280:08b}" + "0" * 32
    source = int(text[::-1], 2).to_bytes(len(text) // 8 + 1, "little")
    bench = Bench()
    out, mark = bench.run(source, [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 32, 0)
    assert (out, mark["mark"], mark["error"]) == (b"ab", Mark.ERROR, error)
    assert bench.stop.position == 16


@pytest.mark.thorough
@pytest.mark.parametrize("distance", [30, 31])
@pytest.mark.parametrize("end", [20, 30, 50])
def test_invalid_distance_symbol(distance, end):
    """It has no extra bits, so it is an error and no lack of input even if it is the last of the source."""
    text = f"{0x30 + 97:08b}" + "0000001" + f"{distance:05b}" + "0" * 32
    source = int(text[::-1], 2).to_bytes(len(text) // 8 + 1, "little")
    bench = Bench()
    out, mark = bench.run(source, [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 32, 0, end=end)
    assert (out, mark["mark"], mark["error"]) == (b"a", Mark.ERROR, ErrorCode.BAD_DISTANCE_CODE)
    assert bench.stop.position == 8, "the length symbol of the match does not count"


def test_no_code_matches():
    """A lone 1-bit code leaves the other bit undefined; so does an empty distance code."""
    literals = [0] * 257
    literals[256] = 1
    bench = Bench()
    out, mark = bench.run(b"\xff" * 8, literals, [0], 0)
    assert (out, mark["mark"], mark["error"]) == (b"", Mark.ERROR, ErrorCode.BAD_LITERAL_CODE)
    literals = [0] * 258
    literals[256] = literals[257] = 1
    bench = Bench()
    out, mark = bench.run(b"\xff" * 8, literals, [0], 0)
    assert (out, mark["mark"], mark["error"]) == (b"", Mark.ERROR, ErrorCode.BAD_DISTANCE_CODE)


def test_abort():
    source, _ = one_block(11)
    bits = Bits(source)
    _, _, literals, distances = read_block_header(bits)
    bench = Bench()
    _, mark = bench.run(source, literals, distances, bits.position, fault_after=20)
    assert mark["mark"] is Mark.ABORT
    assert len(bench.entries) < 40


def test_parameters():
    with pytest.raises(ValueError, match="^lanes must be 8 or 16, not 12$"):
        Lanes(12)
    with pytest.raises(ValueError, match="^lanes must be 8 or 16, not 4$"):
        Chain(4)
    with pytest.raises(ValueError, match="^contexts must be 1 to 8, not 9$"):
        BodyDecoder(contexts=9)
