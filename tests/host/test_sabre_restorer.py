# SPDX-License-Identifier: Apache-2.0
"""Restores with all policies, and what happens when files, engines, monitors and guests fail: an error that says why,
no wrong byte in memory, and nobody stuck in a fault. Guests that may get stuck are processes of their own."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sabre_samples import memory as sample

from rackgate_host.errors import Unavailable, UsageError
from rackgate_host.sabre import snapshot
from rackgate_host.sabre.channel import SabreTimeout
from rackgate_host.sabre.errors import SabreError, SnapshotError
from rackgate_host.sabre.format import PAGE, Kind
from rackgate_host.sabre.monitor import MonitorError
from rackgate_host.sabre.owner import anonymous
from rackgate_host.sabre.restorer import Restorer, restore
from rackgate_host.sabre.userfault import Feature, supported
from rackgate_host.sabre.workload import GuestFailed, restore_guest

SIZES = [300, 84]
BASES = [0x100000, 0x40000000]


@pytest.fixture(autouse=True)
def permitted():
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))


class Made:
    """A snapshot of two regions with pages of all kinds, its memory, and the image of that."""

    def __init__(self, folder, seed):
        dice = random.Random(seed)
        self.path, self.image = folder / "memory.rgs", folder / "memory.img"
        data = sample(dice, sum(SIZES))
        self.memory = [np.frombuffer(data, np.uint8)[:SIZES[0] * PAGE], np.frombuffer(data, np.uint8)[SIZES[0] * PAGE:]]
        self.image.write_bytes(data)
        pages = [(region, page) for region, size in enumerate(SIZES) for page in range(size)]
        self.trace = dice.sample(pages, 90)
        regions = [snapshot.Region(f"region {number}", base, data) for number, (base, data) in enumerate(
            zip(BASES, self.memory, strict=True))]
        self.summary = snapshot.write(self.path, regions, working_set=self.trace[:60], jobs=1)

    def check(self, buffers):
        for found, wanted in zip(buffers, self.memory, strict=True):
            assert np.array_equal(np.frombuffer(found, np.uint8), wanted)

    def damaged(self, folder, kind):
        """A copy with a changed byte in the data of a partition of ``kind``, and that partition's number."""
        with snapshot.Snapshot.open(self.path) as opened:
            part = next(part for part in opened if part.kind is kind)
        data = bytearray(self.path.read_bytes())
        data[part.offset + part.size // 2] ^= 0x10
        path = folder / f"damaged-{kind.name}.rgs"
        path.write_bytes(data)
        return path, part


@pytest.fixture(scope="module")
def made(tmp_path_factory, request):
    return Made(tmp_path_factory.mktemp("sabre"), request.config.getoption("--seed"))


def run(script, *arguments, **options):
    """Run Python code that finds this folder's modules; its process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def ended(process, seconds=30):
    """Its output, error output and code; killed if it does not end."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"the guest was stuck for {seconds} s") from None
    return out, err, process.returncode


def gone(pid):
    """Whether a process has ended (its entry may wait for a parent that does not care)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def workers(monitor):
    children = Path(f"/proc/{monitor.pid}/task/{monitor.pid}/children").read_text().split()
    return [int(pid) for pid in children if int(pid) != monitor.guard]


def test_the_sample_has_all_kinds(made):
    assert {Kind.ZERO, Kind.RAW, Kind.CANNED, Kind.DUPLICATE} <= set(made.summary.kinds)


@pytest.mark.parametrize("policy, prefetch", [
    ("eager", "all"), ("working-set-first", "all"), ("working-set-first", "working-set"), ("resume-at-once", "all"),
    ("resume-at-once", "none")])
def test_a_guest_sees_the_right_bytes_with_every_policy(made, policy, prefetch):
    result = restore_guest(made.path, made.trace, made.image, {"policy": policy, "prefetch": prefetch})
    assert result["wrong"] == 0 and result["equal"] is True and result["touches"] == len(made.trace)
    faults = result["report"]["demand"]["faults"]
    first = len(set(made.trace[:60]))
    if policy == "eager":
        assert faults == 0
    if prefetch == "working-set":
        assert 0 < faults <= len(made.trace) - first, "the working set was there, the rest was asked for"
    if prefetch == "none":
        assert 80 <= faults <= len(made.trace), "but for zeros around zeros each page is asked for"
    assert result["report"]["seconds"]["resume"] <= result["report"]["seconds"]["total"]


@pytest.mark.parametrize("options", [
    {"serial": True, "engine_options": {"workers": 1, "codec": "zlib"}},
    {"serial": True, "engine": "paced", "engine_options": {"clock": 200, "engines": 2}},
    {"engine": "paced", "engine_options": {"clock": 200, "engines": 2, "depth": 3}},
    {"engine": "sabre_engines:jobs", "depth": 2},
    {"run_pages": 1, "read_bytes": 4096, "depth": 1, "direct": False},
], ids=["serial", "serial-paced", "paced", "jobs", "smallest"])
def test_all_ways_to_do_it_give_the_same_memory(made, options):
    buffers, report = restore(made.path, **options)
    made.check(buffers)
    assert (report.cycles is not None) == (options.get("engine", "software") != "software")
    assert report.bytes["regions"] == sum(SIZES) * PAGE
    assert not (report.direct and options.get("direct") is False)


def test_the_report_adds_up(made):
    buffers, report = restore(made.path, cold=True)
    made.check(buffers)
    kinds = made.summary.kinds
    stored = [kind for kind in kinds if kind not in (Kind.ZERO, Kind.DUPLICATE)]
    assert report.bytes["stored"] == sum(kinds[kind][2] for kind in stored)
    assert report.bytes["restored"] == sum(kinds[kind][1] for kind in stored) * PAGE
    assert report.bytes["stored"] <= report.bytes["read"] <= report.bytes["stored"] + 16 * PAGE
    assert report.cached_before == 0.0
    assert report.pages["installed"] >= (report.bytes["restored"]) // PAGE + kinds[Kind.DUPLICATE][1]
    assert set(report.as_json()) == {"seconds", "bytes", "pages", "demand", "cycles", "direct", "cached_before"}
    assert 0 < report.seconds["read"] and 0 < report.seconds["decompress"] and 0 < report.seconds["install"]


def test_all_zero_memory_restores_from_nothing(tmp_path):
    path = tmp_path / "zero.rgs"
    snapshot.write(path, [snapshot.Region("zero", 0, bytes(20 * PAGE))], jobs=1, working_set=[(0, 3)])
    for options in ({"serial": True}, {"policy": "working-set-first"}):
        buffers, report = restore(path, **options)
        assert bytes(buffers[0]) == bytes(20 * PAGE) and report.bytes["restored"] == 0


def test_throttled_storage_takes_its_time(made):
    size = made.summary.bytes_out
    begin = time.monotonic()
    buffers, report = restore(made.path, throttle=size * 2)
    made.check(buffers)
    assert time.monotonic() - begin > 0.4 and report.seconds["read"] > 0.4


def test_faults_go_before_everything_else(made):
    """With storage that needs a minute for all, a touched page is there at once."""
    with Restorer(made.path, policy="resume-at-once", throttle=made.summary.bytes_out / 60, read_bytes=4096,
                  run_pages=1) as restorer:
        with restorer.restore() as restored:
            begin = time.monotonic()
            last = SIZES[1] - 1
            while not made.memory[1][last * PAGE:(last + 1) * PAGE].any():
                last -= 1
            assert restored.buffers[1][last * PAGE:(last + 1) * PAGE] == made.memory[1][
                last * PAGE:(last + 1) * PAGE].tobytes()
            assert time.monotonic() - begin < 10


def test_touches_of_a_restore_are_a_record(made):
    with Restorer(made.path, policy="resume-at-once", prefetch="none") as restorer:
        restored = restorer.restore()
        pages = [page for page in (7, 250, 3, 77, 120) if made.memory[0][page * PAGE:(page + 1) * PAGE].any()]
        for page in pages:
            assert restored.buffers[0][page * PAGE:(page + 1) * PAGE] == made.memory[0][
                page * PAGE:(page + 1) * PAGE].tobytes()
        with pytest.raises(UsageError, match="with prefetch none the rest comes when it is asked for: use finish"):
            restored.wait()
        report = restored.finish()
    made.check(restored.buffers)
    assert report.touches.order == [(0, page) for page in pages]
    assert (np.diff(report.touches.times) > 0).all()
    assert restored.finish() is report, "asking again gives the same"


@pytest.mark.parametrize("kind, options", [
    (Kind.CANNED, {}), (Kind.RAW, {"serial": True}), (Kind.CANNED, {"engine": "paced"})],
    ids=["pipelined", "serial", "paced"])
def test_damaged_data_is_never_installed(made, tmp_path, kind, options):
    path, part = made.damaged(tmp_path, kind)
    buffers = [anonymous(pages) for pages in SIZES]
    with Restorer(path, **options) as restorer:
        with pytest.raises(MonitorError, match=rf"damaged-{kind.name}\.rgs: partition {part.number} ") as caught:
            restorer.restore(buffers)
    assert "CRC-32" in str(caught.value) or "cannot be restored" in str(caught.value)
    assert caught.value.exit_code == 1


def test_an_engine_that_spoils_a_byte_is_found_out(made):
    with snapshot.Snapshot.open(made.path) as opened:
        number = next(part.number for part in opened if part.kind is Kind.CANNED and part.number > 100)
    with Restorer(made.path, engine="sabre_engines:wrong", engine_options={"partition": number}) as restorer:
        with pytest.raises(MonitorError, match=f"partition {number} restores to bytes with CRC-32"):
            restorer.restore()


def test_a_guest_that_needs_a_damaged_page_dies_of_it(made, tmp_path):
    if Feature.POISON not in supported():
        pytest.skip("this kernel has no UFFDIO_POISON (it came with 6.6)")
    path, part = made.damaged(tmp_path, Kind.CANNED)
    with pytest.raises(GuestFailed, match=rf"SIGBUS: .*damaged-CANNED\.rgs: partition {part.number} .*raise SIGBUS"):
        restore_guest(path, [(part.region, part.first_page)], made.image,
                      {"policy": "resume-at-once", "prefetch": "none"})


def test_a_file_that_shrinks_meanwhile_is_an_error(made, tmp_path):
    path = tmp_path / "short.rgs"
    path.write_bytes(made.path.read_bytes())
    with Restorer(path) as restorer:
        os.truncate(path, path.stat().st_size - 2 * PAGE)
        with pytest.raises(MonitorError, match=r"short\.rgs: the file ends at \d+, \d+ bytes short"):
            restorer.restore()


def test_a_damaged_index_is_told_of_before_anything_starts(made, tmp_path):
    data = bytearray(made.path.read_bytes())
    data[PAGE + 200] ^= 1
    path = tmp_path / "index.rgs"
    path.write_bytes(data)
    with pytest.raises(SnapshotError):
        Restorer(path)
    with pytest.raises(FileNotFoundError):
        Restorer(tmp_path / "none.rgs")


def test_an_engine_that_never_answers_is_a_time_out_that_says_so(made):
    with Restorer(made.path, engine="sabre_engines:stuck", timeout=1.5) as restorer:
        with pytest.raises(SabreError, match=r"waited 1.5 s for the engine to finish batches that begin at partitions "
                                             r"\[\d+.* pages were not restored") as caught:
            restorer.restore()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("engine, message, code", [
    ("sabre_engines:crashing", "ZeroDivisionError: no such device", 1),
    ("sabre_engines:lying", "the engine reported partition 999999, which it did not have", 1),
])
def test_engines_that_fail(made, engine, message, code):
    with pytest.raises(MonitorError, match=message) as caught:
        with Restorer(made.path, engine=engine) as restorer:
            restorer.restore()
    assert caught.value.exit_code == code


def test_an_engine_that_is_not_there(made):
    with pytest.raises(Unavailable, match="the engine 'nosuch_module:engine' is not there"):
        Restorer(made.path, engine="nosuch_module:engine")


PREPARED = """
import os
from rackgate_host.sabre.engines import SoftwareEngine

def prepare(report, log):
    report("this takes long")
    with open(log, "a") as file:
        print(os.getpid(), file=file)

def engine(snapshot, plan, arenas, log):
    return SoftwareEngine(snapshot, plan, arenas)
"""


def test_what_takes_long_is_done_before_the_engines_process_waits(made, tmp_path, monkeypatch):
    """A model's build takes longer than the monitor may take to be ready."""
    (tmp_path / "prepared_engine.py").write_text(PREPARED)
    monkeypatch.syspath_prepend(tmp_path)
    log, lines = tmp_path / "log", []
    restore_guest(made.path, options={"engine": "prepared_engine:engine", "engine_options": {"log": str(log)}},
                  report=lines.append)
    assert lines == ["this takes long"] and int(log.read_text().split()[0]) == os.getpid()
    log.unlink()
    with Restorer(made.path, engine="prepared_engine:engine", engine_options={"log": str(log)}):
        assert log.read_text().split() == [str(os.getpid())]


@pytest.mark.parametrize("options, message", [
    ({"policy": "later"}, "policy must be one of eager, working-set-first, resume-at-once, not 'later'"),
    ({"prefetch": "some"}, "prefetch must be one of all, working-set, none, not 'some'"),
    ({"prefetch": "none"}, "policy eager restores all .* prefetch must be all, not none"),
    ({"policy": "working-set-first", "prefetch": "none"}, "prefetch must not be none"),
    ({"policy": "resume-at-once", "serial": True}, "policy must be eager, not resume-at-once"),
    ({"depth": 0}, "depth must be at least 1, not 0"),
    ({"run_pages": 0}, "run_pages must be at least 1, not 0"),
    ({"read_bytes": 100}, "read_bytes must be at least 4096, not 100"),
    ({"timeout": 0}, "timeout must be above 0 s, not 0"),
    ({"throttle": 0}, "throttle must be above 0 bytes/s"),
    ({"latency": -1}, "latency 0 s or more, not None and -1"),
])
def test_options_that_make_no_sense(made, options, message):
    with pytest.raises(UsageError, match=message):
        Restorer(made.path, **options)


def test_an_eager_guest_does_not_wait_for_the_monitors_end(made):
    with Restorer(made.path, engine="sabre_engines:lingering") as restorer:
        restored = restorer.restore()
        made.check(restored.buffers)
        assert Path(f"/proc/{restorer.monitor.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        child = os.fork()
        if not child:
            status = 1
            with contextlib.suppress(BaseException):  # nothing of this may run on in the child
                status = int(bytes(restored.buffers[0]) != made.memory[0].tobytes())  # it has the memory, too
            os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        report = restored.wait()
        assert report.bytes["regions"] == sum(SIZES) * PAGE
        assert gone(restorer.monitor.pid)
    with Restorer(made.path) as restorer:
        restorer.restore()  # nobody asks for the report
        monitor = restorer.monitor.pid
    assert gone(monitor)


def test_memory_of_another_shape_is_refused(made):
    with Restorer(made.path) as restorer:
        with pytest.raises(UsageError, match=r"regions of \[300\] pages, the snapshot of \[300, 84\]"):
            restorer.restore([anonymous(300)])
        made.check(restorer.restore().buffers)
        with pytest.raises(UsageError, match="a Restorer restores once"):
            restorer.restore()


WAITING = """
import sys
from rackgate_host.sabre.restorer import Restorer
restored = Restorer(sys.argv[1], policy="resume-at-once", prefetch="none").restore()
print(restored.monitor.pid, restored.monitor.guard, flush=True)
sys.stdin.readline()
print(restored.buffers[0][0], restored.buffers[0][int(sys.argv[2]) * 4096 + 5], flush=True)
"""


def full_page(made):
    return next(page for page in range(1, SIZES[0]) if made.memory[0][page * PAGE + 5])


def test_a_guest_whose_monitor_dies_is_not_stuck(made):
    """The monitor is stopped, so the guest waits in its fault; then the monitor is killed."""
    if Feature.POISON not in supported():
        pytest.skip("this kernel has no UFFDIO_POISON (it came with 6.6)")
    guest = run(WAITING, made.path, full_page(made), stdin=subprocess.PIPE)
    monitor, guard = map(int, guest.stdout.readline().split())
    os.kill(monitor, signal.SIGSTOP)
    guest.stdin.write("go\n")
    guest.stdin.flush()
    time.sleep(0.3)
    assert guest.poll() is None
    os.kill(monitor, signal.SIGKILL)
    out, _, code = ended(guest)
    assert code == -signal.SIGBUS and out == ""
    until(lambda: gone(guard), "the guard lives on")


def test_nothing_lives_on_when_the_guest_dies(made):
    guest = run(WAITING, made.path, full_page(made), stdin=subprocess.PIPE)
    monitor, guard = map(int, guest.stdout.readline().split())
    children = [int(pid) for pid in Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()]
    assert guard in children and len(children) >= 2
    guest.kill()
    ended(guest)
    for pid in [monitor, *children]:
        until(lambda pid=pid: gone(pid), f"process {pid} lives on")


def test_a_dead_decompression_worker_is_noticed(made):
    with Restorer(made.path, policy="resume-at-once", throttle=made.summary.bytes_out / 20, run_pages=4,
                  read_bytes=PAGE, engine_options={"workers": 1}) as restorer:
        with restorer.restore() as restored:
            worker, = workers(restored.monitor)
            os.kill(worker, signal.SIGKILL)
            with pytest.raises(MonitorError, match=rf"worker \(process {worker}\) was ended by SIGKILL"):
                restored.wait()


def test_the_monitor_that_says_nothing_is_a_time_out(made, monkeypatch):
    monkeypatch.setattr("rackgate_host.sabre.monitor._PATIENCE", 0.2)
    monkeypatch.setattr("rackgate_host.sabre.restorer._SLACK", 0)
    with Restorer(made.path, policy="resume-at-once", prefetch="none", timeout=0.5) as restorer:
        restored = restorer.restore()
        os.kill(restored.monitor.pid, signal.SIGSTOP)
        with pytest.raises(SabreTimeout, match="waited 0.5 s for the restore to get to 'finished'") as caught:
            restored.finish()
    assert caught.value.exit_code == 4
    assert gone(restored.monitor.pid)


CHANGING = """
import ctypes, mmap, sys, threading
import numpy as np
from rackgate_host.sabre.restorer import Restorer
image = open(sys.argv[2], "rb").read()
libc = ctypes.CDLL(None)
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
with Restorer(sys.argv[1], policy="resume-at-once", prefetch="none") as restorer:
    restored = restorer.restore()
    memory = restored.buffers[0]
    assert memory[:4096] == image[:4096]
    memory.madvise(mmap.MADV_DONTNEED, 0, 10 * 4096)
    assert memory[:10 * 4096] == bytes(10 * 4096)
    memory.madvise(mmap.MADV_DONTNEED, 4 * 4096, 2 * 4096)
    memory[5 * 4096] = 7
    same = []
    def touch():
        for page in range(20, 120):
            place = page * 4096
            same.append(ctypes.string_at(address + place, 4096) == image[place:place + 4096])
    address = np.frombuffer(memory, np.uint8).ctypes.data
    threads = [threading.Thread(target=touch) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(same) and len(same) == 300
    report = restored.finish()
    assert memory[:5 * 4096] == bytes(5 * 4096) and memory[5 * 4096] == 7
    assert memory[10 * 4096:] == image[10 * 4096:300 * 4096]
    print(report.pages["removed"])
"""


def test_memory_that_the_guest_gives_back_stays_zero_and_threads_share_pages(made):
    out, err, code = ended(run(CHANGING, made.path, made.image))
    assert code == 0, err
    assert out.split() == ["12"]


LEAVING = """
import sys
from rackgate_host.sabre.restorer import Restorer
with Restorer(sys.argv[1], policy="resume-at-once", prefetch="none").restore() as restored:
    memory = restored.buffers[0]
    memory[0]
print("left", flush=True)
print(memory[0] >= 0, flush=True)
memory[int(sys.argv[2]) * 4096]
print("zeros", flush=True)
"""


def test_what_is_missing_when_a_restore_is_left_is_lost_and_not_zero(made):
    if Feature.POISON not in supported():
        pytest.skip("this kernel has no UFFDIO_POISON (it came with 6.6)")
    out, err, code = ended(run(LEAVING, made.path, full_page(made)))
    assert out.split()[:1] == ["left"] and "zeros" not in out and code == -signal.SIGBUS, err


def test_the_manuals_example_runs(made, tmp_path):
    page = Path(__file__).parents[2] / "docs" / "sabre" / "restore.md"
    text, = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "function.rgs").write_bytes(made.path.read_bytes())
    out, err, code = ended(run(text + "\nprint(first.hex(), report.bytes['regions'])", cwd=tmp_path))
    assert code == 0, err
    assert out.split() == [made.memory[0][:PAGE].tobytes().hex(), str(sum(SIZES) * PAGE)]


def test_closing_an_unused_restorer_ends_its_monitor(made):
    restorer = Restorer(made.path)
    pid = restorer.monitor.pid
    restorer.close()
    assert gone(pid)
    with contextlib.suppress(UsageError):
        restorer.close()


def test_a_guest_that_touches_nearly_all_before_it_listens(made):
    """Words on progress that nobody reads must not fill the channel: the guest would wait in a fault for ever."""
    trace = [(region, page) for region, size in enumerate(SIZES) for page in range(size)]
    result = restore_guest(made.path, trace, made.image, {"policy": "resume-at-once", "prefetch": "none",
                                                          "run_pages": 1, "timeout": 5}, timeout=10)
    assert result["equal"] and not result["wrong"]
    assert result["report"]["demand"]["faults"] > 100
