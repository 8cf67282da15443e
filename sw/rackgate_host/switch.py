# SPDX-License-Identifier: Apache-2.0
"""Control plane and packets of a switch: a device that a pipeline was declared for."""

from collections.abc import Callable

from rackgate.pisa.abi import COUNTERS, Command, CommandError, data_words, fingerprint, from_words, to_words
from rackgate.pisa.catalogue import PIPELINES
from rackgate.pisa.declare import Action, Pipeline, Register
from rackgate.pisa.entries import KeyFields, TableImage

from .device import Device
from .errors import DeviceFault, DeviceMismatch, UsageError

__all__ = ["Switch"]

#: Device cycles that a command, and the scrub after a reset, may take.
_COMMAND_CYCLES, _READY_CYCLES = 100_000, 10_000_000


class Switch:
    """Tables, register arrays, counters and packets of a switch.

    Parameters
    ----------
    device:
        The device, opened. Tables that are not empty are read from it.
    pipeline:
        What it was declared with; by default the pipeline of the device's name and parameters.

    Raises
    ------
    UsageError
        The device is no switch that has a declaration here.
    DeviceMismatch
        The device was built from another declaration.

    >>> import rackgate_host
    >>> with rackgate_host.open("model:balancer") as device:
    ...     Switch(device).read("counts", 0)
    {'packets': 0, 'bytes': 0}
    """

    def __init__(self, device: Device, pipeline: Pipeline | None = None):
        self.device = device
        self.pipeline = pipeline or _declared(device)
        built, known = device.regs.PIPELINE.value, fingerprint(self.pipeline)
        if built != known:
            raise DeviceMismatch(f"{device.url}: the device was built from another declaration ({built:#010x}, not "
                                 f"{known:#010x}): build gateware and host package from the same version")
        self._registers = {item.name: (number, item) for number, item in enumerate(self.pipeline.registers)}
        self._tables = {item.name: (number, TableImage(item)) for number, item in enumerate(self.pipeline.tables)}
        self._wait_ready()
        if not device.regs.STATUS.fresh:
            for number, image in self._tables.values():
                self._load(number, image)

    def _wait_ready(self) -> None:
        self.device.wait_register("STATUS", 1, 1, cycles=_READY_CYCLES)

    def reset(self) -> None:
        """Forget all packets, words and entries, as a reset of the device does."""
        self.device.regs.CONTROL.write(reset=1)
        self.device.wait_register("CONTROL", 1, 0, cycles=_COMMAND_CYCLES)  # it lets the frame on offer go first
        for _, image in self._tables.values():
            image.clear()
        self._wait_ready()

    # Commands

    def _command(self, operation: Command, target: int, index: int, write: tuple[int, int] | None = None) -> None:
        """Do a command; ``write`` is a value and its width."""
        regs = self.device.regs
        regs.TARGET.value = target
        regs.INDEX.value = index
        for k, word in enumerate(to_words(*write) if write else ()):
            regs[f"DATA_{k}"].value = word
        regs.COMMAND.value = operation
        self.device.wait_register("STATUS", 2, 0, cycles=_COMMAND_CYCLES)
        if error := regs.STATUS.error:
            raise DeviceFault(f"{self.device.url}: the device refused {operation.name} of {target}, index {index}: "
                              f"{CommandError(error).name}")

    def _result(self, width: int) -> int:
        return from_words([self.device.regs[f"RESULT_{k}"].value for k in range(data_words(width))])

    # Tables

    def table(self, name: str) -> TableImage:
        """What the host knows to stand in a table. Raises :class:`UsageError` for an unknown name."""
        return self._table(name)[1]

    def _table(self, name: str) -> tuple[int, TableImage]:
        return _named("table", name, self._tables)

    def _load(self, number: int, image: TableImage) -> None:
        """Read the entries that stand in the device."""
        with self.device.unrecorded():
            for place in range(image.capacity):
                self._command(Command.READ_ENTRY, number, place)
                if word := self._result(image.format.width):
                    image.write(place, word)

    def insert(self, table: str, key: KeyFields, action: Action | str, **arguments: int) -> None:
        """Put an entry into a table, in place of one with the same key. Packets may flow: each sees it or does not.

        A key is a number, or one for each field; in a ternary table a pair of value and mask stands for a field, and
        what was put first wins.

        Raises
        ------
        UsageError
            The table is full or has no place for the key, or the action, an argument or the key is not one of its.
        """
        number, image = self._table(table)
        self._write(number, image, lambda: image.insert(key, action, **arguments))

    def remove(self, table: str, key: KeyFields) -> None:
        """Take an entry out of a table. Raises :class:`UsageError` if there is none."""
        number, image = self._table(table)
        self._write(number, image, lambda: image.remove(key))

    def _write(self, number: int, image: TableImage, change: Callable[[], list[tuple[int, int]]]) -> None:
        try:
            writes = change()
        except (KeyError, ValueError) as error:
            raise UsageError(error.args[0]) from None
        for place, word in writes:
            self._command(Command.WRITE_ENTRY, number, place, (word, image.format.width))

    # Registers

    def _register(self, name: str) -> tuple[int, Register]:
        return _named("register", name, self._registers)

    def read(self, register: str, index: int) -> dict[str, int]:
        """A word of a register array, by field: as it stands between two packets."""
        number, item = self._register(register)
        self._check_index(item, index)
        self._command(Command.READ_REGISTER, number, index)
        word, out = self._result(item.width), {}
        for name, part in item.word.fields.items():
            out[name] = word & (1 << part.width) - 1
            word >>= part.width
        return out

    def write(self, register: str, index: int, **values: int) -> None:
        """Write a word of a register array in one step. All fields must be given: packets may flow meanwhile."""
        number, item = self._register(register)
        self._check_index(item, index)
        if set(values) != set(item.word.fields):
            raise UsageError(f"register {register} has fields {', '.join(item.word.fields)}: all must be given")
        word = low = 0
        for name, part in item.word.fields.items():
            if not 0 <= values[name] < 1 << part.width:
                raise UsageError(f"{register}.{name} must fit {part.width} bits, not {values[name]}")
            word |= values[name] << low
            low += part.width
        self._command(Command.WRITE_REGISTER, number, index, (word, item.width))

    def _check_index(self, item: Register, index: int) -> None:
        if not 0 <= index < item.depth:
            raise UsageError(f"register {item.name} has words 0 to {item.depth - 1}, not {index}")

    # Packets

    def counters(self) -> dict[str, int]:
        """What the device has counted, by name in lower case; each modulo 2**32."""
        return {name.lower(): self.device.regs[name].value for name in COUNTERS}

    def push(self, frame: bytes) -> None:
        """Queue a frame for the device."""
        self.device.push("net_rx", frame)

    def pop(self, *, cycles: int = 100_000) -> bytes:
        """The next frame from the device. Raises :class:`DeviceTimeout` when none comes within ``cycles``."""
        return self.device.pop("net_tx", cycles=cycles)

    def process(self, frame: bytes, *, cycles: int = 20_000) -> list[bytes]:
        """Send one frame through the switch alone: the frames that come of it within ``cycles``.

        Raises
        ------
        DeviceTimeout
            The device has not finished with it: a packet that recirculates without an end, or streams that stall.
        """
        regs = self.device.regs
        received, sent = regs.RECEIVED.value, regs.SENT.value
        self.push(frame)
        self.device.wait(lambda _: regs.RECEIVED.value != received and bool(regs.STATUS.idle), cycles=cycles,
                         what="end of a frame's processing")
        return [self.pop(cycles=cycles) for _ in range(regs.SENT.value - sent & 0xFFFFFFFF)]


def _declared(device: Device) -> Pipeline:
    if device.name not in PIPELINES:
        raise UsageError(f"device {device.name} is no switch: there are {', '.join(PIPELINES)}")
    known = PIPELINES[device.name]
    return known.pipeline(**{name: device.parameters[name] for name in known.parameters})


def _named(kind: str, name: str, known: dict) -> tuple:
    if name not in known:
        raise UsageError(f"the pipeline has no {kind} {name!r}: it has {', '.join(known) or 'none'}")
    return known[name]
