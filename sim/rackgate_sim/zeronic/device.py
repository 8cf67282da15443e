# SPDX-License-Identifier: Apache-2.0
"""The NIC at its registers and packet streams, on the golden model."""

from collections import deque

from rackgate.zeronic.abi import REGISTERS, RINGS, Control, Counter, StatusFlag
from rackgate.zeronic.messages import Command, Entry, EntryKind, Fence
from rackgate_sim.inflate.model import Memory
from rackgate_sim.registermodel import WORD, RegisterModel
from rackgate_sim.zeronic.coalescer import Coalescer
from rackgate_sim.zeronic.commands import Commands
from rackgate_sim.zeronic.receiver import Receiver, item
from rackgate_sim.zeronic.rings import CommandRing, EntryWriter, Ring
from rackgate_sim.zeronic.sender import Sender
from rackgate_sim.zeronic.tables import Tables

__all__ = ["ZeronicModel"]

_ENTRY, _COMMANDS = 1, 2  # of IRQ_STATUS


def _check(flows: int, segments: int, regions: int, intervals: int, width: int) -> None:
    if width not in (8, 16, 32):
        raise ValueError(f"width must be 8, 16 or 32 bytes, not {width}")
    for name, value, low, high in (("flows", flows, 16, 1024), ("segments", segments, 8, 64),
                                   ("regions", regions, 8, 256), ("intervals", intervals, 8, 64)):
        if not low <= value <= high or value & value - 1:
            raise ValueError(f"{name} must be a power of two from {low} to {high}, not {value}")


class ZeronicModel(RegisterModel):
    """A software device with the registers of ``rackgate.zeronic.abi.REGISTERS``.

    In a cycle it does a command if there is one, else it takes a frame, each to its end, when all entries before have
    been written. So commands that stand in the ring take effect before frames that wait. Its times mean nothing.

    Parameters
    ----------
    memory:
        What the device sees at its memory ports.
    width:
        Value of PARAM_WIDTH; of no effect.
    flows, segments, regions, intervals:
        As for the gateware.
    build:
        Value of BUILD_LO and BUILD_HI, 64 bits.

    Raises ``ValueError`` for a parameter that the gateware would refuse.
    """

    def __init__(self, memory: Memory, *, width: int = 8, flows: int = 256, segments: int = 32, regions: int = 64,
                 intervals: int = 32, build: int = 0) -> None:
        _check(flows, segments, regions, intervals, width)
        self._memory = memory
        self._sizes = flows, segments, intervals
        self._regions = regions
        super().__init__(REGISTERS, {
            "PARAM_WIDTH": width, "PARAM_FLOWS": flows, "PARAM_SEGMENTS": segments, "PARAM_REGIONS": regions,
            "PARAM_INTERVALS": intervals, "BUILD_LO": build & WORD, "BUILD_HI": build >> 32,
        })
        self._restart()

    def _restart(self) -> None:
        self._counts = dict.fromkeys(Counter, 0)
        self._tables = Tables(*self._sizes)
        self._received: deque[tuple[bytes, bool]] = deque()
        self._receiver = Receiver(self._memory, self._tables, self._counts)
        self._sender = Sender(self._memory, self._tables, self._counts)
        self._do_command = Commands(self._tables, self._sender, self._regions, self._counts).do
        self._coalescer = Coalescer()
        self._coalescer.most = self._registers["COALESCE_BYTES"]
        self._writer = EntryWriter(self._memory, self._counts)
        self._commands = CommandRing()
        self._can_go_on = False  # something has changed since nothing could be done

    @property
    def irq(self) -> bool:
        """Level of the interrupt."""
        return bool(self._registers["IRQ_STATUS"] & self._registers["IRQ_ENABLE"])

    # Packets

    @property
    def streams(self) -> tuple[str, str]:
        """Names of the packet streams."""
        return "net_rx", "net_tx"

    def push(self, stream: str, packet: bytes, *, error: bool = False) -> None:
        """A frame from the wire, without FCS; ``error``: the MAC marks it. ValueError for another stream."""
        if stream != "net_rx":
            raise ValueError(f"the device takes no packets at {stream!r}, it does at net_rx")
        self._received.append((bytes(packet), error))
        self._can_go_on = True

    def pop(self, stream: str) -> bytes | None:
        """The next frame for the wire, if there is one. ValueError for another stream."""
        if stream != "net_tx":
            raise ValueError(f"the device has no packets at {stream!r}, it does at net_tx")
        return self._sender.frames.popleft() if self._sender.frames else None

    # Registers

    def _ring(self, name: str) -> tuple[Ring, str]:
        """The ring that a register is of, and which of its values it is."""
        which, _, field = name.partition("_")
        return self._commands if which == "COMMAND" else self._writer.rings[int(which[-1])], field

    def _value(self, name: str) -> int:
        if name == "STATUS":
            waits = bool(self._received) and self._is_on(Control.RECEIVE)
            is_busy = self._commands.used and self._is_on(Control.SEND) and self._can_go_on
            return (StatusFlag.READY | (0 if waits or not self._writer.is_idle else StatusFlag.RECEIVE_IDLE)
                    | (0 if is_busy else StatusFlag.SEND_IDLE)
                    | (StatusFlag.SEND_HALTED if self._commands.is_halted else 0))
        if name.startswith("COUNT_"):
            counter = Counter[name.removeprefix("COUNT_")]
            return (self._coalescer.merged if counter == Counter.MERGED else self._counts[counter]) & WORD
        if name.endswith(("_PRODUCER", "_CONSUMER")):
            ring, field = self._ring(name)
            return ring.producer if field == "PRODUCER" else ring.consumer
        return self._registers[name]

    def _write(self, name: str, value: int) -> None:
        self._can_go_on = True
        match name:
            case "CONTROL":
                if value & Control.RESET:
                    self._reset_registers()
                    self._restart()
                self._registers[name] = value & (Control.RECEIVE | Control.SEND)
            case "IRQ_STATUS":
                self._registers[name] &= ~value
            case "IRQ_ENABLE":
                self._registers[name] = value & (_ENTRY | _COMMANDS)
            case _:
                self._registers[name] = value
                self._apply(name, value)

    def _apply(self, name: str, value: int) -> None:
        """Give the value of a register to whom it is for."""
        if name == "COALESCE_CYCLES":
            self._coalescer.cycles = value
            return
        if name == "COALESCE_BYTES":
            self._coalescer.most = value
            return
        ring, field = self._ring(name)
        match field:
            case "BASE_LO":
                ring.base = ring.base >> 32 << 32 | value
            case "BASE_HI":
                ring.base = ring.base & WORD | (value & 0xFF) << 32
            case "SIZE":
                ring.log_size = value
            case "PRODUCER":
                ring.producer = value
            case "CONSUMER":
                ring.consumer = value

    def _is_on(self, control: Control) -> bool:
        return bool(self._registers["CONTROL"] & control)

    # Time

    def _is_working(self) -> bool:
        return False  # there is no counter of it

    def _next_event(self) -> int | None:
        return self._cycle + 1 if self._can_go_on else self._coalescer.deadline

    def _step(self) -> None:
        self._can_go_on = self._advance()
        if self._writer.has_news:
            self._writer.has_news = False
            self._registers["IRQ_STATUS"] |= _ENTRY

    def _advance(self) -> bool:
        """Do one thing. Whether there may be more to do."""
        self._writer.put(self._coalescer.flush_late(self._cycle))
        if self._writer.write():
            return True
        if not self._writer.is_idle:
            return False
        if self._is_on(Control.SEND):
            taken = self._commands.take(self._memory)
            if taken is not None:
                self._command(*taken)
                return True
        if self._received and self._is_on(Control.RECEIVE):
            made = self._receiver.receive(*self._received.popleft())
            if made is not None:
                self._writer.put(self._coalescer.put(made, self._cycle))
            return True
        return False

    def _command(self, command: Command, content: bytes) -> None:
        answer = self._do_command(command, content)
        if isinstance(answer, Fence):
            self._writer.put(self._coalescer.flush_all())
            self._writer.put([item(answer.ring, Entry(EntryKind.FENCE, flow=answer.cookie))])
        elif answer is not None:
            self._writer.put([answer])
        if not self._commands.used:
            self._registers["IRQ_STATUS"] |= _COMMANDS


assert RINGS == 2, "register names have one digit"
