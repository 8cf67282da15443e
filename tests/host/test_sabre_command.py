# SPDX-License-Identifier: Apache-2.0
import json
import sys

import numpy as np
import pytest
from sabre_samples import PAGE, anonymous

from rackgate_host import cli
from rackgate_host.sabre.snapshot import Snapshot
from rackgate_host.sabre.touches import Touches

FIGURES = {"partitions", "working_set", "tables", "bytes_in", "bytes_out", "ratio", "stored_ratio", "kinds"}


@pytest.fixture
def sabre(monkeypatch, capsys):
    """Run ``rackgate sabre``: its exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rackgate", "sabre", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return ended.value.code, out, err

    return run


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "memory.img"
    path.write_bytes(b"".join(anonymous()[:40]) + bytes(10 * PAGE) + anonymous()[3])
    return path


def test_a_snapshot_and_a_look_into_it(sabre, image, tmp_path):
    code, out, err = sabre("snapshot", image, "-o", tmp_path / "a.rgs")
    assert (code, err) == (0, "")
    assert "canned" in out and "zero" in out and "duplicate" in out and "ratio" in out
    code, out, err = sabre("inspect", tmp_path / "a.rgs", "--verify")
    assert (code, err) == (0, "")
    assert "region 0: memory.img, 51 pages from 0x0" in out and "every byte checked" in " ".join(out.split())


def test_json(sabre, image, tmp_path):
    target = tmp_path / "a.rgs"
    code, out, err = sabre("snapshot", image, image, "-o", target, "--json", "--mode", "dynamic", "--window", 32768,
                           "--partition-pages", 4, "--seed", 7, "--level", 9, "--jobs", 1)
    assert (code, err) == (0, "")
    made = json.loads(out)
    assert set(made) == FIGURES | {"file", "mode", "partition_pages", "window", "level", "compressor", "seed",
                                   "seconds"}
    assert (made["mode"], made["partition_pages"], made["window"], made["level"], made["seed"]) == (
        "dynamic", 4, 32768, 9, 7)
    assert made["bytes_in"] == 2 * 51 * PAGE and made["bytes_out"] == target.stat().st_size
    assert made["ratio"] == round(made["bytes_in"] / made["bytes_out"], 3) > made["stored_ratio"] > 1
    code, out, err = sabre("inspect", target, "--json", "--verify")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert set(found) == FIGURES | {"file", "version", "window", "regions", "working_set_kinds", "verified"}
    assert {key: found[key] for key in FIGURES} == {key: made[key] for key in FIGURES}
    assert found["verified"] is True and found["version"] == 1
    assert [(region["address"], region["pages"]) for region in found["regions"]] == [(0, 51), (51 * PAGE, 51)]
    assert all(set(row) == {"kind", "partitions", "pages", "bytes", "ratio"} for row in found["kinds"])
    assert {row["kind"] for row in found["kinds"]} == {"zero", "dynamic", "duplicate"}
    assert sum(row["pages"] for row in found["kinds"]) == 102


def test_working_set_and_addresses(sabre, image, tmp_path):
    touches = tmp_path / "touches.json"
    Touches.save(touches, [Touches(np.array([1, 0, 0]), np.array([7, 45, 2]), np.array([10, 20, 30]))])
    code, _, err = sabre("snapshot", image, image, "-o", tmp_path / "a.rgs", "--working-set", touches, "--tables", 2,
                         "--address", "0x100000000", "--address", 0)
    assert (code, err) == (0, "")
    with Snapshot.open(tmp_path / "a.rgs") as snapshot:
        assert [(int(entry["region"]), int(entry["first_page"])) for entry in snapshot.working_set] == [
            (1, 7), (0, 45), (0, 2)]
        assert [region.address for region in snapshot.regions] == [1 << 32, 0]
    found = json.loads(sabre("inspect", tmp_path / "a.rgs", "--json")[1])
    assert found["working_set"] == 3 and found["working_set_kinds"] == {"zero": 1, "canned": 2}
    assert "working set: 1 zero, 2 canned" in " ".join(sabre("inspect", tmp_path / "a.rgs")[1].split())


def test_sabres_own_files(sabre, image, tmp_path):
    sabre("snapshot", image, "-o", tmp_path / "a.rgs")
    for layout in ("scattered", "single", "passthrough"):
        code, out, err = sabre("export", tmp_path / "a.rgs", "-o", tmp_path / "vm", "--layout", layout)
        assert (code, err) == (0, "") and "vm.partitions" in out
        assert sabre("snapshot", tmp_path / "vm.partitions", "-o", tmp_path / "b.rgs")[0] == 0
        with Snapshot.open(tmp_path / "b.rgs") as snapshot:
            assert snapshot.restore(0).tobytes() == image.read_bytes()
    result = json.loads(sabre("export", tmp_path / "a.rgs", "-o", tmp_path / "vm", "--json")[1])
    assert set(result) == {"file", "output", "layout", "bytes_in", "bytes_out"}
    assert result["layout"] == "scattered" and result["bytes_in"] == 51 * PAGE


def test_damage_ends_with_1(sabre, image, tmp_path):
    target = tmp_path / "a.rgs"
    sabre("snapshot", image, "-o", target)
    data = bytearray(target.read_bytes())
    with Snapshot.open(target) as snapshot:
        data[snapshot.partition(0).offset + 5] ^= 1
    target.write_bytes(data)
    assert sabre("inspect", target)[0] == 0
    code, out, err = sabre("inspect", target, "--verify", "--json")
    assert (code, out) == (1, "") and err.startswith(f"rackgate: {target}: header.data_crc32 is 0x")
    target.write_bytes(data[:-PAGE])
    code, out, err = sabre("inspect", target)
    assert (code, out) == (1, "") and "the file is cut short" in err
    assert sabre("inspect", image)[0] == 1


@pytest.mark.parametrize("arguments, fault", [
    (["snapshot", "none", "-o", "a.rgs"], "there is no file none"),
    (["snapshot", "short", "-o", "a.rgs"], "short: an image of memory has whole pages of 4096 bytes, not 5 bytes"),
    (["snapshot", "empty", "-o", "a.rgs"], "empty: an image of memory has whole pages of 4096 bytes, not 0 bytes"),
    (["snapshot", "image", "-o", "image"], "image cannot be the output: it is an input"),
    (["snapshot", "image", "-o", "folder"], "folder cannot be the output: it is no file"),
    (["snapshot", "image", "-o", "none/a.rgs"], "there is no folder"),
    (["snapshot", "image", "-o", "a.rgs", "--window", "5"], "window must be 4096 or 32768, not 5"),
    (["snapshot", "image", "-o", "a.rgs", "--partition-pages", "0"], "partition_pages must be 1 to 4096, not 0"),
    (["snapshot", "image", "-o", "a.rgs", "--compressor", "libdeflate"], "mode dynamic, not canned"),
    (["snapshot", "image", "-o", "a.rgs", "--address", "high"], "--address must be a number, not 'high'"),
    (["snapshot", "image", "-o", "a.rgs", "--address", "0", "--address", "1"], "for each of the 1 files, not 2"),
    (["snapshot", "image", "-o", "a.rgs", "--address", "7"], "address must be a multiple of 4096"),
    (["snapshot", "image", "-o", "a.rgs", "--working-set", "far.json"], "page of region 0 must be below 1, not 5"),
    (["snapshot", "nothing.partitions", "-o", "a.rgs"], "there are no partitions in it"),
    (["snapshot", "image", "-o", "a.rgs", "--mode", "lz4"], "lz4"),
    (["snapshot", "image"], "--output"),
    (["snapshot", "-o", "a.rgs"], "FILE"),
    (["inspect", "none"], "No such file"),
    (["export", "none", "-o", "vm"], "No such file"),
    (["export", "image", "-o", "none/vm"], "there is no folder"),
])
def test_usage(sabre, tmp_path, monkeypatch, arguments, fault):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image").write_bytes(anonymous()[0])
    (tmp_path / "short").write_bytes(b"12345")
    (tmp_path / "empty").touch()
    Touches.save(tmp_path / "far.json", [Touches(np.array([0]), np.array([5]), np.array([0]))])
    (tmp_path / "folder").mkdir()
    (tmp_path / "nothing.partitions").write_bytes(bytes(8))
    (tmp_path / "nothing.snapshot").touch()
    code, out, err = sabre(*arguments)
    assert (code, out) == (2, "") and fault in err
    assert not (tmp_path / "a.rgs").exists()
