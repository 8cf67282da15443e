# SPDX-License-Identifier: Apache-2.0
"""The bridge's wire format: every rule, and every error by its name."""

import random
import zlib

import pytest

from rackgate.bridge import framing, operations
from rackgate.bridge.abi import (
    BODY_WORDS,
    MAGIC,
    MESSAGE_BYTES,
    PROTOCOL,
    FormatError,
    Kind,
    Message,
    Refusal,
    Status,
    Terms,
    VersionError,
    pack_message,
    pack_words,
    unpack_message,
    unpack_refusal,
    unpack_words,
)
from rackgate.bridge.identity import IDENTITY_WORDS, Identity
from rackgate.bridge.operations import DATA_WORDS, Opcode, Operation, Result


def with_crc(raw):
    return raw + zlib.crc32(raw).to_bytes(4, "little")


def test_message_bytes():
    """The layout, spelt out."""
    raw = pack_message(Message(Kind.REQUEST, 0x11223344, 5, b"\1\2\3\4"))
    assert raw[:16].hex() == "524701014433221105000000" + "01020304"
    assert raw == with_crc(raw[:-4])


@pytest.mark.parametrize("words", [0, 1, BODY_WORDS])
@pytest.mark.parametrize("kind", Kind)
def test_message_round_trip(kind, words):
    message = Message(kind, 0xFFFF_FFFF, 0x8000_0001, random.Random(words).randbytes(4 * words))
    assert unpack_message(pack_message(message)) == message


@pytest.mark.parametrize("body,rule", [
    (b"abc", "body must have whole words, at most 364, not 3 bytes"),
    (bytes(4 * BODY_WORDS + 4), "body must have whole words, at most 364, not 1460 bytes"),
])
def test_bad_body(body, rule):
    with pytest.raises(ValueError, match=rule):
        pack_message(Message(Kind.REQUEST, 1, 0, body))


@pytest.mark.parametrize("field", ["session", "sequence"])
def test_bad_header(field):
    with pytest.raises(ValueError, match=f"{field} must fit 32 bits, not 0x100000000"):
        pack_message(Message(Kind.REQUEST, 1, 0)._replace(**{field: 1 << 32}))


GOOD = pack_message(Message(Kind.REQUEST, 1, 0, bytes(8)))


@pytest.mark.parametrize("raw,rule", [
    (b"", "must have 4 to 368 words, not 0 bytes"),
    (GOOD[:12], "must have 4 to 368 words, not 12 bytes"),
    (GOOD + b"\0", "must have 4 to 368 words, not 25 bytes"),
    (with_crc(bytes(MESSAGE_BYTES)), "must have 4 to 368 words, not 1476 bytes"),
    (GOOD[:-8] + GOOD[-4:], "CRC"),
    (with_crc(b"GR" + GOOD[2:-4]), "magic of a message must be 0x4752, not 0x5247"),
    (with_crc(GOOD[:3] + b"\x06" + GOOD[4:-4]), "no kind 6 of message"),
])
def test_bad_message(raw, rule):
    with pytest.raises(FormatError, match=rule):
        unpack_message(raw)


def test_every_flipped_bit_is_found():
    for bit in range(8 * len(GOOD)):
        raw = bytearray(GOOD)
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            unpack_message(bytes(raw))


def test_other_version():
    with pytest.raises(VersionError, match="version 9 of the protocol, not 1") as caught:
        unpack_message(pack_message(Message(Kind.OPEN, 1, 0, bytes(4)), protocol=9))
    assert caught.value.version == 9 != PROTOCOL


def test_answers():
    terms = Terms(8, MESSAGE_BYTES, 0x1000_0000, 4096, 40)
    assert Terms.unpack(terms.pack()) == terms
    with pytest.raises(FormatError, match="OPENED must have 20 bytes, not 4"):
        Terms.unpack(bytes(4))
    assert unpack_refusal(pack_words([2, 77])) == (Refusal.VERSION, 77)
    with pytest.raises(FormatError, match="REFUSED must have 8 bytes, not 4"):
        unpack_refusal(bytes(4))
    with pytest.raises(FormatError, match="no reason 9"):
        unpack_refusal(pack_words([9, 77]))
    assert unpack_words(pack_words([MAGIC, 1])) == (MAGIC, 1)


def some_operations(rng):
    kinds = [
        lambda: operations.read(Opcode.READ_REGISTERS, 4 * rng.randrange(99), rng.randrange(1, 9), is_fixed=True),
        lambda: operations.read(rng.choice([Opcode.READ_MEMORY, Opcode.READ_IDENTITY, Opcode.READ_STATUS]), 64, 3),
        lambda: operations.write(4 * rng.randrange(99), rng.randbytes(4 * rng.randrange(1, 9)), is_fixed=bool(
            rng.randrange(2))),
        lambda: operations.write_memory(0x1000_0000 + rng.randrange(99), rng.randbytes(rng.randrange(1, 30))),
    ]
    return [rng.choice(kinds)() for _ in range(rng.randrange(9))]


@pytest.mark.parametrize("seed", range(20))
def test_operations_round_trip(seed):
    listed = some_operations(random.Random(seed))
    assert list(operations.unpack_operations(operations.pack_operations(listed))) == listed


def test_operation_bytes():
    one = operations.write_memory(0x1000_0003, b"abc")
    assert one == Operation(Opcode.WRITE_MEMORY, 0x1000_0000, 2, b"\0\0\0abc\0\0", skip=3, omit=2)
    assert one.pack().hex() == "042c0200" + "00000010" + "0000006162630000"
    assert operations.write_memory(0x1000_0001, b"a").pack().hex() == "04240100" + "00000010" + "00610000"
    assert operations.read(Opcode.READ_REGISTERS, 8, 2, is_fixed=True).pack().hex() == "01010200" + "08000000"


@pytest.mark.parametrize("make,rule", [
    (lambda: operations.read(Opcode.READ_MEMORY, 2), "address must be a multiple of 4 that fits 32 bits, not 0x2"),
    (lambda: operations.read(Opcode.READ_MEMORY, 1 << 32), "fits 32 bits, not 0x100000000"),
    (lambda: operations.read(Opcode.READ_MEMORY, 0, 0), "1 to 362 words, not 0"),
    (lambda: operations.read(Opcode.READ_MEMORY, 0, DATA_WORDS + 1), "1 to 362 words, not 363"),
    (lambda: operations.read(Opcode.WRITE_MEMORY, 0), "opcode must be one that reads"),
    (lambda: operations.read(Opcode.READ_MEMORY, 0, is_fixed=True), "is_fixed is for registers only"),
    (lambda: operations.write(0, b"abc"), "data must have whole words, not 3 bytes"),
    (lambda: operations.write(0, b""), "1 to 362 words, not 0"),
    (lambda: operations.write_memory(0, b""), "data must not be empty"),
    (lambda: operations.pack_operations([operations.write(0, bytes(4))] * 122), "at most 364 words of operations"),
    (lambda: operations.pack_operations([operations.read(Opcode.READ_MEMORY, 0, 181)] * 2), "most 363 words of result"),
])
def test_bad_operation(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()


def test_longest_operations_fit():
    for one in (operations.read(Opcode.READ_MEMORY, 0, DATA_WORDS), operations.write(0, bytes(4 * DATA_WORDS))):
        assert list(operations.unpack_operations(operations.pack_operations([one]))) == [one]


HEAD = operations.read(Opcode.READ_STATUS, 0).pack()


@pytest.mark.parametrize("broken,rule", [
    (HEAD[:4], "two words"),
    (b"\x07" + HEAD[1:], "opcode"),
    (b"\x00" + HEAD[1:], "opcode"),
    (HEAD[:1] + b"\x01" + HEAD[2:], "flags"),
    (b"\x01\x02" + HEAD[2:], "flags"),
    (b"\x03\x04" + HEAD[2:], "flags"),
    (b"\x04\x01\x01\x00" + bytes(8), "flags"),
    (HEAD[:2] + b"\0\0" + HEAD[4:], "at least one word"),
    (HEAD[:4] + b"\x02\0\0\0", "multiple of 4"),
    (b"\x04\x2c\x01\x00" + bytes(8), "write a byte"),
    (b"\x02\x00\x02\x00" + bytes(8), "within the body"),
    (HEAD[:2] + (361).to_bytes(2, "little") + HEAD[4:], "fit the response"),
])
def test_malformed_operation(broken, rule):
    """What is before it is taken, what is behind it is not."""
    before = operations.read(Opcode.READ_STATUS, 4)
    found = []
    with pytest.raises(FormatError, match=rule) as caught:
        for one in operations.unpack_operations(before.pack() + broken):
            found.append(one)
    assert found == [before]
    assert caught.value.args[1] == broken[0]


def test_results():
    listed = [Result(3, Status.OK, b"abcdefgh"), Result(2, Status.OK), Result(1, Status.SLVERR)]
    body = operations.pack_results(listed)
    assert body.hex() == "03000200" + b"abcdefgh".hex() + "02000000" + "01020000"
    assert operations.unpack_results(body) == listed
    with pytest.raises(FormatError, match="2 words must end within the body"):
        operations.unpack_results(body[:8])
    with pytest.raises(FormatError, match="no status 9"):
        operations.unpack_results(b"\1\x09\0\0")


IDENTITY = Identity(system="inflate", board="ulx3s_85f", clock_khz=50_000, memory_base=0x1000_0000, memory_size=65536,
                    release=(1, 2, 3), parameters={"window": 4096, "contexts": 1}, build=bytes(range(32)))


def test_identity_round_trip():
    raw = IDENTITY.pack()
    assert len(raw) % 4 == 0 and raw[:4] == b"RGID"
    assert Identity.unpack(raw) == Identity.unpack(raw + bytes(40)) == IDENTITY


@pytest.mark.parametrize("change,rule", [
    ({"system": ""}, "system must have 1 to 16 printable ASCII letters, not ''"),
    ({"system": "a" * 17}, "system must have 1 to 16 printable"),
    ({"board": "b\u00e4r"}, "board must have 1 to 16 printable"),
    ({"clock_khz": -1}, "clock_khz must fit 32 bits, not -1"),
    ({"memory_size": 1 << 32}, "memory_size must fit 32 bits"),
    ({"release": (0, 256, 0)}, "release must fit 16, 8 and 8 bits"),
    ({"build": b""}, "build must have 32 bytes, not 0"),
    ({"parameters": {"name": "x" * 4 * IDENTITY_WORDS}}, "too long for a table of 256 words"),
])
def test_bad_identity(change, rule):
    values = {name: getattr(IDENTITY, name) for name in IDENTITY.__dataclass_fields__}
    with pytest.raises(ValueError, match=rule):
        Identity(**values | change)


def test_damaged_identity():
    raw = IDENTITY.pack()
    for bit in range(8 * len(raw)):
        bad = bytearray(raw)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            Identity.unpack(bytes(bad))
    with pytest.raises(FormatError, match="must have 100 bytes and more, not 8"):
        Identity.unpack(raw[:8])


@pytest.mark.parametrize("seed", range(20))
def test_frames(seed):
    """Messages in any pieces, noise between them: all come whole; what the noise becomes is no message."""
    rng = random.Random(seed)
    messages = [bytes(rng.choice([framing.END, framing.ESC, rng.randrange(256)]) for _ in range(rng.randrange(1, 60)))
                for _ in range(20)]
    wire = b"".join(framing.encode_frame(one) for one in messages)
    decoder, found = framing.FrameDecoder(60), []
    while wire:
        size = rng.randrange(1, 40)
        found += decoder.feed(wire[:size])
        wire = wire[size:]
    assert found == messages and not decoder.damaged


def test_damaged_frames():
    decoder = framing.FrameDecoder(4)
    end = bytes([framing.END])
    assert decoder.feed(b"noise" + framing.encode_frame(b"good")) == [b"good"]
    assert decoder.damaged == 1
    assert decoder.feed(bytes([framing.ESC, 1, 2]) + end + framing.encode_frame(b"good")) == [b"good"]
    assert decoder.feed(b"a" + bytes([framing.ESC]) + end + framing.encode_frame(b"1")) == [b"1"]
    assert decoder.damaged == 3
    with pytest.raises(ValueError, match="most must be at least 1, not 0"):
        framing.FrameDecoder(0)


def test_uart_divisor():
    assert framing.uart_divisor(50_000_000, 115_200) == 434
    assert framing.uart_divisor(25_000_000, 3_125_000) == 8
    for clock, baud, rule in ((25_000_000, 12_000_000, "at most a quarter of the clock"),
                              (25_000_000, 3_000_000, "within 2 % of clock / 8 = 3125000, not 3000000"),
                              (25_000_000, 0, "at least 1")):
        with pytest.raises(ValueError, match=rule):
            framing.uart_divisor(clock, baud)
