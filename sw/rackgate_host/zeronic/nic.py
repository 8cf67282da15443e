# SPDX-License-Identifier: Apache-2.0
"""Driver of the NIC: its rings, its tables, and the frames that go through it.

The driver knows nothing of transports: it hands entries to whoever asks, and sends what it is given. All methods that
change a table take effect before any command that is given later; a frame that has already come may still see the
table as it was, up to a fence (:meth:`Nic.fence`).
"""

from collections import deque
from collections.abc import Callable, Iterator

from rackgate.zeronic.abi import RINGS, Control, Counter, Direction, StatusFlag
from rackgate.zeronic.messages import (
    Cursor,
    Entry,
    EntryKind,
    Fence,
    Flow,
    Key,
    Post,
    Profile,
    Region,
    Retire,
    Send,
)

from ..device import Device
from ..errors import DeviceFault, UsageError
from .errors import TooManySegments, ZeronicError
from .keys import FlowKey, KeyTable
from .rings import CommandRing, EntryRing

__all__ = ["Nic"]

_MODULUS = 1 << 32
_READY_CYCLES = 10_000_000
_FENCES = 1 << 16


class Nic:
    """A NIC that works.

    Parameters
    ----------
    device:
        The device, opened: ``model:zeronic``, ``sim:zeronic``, or a board, whose frames come and go at its own port. It
        is reset.
    command_bytes, entry_bytes:
        Sizes of the rings, powers of two.
    coalesce_cycles:
        How long a header may wait to be merged with others of its flow; 0: none is.

    Raises
    ------
    UsageError
        The device is another one.
    DeviceTimeout
        The NIC does not become ready.

    Attributes
    ----------
    flows, segments, regions:
        How many the NIC has; segments are of a flow and direction.
    """

    def __init__(self, device: Device, *, command_bytes: int = 1 << 18, entry_bytes: int = 1 << 20,
                 coalesce_cycles: int = 0):
        if device.name != "zeronic":
            raise UsageError(f"device {device.name} is no NIC: open model:zeronic or sim:zeronic")
        self.device = device
        self.flows = device.parameters["flows"]
        self.segments = device.parameters["segments"]
        self.regions = device.parameters["regions"]
        self.coalesce_cycles = coalesce_cycles
        device.regs.CONTROL.write(reset=1)
        device.wait_register("CONTROL", Control.RESET, 0)  # it lets bus transfers under way end first
        device.wait_register("STATUS", StatusFlag.READY, StatusFlag.READY, cycles=_READY_CYCLES)
        self._keys = KeyTable(self.flows)
        self._posted: dict[tuple[int, int], int] = {}
        self._entries: deque[tuple[Entry, bytes]] = deque()
        self._fences: dict[int, Callable[[], None]] = {}
        self._next_fence = 0
        self._pushed = 0
        self._first_frame = device.regs.COUNT_FRAMES_RECEIVED.value
        self._commands = CommandRing(device, command_bytes, self.collect)
        self._rings = [EntryRing(device, number, entry_bytes) for number in range(RINGS)]
        device.regs.COALESCE_CYCLES.value = coalesce_cycles
        device.regs.CONTROL.write(receive=1, send=1)

    # Tables

    def set_region(self, region: int, rights: int, base: int, length: int, owner: int | None = None) -> None:
        """Register memory as ``region``, for all flows or for one (``owner``); with no ``rights`` it is none."""
        self._check("region", region, self.regions)
        self._put(Region(region, rights, base, length, 0 if owner is None else owner + 1))

    def set_profile(self, profile: Profile) -> None:
        """Set a header profile. No key may stand with its number: they would no longer be found as they were."""
        self._put(profile)

    def begin_flow(self, flow: int, flags: int, cursor: int) -> None:
        """Begin or end a flow: without segments, nothing placed, its cursor at sequence number ``cursor``."""
        self._check("flow", flow, self.flows)
        self._posted[flow, Direction.RECEIVE] = self._posted[flow, Direction.SEND] = 0
        self._put(Flow(flow, flags, cursor))

    def insert_key(self, key: FlowKey, flow: int) -> None:
        """Frames with this key belong to ``flow`` from now on. Raises :class:`FlowTableFull`."""
        self._check("flow", flow, self.flows)
        self._put(Key(flow, self._keys.insert(key), True, *key))

    def remove_key(self, key: FlowKey) -> None:
        """Frames with this key belong to no flow any more."""
        self._put(Key(0, self._keys.remove(key), False))

    def post(self, flow: int, direction: Direction, start: int, length: int, region: int, offset: int) -> None:
        """Append a segment: stream bytes from ``start`` on are at ``offset`` of ``region``.

        Raises :class:`TooManySegments`.
        """
        self._check("flow", flow, self.flows)
        if not 0 < length < 1 << 31:
            raise ValueError(f"a segment must have 1 to 2**31 - 1 bytes, not {length}")
        if not self.room(flow, direction):
            raise TooManySegments(f"flow {flow} has {self.segments} segments posted, as many as the NIC remembers")
        self._posted[flow, direction] = self._posted.get((flow, direction), 0) + 1
        self._put(Post(flow, direction, start % _MODULUS, length, region, offset))

    def retire(self, flow: int, direction: Direction, count: int = 1) -> None:
        """Take the oldest ``count`` segments away."""
        if not 0 <= count <= self._posted.get((flow, direction), 0):
            raise ValueError(f"count must be of segments that are posted, not {count}")
        if count:
            self._posted[flow, direction] -= count
            self._put(Retire(flow, direction, count))

    def room(self, flow: int, direction: Direction) -> int:
        """How many more segments may be posted."""
        return self.segments - self._posted.get((flow, direction), 0)

    def move_cursor(self, flow: int, position: int) -> None:
        """Bytes before sequence number ``position`` are judged: the NIC writes none of them from now on."""
        self._put(Cursor(flow, position % _MODULUS))

    def fence(self, done: Callable[[], None], ring: int = 0) -> None:
        """Call ``done`` when nothing is written any more that the commands so far forbid.

        It is called out of :meth:`entries`, in its place among the entries of ``ring``.
        """
        if len(self._fences) == _FENCES:
            raise ZeronicError(f"{_FENCES} fences wait for the NIC's answer")
        cookie = self._next_fence
        self._next_fence = (cookie + 1) % _FENCES
        self._fences[cookie] = done
        self._put(Fence(ring, cookie))

    def _check(self, what: str, value: int, count: int) -> None:
        if not 0 <= value < count:
            raise ValueError(f"{what} must be 0 to {count - 1}, not {value}")

    # Frames and entries

    def send(self, command: Send) -> None:
        """Send a frame, or as many as the command says."""
        self._put(command)

    def receive(self, frame: bytes) -> None:
        """A frame comes from the wire."""
        self._pushed += 1
        self.device.push("net_rx", frame)

    def sent(self) -> Iterator[bytes]:
        """The frames that have gone to the wire."""
        while (frame := self.device.transport.pop("net_tx")) is not None:
            yield frame

    def entries(self) -> Iterator[tuple[Entry, bytes]]:
        """The entries that have come, each with its content."""
        self.collect()
        while self._entries:
            entry, content = self._entries.popleft()
            if entry.kind == EntryKind.FENCE:
                done = self._fences.pop(entry.flow, None)
                if done is None:
                    raise DeviceFault(f"{self.device.url}: the NIC answered fence {entry.flow}, which nobody asked for")
                done()
            else:
                yield entry, content

    def collect(self) -> None:
        """Take entries out of their rings, so that the NIC has room."""
        for ring in self._rings:
            self._entries.extend(ring.take())

    def _put(self, command: Cursor | Fence | Flow | Key | Post | Profile | Region | Retire | Send) -> None:
        self._commands.put(command.to_bytes())

    # Time

    def notify(self) -> None:
        """Hand the commands so far to the NIC."""
        self._commands.notify()

    @property
    def produced(self) -> int:
        """How far commands have been given, for :meth:`is_taken`."""
        return self._commands.produced

    def is_taken(self, produced: int | None = None) -> bool:
        """Whether the NIC has taken all commands that were given when :attr:`produced` was read, or all."""
        return self._commands.is_taken(produced)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, save headers that wait to be merged."""
        idle = StatusFlag.RECEIVE_IDLE | StatusFlag.SEND_IDLE
        return self._commands.is_taken() and not self.waiting and self.device.regs.STATUS.value & idle == idle

    @property
    def waiting(self) -> int:
        """Frames that have been given to :meth:`receive` and that the NIC has not taken from the wire yet."""
        return (self._pushed - (self.device.regs.COUNT_FRAMES_RECEIVED.value - self._first_frame)) % _MODULUS

    def run(self, cycles: int) -> None:
        """Let the NIC work for ``cycles``."""
        self.notify()
        self.device.run(cycles)

    def settle(self, cycles: int = 1_000_000) -> None:
        """Let the NIC work until it is idle, with no header waiting to be merged.

        Raises :class:`~rackgate_host.errors.DeviceTimeout`.
        """
        self.notify()

        def is_settled(device: Device) -> bool:
            self.collect()
            return self.is_idle

        self.device.wait(is_settled, cycles=cycles, what="end of the NIC's work")
        if self.coalesce_cycles:
            self.device.run(self.coalesce_cycles)
            self.device.wait(is_settled, cycles=cycles, what="end of the NIC's work")
        self.collect()

    # Counters

    def counters(self) -> dict[str, int]:
        """The NIC's counters, by name in lower case; each modulo 2**32."""
        return {counter.name.lower(): self.device.regs[f"COUNT_{counter.name}"].value for counter in Counter}

    @property
    def command_bytes(self) -> int:
        """Bytes of commands so far."""
        return self._commands.bytes

    @property
    def entry_bytes(self) -> int:
        """Bytes of entries so far."""
        return sum(ring.bytes for ring in self._rings)
