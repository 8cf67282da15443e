# SPDX-License-Identifier: Apache-2.0
"""Snapshots restored through userfaultfd by the accelerator."""

import random

import pytest
from sabre_samples import as_array, code, memory

from rackgate_host.errors import Unavailable, UsageError
from rackgate_host.sabre import snapshot
from rackgate_host.sabre.errors import SabreError
from rackgate_host.sabre.format import Kind
from rackgate_host.sabre.restorer import restore
from rackgate_host.sabre.snapshot import Region, Snapshot
from rackgate_host.sabre.userfault import supported

DEVICES = {
    "model": "model:iaa?memory=32M",
    "sim": "sim:iaa?contexts=2&window=4096&lanes=8&memory=32M",  # as the tests of the gateware build it
}


@pytest.fixture(autouse=True)
def permitted():
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))


def make(path, seed, mode="canned", pages=20, **options):
    """A snapshot of pages of all sorts, and its bytes."""
    content = memory(random.Random(seed), pages) + b"".join(code()[:8])
    snapshot.write(path, [Region("ram", 0x10000, as_array(content))], mode=mode, jobs=1, **options)
    return content


WORLDS = ["model", pytest.param("sim", marks=[pytest.mark.cosim, pytest.mark.xdist_group("iaa")])]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("options", [{"mode": "canned", "tables": 2}, {"mode": "dynamic", "partition_pages": 3},
                                     {"mode": "fixed"}], ids=lambda options: options["mode"])
def test_restore(tmp_path, seed, world, options):
    content = make(tmp_path / "s", seed, **options)
    (buffer,), report = restore(tmp_path / "s", engine="device",
                                engine_options={"url": DEVICES[world], "clock": 100.0})
    assert bytes(buffer) == content
    assert report.cycles > 0 and report.seconds["decompress"] > 0


@pytest.mark.parametrize("world", WORLDS)
def test_damaged_partition_is_not_installed(tmp_path, seed, world):
    """Stored bytes that decode to something else, or to nothing: the restore ends with an error that names them."""
    make(tmp_path / "s", seed)
    with Snapshot.open(tmp_path / "s") as opened:
        part = next(part for part in map(opened.partition, range(len(opened.partitions))) if part.kind == Kind.CANNED)
        offset = part.offset
    raw = bytearray((tmp_path / "s").read_bytes())
    raw[offset + 3] ^= 0x10
    (tmp_path / "s").write_bytes(raw)
    with pytest.raises(SabreError, match="partition"):
        restore(tmp_path / "s", engine="device", engine_options={"url": DEVICES[world]})


def test_options_are_checked(tmp_path, seed):
    make(tmp_path / "s", seed, pages=1)
    for options in ({"clock": -1.0}, {"depth": 0}, {"url": "model:nothing"}):
        with pytest.raises((UsageError, SabreError), match=r"clock|depth|nothing"):
            restore(tmp_path / "s", engine="device", engine_options={"url": DEVICES["model"], **options})
