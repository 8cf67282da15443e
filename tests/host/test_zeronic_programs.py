# SPDX-License-Identifier: Apache-2.0
"""Which programs are not split, and the making of the shim."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from rackgate_host.errors import Unavailable
from rackgate_host.zeronic import shim
from rackgate_host.zeronic.programs import why_unsplit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="simulated hosts are Linux")


def executable(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    path.chmod(0o755)
    return str(path)


def elf(machine: int, interpreter: bytes | None) -> bytes:
    """The beginning of a program with one program header."""
    kind = 3 if interpreter is not None else 1
    text = (interpreter or b"") + b"\0"
    header = struct.pack("<4sBB10xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", kind, 4, 120, 0, 0, len(text), len(text), 1) + text


def own_machine() -> int:
    return struct.unpack_from("<H", Path(sys.executable).read_bytes(), 18)[0]


def test_programs_that_the_shim_serves() -> None:
    assert why_unsplit(sys.executable) is None
    assert why_unsplit("sh") is None
    assert why_unsplit("no-such-program") is None
    assert why_unsplit("sh", {"PATH": "/nowhere"}) is None


@pytest.mark.parametrize(("machine", "interpreter", "why"), [
    (0, b"/lib64/ld-linux-x86-64.so.2", None), (0, None, "is linked statically"),
    (0, b"/lib/ld-musl-x86_64.so.1", "uses another C library (musl)"),
    (0xFFF0, b"/lib/ld.so", "another kind of machine"),
])
def test_programs_that_it_does_not(tmp_path: Path, machine: int, interpreter: bytes | None, why: str | None) -> None:
    program = executable(tmp_path / "program", elf(machine or own_machine(), interpreter))
    script = executable(tmp_path / "script", f"#!{program} -x\n".encode())
    by_name = executable(tmp_path / "by-name", b"#!/usr/bin/env program\n")
    for named in (program, script):
        found = why_unsplit(named)
        assert found is None if why is None else found is not None and why in found and program in found
    found = why_unsplit(by_name, {"PATH": str(tmp_path)})
    assert (found is None) == (why is None)


@pytest.mark.parametrize("content", [b"", b"#!", b"#!\n", b"\x7fELF", b"text", b"#!/nowhere/at/all\n"])
def test_files_that_are_no_programs(tmp_path: Path, content: bytes) -> None:
    assert why_unsplit(executable(tmp_path / "file", content)) is None


def test_a_script_that_names_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    assert why_unsplit(executable(path, f"#!{path}\n".encode())) is None


def test_io_uring_is_not_there_any_more() -> None:
    script = ("import ctypes, errno\nfrom rackgate_host.zeronic.errors import NoHosts\n"
              "from rackgate_host.zeronic.programs import forbid_io_uring\n"
              "libc = ctypes.CDLL(None, use_errno=True)\n"
              "try:\n    forbid_io_uring()\nexcept NoHosts as error:\n    print('cannot', error)\nelse:\n"
              "    assert libc.syscall(425, 1, None) == -1 and ctypes.get_errno() == errno.ENOSYS\n"
              "    assert libc.getpid() > 0\n    print('done')\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if done.stdout.startswith("cannot"):
        pytest.skip(done.stdout)
    assert done.stdout == "done\n"


def test_the_shim_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKGATE_CC", "no-such-compiler")
    with pytest.raises(Unavailable, match="no-such-compiler is missing: sudo apt-get install gcc"):
        shim.library()


def test_the_shim_with_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = b"#!/bin/sh\nif [ $1 = --version ]; then exit 0; fi\necho 'no headers'; exit 1\n"
    broken = executable(tmp_path / "cc", script)
    monkeypatch.setenv("RACKGATE_CC", broken)
    monkeypatch.setenv("RACKGATE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match="cc cannot compile the sockets shim(.|\n)*no headers"):
        shim.library()


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="there is no C compiler")
def test_the_shim_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RACKGATE_CACHE", str(tmp_path))
    made = shim.library()
    assert made.is_relative_to(tmp_path)
    before = made.stat()
    assert shim.library() == made and made.stat() == before
    assert [path.name for path in made.parent.parent.iterdir()] == [made.parent.name]


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="there is no C compiler")
def test_a_program_without_hosts_runs_as_ever() -> None:
    for environment, told in (({}, "is not set: connections are not split"),
                              ({"RACKGATE_ZERONIC_SOCKET": "/" + "x" * 200}, "is too long: connections are not split"),
                              ({"RACKGATE_ZERONIC_SOCKET": "/nowhere"}, None)):
        done = subprocess.run(["cat", "/dev/null"], capture_output=True, text=True,
                              env={"PATH": "/bin:/usr/bin", "LD_PRELOAD": str(shim.library()), **environment})
        assert done.returncode == 0
        assert told in done.stderr if told else done.stderr == ""


@pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="there is no C compiler")
def test_without_a_daemon_connections_fail_and_say_so() -> None:
    script = ("import socket\nfor work in (lambda one: one.connect(('192.0.2.1', 9)), lambda one: one.listen()):\n"
              "    with socket.socket() as one:\n        try:\n            work(one)\n"
              "        except OSError as error:\n            print(error.errno)\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          env={"LD_PRELOAD": str(shim.library()), "RACKGATE_ZERONIC_SOCKET": "/nowhere"})
    assert done.stdout.split() == ["100", "100"], done.stderr
