# SPDX-License-Identifier: Apache-2.0
"""The collective engine at its registers, on the golden model."""

from collections.abc import Callable

from rackgate.collective.abi import CALL_WORDS, NODES, REGISTERS, Control, Counter
from rackgate.collective.isa import MAX_PROGRAM
from rackgate.collective.packets.abi import Probe, Probed
from rackgate.csr.map import Access
from rackgate_sim.collective.engine import Engine, Link
from rackgate_sim.inflate.model import Memory

__all__ = ["CollectiveModel"]

_WORD = 0xFFFFFFFF


class CollectiveModel:
    """A software device with the registers of ``rackgate.collective.abi.REGISTERS``.

    It is a node of a :class:`rackgate_sim.collective.fabric.Fabric`, and time passes for all of its nodes together.

    Parameters
    ----------
    memory:
        What the device sees at its memory port.
    link:
        Its place in the network.
    width, segment, slots:
        As for the gateware.
    build:
        Value of BUILD_LO and BUILD_HI, 64 bits.
    run:
        Lets time pass, for all nodes.

    Attributes
    ----------
    engine:
        The model behind the registers.
    """

    def __init__(self, memory: Memory, link: Link, *, width: int = 8, segment: int = 1024, slots: int = 64,
                 build: int = 0, run: Callable[[int, bool], int]):
        if width not in (4, 8, 16, 32, 64):
            raise ValueError(f"width must be 4, 8, 16, 32 or 64 bytes, not {width}")
        for name, value, low, high in (("segment", segment, 256, 4096), ("slots", slots, 16, 256)):
            if not low <= value <= high or value & value - 1:
                raise ValueError(f"{name} must be a power of two from {low} to {high}, not {value}")
        self.engine = Engine(memory, link, width=width, segment=segment, slots=slots)
        self._link, self._run = link, run
        self._names = {register.offset: name for name, register in REGISTERS.items()}
        constants = {"PARAM_WIDTH": width, "PARAM_SEGMENT": segment, "PARAM_SLOTS": slots,
                     "PARAM_TYPES": self.engine.types, "PARAM_PROGRAM": MAX_PROGRAM,
                     "BUILD_LO": build & _WORD, "BUILD_HI": build >> 32}
        self._initial = {name: constants.get(name, register.reset) for name, register in REGISTERS.items()}
        self._reset()

    def _reset(self) -> None:
        self.engine.reset()
        self._registers = dict(self._initial)
        self._address = 0  # of the next word for CONFIG_DATA
        self._words: list[int] = []  # of a call that is not complete

    @property
    def streams(self) -> tuple[str, str]:
        """Names of the packet streams: from and to a kernel. The network's are the fabric's."""
        return "kernel", "kernel_out"

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return bool(self._registers["IRQ_STATUS"] & self._registers["IRQ_ENABLE"])

    def advance(self) -> None:
        """Do what can be done in this cycle."""
        before = len(self.engine.completions)
        self.engine.advance()
        if len(self.engine.completions) > before:
            self._registers["IRQ_STATUS"] |= 1

    def run(self, cycles: int, until_irq: bool = False) -> int:
        """Let at most ``cycles`` pass (:meth:`rackgate_sim.collective.fabric.Fabric.run`)."""
        return self._run(cycles, until_irq)

    # Registers

    def read_register(self, offset: int) -> int | None:
        """The register at byte ``offset``; ``None`` if the bus answers with SLVERR."""
        name = self._names.get(offset)
        if name is None:
            return None
        if REGISTERS[name].access is Access.WO:
            return 0
        engine, completions = self.engine, self.engine.completions
        match name:
            case "CALL_SPACE":
                return engine.call_space
            case "COMPLETIONS":
                return len(completions)
            case "COMPLETION_0" | "COMPLETION_1" | "COMPLETION_2" | "COMPLETION_3":
                return completions[0].words()[int(name[-1])] if completions else 0
        if name.startswith("COUNT_LINK_"):  # the model's network loses nothing: it has no such link
            return 0
        if name.startswith("COUNT_"):
            return engine.counts[Counter[name.removeprefix("COUNT_")]] & _WORD
        return self._registers[name]

    def write_register(self, offset: int, value: int) -> bool:
        """Write the register at byte ``offset``; whether the bus answered OKAY."""
        name = self._names.get(offset)
        if name is None or REGISTERS[name].access in (Access.RO, Access.CONST):
            return False
        engine = self.engine
        match name:
            case "CONTROL":
                if value & Control.RESET:
                    self._reset()
                self._registers[name] = value & Control.ENABLE
                engine.is_enabled = bool(value & Control.ENABLE)
            case "NODE":
                self._registers[name] = engine.node = value & NODES - 1
            case "TIMEOUT":
                self._registers[name] = engine.timeout = value
            case "CONFIG_ADDRESS":
                self._registers[name] = self._address = value & 0xFFFF
            case "CONFIG_DATA":
                engine.configure(self._address, value)
                self._address = self._address + 1 & 0xFFFF
            case "CALL_WORD":
                self._words.append(value)
                if len(self._words) == CALL_WORDS:
                    engine.submit(tuple(self._words))
                    self._words.clear()
            case "ABORT":
                engine.abort(value & 0xFFFF)
            case "PROBE":
                found = engine.receiver.probe(Probe.from_words((self._registers["PROBE_TAG"], value)))
                answer = (Probed.IS_DONE, 0, 0) if found is None else found.words()
                self._registers |= {f"PROBE_{k}": word for k, word in enumerate(answer)}
            case "COMPLETION_POP":
                if engine.completions:
                    engine.completions.popleft()
            case "IRQ_STATUS":
                self._registers[name] &= ~value
            case _:
                self._registers[name] = value & 1 if name == "IRQ_ENABLE" else value
        self._link.after(1, lambda: None)
        return True

    # Kernel's streams

    def push(self, stream: str, packet: bytes) -> None:
        """A packet from a kernel. Raises ValueError for another stream."""
        if stream != "kernel":
            raise ValueError(f"the device takes no packets at {stream!r}, it does at kernel")
        self.engine.push_kernel(bytes(packet))
        self._link.after(1, lambda: None)

    def pop(self, stream: str) -> bytes | None:
        """The next packet for a kernel, if there is one. Raises ValueError for another stream."""
        if stream != "kernel_out":
            raise ValueError(f"the device has no packets at {stream!r}, it does at kernel_out")
        return self.engine.kernel_out.popleft() if self.engine.kernel_out else None
