# SPDX-License-Identifier: Apache-2.0
"""Sabre's own library tests, one to one, on small buffers: the same patterns of partitions, the same ways to store and
to install them, mapped to ours.

Sabre's partition is a run of dirty pages; here the pages between the runs are zero and every page is in the snapshot.
Scattered with dynamic Huffman codes is a stream for each page, with static codes a canned table; single is one stream
for as much as a partition can hold, installed in runs; passthrough stores raw pages. "Compressible" data has 512-byte
blocks of zeros in it, "app owner" means that the caller brings the memory, "multi job" that several jobs are with the
engine at a time (one everywhere else), and huge memory is reserved only, with few pages in it.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from rackgate_host.errors import Unavailable
from rackgate_host.sabre import snapshot
from rackgate_host.sabre.format import MAX_PARTITION_PAGES, PAGE, Kind
from rackgate_host.sabre.owner import anonymous
from rackgate_host.sabre.restorer import restore
from rackgate_host.sabre.userfault import supported

PAGES = 128
HUGE_PAGES = 16384  # 64 MiB
OFFSET = 9


def random_runs(random, first):
    page = first
    while page < PAGES:
        length = int(random.integers(1, 21))
        yield page, min(length, PAGES - page)
        page += length + int(random.integers(0, 21))


def sparse(random, first):
    return ((page, int(random.integers(1, 4))) for page in range(first, PAGES - 4, 64))


def every_other_page(random, first):
    return ((page, 1) for page in range(first, PAGES, 2))


def whole(random, first):
    yield first, PAGES - first


SCATTERED_DYNAMIC = {"mode": "dynamic"}
SCATTERED_STATIC = {"mode": "canned"}
SINGLE = {"mode": "dynamic", "partition_pages": MAX_PARTITION_PAGES, "level": 1}
PASSTHROUGH = {"mode": "raw"}

LIBRARY = {
    "RandomPartitions_ScatteredDynamic": (random_runs, SCATTERED_DYNAMIC, {}),
    "RandomPartitions_ScatteredStatic": (random_runs, SCATTERED_STATIC, {}),
    "RandomPartitions_ScatteredStaticCompressible": (random_runs, SCATTERED_STATIC, {"compressible": True}),
    "RandomPartitions_ScatteredStaticCompressibleHugeMemory": (
        random_runs, SCATTERED_STATIC, {"compressible": True, "huge": True}),
    "RandomPartitions_SingleUffdiocopy": (random_runs, SINGLE, {}),
    "RandomPartitions_SingleUffdiocopyCompressibleHugeMemory": (
        random_runs, SINGLE, {"compressible": True, "huge": True}),
    "SparsePartitions_ScatteredDynamic": (sparse, SCATTERED_DYNAMIC, {}),
    "SparsePartitions_ScatteredStatic": (sparse, SCATTERED_STATIC, {}),
    "SparsePartitions_SingleUffdiocopy": (sparse, SINGLE, {}),
    "EveryOtherPage_ScatteredDynamic": (every_other_page, SCATTERED_DYNAMIC, {}),
    "EveryOtherPage_ScatteredStatic": (every_other_page, SCATTERED_STATIC, {}),
    "EveryOtherPage_SingleUffdiocopy": (every_other_page, SINGLE, {}),
    "EveryOtherPage_ScatteredDynamicNonZeroOffset": (every_other_page, SCATTERED_DYNAMIC, {"first": OFFSET}),
    "EveryOtherPage_ScatteredStaticNonZeroOffset": (every_other_page, SCATTERED_STATIC, {"first": OFFSET}),
    "EveryOtherPage_SingleUffdiocopyNonZeroOffset": (every_other_page, SINGLE, {"first": OFFSET}),
    "ScatteredStaticAppOwner": (random_runs, SCATTERED_STATIC, {"owner": True}),
    "SingleUffdiocopyAppOwner": (random_runs, SINGLE, {"owner": True}),
    "PassthroughStartingFromZeroPageOffset": (whole, PASSTHROUGH, {}),
    "PassthroughStartingFromNonZeroPageOffset": (whole, PASSTHROUGH, {"first": OFFSET}),
    "EveryOtherPage_ScatteredStaticMultiJob": (every_other_page, SCATTERED_STATIC, {"jobs": 4}),
    "EveryOtherPage_ScatteredStaticMultiJobNonZeroOffset": (
        every_other_page, SCATTERED_STATIC, {"jobs": 4, "first": OFFSET}),
}


def filled(seed, pattern, first=0, compressible=False, huge=False):
    """Memory with data in the pattern's pages, and their numbers."""
    random = np.random.default_rng(seed)
    memory = np.frombuffer(anonymous(HUGE_PAGES if huge else PAGES), np.uint8)
    present = []
    step = HUGE_PAGES // PAGES if huge else 1
    for page, length in pattern(random, first):
        start = page * step
        data = random.normal(128, 20, length * PAGE).astype(np.uint8)
        if compressible:
            data.reshape(-1, 2, 512)[:, 0] = 0
        memory[start * PAGE:(start + length) * PAGE] = data
        present += range(start, start + length)
    return memory, present


@pytest.mark.parametrize("name", LIBRARY)
def test_sabre_library(name, tmp_path, seed):
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))
    pattern, how, traits = LIBRARY[name]
    traits = dict(traits)
    owner, jobs = traits.pop("owner", False), traits.pop("jobs", 1)
    memory, present = filled(seed, pattern, **traits)
    path = tmp_path / "library.rgs"
    base = 0x7F0000000000
    summary = snapshot.write(path, [snapshot.Region("memory", base, memory)], jobs=1, **how)
    with snapshot.Snapshot.open(path) as opened:
        stored = {page for part in opened if part.kind is not Kind.ZERO
                  for page in range(part.first_page, part.first_page + part.pages)}
    assert set(present) <= stored
    if how is not SINGLE:
        assert stored == set(present), "pages without data take no room"
    if how is PASSTHROUGH:
        assert set(summary.kinds) <= {Kind.RAW, Kind.ZERO}
    buffers = None
    if owner:
        held = anonymous(len(memory) // PAGE + 8)
        held[:] = b"\xAA" * len(held)
        buffers = [memoryview(held)[4 * PAGE:4 * PAGE + len(memory)]]
    restored, report = restore(path, buffers, engine_options={"workers": 2 if jobs > 1 else 1}, depth=jobs,
                               run_pages=16 if jobs > 1 else 64)
    assert np.array_equal(np.frombuffer(restored[0], np.uint8), memory)
    assert report.bytes["regions"] == len(memory) and report.demand["faults"] == 0
    if owner:
        assert restored[0] is buffers[0]
        assert held[:4 * PAGE] == held[-4 * PAGE:] == b"\xAA" * 4 * PAGE, "what lies beside is not touched"


def test_there_are_as_many_as_sabre_has():
    assert len(LIBRARY) == 21


def test_the_manual_names_each():
    manual = Path(__file__).parents[2] / "docs" / "sabre" / "tests.md"
    assert re.findall(r"^\| `(\w+)` \|", manual.read_text(), re.M) == list(LIBRARY)
