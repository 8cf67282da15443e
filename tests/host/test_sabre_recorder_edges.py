# SPDX-License-Identifier: Apache-2.0
"""What guests do while they are recorded: they unmap and move memory, fork, find pages that are there, go away; several
are recorded at a time. None hangs, and what was touched is told. Guests are processes of their own."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rackgate_host.errors import Unavailable
from rackgate_host.sabre.userfault import Feature, supported

BEGIN = """
import ctypes, mmap, os, signal, sys
import numpy as np
from rackgate_host.sabre.owner import anonymous
from rackgate_host.sabre.recorder import Recorder
PAGE = 4096
library = ctypes.CDLL(None, use_errno=True)
library.mremap.restype = ctypes.c_void_p
source = np.random.default_rng(1).integers(1, 256, 64 * PAGE, np.uint8)
def new():
    memory = anonymous(64)
    return memory, np.frombuffer(memory, np.uint8).ctypes.data
def read(address, page=0):
    return ctypes.string_at(address + page * PAGE, PAGE)
def wanted(page):
    return source[page * PAGE:(page + 1) * PAGE].tobytes()
memory, address = new()
"""


@pytest.fixture(autouse=True)
def permitted():
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))


def start(script):
    return subprocess.Popen([sys.executable, "-c", BEGIN + script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            stdin=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def run(script):
    """A guest's output. It must end well, and soon."""
    child = start(script)
    try:
        out, err = child.communicate(timeout=40)
    finally:
        child.kill()
    assert child.returncode == 0, err
    return out.split()


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_memory_that_is_unmapped_meanwhile():
    assert run("""
with Recorder([source]) as recorder:
    recorder.attach([memory])
    assert read(address, 3) == wanted(3)
    assert library.munmap(ctypes.c_void_p(address + 20 * PAGE), ctypes.c_size_t(10 * PAGE)) == 0
    assert read(address, 40) == wanted(40)
    touches = recorder.stop()
for page in [*range(20), *range(30, 64)]:
    assert read(address, page) == wanted(page), page
print(*touches.pages.tolist(), touches.removed)
sys.stdout.flush()
os._exit(0)  # nobody may unmap it twice
""") == ["3", "40", "10"]


def test_memory_that_is_moved_meanwhile():
    assert run("""
with Recorder([source]) as recorder:
    recorder.attach([memory])
    assert read(address, 3) == wanted(3)
    other = library.mremap(ctypes.c_void_p(address), ctypes.c_size_t(64 * PAGE), ctypes.c_size_t(64 * PAGE),
                           ctypes.c_int(1 | 2), ctypes.c_void_p(address + (1 << 32)))
    assert other == address + (1 << 32), ctypes.get_errno()
    assert read(other, 7) == wanted(7)
    touches = recorder.stop()
for page in range(64):
    assert read(other, page) == wanted(page), page
print(*touches.pages.tolist())
sys.stdout.flush()
os._exit(0)  # the mapping is elsewhere now: nobody may unmap where it was
""") == ["3", "7"]


def test_pages_that_are_there_already():
    """A page that somebody else has put there is left alone and is no touch."""
    assert run("""
with Recorder([source]) as recorder:
    recorder.attach([memory])
    page = np.full(PAGE, 7, np.uint8)
    buffer = mmap.mmap(-1, PAGE)
    buffer[:] = page.tobytes()
    place = np.frombuffer(buffer, np.uint8).ctypes.data
    assert recorder._userfault.copy(address + 5 * PAGE, place, PAGE) == (PAGE, 0)
    assert read(address, 5) == page.tobytes() and read(address, 6) == wanted(6)
    touches = recorder.stop()
assert read(address, 5) == page.tobytes()
assert all(read(address, page) == wanted(page) for page in range(64) if page != 5)
print(*touches.pages.tolist())
""") == ["6"]


def test_a_guest_that_forks():
    """The child does not get the memory, and neither of them hangs."""
    assert run("""
with Recorder([source]) as recorder:
    recorder.attach([memory])
    assert read(address, 1) == wanted(1)
    child = os.fork()
    if not child:
        read(address, 2)  # SIGSEGV: it is not mapped there
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGSEGV
    assert read(address, 2) == wanted(2)
    touches = recorder.stop()
child = os.fork()
if not child:
    os._exit(read(address, 60) != wanted(60))  # the record is over: it gets the memory now
assert os.waitpid(child, 0)[1] == 0
print(*touches.pages.tolist())
""") == ["1", "2"]


def test_recorders_side_by_side():
    assert run("""
others = [new() for _ in range(3)]
recorders = [Recorder([source]) for _ in others]
for recorder, (space, _) in zip(recorders, others):
    recorder.attach([space])
for turn in range(4):
    for number, (_, place) in enumerate(others):
        assert read(place, 10 * number + turn) == wanted(10 * number + turn)
for recorder in recorders:
    print(*recorder.stop().pages.tolist())
""") == [str(10 * number + turn) for number in range(3) for turn in range(4)]


def test_calls_that_make_no_sense():
    assert run("""
recorder = Recorder([source])
try:
    recorder.stop()
except Exception as error:
    print(type(error).__name__)
recorder.close()
with Recorder([source]) as recorder:
    recorder.attach([memory])
    try:
        recorder.attach([new()[0]])
    except Exception as error:
        print(type(error).__name__)
    assert read(address, 9) == wanted(9)
    assert recorder.stop().pages.tolist() == [9]
    try:
        recorder.stop()
    except Exception as error:
        print(type(error).__name__)
""") == ["UsageError"] * 3


WAITING = """
recorder = Recorder([source])
recorder.attach([memory])
assert read(address, 1) == wanted(1)
print(recorder.monitor.pid, recorder.monitor.guard, flush=True)
sys.stdin.readline()
read(address, 2)
print("went on", flush=True)
"""


def test_a_guest_whose_recorder_dies_is_not_stuck():
    if Feature.POISON not in supported():
        pytest.skip("this kernel has no UFFDIO_POISON (it came with 6.6)")
    guest = start(WAITING)
    monitor, guard = map(int, guest.stdout.readline().split())
    os.kill(monitor, signal.SIGKILL)
    until(lambda: gone(guard), "the guard lives on")
    out, _ = guest.communicate("go\n", timeout=20)
    assert guest.returncode == -signal.SIGBUS and out == ""


def test_nothing_lives_on_when_a_recorded_guest_dies():
    guest = start(WAITING)
    monitor, guard = map(int, guest.stdout.readline().split())
    guest.kill()
    guest.communicate(timeout=20)
    for pid in (monitor, guard):
        until(lambda pid=pid: gone(pid), f"process {pid} lives on")
