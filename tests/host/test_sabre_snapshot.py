# SPDX-License-Identifier: Apache-2.0
import doctest
import os
import random
import stat
import threading
import zlib

import numpy as np
import pytest
from sabre_samples import PAGE, anonymous, as_array, memory, page

from rackgate_host.errors import UsageError
from rackgate_host.sabre import snapshot as snapshot_module
from rackgate_host.sabre import software
from rackgate_host.sabre.format import Kind
from rackgate_host.sabre.snapshot import Region, Snapshot, write

MODES = ["canned", "dynamic", "fixed", "raw"]


def kinds(snapshot):
    return [(partition.region, partition.first_page, partition.pages, partition.kind.name) for partition in snapshot]


def check(path, regions, options):
    """All that must hold of a file, whatever is in it."""
    with Snapshot.open(path) as snapshot:
        snapshot.verify()
        assert [(info.name, info.address, info.size) for info in snapshot.regions] == [
            (region.name, region.address, len(region.data)) for region in regions]
        for number, region in enumerate(regions):
            for name in software.available():
                assert snapshot.restore(number, software.choose(name)).tobytes() == bytes(region.data)
        pages = options["partition_pages"]
        touched = list(dict.fromkeys((region, touch // pages) for region, touch in options["working_set"]))
        assert [(int(entry["region"]), int(entry["first_page"]) // pages) for entry in snapshot.working_set] == touched
        assert len(snapshot) == len(list(snapshot)) and snapshot.header.window == options["window"]
        whole = b"".join(bytes(region.data) for region in regions)
        assert snapshot.size == len(whole)
        limit = {"raw": {Kind.RAW}, "fixed": {Kind.FIXED}, "dynamic": {Kind.DYNAMIC}, "canned": {Kind.CANNED}}
        for partition in snapshot:
            assert partition.kind in {Kind.ZERO, Kind.RAW, Kind.DUPLICATE} | limit[options["mode"]]
            start = partition.start
            content = bytes(regions[partition.region].data[start:start + partition.nbytes])
            assert zlib.crc32(content) == partition.crc32
            assert (partition.kind is Kind.ZERO) == (not any(content))
            assert partition.kind is not Kind.DUPLICATE or options["deduplicate"]
        extents = snapshot.data_extents()
        assert all(offset % PAGE == size % PAGE == 0 < size for offset, size in extents)
        assert [*extents] == sorted(extents) and len(extents) <= 2
        covered = {place for offset, size in extents for place in range(offset, offset + size, PAGE)}
        needed = {place for partition in snapshot if partition.size for place in
                  range(partition.offset // PAGE * PAGE, partition.offset + partition.size, PAGE)}
        assert covered == needed
        rest = [partition.offset for partition in snapshot if partition.size
                and partition.number >= snapshot.header.working_set_count]
        assert not rest or rest[0] % PAGE == 0
        return len(covered) * PAGE


@pytest.mark.parametrize("mode", MODES)
def test_round_trips(tmp_path, seed, mode):
    dice = random.Random(f"{seed} {mode}")
    path = tmp_path / "memory.rgs"
    for _ in range(6):
        address, regions = dice.randrange(1 << 30) * PAGE, []
        for number in range(dice.randrange(1, 4)):
            data = memory(dice, dice.randrange(1, 30))
            regions.append(Region(f"region {number}", address, as_array(data)))
            address += len(data) + dice.randrange(5) * PAGE
        touches = [(number, dice.randrange(len(regions[number].data) // PAGE))
                   for number in dice.choices(range(len(regions)), k=dice.randrange(12))]
        options = {"mode": mode, "partition_pages": dice.choice([1, 1, 2, 3, 16, 4096]), "working_set": touches,
                   "window": dice.choice([4096, 32768]), "deduplicate": dice.random() < 0.7}
        print(options)
        summary = write(path, regions, jobs=1, level=dice.randrange(1, 10), tables=dice.randrange(1, 4), **options)
        assert check(path, regions, options) <= summary.bytes_out == path.stat().st_size
        assert summary.bytes_in == sum(len(region.data) for region in regions)
        assert sum(count for count, _, _ in summary.kinds.values()) == summary.partitions
        with Snapshot.open(path) as snapshot:
            assert summary.tables == len(snapshot.tables) and summary.working_set == len(snapshot.working_set)


@pytest.mark.soak
@pytest.mark.parametrize("mode", MODES)
def test_many_round_trips(tmp_path, seed, mode):
    for number in range(60):
        test_round_trips(tmp_path, f"{seed}.{number}", mode)


def test_zeros_and_duplicates_take_no_room(tmp_path):
    noise = random.Random(1).randbytes(PAGE)
    data = bytes(5000 * PAGE) + noise + noise + bytes(PAGE) + noise
    summary = write(tmp_path / "a.rgs", [Region("ram", 0, data)], working_set=[(0, 5001), (0, 17), (0, 5001)],
                    mode="dynamic")
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        assert kinds(snapshot) == [
            (0, 5001, 1, "RAW"), (0, 17, 1, "ZERO"), (0, 0, 17, "ZERO"), (0, 18, 4096, "ZERO"), (0, 4114, 886, "ZERO"),
            (0, 5000, 1, "DUPLICATE"), (0, 5002, 1, "ZERO"), (0, 5003, 1, "DUPLICATE")]
        assert [snapshot.source(number).number for number in range(8)] == [0, 1, 2, 3, 4, 0, 6, 0]
        assert snapshot.partition(5).duplicate_of == 0 and snapshot.partition(0).duplicate_of is None
        assert snapshot.read(5) == noise == snapshot.content(7) and snapshot.read(1) == b""
        assert snapshot.content(4) == bytes(886 * PAGE)
        assert snapshot.data_extents() == [(snapshot.header.data_offset, PAGE)]
        assert snapshot.restore(0).tobytes() == data
    assert summary.kinds == {Kind.ZERO: (5, 5001, 0), Kind.RAW: (1, 1, PAGE), Kind.DUPLICATE: (2, 2, 0)}
    assert summary.bytes_out == 3 * PAGE and summary.stored_ratio == 1.0 and summary.ratio == 5004 / 3


def test_equal_checksums_are_not_equal_bytes(tmp_path, monkeypatch):
    """Whatever has the same CRC-32: only the same bytes are a duplicate."""
    monkeypatch.setattr("rackgate_host.sabre.writer.software.crc32", lambda data, start=0: 7)
    one, two = random.Random(1).randbytes(PAGE), random.Random(2).randbytes(PAGE)
    summary = write(tmp_path / "a.rgs", [Region("", 0, one + two + one)], jobs=1)
    assert summary.kinds == {Kind.RAW: (2, 2, 2 * PAGE), Kind.DUPLICATE: (1, 1, 0)}


def test_what_does_not_get_shorter_is_stored_raw(tmp_path):
    for mode in MODES:
        write(tmp_path / "a.rgs", [Region("", 0, random.Random(3).randbytes(4 * PAGE))], mode=mode, jobs=1)
        with Snapshot.open(tmp_path / "a.rgs") as snapshot:
            assert [partition.kind for partition in snapshot] == [Kind.RAW] * 4


def test_no_partitions(tmp_path):
    summary = write(tmp_path / "a.rgs", [])
    assert (summary.bytes_in, summary.bytes_out, summary.partitions, summary.kinds) == (0, PAGE, 0, {})
    assert summary.stored_ratio is None and summary.ratio == 0
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        snapshot.verify()
        assert len(snapshot) == 0 and snapshot.data_extents() == [] and snapshot.size == 0
        assert snapshot.regions == () and snapshot.tables == () and len(snapshot.working_set) == 0


def test_many_regions(tmp_path, seed):
    dice = random.Random(seed)
    regions = [Region(f"r{number}", (300 - number) << 30, page(dice)) for number in range(300)]
    write(tmp_path / "a.rgs", regions, working_set=[(number, 0) for number in range(299, -1, -7)], jobs=1)
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        assert [snapshot.restore(number).tobytes() for number in range(300)] == [region.data for region in regions]


def test_other_processes_make_the_same_file(tmp_path):
    data = b"".join(anonymous()[:100]) * 8
    for name, jobs in (("one", 1), ("two", 2)):
        write(tmp_path / name, [Region("", 0, data)], jobs=jobs, deduplicate=False, seed=5)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("mode, least", [("canned", 3.8), ("dynamic", 4.0), ("fixed", 3.6)])
def test_ratios_of_anonymous_pages(tmp_path, mode, least):
    summary = write(tmp_path / "a.rgs", [Region("", 0, b"".join(anonymous()))], mode=mode, jobs=1)
    print(f"{mode}: {summary.stored_ratio:.3f} stored, {summary.ratio:.3f} of the file")
    assert summary.stored_ratio > least
    big = write(tmp_path / "a.rgs", [Region("", 0, b"".join(anonymous()))], mode=mode, jobs=1, partition_pages=10)
    assert big.stored_ratio > summary.stored_ratio * 1.02


def test_libdeflate(tmp_path):
    pytest.importorskip("deflate")
    regions = [Region("", 0, b"".join(anonymous()[:50]))]
    options = {"mode": "dynamic", "compressor": "libdeflate", "jobs": 1}
    summary = write(tmp_path / "a.rgs", regions, **options)
    assert summary.kinds[Kind.DYNAMIC][0] > 40
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        snapshot.verify()
        assert snapshot.restore(0).tobytes() == regions[0].data
    with pytest.raises(UsageError, match="mode dynamic, not canned"):
        write(tmp_path / "a.rgs", regions, compressor="libdeflate")
    with pytest.raises(UsageError, match="partitions up to the window of 4096 bytes, not 8192"):
        write(tmp_path / "a.rgs", regions, partition_pages=2, **options)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UsageError, match="must be installed"):
        patch.setattr(software, "available", lambda: ("zlib",))
        write(tmp_path / "a.rgs", regions, **options)


@pytest.mark.parametrize("options, fault", [
    ({"mode": "lz4"}, "mode must be one of canned, dynamic, fixed, raw, not 'lz4'"),
    ({"partition_pages": 0}, "partition_pages must be 1 to 4096, not 0"),
    ({"partition_pages": 4097}, "partition_pages must be 1 to 4096, not 4097"),
    ({"window": 8192}, "window must be 4096 or 32768, not 8192"),
    ({"level": 0}, "level must be 1 to 9, not 0"),
    ({"tables": 257}, "tables must be 1 to 256, not 257"),
    ({"jobs": 0}, "jobs must be at least 1, not 0"),
    ({"compressor": "zstd"}, "compressor must be zlib or libdeflate, not 'zstd'"),
    ({"working_set": [(1, 0)]}, "region must be below 1, not 1"),
    ({"working_set": [(0, 2)]}, "page of region 0 must be below 2, not 2"),
    ({"working_set": [(0, -1)]}, "page of region 0 must be below 2, not -1"),
])
def test_options_that_make_no_sense(tmp_path, options, fault):
    with pytest.raises(ValueError, match=fault):
        write(tmp_path / "a.rgs", [Region("", 0, bytes(2 * PAGE))], **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("regions, error, fault", [
    ([Region("", 0, b"")], ValueError, "region 0: data must be at least one and only whole pages .*, not 0 bytes"),
    ([Region("", 0, bytes(5000))], ValueError, "whole pages of 4096 bytes, not 5000 bytes"),
    ([Region("", 5, bytes(PAGE))], ValueError, "address must be a multiple of 4096"),
    ([Region("", -PAGE, bytes(PAGE))], ValueError, "address must be a multiple of 4096"),
    ([Region("", (1 << 64) - PAGE, bytes(2 * PAGE))], ValueError, "end below 2"),
    ([Region("a\n", 0, bytes(PAGE))], ValueError, "name must be printable"),
    ([Region("ä" * 25, 0, bytes(PAGE))], ValueError, "at most 48 bytes"),
    ([Region("a", PAGE, bytes(PAGE)), Region("b", 0, bytes(2 * PAGE))], ValueError, "must not overlap at 0x1000"),
    ([Region("", 0, np.zeros(PAGE, np.int8))], TypeError, "row of uint8, not int8 of shape"),
    ([Region("", 0, np.zeros(2 * PAGE, np.uint8)[::2])], TypeError, "contiguous"),
    ([Region("", 0, np.zeros((2, PAGE), np.uint8))], TypeError, "shape"),
    ([Region("", PAGE * n, b"") for n in range(65537)], ValueError, "at most 65536, not 65537"),
])
def test_regions_that_make_no_sense(tmp_path, regions, error, fault):
    with pytest.raises(error, match=fault):
        write(tmp_path / "a.rgs", regions)
    assert not list(tmp_path.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.rgs"
    old = os.umask(0o027)
    try:
        write(path, [Region("", 0, b"a" * PAGE)])
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    before = path.read_bytes()
    monkeypatch.setattr("rackgate_host.sabre.writer.pack", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(path, [Region("", 0, b"b" * PAGE)])
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_progress_counts_every_byte_once(tmp_path, seed):
    data = memory(random.Random(seed), 60)
    steps = []
    write(tmp_path / "a.rgs", [Region("", 0, data)], partition_pages=3, progress=steps.append)
    assert sum(steps) == len(data)
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        steps.clear()
        snapshot.verify(steps.append)
        assert sum(steps) == snapshot.header.file_size - snapshot.header.data_offset + snapshot.size


def test_memory_views_and_maps(tmp_path):
    data = b"".join(anonymous()[:4])
    (tmp_path / "image").write_bytes(data)
    for number, source in enumerate((data, bytearray(data), memoryview(data), as_array(data),
                                     np.memmap(tmp_path / "image", np.uint8, mode="r"))):
        write(tmp_path / str(number), [Region("", 0, source)], jobs=1)
    assert len({(tmp_path / str(number)).read_bytes() for number in range(5)}) == 1


def test_partitions_by_number(tmp_path):
    write(tmp_path / "a.rgs", [Region("", 0, b"".join(anonymous()[:4]))], jobs=1)
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        assert snapshot.partition(-1).number == 3 and snapshot.partition(-1) == snapshot.partition(3)
        with pytest.raises(IndexError):
            snapshot.partition(4)
        with pytest.raises(ValueError, match="read-only"):
            snapshot.partitions["size"][0] = 1
        with pytest.raises(ValueError, match="partition 1: stored bytes is 3 long, must be"):
            snapshot.decompress(1, b"abc")
    snapshot.close()
    with pytest.raises(ValueError, match="a.rgs is closed"):
        snapshot.read(0)


def test_threads_share_a_snapshot(tmp_path):
    data = b"".join(anonymous()[:64])
    write(tmp_path / "a.rgs", [Region("", 0, data)], jobs=1, tables=3)
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        for name in software.available():
            library, wrong = software.choose(name), []

            def work(library=library, wrong=wrong):
                for partition in snapshot:
                    content = snapshot.content(partition, library)
                    if content != data[partition.start:partition.start + PAGE]:
                        wrong.append(partition.number)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert wrong == []


def test_the_example_of_the_module_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(snapshot_module) == (0, 5)  # failed, tried
