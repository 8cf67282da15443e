# SPDX-License-Identifier: Apache-2.0
"""Rig R2: a virtual machine that runs on the memory while it is restored. What it reads is compared, and every byte in
the end; guests that stop, hang or need lost pages end in an error; and without KVM there is a reason."""

import json
import mmap
import os
import random
import signal
import threading
import time

import numpy as np
import pytest
from sabre_samples import memory as sample
from typer.testing import CliRunner

from rackgate_host.cli import app, exit_code, sentence
from rackgate_host.errors import Unavailable
from rackgate_host.sabre import guests, kvm, restore_command, snapshot, workload
from rackgate_host.sabre.channel import SabreTimeout
from rackgate_host.sabre.errors import SabreError
from rackgate_host.sabre.format import PAGE, Kind
from rackgate_host.sabre.guests import GuestKind, Original, ProcessToucher, VirtualToucher, make_toucher
from rackgate_host.sabre.kvm import KvmError, Registers, VirtualMachine
from rackgate_host.sabre.userfault import Feature, supported
from rackgate_host.sabre.workload import GuestFailed, record_guest, restore_guest, touch_trace

SIZES = [200, 56]
POLICIES = [("eager", "all"), ("working-set-first", "all"), ("working-set-first", "working-set"),
            ("resume-at-once", "all"), ("resume-at-once", "none")]


@pytest.fixture
def virtual():
    """Skips, with the reason, where this machine has no KVM."""
    try:
        kvm.supported()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def permitted(virtual):
    """Skips where it has no userfaultfd either."""
    try:
        supported()
    except Unavailable as error:
        pytest.skip(str(error))


class Made:
    """A snapshot of two regions, its image, and a trace whose first touches are the working set."""

    def __init__(self, folder, seed, sizes=tuple(SIZES), touches=160):
        dice = random.Random(seed)
        self.sizes, self.path, self.image = list(sizes), folder / "memory.rgs", folder / "memory.img"
        data = sample(dice, sum(sizes))
        self.image.write_bytes(data)
        self.trace = touch_trace(sizes, seed, touches / sum(sizes))
        memory = np.frombuffer(data, np.uint8)
        regions = [snapshot.Region("low", 0, memory[:sizes[0] * PAGE]),
                   snapshot.Region("high", 1 << 32, memory[sizes[0] * PAGE:])]
        snapshot.write(self.path, regions, working_set=list(dict.fromkeys(self.trace))[:touches // 2], jobs=1)

    def damaged(self, folder, kind=Kind.CANNED):
        """A copy with a wrong byte in a partition, and that partition."""
        with snapshot.Snapshot.open(self.path) as opened:
            part = next(part for part in opened if part.kind is kind)
        data = bytearray(self.path.read_bytes())
        data[part.offset + part.size // 2] ^= 0x10
        path = folder / "damaged.rgs"
        path.write_bytes(data)
        return path, part


@pytest.fixture(scope="module")
def made(tmp_path_factory, request):
    return Made(tmp_path_factory.mktemp("kvm"), request.config.getoption("--seed"))


# The machine.


@pytest.fixture
def machine(virtual):
    """A machine with 16 pages of memory from 0; ``run`` puts a program at 0 and runs it."""
    memory = mmap.mmap(-1, 16 * PAGE)
    with VirtualMachine() as made:
        made.map(0, np.frombuffer(memory, np.uint8).ctypes.data, len(memory))

        def run(program, timeout=5.0, **registers):
            memory[:len(program)] = program
            made.registers = Registers(rip=0, rflags=2, **registers)
            made.run(timeout, lambda: made.registers.rcx, lambda left: f"it with {left} to do")
            return made.registers

        made.execute = run
        yield made, memory


def test_a_program_runs_until_it_halts(machine):
    made, memory = machine
    memory[0x3000:0x3004] = (1234).to_bytes(4, "little")
    # mov eax, [0x3000]; inc eax; mov [0x4ffc], eax; hlt
    registers = made.execute(bytes.fromhex("a100300000 40 a3fc4f0000 f4"), rcx=7)
    assert (registers.rax, registers.rcx) == (1235, 7)
    assert memory[0x4FFC:0x5000] == (1235).to_bytes(4, "little")


@pytest.mark.parametrize("program, message", [
    ("a100000200 f4", r"stopped with MMIO at 0x20000, where there is no memory"),  # mov eax, [0x20000]
    ("e620 f4", "stopped with IO"),  # out 0x20, al
    ("0f0b", "stopped with (SHUTDOWN|INTERNAL_ERROR)"),  # ud2, and no interrupt table
])
def test_other_stops_are_errors(machine, program, message):
    with pytest.raises(KvmError, match=message):
        machine[0].execute(bytes.fromhex(program))


def test_a_program_that_never_halts_is_a_time_out(machine):
    begin = time.monotonic()
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(SabreTimeout, match=r"waited 0.4 s for it with 3 to do; its next instruction is at 0x0"):
        machine[0].execute(bytes.fromhex("ebfe"), timeout=0.4, rcx=3)
    assert 0.3 < time.monotonic() - begin < 10
    assert signal.getsignal(signal.SIGALRM) is before and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_program_that_goes_on_is_none(machine):
    # loop $; hlt. How long that takes depends on the machine, so it is given more to do until it takes long enough.
    made, _ = machine
    rounds, seconds = 1 << 18, 0.0
    while seconds < 0.6:
        rounds *= 4
        begin = time.monotonic()
        made.execute(bytes.fromhex("e2fe f4"), timeout=0.3, rcx=rounds)
        seconds = time.monotonic() - begin
    assert made.registers.rcx == 0


def test_run_is_for_the_main_thread(machine):
    found = []

    def run():
        try:
            machine[0].execute(b"\xf4")
        except ValueError as error:
            found.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert found == ["run must be called in the main thread: others are not interrupted by a timer"]


def test_calls_that_fail_are_named(machine):
    with pytest.raises(KvmError, match="KVM_SET_USER_MEMORY_REGION of 100 bytes at 0x100000 failed with EINVAL"):
        machine[0].map(1 << 20, 0x1000, 100)


def test_without_kvm_there_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(kvm, "_DEVICE", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="none cannot be opened: No such file .* has no virtualization"):
        kvm.supported()
    monkeypatch.setattr(kvm, "_DEVICE", "/dev/null")
    with pytest.raises(Unavailable, match="/dev/null is there, but .* KVM_GET_API_VERSION failed with ENOTTY"):
        kvm.supported()
    monkeypatch.setattr(kvm.platform, "machine", lambda: "aarch64")
    with pytest.raises(Unavailable, match="made for Linux on x86_64, not for Linux on aarch64"):
        kvm.supported()


def test_refused_access_has_a_hint(monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kvm.os, "open", refuse)
    with pytest.raises(Unavailable, match="Permission denied: be root or a member of the group kvm"):
        kvm.supported()


def test_another_version_is_refused(virtual, monkeypatch):
    monkeypatch.setattr(kvm, "_API_VERSION", 13)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(Unavailable, match="API version 12; 13 is needed"):
        kvm.supported()
    assert len(os.listdir("/proc/self/fd")) == len(before), "nothing stays open"


# The touchers.


@pytest.mark.parametrize("kind", list(GuestKind))
def test_touchers_compare_what_they_read(made, kind, request):
    if kind is GuestKind.KVM:
        request.getfixturevalue("virtual")
    original = Original(made.image, made.sizes)
    data = np.fromfile(made.image, np.uint8)
    buffers = [data[:SIZES[0] * PAGE], data[SIZES[0] * PAGE:]]
    memory = [mmap.mmap(-1, part.size) for part in buffers]
    for space, part in zip(memory, buffers, strict=True):
        space[:] = part.tobytes()
    trace = [(0, 3), (1, 55), (0, 199), (0, 3), (1, 0)]
    toucher = make_toucher(kind, trace, original, made.sizes)
    toucher.attach(memory)
    assert toucher.follow(5.0) == 0 and original.equal(memory) is True
    memory[0][3 * PAGE:4 * PAGE] = bytes(byte ^ 0xff for byte in memory[0][3 * PAGE:4 * PAGE])
    assert toucher.follow(5.0) == 2, "both touches of the page see it"
    assert original.equal(memory) is False
    toucher.close()


def test_words_of_a_page_are_all_read_by_someone(virtual, made):
    """Which word is read depends on the page, so that a shift of whole words cannot hide."""
    trace = [(0, page) for page in range(SIZES[0])]
    toucher = VirtualToucher(trace, Original(None, made.sizes), made.sizes)
    words = np.frombuffer(toucher._memory, np.uint32)[1024:1024 + len(trace)]
    assert len(set((words % PAGE).tolist())) == len(trace) and (words % 4 == 0).all()
    assert len(set((words // PAGE).tolist())) == len(trace)
    toucher.attach([mmap.mmap(-1, pages * PAGE) for pages in SIZES])
    assert toucher.follow(5.0) == 0, "nobody knows what it should be"
    toucher.close()


def test_what_cannot_be_touched(virtual, made):
    original = Original(None, SIZES)
    with pytest.raises(SabreError, match=r"the trace touches page 200 of region 0; the regions have \[200, 56\] pages"):
        make_toucher("kvm", [(0, 200)], original, SIZES)
    with pytest.raises(SabreError, match="its memory must be at most 786432 pages with the trace, not 786433"):
        make_toucher("kvm", [], original, [786432])
    with pytest.raises(ValueError, match="'xen' is not a valid GuestKind"):
        make_toucher("xen", [], original, SIZES)
    empty = make_toucher("kvm", [], original, SIZES)
    assert empty.follow(1.0) == 0
    empty.close()
    assert isinstance(make_toucher("process", [], original, SIZES), ProcessToucher)
    assert guests.kvm_module()


# Restores and records.


@pytest.mark.parametrize("policy, prefetch", POLICIES)
def test_a_virtual_machine_sees_the_right_bytes_with_every_policy(permitted, made, policy, prefetch):
    result = restore_guest(made.path, made.trace, made.image, {"policy": policy, "prefetch": prefetch}, guest="kvm")
    assert (result["equal"], result["wrong"], result["touches"]) == (True, 0, len(made.trace))
    assert 0 < result["resume_seconds"] <= result["guest_seconds"]
    faults = result["report"]["demand"]["faults"]
    if policy == "eager":
        assert faults == 0
    elif prefetch == "none":
        assert faults > 20, "its touches are faults that the monitor served"


@pytest.mark.parametrize("options", [{"engine": "paced"}, {"serial": True}, {"engine_options": {"codec": "zlib"}}])
def test_other_engines_and_flows(permitted, made, options):
    result = restore_guest(made.path, made.trace, made.image, options, guest="kvm")
    assert (result["equal"], result["wrong"]) == (True, 0)


def test_a_virtual_machine_is_recorded_as_a_process_is(permitted, made):
    found = {}
    for guest in GuestKind:
        touches, result = record_guest(made.image, made.sizes, made.trace, guest=guest)
        assert (result["equal"], result["wrong"]) == (True, 0)
        found[guest] = touches.order
    assert found[GuestKind.KVM] == found[GuestKind.PROCESS] == list(dict.fromkeys(made.trace))


def test_wrong_bytes_are_found(permitted, made, tmp_path):
    data = bytearray(made.image.read_bytes())
    region, page = made.trace[0]
    start = (page + SIZES[0] * region) * PAGE
    data[start:start + PAGE] = bytes(byte ^ 1 for byte in data[start:start + PAGE])
    other = tmp_path / "other.img"
    other.write_bytes(data)
    result = restore_guest(made.path, made.trace, other, guest="kvm")
    assert (result["equal"], result["wrong"]) == (False, made.trace.count(made.trace[0]))


def test_a_virtual_machine_that_needs_a_damaged_page_dies_of_it(permitted, made, tmp_path):
    if Feature.POISON not in supported():
        pytest.skip("this kernel has no UFFDIO_POISON (it came with 6.6)")
    path, part = made.damaged(tmp_path)
    with pytest.raises(GuestFailed, match=rf"SIGBUS: .*damaged\.rgs: partition {part.number} .*raise SIGBUS"):
        restore_guest(path, [(part.region, part.first_page)], made.image,
                      {"policy": "resume-at-once", "prefetch": "none"}, timeout=20, guest="kvm")
    with pytest.raises(SabreError, match=rf"damaged\.rgs: partition {part.number} "):
        restore_guest(path, made.trace, made.image, guest="kvm")


def test_a_page_that_never_comes_is_a_time_out(permitted, made):
    begin = time.monotonic()
    with pytest.raises(SabreError, match="SIGBUS: .*waited 1 s for the engine to finish"):
        restore_guest(made.path, made.trace, made.image, {
            "engine": "sabre_engines:stuck", "policy": "resume-at-once", "timeout": 1.0}, timeout=3.0, guest="kvm")
    assert time.monotonic() - begin < 30


def test_a_guest_without_kvm_is_an_error_with_a_reason(permitted, made, monkeypatch):
    script = ("from rackgate_host.sabre import kvm; kvm._DEVICE = '/no/kvm'; "
              "from rackgate_host.sabre.workload import main; main()")
    monkeypatch.setattr(workload, "_START", script)
    with pytest.raises(SabreError, match="/no/kvm cannot be opened") as caught:
        restore_guest(made.path, made.trace, made.image, guest="kvm")
    assert caught.value.exit_code == 3


def invoke(*arguments):
    """The command's exit code, output and error; codes of exceptions as `rackgate` gives them."""
    done = CliRunner().invoke(app, ["sabre", *map(str, arguments)])
    if done.exception is None or isinstance(done.exception, SystemExit):
        return done.exit_code, done.stdout, done.stderr
    return exit_code(done.exception), done.stdout, sentence(done.exception)


def test_the_commands(permitted, tmp_path, made):
    touches, path = tmp_path / "t.json", tmp_path / "g.rgs"
    code, out, err = invoke("record", made.image, "-o", touches, "--snapshot", path, "--runs", 1, "--guest", "kvm",
                            "--json")
    assert code == 0, err
    assert json.loads(out)["guest"] == "kvm" and json.loads(out)["runs"][0]["equal"] is True
    code, out, err = invoke("restore", path, "--trace", touches, "--compare", made.image, "--guest", "kvm", "--policy",
                            "resume-at-once", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["guest"], report["equal"], report["wrong"]) == ("kvm", True, 0) and report["kvm"]


def test_without_kvm_the_commands_say_so(monkeypatch, made):
    monkeypatch.setattr(restore_command, "supported", lambda: None)
    monkeypatch.setattr(kvm, "_DEVICE", "/no/kvm")
    for arguments in (["record", made.image], ["restore", made.path]):
        code, _, err = invoke(*arguments, "--guest", "kvm")
        assert code == 3 and "/no/kvm cannot be opened" in err


@pytest.mark.soak
@pytest.mark.parametrize("round", range(6))
def test_many_restores_under_kvm(permitted, tmp_path, seed, round):
    dice = random.Random(seed * 1000 + round)
    sizes = [dice.randrange(1000, 6000), dice.randrange(1, 2000)]
    made = Made(tmp_path, seed * 1000 + round, sizes, dice.randrange(100, sum(sizes)))
    for policy, prefetch in POLICIES:
        for options in ({}, {"engine": "paced"}, {"throttle": dice.choice([20e6, 100e6])}):
            result = restore_guest(made.path, made.trace, made.image, {"policy": policy, "prefetch": prefetch,
                                                                       **options}, 120.0, guest="kvm")
            assert (result["equal"], result["wrong"]) == (True, 0), (policy, prefetch, options)
    touches, result = record_guest(made.image, sizes, made.trace, 120.0, guest="kvm")
    assert result["equal"] and touches.order == list(dict.fromkeys(made.trace))
