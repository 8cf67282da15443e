# SPDX-License-Identifier: Apache-2.0
import heapq
import itertools
import random
import zlib

import numpy as np
import pytest
from sabre_samples import PAGE, anonymous, code, page

from rackgate_host.sabre import canned, huffman, tokens
from rackgate_host.sabre.canned import CannedTable

LENGTH_BASE = [3 + n for n in range(8)]
for _bits in range(1, 6):
    for _ in range(4):
        LENGTH_BASE.append(LENGTH_BASE[-1] + (1 << (tokens.LENGTH_EXTRA[len(LENGTH_BASE) - 1])))
LENGTH_BASE.append(258)
DISTANCE_BASE = [1]
for _symbol in range(1, 30):
    DISTANCE_BASE.append(DISTANCE_BASE[-1] + (1 << tokens.DISTANCE_EXTRA[_symbol - 1]))


def expand(found, number):
    """What the tokens of stream ``number`` stand for, the slow way; and its largest distance."""
    output, reach = bytearray(), 0
    for token in range(found.starts[number], found.starts[number + 1] - 1):
        symbol = int(found.symbols[token])
        if symbol < 256:
            output.append(symbol)
            continue
        length = LENGTH_BASE[symbol - 257] + int(found.extra[token])
        distance = DISTANCE_BASE[found.distances[token]] + int(found.distance_extra[token])
        reach = max(reach, distance)
        for _ in range(length):
            output.append(output[-distance])
    assert found.symbols[found.starts[number + 1] - 1] == 256
    return bytes(output), reach


def random_table(dice):
    """A table of any shape: steep, flat, or without two neighbours of the same length."""
    def lengths(count):
        steepness = dice.choice([0, 1, 2, 4, 30])
        found = huffman.limited_lengths([1 + int(dice.random() ** steepness * 1e6) for _ in range(count)],
                                        dice.randrange(9, 16))
        dice.shuffle(found)
        return bytes(sorted(found) if dice.random() < 0.3 else found)

    return CannedTable(lengths(286), lengths(30))


def cost(weights, lengths):
    return sum(weight * length for weight, length in zip(weights, lengths, strict=True))


def test_codes_are_as_short_as_huffmans(seed):
    dice = random.Random(seed)
    for _ in range(40):
        weights = [dice.randrange(0, 1000) for _ in range(dice.randrange(3, 60))] + [1, 2]
        heap = [weight for weight in weights if weight]
        heapq.heapify(heap)
        best = 0
        while len(heap) > 1:
            merged = heapq.heappop(heap) + heapq.heappop(heap)
            best += merged
            heapq.heappush(heap, merged)
        lengths = huffman.limited_lengths(weights, 15)
        assert huffman.is_complete(lengths)
        assert [length > 0 for length in lengths] == [weight > 0 for weight in weights]
        assert cost(weights, lengths) == best


@pytest.mark.parametrize("limit", [2, 3, 4])
def test_limited_codes_are_the_best_of_all(limit, seed):
    dice = random.Random(seed)
    for count in range(2, min(6, 1 << limit) + 1):
        weights = [1 << dice.randrange(12) for _ in range(count)]
        best = min(cost(weights, lengths) for lengths in itertools.product(range(1, limit + 1), repeat=count)
                   if huffman.is_complete(lengths))
        assert cost(weights, huffman.limited_lengths(weights, limit)) == best


def test_codes_that_cannot_be():
    with pytest.raises(ValueError, match="at least 2 symbols, not 1"):
        huffman.limited_lengths([0, 5, 0])
    with pytest.raises(ValueError, match="5 symbols do not fit into codes of at most 2 bits"):
        huffman.limited_lengths([1] * 5, 2)
    assert not huffman.is_complete([1, 2]) and not huffman.is_complete([1, 1, 1])


def test_codes_of_rfc_1951():
    # The example of section 3.2.2: A to H with lengths 3, 3, 3, 3, 3, 2, 4, 4.
    assert [f"{code:0{size}b}"[::-1] for code, size in zip(huffman.reversed_codes([3, 3, 3, 3, 3, 2, 4, 4]),
                                                           [3, 3, 3, 3, 3, 2, 4, 4], strict=True)] == [
        "010", "011", "100", "101", "110", "00", "1110", "1111"]


@pytest.mark.parametrize("window", [4096, 32768])
def test_tokens_stand_for_the_data(window, seed):
    dice = random.Random(seed)
    contents = [page(dice) for _ in range(12)] + [b"", b"x", dice.randbytes(70000) + bytes(300)]
    contents.append(b"".join(page(dice) for _ in range(12)) * 2)  # several blocks, matches across pages
    contents.append(b"".join(dice.choice([b"ab", b"cd", b"e"]) + bytes([dice.randrange(256)]) for _ in range(30000)))
    streams = [tokens.fixed_stream(content, window) for content in contents]
    found = tokens.tokenise(streams)
    assert len(found) == len(contents)
    for number, content in enumerate(contents):
        expanded, reach = expand(found, number)
        assert expanded == content and reach <= window
        assert zlib.decompress(streams[number], -15) == content
    literals, distances = found.counts()
    assert literals.sum() == len(found.symbols) and (literals[:, 256] == 1).all()
    assert distances.sum() == (found.symbols > 256).sum()


def test_a_page_may_refer_to_all_of_itself():
    content = random.Random(1).randbytes(200)
    content += bytes(PAGE - 400) + content
    assert expand(tokens.tokenise([tokens.fixed_stream(content, 4096)]), 0)[1] == PAGE - 200


@pytest.mark.parametrize("stream, fault", [
    (b"", "no final block"),
    (b"\x03", "ends inside a block"),
    (b"\x01\x05\x00\xfa\xffab", "stored block is damaged"),
    (b"\x01\x02\x00\xfa\xffab", "stored block is damaged"),
    (b"\x05", "block of type 2"),
    (b"\x07", "block of type 3"),
    (b"\x1b\x03", "in no fixed code"),
])
def test_damaged_streams_have_no_tokens(stream, fault):
    with pytest.raises(ValueError, match=fault):
        tokens.tokenise([tokens.fixed_stream(b"before", 4096), stream])


def test_every_table_has_a_header_that_zlib_reads(seed):
    dice = random.Random(seed)
    pages = [page(dice) for _ in range(3)]
    for _ in range(25):
        table = random_table(dice)
        assert CannedTable.from_bytes(table.to_bytes()) == table
        ready = zlib.decompressobj(-15)
        assert ready.decompress(table.header) == b"" and not ready.unused_data
        for content, (number, stored) in zip(pages, canned.encode(pages, [table]), strict=True):
            assert number == 0
            decoder = ready.copy()
            assert decoder.decompress(stored) == content
            assert decoder.eof and not decoder.unused_data
            assert zlib.decompress(table.header + stored, -15) == content


def test_headers_of_tables_without_runs():
    """Hard cases for the alignment: no repeats to leave out, and codes of all sizes up to 15."""
    ramp = huffman.limited_lengths([1 << min(n, 40) for n in range(286)])
    flat = huffman.limited_lengths([1] * 286)
    for literals in (ramp, flat, ramp[::2] + ramp[1::2]):
        for distances in ([*range(1, 15), 15, 15], None):
            if distances is None:
                distances = huffman.limited_lengths([1 << min(n, 40) for n in range(30)])
            else:
                distances = huffman.limited_lengths([3 ** n for n in range(30)])
            table = CannedTable(bytes(literals), bytes(distances))
            assert zlib.decompress(table.header + table.encode(b"pages " * 600), -15) == b"pages " * 600


def test_a_page_is_the_same_alone_and_in_company(seed):
    dice = random.Random(seed)
    pages = [page(dice) for _ in range(80)]  # more than a batch
    table = random_table(dice)
    together = canned.encode(pages, [table])
    assert [stored for _, stored in together] == [table.encode(content) for content in pages]


def test_the_best_of_several_tables_is_taken(seed):
    dice = random.Random(seed)
    pages = [page(dice) for _ in range(20)]
    tables = [random_table(dice) for _ in range(3)]
    alone = [[table.encode(content) for table in tables] for content in pages]
    for (number, stored), choices in zip(canned.encode(pages, tables), alone, strict=True):
        assert stored == choices[number] and len(stored) == min(map(len, choices))


def ratio(pages, sizes):
    return len(pages) * PAGE / sum(min(size, PAGE) for size in sizes)


def dynamic_sizes(pages):
    packers = [zlib.compressobj(6, zlib.DEFLATED, -15) for _ in pages]
    return [len(packer.compress(content) + packer.flush()) for packer, content in zip(packers, pages, strict=True)]


@pytest.mark.parametrize("pages, loss", [(anonymous, 0.06), (code, 0.02)])
def test_canned_is_nearly_as_short_as_dynamic(pages, loss):
    """On pages that the table was not made from."""
    train, measured = pages()[1::2], pages()[::2]
    tables = canned.train(train)
    got = ratio(measured, [len(stored) for _, stored in canned.encode(measured, tables)])
    dynamic = ratio(measured, dynamic_sizes(measured))
    fixed = ratio(measured, [len(tokens.fixed_stream(content, 4096)) for content in measured])
    print(f"canned {got:.3f} dynamic {dynamic:.3f} fixed {fixed:.3f}")
    assert got > dynamic * (1 - loss) and got > fixed * 1.03


def test_tables_for_a_mixture():
    mixed = anonymous()[1::4] + code()[1::4]
    measured = anonymous()[::4] + code()[::4]
    one, four = canned.train(mixed), canned.train(mixed, 4)
    assert len(one) == 1 and 2 <= len(four) <= 4
    assert sum(len(s) for _, s in canned.encode(measured, four)) < sum(len(s) for _, s in canned.encode(measured, one))


def test_training_is_repeatable():
    pages = [bytes([n & 255, n >> 8]) * 2048 for n in range(canned.SAMPLE + 50)]
    assert canned.train(pages, seed=3) == canned.train(pages, seed=3)
    assert len(canned.train(pages[:1], 4)) == 1
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        canned.train(pages, 0)


def test_symbols_that_were_never_seen_have_codes():
    table = CannedTable.from_counts([0] * 286, [0] * 30)
    steep = CannedTable.from_counts([1 << min(n, 50) for n in range(286)], np.arange(30))
    for made in (table, steep):
        content = random.Random(2).randbytes(3000) * 2
        assert zlib.decompress(made.header + made.encode(content, window=32768), -15) == content


GOOD = CannedTable.from_counts([1] * 286, [1] * 30)


@pytest.mark.parametrize("literals, distances, fault", [
    (GOOD.literal_lengths[:-1], GOOD.distance_lengths, "literal_lengths must have 286 code lengths, not 285"),
    (GOOD.literal_lengths, GOOD.distance_lengths + b"\5", "distance_lengths must have 30 code lengths, not 31"),
    (b"\0" + GOOD.literal_lengths[1:], GOOD.distance_lengths, r"literal_lengths\[0\] must be 1 to 15, not 0"),
    (GOOD.literal_lengths, GOOD.distance_lengths[:-1] + b"\x10", r"distance_lengths\[29\] must be 1 to 15, not 16"),
    (b"\1" + GOOD.literal_lengths[1:], GOOD.distance_lengths, "literal_lengths must make a complete code"),
    (b"\x0f" + GOOD.literal_lengths[1:], GOOD.distance_lengths, "literal_lengths must make a complete code"),
])
def test_wrong_tables(literals, distances, fault):
    with pytest.raises(ValueError, match=fault):
        CannedTable(literals, distances)


def test_wrong_bytes_of_tables():
    with pytest.raises(TypeError, match="literal_lengths must be bytes, not list"):
        CannedTable(list(GOOD.literal_lengths), GOOD.distance_lengths)
    data = GOOD.to_bytes()
    with pytest.raises(ValueError, match="320 bytes, not 319"):
        CannedTable.from_bytes(data[:-1])
    for place in (0, 100, 315, 316, 319):
        with pytest.raises(ValueError, match="crc32"):
            CannedTable.from_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
