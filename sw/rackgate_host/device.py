# SPDX-License-Identifier: Apache-2.0
"""A device as its driver sees it, in whatever world it lives."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from rackgate.csr.map import MAGIC, Access

from .devices import DEVICES, DeviceType
from .errors import DeviceMismatch, DeviceTimeout, Unavailable, UsageError
from .expect import check_expected, expected_kind
from .memory import ALIGNMENT, Allocator, Buffer
from .registers import RegisterFile
from .transport import Transport
from .url import DeviceURL

if TYPE_CHECKING:
    from .transcript import Recorder
    from .transport.remote import RemoteTransport

__all__ = ["DEFAULT_TIMEOUT_CYCLES", "Device", "device_type", "open_device"]

#: A wait without a time-out ends after this many device cycles.
DEFAULT_TIMEOUT_CYCLES = 100_000_000

#: Longest stretch of device time between two looks at the wall clock.
_SLICE = 1 << 16

_SCHEMES = ("model", "sim")
_BOARD_SCHEMES = ("tcp", "uart", "udp")


class _Deadline:
    """End of a wait, in device cycles and seconds."""

    def __init__(self, device: "Device", timeout: float | None, cycles: int | None):
        for name, value in (("timeout", timeout), ("cycles", cycles)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        if timeout is None and cycles is None:
            cycles = DEFAULT_TIMEOUT_CYCLES
        self.device = device
        self.timeout, self.cycles = timeout, cycles
        self.start, self.start_cycle = time.monotonic(), device.cycles
        self._has_last_look = device.transport.memory is None

    def step(self, what: str, most: int = _SLICE) -> int:
        """Cycles to run next. Raises :class:`DeviceTimeout` when there are none left.

        Behind a cable time goes on by itself, also while the host does nothing: when it is over, there are once 0
        cycles, for a last look.
        """
        passed, seconds = self.device.cycles - self.start_cycle, time.monotonic() - self.start
        left = most if self.cycles is None else min(most, self.cycles - passed)
        if left < 1 or self.timeout is not None and seconds >= self.timeout:
            if self._has_last_look:
                self._has_last_look = False
                return 0
            raise DeviceTimeout(f"{self.device.url}: no {what} after {passed} cycles ({seconds:.3g} s)\n"
                                f"{self.device.state()}")
        return left


class Device:
    """A device, its registers, memory and interrupt. Use :func:`open_device` to get one.

    Parameters
    ----------
    transport:
        How to reach it. Closed with the device.
    kind:
        What it must be: its identity registers are compared with this type's map.
    url:
        Where it is, for messages.

    A device is not to be used by two threads at a time.

    Raises
    ------
    DeviceMismatch
        The identity registers are not those that the driver was written for.
    """

    def __init__(self, transport: Transport, kind: DeviceType, url: str):
        self.transport = transport
        self.kind = kind
        self.url = url
        self.name = kind.name
        self.map = kind.map
        self.regs = RegisterFile(self)
        self.allocator = Allocator(transport.memory_base, transport.memory_size)
        #: The driver that has set the device up. A device has one at a time.
        self.driver: object | None = None
        self._recorder: Recorder | None = None
        self._closed = False
        self._names = {register.offset: name for name, register in self.map.items()}
        self._volatile = {self.map[name].offset for name in kind.volatile}
        identity = {name: self.read_register(self.map[name].offset)
                    for name in ("MAGIC", "DEVICE", "VERSION", "MAP_HASH", "BUILD_LO", "BUILD_HI")}
        self._check(identity)
        #: Version of the device's register map: (major, minor).
        self.version = (identity["VERSION"] >> 16, identity["VERSION"] & 0xFFFF)
        #: Hash of the sources and parameters that the device was built from, as 16 hexadecimal digits.
        self.build = f"{identity['BUILD_HI']:08x}{identity['BUILD_LO']:08x}"
        #: What the device was built with, by name.
        self.parameters = {name.removeprefix("PARAM_").lower(): self.read_register(register.offset)
                           for name, register in self.map.items() if name.startswith("PARAM_")}

    def _check(self, identity: dict[str, int]) -> None:
        def letters(code: int) -> str:
            return repr(code.to_bytes(4, "little").decode("ascii", "replace"))

        magic, code, map_hash = identity["MAGIC"], identity["DEVICE"], identity["MAP_HASH"]
        if magic != MAGIC:
            raise DeviceMismatch(f"{self.url}: no Rackgate device answers (register 0 reads {magic:#010x}, not "
                                 f"{MAGIC:#010x}): check the URL, and that the board is programmed")
        if code != self.map["DEVICE"].reset:
            raise DeviceMismatch(f"{self.url}: this is device {letters(code)}, the driver is for "
                                 f"{letters(self.map['DEVICE'].reset)}: open it under its own name, or program the "
                                 f"board with {self.name}")
        major, wanted = identity["VERSION"] >> 16, self.map.version[0]
        if major != wanted:
            remedy = "update the host package" if major > wanted else "rebuild the gateware"
            raise DeviceMismatch(f"{self.url}: the device has register map version {major}, the driver version "
                                 f"{wanted}: {remedy}")
        if map_hash != self.map["MAP_HASH"].reset:
            raise DeviceMismatch(f"{self.url}: the device's register map ({map_hash:#010x}) is not the driver's "
                                 f"({self.map['MAP_HASH'].reset:#010x}): build gateware and host package from the "
                                 "same version")

    @property
    def cycles(self) -> int:
        """Clock cycles of the device's world so far."""
        return self.transport.cycle

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return self.transport.irq

    def read_register(self, offset: int) -> int:
        """The register at byte ``offset``. Prefer :attr:`regs`."""
        self._usable()
        value = self.transport.read_register(offset)
        if self._recorder:
            self._recorder.register_read(offset, value, volatile=offset in self._volatile)
        return value

    def write_register(self, offset: int, value: int) -> None:
        """Write the register at byte ``offset``. Prefer :attr:`regs`."""
        self._usable()
        if not 0 <= value < 1 << 32:
            name = self._names.get(offset, hex(offset))
            raise ValueError(f"register {name} must be written with 0 to 2**32 - 1, not {value}")
        self.transport.write_register(offset, value)
        if self._recorder:
            self._recorder.register_write(offset, value)

    def write_block(self, offset: int, words: Sequence[int]) -> bool:
        """Write 32-bit ``words`` to consecutive places from byte ``offset`` on: whether the device took the last one.

        A transcript shows it only if so: how often a full queue refuses is a matter of timing.
        """
        self._usable()
        if offset % 4 or not words or not all(0 <= word < 1 << 32 for word in words):
            raise ValueError("a block must be words of 0 to 2**32 - 1, at least one, at a multiple of 4")
        taken = self.transport.write_block(offset, words)
        if taken and self._recorder:
            self._recorder.block_write(offset, words)
        return taken

    def submit_portal(self, offset: int, words: Sequence[int], *, timeout: float | None = None,
                      cycles: int | None = None, what: str = "",
                      on_refusal: Callable[[], None] | None = None) -> int:
        """Write a block until the device takes it; how often it was refused.

        Between tries device time passes: 16 cycles, then ever longer, up to 4096; before that ``on_refusal`` is called,
        for what the device may be waiting for. Limits as in :meth:`wait`.
        """
        deadline = _Deadline(self, timeout, cycles)
        interval, refusals = 16, 0
        while not self.write_block(offset, words):
            refusals += 1
            if on_refusal:
                on_refusal()
            self._pass(deadline, what or f"acceptance at {offset:#x}", interval, False, None)
            interval = min(2 * interval, 4096)
        return refusals

    def register_name(self, offset: int) -> str:
        """Name of the register at byte ``offset``. Raises :class:`UsageError` if there is none."""
        if offset not in self._names:
            raise UsageError(f"device {self.name} has no register at {offset:#x}")
        return self._names[offset]

    def allocate(self, shape: int | Sequence[int], dtype: Any = "u1", *, alignment: int = ALIGNMENT) -> Buffer:
        """A NumPy array of ``shape`` and ``dtype`` in device memory, at a multiple of ``alignment`` bytes.

        Raises :class:`~rackgate_host.errors.OutOfDeviceMemory`, which says how much was left.
        """
        self._usable()
        dimensions = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        if any(n < 0 for n in dimensions):
            raise ValueError(f"shape must not be negative, not {shape}")
        element = np.dtype(dtype)
        if element.hasobject:
            raise TypeError(f"dtype must be plain data, not {element}")
        size = int(np.prod(dimensions, dtype=np.int64)) * element.itemsize
        address = self.allocator.allocate(max(size, 1), alignment)
        return Buffer._make(self, address, dimensions, element)

    def push_memory(self, address: int, content: np.ndarray) -> None:
        """Make device memory at ``address`` hold ``content`` (bytes). Buffers call it for themselves."""
        self._usable()
        if self.transport.memory is None:
            self.transport.write_memory(address, content.tobytes())
        if self._recorder:
            self._recorder.memory_write(address, content.tobytes())

    def pull_memory(self, address: int, content: np.ndarray, *, volatile: Sequence[tuple[int, int]] = ()) -> None:
        """Make ``content`` (bytes) hold what device memory at ``address`` holds. Buffers call it for themselves."""
        self._usable()
        if self.transport.memory is None:
            content[:] = np.frombuffer(self.transport.read_memory(address, content.size), np.uint8)
        if self._recorder:
            self._recorder.memory_read(address, content.tobytes(), volatile)

    def push(self, stream: str, packet: bytes) -> None:
        """Queue ``packet`` into the device's stream of that name."""
        self._usable()
        self.transport.push(stream, packet)
        if self._recorder:
            self._recorder.push(stream, packet)

    def pop(self, stream: str, *, timeout: float | None = None, cycles: int | None = None) -> bytes:
        """The next packet from the device's stream of that name. Raises :class:`DeviceTimeout`."""
        deadline = _Deadline(self, timeout, cycles)
        while (packet := self.transport.pop(stream)) is None:
            self.transport.run(deadline.step(f"packet from {stream}", 256), until_interrupt=False)
        if self._recorder:
            self._recorder.pop(stream, packet)
        return packet

    def wait(self, event: Callable[["Device"], bool] | None = None, *, timeout: float | None = None,
             cycles: int | None = None, what: str = "", progress: Callable[["Device"], None] | None = None) -> None:
        """Let device time pass until the interrupt is high, or until ``event(device)`` is true.

        ``timeout`` is in seconds of the host, ``cycles`` in device cycles; whichever is over first raises
        :class:`DeviceTimeout`, which names ``what`` was waited for and shows the registers. Without both
        the limit is :data:`DEFAULT_TIMEOUT_CYCLES`. ``progress`` is called about every 65536 cycles.
        An ``event`` is looked at at intervals (16 cycles, then ever longer, up to 4096): the cycle at
        which it became true is not known exactly, that of an interrupt is.
        """
        self._usable()
        deadline = _Deadline(self, timeout, cycles)
        if event is None:
            while not self.transport.irq:
                self._pass(deadline, what or "interrupt", _SLICE, True, progress)
            if self._recorder:
                self._recorder.interrupt()
            return
        interval = 16
        with self.unrecorded():
            while not event(self):
                self._pass(deadline, what or "event", interval, False, progress)
                interval = min(2 * interval, 4096)

    def wait_nonzero(self, address: int | Sequence[int], *, acknowledge: str, timeout: float | None = None,
                     cycles: int | None = None, what: str = "", on_interrupt: Callable[[int], None] | None = None,
                     progress: Callable[["Device"], None] | None = None) -> None:
        """Let device time pass until the byte of device memory at ``address`` (or one of several) is not zero.

        Looks after each interrupt: reads the W1C register ``acknowledge``, writes the causes back and gives them to
        ``on_interrupt``. In a transcript the whole is one transaction, because how many interrupts of other
        causes come in between is a matter of timing. Limits as in :meth:`wait`.
        """
        self._usable()
        deadline = _Deadline(self, timeout, cycles)
        places = [address] if isinstance(address, int) else list(address)
        register = self.regs[acknowledge]
        if register.register.access is not Access.W1C:
            raise UsageError(f"acknowledge must name a W1C register, not {acknowledge}")
        with self.unrecorded():
            while not any(map(self._peek, places)):
                if self.transport.irq:
                    causes = register.value
                    register.value = causes
                    if on_interrupt:
                        on_interrupt(causes)
                    # What completed while the causes were read and cleared raises no interrupt any more.
                    if any(map(self._peek, places)):
                        break
                # Time must pass even with an interrupt that cannot be cleared.
                stuck = self.transport.irq
                self._pass(deadline, what or f"byte at {hex(places[0])}", 16 if stuck else _SLICE, not stuck, progress)
        if self._recorder:
            self._recorder.wait(places[0] if len(places) == 1 else places, register.register.offset)

    def wait_register(self, name: str, mask: int, value: int, *, timeout: float | None = None,
                      cycles: int | None = None) -> None:
        """Let device time pass until the bits ``mask`` of register ``name`` are ``value``. Limits as in :meth:`wait`.

        In a transcript this is one transaction, however often the register was read.
        """
        self._usable()
        deadline = _Deadline(self, timeout, cycles)
        view, interval = self.regs[name], 4
        with self.unrecorded():
            while view.value & mask != value:
                self._pass(deadline, f"{name} & {mask:#x} == {value:#x}", interval, False, None)
                interval = min(2 * interval, 4096)
        if self._recorder:
            self._recorder.until(view.register.offset, mask, value)

    def _peek(self, address: int) -> int:
        if self.transport.memory is not None:
            return int(self.transport.memory[address - self.transport.memory_base])
        return self.transport.read_memory(address, 1)[0]

    def _pass(self, deadline: _Deadline, what: str, most: int, until_interrupt: bool,
              progress: Callable[["Device"], None] | None) -> None:
        self.transport.run(deadline.step(what, most), until_interrupt)
        if progress:
            progress(self)

    def run(self, cycles: int) -> None:
        """Let ``cycles`` clock cycles pass, whatever happens."""
        self._usable()
        end = self.cycles + cycles
        while (left := end - self.cycles) > 0:
            self.transport.run(left, until_interrupt=False)

    def state(self) -> str:
        """The registers and what is known of the ports as text, for messages: never raises."""
        try:
            return "\n".join(part for part in (self.regs.dump(), self.transport.state()) if part)
        except Exception as error:  # what is being told already went wrong; this must not take its place
            return f"(the device's state cannot be read: {error})"

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Within it a transcript takes no notice."""
        recorder, self._recorder = self._recorder, None
        try:
            yield
        finally:
            self._recorder = recorder

    def attach_recorder(self, recorder: "Recorder | None") -> None:
        """Tell ``recorder`` about every transaction from now on; ``None`` ends that."""
        if recorder is not None and self._recorder is not None:
            raise UsageError("this device is being recorded already")
        self._recorder = recorder

    def _usable(self) -> None:
        if self._closed:
            raise UsageError(f"{self.url} is closed")

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def close(self) -> None:
        """Let go of the device. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self.transport.close()

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        parameters = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"<device {self.url} ({parameters}), build {self.build}>"


def device_type(url: str) -> tuple[DeviceURL, DeviceType]:
    """``url`` in its parts, and the kind of device it names. Raises UsageError or Unavailable for one that is wrong."""
    parsed = DeviceURL.parse(url)
    if parsed.scheme in _BOARD_SCHEMES:
        raise Unavailable(f"{parsed.scheme}: devices cannot be had here, only simulated ones: use "
                          + " or ".join(f"sim:{name}" for name in DEVICES))
    if parsed.scheme not in _SCHEMES:
        known = ", ".join(f"{scheme}:" for scheme in _SCHEMES + _BOARD_SCHEMES)
        raise UsageError(f"unknown scheme {parsed.scheme!r} in {url!r}: there are {known}")
    kind = DEVICES.get(parsed.name)
    if kind is None:
        raise UsageError(f"unknown device {parsed.name!r} in {url!r}: there are {', '.join(DEVICES)}")
    return parsed, kind


def open_device(url: str, **options: Any) -> Device:
    """Open the device at ``url``: ``sim:inflate`` (native co-simulation), ``model:inflate`` (golden model), or a board.

    Options stand in the URL (``sim:inflate?contexts=1&latency=40``) or are keywords; keywords win. Every simulated
    device takes its gateware parameters (inflate: ``contexts``, ``window``, ``lanes``) and ``memory`` (bytes, with
    K, M, G), ``sim:`` those of :mod:`rackgate_host.transport.sim` as well.

    Boards are at ``uart:/dev/ttyUSB0``, ``udp:192.0.2.10``, or ``tcp:host:port`` behind a ``rackgate server``, and say
    themselves what they are. Options are those of the transport, and what the caller relies on: ``system`` (its name),
    ``build`` (the first digits of its hash), and the system's parameters.

    Raises
    ------
    UsageError
        The URL or an option is wrong.
    Unavailable
        The backend cannot be had here; the text says how to get it.
    DeviceMismatch
        The device is not what the driver was written for, or not what the options say.
    DeviceTimeout
        The board does not answer.
    """
    parsed = DeviceURL.parse(url)
    merged: dict[str, Any] = {**parsed.options, **options}
    if parsed.scheme in _BOARD_SCHEMES:
        return _open_board(parsed, merged)
    _, kind = device_type(url)
    backend = import_module(f".transport.{parsed.scheme}", __package__)
    return _device(backend.connect(kind, merged), kind, str(parsed))


def _device(transport: Transport, kind: DeviceType, url: str) -> Device:
    try:
        return Device(transport, kind, url)
    except BaseException:
        transport.close()
        raise


def _open_board(parsed: DeviceURL, options: dict[str, Any]) -> Device:
    """The device on a board, which says what it is."""
    backend = import_module(f".transport.{parsed.scheme}", __package__)
    transport: RemoteTransport = backend.attach(parsed.name, options)
    try:
        kind = expected_kind(transport.identity, options, str(parsed))
        device = Device(transport, kind, str(parsed))
        check_expected(device, transport.identity, options)
        return device
    except BaseException:
        transport.close()
        raise
