# SPDX-License-Identifier: Apache-2.0
"""A NIC of any world with its rings, for tests."""

from collections import Counter as Tally
from typing import NamedTuple

from rackgate.zeronic.abi import RINGS, WAYS, Control, Counter, Direction, Right, StatusFlag, flow_hash
from rackgate.zeronic.messages import (
    Command,
    CommandKind,
    Cursor,
    Entry,
    EntryKind,
    Fence,
    Flow,
    FlowFlag,
    Key,
    Post,
    Region,
    Retire,
)
from rackgate_host.device import Device, open_device

__all__ = ["DATA", "MEMORY_SIZE", "REGION_SIZE", "SMALL", "Nic", "Up"]

#: Parameters of a small NIC.
SMALL = {"flows": 16, "segments": 8, "regions": 8, "intervals": 8}

_COMMAND_RING, _ENTRY_RINGS = 0, 1 << 20
#: Offset in memory, and size, of region 0, which all flows may read and write.
DATA = 4 << 20
REGION_SIZE = 4 << 20
MEMORY_SIZE = DATA + REGION_SIZE
_LIMIT = 400_000


class Up(NamedTuple):
    """An entry with what followed it."""

    entry: Entry
    content: bytes


class Nic:
    """A started NIC with one region for all. ``parameters`` are the device's and its world's."""

    def __init__(self, world: str = "model", log_size: int = 16, command_log_size: int = 17,
                 device: Device | None = None, **parameters) -> None:
        options = {**SMALL, "memory": MEMORY_SIZE, **parameters}
        url = "&".join(f"{name}={value}" for name, value in options.items())
        self.device = device or open_device(f"{world}:zeronic?{url}")
        self.transport = self.device.transport
        self.base = self.transport.memory_base
        self.log_size, self.command_log_size = log_size, command_log_size
        self.start()

    def start(self) -> None:
        """Reset the device and set it up."""
        self.write("CONTROL", Control.RESET)
        while not self.read("STATUS") & StatusFlag.READY:
            self.transport.run(64, False)
        self.produced = 0
        self.consumed = [0] * RINGS
        self.place(_COMMAND_RING, bytes(1 << self.command_log_size))
        self._ring("COMMAND", _COMMAND_RING, self.command_log_size)
        for ring in range(RINGS):
            self.place(_ENTRY_RINGS + (ring << 20), bytes(1 << self.log_size))
            self._ring(f"RING{ring}", _ENTRY_RINGS + (ring << 20), self.log_size)
        self.write("CONTROL", Control.RECEIVE | Control.SEND)
        self.do(Region(0, Right.READ | Right.WRITE, self.base + DATA, REGION_SIZE))

    def _ring(self, name: str, offset: int, log_size: int) -> None:
        self.write(f"{name}_BASE_LO", self.base + offset & 0xFFFFFFFF)
        self.write(f"{name}_BASE_HI", self.base + offset >> 32)
        self.write(f"{name}_SIZE", log_size)

    # Registers and memory

    def read(self, name: str) -> int:
        """A register."""
        return self.transport.read_register(self.device.map[name].offset)

    def write(self, name: str, value: int) -> None:
        """Write a register."""
        self.transport.write_register(self.device.map[name].offset, value)

    def count(self, counter: Counter) -> int:
        """A counter."""
        return self.read(f"COUNT_{counter.name}")

    def counts(self) -> Tally[str]:
        """All counters that are not 0, but those of cycles, commands and entries."""
        left_out = (Counter.RING_FULL, Counter.COMMANDS, Counter.ENTRIES)
        return +Tally({one.name: self.count(one) for one in Counter if one not in left_out})

    def memory(self, offset: int, size: int) -> bytes:
        """Bytes of memory."""
        return self.transport.read_memory(self.base + offset, size)

    def place(self, offset: int, content: bytes) -> None:
        """Store bytes in memory."""
        self.transport.write_memory(self.base + offset, content)

    # Commands

    def queue(self, *commands) -> None:
        """Put commands into the ring, objects or bytes, without the doorbell, but at the ring's end."""
        size = 1 << self.command_log_size
        for command in commands:
            content = command if isinstance(command, bytes) else command.to_bytes()
            left = size - self.produced % size
            if len(content) > left:
                self._put(Command(CommandKind.PAD, units=left // 32).to_bytes(), left)
                self.ring()  # its room may be needed
                self.settle()
            self._put(content, len(content))

    def _put(self, content: bytes, size: int) -> None:
        self.place(_COMMAND_RING + self.produced % (1 << self.command_log_size), content)
        self.produced = (self.produced + size) % (1 << 32)

    def ring(self) -> None:
        """The doorbell."""
        self.write("COMMAND_PRODUCER", self.produced)

    def do(self, *commands) -> None:
        """Do commands, to their end."""
        self.queue(*commands)
        self.ring()
        self.settle()

    def begin(self, number: int, key: tuple[int, int, int, int], cursor: int = 0,
              flags: FlowFlag = FlowFlag.RECEIVE, profile: int = 0, way: int = 0) -> None:
        """Begin a flow with a key."""
        place = flow_hash(*key, profile) % (2 * self.device.parameters["flows"] // WAYS) * WAYS + way
        self.do(Flow(number, flags, cursor), Key(number, place, True, *key, profile))

    def post(self, flow: int, start: int, length: int, offset: int | None = None,
             direction: Direction = Direction.RECEIVE, region: int = 0) -> None:
        """Post a segment, by default where the position says."""
        at = start % REGION_SIZE if offset is None else offset
        self.do(Post(flow, direction, start % (1 << 32), length, region, at))

    def retire(self, flow: int, count: int, direction: Direction = Direction.RECEIVE) -> None:
        """Retire segments."""
        self.do(Retire(flow, direction, count))

    def cursor(self, flow: int, position: int) -> None:
        """Move a cursor."""
        self.do(Cursor(flow, position % (1 << 32)))

    # Time

    def is_quiet(self) -> bool:
        """Whether nothing is under way."""
        status = StatusFlag(self.read("STATUS"))
        takes_all = StatusFlag.SEND_IDLE in status and self.read("COMMAND_CONSUMER") == self.produced
        return StatusFlag.RECEIVE_IDLE in status and (takes_all or StatusFlag.SEND_HALTED in status)

    def settle(self) -> None:
        """Let time pass until nothing is under way, and a little more."""
        for _ in range(_LIMIT // 64):
            self.transport.run(64, False)
            if self.is_quiet():
                self.transport.run(64, False)
                if self.is_quiet():
                    return
        raise AssertionError(f"the NIC is at work after {_LIMIT} cycles: {self.transport.state()}")

    # Frames and entries

    def receive(self, *frames: bytes) -> list[Up]:
        """Give frames; the entries of ring 0 that come."""
        for frame in frames:
            self.transport.push("net_rx", frame)
        self.settle()
        return self.entries()

    def one(self, frame: bytes) -> Up:
        """Give a frame that has one entry."""
        (up,) = self.receive(frame)
        return up

    def entries(self, ring: int = 0) -> list[Up]:
        """Take the entries of a ring."""
        found = []
        producer, size = self.read(f"RING{ring}_PRODUCER"), 1 << self.log_size
        while self.consumed[ring] != producer:
            at = self.consumed[ring] % size
            content = self.memory(_ENTRY_RINGS + (ring << 20) + at, min(1 << 14, size - at))
            entry = Entry.from_bytes(content.ljust(16, b"\0"))
            assert entry.size and at + 8 * entry.size <= size
            if entry.kind != EntryKind.PAD:
                assert entry.size == -(-(16 + entry.content) // 8)
                assert not any(content[16 + entry.content:8 * entry.size])
                found.append(Up(entry, content[16:16 + entry.content]))
            self.consumed[ring] = (self.consumed[ring] + 8 * entry.size) % (1 << 32)
        self.write(f"RING{ring}_CONSUMER", self.consumed[ring])
        return found

    def sent(self) -> list[bytes]:
        """Take the frames that have been sent."""
        frames = []
        while (frame := self.transport.pop("net_tx")) is not None:
            frames.append(frame)
        return frames

    def fence(self, cookie: int, ring: int = 0) -> None:
        """Order a fence."""
        self.do(Fence(ring, cookie))
