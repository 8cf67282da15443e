# SPDX-License-Identifier: Apache-2.0
import gzip
import json
import random
import sys
import zlib

import pytest

from rackgate_host import cli
from rackgate_host.inflate import batch, command, samples

TEXT = b"".join(b"%d green bottles hanging on the wall\n" % n for n in range(500))
KEYS = {"device", "parameters", "build", "seed", "side_by_side", "files", "total", "timing", "simulation", "waves"}
ROW = {
    "file", "format", "bytes_in", "bytes_out", "members", "cycles", "bytes_per_cycle", "equal", "error", "output",
}  # fmt: skip


@pytest.fixture
def rackgate(monkeypatch, capsys):
    """Run the command line: its exit code, output and error output."""

    def run(*arguments, device="model:inflate"):
        extra = ["--device", device] if device else []
        monkeypatch.setattr(sys, "argv", ["rackgate", "inflate", *map(str, arguments), *extra])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return ended.value.code, out, err

    return run


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "text.gz").write_bytes(gzip.compress(TEXT) + gzip.compress(b"second"))
    (folder / "text.zz").write_bytes(zlib.compress(TEXT))
    (folder / "deep").mkdir()
    (folder / "deep" / "a.tar.gz").write_bytes(gzip.compress(random.Random(1).randbytes(3000)))
    (folder / "raw").write_bytes(zlib.compress(TEXT, wbits=-15))
    return folder


def test_a_table(rackgate, files):
    code, out, err = rackgate(files / "text.gz", files / "text.zz")
    assert (code, err) == (0, "")
    assert out.count("yes") == 2 and "zlib equal" in out and "all, side by side" not in out
    assert "Cycles of a model: made up" in out


def test_json(rackgate, files):
    code, out, err = rackgate(files, files / "text.zz", "--json", "--stats", "--seed", 7)
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result) == KEYS | {"registers"}
    assert result["device"] == "model:inflate" and result["seed"] == 7 and result["waves"] is None
    assert result["parameters"] == {"contexts": 2, "window": 32768, "lanes": 16}
    assert all(set(row) == ROW for row in result["files"])
    assert [row["file"].rpartition("/")[2] for row in result["files"]] == ["a.tar.gz", "text.gz", "text.zz"]
    assert [row["format"] for row in result["files"]] == ["gzip", "gzip", "zlib"]
    assert [row["members"] for row in result["files"]] == [1, 2, 1]
    assert [row["bytes_out"] for row in result["files"]] == [3000, len(TEXT) + 6, len(TEXT)]
    assert all(row["equal"] is True and row["error"] is None for row in result["files"])
    total = result["total"]
    assert total["bytes_in"] == sum(row["bytes_in"] for row in result["files"])
    assert total["bytes_out"] == sum(row["bytes_out"] for row in result["files"])
    assert (total["files"], total["failed"]) == (3, 0)
    assert total["cycles"] > 0
    assert result["registers"]["RING_HEAD"] == 3


def test_side_by_side(rackgate, files):
    def cycles(*arguments):
        result = json.loads(rackgate(files, files / "text.zz", "--json", *arguments)[1])
        assert all(row["equal"] for row in result["files"])
        return result["total"]["cycles"], sum(row["cycles"] for row in result["files"])

    total, parts = cycles()
    assert total >= parts
    total, parts = cycles("--side-by-side")
    assert total < parts
    assert "all, side by side" in rackgate(files, "--side-by-side")[1]


def test_output_to_a_file(rackgate, files, tmp_path):
    target = tmp_path / "text"
    target.write_bytes(b"old")
    code, _, _ = rackgate(files / "text.gz", "-o", target)
    assert code == 0 and target.read_bytes() == TEXT + b"second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "text"]


def test_outputs_to_a_folder(rackgate, files, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    code, out, _ = rackgate(files, files / "text.zz", "-o", target, "--json")
    assert code == 2  # both texts would have the same name
    (files / "text.zz").rename(files / "more.zz")
    code, out, _ = rackgate(files, files / "more.zz", "-o", target, "--json")
    assert code == 0
    assert sorted(path.name for path in target.iterdir()) == ["a.tar", "more", "text"]
    assert (target / "more").read_bytes() == TEXT
    assert {row["output"] for row in json.loads(out)["files"]} == {str(path) for path in target.iterdir()}


def test_a_bad_input_leaves_no_file(rackgate, files, tmp_path):
    bad = bytearray((files / "text.gz").read_bytes())
    bad[100] ^= 16
    (files / "bad.gz").write_bytes(bad)
    target = tmp_path / "out"
    code, out, err = rackgate(files / "bad.gz", "-o", target)
    assert code == 1 and not target.exists()
    assert (
        err.startswith(f"rackgate: {files}/bad.gz: Error -3 while decompressing data: ")
        and err.count("\n") == 1
    )
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    # zlib says the same, so it is not the device that failed.
    code, out, _ = rackgate(files / "bad.gz", files / "text.gz", "--json")
    rows = json.loads(out)["files"]
    assert (
        code == 1 and [row["equal"] for row in rows] == [True, True] and rows[0]["error"].startswith("Error -3")
    )


def test_a_target_that_cannot_be_written_stays(rackgate, files, tmp_path, monkeypatch):
    target = tmp_path / "text"
    target.write_bytes(b"old")

    def broken(*paths):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(command.os, "replace", broken)
    code, _, err = rackgate(files / "text.gz", "-o", target)
    assert code == 1 and "No space left on device" in err
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "text"]


def test_raw_data(rackgate, files):
    code, _, err = rackgate(files / "raw")
    assert code == 1 and "neither gzip nor zlib data (--format raw reads raw Deflate)" in err
    code, out, _ = rackgate(files / "raw", "--format", "raw", "--json")
    assert code == 0 and json.loads(out)["files"][0]["format"] == "raw"


def test_an_empty_file(rackgate, tmp_path):
    (tmp_path / "empty.gz").write_bytes(b"")
    code, _, err = rackgate(tmp_path / "empty.gz")
    assert code == 1 and "the file is empty" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.gz"], 2, "there is no file none.gz"),
        (["--waves"], 2, "waves come from sim: devices only"),
        (["--waves-on-fail"], 2, "waves come from sim: devices only"),
        (["--nonsense"], 2, "No such option"),
        (["--format", "lz4"], 2, "lz4"),
        (["--timeout", "0"], 2, "timeout"),
        (["-o", "x"], 2, "-o needs files to decompress"),
    ],
)
def test_usage(rackgate, arguments, code, message):
    got, _, err = rackgate(*arguments)
    assert got == code and message in err


@pytest.mark.parametrize(
    ("device", "code", "message"),
    [
        ("model:deflate", 2, "unknown device 'deflate'"),
        ("nonsense", 2, "must look like 'sim:inflate'"),
        ("uart:/dev/no-such-port", 3, "the serial port cannot be opened"),
        ("model:inflate?windows=1", 2, "unknown option 'windows'"),
    ],
)
def test_devices(rackgate, files, device, code, message):
    got, _, err = rackgate(files / "text.gz", device=device)
    assert got == code and message in err and err.count("\n") == 1


def test_an_empty_folder(rackgate, tmp_path):
    code, _, err = rackgate(tmp_path)
    assert code == 2 and f"there is no .gz file below {tmp_path}" in err


def test_several_inputs_need_a_folder(rackgate, files, tmp_path):
    code, _, err = rackgate(files / "text.gz", files / "text.zz", "-o", tmp_path / "x")
    assert code == 2 and "must be a folder, because there are 2 inputs" in err
    code, _, err = rackgate(files / "text.gz", files / "text.zz", "-o", tmp_path)
    assert code == 2 and "would both be written to" in err
    code, _, err = rackgate(files / "text.gz", "-o", tmp_path / "no" / "x")
    assert code == 2 and "there is no folder" in err


def test_a_time_out(rackgate, files, monkeypatch):
    monkeypatch.setattr("rackgate_sim.inflate.device.InflateModel._can_fetch", lambda self: False)
    code, _, err = rackgate(files / "text.gz", "--timeout", "0.05")
    assert code == 4 and "no completion of job 0 in context 0 after" in err
    assert "shows the device's state" in err and "RING_HEAD" not in err and err.count("\n") == 1


def test_a_wrong_device_is_told(rackgate, files, monkeypatch):
    """The comparison with zlib can fail."""
    honest = batch.inflate_all

    def wrong(*arguments):
        for index, outcome in honest(*arguments):
            yield (
                index,
                batch.Outcome(
                    outcome.output[:-1] + b"?", None, outcome.consumed, outcome.members, outcome.cycles
                ),
            )

    monkeypatch.setattr(command, "inflate_all", wrong)
    code, out, err = rackgate(files / "text.gz", files / "text.zz", "--json")
    assert code == 1 and err.count("differs from zlib") == 2
    result = json.loads(out)
    assert result["total"]["failed"] == 2 and [row["equal"] for row in result["files"]] == [False, False]
    code, out, err = rackgate(files / "text.gz", "--no-check", "--json")
    assert code == 0 and json.loads(out)["files"][0]["equal"] is None


def test_without_files(rackgate, monkeypatch):
    monkeypatch.setattr(samples, "_SIZE", 1 << 17)
    code, out, err = rackgate("--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["files"]
    assert len(rows) >= 4 and {row["format"] for row in rows} == {"raw", "zlib", "gzip"}
    assert all(row["equal"] for row in rows) and sum(row["bytes_out"] for row in rows) > 1 << 17
    code, out, err = rackgate()
    assert code == 0 and "What next:" in out and "make test" in out


def test_samples_are_what_they_say():
    for _, data, format in samples.samples():
        assert command._reference(data, format)[1] is None


def test_help_has_examples(rackgate):
    code, out, _ = rackgate("--help", device=None)
    assert code == 0 and "rackgate inflate a.gz b.zz -o out/" in out


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
def test_on_the_gateware(rackgate, files):
    code, out, err = rackgate(files, files / "text.zz", "--json", device="sim:inflate")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["timing"] == "cycles" and all(row["equal"] for row in result["files"])
    assert result["total"]["bytes_per_cycle"] > 0.5
    again = json.loads(rackgate(files, files / "text.zz", "--json", device="sim:inflate")[1])
    assert [row["cycles"] for row in again["files"]] == [row["cycles"] for row in result["files"]]


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
def test_waves(rackgate, files, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "build_root", lambda: tmp_path / "build")
    trace = tmp_path / "build" / "waves" / "inflate.fst"
    code, out, _ = rackgate(files / "text.gz", "--waves", "--json", device="sim:inflate")
    assert code == 0 and json.loads(out)["waves"] == str(trace) and trace.stat().st_size > 10_000
    trace.unlink()
    code, out, err = rackgate(files / "text.gz", "--waves-on-fail", device="sim:inflate")
    assert (code, err) == (0, "") and not trace.exists()
    monkeypatch.setattr(command, "_agrees", lambda *arguments: False)
    code, out, err = rackgate(files / "text.gz", "--waves-on-fail", device="sim:inflate")
    assert code == 1 and trace.stat().st_size > 10_000
    first, last = err.splitlines()
    assert first.startswith("rackgate: waves of cycles ") and first.endswith(str(trace))
    assert last == f"rackgate: {files}/text.gz: differs from zlib"
