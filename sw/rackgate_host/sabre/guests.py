# SPDX-License-Identifier: Apache-2.0
"""Who touches the memory that is restored: this process (rig R1), or a processor of a virtual machine (rig R2).

Both follow a trace and compare what they read with the original. The process reads whole pages and compares digests;
the virtual machine's program reads a word of each page, a different one for different pages, and its results are
compared when it has halted. What a toucher needs besides memory is made before any time is taken.
"""

import hashlib
import mmap
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import SabreError
from .kvm import KvmError, Registers, VirtualMachine
from .userfault import PAGE

__all__ = ["GuestKind", "Original", "ProcessToucher", "Toucher", "Trace", "VirtualToucher", "kvm_module",
           "make_toucher"]

Trace = Sequence[tuple[int, int]]
"""(region, page) of each touch, in order."""

# The virtual machine's program; ESI points to the addresses of the words, EDI to where the words go, ECX counts.
_PROGRAM = bytes.fromhex("ad"     # next:  lodsd
                         "8b00"   #        mov eax, [eax]
                         "ab"     #        stosd
                         "e2fa"   #        loop next
                         "f4")    #        hlt
_LIMIT = 0xC000_0000  # end of the guest's memory: above are the interrupt controllers of a PC
_WORDS = PAGE // 4
_STRIDE = 433  # odd, so that 1024 neighbouring pages have each another word read


class GuestKind(StrEnum):
    """What runs on the restored memory."""

    PROCESS = "process"
    KVM = "kvm"


def kvm_module() -> str:
    """Which of the kernel's implementations of KVM is at work here, as far as it says: ``kvm_pvm`` emulates the
    guest's instructions and so takes about a microsecond for each."""
    found = [name for name in ("kvm_intel", "kvm_amd", "kvm_pvm") if Path("/sys/module", name).exists()]
    return ", ".join(found) or "built into the kernel"


class Original:
    """The bytes that the memory should have; ``path`` holds all regions of ``sizes`` pages back to back, and is
    ``None`` if nobody knows."""

    def __init__(self, path: str | os.PathLike[str] | None, sizes: Sequence[int]):
        self._firsts = np.concatenate(([0], np.cumsum(sizes)))
        self.bytes: np.ndarray | None = None
        if path is None:
            return
        size = os.stat(path).st_size
        wanted = int(self._firsts[-1]) * PAGE
        if size != wanted:
            raise SabreError(f"{os.fspath(path)} has {size} bytes, the memory {wanted}")
        with open(path, "rb") as file:
            self.bytes = np.frombuffer(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ), np.uint8)

    def numbers(self, trace: Trace) -> np.ndarray:
        """The trace's page numbers in the file."""
        touched = np.array(trace, np.int64).reshape(-1, 2)
        return self._firsts[touched[:, 0]] + touched[:, 1]

    def equal(self, buffers: Sequence[Any]) -> bool | None:
        """Whether all bytes are right; ``None`` if nobody knows."""
        if self.bytes is None:
            return None
        memory = [np.frombuffer(buffer, np.uint8) for buffer in buffers]
        ends = self._firsts * PAGE
        return all(np.array_equal(one, self.bytes[ends[index]:ends[index + 1]]) for index, one in enumerate(memory))


class Toucher(Protocol):
    """Follows one trace."""

    def attach(self, buffers: Sequence[Any]) -> None:
        """The regions' memory, which need not be there yet."""
        ...

    def follow(self, timeout: float) -> int:
        """Touch the pages; how many had wrong bytes. ``timeout`` bounds the seconds in which nothing happens."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class ProcessToucher:
    """Touches by this process, which reads whole pages and compares their digests."""

    def __init__(self, trace: Trace, original: Original):
        self._trace = trace
        self._digests: list[bytes | None] = [None] * len(trace)
        if original.bytes is not None:
            pages, numbers = original.bytes.reshape(-1, PAGE), original.numbers(trace).tolist()
            known = {number: _digest(pages[number].data) for number in set(numbers)}
            self._digests = [known[number] for number in numbers]

    def attach(self, buffers: Sequence[Any]) -> None:
        self._views = [memoryview(buffer) for buffer in buffers]

    def follow(self, timeout: float) -> int:
        wrong = 0
        for (region, page), digest in zip(self._trace, self._digests, strict=True):
            found = _digest(self._views[region][page * PAGE:(page + 1) * PAGE])
            wrong += digest is not None and found != digest
        return wrong

    def close(self) -> None:
        for view in getattr(self, "_views", ()):
            view.release()


def _digest(page: Any) -> bytes:
    return hashlib.blake2b(page, digest_size=16).digest()


class VirtualToucher:
    """Touches by a virtual machine with a few instructions; the time is that until it halts.

    Its memory begins with the program, the addresses of the trace and room for what was read; the regions follow each
    other behind that. Raises :class:`~rackgate_host.errors.Unavailable` without KVM, and
    :class:`~rackgate_host.sabre.errors.SabreError` for more memory than 32 bits can address.
    """

    def __init__(self, trace: Trace, original: Original, sizes: Sequence[int]):
        self._trace, self._count = trace, len(trace)
        own = PAGE + -(-8 * self._count // PAGE) * PAGE
        firsts = own // PAGE + np.concatenate(([0], np.cumsum(sizes)))
        if int(firsts[-1]) * PAGE > _LIMIT:
            raise SabreError(f"the KVM guest has 32-bit addresses: its memory must be at most {_LIMIT // PAGE} pages "
                             f"with the trace, not {int(firsts[-1])}")
        self._places = (firsts * PAGE).tolist()
        self._memory = mmap.mmap(-1, own)
        self._memory[:len(_PROGRAM)] = _PROGRAM
        words = np.frombuffer(self._memory, np.uint32)[_WORDS:]
        self._found = words[self._count:2 * self._count]
        touched = np.array(trace, np.int64).reshape(-1, 2)
        offsets = touched[:, 1] * _STRIDE % _WORDS
        words[:self._count] = (firsts[touched[:, 0]] + touched[:, 1]) * PAGE + 4 * offsets
        self._wanted = None
        if original.bytes is not None:
            self._wanted = original.bytes.view(np.uint32).reshape(-1, _WORDS)[original.numbers(trace), offsets]
        self._machine = VirtualMachine()
        self._machine.map(0, words.ctypes.data - PAGE, own)

    def attach(self, buffers: Sequence[Any]) -> None:
        self._regions = [np.frombuffer(buffer, np.uint8) for buffer in buffers]
        for place, memory in zip(self._places[:-1], self._regions, strict=True):
            self._machine.map(place, memory.ctypes.data, memory.size)

    def follow(self, timeout: float) -> int:
        if not self._count:
            return 0
        self._found[:] = 0
        self._machine.registers = Registers(rip=0, rflags=2, rsi=PAGE, rdi=PAGE + 4 * self._count, rcx=self._count)
        try:
            self._machine.run(timeout, lambda: self._machine.registers.rcx,
                              lambda left: f"the guest in KVM to come to its touch {self._count - left + 1} of "
                                           f"{self._count}")
        except KvmError:
            self._ask()
            raise
        return 0 if self._wanted is None else int(np.count_nonzero(self._found != self._wanted))

    def _ask(self) -> None:
        """Read the page that the machine has stopped at. If it is lost this process ends with SIGBUS, as one does
        whose processor meets it; KVM's emulation of instructions hides that."""
        region, page = self._trace[self._count - max(self._machine.registers.rcx, 1)]
        self._regions[region][page * PAGE:(page + 1) * PAGE].max()

    def close(self) -> None:
        self._machine.close()


def make_toucher(kind: str, trace: Trace, original: Original, sizes: Sequence[int]) -> Toucher:
    """The toucher of a :class:`GuestKind`. Raises :class:`~rackgate_host.sabre.errors.SabreError` if the trace touches
    what is not there."""
    for region, page in trace:
        if not (0 <= region < len(sizes) and 0 <= page < sizes[region]):
            raise SabreError(f"the trace touches page {page} of region {region}; the regions have {list(sizes)} pages")
    if GuestKind(kind) is GuestKind.KVM:
        return VirtualToucher(trace, original, sizes)
    return ProcessToucher(trace, original)
