# SPDX-License-Identifier: Apache-2.0
"""The recorder and guests that follow traces: the order of first touches, memory that stays right, and the commands
``rackgate sabre record`` and ``rackgate sabre restore``."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from rackgate_host.errors import Unavailable, UsageError
from rackgate_host.sabre import restore_command, snapshot, workload
from rackgate_host.sabre.channel import SabreTimeout
from rackgate_host.sabre.errors import SabreError
from rackgate_host.sabre.format import PAGE
from rackgate_host.sabre.images import make_image
from rackgate_host.sabre.monitor import MonitorError
from rackgate_host.sabre.owner import anonymous
from rackgate_host.sabre.recorder import Recorder
from rackgate_host.sabre.touches import Touches
from rackgate_host.sabre.userfault import supported
from rackgate_host.sabre.workload import GuestFailed, record_guest, restore_guest, touch_trace

PAGES = 256


@pytest.fixture(autouse=True)
def permitted():
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "memory.img"
    make_image(path, PAGES, seed=3)
    return path


def invoke(*arguments):
    """The command's exit code, output and error; codes of exceptions as `rackgate` gives them."""
    from rackgate_host.cli import app, exit_code, sentence
    result = CliRunner().invoke(app, ["sabre", *map(str, arguments)])
    if result.exception is None or isinstance(result.exception, SystemExit):
        return result.exit_code, result.stdout, result.stderr
    return exit_code(result.exception), result.stdout, sentence(result.exception)


def test_first_touches_are_recorded_in_their_order(seed):
    random = np.random.default_rng(seed)
    sources = [random.integers(0, 256, size * PAGE, np.uint8) for size in (100, 30)]
    buffers = [anonymous(100), anonymous(30)]
    pages = [(int(region), int(random.integers((100, 30)[region]))) for region in random.integers(0, 2, 120)]
    with Recorder(sources) as recorder:
        recorder.attach(buffers)
        for region, page in pages:
            assert buffers[region][page * PAGE] == sources[region][page * PAGE]
        touches = recorder.stop()
    assert touches.order == list(dict.fromkeys(pages))
    assert (np.diff(touches.times) >= 0).all() and touches.times[0] > 0
    for buffer, source in zip(buffers, sources, strict=True):
        assert np.array_equal(np.frombuffer(buffer, np.uint8), source), "stop fills in what was not touched"


SHARED = """
import ctypes, mmap, threading
import numpy as np
from rackgate_host.sabre.owner import anonymous
from rackgate_host.sabre.recorder import Recorder
source = np.random.default_rng(1).integers(1, 256, 200 * 4096, np.uint8)
memory = anonymous(200)
with Recorder([source]) as recorder:
    recorder.attach([memory])
    address = np.frombuffer(memory, np.uint8).ctypes.data
    def touch():
        for page in range(100):
            assert ctypes.string_at(address + page * 4096, 4096) == source[page * 4096:(page + 1) * 4096].tobytes()
    threads = [threading.Thread(target=touch) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    memory.madvise(mmap.MADV_DONTNEED, 50 * 4096, 100 * 4096)
    assert memory[60 * 4096:61 * 4096] == bytes(4096) and memory[120 * 4096] == 0
    touches = recorder.stop()
assert sorted(touches.pages.tolist()) == list(range(100)), touches.pages
assert memory[50 * 4096:150 * 4096] == bytes(100 * 4096)
assert memory[150 * 4096:] == source[150 * 4096:].tobytes()
print(touches.removed)
"""


def test_threads_that_share_pages_and_memory_given_back():
    child = subprocess.run([sys.executable, "-c", SHARED], capture_output=True, text=True, timeout=30, check=False,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert (child.returncode, child.stdout.split()) == (0, ["100"]), child.stderr


def test_the_source_must_be_as_large_as_the_memory(image):
    with Recorder(image) as recorder:
        with pytest.raises(MonitorError, match=f"the source of the record has {PAGES * PAGE} bytes, the memory 40960"):
            recorder.attach([anonymous(10)])
    with pytest.raises(FileNotFoundError):
        Recorder(image.with_name("none"))


def test_images_are_whole_and_hold_all_sorts(image, tmp_path):
    pages = np.fromfile(image, np.uint8).reshape(PAGES, PAGE)
    filled = int(pages.any(axis=1).sum())
    assert PAGES // 4 < filled <= PAGES
    with pytest.raises(ValueError, match="pages must be 1 or more, not 0"):
        make_image(tmp_path / "x", 0)


def test_traces_follow_from_their_seed():
    one = touch_trace([200, 56], 5)
    assert one == touch_trace([200, 56], 5) != touch_trace([200, 56], 6)
    assert len(set(one)) == round(256 * 0.3) and len(one) > len(set(one)), "some pages are touched again"
    assert all(0 <= page < (200, 56)[region] for region, page in one)
    other = set(touch_trace([200, 56], 5, number=1))
    assert 0.5 < len(set(one) & other) / len(set(one) | other) < 1.0
    assert set(touch_trace([200, 56], 5, varied=0)) == set(touch_trace([200, 56], 5, varied=0, number=1))


@pytest.mark.parametrize("options, message", [
    ({"sizes": [0]}, "at least one page"), ({"share": 2}, "share must be 0 to 1, not 2"),
    ({"run": 0}, "run must be 1 page or more, not 0"), ({"again": -1}, "again must be 0 to 1"),
    ({"varied": 1.1}, "varied must be 0 to 1")])
def test_traces_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        touch_trace(**{"sizes": [10], "seed": 1, **options})


def test_a_recorded_guest_is_restored_as_recorded(image, tmp_path):
    trace = touch_trace([PAGES], 1)
    touches, result = record_guest(image, [PAGES], trace)
    assert touches.order == list(dict.fromkeys(trace))
    assert (result["wrong"], result["equal"], result["touches"]) == (0, True, len(trace))
    path = tmp_path / "g.rgs"
    snapshot.write(path, [snapshot.Region("g", 0, np.fromfile(image, np.uint8))], working_set=touches.order, jobs=1)
    told = []
    result = restore_guest(path, touches.order, image, {"policy": "working-set-first"},
                           progress=lambda done, of: told.append((done, of)))
    assert (result["wrong"], result["equal"]) == (0, True)
    assert result["report"]["demand"]["faults"] == 0, "all it touches was there before it ran"
    assert result["resume_seconds"] <= result["guest_seconds"]
    assert told and told[-1][0] <= told[-1][1] and told == sorted(told)


def test_wrong_bytes_are_found(image, tmp_path):
    path, other = tmp_path / "g.rgs", tmp_path / "other.img"
    data = bytearray(image.read_bytes())
    snapshot.write(path, [snapshot.Region("g", 0, bytes(data))], jobs=1, mode="raw")
    data[5 * PAGE + 17] ^= 1
    other.write_bytes(data)
    result = restore_guest(path, [(0, 4), (0, 5), (0, 5), (0, 6)], other)
    assert (result["wrong"], result["equal"]) == (2, False)
    other.write_bytes(data[:-PAGE])
    with pytest.raises(SabreError, match=rf"other\.img has {255 * PAGE} bytes, the memory {256 * PAGE}"):
        restore_guest(path, (), other)
    with pytest.raises(SabreError, match=r"the trace touches page 256 of region 0; the regions have \[256\] pages"):
        restore_guest(path, [(0, 256)])
    with pytest.raises(SabreError, match="policy must be one of") as caught:
        restore_guest(path, options={"policy": "x"})
    assert caught.value.exit_code == 2


def test_guests_that_end_or_hang_are_noticed(image, monkeypatch):
    kill = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    for script, failure, message in (
            (kill, GuestFailed, "the guest was ended by SIGKILL"),
            ("import sys; sys.exit('no memory')", GuestFailed, "the guest ended with code 1: no memory"),
            ("import time; time.sleep(60)", SabreTimeout, "waited 0.5 s for the guest to do something")):
        monkeypatch.setattr(workload, "_START", script)
        begin = time.monotonic()
        with pytest.raises(failure, match=message):
            record_guest(image, [PAGES], [], timeout=0.5)
        assert time.monotonic() - begin < 20


def test_the_commands(image, tmp_path):
    touches, path = tmp_path / "t.json", tmp_path / "g.rgs"
    code, out, err = invoke("record", image, "-o", touches, "--snapshot", path, "--runs", 2, "--json")
    assert code == 0, err
    record = json.loads(out)
    assert set(record) == {"image", "pages", "guest", "seed", "runs", "stability", "working_set", "output", "snapshot"}
    assert record["pages"] == PAGES and len(record["runs"]) == 2
    assert set(record["runs"][0]) == {"touches", "first_touches", "repeated", "seconds", "microseconds_per_fault",
                                      "wrong", "equal"}
    assert record["stability"]["union"] == record["working_set"]
    assert len(Touches.load(touches)) == 2
    with snapshot.Snapshot.open(path) as opened:
        assert opened.header.working_set_count == record["working_set"]
    code, out, err = invoke("restore", path, "--policy", "working-set-first", "--trace", touches, "--compare", image,
                            "--engine", "paced", "--clock", 120, "--engines", 2, "--throttle", "80M", "--cold",
                            "--json")
    assert code == 0, err
    report = json.loads(out)
    assert set(report) == {"file", "guest", "kvm", "policy", "prefetch", "engine", "engine_options", "serial",
                           "throttle", "timing", "touches", "wrong", "equal", "resume_seconds", "guest_seconds",
                           "seconds", "bytes", "pages", "demand", "cycles", "direct", "cached_before"}
    assert (report["guest"], report["kvm"]) == ("process", None)
    assert report["equal"] is True and report["wrong"] == 0 and report["cycles"] > 0
    assert report["timing"] == "paced: 2 engines at 120 MHz, a prediction" and report["throttle"] == 80e6
    assert report["engine_options"] == {"clock": 120.0, "engines": 2}
    other = tmp_path / "other.img"
    other.write_bytes(bytes(PAGES * PAGE))
    code, out, err = invoke("restore", path, "--compare", other)
    assert code == 1 and "differs from" in err and "DIFFERS from the original." in out


def test_the_command_tells_of_damage(image, tmp_path):
    path = tmp_path / "g.rgs"
    snapshot.write(path, [snapshot.Region("g", 0, np.fromfile(image, np.uint8))], jobs=1)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    code, _, err = invoke("restore", path)
    assert code == 1 and "g.rgs: header" in err


@pytest.mark.parametrize("arguments, message", [
    (["--clock", "5"], "--clock means nothing to the engine software"),
    (["--engine", "paced", "--workers", "2"], "--workers means nothing to the engine paced"),
    (["--throttle", "fast"], "a rate must be a number of bytes/s above 0"),
    (["--compare", "nofile.img"], "there is no file nofile.img"),
    (["--trace", "nofile.json"], "there is no file nofile.json"),
])
def test_options_that_make_no_sense(image, tmp_path, arguments, message):
    path = tmp_path / "g.rgs"
    snapshot.write(path, [snapshot.Region("g", 0, bytes(PAGE))], jobs=1)
    code, _, err = invoke("restore", path, *arguments)
    assert code == 2 and message in err


def test_files_that_cannot_be_recorded(tmp_path):
    odd = tmp_path / "odd.img"
    odd.write_bytes(bytes(100))
    for arguments, message in (([odd], "memory has whole pages of 4096 bytes, not 100 bytes"),
                               ([tmp_path / "none"], "there is no file"),
                               ([odd, "-o", tmp_path / "none" / "t.json"], "there is no folder")):
        code, _, err = invoke("record", *arguments)
        assert code == 2 and message in err
    assert invoke("restore", tmp_path / "none.rgs")[0] == 2


@pytest.mark.parametrize("text, rate", [("250M", 250e6), ("1.5G", 1.5e9), ("1e9", 1e9), ("10k", 1e4), ("7", 7.0)])
def test_rates(text, rate):
    assert restore_command.byte_rate(text) == rate


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "nan", "inf", "5T", "5MM"])
def test_rates_that_are_none(text):
    with pytest.raises(UsageError, match="a rate must be a number of bytes/s above 0"):
        restore_command.byte_rate(text)


def test_without_userfaultfd_the_commands_say_so(image, monkeypatch):
    def refused():
        raise Unavailable("the kernel does not let this process use userfaultfd: run as root")

    monkeypatch.setattr(restore_command, "supported", refused)
    for arguments in (["record", image], ["restore", image]):
        code, _, err = invoke(*arguments)
        assert code == 3 and "run as root" in err
