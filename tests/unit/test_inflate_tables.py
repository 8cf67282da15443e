# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""From block headers to tables: every code is looked up the way the body decoder does it."""

import random
import zlib
from pathlib import Path

import pytest
from amaranth.sim import Simulator

from rackgate.inflate.abi import ErrorCode, Flag
from rackgate.inflate.code import FIXED_SYMBOLS, LENGTHS, SYMBOL_RAM_DEPTH, length_extra_bits
from rackgate.inflate.ranked import RankedList
from rackgate.inflate.tables import BlockTables
from rackgate_sim.inflate.assembler import Assembler, canonical_codes, limited_lengths, run_lengths
from rackgate_sim.inflate.model import CODE_LENGTH_ORDER, FIXED_DISTANCES, FIXED_LITERALS, inflate
from rackgate_sim.inflate.streams import CORNERS, NEGATIVES

HEADER_ERRORS = {2, 3, 4, 5, 6, 7, 8, 9, 10, 35, 36, 0x8A, 0x8B, 0x8C, 0x8D}


class Bench:
    """A BlockTables, its symbol RAM, and a source that is as slow as wished."""

    def __init__(self, seed=0):
        self.dut = BlockTables()
        self.ram = {}
        self.random = random.Random(seed)

    def run(self, testbench):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        simulator.add_testbench(testbench)
        simulator.run()

    async def block(self, ctx, bits=0, size=0, *, rate=None, fixed=False, strict=False):
        """Have codes read from the ``size`` lowest of ``bits``; returns (cycles, consumed, error, dry).

        ``rate`` bits a cycle arrive on average; without, all are there.
        """
        dut = self.dut
        ctx.set(dut.fixed, fixed)
        ctx.set(dut.strict, strict)
        ctx.set(dut.start, 1)
        position, arrived, cycles = 0, 0 if rate else size, 0
        while True:
            level = min(32, arrived - position)
            ctx.set(dut.window, bits >> position & ((1 << level) - 1))
            ctx.set(dut.level, level)
            ctx.set(dut.exhausted, arrived == size and level == size - position)
            consume = ctx.get(dut.consume) if ctx.get(dut.take) else 0
            assert consume <= level
            position += consume
            if ctx.get(dut.o_symbol.enable):
                address = ctx.get(dut.o_symbol.address)
                assert address < SYMBOL_RAM_DEPTH
                self.ram[address] = ctx.get(dut.o_symbol.symbol)
            if ctx.get(dut.done):
                outcome = ErrorCode(ctx.get(dut.error)), ctx.get(dut.dry)
                await ctx.tick()
                return cycles, position, *outcome
            await ctx.tick()
            ctx.set(dut.start, 0)
            if rate and self.random.random() < rate / 16:
                arrived = min(size, arrived + self.random.randint(1, 31))
            cycles += 1
            assert cycles < 2000 + 100 * size // (rate or 100), "never done"

    def check(self, ctx, literals, distances):
        """Every code of both alphabets must be found, with its symbol and its extra bits."""
        tables = self.dut.tables

        def row(field):
            values = ctx.get(getattr(tables, field))
            return {length: int(values[str(length)]) for length in LENGTHS}

        def entries(field):
            return [ctx.get(getattr(tables, field)[rank]) for rank in range(32)]

        limit, split, base, index = map(row, ("literal_limit", "literal_split", "literal_base", "length_index"))
        extra = entries("length_extra")
        for symbol, length, code in coded(literals):
            assert found_length(limit, code, length) == length, symbol
            assert self.ram[(code + base[length]) % 4096] == symbol
            assert (code >= split[length]) == (symbol > 256), symbol
            if symbol > 256:
                assert extra[(code + index[length]) % 32] == length_extra_bits(symbol - 257), symbol
        limit, index = row("distance_limit"), row("distance_index")
        symbols = entries("distance_symbol")
        for symbol, length, code in coded(distances):
            assert found_length(limit, code, length) == length, symbol
            assert symbols[(code + index[length]) % 32] == symbol
        for lengths, limit in ((literals, row("literal_limit")), (distances, row("distance_limit"))):
            space = sum(1 << 15 - length for length in lengths if length)
            if space < 1 << 15:
                assert found_length(limit, space, 15) is None, "what is no code was found"
                assert found_length(limit, (1 << 15) - 1, 15) is None, "what is no code was found"


def coded(lengths):
    return [(symbol, length, code) for symbol, (length, code)
            in enumerate(zip(lengths, canonical_codes(lengths), strict=True)) if length]


def found_length(limit, code, length):
    """Length that the comparators see in ``code`` (of ``length`` bits) followed by anything."""
    results = set()
    for padding in (0, (1 << 15 - length) - 1):
        bits = code << 15 - length | padding
        results.add(next((own for own in LENGTHS if bits >> 15 - own < limit[own]), None))
    assert len(results) == 1, "the length depends on the bits after the code"
    return results.pop()


def header(literals, distances, **options):
    """(bits, size, cycles in the symbols) of a header without its first three bits."""
    asm = Assembler().dynamic_header(literals, distances, **options)
    return int.from_bytes(asm.data(), "little") >> 3, len(asm) - 3


def symbol_cycles(lengths, symbols):
    """Cycles that code-length symbols take."""
    place = cycles = 0
    for symbol, extra in symbols:
        count = {16: 3 + extra, 17: 3 + extra, 18: 11 + extra}.get(symbol, 1)
        cycles += (symbol > 15) + (count if symbol == 16 and lengths[place] else 1)
        place += count
    return cycles


def random_code(generator, size, *, limit=15, used=None, least=2):
    """Lengths of a complete code, skewed so that all lengths come up."""
    used = used if used is not None else generator.randint(least, size)
    skew = generator.choice((1, 2, 8))
    frequencies = [0] * size
    for symbol in generator.sample(range(size), used):
        frequencies[symbol] = int(generator.random() ** skew * 10 ** generator.randint(1, 6)) + 1
    return limited_lengths(frequencies, limit)


def random_codes(generator):
    literals = random_code(generator, generator.randint(257, 286))
    if not literals[256]:
        other = generator.choice([symbol for symbol, length in enumerate(literals) if length])
        literals[256], literals[other] = literals[other], 0
    distances = random_code(generator, generator.randint(2, 30)) if generator.random() < 0.9 else [0]
    return literals, distances


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(5))
def test_random_codes(seed):
    print("seed", seed)
    generator = random.Random(seed)
    bench = Bench(seed)

    async def testbench(ctx):
        for _ in range(5):
            literals, distances = random_codes(generator)
            runs = run_lengths(literals + distances, generator.random() < 0.7)
            bits, size = header(literals, distances, symbols=runs, trim=False)
            bits |= generator.getrandbits(100) << size
            outcome = await bench.block(ctx, bits, size + 100, rate=generator.choice((None, 3, 12)))
            assert outcome[1:] == (size, ErrorCode.NONE, 0)
            bench.check(ctx, literals, distances)

    bench.run(testbench)


def chain(count):
    """Lengths 1, 2, ..., count, count."""
    return [*range(1, count + 1), count]


@pytest.mark.parametrize(("literals", "distances"), [
    pytest.param([0] * 256 + [1], [0], id="one literal code, no distances"),
    pytest.param([0] * 256 + [1], [1], id="one code each"),
    pytest.param([0] * 256 + [1], [0] * 29 + [1], id="one distance code, the last"),
    pytest.param([0] * 256 + [1, 1], [1, 1], id="one length"),
    pytest.param([8] * 255 + [9] * 2 + [0] * 29, [0, 1], id="literals only"),
    pytest.param([0] * 241 + chain(15)[::-1] + [0] * 29, chain(15)[::-1], id="all lengths, rising"),
    pytest.param([0] * 255 + chain(15), chain(15), id="all lengths, falling"),
    pytest.param([0] * 256 + chain(14) + [0] * 15, [5] * 28 + [4] * 2, id="all length codes"),
    pytest.param([8] * 226 + [9] * 60, [5] * 28 + [4] * 2, id="286 codes"),
])
def test_edges(literals, distances):
    bits, size = header(literals, distances)
    bench = Bench()

    async def testbench(ctx):
        assert (await bench.block(ctx, bits, size))[1:] == (size, ErrorCode.NONE, 0)
        bench.check(ctx, literals, distances)

    bench.run(testbench)


GOOD = [2, 2] + [0] * 254 + [2, 2]
INVALID = {
    "no literal codes": ([0] * 257, [1], 5),
    "no literal codes nor distances": ([0] * 257, [0], 5),
    "no end of block": ([1, 1] + [0] * 255, [1], 0x8A),
    "no end of block, oversubscribed": ([1, 1, 1] + [0] * 254, [1], 0x8A),
    "literals oversubscribed": ([1, 1] + [0] * 254 + [2], [1], 9),
    "literals very oversubscribed": ([1] * 257, [1], 9),
    "literals oversubscribed by one of 15": ([0] * 241 + [*range(1, 16), 15, 15], [1], 9),
    "literals incomplete": ([2] + [0] * 255 + [2], [1], 0x8B),
    "literals incomplete by one of 15": ([0] * 242 + [*range(1, 16)], [1], 0x8B),
    "one literal code of 2": ([0] * 256 + [2], [1], 0x8B),
    "distances oversubscribed": (GOOD, [1, 1, 1], 10),
    "distances very oversubscribed": (GOOD, [1] * 30, 10),
    "distances incomplete": (GOOD, [2, 2, 2], 0x8C),
    "one distance code of 2": (GOOD, [0, 2], 0x8C),
    "one distance code of 15": (GOOD, [15], 0x8C),
    "both oversubscribed": ([1] * 257, [1] * 3, 9),
    "literals incomplete, distances oversubscribed": ([2] + [0] * 255 + [2], [1] * 3, 0x8B),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", INVALID)
def test_invalid_codes(name):
    literals, distances, error = INVALID[name]
    bits, size = header(literals, distances)
    good_bits, good_size = header(GOOD, [1, 1])
    with pytest.raises(zlib.error):
        zlib.decompress((bits << 3 | 0b101).to_bytes(size // 8 + 400, "little"), -15)
    bench = Bench()

    async def testbench(ctx):
        assert (await bench.block(ctx, bits, size))[1:] == (size, error, 0)
        assert (await bench.block(ctx, good_bits, good_size))[1:] == (good_size, 0, 0)
        bench.check(ctx, GOOD, [1, 1])

    bench.run(testbench)


def verdict(bits, size, strict):
    """(error, dry) that the golden model gives for a header."""
    data = (bits << 3 | 0b101).to_bytes(size // 8 + 8, "little")
    padding = -(size + 3) % 8  # the model takes whole bytes: put the header's end at the end of one
    data = ((bits << 3 | 0b101) << padding).to_bytes((size + 3 + padding) // 8, "little")
    flags = Flag.LAST | (Flag.STRICT_LENGTHS if strict else 0)
    completion, _ = inflate(data, flags=flags, start_bit=padding)
    if completion.error in HEADER_ERRORS:
        return ErrorCode(completion.error), 0
    return ErrorCode.NONE, int(completion.error == ErrorCode.HEADER_TRUNCATED)


def after_type(data):
    """The bits after the first three of a stream."""
    return int.from_bytes(data, "little") >> 3, 8 * len(data) - 3


@pytest.mark.thorough
@pytest.mark.parametrize("strict", [False, True])
def test_named_streams(strict):
    """The negative list of IAA's library and the corner cases, as far as they begin with a dynamic block."""
    streams = {case.name: case.data for case in (*NEGATIVES, *CORNERS) if case.data and case.data[0] & 6 == 4}
    bench = Bench()
    seen = set()

    async def testbench(ctx):
        for name, data in streams.items():
            bits, size = after_type(data)
            _, _, error, dry = await bench.block(ctx, bits, size, strict=strict)
            assert (error, dry) == verdict(bits, size, strict), name
            seen.add(int(error))

    bench.run(testbench)
    assert seen >= {0, 2, 3, 5, 7, 8, 9, 10, 35, 36} | ({4, 6} if strict else set())


SHORT_LENGTHS = ([0] * 65 + [1] + [0] * 190 + [2, 3, 3], [2, 2, 2, 2])


def test_every_cut():
    """Whatever is missing at the end of a header, it is dry; with the last bit it is not."""
    bits, size = header(*SHORT_LENGTHS)
    bench = Bench()

    async def testbench(ctx):
        for end in range(size):
            _, consumed, error, dry = await bench.block(ctx, bits & ((1 << end) - 1), end)
            assert (error, dry) == (0, 1), end
            assert consumed <= end
        for end in (size, size + 1, size + 13, size + 14):
            assert (await bench.block(ctx, bits, end))[1:] == (size, 0, 0)
            bench.check(ctx, *SHORT_LENGTHS)

    bench.run(testbench)


@pytest.mark.parametrize("name", ["literals oversubscribed", "distances very oversubscribed"])
def test_every_cut_of_a_wrong_header(name):
    literals, distances, expected = INVALID[name]
    bits, size = header(literals, distances)
    bench = Bench()

    async def testbench(ctx):
        for end in (*range(size), size, size + 1, size + 20):
            error, dry = (await bench.block(ctx, bits & ((1 << end) - 1), end))[2:]
            assert (error, dry) == ((expected, 0) if end >= size else (0, 1)), end

    bench.run(testbench)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(4))
def test_damaged_headers_against_the_model(seed):
    """Flipped bits and cuts: the golden model's verdict, and its position when there is no error."""
    print("seed", seed)
    generator = random.Random(seed)
    bench = Bench(seed)
    seen = set()

    async def testbench(ctx):
        for _ in range(40):
            literals = random_code(generator, generator.randint(257, 286), used=generator.randint(2, 30))
            literals[256] = literals[256] or generator.randint(0, 3)
            distances = random_code(generator, generator.randint(2, 30)) if generator.random() < 0.8 else [1]
            bits, size = header(literals, distances)
            for _ in range(generator.randint(0, 2)):
                bits ^= 1 << int(size * generator.random() ** 2)
            size = generator.choice((size, size, generator.randint(0, size)))
            bits &= (1 << size) - 1
            strict = generator.random() < 0.5
            _, _, *outcome = await bench.block(ctx, bits, size, strict=strict, rate=generator.choice((None, None, 5)))
            assert tuple(outcome) == verdict(bits, size, strict)
            seen.add(int(outcome[0]))

    bench.run(testbench)
    assert len(seen) > 3


def real_headers(level):
    """(lengths, bits, size) of the first blocks of this checkout's files, as zlib writes them."""
    files = sorted(Path(__file__).parents[2].joinpath("hw").rglob("*.py"))
    text = b"".join(file.read_bytes() for file in files)
    for start in range(0, 5 * 4096, 4096):
        packer = zlib.compressobj(level, zlib.DEFLATED, -15)
        data = packer.compress(text[start:start + 4096]) + packer.flush()
        if data[0] >> 1 & 3 == 2:
            yield after_type(data)


def read_lengths(bits):
    """Code lengths and size of a header, and what its symbols cost, read as RFC 1951 3.2.7 says."""
    position = 0

    def take(count):
        nonlocal position
        position += count
        return bits >> position - count & ((1 << count) - 1)

    literals, distances, count = 257 + take(5), 1 + take(5), 4 + take(4)
    own = [0] * 19
    for symbol in CODE_LENGTH_ORDER[:count]:
        own[symbol] = take(3)
    book = {(length, code): symbol for symbol, length, code in coded(own)}
    lengths, symbols = [], []
    while len(lengths) < literals + distances:
        length = code = 0
        while (length, code) not in book:
            length, code = length + 1, code << 1 | take(1)
        symbol = book[length, code]
        extra = take({16: 2, 17: 3, 18: 7}.get(symbol, 0))
        symbols.append((symbol, extra))
        if symbol < 16:
            lengths.append(symbol)
        else:
            value = lengths[-1] if symbol == 16 else 0
            lengths += [value] * (extra + (11 if symbol == 18 else 3))
    return lengths[:literals], lengths[literals:], position, symbol_cycles(lengths, symbols)


@pytest.mark.thorough
@pytest.mark.parametrize("level", [1, 6, 9])
def test_real_headers_and_their_cycles(level):
    headers = list(real_headers(level))
    assert len(headers) >= 3
    bench = Bench()

    async def testbench(ctx):
        for bits, size in headers:
            literals, distances, header_size, symbols = read_lengths(bits)
            cycles, consumed, error, dry = await bench.block(ctx, bits, size)
            assert (consumed, error, dry) == (header_size, 0, 0)
            bench.check(ctx, literals, distances)
            print(f"{symbols} cycles in symbols, {cycles} in all")
            assert cycles == symbols + 48

    bench.run(testbench)


def test_fixed_codes():
    """Slow once; from then on two cycles, whatever dynamic blocks come between."""
    bits, size = header([8] * 226 + [9] * 60, [5] * 28 + [4] * 2)
    bench = Bench()

    async def testbench(ctx):
        for expected in (290, 2, 2):
            cycles, consumed, error, dry = await bench.block(ctx, fixed=True)
            assert (consumed, error, dry) == (0, 0, 0)
            assert cycles == expected
            bench.check(ctx, FIXED_LITERALS, FIXED_DISTANCES)
            assert {address for address in bench.ram if address >= FIXED_SYMBOLS} == \
                set(range(FIXED_SYMBOLS, FIXED_SYMBOLS + 288))
            assert (await bench.block(ctx, bits, size))[1:] == (size, 0, 0)
            bench.check(ctx, [8] * 226 + [9] * 60, [5] * 28 + [4] * 2)

    bench.run(testbench)


def test_tables_stand_until_the_next_start():
    bits, size = header(*SHORT_LENGTHS)
    bench = Bench()

    async def testbench(ctx):
        await bench.block(ctx, bits, size)
        await ctx.tick().repeat(50)
        assert not ctx.get(bench.dut.done)
        bench.check(ctx, *SHORT_LENGTHS)

    bench.run(testbench)


def test_preset_must_fit():
    with pytest.raises(ValueError, match="preset values must fit 3 bits, which 8 does not"):
        RankedList(3, preset=[1, 8])
