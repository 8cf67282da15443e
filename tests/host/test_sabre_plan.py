# SPDX-License-Identifier: Apache-2.0
"""The layout of a restore: every unit read, decompressed and installed once, in bounds, in the file's order."""

import random

import numpy as np
import pytest

from rackgate_host.sabre.format import ENTRY, PAGE, Kind
from rackgate_host.sabre.plan import Plan

STORED = (Kind.RAW, Kind.FIXED, Kind.DYNAMIC, Kind.CANNED)


def index_of(dice):
    """A random index that keeps the format's rules, its working set's size and the regions' sizes."""
    sizes, rows = [], []
    for region in range(dice.randrange(1, 4)):
        page = 0
        for _ in range(dice.randrange(1, 60)):
            pages = dice.choice([1, 1, 1, 2, 7, 300])
            rows.append([region, page, pages])
            page += pages
        sizes.append(page)
    dice.shuffle(rows)
    working = dice.randrange(len(rows) + 1)
    rows[working:] = sorted(rows[working:])
    index = np.zeros(len(rows), ENTRY.dtype)
    offset, earlier = 8192, {}
    for number, (region, page, pages) in enumerate(rows):
        kind = dice.choice(list(Kind))
        if kind is Kind.DUPLICATE and pages not in earlier:
            kind = Kind.RAW
        size = 0
        if kind in STORED:
            size = pages * PAGE if kind is Kind.RAW else dice.randrange(1, pages * PAGE)
            offset += dice.choice([0, 0, 0, 4096 - offset % 4096, 3 << 20])
            earlier.setdefault(pages, []).append(number)
        index[number] = (page, offset if size else 0, size, dice.getrandbits(32), pages, region, kind, 0, 0,
                         dice.choice(earlier[pages]) if kind is Kind.DUPLICATE else 0, 0)
        offset += size
    return index, working, sizes


@pytest.mark.parametrize("case", range(30))
def test_each_unit_is_read_in_one_batch_of_one_read(case, seed):
    dice = random.Random(f"{seed}/{case}")
    index, working, sizes = index_of(dice)
    run_bytes, read_bytes = dice.choice([PAGE, 16 * PAGE, 64 * PAGE]), dice.choice([PAGE, 1 << 16, 1 << 20])
    plan = Plan(index, working, sizes, run_bytes, read_bytes)
    units = plan.units
    assert units["partition"].tolist() == [n for n, entry in enumerate(index) if entry["kind"] in STORED]
    batches = [batch for read in plan.reads for batch in read.batches]
    assert [unit for low, high in batches for unit in range(low, high)] == list(range(len(units)))
    assert all(high > low for low, high in batches)
    cuts = {low for low, _ in batches} | {len(units)}
    assert plan.working_units in cuts
    for read in plan.reads:
        assert read.offset % 4096 == 0 and read.size % 4096 == 0 and read.needed <= read.size
        low, high = read.batches[0][0], read.batches[-1][1]
        starts = units["source"][low:high].astype(int)
        ends = starts + units["stored"][low:high]
        assert (starts >= read.offset).all() and (ends <= read.offset + read.needed).all()
        assert read.needed <= read_bytes + 4096 or len(read.batches) == 1
        assert not low < plan.working_units < high
    for low, high in batches:
        assert units["size"][low:high].sum() <= run_bytes or high - low == 1
    assert plan.largest_batch == max((int(units["size"][low:high].sum()) for low, high in batches), default=0)
    assert plan.largest_read == max((read.size for read in plan.reads), default=0)


@pytest.mark.parametrize("case", range(10))
def test_each_page_belongs_to_its_partition_and_its_unit(case, seed):
    dice = random.Random(f"{seed}/{case}/pages")
    index, working, sizes = index_of(dice)
    plan = Plan(index, working, sizes)
    reached = set()
    for number, entry in enumerate(index):
        first = plan.first[int(entry["region"])] + int(entry["first_page"])
        assert plan.extent(number) == (first, entry["pages"])
        for page in (first, first + int(entry["pages"]) - 1):
            assert plan.partition(page) == number
        unit = plan.unit(number)
        source = int(entry["duplicate_of"]) if entry["kind"] == Kind.DUPLICATE else number
        assert unit == -1 if entry["kind"] == Kind.ZERO else int(plan.units["partition"][unit]) == source
        if unit >= 0 and entry["kind"] == Kind.DUPLICATE:
            assert first in plan.duplicates[unit]
        elif unit >= 0:
            assert int(plan.unit_page[unit]) == first
            reached.add(unit)
    assert reached == set(range(len(plan.units)))
    zeros = [plan.extent(n) for n in range(working) if index["kind"][n] == Kind.ZERO]
    assert plan.working_zeros == zeros


def test_work_lies_in_the_arena_as_its_pages_in_memory(seed):
    dice = random.Random(seed)
    index, working, sizes = index_of(dice)
    plan = Plan(index, working, sizes)
    units = np.arange(len(plan.units))
    work = plan.work(units, plan.units["source"], 1 << 20)
    pages = plan.unit_page[work["unit"]]
    assert (np.diff(pages) > 0).all()
    assert int(work["target"][0]) == 1 << 20
    assert (np.diff(work["target"].astype(np.int64)) == work["size"][:-1]).all()
    assert {int(row["unit"]): int(row["source"]) for row in work} == dict(enumerate(plan.units["source"].tolist()))


def test_one_unit_alone_is_read_in_whole_blocks():
    index = np.zeros(1, ENTRY.dtype)
    index[0] = (0, 10_000, 300, 0, 1, 0, Kind.CANNED, 0, 0, 0, 0)
    assert Plan(index, 0, [1]).span(0) == (8192, 4096, 2108)
    index["offset"] = 12_200
    assert Plan(index, 0, [1]).span(0) == (8192, 8192, 4308)
