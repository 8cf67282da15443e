# SPDX-License-Identifier: Apache-2.0
"""Thousands of damaged and hostile files: each ends in an error that says what is wrong, or in the right bytes, and in
nothing else. Those whose checksums were made right again are what a hostile writer would make; the restorer installs
them into memory with a userfaultfd as it does any file, and what it has installed is looked at afterwards."""

import random
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from sabre_files_made import Parts, changed
from sabre_samples import PAGE, as_array, memory

from rackgate_host.errors import Unavailable
from rackgate_host.sabre import software
from rackgate_host.sabre.channel import Channel
from rackgate_host.sabre.errors import SabreError, SnapshotError
from rackgate_host.sabre.format import ENTRY, HEADER, REGION, Kind
from rackgate_host.sabre.guest_memory import PRESENT, GuestMemory
from rackgate_host.sabre.owner import OwnedMemory
from rackgate_host.sabre.pipeline import RestoreSession
from rackgate_host.sabre.sabre_files import LAYOUTS, Run, SabrePair, export_runs
from rackgate_host.sabre.snapshot import Region, Snapshot, write
from rackgate_host.sabre.touches import Touches
from rackgate_host.sabre.userfault import Userfault, supported

EDGES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 40, 63, 64, 255, 256, 319, 320, 4095, 4096, 4097, 8192, 65535, 65536, 1 << 20,
         (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 52) - 1, 1 << 52, 1 << 63, (1 << 64) - 1]
MANY = pytest.mark.soak


class Made:
    """A good file, and its bytes by (region, page)."""

    def __init__(self, folder, seed, **options):
        dice = random.Random(seed)
        self.contents = [memory(dice, 37), memory(dice, 12)]
        self.path = folder / "good.rgs"
        regions = [Region("low", 0, as_array(self.contents[0])), Region("high", 1 << 33, as_array(self.contents[1]))]
        order = [(region, page) for region, size in ((0, 37), (1, 12)) for page in range(size)]
        write(self.path, regions, working_set=dice.sample(order, 15), jobs=1, seed=seed, **options)
        self.raw = self.path.read_bytes()
        parts = Parts(self.path)
        self.entries = {row.tobytes() for row in parts.index}

    def page(self, region, page):
        return self.contents[region][page * PAGE:(page + 1) * PAGE]


@pytest.fixture(scope="module", params=[{}, {"mode": "dynamic", "partition_pages": 3}, {"tables": 3, "window": 32768}],
                ids=["canned", "dynamic", "tables"])
def made(request, tmp_path_factory):
    return Made(tmp_path_factory.mktemp("fuzz"), request.config.getoption("--seed"), **request.param)


# Files that were damaged.


def flipped(dice, raw):
    data = bytearray(raw)
    for _ in range(dice.choice([1, 1, 1, 2, 8])):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data)


def shortened(dice, raw):
    return raw[:dice.choice([dice.randrange(len(raw)), dice.randrange(len(raw)) // PAGE * PAGE, 0, 8, PAGE])]


def lengthened(dice, raw):
    return raw + dice.choice([b"\0", bytes(PAGE), dice.randbytes(dice.randrange(1, 9000))])


def spliced(dice, raw):
    data = bytearray(raw)
    size = dice.choice([1, 4, 8, 40, 64, 320, PAGE])
    source, target = (dice.randrange(max(1, len(raw) - size)) for _ in range(2))
    data[target:target + size] = raw[source:source + size]
    return bytes(data)


def replaced(dice, raw):
    start = dice.randrange(len(raw))
    size = min(dice.choice([1, 2, 4, 8, 64, 5000]), len(raw) - start)
    filling = dice.choice([b"\0" * size, b"\xff" * size, dice.randbytes(size)])
    return raw[:start] + filling + raw[start + size:]


DAMAGES = [flipped, shortened, lengthened, spliced, replaced]


# Files that were forged: something else, and all checksums right.


def anything(dice, dtype):
    """A number for a field: an edge, or any."""
    limit = 1 << 8 * np.dtype(dtype).itemsize
    return dice.choice([edge for edge in EDGES if edge < limit] + [dice.randrange(limit)])


def some_field(dice, array, layout):
    names = [field.name for field in layout.fields if not field.type.startswith("S")]
    name = dice.choice(names)
    row = dice.randrange(len(array))
    old = int(array[name][row])
    value = dice.choice([anything(dice, array.dtype[name]), old + 1, old - 1, old ^ 1 << dice.randrange(16)])
    array[name][row] = value % (1 << 8 * array.dtype[name].itemsize)


def spoilt(dice, parts):
    """Flip a bit of the stored bytes of one of the partitions, if it is there still."""
    entry = parts.index[dice.randrange(len(parts.index))]
    place = int(entry["offset"]) - parts.header.data_offset + dice.randrange(max(int(entry["size"]), 1))
    if entry["size"] and 0 <= place < len(parts.data):
        parts.data[place] ^= 1 << dice.randrange(8)


def forged(dice, made, path):
    """A forged file at ``path``."""
    parts = Parts(made.path)
    for _ in range(dice.choice([1, 1, 2, 4])):
        match dice.randrange(8):
            case 0:
                field = dice.choice([field for field in HEADER.fields if not field.type.startswith("S")])
                parts.fields[field.name] = anything(dice, field.type)
            case 1:
                some_field(dice, parts.regions, REGION)
            case 2 | 3:
                some_field(dice, parts.index, ENTRY)
            case 4:
                first, second = dice.randrange(len(parts.index)), dice.randrange(len(parts.index))
                if dice.randrange(2):
                    parts.index[[first, second]] = parts.index[[second, first]]
                else:
                    parts.index[first] = parts.index[second]
            case 5 if parts.data:
                parts.data[:] = dice.choice(DAMAGES)(dice, bytes(parts.data))
                parts.data += bytes(-len(parts.data) % PAGE)
            case 6 if parts.tables:
                place = dice.randrange(len(parts.tables) // 320) * 320
                table = bytearray(parts.tables[place:place + 316])
                for _ in range(dice.choice([1, 2, 30])):
                    table[dice.randrange(316)] = dice.choice([0, 1, 7, 15, 16, 255, dice.randrange(16)])
                parts.tables[place:place + 320] = table + zlib.crc32(table).to_bytes(4, "little")
            case _:
                spoilt(dice, parts)
    fields, parts.fields = parts.fields, {}
    try:
        parts.write(path)
    except (OverflowError, struct.error, ValueError):  # the tool itself cannot write that
        path.write_bytes(made.raw)
    if fields:
        data = path.read_bytes()
        path.write_bytes(changed(data[:PAGE], **fields) + data[PAGE:])
    return path


def right(made, region, first, content, entry):
    """Whether these are the original's bytes, or those that the changed entry itself asks for."""
    whole = b"".join(made.page(region, page) for page in range(first, first + len(content) // PAGE)
                     if region < 2 and page * PAGE < len(made.contents[region]))
    return content == whole or entry.tobytes() not in made.entries and zlib.crc32(content) == entry["crc32"]


def look(made, path, dice):
    """Read everything in a file; the error's field, or "read"."""
    codec = software.choose(dice.choice(software.available()))
    try:
        with Snapshot.open(path) as snapshot:
            for part in snapshot:
                content = snapshot.content(part, codec)
                assert len(content) == part.pages * PAGE
                entry = snapshot.partitions[part.number]
                assert zlib.crc32(content) == entry["crc32"]
                assert right(made, part.region, part.first_page, content, entry), part
    except SnapshotError as error:
        assert str(error).startswith(f"{path}: ") and ", must be " in str(error), error
        return error.field.split(":")[0].rstrip("0123456789 ")
    return "read"


def read_many(made, tmp_path, dice, rounds):
    """What became of damaged and of forged files."""
    path = tmp_path / "bad.rgs"
    found = Counter()
    for _ in range(rounds):
        path.write_bytes(dice.choice(DAMAGES)(dice, made.raw))
        found["damaged", look(made, path, dice)] += 1
        found["forged", look(made, forged(dice, made, path), dice)] += 1
    return found


def test_readers_take_nothing_for_what_it_is_not(made, tmp_path, seed):
    found = read_many(made, tmp_path, random.Random(seed), 250)
    assert {"header", "region", "partition"} <= {field.partition(".")[0] for _, field in found}, found
    assert found["forged", "read"] < 250, "most forgeries do not go through"


@MANY
@pytest.mark.parametrize("round", range(4))
def test_readers_of_many_files(made, tmp_path, seed, round):
    read_many(made, tmp_path, random.Random(seed * 100 + round), 4000)


# Into memory.


def install(made, path, dice):
    """Restore a file into memory of our own; whether it went to its end. No page has bytes that are not the file's."""
    options = {"path": str(path), "policy": "eager", "prefetch": "all", "serial": dice.random() < 0.3,
               "depth": dice.choice([1, 4]), "run_pages": dice.choice([1, 8, 64]), "read_bytes": PAGE << 3,
               "throttle": None, "latency": 0.0, "direct": True, "cold": False, "timeout": 20.0,
               "engine": dice.choice(["paced", "software"] * 10 + ["device"]), "engine_options": {}}
    if options["engine"] == "software":
        options["engine_options"] = {"workers": 1, "codec": dice.choice(software.available())}
    elif options["engine"] == "device":
        options["engine_options"] = {"url": "model:iaa"}
    try:
        with Snapshot.open(path) as snapshot:
            sizes = [region.pages for region in snapshot.regions]
            index = snapshot.partitions.copy()
    except SnapshotError:
        return False
    owned = OwnedMemory.allocate(sizes)
    ours, theirs = Channel.pair()
    whole = False
    with Userfault.open() as userfault:
        owned.register(userfault)
        guest = GuestMemory(userfault, owned.regions)
        session = None
        try:
            session = RestoreSession(options, [])
            session.run(guest, ours)
            whole = True
        except SabreError as error:
            assert str(error)
        finally:
            if session is not None:
                session.close()
            guest.release()
    ours.close()
    theirs.close()
    for entry in index:
        region, first, pages = int(entry["region"]), int(entry["first_page"]), int(entry["pages"])
        state = guest.state[guest.first[region] + first:guest.first[region] + first + pages]
        assert not whole or state == bytes([PRESENT]) * pages or entry["kind"] == Kind.ZERO
        content = owned.arrays[region][first * PAGE:(first + pages) * PAGE].tobytes()
        if state == bytes([PRESENT]) * pages or entry["kind"] == Kind.ZERO:
            assert right(made, region, first, content, entry), (options, entry)
        else:
            assert content == bytes(len(content)), "nothing was installed, or all of a partition"
    return whole


@pytest.fixture
def permitted():
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))


def install_many(made, tmp_path, dice, rounds):
    path = tmp_path / "bad.rgs"
    path.write_bytes(made.raw)
    assert install(made, path, dice), "the good file goes in"
    ends = Counter(install(made, forged(dice, made, path), dice) for _ in range(rounds))
    for _ in range(rounds):
        parts = Parts(made.path)
        spoilt(dice, parts)  # everything else is refused before anything is restored
        ends[install(made, parts.write(path), dice)] += 1
    return ends


def test_wrong_bytes_never_reach_memory(permitted, made, tmp_path, seed):
    ends = install_many(made, tmp_path, random.Random(seed), 60)
    assert ends[False] > 40, "most were refused, or given up"


@MANY
@pytest.mark.parametrize("round", range(4))
def test_wrong_bytes_of_many_files_never_reach_memory(permitted, made, tmp_path, seed, round):
    install_many(made, tmp_path, random.Random(seed * 100 + round), 700)


# Other files that are read.


RUNS = [Run(3 * PAGE, b"three" * 3000), Run(0, b"zero" * 1024), Run(40 * PAGE, bytes(PAGE) + b"x" * PAGE)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sabres_own_files(tmp_path, seed, layout):
    """There are no checksums in them: whatever comes out fits what the table says, or there is an error."""
    dice = random.Random(seed)
    export_runs(RUNS, tmp_path / "good", layout)
    table, stored = ((tmp_path / f"good.{name}").read_bytes() for name in ("partitions", "snapshot"))
    ends = Counter()
    for _ in range(400):
        raw = bytearray(table)
        if dice.randrange(2):
            raw = bytearray(dice.choice(DAMAGES)(dice, table))
        else:
            value = dice.choice([edge for edge in EDGES if edge < 1 << 64] + [(1 << 64) - 1, 1 << 44, 1 << 51])
            struct.pack_into("<Q", raw, dice.randrange(len(raw) // 8) * 8, value)
        (tmp_path / "bad.partitions").write_bytes(raw)
        (tmp_path / "bad.snapshot").write_bytes(stored if dice.randrange(2) else dice.choice(DAMAGES)(dice, stored))
        try:
            pair = SabrePair.read(tmp_path / "bad")
            runs = list(pair.runs())
            assert [(run.offset, len(run.data)) for run in runs] == [entry[:2] for entry in pair.partitions]
            assert len(pair.region().pages) * PAGE >= pair.end  # zeros are not touched here: they cost nothing
            ends["read"] += 1
        except SnapshotError as error:
            assert str(tmp_path) in str(error)
            ends["refused"] += 1
    assert ends["read"] > 10 and ends["refused"] > 100, ends


def test_records_of_touches(tmp_path, seed):
    dice = random.Random(seed)
    path = tmp_path / "t.json"
    run = Touches(*(np.arange(12) for _ in range(3)))
    Touches.save(path, [run, run])
    good = path.read_bytes()
    for _ in range(500):
        path.write_bytes(dice.choice(DAMAGES)(dice, good))
        try:
            runs = Touches.load(path)
        except SabreError as error:
            assert str(error)
        else:
            assert all((one.pages >= 0).all() and len(one.pages) == len(one.times) for one in runs)
