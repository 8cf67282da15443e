# SPDX-License-Identifier: Apache-2.0
"""Several devices with one time line, and programs that take turns in driving them."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .device import Device, device_type
from .errors import Unavailable, UsageError

if TYPE_CHECKING:
    from .ranks import Scheduler
    from .transport import Joined

__all__ = ["World", "join_boards", "open_world"]

#: Longest stretch of device time between two looks at what is being waited for.
_SLICE = 1 << 16


class World:
    """Devices that share a time line, for instance the nodes of a simulated network. Use :func:`open_world`.

    Parameters
    ----------
    joined:
        The transports of all devices and what joins them. Closed with the world.
    devices:
        The devices on these transports.

    Attributes
    ----------
    pollers:
        Called after each stretch of device time, as interrupt handlers would be: whoever waits for a device's
        interrupt acknowledges it here, whichever rank's turn it is.
    alarms:
        Each tells the cycle at which the pollers should be called at the latest, or ``None``.
    """

    def __init__(self, joined: "Joined", devices: Sequence[Device]):
        self._joined = joined
        self.devices = tuple(devices)
        self.pollers: list[Callable[[], None]] = []
        self.alarms: list[Callable[[], int | None]] = []
        self._scheduler: Scheduler | None = None

    @property
    def scheduler(self) -> "Scheduler | None":
        """Who gives ranks their turns, while a program of ranks runs."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: "Scheduler | None") -> None:
        self._scheduler = self._joined.turns = scheduler

    @property
    def cycle(self) -> int:
        """Cycle that all devices have reached."""
        return self._joined.cycle

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Let all devices pass at most ``cycles``, with ``until_interrupt`` none once an interrupt is high."""
        self._joined.run(cycles, until_interrupt)

    def step(self, most: int) -> None:
        """Let at most ``most`` cycles pass, until something happens, and poll."""
        # Time must pass even with an interrupt that nobody acknowledges.
        is_stuck = any(device.irq for device in self.devices)
        due = [cycle - self.cycle for cycle in (alarm() for alarm in self.alarms) if cycle is not None]
        self.run(max(1, min(most, 16 if is_stuck else _SLICE, *due)), until_interrupt=not is_stuck)
        self.poll()

    def poll(self) -> None:
        """Let the interrupt handlers look."""
        for poller in self.pollers:
            poller()

    def wait(self, event: Callable[[], bool], *, cycles: int) -> bool:
        """Let others have their turn, and time pass, until ``event()`` is true. False if ``cycles`` passed before."""
        deadline = self.cycle + cycles
        if self.scheduler is not None and self.scheduler.has_turn:
            return self.scheduler.wait(event, deadline)
        self.poll()
        while not event():
            if self.cycle >= deadline:
                return False
            self.step(deadline - self.cycle)
        return True

    def traffic(self, source: int, destination: int) -> tuple[int, int]:
        """Packets that one device has sent to another, and their bytes with headers, as the network counted them."""
        return self._joined.traffic(source, destination)

    def close(self) -> None:
        """Let go of all devices. A second call does nothing."""
        for device in self.devices:
            device.close()
        self._joined.close()

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_world(url: str, nodes: int, **options: Any) -> World:
    """Open ``nodes`` devices that are joined by links, for instance those of ``model:collective``.

    Options are those of :func:`rackgate_host.open`, for every device the same.

    Raises
    ------
    UsageError
        The URL or an option is wrong, or the devices of this kind have no links.
    Unavailable
        The backend cannot be had here; the text says how to get it.
    """
    if nodes < 1:
        raise ValueError(f"nodes must be at least 1, not {nodes}")
    parsed, kind = device_type(url)
    backend = import_module(f".transport.{parsed.scheme}", __package__)
    connect_many = getattr(backend, "connect_many", None)
    if connect_many is None:
        raise Unavailable(f"{parsed.scheme}: devices cannot be joined in this version: use model:{kind.name}")
    if not kind.has_links:
        raise UsageError(f"devices of kind {kind.name} have no links to join them by")
    joined: Joined = connect_many(kind, nodes, {**parsed.options, **options})
    try:
        return World(joined, [Device(transport, kind, f"{parsed} (node {number})" if nodes > 1 else str(parsed))
                              for number, transport in enumerate(joined.transports)])
    except BaseException:
        joined.close()
        raise


def join_boards(devices: Sequence[Device]) -> World:
    """A world of boards whose cables are joined: device ``n`` is node ``n``. They are closed with it.

    Their time passes by itself, at each board for itself; that of the world is the first one's.

    Raises
    ------
    UsageError
        A device is in this process, or of a kind that has no links.

    >>> import rackgate_host
    >>> boards = [rackgate_host.open(f"udp:192.0.2.{10 + node}") for node in range(2)]
    >>> world = join_boards(boards)
    """
    from .transport.boards import JoinedBoards

    for device in devices:
        if device.transport.memory is not None:
            raise UsageError(f"{device.url} is no board: use open_world")
        if not device.kind.has_links:
            raise UsageError(f"{device.url}: devices of kind {device.name} have no links to join them by")
    return World(JoinedBoards([device.transport for device in devices]), devices)
