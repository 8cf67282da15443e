# SPDX-License-Identifier: Apache-2.0
"""userfaultfd itself: what is installed, what is refused, and which events come. Faults come from threads that wait in
the C library, without Python's lock."""

import ctypes
import errno
import mmap
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rackgate_host.errors import Unavailable
from rackgate_host.sabre import userfault
from rackgate_host.sabre.errors import SabreError
from rackgate_host.sabre.guest_memory import GONE, MISSING, POISONED, PRESENT, REMOVED, GuestMemory
from rackgate_host.sabre.owner import OwnedMemory, anonymous
from rackgate_host.sabre.userfault import PAGE, EventKind, Feature, Progress, Userfault, UserfaultError, supported

libc = ctypes.CDLL(None, use_errno=True)
libc.memcpy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
libc.mremap.restype = ctypes.c_void_p
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


@pytest.fixture(autouse=True)
def permitted():
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))


class Region:
    """Registered memory of ``pages`` pages, and a page of source bytes."""

    def __init__(self, pages, features=None):
        self.map = anonymous(pages)
        self.owned = OwnedMemory([self.map])
        self.fault = Userfault.open(features)
        self.owned.register(self.fault)
        self.address = self.owned.regions[0][0]
        self.pages = pages
        self.source = OwnedMemory([anonymous(pages)])
        self.source.arrays[0][:] = [1 + number // PAGE % 250 for number in range(pages * PAGE)]
        self.memory = GuestMemory(self.fault, self.owned.regions)

    @property
    def source_address(self):
        return self.source.regions[0][0]

    def at(self, page):
        return self.address + page * PAGE

    def touch(self, page):
        """Read a byte of the page in a thread; what it reads is in the list when the thread is done."""
        seen = ctypes.create_string_buffer(1)
        thread = threading.Thread(target=libc.memcpy, args=(ctypes.addressof(seen), self.at(page), 1), daemon=True)
        thread.start()
        return thread, seen


@pytest.fixture
def region():
    made = []

    def make(pages, features=None):
        made.append(Region(pages, features))
        return made[-1]

    yield make
    for item in made:
        item.fault.close()


def serve(r, condition):
    """Read events until ``condition()``."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the event did not come"
        r.fault.wait(0.01)
        r.memory.drain()


def join(thread):
    thread.join(10)
    assert not thread.is_alive(), "the thread is stuck in its fault"


def test_copied_pages_are_there_without_a_fault(region):
    r = region(4)
    assert r.fault.copy(r.at(1), r.source_address + PAGE, 2 * PAGE) == Progress(2 * PAGE, 0)
    assert r.fault.zero(r.at(3), PAGE) == Progress(PAGE, 0)
    assert r.map[PAGE:3 * PAGE] == b"\2" * PAGE + b"\3" * PAGE
    assert r.map[3 * PAGE:] == bytes(PAGE)


def test_a_page_that_is_there_is_never_written(region):
    r = region(3)
    r.fault.copy(r.at(1), r.source_address, PAGE)
    assert r.fault.copy(r.at(1), r.source_address + PAGE, PAGE) == Progress(0, errno.EEXIST)
    assert r.fault.zero(r.at(1), PAGE) == Progress(0, errno.EEXIST)
    assert r.fault.copy(r.at(0), r.source_address, 3 * PAGE) == Progress(PAGE, errno.EAGAIN)
    assert r.map[PAGE] == 1


def test_unmapped_memory_is_reported_as_such(region):
    r = region(2)
    r.fault.unregister(r.address, 2 * PAGE)
    assert r.fault.copy(r.at(0), r.source_address, PAGE) == Progress(0, errno.ENOENT)


def test_errors_name_the_call_the_range_and_the_number(region):
    r = region(1)
    wanted = rf"UFFDIO_COPY of 4096 bytes at {r.address:#x} failed with EFAULT"
    with pytest.raises(UserfaultError, match=wanted) as caught:
        r.fault.copy(r.address, 1 << 46, PAGE)
    assert caught.value.errno == errno.EFAULT and not caught.value.memory_gone
    with pytest.raises(ValueError, match="address must be a multiple of 4096, not 0x1"):
        r.fault.register(1, PAGE)
    with pytest.raises(ValueError, match="length must be a multiple of 4096, not 0xa"):
        r.fault.register(PAGE, 10)
    with pytest.raises(UserfaultError, match="UFFDIO_REGISTER"):
        r.fault.register(1 << 46, PAGE)


def test_a_fault_is_an_event_and_its_page_frees_the_thread(region):
    r = region(8)
    assert r.fault.events() == [] and not r.fault.wait(0)
    thread, seen = r.touch(5)
    assert r.fault.wait(10)
    event, = r.fault.events()
    assert (event.kind, event.start, event.write) == (EventKind.PAGEFAULT, r.at(5), False)
    r.fault.copy(r.at(5), r.source_address + 5 * PAGE, PAGE)
    join(thread)
    assert seen.raw == b"\6"


def test_events_of_many_threads_are_read_in_batches(region):
    r = region(20)
    threads = [r.touch(page)[0] for page in range(20)]
    seen = set()
    while len(seen) < 20:
        assert r.fault.wait(10)
        events = r.fault.events(limit=7)
        assert len(events) <= 7
        seen |= {event.start for event in events}
    assert seen == {r.at(page) for page in range(20)}
    r.fault.copy(r.address, r.source_address, 20 * PAGE)
    for thread in threads:
        join(thread)


def test_a_page_faulted_by_two_threads_is_installed_once(region):
    r = region(1)
    threads = [r.touch(0) for _ in range(2)]
    while len(r.memory.faults) < 2:
        assert r.fault.wait(10)
        r.memory.drain()
    assert r.memory.copy(0, 1, r.source_address) == 1
    assert r.memory.state[0] == PRESENT and r.memory.copy(0, 1, r.source_address + PAGE) == 0
    r.memory.wake(0)
    for thread, seen in threads:
        join(thread)
        assert seen.raw == b"\1"
    assert r.memory.repeated == 1


def test_a_page_that_keeps_faulting_is_an_error(region, monkeypatch):
    monkeypatch.setattr("rackgate_host.sabre.guest_memory._REPEATS", 3)
    r = region(1)
    for _ in range(3):
        r.memory.wake(0)
    with pytest.raises(SabreError, match="was installed and has faulted 4 times since"):
        r.memory.wake(0)


def test_poisoned_pages_do_not_hang(region):
    if Feature.POISON not in supported():
        pytest.skip("this kernel has no UFFDIO_POISON (it came with 6.6)")
    script = ("import ctypes, sys; from test_sabre_userfault import Region; r = Region(3)\n"
              "r.fault.copy(r.at(1), r.source_address, 4096); print(r.memory.poison(), flush=True)\n"
              "print(r.map[4096], flush=True); r.map[0]")
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])})
    assert child.stdout.split() == ["3", "1"], child.stderr
    assert child.returncode == -7, "SIGBUS for the page that is lost"


def test_poison_marks_what_is_missing(region):
    if Feature.POISON not in supported():
        pytest.skip("this kernel has no UFFDIO_POISON (it came with 6.6)")
    r = region(4)
    r.memory.copy(2, 1, r.source_address)
    assert r.memory.poison() == 3
    assert list(r.memory.state[:4]) == [POISONED, POISONED, PRESENT, POISONED]
    assert r.map[2 * PAGE] == 1


def test_without_poison_the_registration_ends(region):
    r = region(2, Feature.EVENT_REMOVE)
    thread, seen = r.touch(0)
    assert r.fault.wait(10)
    assert r.memory.poison() == 2
    join(thread)
    assert seen.raw == b"\0"


def test_memory_given_back_reads_as_zero_however_often(region):
    r = region(6)
    r.memory.copy(0, 2, r.source_address)
    for _ in range(2):
        advice = threading.Thread(target=libc.madvise, args=(r.at(1), 3 * PAGE, mmap.MADV_DONTNEED), daemon=True)
        advice.start()
        serve(r, lambda advice=advice: r.memory.state[1] == REMOVED and not advice.is_alive())
        assert r.memory.copy(0, 6, r.source_address) in (0, 2)
        thread, seen = r.touch(1)
        assert r.fault.wait(10)
        r.memory.drain()
        assert r.memory.faults.pop()[0] == 1
        r.memory.zero_again(1)
        join(thread)
        assert seen.raw == b"\0"
    assert list(r.memory.state[:6]) == [PRESENT, REMOVED, REMOVED, REMOVED, PRESENT, PRESENT]
    assert r.memory.removed == 6


def test_installing_waits_for_a_change_of_mappings(region):
    """While madvise waits for its event to be read, UFFDIO_COPY gives EAGAIN: the event is read, then it goes on."""
    r = region(64)
    advice = threading.Thread(target=libc.madvise, args=(r.at(10), 4 * PAGE, mmap.MADV_DONTNEED), daemon=True)
    advice.start()
    assert r.fault.wait(10)
    assert r.fault.copy(r.at(0), r.source_address, PAGE).stopped == errno.EAGAIN
    assert r.memory.copy(0, 64, r.source_address) == 60
    join(advice)
    assert r.memory.state.count(REMOVED) == 4 and r.memory.missing() == 0


def test_unmapped_parts_are_left_out(region):
    r = region(9)
    unmap = threading.Thread(target=libc.munmap, args=(r.at(3), 2 * PAGE), daemon=True)
    unmap.start()
    serve(r, lambda: GONE in r.memory.state[:9] and not unmap.is_alive())
    assert r.memory.copy(0, 9, r.source_address) == 7
    assert list(r.memory.state[:9]) == [1, 1, 1, GONE, GONE, 1, 1, 1, 1]
    assert r.map[8 * PAGE] == 9


def test_a_mapping_in_pieces_is_filled_page_by_page(region):
    """mprotect cuts a mapping: one UFFDIO_COPY over both pieces gives ENOENT."""
    r = region(6)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert libc.mprotect(r.at(2), 2 * PAGE, mmap.PROT_READ) == 0
    assert r.fault.copy(r.at(0), r.source_address, 6 * PAGE) == Progress(0, errno.ENOENT)
    assert r.memory.copy(0, 6, r.source_address) == 6
    assert [r.map[page * PAGE] for page in range(6)] == [1, 2, 3, 4, 5, 6]


def test_a_moved_region_is_followed(region):
    r = region(5, supported() & ~Feature.EVENT_FORK)
    target = []
    thread = threading.Thread(target=lambda: target.append(libc.mremap(r.address, 5 * PAGE, 10 * PAGE, 1)), daemon=True)
    thread.start()
    serve(r, lambda: not thread.is_alive())
    moved = r.memory.addresses[0]
    if target[0] == r.address:
        pytest.skip("the kernel enlarged the mapping in place")
    assert moved == target[0]
    assert r.memory.copy(0, 5, r.source_address) == 5
    assert ctypes.string_at(moved + 4 * PAGE, 1) == b"\5"


def test_pages_that_nobody_here_installed_are_an_error_when_strict(region):
    r = region(3)
    r.fault.copy(r.at(1), r.source_address, PAGE)
    with pytest.raises(SabreError, match="was there before it was restored"):
        r.memory.copy(0, 3, r.source_address)
    relaxed = GuestMemory(r.fault, r.owned.regions, strict=False)
    assert relaxed.copy(0, 3, r.source_address) == 1
    assert relaxed.foreign == 2


def test_page_numbers_of_regions_never_touch():
    memory = GuestMemory(Userfault.adopt(-1, Feature(0)), [(0x10000, 2), (0x12000, 3)])
    assert memory.first == [0, 3]
    assert [memory.page(address) for address in (0x10000, 0x11FFF, 0x12000, 0x14FFF, 0x15000, 0xFFFF)] == [
        0, 1, 3, 5, None, None]
    assert [memory.region(page) for page in (0, 1, 3, 5)] == [(0, 0), (0, 1), (1, 0), (1, 2)]
    assert memory.address(5) == 0x14000
    assert list(memory.runs()) == [(0, 2), (3, 3)]
    memory.state[4] = PRESENT
    assert list(memory.runs()) == [(0, 2), (3, 1), (5, 1)] and memory.missing() == 4
    assert list(memory.runs(PRESENT)) == [(4, 1)] and memory.state.count(MISSING) == 4


@pytest.mark.parametrize("shape, message", [
    ("readonly", "region 0 must be writable memory"),
    ("odd", "region 0 must be whole pages"),
    ("shifted", "region 0 must be whole pages"),
])
def test_memory_that_cannot_be_served_is_refused(shape, message):
    whole = anonymous(2)
    buffer = {"readonly": bytes(PAGE), "odd": memoryview(whole)[:100],
              "shifted": memoryview(whole)[64:64 + PAGE]}[shape]
    with pytest.raises(ValueError, match=message):
        OwnedMemory([buffer])


def test_a_mapping_needs_a_page():
    with pytest.raises(ValueError, match="pages must be 1 or more, not 0"):
        anonymous(0)


def test_features_that_the_kernel_lacks_are_named(monkeypatch):
    monkeypatch.setattr(userfault, "supported", lambda: Feature.EVENT_REMOVE)
    with pytest.raises(Unavailable, match="lacks <Feature.POISON: 16384>") as caught:
        Userfault.open(Feature.POISON)
    assert caught.value.exit_code == 3


def test_without_permission_the_command_ends_with_3_and_a_hint():
    """As an ordinary user on a machine where only root may: the process gives root up after it has loaded all."""
    switch, device = Path("/proc/sys/vm/unprivileged_userfaultfd"), Path("/dev/userfaultfd")
    if os.geteuid() or switch.read_text().strip() != "0" or device.exists() and device.stat().st_mode & 6:
        pytest.skip("needs root, and a system that permits userfaultfd to root only")
    script = ("import contextlib, os, sys; from rackgate_host.cli import main\n"
              "sys.argv = ['rackgate', 'sabre', 'restore', '--help']\n"
              "with contextlib.suppress(SystemExit): main()\n"
              "sys.argv[3:] = ['x.rgs']; os.setgroups([]); os.setuid(65534); main()")
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert child.returncode == 3, child.stderr
    assert "sysctl vm.unprivileged_userfaultfd=1" in child.stderr and "Traceback" not in child.stderr
