# SPDX-License-Identifier: Apache-2.0
"""Compressed inputs by the thousand, right and mutated, and zlib's verdict on each.

Everything follows from a seed, an index, the compressors installed and the files on the machine: real data
are slices of Python's library and of the programs in /usr/bin.
"""

import ctypes
import ctypes.util
import functools
import itertools
import random
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from rackgate.inflate.abi import Format
from rackgate_sim.inflate.assembler import Assembler, Token, gzip_frame, lengths_for, run_lengths, zlib_frame

__all__ = ["MAX_OUTPUT", "WBITS", "Case", "Outcome", "case", "cases", "compressors", "verdict_zlib"]

#: No case yields more bytes than this.
MAX_OUTPUT = 1 << 18
#: zlib's ``wbits`` for the 32 KB window and each format.
WBITS = {Format.RAW: -15, Format.ZLIB: 15, Format.GZIP: 31}


@dataclass(frozen=True)
class Case:
    """An input for a decoder.

    ``multi``: several gzip members are to be decoded as one. ``dictionary``: preset, for a raw stream, or
    to be given if a zlib stream asks for it. ``name`` says how the input was made.
    """

    seed: int
    index: int
    name: str
    format: Format
    data: bytes
    multi: bool = False
    dictionary: bytes | None = None

    @property
    def wbits(self) -> int:
        """The format as zlib's ``wbits``."""
        return WBITS[self.format]


@dataclass(frozen=True)
class Outcome:
    """What a decoder makes of an input.

    ``output`` holds all bytes that come before the end, the mistake or the lack of input; None if not known.
    ``consumed`` counts the bytes that belong to an accepted stream, else it is None. ``detail`` says in the
    decoder's own words why it stopped, and is not compared.
    """

    accepted: bool
    output: bytes | None
    consumed: int | None
    detail: str = field(default="", compare=False)


# Contents


@functools.cache
def _files() -> tuple[Path, ...]:
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    programs = sorted(path for path in Path("/usr/bin").glob("*") if path.is_file() and not path.is_symlink())
    return tuple(path for path in (*library, *programs) if path.stat().st_size > 4096)


def _from_file(rng: random.Random, size: int) -> bytes:
    path = rng.choice(_files())
    with path.open("rb") as file:
        file.seek(rng.randrange(max(1, path.stat().st_size - size)))
        return file.read(size)


def _periodic(rng: random.Random, size: int) -> bytes:
    pattern = rng.randbytes(rng.choice((1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 257, 1000)))
    data = bytearray((pattern * (size // len(pattern) + 1))[:size])
    for _ in range(rng.randrange(4)):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _skewed(rng: random.Random, size: int) -> bytes:
    """Bytes whose frequencies fall off so fast that codes get as long as they can."""
    ratio = rng.choice((1.2, 1.6, 2.0))
    weights = [ratio ** -rank for rank in range(rng.randrange(2, 64))]
    return bytes(rng.choices(rng.sample(range(256), len(weights)), weights, k=size))


def _sparse(rng: random.Random, size: int) -> bytes:
    data = bytearray(size)
    for _ in range(size // 40):
        data[rng.randrange(size)] = rng.randrange(256)
    return bytes(data)


def _far_repeats(rng: random.Random, size: int) -> bytes:
    """Pieces that come again from far back."""
    data = bytearray(rng.randbytes(min(size, 64)))
    while len(data) < size:
        if rng.random() < 0.6:
            start, length = rng.randrange(len(data)), rng.randrange(3, 400)
            data += data[start:start + length]
        else:
            data += rng.randbytes(rng.randrange(1, 30))
    return bytes(data[:size])


_CONTENTS: tuple[tuple[int, Callable[[random.Random, int], bytes]], ...] = (
    (8, _from_file), (2, _periodic), (2, _skewed), (2, _sparse), (2, _far_repeats),
    (1, lambda rng, size: rng.randbytes(size)), (1, lambda rng, size: bytes(size)),
)


def _weighted(rng: random.Random, choices: tuple) -> Callable:
    return rng.choices([choice for _, choice in choices], [weight for weight, _ in choices])[0]


def _size(rng: random.Random) -> int:
    """Mostly 50 bytes to 4 KB; sometimes next to nothing, or more than a window."""
    kind = rng.random()
    if kind < 0.06:
        return rng.randrange(8)
    if kind < 0.98:
        return int(50 * 2 ** rng.uniform(0, 6.4))
    return rng.randrange(4096, 100_000)


def _content(rng: random.Random, size: int | None = None) -> bytes:
    return _weighted(rng, _CONTENTS)(rng, _size(rng) if size is None else size)


# Compressors


def _like_zlib(module, rng: random.Random, data: bytes, format: Format, dictionary: bytes | None,
               levels: tuple[int, ...], strategies: tuple[int, ...], least_window: int) -> tuple[str, bytes]:
    """Use a module with zlib's interface, with random parameters and flushes."""
    level, strategy = rng.choice(levels), rng.choice(strategies)
    window, memory = rng.randrange(least_window, 16), rng.randrange(1, 10)
    wbits = {Format.RAW: -window, Format.ZLIB: window, Format.GZIP: 16 + window}[format]
    extra = {} if dictionary is None else {"zdict": dictionary}
    deflate = module.compressobj(level, module.DEFLATED, wbits, memory, strategy, **extra)
    flushes = (module.Z_NO_FLUSH, module.Z_SYNC_FLUSH, module.Z_FULL_FLUSH)
    out, cuts = b"", sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 0, 1, 3))))
    for start, end in itertools.pairwise((0, *cuts)):
        out += deflate.compress(data[start:end]) + deflate.flush(rng.choice(flushes))
    out += deflate.compress(data[(0, *cuts)[-1]:]) + deflate.flush()
    return f"level {level} strategy {strategy} window {window} memory {memory} cuts {cuts}", out


def _zlib(rng: random.Random, data: bytes, format: Format, dictionary: bytes | None) -> tuple[str, bytes]:
    strategies = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED)
    return _like_zlib(zlib, rng, data, format, dictionary, tuple(range(10)), strategies, 9)


Compressor = Callable[[random.Random, bytes, Format, bytes | None], tuple[str, bytes]]


def _zlib_ng() -> Compressor:
    from zlib_ng import zlib_ng

    return lambda rng, data, format, dictionary: _like_zlib(zlib_ng, rng, data, format, dictionary, tuple(range(10)),
                                                            tuple(range(5)), 9)


def _isal() -> Compressor:
    from isal import isal_zlib

    return lambda rng, data, format, dictionary: _like_zlib(isal_zlib, rng, data, format, dictionary, (0, 1, 2, 3),
                                                            (0,), 9)


def _libdeflate() -> Compressor:
    import deflate

    compress = {Format.RAW: deflate.deflate_compress, Format.ZLIB: deflate.zlib_compress,
                Format.GZIP: deflate.gzip_compress}

    def encode(rng: random.Random, data: bytes, format: Format, dictionary: bytes | None) -> tuple[str, bytes]:
        level = rng.randrange(13)
        return f"level {level}", bytes(compress[format](data, level))

    return encode


def _zopfli() -> Compressor:
    import zopfli.zopfli

    def encode(rng: random.Random, data: bytes, format: Format, dictionary: bytes | None) -> tuple[str, bytes]:
        data = data[:600]  # it takes its time
        options = {"numiterations": rng.randrange(1, 3), "blocksplitting": rng.randrange(2),
                   "blocksplittinglast": rng.randrange(2)}
        out = zopfli.zopfli.compress(data, gzip_mode=int(format == Format.GZIP), **options)
        return " ".join(f"{key} {value}" for key, value in options.items()), out[2:-4] if format == Format.RAW else out

    return encode


@functools.cache
def compressors() -> dict[str, Compressor]:
    """The compressors that are installed: functions of (rng, content, format, dictionary).

    They return how they were called, and the stream. Only zlib's, zlib-ng's and isal's heed a dictionary.
    """
    found: dict[str, Compressor] = {"zlib": _zlib}
    for name, load in (("zlib-ng", _zlib_ng), ("isal", _isal), ("libdeflate", _libdeflate), ("zopfli", _zopfli)):
        try:
            found[name] = load()
        except ImportError:
            continue
    return found


_SHARES = {"zlib": 8, "zlib-ng": 4, "isal": 4, "libdeflate": 4, "zopfli": 0.3}


def _format(rng: random.Random) -> Format:
    return rng.choice((Format.RAW, Format.RAW, Format.ZLIB, Format.GZIP))


def _compressed(rng: random.Random) -> Case:
    """A compressor's work on some content."""
    names = list(compressors())
    name = rng.choices(names, [_SHARES[name] for name in names])[0]
    format = _format(rng)
    dictionary = None
    if name in ("zlib", "zlib-ng") and format != Format.GZIP and rng.random() < 0.06:
        dictionary = _content(rng, rng.choice((1, 30, 300, 3000, 33_000)))
    text = (dictionary or b"")[-200:] + _content(rng)
    how, data = compressors()[name](rng, text, format, dictionary)
    return Case(0, 0, f"{name} {how}", format, data, dictionary=dictionary)


# Streams that no compressor writes


def _complete_code(rng: random.Random, symbols: int, longest: int) -> list[int]:
    """Lengths of a random complete code."""
    leaves = [0]
    while len(leaves) < symbols:
        leaf = rng.choice([index for index, length in enumerate(leaves) if length < longest])
        leaves[leaf] += 1
        leaves.append(leaves[leaf])
    rng.shuffle(leaves)
    return leaves


def _tokens(rng: random.Random, written: int, count: int) -> list[Token]:
    alphabet = rng.sample(range(256), rng.choice((1, 2, 10, 256)))
    tokens: list[Token] = []
    matches = rng.choice((0.0, 0.3, 0.9))
    for _ in range(count):
        if written and rng.random() < matches:
            length = rng.choice((3, 4, 10, 258, rng.randrange(3, 259)))
            farthest = min(written, 32768)
            tokens.append((length, rng.choice((1, farthest, rng.randrange(1, farthest + 1)))))
            written += length
        else:
            tokens.append(rng.choice(alphabet))
            written += 1
    return tokens


def _spread(rng: random.Random, lengths: list[int]) -> list[int]:
    """A random code of at least the symbols that ``lengths`` has."""
    used = {symbol for symbol, length in enumerate(lengths) if length}
    if not used:
        return lengths
    more = rng.sample(range(len(lengths)), rng.choice((0, 1, 5, rng.randrange(len(lengths)))))
    used |= set(more) if len(used | set(more)) > 1 else {0, 1, *used}
    code = _complete_code(rng, len(used), rng.choice((9, 12, 15)))
    return [code.pop() if symbol in used else 0 for symbol in range(len(lengths))]


def _dynamic(rng: random.Random, asm: Assembler, tokens: list[Token], final: bool, wrong: bool) -> None:
    literals, distances = lengths_for(tokens)
    if rng.random() < 0.6:
        literals, distances = _spread(rng, literals), _spread(rng, distances)
    if wrong:
        lengths = rng.choice((literals, distances))
        lengths[rng.randrange(len(lengths))] = rng.randrange(16)
    header: dict = {"across": rng.random() < 0.5, "trim": rng.random() < 0.8}
    if rng.random() < 0.2:
        header["hclen"] = 15
    if rng.random() < 0.2:
        header |= {"symbols": run_lengths([*literals, *distances], runs=False), "trim": False}
    if rng.random() < 0.2:
        header["code_lengths"] = _complete_code(rng, 19, 7)
    asm.dynamic(tokens, final, literals=literals, distances=distances, **header)


def _assembled(rng: random.Random) -> Case:
    """Blocks put together at random, often right."""
    asm, written, wrong = Assembler(), 0, rng.random() < 0.2
    blocks = rng.randrange(1, 5)
    for block in range(blocks):
        final = block == blocks - 1
        tokens = _tokens(rng, written, rng.choice((0, 1, 3, 30, 300)))
        kind = rng.randrange(4)
        if kind == 0:
            data = rng.randbytes(rng.choice((0, 1, 5, 100, 3000)))
            asm.stored(data, final, fill=rng.randrange(128))
            written += len(data)
            continue
        written += sum(token[0] if isinstance(token, tuple) else 1 for token in tokens)
        if kind == 1:
            asm.fixed(tokens, final)
        else:
            _dynamic(rng, asm, tokens, final, wrong and final)
    return _framed(rng, asm.data(), "assembled" + " with a wrong length" * wrong)


def _framed(rng: random.Random, deflate: bytes, name: str) -> Case:
    """Framing with everything optional in it at random; right if ``deflate`` is."""
    content = zlib_partial(deflate, -15)
    content = b"" if content is None else content
    format = _format(rng)
    if format == Format.ZLIB:
        deflate = zlib_frame(deflate, content, cmf=16 * rng.randrange(8) + 8)
    elif format == Format.GZIP:
        def text() -> bytes | None:
            return rng.choice((None, b"", b"some name"))
        deflate = gzip_frame(deflate, content, flags=rng.randrange(2), name=text(), comment=text(),
                             header_crc=rng.random() < 0.5,
                             extra=rng.choice((None, b"", rng.randbytes(rng.randrange(300)))))
    return Case(0, 0, f"{name} {format.name}", format, deflate)


def _noise(rng: random.Random) -> Case:
    """Random bits, perhaps after a good beginning."""
    begin = Assembler()
    kind = rng.randrange(4)
    if kind == 0:
        begin.bits(rng.choice((2, 3, 4, 5)), 3)
    elif kind == 1:
        begin.header(2, True).bits(rng.randrange(30), 5).bits(rng.randrange(30), 5)
    elif kind == 2:
        begin.dynamic_header(_complete_code(rng, 286, 12), _complete_code(rng, 30, 9), True)
    return _framed(rng, begin.data() + rng.randbytes(rng.randrange(400)), f"noise {kind}")


def _members(rng: random.Random) -> Case:
    """Several gzip members, with padding, perhaps with something else after them."""
    data = b""
    for _ in range(rng.randrange(1, 4)):
        deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
        data += deflate.compress(_content(rng, rng.choice((0, 10, 300)))) + deflate.flush()
        data += bytes(rng.choice((0, 0, 1, 7, 512)))
    data += rng.choice((b"", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"trailing"))
    return Case(0, 0, "members", Format.GZIP, data, multi=True)


_SOURCES = ((12, _compressed), (4, _assembled), (1, _noise), (1, _members))


# Mutations


def _flip(rng: random.Random, data: bytearray) -> None:
    end = rng.choice((len(data), min(len(data), 40)))
    for _ in range(rng.choice((1, 1, 2, 5))):
        data[rng.randrange(end)] ^= 1 << rng.randrange(8)


def _flip_at_end(rng: random.Random, data: bytearray) -> None:
    data[-rng.randrange(1, min(len(data), 12) + 1)] ^= 1 << rng.randrange(8)


def _truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.choice((rng.randrange(len(data)), max(0, len(data) - rng.randrange(1, 12)))):]


def _overwrite(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _insert(rng: random.Random, data: bytearray) -> None:
    where = rng.randrange(len(data))
    data[where:where] = rng.randbytes(rng.randrange(1, 4))


def _delete(rng: random.Random, data: bytearray) -> None:
    where = rng.randrange(len(data))
    del data[where:where + rng.randrange(1, 4)]


def _splice(rng: random.Random, data: bytearray) -> None:
    other = _compressed(rng).data
    data[rng.randrange(len(data)):] = other[rng.randrange(len(other) + 1):]


_MUTATIONS = (_flip, _flip, _flip, _flip_at_end, _truncate, _truncate, _overwrite, _insert, _delete, _splice)


def _mutated(rng: random.Random, origin: Case) -> Case:
    data, mutation = bytearray(origin.data), rng.choice(_MUTATIONS)
    if not data:
        return origin
    mutation(rng, data)
    return replace(origin, name=f"{origin.name},{mutation.__name__.replace('_', ' ')}", data=bytes(data))


def case(seed: int, index: int) -> Case:
    """Case ``index`` of the endless list that belongs to ``seed``. About half of them are right."""
    rng = random.Random(f"inflate {seed} {index}")
    for _ in itertools.count():
        made = _weighted(rng, _SOURCES)(rng)
        if rng.random() < 0.5:
            made = _mutated(rng, made)
        if rng.random() < 0.2:
            made = replace(made, name=made.name + ", garbage after", data=made.data + rng.randbytes(rng.randrange(40)))
        made = replace(made, seed=seed, index=index)
        output = verdict_zlib(made).output
        if output is None or len(output) < MAX_OUTPUT:
            break
    return made


def cases(seed: int, count: int, start: int = 0) -> Iterator[Case]:
    """Cases ``start`` to ``start + count - 1`` of ``seed``; each can be had alone with :func:`case`."""
    return (case(seed, index) for index in range(start, start + count))


# zlib's verdict


class _ZStream(ctypes.Structure):
    """``z_stream`` of zlib.h."""

    _fields_ = (
        ("next_in", ctypes.c_char_p), ("avail_in", ctypes.c_uint), ("total_in", ctypes.c_ulong),
        ("next_out", ctypes.c_void_p), ("avail_out", ctypes.c_uint), ("total_out", ctypes.c_ulong),
        ("msg", ctypes.c_char_p), ("state", ctypes.c_void_p), ("zalloc", ctypes.c_void_p), ("zfree", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p), ("data_type", ctypes.c_int), ("adler", ctypes.c_ulong),
        ("reserved", ctypes.c_ulong),
    )


@functools.cache
def _libz() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("z")
    return None if name is None else ctypes.CDLL(name)


_NEED_DICT = 2


def zlib_partial(data: bytes, wbits: int, dictionary: bytes | None = None) -> bytes | None:
    """What zlib writes before it ends, stops at a mistake, or runs dry; at most ``MAX_OUTPUT`` bytes.

    Python's own module drops output that comes before a mistake, so this calls the C library; None without it.
    """
    library = _libz()
    if library is None:
        return None
    out = ctypes.create_string_buffer(MAX_OUTPUT)
    stream = _ZStream(next_in=data, avail_in=len(data), next_out=ctypes.addressof(out), avail_out=MAX_OUTPUT)
    version = ctypes.c_char_p(zlib.ZLIB_RUNTIME_VERSION.encode())
    if library.inflateInit2_(ctypes.byref(stream), wbits, version, ctypes.sizeof(stream)):
        return None
    if dictionary is not None and wbits < 0:
        library.inflateSetDictionary(ctypes.byref(stream), dictionary, len(dictionary))
    code = library.inflate(ctypes.byref(stream), zlib.Z_SYNC_FLUSH)
    if code == _NEED_DICT and dictionary is not None:
        if library.inflateSetDictionary(ctypes.byref(stream), dictionary, len(dictionary)) == 0:
            library.inflate(ctypes.byref(stream), zlib.Z_SYNC_FLUSH)
    library.inflateEnd(ctypes.byref(stream))
    return out.raw[:stream.total_out]


def _member(data: bytes, made: Case) -> Outcome:
    extra = {} if made.dictionary is None else {"zdict": made.dictionary}
    decoder = zlib.decompressobj(made.wbits, **extra)
    try:
        output = decoder.decompress(data, MAX_OUTPUT)
    except zlib.error as error:
        return Outcome(False, zlib_partial(data, made.wbits, made.dictionary), None, str(error))
    if not decoder.eof:
        return Outcome(False, output, None, "unfinished")
    return Outcome(True, output, len(data) - len(decoder.unused_data), "finished")


def verdict_zlib(made: Case) -> Outcome:
    """What zlib makes of a case. Of several members the last decides; zeros between them are skipped.

    What follows a member and is neither zero padding nor begins with a gzip header's magic is left over.
    """
    start, before = 0, b""
    while True:
        outcome = _member(made.data[start:], made)
        output = None if outcome.output is None else before + outcome.output
        if not outcome.accepted or outcome.consumed is None:
            return replace(outcome, output=output)
        end = start + outcome.consumed
        rest = made.data[end:].lstrip(b"\0")
        if not made.multi or rest[:2] != b"\x1f\x8b":
            return Outcome(True, output, end, outcome.detail)
        start, before = len(made.data) - len(rest), output or b""
