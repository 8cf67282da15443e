# SPDX-License-Identifier: Apache-2.0
"""Software side of the inflate unit tests: tables, tokens and a bit reader, straight from RFC 1951."""

from rackgate.inflate.code import LENGTHS, bucket, length_extra_bits

FIXED = ([8] * 144 + [9] * 112 + [7] * 24 + [8] * 8, [5] * 32)
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


class Bits:
    """Bits of a byte string, first bit of each byte lowest."""

    def __init__(self, data):
        self.value, self.position, self.size = int.from_bytes(data, "little"), 0, 8 * len(data)

    def take(self, count):
        result = self.value >> self.position & ((1 << count) - 1)
        self.position += count
        return result


def code_book(lengths):
    """{(length, code): symbol} of a canonical code (RFC 1951 3.2.2)."""
    book, code = {}, 0
    for length in LENGTHS:
        for symbol, own in enumerate(lengths):
            if own == length:
                book[length, code] = symbol
                code += 1
        code <<= 1
    return book


def take_symbol(bits, book):
    code = 0
    for length in LENGTHS:
        code = code << 1 | bits.take(1)
        if (length, code) in book:
            return book[length, code]
    raise ValueError("no such code")


def read_block_header(bits):
    """(final, type, literal lengths, distance lengths) of a fixed or dynamic block."""
    final, kind = bits.take(1), bits.take(2)
    if kind == 1:
        return final, kind, *FIXED
    literals, distances, count = bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4
    lengths = [0] * 19
    for k in range(count):
        lengths[ORDER[k]] = bits.take(3)
    book, out = code_book(lengths), []
    while len(out) < literals + distances:
        symbol = take_symbol(bits, book)
        if symbol < 16:
            out.append(symbol)
        elif symbol == 16:
            out += [out[-1]] * (3 + bits.take(2))
        else:
            out += [0] * (3 + bits.take(3) if symbol == 17 else 11 + bits.take(7))
    return final, kind, out[:literals], out[literals:]


def code_tables(literals, distances):
    """CodeTables as a nested dict, and the symbol RAM as {address: symbol}, from code lengths."""
    def limits(lengths, below):
        code, limit, first, split = 0, {}, {}, {}
        for length in LENGTHS:
            code <<= 1
            first[length] = code
            split[length] = code + sum(own == length for own in lengths[:below])
            code += lengths.count(length)
            limit[length] = code
        return limit, first, split

    def ranks(lengths, base, start):
        """Symbols above ``base`` in code order, and rank minus code of the first of each length."""
        order, index = [], {}
        for length in LENGTHS:
            index[length] = (len(order) - start[length]) % 32
            order += [symbol - base for symbol, own in enumerate(lengths) if own == length and symbol >= base]
        return order, index

    limit, first, split = limits(literals, 257)
    distance_limit, distance_first, _ = limits(distances, 0)
    order, index = ranks(literals, 257, split)
    distance_order, distance_index = ranks(distances, 0, distance_first)
    ram = {}
    for length in LENGTHS:
        for rank, symbol in enumerate(s for s, own in enumerate(literals) if own == length):
            ram[bucket(length) + rank] = symbol

    def named(values):
        return {str(length): value for length, value in values.items()}

    def padded(values):
        return values + [0] * (32 - len(values))

    return {
        "literal_limit": named(limit), "literal_split": named(split),
        "literal_base": named({length: (bucket(length) - first[length]) % 4096 for length in LENGTHS}),
        "length_index": named(index), "length_extra": padded([length_extra_bits(s) for s in order]),
        "distance_limit": named(distance_limit), "distance_index": named(distance_index),
        "distance_symbol": padded(distance_order),
    }, ram


def run_entries(entries):
    """Bytes that a list of entries (dicts) makes."""
    out = bytearray()
    for entry in entries:
        if entry["has_match"]:
            for _ in range(entry["length"]):
                out.append(out[-entry["distance"]])
        out += bytes(entry["bytes"][:entry["literals"]])
    return bytes(out)
