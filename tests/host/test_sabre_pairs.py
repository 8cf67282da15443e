# SPDX-License-Identifier: Apache-2.0
"""Sabre's own files: NAME.partitions and NAME.snapshot."""

import random
import struct
import zlib

import pytest
from sabre_samples import PAGE, anonymous, memory

from rackgate_host.errors import UsageError
from rackgate_host.sabre import sabre_files
from rackgate_host.sabre.errors import SnapshotError
from rackgate_host.sabre.sabre_files import LAYOUTS, Run, SabrePair, export_runs, export_snapshot
from rackgate_host.sabre.snapshot import Region, Snapshot, write


def deflated(data):
    packer = zlib.compressobj(6, zlib.DEFLATED, -12)
    return packer.compress(data) + packer.flush()


def put(name, entries, stored, count=None):
    """The files as Sabre writes them, by hand."""
    table = struct.pack("<Q", len(entries) if count is None else count)
    table += b"".join(struct.pack("<QQq", *entry) for entry in entries)
    name.with_name(name.name + ".partitions").write_bytes(table)
    name.with_name(name.name + ".snapshot").write_bytes(stored)
    return name


RUNS = [(3 * PAGE, b"three" * 3000), (0, b"zero" * 1024), (40 * PAGE, bytes(PAGE) + b"x" * PAGE)]


@pytest.fixture(params=LAYOUTS)
def pair(request, tmp_path):
    name = tmp_path / "vm.ws"  # the recorder's names have a dot in them
    together = b"".join(data for _, data in RUNS)
    match request.param:
        case "scattered":
            streams = [deflated(data) for _, data in RUNS]
            entries = [(offset, len(data), len(stream)) for (offset, data), stream in zip(RUNS, streams, strict=True)]
            return put(name, entries, b"".join(streams))
        case "single":
            return put(name, [(offset, len(data), -1) for offset, data in RUNS], deflated(together))
        case _:
            return put(name, [(offset, len(data), -1) for offset, data in RUNS], together)


def test_reading(pair, request):
    found = SabrePair.read(pair)
    assert [(run.offset, bytes(run.data)) for run in found.runs()] == RUNS
    assert found.layout == request.node.callspec.params["pair"] and found.end == 42 * PAGE
    region = found.region(name="vm", address=1 << 32)
    expected = bytearray(42 * PAGE)
    for offset, data in RUNS:
        expected[offset:offset + len(data)] = data
    assert bytes(region.data) == bytes(expected) and (region.name, region.address) == ("vm", 1 << 32)
    assert len(found.region(64 * PAGE).data) == 64 * PAGE
    for size in (41 * PAGE, 42 * PAGE + 1):
        with pytest.raises(ValueError, match=f"at least {42 * PAGE}, not {size}"):
            found.region(size)


def test_into_a_snapshot_and_back(pair, tmp_path):
    region = SabrePair.read(pair).region()
    write(tmp_path / "a.rgs", [region])
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        for layout in LAYOUTS:
            export_snapshot(snapshot, tmp_path / "back", layout)
            again = SabrePair.read(tmp_path / "back")
            assert again.layout == layout
            assert bytes(again.region(len(region.data)).data) == bytes(region.data)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_exports(tmp_path, seed, layout):
    """Several regions have one base; runs are as long as they can be and leave zeros out."""
    dice = random.Random(f"{seed} {layout}")
    text = b"".join(anonymous()[:6])
    first, second = text[:4 * PAGE] + bytes(3 * PAGE) + text[:PAGE], memory(dice, 20)
    write(tmp_path / "a.rgs", [Region("b", 1 << 20, second), Region("a", 1 << 16, first)],
          working_set=[(1, 7), (0, 3)], mode=dice.choice(["canned", "raw"]))
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        size = export_snapshot(snapshot, tmp_path / "pair", layout)
    files = tmp_path / "pair.partitions", tmp_path / "pair.snapshot"
    assert size == sum(path.stat().st_size for path in files)
    found = SabrePair.read(tmp_path / "pair")
    assert [entry[:2] for entry in found.partitions][:2] == [(0, 4 * PAGE), (7 * PAGE, PAGE)]
    content = bytes(found.region((1 << 20) - (1 << 16) + len(second)).data)
    assert content[:len(first)] == first and content[(1 << 20) - (1 << 16):] == second
    for run in found.runs():
        assert all(any(run.data[place:place + PAGE]) for place in range(0, len(run.data), PAGE))
    # IAA reaches back 4096 bytes: zlib with a window of that size must do.
    stored, place = files[1].read_bytes(), 0
    streams = {"scattered": [(size, packed) for _, size, packed in found.partitions], "passthrough": [],
               "single": [(sum(size for _, size, _ in found.partitions), len(stored))]}
    for size, packed in streams[layout]:
        decoder = zlib.decompressobj(-12)
        pieces = [decoder.decompress(stored[place:place + packed], 100)]
        while not decoder.eof:
            pieces.append(decoder.decompress(decoder.unconsumed_tail, 100))
        assert len(b"".join(pieces)) == size
        place += packed


def test_nothing_to_export(tmp_path):
    write(tmp_path / "a.rgs", [Region("", 0, bytes(PAGE))])
    for layout in LAYOUTS:
        with Snapshot.open(tmp_path / "a.rgs") as snapshot:
            assert export_snapshot(snapshot, tmp_path / "pair", layout) == 8
        found = SabrePair.read(tmp_path / "pair")
        assert found.partitions == () and list(found.runs()) == [] and found.end == 0


GOOD = deflated(b"good" * 1024)


@pytest.mark.parametrize("entries, stored, field, rule", [
    ([(0, 0, -1)], b"", "partition 0: size", "1 to"),
    ([(0, 1 << 53, -1)], b"", "partition 0: size", "1 to"),
    ([((1 << 64) - 1, PAGE, -1)], bytes(PAGE), "partition 0: offset", "at most"),
    ([(0, PAGE, len(GOOD)), (PAGE, PAGE, -1)], GOOD, "partition 1: compressed size", "at least 1"),
    ([(0, PAGE, 0)], b"", "partition 0: compressed size", "at least 1"),
    ([(0, PAGE, -2)], b"", "partition 0: compressed size", "at least 1"),
    ([(0, PAGE, len(GOOD)), (PAGE - 1, PAGE, len(GOOD))], GOOD * 2, "partition 1: offset", "where partition 0 ends"),
    ([(0, PAGE, len(GOOD))], GOOD[:-1], "the file's size", f"{len(GOOD)}, the sum of its parts"),
    ([(0, PAGE, len(GOOD))], GOOD + b"x", "the file's size", f"{len(GOOD)}, the sum of its parts"),
    ([], b"x", "the file's size", "0, the sum of its parts"),
])
def test_sizes_and_places_that_cannot_be(tmp_path, entries, stored, field, rule):
    with pytest.raises(SnapshotError) as caught:
        SabrePair.read(put(tmp_path / "bad", entries, stored))
    assert caught.value.field == field and rule in caught.value.rule


@pytest.mark.parametrize("entries, stored, field, fault", [
    ([(0, PAGE, 5)], GOOD[:5], "partition 0", "cut short"),
    ([(0, PAGE, len(GOOD)), (PAGE, PAGE, 3)], GOOD + b"\xff\xff\xff", "partition 1", "invalid block type"),
    ([(0, PAGE - 1, len(GOOD))], GOOD, "partition 0", "more than 4095 bytes"),
    ([(0, PAGE + 1, len(GOOD))], GOOD, "partition 0", "holds 4096 bytes, not 4097"),
    ([(0, PAGE - 1, len(GOOD) + 1)], GOOD + b"x", "partition 0", "more than 4095"),
    ([(0, PAGE, len(GOOD) + 1)], GOOD + b"x", "partition 0", "1 bytes follow the stream"),
    ([(0, PAGE, -1), (PAGE, PAGE, -1)], GOOD, "the stream", "holds 4096 bytes, not 8192"),
    ([(0, 1 << 50, len(GOOD))], GOOD, "partition 0: size", f"{1 << 50}"),
    ([(0, 1 << 50, -1)], GOOD, "the stream: size", f"{1 << 50}"),
])
def test_damaged_streams(tmp_path, entries, stored, field, fault):
    found = SabrePair.read(put(tmp_path / "bad", entries, stored))
    with pytest.raises(SnapshotError) as caught:
        list(found.runs())
    assert caught.value.field == field and fault in str(caught.value)


def test_a_run_that_no_memory_has_room_for(tmp_path, monkeypatch):
    def full(*arguments):
        raise MemoryError

    pair = SabrePair.read(put(tmp_path / "far", [(0, PAGE, -1), (1 << 50, PAGE, -1)], bytes(2 * PAGE)))
    monkeypatch.setattr(sabre_files.np, "zeros", full)  # where memory is overcommitted it would be given
    with pytest.raises(SnapshotError, match=rf"partition 1: offset is {1 << 50}, must be lower: a region of "
                                            rf"{(1 << 50) + PAGE} bytes does not fit"):
        pair.region()


def test_an_export_that_fails_leaves_what_was_there(tmp_path):
    write(tmp_path / "m.rgs", [Region("m", 0, memory(random.Random(2), 20))], mode="raw", jobs=1)
    name = put(tmp_path / "m", [(0, PAGE, -1)], bytes(PAGE))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("m.[ps]*")}
    data = bytearray((tmp_path / "m.rgs").read_bytes())
    data[-PAGE - 1] ^= 1
    (tmp_path / "m.rgs").write_bytes(data)
    with Snapshot.open(tmp_path / "m.rgs") as snapshot, pytest.raises(SnapshotError, match="CRC-32"):
        export_snapshot(snapshot, name)
    with pytest.raises(SnapshotError, match="partition 1: offset"):
        export_runs([Run(0, bytes(PAGE)), Run(0, bytes(PAGE))], name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "m.rgs"} == before


def test_truncated_tables(tmp_path):
    for entries, count in (([(0, PAGE, -1)], 2), ([(0, PAGE, -1)], 0), ([], 1 << 63)):
        size = 8 + 24 * len(entries)
        with pytest.raises(SnapshotError, match=f"the file's size is {size}, .* for a count of {count}"):
            SabrePair.read(put(tmp_path / "bad", entries, b"", count))
    (tmp_path / "bad.partitions").write_bytes(b"\0\0\0")
    with pytest.raises(SnapshotError, match="the file's size is 3"):
        SabrePair.read(tmp_path / "bad")
    with pytest.raises(FileNotFoundError):
        SabrePair.read(tmp_path / "none")


def test_runs_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="layout must be one of scattered, single, passthrough, not 'both'"):
        export_runs([], tmp_path / "a", "both")
    for runs, fault in (([Run(0, b"")], "partition 0: size"), ([Run(0, b"ab"), Run(1, b"c")], "partition 1: offset")):
        with pytest.raises(ValueError, match=fault):
            export_runs(runs, tmp_path / "a")
