# SPDX-License-Identifier: Apache-2.0
"""Linux ``userfaultfd`` through ctypes: serve the page faults of a process, from another process if need be.

A :class:`Userfault` belongs to the memory of the process that opened it, wherever the descriptor is used: a monitor
that gets it over a socket installs pages into the opener's memory. Addresses and lengths are in bytes and whole pages
of 4096. Every failing ioctl raises :class:`UserfaultError` with the errno's name; what a caller can go on from (a page
that is there, memory that is being changed) is in the result of :meth:`Userfault.copy` and its kin instead.
"""

import ctypes
import enum
import errno
import fcntl
import functools
import os
import platform
import select
import struct
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import Unavailable
from .errors import SabreError

__all__ = ["Event", "EventKind", "Feature", "PAGE", "Progress", "Userfault", "UserfaultError", "supported"]

PAGE = 4096

_SYSCALLS = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "ppc64le": 364, "s390x": 355}
_API_VERSION = 0xAA
_MODE_MISSING = 1
_DONT_WAKE = 1
_EVENT_BYTES = 32
_HINT = ("the kernel does not let this process use userfaultfd: run as root, or "
         "`sudo sysctl vm.unprivileged_userfaultfd=1`, or give access to /dev/userfaultfd")

_library = ctypes.CDLL(None, use_errno=True)


class Feature(enum.IntFlag):
    """Features of the kernel's userfaultfd that this package knows (UFFD_FEATURE_*)."""

    EVENT_FORK = 1 << 1
    EVENT_REMAP = 1 << 2
    EVENT_REMOVE = 1 << 3
    EVENT_UNMAP = 1 << 6
    THREAD_ID = 1 << 8
    POISON = 1 << 14
    MOVE = 1 << 16


class EventKind(enum.IntEnum):
    """What a message of the kernel reports."""

    PAGEFAULT = 0x12
    FORK = 0x13
    REMAP = 0x14
    REMOVE = 0x15
    UNMAP = 0x16


class Event(NamedTuple):
    """One message. ``start`` is the faulting address, or the begin of a range that ends before ``end``; of a REMAP
    ``start`` is the old address, ``end`` the old end and ``target`` the new address. ``thread`` is the faulting thread
    where :attr:`Feature.THREAD_ID` is on."""

    kind: EventKind
    start: int
    end: int = 0
    target: int = 0
    thread: int = 0
    write: bool = False


class Progress(NamedTuple):
    """How far an ioctl came: ``done`` bytes, and why it stopped: 0 (all is done), ``EEXIST`` (the next page is
    there), ``EAGAIN`` (the process is changing its mappings: read the events, then go on) or ``ENOENT`` (no registered
    mapping holds the rest in one piece)."""

    done: int
    stopped: int


class UserfaultError(SabreError):
    """An ioctl or a read failed. ``errno`` is the system's number; the text names the call and the range."""

    def __init__(self, call: str, number: int, detail: str = ""):
        self.errno = number
        name = errno.errorcode.get(number, str(number))
        super().__init__(f"{call}{detail} failed with {name} ({os.strerror(number)})")

    @property
    def memory_gone(self) -> bool:
        """Whether the process whose memory it is has ended."""
        return self.errno == errno.ESRCH


class _Api(ctypes.Structure):
    _fields_ = [("api", ctypes.c_uint64), ("features", ctypes.c_uint64), ("ioctls", ctypes.c_uint64)]


class _Range(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class _Register(ctypes.Structure):
    _fields_ = [("range", _Range), ("mode", ctypes.c_uint64), ("ioctls", ctypes.c_uint64)]


class _Copy(ctypes.Structure):
    _fields_ = [("target", ctypes.c_uint64), ("source", ctypes.c_uint64), ("length", ctypes.c_uint64),
                ("mode", ctypes.c_uint64), ("done", ctypes.c_int64)]


class _Fill(ctypes.Structure):
    """Of UFFDIO_ZEROPAGE and UFFDIO_POISON."""

    _fields_ = [("range", _Range), ("mode", ctypes.c_uint64), ("done", ctypes.c_int64)]


def _request(direction: int, number: int, kind: type[ctypes.Structure]) -> int:
    """The number of an ioctl as <asm-generic/ioctl.h> makes it: 1 is write, 2 is read."""
    return direction << 30 | ctypes.sizeof(kind) << 16 | 0xAA << 8 | number


_API = _request(3, 0x3F, _Api)
_REGISTER = _request(3, 0x00, _Register)
_UNREGISTER = _request(2, 0x01, _Range)
_WAKE = _request(2, 0x02, _Range)
_COPY = _request(3, 0x03, _Copy)
_ZERO = _request(3, 0x04, _Fill)
_POISON = _request(3, 0x08, _Fill)
_DEVICE_NEW = 0xAA << 8

_ioctl = _library.ioctl
_ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def _open() -> int:
    """A new descriptor, from the system call or else from the device file."""
    number = _SYSCALLS.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        raise Unavailable(f"userfaultfd is a system call of Linux, not known on {platform.system()} "
                          f"{platform.machine()}")
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = _library.syscall(number, flags)
    if descriptor >= 0:
        return descriptor
    failure = ctypes.get_errno()
    if failure == errno.ENOSYS:
        raise Unavailable("this kernel is built without userfaultfd (CONFIG_USERFAULTFD)")
    try:
        device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        device = -1
    if device >= 0:
        try:
            return fcntl.ioctl(device, _DEVICE_NEW, flags)
        except OSError as error:
            failure = error.errno or failure
        finally:
            os.close(device)
    if failure == errno.EPERM:
        raise Unavailable(_HINT)
    raise UserfaultError("userfaultfd()", failure)


def _handshake(descriptor: int, features: int) -> int:
    """Agree on ``features``; what the kernel has."""
    api = _Api(_API_VERSION, features, 0)
    if _ioctl(descriptor, _API, ctypes.byref(api)):
        raise UserfaultError("UFFDIO_API", ctypes.get_errno(), f" with features {Feature(features)!r}")
    return api.features


@functools.cache
def supported() -> Feature:
    """The features that this kernel has, of those known here.

    Raises :class:`~rackgate_host.errors.Unavailable` where userfaultfd is not there or not permitted.
    """
    descriptor = _open()
    try:
        return Feature(_handshake(descriptor, 0) & sum(Feature))
    finally:
        os.close(descriptor)


def _whole_pages(name: str, value: int) -> None:
    if value % PAGE:
        raise ValueError(f"{name} must be a multiple of {PAGE}, not {value:#x}")


@dataclass
class Userfault:
    """An open userfaultfd. Make one with :meth:`open`, or with :meth:`adopt` from a descriptor that came over a socket.

    ``features`` are those agreed with the kernel.
    """

    descriptor: int
    features: Feature

    @classmethod
    def open(cls, features: Feature | None = None) -> "Userfault":
        """A new one for this process' memory, with ``features`` (default: all but forks that this kernel has).

        Raises :class:`~rackgate_host.errors.Unavailable` where that is not permitted or a feature is missing.
        """
        known = supported()
        wanted = known & ~Feature.EVENT_FORK if features is None else features
        if wanted & ~known:
            raise Unavailable(f"this kernel's userfaultfd lacks {wanted & ~known!r}: it needs a newer kernel")
        descriptor = _open()
        try:
            _handshake(descriptor, wanted)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, wanted)

    @classmethod
    def adopt(cls, descriptor: int, features: Feature) -> "Userfault":
        """The one behind ``descriptor``, on which another process agreed on ``features``."""
        return cls(descriptor, features)

    def fileno(self) -> int:
        """The descriptor; readable when there are events."""
        return self.descriptor

    def close(self) -> None:
        """Close the descriptor. The last one closed ends all registrations: waiting faults see zero pages."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> "Userfault":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def register(self, address: int, length: int) -> None:
        """Report faults on missing pages of the range from now on. Only the opening process can do this."""
        _whole_pages("address", address)
        _whole_pages("length", length)
        argument = _Register(_Range(address, length), _MODE_MISSING, 0)
        self._plain("UFFDIO_REGISTER", _REGISTER, argument, address, length)

    def unregister(self, address: int, length: int) -> None:
        """Report faults no longer; who waits in the range goes on, missing pages read as zero."""
        self._plain("UFFDIO_UNREGISTER", _UNREGISTER, _Range(address, length), address, length)

    def wake(self, address: int, length: int) -> None:
        """Let those who wait in the range try again."""
        self._plain("UFFDIO_WAKE", _WAKE, _Range(address, length), address, length)

    def copy(self, target: int, source: int, length: int, wake: bool = True) -> Progress:
        """Install ``length`` bytes from ``source`` (an address in the calling process) at ``target``.

        Pages appear whole; a page that is there is never written.
        """
        argument = _Copy(target, source, length, 0 if wake else _DONT_WAKE, 0)
        if not _ioctl(self.descriptor, _COPY, ctypes.byref(argument)):
            return Progress(length, 0)
        return self._stopped("UFFDIO_COPY", argument, target, length)

    def zero(self, target: int, length: int, wake: bool = True) -> Progress:
        """Install zero pages."""
        return self._fill("UFFDIO_ZEROPAGE", _ZERO, target, length, wake)

    def poison(self, target: int, length: int, wake: bool = True) -> Progress:
        """Mark missing pages as lost: whoever touches them gets SIGBUS. Needs :attr:`Feature.POISON`."""
        return self._fill("UFFDIO_POISON", _POISON, target, length, wake)

    def events(self, limit: int = 64) -> list[Event]:
        """Up to ``limit`` messages that are there now; none if there are none."""
        try:
            data = os.read(self.descriptor, limit * _EVENT_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise UserfaultError("reading events", error.errno or 0) from error
        return [_event(data, offset) for offset in range(0, len(data), _EVENT_BYTES)]

    def wait(self, timeout: float) -> bool:
        """Whether there is a message within ``timeout`` seconds."""
        poller = select.poll()
        poller.register(self.descriptor, select.POLLIN)
        return bool(poller.poll(timeout * 1000))

    def _plain(self, call: str, request: int, argument: ctypes.Structure, address: int, length: int) -> None:
        if _ioctl(self.descriptor, request, ctypes.byref(argument)):
            raise UserfaultError(call, ctypes.get_errno(), f" of {length} bytes at {address:#x}")

    def _fill(self, call: str, request: int, target: int, length: int, wake: bool) -> Progress:
        argument = _Fill(_Range(target, length), 0 if wake else _DONT_WAKE, 0)
        if not _ioctl(self.descriptor, request, ctypes.byref(argument)):
            return Progress(length, 0)
        return self._stopped(call, argument, target, length)

    @staticmethod
    def _stopped(call: str, argument: "_Copy | _Fill", target: int, length: int) -> Progress:
        """After a failure: the kernel says how much it did (-errno if nothing), or has not written that at all."""
        number = ctypes.get_errno()
        done = max(argument.done, 0)
        if number == errno.EAGAIN and done:
            return Progress(done, errno.EAGAIN)
        if number in (errno.EEXIST, errno.EAGAIN, errno.ENOENT):
            return Progress(done, number)
        raise UserfaultError(call, number, f" of {length} bytes at {target:#x}")


def _event(data: bytes, offset: int) -> Event:
    kind = EventKind(data[offset])
    first, second, third = struct.unpack_from("<QQQ", data, offset + 8)
    match kind:
        case EventKind.PAGEFAULT:
            return Event(kind, second & -PAGE, second & -PAGE, thread=third & 0xFFFFFFFF, write=bool(first & 1))
        case EventKind.REMAP:
            return Event(kind, first, first + third, second)
        case EventKind.FORK:
            return Event(kind, first & 0xFFFFFFFF)
    return Event(kind, first, second)
