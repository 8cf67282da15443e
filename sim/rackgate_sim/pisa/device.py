# SPDX-License-Identifier: Apache-2.0
"""A switch at its registers and packet streams, on the reference model of its pipeline."""

from collections import deque

from rackgate.csr.map import Access, RegisterMap
from rackgate.pisa.abi import (
    Command,
    CommandError,
    data_words,
    fingerprint,
    from_words,
    to_words,
)
from rackgate.pisa.declare import Pipeline
from rackgate_sim.pisa.model import PipelineModel

__all__ = ["SwitchModel"]

_FRAME_CYCLES = 24  # what a frame takes besides its words
_SCRUB_CYCLES = 64  # from a reset until the device is ready
_DONE, _READY, _REFUSED = 1, 2, 4  # of IRQ_STATUS


class SwitchModel:
    """A software device with the registers of :func:`rackgate.pisa.abi.switch_registers`.

    Frames are worked on one after the other, each to its end, as time passes in :meth:`run`; so are commands, which
    take no time. A frame that is given while the device is not ready waits. Times are plausible and deterministic,
    nothing more.

    Parameters
    ----------
    pipeline:
        The declaration.
    registers:
        The device's map.
    parameters:
        The pipeline's parameters, for the PARAM registers.
    width, slots, slot_size:
        As for the gateware; ``slots`` is of no effect.
    build:
        Value of BUILD_LO and BUILD_HI, 64 bits.

    Attributes
    ----------
    model:
        The :class:`PipelineModel`.
    """

    def __init__(self, pipeline: Pipeline, registers: RegisterMap, parameters: dict[str, int], *, width: int,
                 slots: int, slot_size: int, build: int = 0):
        if slot_size < 64 or slot_size & slot_size - 1:
            raise ValueError(f"slot_size must be a power of two of at least 64, not {slot_size}")
        self.model = PipelineModel(pipeline, slot_size=slot_size)
        self._map = registers
        self._names = {register.offset: name for name, register in registers.items()}
        self._constants = {
            "PARAM_WIDTH": width, "PARAM_SLOTS": slots, "PARAM_SLOT_SIZE": slot_size,
            "PIPELINE": fingerprint(pipeline), "BUILD_LO": build & 0xFFFFFFFF, "BUILD_HI": build >> 32,
            **{f"PARAM_{name.upper()}": value for name, value in parameters.items()},
        }
        self._width = width
        self._words = data_words(max([1, *(item.width for item in pipeline.registers),
                                      *(table.format.width for table in self.model.tables.values())]))
        self._reset()

    def _reset(self) -> None:
        self._registers = {name: self._constants.get(name, item.reset) for name, item in self._map.items()}
        self.model.reset()
        self._counts = dict.fromkeys(("RECEIVED", "ACCEPTED", "SENT", "RECIRCULATED"), 0)
        self._in: deque[bytes] = deque()
        self._out: deque[bytes] = deque()
        self._cycle = 0
        self._free_at = _SCRUB_CYCLES
        self._error = CommandError.NONE
        self._is_ready = False
        self._is_fresh = True

    # Registers

    @property
    def streams(self) -> tuple[str, str]:
        """Names of the packet streams."""
        return "net_rx", "net_tx"

    @property
    def cycle(self) -> int:
        """Clock cycles since reset."""
        return self._cycle

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return bool(self._registers["IRQ_STATUS"] & self._registers["IRQ_ENABLE"])

    def read_register(self, offset: int) -> int:
        """The register at byte ``offset``; 0 where there is none."""
        name = self._names.get(offset)
        if name is None or self._map[name].access is Access.WO:
            return 0
        if name == "STATUS":
            is_idle = self._is_ready and not self._in and self._cycle >= self._free_at
            flags = (self._is_ready, not self._is_ready, is_idle, self._is_fresh)
            return sum(flag << bit for bit, flag in enumerate(flags)) | self._error << 8
        if name in self._counts:
            return self._counts[name] & 0xFFFFFFFF
        if name.startswith("REJECTED_"):
            cause = next(item for item in self.model.rejections if name == f"REJECTED_{item.name}")
            return self.model.rejections[cause] & 0xFFFFFFFF
        return self.model.dropped & 0xFFFFFFFF if name == "DROPPED" else self._registers[name]

    def write_register(self, offset: int, value: int) -> bool:
        """Write the register at byte ``offset``; whether the device takes it."""
        name = self._names.get(offset)
        if name is None or self._map[name].access in (Access.RO, Access.CONST):
            return False
        fields = sum(field.mask for field in self._map[name].fields) or 0xFFFFFFFF
        if name == "CONTROL":
            if value & 1:
                self._reset()
        elif name == "COMMAND":
            self._command(value & fields)
        elif name == "IRQ_STATUS":
            self._registers[name] &= ~value
        else:
            self._registers[name] = value & fields
        return True

    def _command(self, operation: int) -> None:
        if not self._is_ready:
            self._registers["IRQ_STATUS"] |= _REFUSED
            return
        self._error = self._do(operation)
        self._registers["IRQ_STATUS"] |= _DONE

    def _do(self, operation: int) -> CommandError:
        target, index = self._registers["TARGET"], self._registers["INDEX"]
        given = from_words([self._registers[f"DATA_{k}"] for k in range(self._words)])
        self._set_result(given)
        if operation in (Command.READ_REGISTER, Command.WRITE_REGISTER):
            registers = self.model.pipeline.registers
            if target >= len(registers):
                return CommandError.BAD_TARGET
            register = registers[target]
            if index >= register.depth:
                return CommandError.BAD_INDEX
            words = self.model.registers[register.name]
            if operation == Command.WRITE_REGISTER:
                words[index] = given & (1 << register.width) - 1
                return CommandError.NONE
            result = words.get(index, register.init)
        elif operation in (Command.READ_ENTRY, Command.WRITE_ENTRY):
            tables = list(self.model.tables.values())
            if target >= len(tables):
                return CommandError.BAD_TARGET
            table = tables[target]
            if index >= table.capacity:
                return CommandError.BAD_INDEX
            if operation == Command.WRITE_ENTRY:
                table.write(index, given)
                self._is_fresh = False
                return CommandError.NONE
            result = table.read(index)
        else:
            return CommandError.BAD_OPERATION
        self._set_result(result)
        return CommandError.NONE

    def _set_result(self, value: int) -> None:
        for k, word in enumerate(to_words(value, 32 * self._words)):
            self._registers[f"RESULT_{k}"] = word

    # Packets

    def push(self, stream: str, packet: bytes) -> None:
        """A frame for ``net_rx``. Raises ValueError for another stream or an empty frame."""
        if stream != "net_rx":
            raise ValueError(f"the device takes no packets at {stream!r}, it does at net_rx")
        if not packet:
            raise ValueError("a frame must have at least one byte")
        self._in.append(bytes(packet))

    def pop(self, stream: str) -> bytes | None:
        """The next frame from ``net_tx``, if there is one. Raises ValueError for another stream."""
        if stream != "net_tx":
            raise ValueError(f"the device sends no packets at {stream!r}, it does at net_tx")
        return self._out.popleft() if self._out else None

    def run(self, cycles: int, until_interrupt: bool = True) -> int:
        """Let at most ``cycles`` pass, with ``until_interrupt`` none once the interrupt is high. Returns how many."""
        start, end = self._cycle, self._cycle + cycles
        while self._cycle < end and not (until_interrupt and self.irq):
            if self._free_at > end or self._is_ready and not self._in:
                self._cycle = end
                break
            self._cycle = max(self._cycle, self._free_at)
            if not self._is_ready:
                self._is_ready = True
                self._registers["IRQ_STATUS"] |= _READY
            else:
                self._one_frame(self._in.popleft())
        return self._cycle - start

    def _one_frame(self, frame: bytes) -> None:
        model, counts = self.model, self._counts
        counts["RECEIVED"] += 1
        passes, packet = 0, model.parse(frame)
        counts["ACCEPTED"] += packet is not None
        while packet is not None:
            passes += 1
            if passes > model.MOST_PASSES:
                raise RuntimeError(f"pipeline {model.pipeline.name}: a packet recirculates without an end")
            left, packet = model.step(packet)
            counts["RECIRCULATED"] += packet is not None
            counts["SENT"] += len(left)
            self._out.extend(out for _, out in left)
        self._free_at = self._cycle + _FRAME_CYCLES * max(passes, 1) + -(-len(frame) // self._width)
