# SPDX-License-Identifier: Apache-2.0
"""Version tags: what a transport accepts is told byte by byte, whatever arrives."""

import mmap
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rackgate.zeronic.sidestore import SLOT_SIZE, Record, SideStore, store_size
from rackgate.zeronic.versions import IN_PLACE, NEVER, Reader, Tagger

MODULUS = 1 << 32
BEGINS = (0, 1000, MODULUS - 1, MODULUS - 700, 1 << 31)


def _store(begin: int, slots: int = 64) -> SideStore:
    return SideStore(bytearray(store_size(slots)), begin)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(BEGINS), st.integers(0, 2**32 - 1))
def test_accepted_bytes_are_those_of_the_accepted_frame(begin: int, seed: int) -> None:
    """A NIC that places some bytes at most once, and a transport that rejects at random."""
    draw = random.Random(seed)
    buffer = bytearray(store_size(64))
    store = SideStore(buffer, begin)
    tagger, reader = Tagger(store, reserve=4), Reader(SideStore(buffer))
    memory: dict[int, int] = {}  # the segments
    accepted: dict[int, tuple[int, int]] = {}  # tag and true byte, in the transport's queue
    expected = read = 0
    for _ in range(60):
        offset = max(0, expected + draw.randrange(-40, 80))
        payload = draw.randbytes(draw.randrange(1, 60))
        low = max(offset, expected) - offset  # the cursor is where the transport is
        placed_offset = placed = 0
        if low < len(payload) and draw.random() < 0.7:
            free = [k for k in range(low, len(payload)) if offset + k not in memory]
            if free:
                placed_offset = free[0]
                while placed < draw.randrange(1, 60) and placed_offset + placed in free:
                    memory[offset + placed_offset + placed] = payload[placed_offset + placed]
                    placed += 1
                placed_offset = placed_offset if placed else 0
        if placed == len(payload) - low and low < len(payload):
            tags = tagger.header(len(payload), low, placed)
        else:
            tags = tagger.deferred((begin + offset) % MODULUS, payload, placed_offset, placed,
                                   (begin + expected) % MODULUS)
        if tags is not None and draw.random() < 0.6:
            assert len(tags) == len(payload)
            for k, (tag, byte) in enumerate(zip(tags, payload, strict=True)):
                if offset + k >= expected and offset + k < expected + 100 and offset + k not in accepted:
                    accepted[offset + k] = tag, byte
        while expected in accepted:
            expected += 1
        if draw.random() < 0.3:
            size = draw.randrange(0, expected - read + 1)
            wanted = bytes(accepted[read + k][1] for k in range(size))
            tags = bytes(accepted[read + k][0] for k in range(size))
            assert not reader.is_plain(size) or tags == bytes(size)
            got = b""
            for part in reader.resolve(tags):
                assert part.position == (begin + read + len(got)) % MODULUS
                at = read + len(got)
                got += (bytes(memory[at + k] for k in range(part.size)) if part.content is None else part.content)
            assert got == wanted
            reader.consume(size)
            read += size
    assert not tagger.refused or store.live > store.slots - 8


def test_placeholders_of_a_header() -> None:
    tagger = Tagger(_store(0))
    assert tagger.header(5, 2, 3) == bytes([NEVER, NEVER, IN_PLACE, IN_PLACE, IN_PLACE])
    assert tagger.header(3, 0, 0) == bytes([NEVER]) * 3
    assert tagger.header(4, 0, 4) == bytes(4)


def test_equal_retransmissions_take_no_room() -> None:
    store = _store(MODULUS - 10)
    tagger = Tagger(store)
    first = tagger.deferred(MODULUS - 10, b"abcdefghijklmnopqrst")
    assert first == bytes([1]) * 20
    assert tagger.deferred(MODULUS - 5, b"fghijklmno") == bytes([1]) * 10  # a part of it
    assert store.live == 1
    assert tagger.deferred(MODULUS - 5, b"fghijkLmno") == bytes([2]) * 10
    assert store.live == 2
    assert tagger.deferred(MODULUS - 5, b"xxxxxKlmno", 0, 5) == bytes(5) + bytes([3]) * 5
    assert tagger.deferred(MODULUS - 5, b"yyyyyKlmno", 0, 5) == bytes(5) + bytes([3]) * 5


def test_bytes_that_were_read_are_not_kept() -> None:
    store = _store(100)
    tagger, reader = Tagger(store), Reader(store)
    assert tagger.deferred(90, b"0123456789") == bytes([NEVER]) * 10 and not store.live
    assert tagger.deferred(95, b"0123456789") == bytes([NEVER]) * 5 + bytes([1]) * 5
    assert [part.content for part in reader.resolve(bytes([1]) * 5)] == [b"56789"]
    reader.consume(5)
    store.release()
    assert not store.live


def test_a_long_frame_takes_several_slots() -> None:
    store = _store(MODULUS - 3000, slots=8)
    tagger, reader = Tagger(store, reserve=0), Reader(store)
    payload = random.Random(1).randbytes(2 * SLOT_SIZE + 5)
    assert tagger.deferred(MODULUS - 3000, payload) == bytes([1]) * len(payload)
    assert store.live == 3
    parts = reader.resolve(bytes([1]) * len(payload))
    assert b"".join(part.content or b"" for part in parts) == payload
    reader.consume(SLOT_SIZE)
    store.release()
    assert store.live == 2


def test_a_reserve_is_for_the_byte_that_is_expected() -> None:
    store = _store(0, slots=4)
    tagger = Tagger(store, reserve=2)
    assert tagger.deferred(100, b"far", expected=0) and tagger.deferred(200, b"far", expected=0)
    assert tagger.deferred(300, b"far", expected=0) is None and tagger.refused == 1
    assert tagger.deferred(300, b"far") is None
    assert tagger.deferred(0, b"near", expected=0) and tagger.deferred(0, b"Near", expected=3)
    assert tagger.deferred(0, b"neaR", expected=0) is None and tagger.refused == 3


def test_all_versions_are_used_before_a_frame_is_refused() -> None:
    store = _store(0, slots=300)
    tagger = Tagger(store)
    for version in range(1, NEVER):
        assert tagger.deferred(7, version.to_bytes(2, "big")) == bytes([version]) * 2
    assert tagger.deferred(7, bytes([9, 9])) is None
    assert tagger.deferred(9, bytes([9, 9])) == bytes([1]) * 2  # elsewhere they are free


def test_a_tag_of_no_record_is_an_error() -> None:
    reader = Reader(_store(5))
    for tag in (7, NEVER):
        with pytest.raises(ValueError, match=f"not {tag}"):
            reader.resolve(bytes([tag]))


def test_stores_are_checked() -> None:
    for slots in (0, 65537):
        with pytest.raises(ValueError, match="slots must be 1 to 65536"):
            store_size(slots)
    with pytest.raises(ValueError, match="buffer must have at least"):
        SideStore(bytearray(100), 0)
    with pytest.raises(ValueError, match="buffer must hold a store of 2 slots, not of 0"):
        SideStore(bytearray(store_size(2)))
    with pytest.raises(ValueError, match="reserve must be 0 to 1"):
        Tagger(_store(0, 2), reserve=2)


def test_two_processes_see_one_store() -> None:
    buffer = bytearray(store_size(3))
    writer = SideStore(buffer, 50)
    assert writer.add(Record(60, 9, b"abc"))
    reader = SideStore(buffer)
    assert reader.slots == 3 and reader.consumed == 50
    assert reader.overlapping(50, 11) == [Record(60, 9, b"abc")] and not reader.overlapping(50, 10)
    reader.consumed = 62
    writer.release()
    assert writer.live == 1
    reader.consumed = 63
    writer.release()
    assert writer.live == 0 and writer.add(Record(70, 1, bytes(3 * SLOT_SIZE)))


_WRITER = """
import mmap, sys
from rackgate.zeronic.sidestore import SideStore
with open(sys.argv[1], "r+b") as file:
    store = SideStore(memoryview(mmap.mmap(file.fileno(), 0)))
while True:
    store.consumed = 0x01FE01FE
    store.consumed = 0x01FF01FF
"""


def test_words_are_never_seen_half_written(tmp_path) -> None:
    """A process that looks while another one writes finds what was there before or what comes after."""
    path = tmp_path / "store"
    path.write_bytes(bytes(store_size(8)))
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    SideStore(memoryview(memory), 0x01FF01FF)
    word, seen, looks = np.frombuffer(memory, np.uint32, 1, 8), {}, 0
    with subprocess.Popen([sys.executable, "-c", _WRITER, path]) as writer:
        try:
            while looks < 200:
                for value in np.unique(np.broadcast_to(word, 100_000)).tolist():
                    seen[value] = seen.get(value, 0) + 1
                looks += 0x01FE01FE in seen  # it has begun
                assert writer.poll() is None
        finally:
            writer.kill()
    assert set(seen) == {0x01FE01FE, 0x01FF01FF}
