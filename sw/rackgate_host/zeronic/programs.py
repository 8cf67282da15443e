# SPDX-License-Identifier: Apache-2.0
"""Programs that the sockets shim cannot serve: which they are, and keeping them from reading placeholders."""

import ctypes
import errno
import os
import shutil
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import NoHosts

__all__ = ["forbid_io_uring", "why_unsplit"]

_ELF_HEADER = struct.Struct("<4s2s10x2xH4x8xQ8x4x2xHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQ")
_INTERPRETER = 3
_SCRIPTS_MOST = 4

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _ERROR = 0x7FFF_0000, 0x0005_0000
#: Number of io_uring_setup, on all machines.
_IO_URING_SETUP = 425
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


def why_unsplit(program: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Why payload of ``program`` (a name on the path, or a file) goes through the kernel, or None if it does not.

    Looks at its file only. Of a script it is the interpreter that counts. A program that is not there, or cannot be
    read, gives None: to run it will tell.
    """
    path = os.environ.get("PATH") if environment is None else environment.get("PATH")
    found = shutil.which(program, path=path)
    for _ in range(_SCRIPTS_MOST):
        if found is None:
            return None
        try:
            with Path(found).open("rb") as file:
                head = file.read(1 << 16)
        except OSError:
            return None
        if not head.startswith(b"#!"):
            reason = _why_elf_unsplit(head)
            return f"{found} {reason}: its connections go through the kernel, unsplit" if reason else None
        words = head[2:].split(b"\n", 1)[0].decode(errors="replace").split()
        if not words:
            return None
        # `env NAME` looks for the interpreter itself.
        named = words[1] if Path(words[0]).name == "env" and len(words) > 1 else words[0]
        found = shutil.which(named, path=path)
    return None


class _Elf(NamedTuple):
    """What counts of an ELF file's header: kind is its word size and byte order."""

    magic: bytes
    kind: bytes
    machine: int
    table: int
    entry_size: int
    entries: int

    @classmethod
    def of(cls, head: bytes) -> "_Elf | None":
        if len(head) < _ELF_HEADER.size or not head.startswith(b"\x7fELF"):
            return None
        return cls(*_ELF_HEADER.unpack_from(head))


def _why_elf_unsplit(head: bytes) -> str | None:
    elf, own = _Elf.of(head), _Elf.of(Path(sys.executable).read_bytes()[:_ELF_HEADER.size])
    if elf is None:
        return None
    if own is not None and (elf.kind, elf.machine) != (own.kind, own.machine):
        return "is for another kind of machine than the sockets shim"
    for k in range(elf.entries):
        at = elf.table + elf.entry_size * k
        if at + _PROGRAM_HEADER.size > len(head):
            return None
        kind, _, offset, _, _, length = _PROGRAM_HEADER.unpack_from(head, at)
        if kind == _INTERPRETER:
            loader = head[offset:offset + length].rstrip(b"\0")
            return "uses another C library (musl) than the sockets shim" if b"ld-musl" in loader else None
    return "is linked statically"


class _Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint16), ("code", ctypes.c_void_p)]


def forbid_io_uring() -> None:
    """From now on io_uring is not there for this process and what it starts, as on a kernel without it.

    It reads and writes sockets by ways that the shim does not see: a program that connects by the C library and then
    reads by io_uring would get placeholders. Programs that would use it fall back to what the shim serves.

    Raises :class:`NoHosts` if the kernel does not allow that.
    """
    steps = [(_LOAD, 0, 0, 0), (_IF_EQUAL, 0, 1, _IO_URING_SETUP), (_RETURN, 0, 0, _ERROR | errno.ENOSYS),
             (_RETURN, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = _Filter(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program), 0, 0) != 0:
        raise NoHosts(f"io_uring cannot be forbidden: {os.strerror(ctypes.get_errno())}: programs on simulated hosts "
                      "need CAP_SYS_ADMIN and a kernel with seccomp")
