# SPDX-License-Identifier: Apache-2.0
"""zlib's own module is the reference for every call."""

import gzip
import random
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rackgate_host
from rackgate.inflate.abi import ErrorCode, Status
from rackgate_host import inflate
from rackgate_host.inflate import InflateError
from rackgate_host.inflate.driver import InflateDriver

ANY = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FEWER = settings(ANY, max_examples=50)
WBITS = {-15: -15, 15: 15, 31: 31, 47: 15, 32 + 9: 31, 0: 15, 16: 31, 32: 31}  # to inflate: how to deflate

# A window below 32 KB bounds what zlib remembers from call to call, so what it accepts then depends on the cuts; the
# device always looks back 32 KB.
PIECES = sorted(set(WBITS) - {32 + 9})

TEXT = b"".join(b"%d: the quick brown fox jumps over %d lazy dogs\n" % (n, n * n % 97) for n in range(200))


@st.composite
def contents(draw):
    """Bytes with something to match in them."""
    parts = draw(
        st.lists(
            st.one_of(
                st.binary(max_size=40),
                st.integers(0, 5000).map(lambda n: TEXT[n : n + n % 300]),
                st.tuples(st.binary(min_size=1, max_size=3), st.integers(1, 400)).map(lambda p: p[0] * p[1]),
            ),
            max_size=12,
        )
    )
    return b"".join(parts)


@st.composite
def compressed(draw, content, wbits):
    """``content`` as some encoder would write it, with flushes in between."""
    encoder = zlib.compressobj(draw(st.integers(0, 9)), zlib.DEFLATED, wbits, strategy=draw(st.integers(0, 4)))
    cut = draw(st.integers(0, len(content)))
    output = encoder.compress(content[:cut]) + encoder.flush(
        draw(st.sampled_from([zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH]))
    )
    return output + encoder.compress(content[cut:]) + encoder.flush()


def outcome(call):
    """What a call returns, or the error in zlib's words."""
    try:
        return call()
    except zlib.error as error:
        return str(error).split(" (")[0]


@pytest.fixture(scope="module")
def shared():
    with rackgate_host.open("model:inflate?memory=64M") as device:
        yield InflateDriver(device, verify=True)


@ANY
@given(st.data(), st.sampled_from(sorted(WBITS)))
def test_decompress(shared, data, wbits):
    content = data.draw(contents())
    stream = data.draw(compressed(content, WBITS[wbits])) + data.draw(st.binary(max_size=5))
    assert inflate.decompress(stream, wbits, device=shared) == content == zlib.decompress(stream, wbits)


@ANY
@given(st.data(), st.sampled_from(sorted(WBITS)), st.sampled_from(["cut", "flip", "other", "insert"]))
def test_decompress_of_damaged_data(shared, data, wbits, damage):
    stream = bytearray(data.draw(compressed(data.draw(contents()), WBITS[wbits])))
    at = data.draw(st.integers(0, max(0, len(stream) - 1)))
    match damage:
        case "cut":
            del stream[at:]
        case "flip":
            stream[at] ^= 1 << data.draw(st.integers(0, 7))
        case "insert":
            stream[at:at] = data.draw(st.binary(max_size=4))
        case "other":
            wbits = data.draw(st.sampled_from(sorted(WBITS)))
    expected = outcome(lambda: zlib.decompress(stream, wbits))
    assert outcome(lambda: inflate.decompress(stream, wbits, device=shared)) == expected


def in_pieces(module, stream, wbits, cuts, limits, **options):
    """Everything that can be seen of a decompressobj that gets ``stream`` cut at ``cuts``, with limited output."""
    seen, limits = [], iter(limits)
    decoder = module.decompressobj(wbits, **options)
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            piece = stream[begin:end]
            while True:
                limit = next(limits, 0)
                output = decoder.decompress(piece, limit)
                piece = decoder.unconsumed_tail
                seen.append((output, decoder.eof, bool(piece)))
                if decoder.eof or not piece:
                    break
        seen.append((decoder.eof, decoder.unused_data if decoder.eof else None, decoder.flush()))
    except zlib.error as error:
        seen.append(str(error).split(" (")[0])
    return seen


@ANY
@given(st.data(), st.sampled_from(PIECES))
def test_decompressobj_in_pieces(shared, data, wbits):
    """Each call of a stream in pieces gives the same bytes as zlib's."""
    stream = data.draw(compressed(data.draw(contents()), WBITS[wbits])) + data.draw(st.binary(max_size=5))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    assert in_pieces(inflate, stream, wbits, cuts, (), device=shared) == in_pieces(
        zlib, stream, wbits, cuts, ()
    )


def drained(module, stream, wbits, sizes, limits, **options):
    """Output pieces of a decompressobj with ``max_length``, read as zlib's manual says: until eof."""
    decoder, pieces, rest = module.decompressobj(wbits, **options), [], stream
    sizes, limits = iter(sizes), iter(limits)
    piece = b""
    while not decoder.eof:
        if not piece and rest:
            size = next(sizes, len(rest))
            piece, rest = rest[:size], rest[size:]
        pieces.append(decoder.decompress(piece, next(limits, 0)))
        ended = not rest and not decoder.unconsumed_tail
        piece = decoder.unconsumed_tail
        if ended:
            break
    if not decoder.eof:  # at the end CPython's flush would count the bytes behind it twice
        pieces.append(decoder.flush())
    return b"".join(pieces), decoder.eof, decoder.unused_data + rest


@FEWER
@given(st.data(), st.sampled_from(PIECES))
def test_decompressobj_with_limits(shared, data, wbits):
    content = data.draw(contents())
    stream = data.draw(compressed(content, WBITS[wbits])) + data.draw(st.binary(max_size=5))
    sizes = data.draw(st.lists(st.integers(1, 300), max_size=8))
    limits = data.draw(st.lists(st.integers(0, 100), max_size=40))
    ours = drained(inflate, stream, wbits, sizes, limits, device=shared)
    theirs = drained(zlib, stream, wbits, sizes, limits)
    # With input behind the end, which call gets to see it depends on when the end is seen; the bytes do not.
    assert ours == theirs == (content, True, ours[2])


@FEWER
@given(st.data(), st.integers(1, 600))
def test_each_limited_call_gives_what_zlib_gives(shared, data, limit):
    content = data.draw(contents())
    stream = data.draw(compressed(content, 15)) + b"tail"
    ours, theirs = inflate.decompressobj(device=shared), zlib.decompressobj()
    our_rest = their_rest = stream
    for _ in range(len(content) // limit + 2):
        assert ours.decompress(our_rest, limit) == theirs.decompress(their_rest, limit)
        assert ours.eof == theirs.eof
        # How far ahead of the output zlib has read is its own matter; what is left always begins before that.
        assert our_rest.endswith(ours.unconsumed_tail)
        our_rest, their_rest = ours.unconsumed_tail, theirs.unconsumed_tail
        if not ours.eof:
            assert our_rest.endswith(their_rest)
        else:
            break
    assert ours.eof and ours.unused_data == b"tail" == theirs.unused_data


@ANY
@given(
    st.data(),
    st.sampled_from([-15, 15]),
    st.binary(max_size=300),
    st.sampled_from(["right", "wrong", "none", "empty"]),
)
def test_dictionaries(shared, data, wbits, dictionary, given):
    content = dictionary[:100] + data.draw(contents()) + dictionary
    encoder = zlib.compressobj(9, zlib.DEFLATED, wbits, zdict=dictionary)
    stream = encoder.compress(content) + encoder.flush()
    options = {
        "right": {"zdict": dictionary},
        "wrong": {"zdict": dictionary + b"x"},
        "none": {},
        "empty": {"zdict": b""},
    }[given]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=3)))
    ours = in_pieces(inflate, stream, wbits, cuts, (), device=shared, **options)
    assert ours == in_pieces(zlib, stream, wbits, cuts, (), **options)
    if given == "right":
        assert b"".join(piece for piece, *_ in ours[:-1]) == content


def test_a_long_dictionary(shared):
    dictionary = random.Random(5).randbytes(100_000)
    encoder = zlib.compressobj(zdict=dictionary)
    stream = encoder.compress(dictionary[-5000:]) + encoder.flush()
    assert inflate.decompressobj(zdict=dictionary, device=shared).decompress(stream) == dictionary[-5000:]


@pytest.mark.parametrize("wbits", [*range(-17, 50), 100, -100])
def test_every_wbits(shared, wbits):
    for stream in [zlib.compress(TEXT[:100], wbits=w) for w in (15, 9, 31, -15)]:
        expected = outcome(lambda stream=stream: zlib.decompress(stream, wbits))
        assert outcome(lambda stream=stream: inflate.decompress(stream, wbits, device=shared)) == expected
    try:
        zlib.decompressobj(wbits)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            inflate.decompressobj(wbits, device=shared)
    else:
        inflate.decompressobj(wbits, device=shared)


@pytest.mark.parametrize(
    "call",
    [
        lambda m, o: m.decompress("text", **o),
        lambda m, o: m.decompress(b"", bufsize=-1, **o),
        lambda m, o: m.decompressobj(zdict="text", **o),
        lambda m, o: m.decompressobj(**o).decompress("text"),
        lambda m, o: m.decompressobj(**o).decompress(b"", -1),
        lambda m, o: m.decompressobj(**o).flush(0),
        lambda m, o: m.decompress(memoryview(bytes(20))[::2], **o),
    ],
)
def test_wrong_arguments(shared, call):
    with pytest.raises(Exception) as theirs:
        call(zlib, {})
    with pytest.raises(Exception) as ours:
        call(inflate, {"device": shared})
    assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))


def test_wrong_devices():
    with pytest.raises(TypeError, match="device must be a Device, an InflateDriver, a URL or None, not int"):
        inflate.decompress(b"x", device=3)


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("B", (2, len(data) // 2))]
)
def test_bytes_like_input(shared, kind):
    stream = zlib.compress(TEXT)
    stream += bytes(len(stream) % 2)
    assert inflate.decompress(kind(stream), device=shared) == TEXT
    assert inflate.decompressobj(device=shared).decompress(kind(stream)) == TEXT


def test_empty_streams_and_calls(shared):
    stream = zlib.compress(b"")
    assert inflate.decompress(stream, device=shared) == b""
    decoder = inflate.decompressobj(device=shared)
    assert decoder.decompress(b"") == b"" and not decoder.eof
    assert decoder.decompress(stream[:3]) == decoder.decompress(b"") == b""
    assert decoder.flush() == b"" and not decoder.eof
    assert decoder.decompress(stream[3:]) == b"" and decoder.eof
    assert decoder.decompress(b"more") == b"" and decoder.unused_data == b"more"


def test_after_the_end_and_after_flush(shared):
    """As zlib: once flush has been called at the end, the object is closed."""
    for module, options in ((inflate, {"device": shared}), (zlib, {})):
        decoder = module.decompressobj(**options)
        assert decoder.decompress(zlib.compress(TEXT) + b"ab") == TEXT
        assert decoder.decompress(b"cd") == b"" and decoder.unused_data == b"abcd"
        assert decoder.flush() == b""
        with pytest.raises(zlib.error, match="^Error -2 while decompressing data: inconsistent stream state$"):
            decoder.decompress(b"ef")


def test_flush_gives_the_rest_and_hides_errors(shared):
    stream = zlib.compress(TEXT)
    for module, options in ((inflate, {"device": shared}), (zlib, {})):
        decoder = module.decompressobj(**options)
        assert decoder.decompress(stream + b"xy", 10) == TEXT[:10]
        assert decoder.flush() == TEXT[10:] and decoder.eof and decoder.unused_data == b"xy"
        decoder = module.decompressobj(**options)
        assert decoder.decompress(stream[:-1] + b"?", 10) == TEXT[:10]
        decoder.flush()
        assert not decoder.eof


def test_errors_repeat(shared):
    for module, options in ((inflate, {"device": shared}), (zlib, {})):
        decoder = module.decompressobj(**options)
        for data in (b"\x78\x9c\x07\0", b"", zlib.compress(b"good")):
            with pytest.raises(zlib.error, match="invalid block type"):
                decoder.decompress(data)
        assert decoder.flush() == b""


def test_what_an_error_knows(shared):
    stream = bytearray(zlib.compress(b"hello" * 50))
    stream[-1] ^= 1
    with pytest.raises(
        InflateError,
        match=r"^Error -3 while decompressing data: incorrect data check \(ADLER_MISMATCH at byte \d+\)$",
    ) as caught:
        inflate.decompress(stream, device=shared)
    error = caught.value
    assert isinstance(error, zlib.error) and inflate.error is InflateError and error.exit_code == 1
    assert (error.status, error.error, error.position) == (
        Status.ANALYTICS_ERROR,
        ErrorCode.ADLER_MISMATCH,
        8 * (len(stream) - 4),
    )
    with pytest.raises(InflateError, match=r"BAD_BLOCK_TYPE at byte 2\)") as caught:
        inflate.decompress(b"\x78\x9c\x07", device=shared)
    assert caught.value.position == 16
    with pytest.raises(InflateError, match="incomplete or truncated stream"):
        inflate.decompress(b"", device=shared)


def test_a_position_counts_all_pieces(shared):
    stream = zlib.compress(TEXT)
    bad = stream[:-4] + b"\0\0\0\0"
    decoder = inflate.decompressobj(device=shared)
    with pytest.raises(InflateError) as caught:
        for at in range(0, len(bad), 7):
            decoder.decompress(bad[at : at + 7])
    assert caught.value.position == 8 * (len(stream) - 4)
    assert decoder.status == Status.ANALYTICS_ERROR


def test_a_small_window_says_so():
    stream = zlib.compress(random.Random(1).randbytes(8000) * 2)
    with rackgate_host.open("model:inflate?window=4096") as device:
        with pytest.raises(InflateError, match="invalid distance too far back .DISTANCE_TOO_LARGE at byte"):
            inflate.decompress(stream, device=device)


def test_long_streams_take_many_jobs(shared):
    content = random.Random(2).randbytes(700_000) + TEXT * 100
    assert inflate.decompress(zlib.compress(content, 1), device=shared) == content
    decoder = inflate.decompressobj(device=shared)
    assert decoder.decompress(zlib.compress(content, 1), 3_000_000) == content and decoder.eof


def test_a_header_longer_than_a_job(shared):
    stream = gzip.compress(TEXT)
    stream = stream[:3] + bytes([stream[3] | 8]) + stream[4:10] + b"n" * 700_000 + b"\0" + stream[10:]
    assert inflate.decompress(stream, 31, device=shared) == TEXT == zlib.decompress(stream, 31)


def test_the_default_device(monkeypatch):
    monkeypatch.setenv("RACKGATE_DEVICE", "model:inflate?contexts=1")
    inflate.set_default_device(None)
    try:
        assert inflate.decompress(zlib.compress(TEXT)) == TEXT
        assert inflate.default_device().url == "model:inflate?contexts=1"
        inflate.set_default_device("model:inflate?contexts=3")
        assert inflate.decompressobj().decompress(zlib.compress(TEXT)) == TEXT
        assert inflate.default_device().parameters["contexts"] == 3
    finally:
        inflate.default_device().close()
        inflate.set_default_device(None)


def test_a_url_as_device():
    assert inflate.decompress(zlib.compress(TEXT), device="model:inflate") == TEXT


@pytest.fixture(scope="module")
def gateware():
    with rackgate_host.open("sim:inflate?memory=64M&jitter=20&stall=0.1") as device:
        yield InflateDriver(device, verify=True)


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
@settings(ANY, max_examples=120)
@given(st.data(), st.sampled_from(PIECES), st.sampled_from(["whole", "flip", "cut", "pieces", "limits"]))
def test_random_calls_on_the_gateware(gateware, data, wbits, kind):
    stream = bytearray(data.draw(compressed(data.draw(contents()), WBITS[wbits])) + data.draw(st.binary(max_size=5)))
    at = data.draw(st.integers(0, len(stream) - 1))
    match kind:
        case "flip":
            stream[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del stream[at:]
        case "pieces":
            ours = in_pieces(inflate, stream, wbits, [at], (), device=gateware)
            assert ours == in_pieces(zlib, stream, wbits, [at], ())
        case "limits":
            limits = data.draw(st.lists(st.integers(1, 400), max_size=10))
            ours = drained(inflate, stream, wbits, [at + 1], limits, device=gateware)
            assert ours == drained(zlib, stream, wbits, [at + 1], limits)
    expected = outcome(lambda: zlib.decompress(stream, wbits))
    assert outcome(lambda: inflate.decompress(stream, wbits, device=gateware)) == expected


def test_every_world(device, seed):
    """The few calls that matter most, on the gateware too."""
    rng = random.Random(seed)
    content = TEXT + rng.randbytes(3000) + bytes(5000)
    for wbits in (15, -15, 31):
        stream = zlib.compress(content, wbits=wbits) + b"tail"
        assert inflate.decompress(stream, wbits, device=device) == content
        limits = [rng.randrange(1, 2000) for _ in range(30)]
        cuts = sorted(rng.sample(range(len(stream)), 5))
        assert in_pieces(inflate, stream, wbits, cuts, (), device=device) == in_pieces(
            zlib, stream, wbits, cuts, ()
        )
        assert drained(inflate, stream, wbits, [700] * 20, limits, device=device)[:2] == (content, True)
    for bad in (stream[:100], stream[:50] + b"\xff" * 20 + stream[70:], b"", b"\x1f"):
        assert outcome(lambda bad=bad: inflate.decompress(bad, 31, device=device)) == outcome(
            lambda bad=bad: zlib.decompress(bad, 31)
        )
    encoder = zlib.compressobj(zdict=TEXT)
    stream = encoder.compress(TEXT[::-1] + TEXT) + encoder.flush()
    assert inflate.decompressobj(zdict=TEXT, device=device).decompress(stream) == TEXT[::-1] + TEXT
