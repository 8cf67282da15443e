# SPDX-License-Identifier: Apache-2.0
"""Linux KVM through ctypes: one virtual machine with one processor in flat 32-bit mode, enough to run a few
instructions on memory of this process.

Numbers, layouts and exit reasons are those of <linux/kvm.h>, API version 12, for x86-64. Memory keeps its user's
addresses: a page that the guest touches and that is missing here is a fault of this process' memory, which a
userfaultfd reports as any other.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from enum import IntEnum

from ..errors import Unavailable
from .channel import SabreTimeout
from .errors import SabreError

__all__ = ["Exit", "KvmError", "Registers", "VirtualMachine", "supported"]

_DEVICE = "/dev/kvm"
_API_VERSION = 12
_TICK = 0.1  # seconds between two looks at a guest that runs
# Where processors that cannot run real mode want three pages for themselves; far above all memory here.
_IDENTITY_MAP, _TASK_STATE = 0xFFFB_C000, 0xFFFB_D000

_library = ctypes.CDLL(None, use_errno=True)
_ioctl = _library.ioctl
_ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


class Exit(IntEnum):
    """Why the processor has stopped (KVM_EXIT_*), as far as a guest without devices can meet it."""

    UNKNOWN = 0
    EXCEPTION = 1
    IO = 2
    HLT = 5
    MMIO = 6
    SHUTDOWN = 8
    FAIL_ENTRY = 9
    INTR = 10
    INTERNAL_ERROR = 17
    MEMORY_FAULT = 39


class _Region(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_uint32), ("flags", ctypes.c_uint32), ("guest", ctypes.c_uint64),
                ("size", ctypes.c_uint64), ("user", ctypes.c_uint64)]


class Registers(ctypes.Structure):
    """The general registers."""

    _fields_ = [(name, ctypes.c_uint64) for name in (
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip", "rflags")]


class _Segment(ctypes.Structure):
    _fields_ = [("base", ctypes.c_uint64), ("limit", ctypes.c_uint32), ("selector", ctypes.c_uint16),
                *((name, ctypes.c_uint8) for name in ("type", "present", "dpl", "db", "s", "l", "g", "avl", "unusable",
                                                      "padding"))]


class _Table(ctypes.Structure):
    _fields_ = [("base", ctypes.c_uint64), ("limit", ctypes.c_uint16), ("padding", ctypes.c_uint16 * 3)]


class _SystemRegisters(ctypes.Structure):
    _fields_ = [*((name, _Segment) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")),
                ("gdt", _Table), ("idt", _Table),
                *((name, ctypes.c_uint64) for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")),
                ("interrupts", ctypes.c_uint64 * 4)]


class _State(ctypes.Structure):
    """The begin of struct kvm_run, which processor and kernel share."""

    _fields_ = [("request_interrupt", ctypes.c_uint8), ("immediate_exit", ctypes.c_uint8),
                ("padding", ctypes.c_uint8 * 6), ("exit_reason", ctypes.c_uint32), ("flags", ctypes.c_uint8 * 20),
                ("detail", ctypes.c_uint64 * 2)]


def _request(direction: int, number: int, kind: type[ctypes.Structure] | int = 0) -> int:
    """The number of an ioctl as <asm-generic/ioctl.h> makes it: 0 is plain, 1 is write, 2 is read."""
    size = kind if isinstance(kind, int) else ctypes.sizeof(kind)
    return direction << 30 | size << 16 | 0xAE << 8 | number


_GET_API_VERSION = _request(0, 0x00)
_CREATE_VM = _request(0, 0x01)
_GET_STATE_SIZE = _request(0, 0x04)
_CREATE_PROCESSOR = _request(0, 0x41)
_SET_MEMORY = _request(1, 0x46, _Region)
_SET_TASK_STATE = _request(0, 0x47)
_SET_IDENTITY_MAP = _request(1, 0x48, 8)
_RUN = _request(0, 0x80)
_GET_REGISTERS = _request(2, 0x81, Registers)
_SET_REGISTERS = _request(1, 0x82, Registers)
_GET_SYSTEM = _request(2, 0x83, _SystemRegisters)
_SET_SYSTEM = _request(1, 0x84, _SystemRegisters)


class KvmError(SabreError):
    """A call of KVM failed, or the guest stopped where it should not. The text names the call or the exit."""


def _call(what: str, descriptor: int, request: int, argument: ctypes.Structure | ctypes.c_uint64 | int = 0) -> int:
    value = argument if isinstance(argument, int) else ctypes.addressof(argument)
    done = _ioctl(descriptor, request, value)
    if done < 0:
        number = ctypes.get_errno()
        raise KvmError(f"{what} failed with {errno.errorcode.get(number, number)} ({os.strerror(number)})")
    return done


def _open() -> int:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Unavailable(f"the KVM guest is made for Linux on x86_64, not for {platform.system()} on "
                          f"{platform.machine()}")
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hint = "be root or a member of the group kvm" if error.errno in (errno.EACCES, errno.EPERM) else \
            "this machine has no virtualization, or does not pass it on"
        raise Unavailable(f"{_DEVICE} cannot be opened: {error.strerror}: {hint}") from error
    return descriptor


def supported() -> None:
    """Do nothing if virtual machines can be made here.

    Raises :class:`~rackgate_host.errors.Unavailable` with the reason where /dev/kvm is missing or refused.
    """
    VirtualMachine().close()


class VirtualMachine:
    """A machine with one processor that runs with 32-bit addresses and no paging; it has no devices.

    Raises :class:`~rackgate_host.errors.Unavailable` where it cannot be had. Use as a context manager.
    """

    def __init__(self) -> None:
        self._descriptors = [_open()]
        self._slots = 0
        self._state_memory: mmap.mmap | None = None
        try:
            self._make()
        except BaseException as error:
            self.close()
            if isinstance(error, KvmError):
                raise Unavailable(f"{_DEVICE} is there, but no virtual machine can be made: {error}") from error
            raise

    def _make(self) -> None:
        device, = self._descriptors
        version = _call("KVM_GET_API_VERSION", device, _GET_API_VERSION)
        if version != _API_VERSION:
            raise Unavailable(f"{_DEVICE} has API version {version}; {_API_VERSION} is needed")
        self._machine = _call("KVM_CREATE_VM", device, _CREATE_VM)
        self._descriptors.append(self._machine)
        _call("KVM_SET_IDENTITY_MAP_ADDR", self._machine, _SET_IDENTITY_MAP, ctypes.c_uint64(_IDENTITY_MAP))
        _call("KVM_SET_TSS_ADDR", self._machine, _SET_TASK_STATE, _TASK_STATE)
        self._processor = _call("KVM_CREATE_VCPU", self._machine, _CREATE_PROCESSOR)
        self._descriptors.append(self._processor)
        size = _call("KVM_GET_VCPU_MMAP_SIZE", device, _GET_STATE_SIZE)
        self._state_memory = mmap.mmap(self._processor, size)
        self._state = _State.from_buffer(self._state_memory)
        system = _SystemRegisters()
        _call("KVM_GET_SREGS", self._processor, _GET_SYSTEM, system)
        for name in ("cs", "ds", "es", "fs", "gs", "ss"):
            kind, selector = (0xB, 8) if name == "cs" else (0x3, 16)
            setattr(system, name, _Segment(0, 0xFFFF_FFFF, selector, kind, 1, 0, 1, 1, 0, 1, 0, 0, 0))
        system.cr0 = 0x11  # protection on, paging off
        _call("KVM_SET_SREGS", self._processor, _SET_SYSTEM, system)

    def map(self, guest: int, user: int, size: int) -> None:
        """Show ``size`` bytes at the address ``user`` of this process to the guest at ``guest``; all whole pages."""
        region = _Region(self._slots, 0, guest, size, user)
        _call(f"KVM_SET_USER_MEMORY_REGION of {size} bytes at {guest:#x}", self._machine, _SET_MEMORY, region)
        self._slots += 1

    @property
    def registers(self) -> Registers:
        """The processor's registers as they are."""
        registers = Registers()
        _call("KVM_GET_REGS", self._processor, _GET_REGISTERS, registers)
        return registers

    @registers.setter
    def registers(self, registers: Registers) -> None:
        _call("KVM_SET_REGS", self._processor, _SET_REGISTERS, registers)

    def run(self, timeout: float, left: Callable[[], int] = lambda: 0,
            what: Callable[[int], str] = lambda left: "the guest in KVM to halt") -> None:
        """Run until HLT. Only in a process' main thread, which a timer interrupts to look at the time.

        ``timeout`` bounds, in seconds, the time in which ``left``, which says what the guest has still to do, gives
        the same. Raises :class:`~rackgate_host.sabre.channel.SabreTimeout` then, whose text has ``what`` was waited
        for, and :class:`KvmError` for another stop than HLT.
        """
        with _ticks():
            seen, since = left(), time.monotonic()
            while _ioctl(self._processor, _RUN, 0) < 0:
                number = ctypes.get_errno()
                if number not in (errno.EINTR, errno.EAGAIN):
                    raise KvmError(f"KVM_RUN failed with {errno.errorcode.get(number, number)} "
                                   f"({os.strerror(number)}){self._where()}")
                now, still = time.monotonic(), left()
                if still != seen:
                    seen, since = still, now
                elif now - since > timeout:
                    raise SabreTimeout(f"waited {timeout:g} s for {what(still)}{self._where()}")
        self._check()

    def _check(self) -> None:
        reason = self._state.exit_reason
        if reason == Exit.HLT:
            return
        name = Exit(reason).name if reason in tuple(Exit) else str(reason)
        detail = f" at {self._state.detail[0]:#x}, where there is no memory" if reason == Exit.MMIO else ""
        raise KvmError(f"the guest in KVM stopped with {name}{detail}{self._where()}")

    def _where(self) -> str:
        with contextlib.suppress(KvmError):
            return f"; its next instruction is at {self.registers.rip:#x}"
        return ""

    def close(self) -> None:
        """End the machine."""
        self._state = _State()
        if self._state_memory is not None:
            self._state_memory.close()
            self._state_memory = None
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> "VirtualMachine":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextlib.contextmanager
def _ticks() -> Iterator[None]:
    """Interrupt this thread's system calls now and then: a processor that runs, or waits for a page, does not stop by
    itself."""
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("run must be called in the main thread: others are not interrupted by a timer")
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
