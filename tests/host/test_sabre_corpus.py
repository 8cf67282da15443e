# SPDX-License-Identifier: Apache-2.0
"""Workloads: functions that give the same each time, the archive a kernel boots, a microVM's memory, and what happens
where there is none. A microVM itself is booted by `make soak`; here a program that talks as QEMU does stands in."""

import json
import shutil
import stat
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from rackgate_host.cli import app
from rackgate_host.errors import Unavailable, UsageError
from rackgate_host.sabre.channel import SabreTimeout
from rackgate_host.sabre.corpora import FUNCTIONS, Corpus, Workload, corpus, functions, guest, initramfs, microvm
from rackgate_host.sabre.errors import SabreError
from rackgate_host.sabre.format import PAGE


@pytest.mark.parametrize("name", ["python-list", "matmul", "chameleon"])
def test_a_functions_result_follows_from_its_seed(name):
    held, result = functions.run(name, 1)
    assert held and result == functions.run(name, 1)[1] != functions.run(name, 2)[1]


def test_names_and_flags():
    assert list(FUNCTIONS) == ["python-list", "json", "matmul", "chameleon", "zlib", "image", "bfs", "pagerank"]
    kinds = {0: "k", 1 << 12: "a", 1 << 12 | 1 << 5: "a", 1 << 5: "f", 1 << 11: "f", 1 << 10: "z", 1 << 7: "k",
             1 << 26: "k", 1 << 20: "?"}
    assert {flags: chr(guest.classify(flags)) for flags in kinds} == kinds
    assert set(kinds.values()) == set(corpus.KIND_NAMES)


def entries(archive):
    """(name, mode, content, device) of a cpio archive in the format newc, read by the format's rules alone."""
    place = 0
    while True:
        assert archive[place:place + 6] == b"070701" and place % 4 == 0
        fields = [int(archive[place + 6 + 8 * number:place + 14 + 8 * number], 16) for number in range(13)]
        begin = place + 110
        name = archive[begin:begin + fields[11] - 1].decode()
        begin += fields[11]
        begin += -begin % 4
        if name == "TRAILER!!!":
            assert begin == len(archive)
            return
        yield name, fields[1], archive[begin:begin + fields[6]], (fields[9], fields[10])
        place = begin + fields[6]
        place += -place % 4


def test_archive():
    files = [("usr/bin/tool", b"binary!", 0o755), ("init", b"#!/usr/bin/tool\n", 0o755), ("usr/a", b"", 0o644)]
    made = initramfs.archive(files, [("bin", "usr/bin")])
    found = list(entries(made))
    assert {name: (mode, content) for name, mode, content, _ in found} == {
        "dev": (0o40755, b""), "dev/console": (0o20600, b""), "usr": (0o40755, b""), "usr/bin": (0o40755, b""),
        "usr/bin/tool": (0o100755, b"binary!"), "init": (0o100755, b"#!/usr/bin/tool\n"), "usr/a": (0o100644, b""),
        "bin": (0o120777, b"usr/bin")}
    names = [name for name, *_ in found]
    assert all(name.rpartition("/")[0] in ("", *names[:place]) for place, name in enumerate(names))
    assert dict((name, device) for name, _, _, device in found)["dev/console"] == (5, 1)
    assert made == initramfs.archive(reversed(files), [("bin", "usr/bin")])


def test_the_guests_image_has_python_and_the_functions():
    found = {name: (mode, content) for name, mode, content, _ in entries(corpus.guest_image())}
    first = found["init"][1].split(b"\n")[0]
    interpreter = first.removeprefix(b"#!").removesuffix(b" -S").decode().lstrip("/")
    assert stat.S_IMODE(found[interpreter][0]) == stat.S_IMODE(found["init"][0]) == 0o755
    assert b"def _pagerank" in found["functions.py"][1]
    assert any(name.endswith("encodings/utf_8.py") for name in found) and any("/ld-linux" in name for name in found)
    assert not any("numpy" in name for name in found)


def test_a_module_that_cannot_be_had(tmp_path):
    with pytest.raises(Unavailable, match="cannot be put into a guest: ModuleNotFoundError.*no_such_module"):
        initramfs.python_files(tmp_path, ["no_such_module"])


def made(name="json", pages=40, seed=1):
    memory = np.random.default_rng(seed).integers(0, 255, (pages, PAGE)).astype(np.uint8)
    memory[5:20] = 0
    memory[30] = memory[29]
    kinds = np.frombuffer(b"a" * 10 + b"f" * 10 + b"k" * 10 + b"z" * (pages - 30), np.uint8)
    return Workload(name, memory, kinds, np.array([1, 5, 29, 30], np.uint32), {"origin": "process", "why": "a test"})


def test_corpus_is_kept_and_checked(tmp_path):
    Corpus.add(tmp_path, made("zlib", seed=2))
    Corpus.add(tmp_path, made("json", seed=3))
    Corpus.add(tmp_path, made("json"))
    kept = Corpus.open(tmp_path)
    assert kept.names == ["json", "zlib"]
    loaded, wanted = kept.load("json", check=True), made()
    assert np.array_equal(loaded.memory, wanted.memory) and np.array_equal(loaded.kinds, wanted.kinds)
    assert loaded.changed.tolist() == [1, 5, 29, 30]
    assert loaded.about["pages_not_zero"] == 25 and loaded.about["why"] == "a test"
    with (tmp_path / "json.ram").open("r+b") as file:
        file.seek(100)
        file.write(b"?")
    with pytest.raises(SabreError, match=r"json\.ram is not the file that was made: its SHA-256 differs"):
        kept.load("json", check=True)
    (tmp_path / "zlib.kinds").write_bytes(b"aa")
    with pytest.raises(SabreError, match="the files of zlib do not go together"):
        kept.load("zlib")
    with pytest.raises(UsageError, match="there is no workload 'bfs' in .*; there are json, zlib"):
        kept.load("bfs")


@pytest.mark.parametrize("text", ["{", "[]", '{"workloads": [{}]}', '{"workloads": [{"name": "../other"}]}'])
def test_a_list_that_is_none(tmp_path, text):
    (tmp_path / "corpus.json").write_text(text)
    with pytest.raises(SabreError, match="is no list of workloads|names a workload that there is not"):
        Corpus.open(tmp_path)


def test_no_corpus(tmp_path):
    with pytest.raises(UsageError, match="holds no corpus: rackgate sabre corpus make"):
        Corpus.open(tmp_path)


def test_shares_and_pages_to_take():
    workload = made()
    shares = workload.shares()
    assert shares == {"anonymous_percent": 25.0, "file_percent": 25.0, "kernel_percent": 25.0, "free_percent": 25.0,
                      "unknown_percent": 0.0, "zero_percent": 37.5, "duplicate_percent": 2.5}
    assert workload.shares(workload.changed)["zero_percent"] == 25.0
    assert workload.in_use().tolist() == [*range(5), *range(20, 30)]
    numbers = np.arange(1000)
    few = workload.spread(numbers, 64)
    assert len(few) == 64 and few[0] == 0 and few[-1] == 999
    assert np.flatnonzero(np.diff(few) != 1).tolist() == [15, 31, 47]
    assert workload.spread(numbers[:10], 64).tolist() == list(range(10))
    assert len(workload.spread(numbers, 5)) == 5


def test_a_process_stands_in_where_there_is_no_qemu(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    told = []
    kept = corpus.make(tmp_path, ["matmul"], warn=told.append)
    assert told == ["no microVM: there is no qemu-system-x86_64 here: apt-get install --no-install-recommends "
                    "qemu-system-x86"]
    workload = kept.load("matmul", check=True)
    assert workload.about["origin"] == "process" and "qemu-system-x86_64" in workload.about["why"]
    assert workload.about["result"] == str(functions.run("matmul", 2)[1])
    assert {chr(kind) for kind in np.unique(workload.kinds)} == {"a", "f"}
    assert len(workload.changed) > 200 and workload.memory.any(axis=1).all()
    with pytest.raises(Unavailable, match="there is no qemu"):
        corpus.make(tmp_path, ["matmul"], origin="microvm")


def test_what_cannot_be_made(tmp_path):
    for names, options, text in ((["fib"], {}, "there is no workload 'fib'"), ([], {}, "at least one"),
                                 (["json"], {"origin": "moon"}, "origin must be auto, microvm or process")):
        with pytest.raises(UsageError, match=text):
            corpus.make(tmp_path, names, **options)


def test_kernels(tmp_path, monkeypatch):
    for name in ("vmlinuz-6.1.0-9-cloud-amd64", "vmlinuz-6.1.0-56-cloud-amd64", "vmlinuz-7.0-amd64"):
        (tmp_path / name).touch()
    if not list(microvm.Path("/boot").glob("vmlinuz-*-cloud-amd64")):
        assert microvm.find_kernel(tmp_path).name == "vmlinuz-6.1.0-56-cloud-amd64"
        for path in tmp_path.iterdir():
            path.unlink()
        monkeypatch.setattr(microvm, "_PACKAGE", "linux-image-no-such-thing")
        with pytest.raises(Unavailable, match="there is no kernel for a guest|apt knows no package"):
            microvm.find_kernel(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="there is no kernel for a guest: .*; give --kernel FILE"):
        microvm._tool(["no-such-tool"], str(tmp_path))


# A program in QEMU's place: a RAM of 16 pages, the console on standard input and output, and the control socket.
QEMU = '''#!{python}
import json, re, socket, sys, threading, zlib, base64
words = " ".join(sys.argv)
ram, place = re.search("mem-path=([^,]+)", words)[1], re.search("unix:([^,]+)", words)[1]
story = re.search("rackgate.function=(\\\\S+)", words)[1]
open(ram, "wb").write(bytes(16 * 4096))
server = socket.socket(socket.AF_UNIX)
server.bind(place)
server.listen()
def serve():
    client, _ = server.accept()
    client.sendall(b'{{"QMP": {{}}}}\\n')
    while data := client.recv(4096):
        client.sendall(b'{{"event": "STOP"}}\\n')
        client.sendall(b'{{"error": {{"desc": "not now"}}}}\\n' if story == "refused" else b'{{"return": {{}}}}\\n')
threading.Thread(target=serve, daemon=True).start()
def say(text):
    print(text, flush=True)
say("[    0.1] a kernel's word")
if story == "silent":
    sys.stdin.readline()
if story == "dead":
    sys.exit("no such machine")
if story == "broken":
    say("rackgate failed: MemoryError()")
say("rackgate ready 1")
sys.stdin.readline()
with open(ram, "r+b") as file:
    file.seek(3 * 4096 + 7)
    file.write(b"changed")
say("rackgate done 42")
sys.stdin.readline()
kinds = base64.b64encode(zlib.compress(b"kkkaaafffzz")).decode()
say("rackgate kinds " + kinds[:9])
say("rackgate noise" if story == "noisy" else "rackgate kinds " + kinds[9:])
say("rackgate end")
sys.stdin.readline()
'''


@pytest.fixture
def qemu(tmp_path, monkeypatch):
    path = tmp_path / "qemu"
    path.write_text(QEMU.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setattr(microvm, "find_qemu", lambda: str(path))

    def capture(story, timeout=20.0):
        with microvm.MicroVM(path, b"", {"function": story, "seed": "1"}, 1, timeout=timeout) as machine:
            return machine.capture()

    return capture


def test_a_microvms_memory_is_taken_before_and_after(qemu):
    took = qemu("fine")
    assert took.memory.shape == (16, PAGE) and bytes(took.memory[3, 7:14]) == b"changed"
    assert took.changed.tolist() == [3] and took.result == "42"
    assert bytes(took.kinds) == b"kkkaaafffzz?????"
    assert set(took.seconds) == {"boot", "request"}


@pytest.mark.parametrize(("story", "error", "text"), [
    ("silent", SabreTimeout, "waited 0.5 s for the guest; it last said .*a kernel's word"),
    ("dead", SabreError, "the guest ended: no such machine"),
    ("broken", SabreError, r"the guest failed: MemoryError\(\)"),
    ("refused", SabreError, "QEMU refuses qmp_capabilities: not now"),
    ("noisy", SabreError, "the guest said 'noise' in its list of pages"),
])
def test_a_microvm_that_fails(qemu, story, error, text):
    with pytest.raises(error, match=text):
        qemu(story, 0.5 if story == "silent" else 20.0)


def test_a_microvm_that_fails_is_told_of_and_replaced(tmp_path, qemu, monkeypatch):
    monkeypatch.setattr(microvm, "qemu_version", lambda: "0")
    monkeypatch.setattr(corpus, "guest_image", lambda: b"")
    monkeypatch.setattr(microvm, "_KERNEL_LINE", ("rackgate.function=dead",))
    told = []
    kept = corpus.make(tmp_path / "corpus", ["matmul"], kernel=tmp_path / "qemu", warn=told.append)
    assert told == ["no microVM: the guest ended: no such machine"]
    assert kept.load("matmul").about["why"] == "the guest ended: no such machine"


def test_command(tmp_path):
    runner = CliRunner()
    done = runner.invoke(app, ["sabre", "corpus", "make", str(tmp_path), "--function", "matmul", "--origin", "process",
                               "--json"])
    assert done.exit_code == 0, done.output
    row, = json.loads(done.stdout)["workloads"]
    assert row["name"] == "matmul" and row["origin"] == "process" and set(row["sha256"]) == {"ram", "kinds", "changed"}
    shown = runner.invoke(app, ["sabre", "corpus", "inspect", str(tmp_path), "--verify"])
    assert shown.exit_code == 0 and "matmul" in shown.stdout and "No microVM: asked for" in shown.stdout


@pytest.mark.soak
def test_a_microvm_boots(tmp_path):
    try:
        kept = corpus.make(tmp_path, ["matmul"], origin="microvm")
    except Unavailable as error:
        pytest.skip(str(error))
    workload = kept.load("matmul", check=True)
    assert workload.about["result"] == str(functions.run("matmul", 2)[1])
    assert 50 < len(workload.changed) < len(workload.memory) / 2
    assert workload.shares()["zero_percent"] > 10 and (workload.kinds == ord("a")).sum() > 500
