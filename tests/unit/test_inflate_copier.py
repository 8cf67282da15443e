# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Copier against a byte-by-byte model: every word and every result, in order."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from copier_model import MARK_FIELDS, CopierModel, group, mark, raw, start, token

from rackgate.inflate.abi import ErrorCode
from rackgate.inflate.admission import Admission
from rackgate.inflate.copier import Copier
from rackgate.inflate.entry import Mark
from rackgate.inflate.history import History
from rackgate.inflate.rows import RowAssembler
from rackgate.verif.stimulus import receive, send, simulate

WINDOW = 256
LOTS = 1 << 20


class Bench:
    """A copier and its model, with ``idle`` the chance of each port to pause in a cycle."""

    def __init__(self, *, contexts=2, window=WINDOW, seed=0, idle=0.0):
        print(f"seed {seed}")
        self.contexts, self.window, self.idle = contexts, window, idle
        self.random = random.Random(seed)
        self.model = CopierModel(contexts=contexts, window=window)
        self.entries: list[dict] = []
        self.cycles = 0

    def add(self, *entries: dict) -> None:
        """Put entries into the stream, and through the model."""
        for entry in entries:
            self.entries.append(entry)
            self.model.take(entry)

    def run(self) -> None:
        """Compare all that comes out; then see that nothing else does."""
        dut = Copier(contexts=self.contexts, window=self.window)
        words, results, cycles = [], [], 0
        rngs = [random.Random(self.random.random()) for _ in range(3)]

        async def count(ctx):
            nonlocal cycles
            async for _ in ctx.tick():
                cycles += 1

        async def entries(ctx):
            await send(ctx, dut.i, self.entries, rng=rngs[0], idle=self.idle)

        async def take_words(ctx):
            words.extend(await receive(ctx, dut.o, len(self.model.words), rng=rngs[1], stall=self.idle))
            self.cycles = cycles
            await ctx.tick().repeat(12)
            assert not ctx.get(dut.o.valid), "words beyond those of the model"
            assert not ctx.get(dut.o_result.valid), "results beyond those of the model"
            assert ctx.get(dut.fault) == 0

        async def take_results(ctx):
            results.extend(await receive(ctx, dut.o_result, len(self.model.results), rng=rngs[2], stall=self.idle))

        simulate(dut, entries, take_words, take_results, models=[count], limit=20_000)
        for index, (word, expected) in enumerate(zip(map(_word, words), self.model.words, strict=True)):
            assert word == expected, f"word {index}"
        for index, (result, expected) in enumerate(zip(results, self.model.results, strict=True)):
            found = (result.context, *(getattr(result.result, name) for name in MARK_FIELDS))
            assert found == expected, f"result {index}"


def _word(word):
    assert word.first + word.count <= 8
    data = word.data.to_bytes(8, "little")
    flags = word.data if word.start else None
    return word.context, word.first, data[word.first:word.first + word.count], flags, bool(word.end)


def _symbols(rng, count, have, *, window=WINDOW, matches=0.5, longest=258):
    """Random symbols none of which reaches too far back, given ``have`` bytes before them."""
    symbols = []
    for _ in range(count):
        if have and rng.random() < matches:
            reach = min(have, window)
            distance = rng.choice([rng.randint(1, min(reach, 40)), rng.randint(1, reach), reach])
            length = rng.choice([3, rng.randint(3, min(20, longest)), rng.randint(3, longest)])
            symbols.append((length, distance))
            have += length
        else:
            symbols.append(rng.randrange(256))
            have += 1
    return symbols


def _size(symbols):
    return sum(symbol[0] if isinstance(symbol, tuple) else 1 for symbol in symbols)


@pytest.mark.thorough
@pytest.mark.parametrize("distances", [range(1, 9), range(9, 25), range(25, 41)], ids=str)
def test_every_near_distance_alignment_and_length(distances):
    """Each chunk may need bytes of the three before it, which are not in block RAM yet."""
    bench = Bench(seed=distances.start)
    bench.add(start(0, room=LOTS, history=1))
    position = 0
    for distance in distances:
        for alignment in range(8):
            for _ in range(10):
                bench.add(raw(0, bench.random.randbytes(4)))
            position += 40
            while position % 8 != alignment:
                bench.add(raw(0, bench.random.randbytes(1)))
                position += 1
            for length in range(3, 19):
                # Literals keep the data from becoming periodic, and move the next token's alignment.
                literals = bench.random.randbytes((length + distance) % 3)
                bench.add(token(0, (length, distance), literals))
                position += length + len(literals)
    bench.add(mark(0, final=1))
    bench.run()


@pytest.mark.thorough
@pytest.mark.parametrize("window", [64, 256, 32768])
def test_far_distances_across_the_wrap(window):
    bench = Bench(window=window, seed=window)
    rng = bench.random
    bench.add(start(0, room=LOTS, history=1))
    for _ in range(window // 258 + 1):
        bench.add(raw(0, rng.randbytes(4)), token(0, (258, rng.randint(1, 4)), rng.randbytes(2)))
    for _ in range(300):
        distance = window - rng.choice([0, 1, 2, 7, 8, 9, 20, rng.randrange(32)])
        bench.add(token(0, (rng.choice([3, 8, 9, 258]), distance), rng.randbytes(rng.randrange(3))))
    bench.add(mark(0, final=1))
    bench.run()


@pytest.mark.thorough
@pytest.mark.parametrize("idle", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_random_runs_of_several_contexts(seed, idle):
    """Jobs of several runs, members and dictionaries, interleaved by runs."""
    contexts = 1 + seed
    bench = Bench(contexts=contexts, seed=seed, idle=idle)
    rng = bench.random
    have = [None] * contexts
    is_open = [False] * contexts
    for _ in range(30):
        context = rng.randrange(contexts)
        if not is_open[context]:
            keep = have[context] is not None and rng.random() < 0.4
            have[context] = (have[context] or 0) if keep else 0
            is_load = not keep and rng.random() < 0.3
            room = 0 if is_load else LOTS if not keep or rng.randrange(2) else None
            bench.add(start(context, room=room, history=not keep, check=rng.randrange(2), suppress=is_load))
            if is_load:
                size = rng.randrange(1, 400)
                bench.add(*(entry for entry, _ in group(rng, context, list(rng.randbytes(size)), stored=1)))
                bench.add(mark(context, final=1), start(context, room=LOTS))
                have[context] = size
        symbols = _symbols(rng, rng.randrange(25), have[context], longest=60)
        have[context] += _size(symbols)
        bench.add(*(entry for entry, _ in group(rng, context, symbols, stored=rng.choice([0, 0.5, 1]))))
        why = rng.choice([Mark.END_OF_BLOCK, Mark.END_OF_BLOCK, Mark.DRY, Mark.ERROR])
        final = why != Mark.END_OF_BLOCK or rng.randrange(2)
        bench.add(mark(context, why, final=final, error=rng.randrange(1, 36) if why == Mark.ERROR else 0))
        is_open[context] = not final
    for context in range(contexts):
        if is_open[context]:
            bench.add(mark(context, Mark.DRY))
    bench.run()


def _deliver_in_rooms(bench, symbols, rooms, *, context=0, before=None):
    """Feed symbols, resuming with the next room after every overflow; symbols are grouped anew each time."""
    rooms = iter(rooms)
    bench.add(start(context, room=next(rooms), history=1))
    index = 0
    while True:
        stopped = None
        for entry, count in group(bench.random, context, symbols[index:], stored=0.3):
            bench.entries.append(entry)
            if bench.model.take(entry) and stopped is None:
                index += count
            else:
                stopped = True
        why = Mark.ABORT if stopped and bench.random.randrange(2) else Mark.END_OF_BLOCK
        bench.add(mark(context, why, final=not stopped))
        if not stopped:
            return
        bench.add(start(context, room=next(rooms)))


@pytest.mark.thorough
@pytest.mark.parametrize("alignment", range(3))
def test_overflow_at_every_room(alignment):
    bench = Bench(seed=alignment)
    rng = bench.random
    for room in range(40):
        symbols = [*rng.randbytes(alignment), *_symbols(rng, 8, alignment, longest=20)]
        _deliver_in_rooms(bench, symbols, iter([room, *(rng.randrange(20) for _ in range(200)), LOTS]))
    delivered = sum(len(word[2]) for word in bench.model.words)
    assert delivered > 1000
    bench.run()


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(2))
def test_overflow_of_long_matches(seed):
    """What an entry delivered before it overflowed must not damage what it still has to copy."""
    bench = Bench(seed=seed, window=64 << seed, idle=0.2)
    rng = bench.random
    for _ in range(6):
        symbols = [*rng.randbytes(70), *_symbols(rng, 30, 70, window=bench.window, matches=0.8)]
        _deliver_in_rooms(bench, symbols, iter([*(rng.choice([0, 1, 7, 64, 100, 257]) for _ in range(200)), LOTS]))
    bench.run()


def test_room_that_fits_exactly_is_no_overflow():
    bench = Bench()
    bench.add(start(0, room=10, history=1), token(0, None, b"ab"), token(0, (6, 2), b"cd"), mark(0, bits=3, final=1))
    assert bench.model.results == [(0, Mark.END_OF_BLOCK, False, 0, 21, 10)]
    bench.run()


@pytest.mark.parametrize("literals", [b"", b"xy"])
def test_bad_distances(literals):
    bench = Bench()
    for distance, error in ((9, ErrorCode.DISTANCE_BEFORE_START), (WINDOW, ErrorCode.DISTANCE_BEFORE_START),
                            (WINDOW + 1, ErrorCode.DISTANCE_TOO_LARGE), (32768, ErrorCode.DISTANCE_TOO_LARGE)):
        bench.add(start(1, room=LOTS, history=1), *(raw(1, b"abcd") for _ in range(2)))
        bench.add(token(1, (3, 8), b"z"))  # as far as can be
        bench.add(token(1, (3, distance + 4 * (distance == 9)), literals), token(1, None, b"no"), mark(1, Mark.ABORT))
        assert bench.model.results[-1] == (1, Mark.ABORT, False, error, 73, 12)
    bench.run()


def test_the_decoders_error_comes_through_and_the_copiers_own_comes_first():
    bench = Bench()
    bench.add(start(0, room=LOTS, history=1), token(0, None, b"a"), mark(0, Mark.ERROR, error=11))
    bench.add(start(0, room=LOTS, history=1), token(0, (3, 1)), mark(0, Mark.ERROR, error=11))
    bench.add(start(0, room=2, history=1), token(0, None, b"a"), token(0, (3, 1)), mark(0, Mark.ERROR, error=11))
    before_start = ErrorCode.DISTANCE_BEFORE_START
    assert [result[2:4] for result in bench.model.results] == [(False, 11), (False, before_start), (True, 0)]
    bench.run()


def test_a_dictionary_can_be_referred_to_and_is_not_put_out():
    bench = Bench(seed=5)
    bench.add(start(0, room=0, history=1, suppress=1))
    bench.add(*(raw(0, bench.random.randbytes(4)) for _ in range(20)), raw(0, b"xyz"), mark(0, final=1))
    bench.add(start(0, room=100, check=1), token(0, (50, 83), b"!"), mark(0, final=1))
    assert sum(len(word[2]) for word in bench.model.words) == 51
    bench.run()


def test_the_fault_flag_stands_from_the_fault_to_the_mark():
    dut = Copier(contexts=3, window=WINDOW)
    seen = []

    async def entries(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.o_result.ready, 1)
        await send(ctx, dut.i, [start(2, room=0, history=1), token(2, None, b"a")])
        await ctx.tick().repeat(10)
        seen.append(ctx.get(dut.fault))
        await send(ctx, dut.i, [token(2, None, b"b")])
        await ctx.tick().repeat(10)
        seen.append(ctx.get(dut.fault))
        await send(ctx, dut.i, [mark(2, Mark.ABORT)])
        await ctx.tick().repeat(5)
        seen.append(ctx.get(dut.fault))

    simulate(dut, entries)
    assert seen == [0b100, 0b100, 0]


def test_after_reset_a_context_has_no_room_and_no_history():
    """A job that resumes what never began must not see what the memories hold."""
    bench = Bench()
    bench.add(start(1), token(1, (3, 1)), mark(1, Mark.ABORT))
    bench.add(token(0, None, b"a"), mark(0, Mark.ABORT))
    assert [result[2:4] for result in bench.model.results] == [(False, ErrorCode.DISTANCE_BEFORE_START), (True, 0)]
    bench.run()


def test_a_refused_match_is_no_history():
    bench = Bench()
    bench.add(start(0, room=LOTS, history=1), raw(0, b"abcd"), token(0, (20, 5)), mark(0, Mark.ABORT))
    bench.add(start(0, room=LOTS), token(0, (3, 4)), mark(0, Mark.DRY))
    bench.add(start(0, room=LOTS), token(0, (3, 8)), mark(0, Mark.ABORT))
    before_start = ErrorCode.DISTANCE_BEFORE_START
    assert [result[3] for result in bench.model.results] == [before_start, 0, before_start]
    bench.run()


def test_reset_forgets_contexts_whose_state_is_in_memory():
    copier, reset = Copier(contexts=2, window=WINDOW), Signal()
    results = []

    async def entries(ctx):
        ctx.set(copier.o.ready, 1)
        before = [start(1, room=LOTS, history=1), raw(1, b"abcd"), mark(1, Mark.DRY), start(0, history=1)]
        await send(ctx, copier.i, before)
        await ctx.tick().repeat(8)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await send(ctx, copier.i, [token(1, (3, 1)), mark(1, Mark.ABORT), token(1, None, b"a"), mark(1, Mark.ABORT)])

    async def take_results(ctx):
        results.extend(await receive(ctx, copier.o_result, 3))

    simulate(ResetInserter(reset)(copier), entries, take_results)
    found = [(item.result.overflow, item.result.error) for item in results]
    assert found == [(0, 0), (0, ErrorCode.DISTANCE_BEFORE_START), (1, 0)]


@pytest.mark.thorough
@pytest.mark.parametrize(("entries", "cycles"), [
    pytest.param([token(0, (258, 1))] * 8 + [token(0, (256, 37))] * 8, 8 * 33 + 8 * 32, id="8 bytes of a match"),
    pytest.param([token(0, (6, 3), b"ab")] * 200, 200, id="a match and two literals"),
    pytest.param([token(0, (8, 5))] * 200, 200, id="a match"),
    pytest.param([token(0, None, b"xy")] * 200, 200, id="two literals"),
    pytest.param([raw(0, b"wxyz")] * 200, 200, id="4 stored bytes"),
    pytest.param([token(0, (7, 3), b"ab")] * 200, 400, id="a token of nine bytes"),
])
def test_throughput(entries, cycles):
    bench = Bench(window=32768)
    bench.add(start(0, room=LOTS, history=1), *(raw(0, b"1234") for _ in range(20)), *entries, mark(0, final=1))
    bench.run()
    assert cycles + 20 <= bench.cycles <= cycles + 20 + 12


@pytest.mark.parametrize(("arguments", "message"), [
    ({"window": 100}, "window must be a power of two from 64 to 32768, not 100"),
    ({"window": 65536}, "window must be a power of two from 64 to 32768, not 65536"),
    ({"contexts": 0}, "contexts must be 1 to 8, not 0"),
    ({"contexts": 9}, "contexts must be 1 to 8, not 9"),
])
@pytest.mark.parametrize("block", [Copier, Admission, History])
def test_parameters(block, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        block(**{"contexts": 2, "window": WINDOW} | arguments)


def test_parameters_of_the_row_assembler():
    with pytest.raises(ValueError, match="^contexts must be 1 to 8, not 9$"):
        RowAssembler(contexts=9)
