# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a snapshot file is named, and no wrong byte comes out of it."""

import random
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
from sabre_files_made import Parts, changed, sealed
from sabre_samples import PAGE, as_array

from rackgate_host.errors import RackgateError
from rackgate_host.sabre import format as layout
from rackgate_host.sabre.errors import SabreError, SnapshotError
from rackgate_host.sabre.format import ENTRY, HEADER, Kind
from rackgate_host.sabre.snapshot import Region, Snapshot, write

MANUAL = Path(__file__).parents[2] / "docs" / "sabre" / "format.md"


def text(number):
    return b"".join(b"%d, %d;" % (number * 37, number ^ n) for n in range(600))[:PAGE]


def contents():
    """Two regions of 10 and 7 pages. By twos, the working set in front: 0 CANNED, 1 ZERO, 2 CANNED, 3 DUPLICATE of 2,
    4 RAW, 5 CANNED, 6 CANNED, and 7 ZERO of three pages."""
    noise = random.Random(5).randbytes(2 * PAGE)
    first = text(1) + text(2) + text(1) + text(2) + noise + text(3) + bytes(PAGE) + bytes(2 * PAGE)
    return first, text(9) + text(9) + text(4) + text(5) + bytes(3 * PAGE)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("format") / "good.rgs"
    first, second = contents()
    write(path, [Region("first", 0, as_array(first)), Region("second", 1 << 40, as_array(second))], partition_pages=2,
          working_set=[(1, 2), (0, 9)], jobs=1)
    return path


@pytest.fixture
def parts(original):
    return Parts(original)


def opened(path):
    """The memory of all regions, all checked."""
    with Snapshot.open(path) as snapshot:
        snapshot.verify()
        return [snapshot.restore(number).tobytes() for number in range(len(snapshot.regions))]


def refused(path, field, *values):
    """The error of opening ``path``; it must name these."""
    with pytest.raises(SnapshotError) as caught:
        Snapshot.open(path)
    error = caught.value
    assert error.field == field and error.path == str(path)
    message = str(error)
    assert message.startswith(f"{path}: {field} is ") and ", must be " in message
    for value in values:
        assert str(value) in message, message
    return error


def test_the_file_has_all_kinds(original, parts):
    assert opened(original) == list(contents())
    assert [Kind(kind).name for kind in parts.index["kind"]] == [
        "CANNED", "ZERO", "CANNED", "DUPLICATE", "RAW", "CANNED", "CANNED", "ZERO"]
    assert opened(parts.write(original.with_name("again.rgs"))) == list(contents())


def test_the_layout_is_packed_and_aligned():
    assert [part.size for part in (layout.HEADER, layout.REGION, layout.ENTRY)] == [4096, 64, 40]
    for part in (layout.HEADER, layout.REGION, layout.ENTRY):
        for field, offset in zip(part.fields, part.offsets, strict=True):
            assert part.dtype.fields[field.name][1] == offset
            if not field.type.startswith("S"):
                assert offset % np.dtype(field.type).itemsize == 0, field.name
    with pytest.raises(ValueError, match="few: the fields take 9 bytes, more than 8"):
        layout.Layout("few", 8, [layout.Field("a", "<u8", ""), layout.Field("b", "u1", "")])


def test_the_error_is_one_of_the_packages():
    error = SnapshotError("a.rgs", "header.version", 2, "1")
    assert isinstance(error, SabreError) and isinstance(error, RackgateError) and isinstance(error, ValueError)
    assert error.exit_code == 1
    assert error.__reduce__()[1] == ("a.rgs", "header.version", 2, "1")


@pytest.mark.parametrize("field, value, named", [
    ("version", 2, "header.version"),
    ("version", 0, "header.version"),
    ("reserved", 1, "header.reserved"),
    ("page_size", 16384, "header.page_size"),
    ("window", 4095, "header.window"),
    ("window", 0, "header.window"),
    ("flags", 1 << 31, "header.flags"),
    ("region_count", 65537, "header.region_count"),
    ("table_count", 65537, "header.table_count"),
    ("region_count", 3, "header.tables_offset"),
    ("table_count", 0, "header.index_offset"),
    ("partition_count", 1 << 31, "header.data_offset"),
    ("working_set_count", 9, "header.working_set_count"),
    ("regions_offset", 8192, "header.regions_offset"),
    ("tables_offset", 1 << 63, "header.tables_offset"),
    ("index_offset", 0, "header.index_offset"),
    ("data_offset", 4096, "header.data_offset"),
    ("file_size", 1, "header.file_size"),
    ("file_size", 4096, "header.file_size"),
])
def test_header_fields(parts, tmp_path, field, value, named):
    parts.fields[field] = value
    error = refused(parts.write(tmp_path / "bad.rgs"), named)
    if named == f"header.{field}":
        assert str(error.value) == str(value)


@pytest.mark.parametrize("section", ["regions", "tables", "index"])
def test_checksums_of_sections(original, parts, tmp_path, section):
    parts.fields[f"{section}_crc32"] = 7
    refused(parts.write(tmp_path / "bad.rgs"), f"header.{section}_crc32", "0x00000007")
    data = bytearray(original.read_bytes())
    data[getattr(parts.header, f"{section}_offset") + 5] ^= 64
    (tmp_path / "bad.rgs").write_bytes(data)
    refused(tmp_path / "bad.rgs", f"header.{section}_crc32")


def test_every_header_field_is_checked(original, tmp_path):
    """Whatever bit of a field is flipped: without its checksum and with it."""
    data = original.read_bytes()
    for field, offset in zip(HEADER.fields, HEADER.offsets, strict=True):
        size = np.dtype(field.type).itemsize
        for bit in (0, size * 8 - 1):
            page = bytearray(data[:PAGE])
            page[offset + bit // 8] ^= 1 << bit % 8
            for header in (bytes(page), sealed(bytes(page))):
                (tmp_path / "bad.rgs").write_bytes(header + data[PAGE:])
                right = header != bytes(page)  # with its checksum
                if field.name == "working_set_count" and bit == 0 and right:
                    assert opened(tmp_path / "bad.rgs") == list(contents())  # one partition more: as good a file
                    continue
                with pytest.raises(SnapshotError, match=r"header\.|the file's size"):
                    opened(tmp_path / "bad.rgs")


def test_other_files(tmp_path):
    path = tmp_path / "bad.rgs"
    path.write_bytes(b"")
    refused(path, "header.magic", "missing")
    path.write_bytes(b"\x7fELF" + bytes(5000))
    refused(path, "header.magic", "7f 45 4c 46", "a Rackgate snapshot")
    path.write_bytes(layout.MAGIC + bytes(100))
    refused(path, "the file's size", 108)
    with pytest.raises(FileNotFoundError):
        Snapshot.open(tmp_path / "none.rgs")
    with pytest.raises(IsADirectoryError):
        Snapshot.open(tmp_path)


def test_header_behind_the_fields(parts, tmp_path, original):
    page = bytearray(original.read_bytes()[:PAGE])
    page[3000] = 1
    (tmp_path / "bad.rgs").write_bytes(sealed(bytes(page)) + original.read_bytes()[PAGE:])
    assert "bytes" in refused(tmp_path / "bad.rgs", "header bytes 96 to 4091").field
    data = bytearray(original.read_bytes())
    data[parts.header.index_end] = 1
    (tmp_path / "bad.rgs").write_bytes(data)
    refused(tmp_path / "bad.rgs", f"bytes {parts.header.index_end} to {parts.header.data_offset - 1}")


def test_truncated_and_longer_files(original, parts, tmp_path, seed):
    data = original.read_bytes()
    dice = random.Random(seed)
    cuts = {0, 1, 7, 8, 4095, 4096, 4097, parts.header.index_offset + 1, parts.header.data_offset, len(data) - 1,
            *(dice.randrange(len(data)) for _ in range(30))}
    for cut in sorted(cuts):
        (tmp_path / "cut.rgs").write_bytes(data[:cut])
        with pytest.raises(SnapshotError, match=r"the file's size|header\.magic"):
            Snapshot.open(tmp_path / "cut.rgs")
    (tmp_path / "cut.rgs").write_bytes(data + b"\0")
    refused(tmp_path / "cut.rgs", "the file's size", "something was appended")


def test_a_file_that_gets_shorter_while_open(original, tmp_path):
    path = tmp_path / "shrinks.rgs"
    shutil.copy(original, path)
    with Snapshot.open(path) as snapshot:
        with open(path, "r+b") as file:
            file.truncate(snapshot.header.data_offset + 10)
        with pytest.raises(SnapshotError, match="the file has become shorter"):
            snapshot.content(4)
        with pytest.raises(SnapshotError, match="the file has become shorter"):
            snapshot.verify_file()


@pytest.mark.parametrize("field, value, rule", [
    ("address", 100, "a multiple of 4096"),
    ("pages", 0, "1 to 1099511627776"),
    ("pages", 1 << 41, "1 to 1099511627776"),
    ("name", b"\xff\xfe", "UTF-8"),
    ("name", b"\x1b[2J", "printable"),
    ("name", b"a\0b", "printable"),
    ("address", 0, "at least 0xa000, where region 0 ends"),
])
def test_regions(parts, tmp_path, field, value, rule):
    parts.regions[field][1] = value
    refused(parts.write(tmp_path / "bad.rgs"), f"region 1: {field}", rule)


def test_a_region_beyond_the_address_space(parts, tmp_path):
    parts.regions["address"][1] = (1 << 64) - PAGE
    refused(parts.write(tmp_path / "bad.rgs"), "region 1: pages", "at most 1 above 0xfffffffffffff000")


def test_tables(parts, tmp_path):
    parts.tables[10] ^= 1
    refused(parts.write(tmp_path / "bad.rgs"), "table 0", "crc32")
    parts.tables[316:320] = zlib.crc32(parts.tables[:316]).to_bytes(4, "little")
    refused(parts.write(tmp_path / "bad.rgs"), "table 0", "complete code")
    parts.tables[:] = b""
    refused(parts.write(tmp_path / "bad.rgs"), "partition 0: table", "below the 0 of header.table_count")


@pytest.mark.parametrize("number, field, value, named, rule", [
    (0, "kind", 6, "kind", "0 to 5"),
    (0, "kind", 255, "kind", "0 to 5"),
    (4, "reserved", 1, "reserved", "0"),
    (4, "reserved2", 9, "reserved2", "0"),
    (4, "region", 2, "region", "below the 2 of header.region_count"),
    (4, "region", 65535, "region", "below the 2 of header.region_count"),
    (4, "pages", 0, "pages", "1 to 4096"),
    (4, "pages", 4097, "pages", "1 to 4096"),
    (7, "pages", 7, "first_page", "at most 0, for 7 pages to end in region 1"),
    (4, "first_page", 1 << 63, "first_page", "below 1099511627776"),
    (7, "first_page", 6, "first_page", "at most 4, for 3 pages to end in region 1"),
    (4, "pages", 1, "first_page", "5, the page behind partition 4: partitions must not leave a gap"),
    (4, "pages", 3, "first_page", "7, the page behind partition 4: partitions must not overlap"),
    (2, "first_page", 1, "first_page", "0, the region's first page: partitions must not leave a gap"),
    (4, "size", 2 * PAGE - 1, "size", "8192, as a RAW partition of 2 pages"),
    (0, "size", 0, "size", "1 to 8191"),
    (0, "size", 2 * PAGE, "size", "1 to 8191"),
    (0, "size", (1 << 32) - 1, "size", "1 to 8191"),
    (1, "size", 5, "size", "0, as ZERO stores no bytes"),
    (1, "offset", 8192, "offset", "0, as ZERO stores no bytes"),
    (3, "size", 5, "size", "0, as DUPLICATE stores no bytes"),
    (0, "offset", 0, "offset", "at least header.data_offset"),
    (0, "offset", (1 << 64) - 1, "offset", "at most header.file_size"),
    (6, "offset", "end", "offset", "to end in the file"),
    (2, "offset", "data", "offset", "where the stored bytes before it end"),
    (4, "offset", "overlap", "offset", "where the stored bytes before it end"),
    (0, "table", 1, "table", "below the 1 of header.table_count"),
    (4, "table", 1, "table", "0, as RAW uses no canned table"),
    (0, "duplicate_of", 1, "duplicate_of", "0, as CANNED stands for itself"),
    (3, "duplicate_of", 3, "duplicate_of", "the number of an earlier partition"),
    (3, "duplicate_of", (1 << 32) - 1, "duplicate_of", "the number of an earlier partition"),
    (3, "duplicate_of", 1, "duplicate_of", "the number of a partition with stored bytes"),
    (3, "duplicate_of", 0, "duplicate_of", "the number of a partition with crc32"),
    (1, "crc32", 5, "crc32", "that of 2 pages of zeros"),
])
def test_index(parts, tmp_path, number, field, value, named, rule):
    overlap = int(parts.index["offset"][2] + parts.index["size"][2]) - 1
    value = {"end": parts.header.file_size, "data": parts.header.data_offset, "overlap": overlap}.get(value, value)
    parts.index[field][number] = value
    with pytest.raises(SnapshotError) as caught:
        Snapshot.open(parts.write(tmp_path / "bad.rgs"))
    assert re.fullmatch(rf"partition \d+: {named}", caught.value.field)
    assert rule in caught.value.rule
    if field == named:
        assert (caught.value.field, caught.value.value) == (f"partition {number}: {field}", value)


def test_duplicates_of_other_sizes(parts, tmp_path):
    """Pages 4 to 7 of region 0 cut otherwise, so that the duplicate has a page where its source has three."""
    parts.index["crc32"][3] = parts.index["crc32"][2]
    parts.index["pages"][2:4] = 3, 1
    parts.index["first_page"][3] = 3
    refused(parts.write(tmp_path / "bad.rgs"), "partition 3: duplicate_of", "a partition of 1 pages")


def test_order_and_cover(parts, tmp_path):
    good = parts.index.copy()
    parts.index[[4, 5]] = good[[5, 4]]
    refused(parts.write(tmp_path / "bad.rgs"), "partition 5: first_page", "behind that of partition 4")
    parts.index = good[:-1]
    refused(parts.write(tmp_path / "bad.rgs"), "region 1: pages", "4, as many as there are in its partitions")
    parts.index = good[:0]
    refused(parts.write(tmp_path / "bad.rgs"), "header.working_set_count")
    parts.fields["working_set_count"] = 0
    refused(parts.write(tmp_path / "bad.rgs"), "region 0: pages", "0, as many as there are in its partitions")


def test_wrong_data_never_comes_out(parts, tmp_path, seed):
    """Every stored byte wrong in turn, with the file's own checksum made right."""
    dice = random.Random(seed)
    good = dict(enumerate(contents()))
    for number in np.flatnonzero(parts.index["size"] > 0).tolist():
        entry = parts.index[number]
        begin, size = int(entry["offset"]) - parts.header.data_offset, int(entry["size"])
        for place in {0, size - 1, *(dice.randrange(size) for _ in range(12))}:
            bit = 1 << dice.randrange(8)
            parts.data[begin + place] ^= bit
            path = parts.write(tmp_path / "bad.rgs")
            with Snapshot.open(path) as snapshot:
                region, start = int(entry["region"]), int(entry["first_page"]) * PAGE
                try:
                    content = snapshot.content(number)
                except SnapshotError as error:
                    assert f"partition {number}: " in str(error)
                else:  # a bit that is only padding behind the end-of-block code
                    assert content == good[region][start:start + len(content)]
                    assert place == size - 1
            parts.data[begin + place] ^= bit


def test_random_damage_is_always_seen(original, tmp_path, seed):
    """A bit of the file flipped: nothing but the right bytes or an error that says where."""
    dice = random.Random(seed)
    data = bytearray(original.read_bytes())
    path = tmp_path / "bad.rgs"
    for _ in range(150):
        place, bit = dice.randrange(len(data)), 1 << dice.randrange(8)
        data[place] ^= bit
        path.write_bytes(data)
        with pytest.raises(SnapshotError):
            opened(path)
        data[place] ^= bit


def test_hostile_index_bytes(parts, tmp_path, seed):
    """A byte of the index is anything, all checksums right: an error, or the right bytes."""
    dice = random.Random(seed)
    good = parts.index.tobytes()
    seen = 0
    for _ in range(300):
        raw = bytearray(good)
        raw[dice.randrange(len(raw))] = dice.choice([0, 1, 2, 3, 127, 128, 255, dice.randrange(256)])
        parts.index = np.frombuffer(bytes(raw), ENTRY.dtype)
        try:
            assert opened(parts.write(tmp_path / "bad.rgs")) == list(contents())
        except SnapshotError:
            seen += 1
    assert seen > 200


def test_streams_of_other_sizes(parts, tmp_path):
    """A stream that is right in itself, but too short, too long, or followed by something."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    number = 4  # RAW, two pages: room for any stream
    begin = int(parts.index["offset"][number]) - parts.header.data_offset
    for content, extra, fault in ((bytes(2 * PAGE - 1), b"", "holds 8191 bytes, not 8192"),
                                  (bytes(2 * PAGE + 1), b"", "more than 8192 bytes"),
                                  (bytes(1 << 22), b"", "more than 8192 bytes"),
                                  (bytes(2 * PAGE), b"more", "4 bytes follow the stream"),
                                  (bytes(2 * PAGE), b"", "CRC-32 of the restored bytes")):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        stream = packer.compress(content) + packer.flush() + extra
        parts.data[begin:begin + len(stream)] = stream
        parts.index["kind"][number], parts.index["size"][number] = Kind.DYNAMIC, len(stream)
        with Snapshot.open(parts.write(tmp_path / "bad.rgs")) as snapshot, pytest.raises(SnapshotError, match=fault):
            snapshot.verify()


def test_offsets_beyond_4_gib(parts, tmp_path):
    """A sparse file, and pages beyond 2^32 bytes of a region."""
    far = 5 << 30
    path = tmp_path / "far.rgs"
    parts.regions["pages"][1] += 512 * 4096
    zeros = np.zeros(512, ENTRY.dtype)
    zeros["first_page"] = 7 + np.arange(512) * 4096
    zeros["pages"], zeros["region"] = 4096, 1
    zeros["crc32"] = zlib.crc32(bytes(4096 * PAGE))
    last, entries = 6, parts.index
    stored = bytes(parts.data[int(entries["offset"][last]) - parts.header.data_offset:][:int(entries["size"][last])])
    parts.index = np.concatenate([entries, zeros])
    parts.write(path)
    moved = int(np.frombuffer(path.read_bytes()[:PAGE], HEADER.dtype)["data_offset"][0])
    parts.index["offset"][parts.index["size"] > 0] += np.uint64(moved - parts.header.data_offset)
    parts.index["offset"][last] = far
    parts.write(path)
    with open(path, "r+b") as file:
        page = file.read(PAGE)
        file.seek(0)
        file.write(changed(page, file_size=far + PAGE))
        file.seek(far)
        file.write(stored)
        file.truncate(far + PAGE)
    with Snapshot.open(path) as snapshot:
        assert snapshot.partition(last).offset == far
        assert snapshot.content(last) == contents()[1][:2 * PAGE]
        assert snapshot.data_extents()[-1] == (snapshot.header.data_offset + PAGE, far - snapshot.header.data_offset)
        assert snapshot.partition(len(snapshot) - 1).start == (7 + 511 * 4096) * PAGE > 1 << 32


def test_extents_that_meet_in_a_page(parts, tmp_path):
    """Another writer need not begin the rest at a page: no byte is read twice for that."""
    parts.fields["working_set_count"] = 3
    with Snapshot.open(parts.write(tmp_path / "a.rgs")) as snapshot:
        assert snapshot.partition(4).offset % PAGE
        first, second = snapshot.data_extents()
        assert first[0] == snapshot.header.data_offset and sum(first) == second[0]
        assert sum(second) == snapshot.header.file_size


def test_the_manuals_reader_reads_what_we_write(original, tmp_path):
    """The page in the manual is complete: its reader knows nothing else."""
    reader, = re.findall(r"^```python\n(.*?)^```$", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    names = {}
    exec(reader, names)
    first, second = contents()
    assert names["read_snapshot"](original) == {("first", 0): first, ("second", 1 << 40): second}
    for mode in ("dynamic", "fixed", "raw"):
        write(tmp_path / mode, [Region("", 4096, as_array(first))], mode=mode, jobs=1)
        assert names["read_snapshot"](tmp_path / mode) == {("", 4096): first}


def test_the_manual_lists_every_field():
    """Its tables come from the same definitions; what it says in words is held here."""
    manual = MANUAL.read_text()
    for table in ("sabre-header", "sabre-region", "sabre-partition", "sabre-kinds"):
        assert f"<!-- table: {table} -->" in manual
    for words in (f"An entry has {layout.REGION.size} bytes", f"An entry of the index has {layout.ENTRY.size} bytes",
                  f"A table has {layout.TABLE_SIZE} bytes"):
        assert words in manual
