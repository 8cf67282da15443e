# SPDX-License-Identifier: Apache-2.0
"""The process of one simulated host: its NIC, its control stack, its end of the wire, and who talks to it.

Started by :mod:`rackgate_host.zeronic.supervisor` as ``python -m rackgate_host.zeronic.daemon``, with a
:class:`HostConfig` as JSON on its command line. It dies with the supervisor. What it has in the kernel (two network
namespaces and the cable between them) has no name and ends with it.
"""

import array
import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from ..device import open_device
from ..url import DeviceURL, number
from . import namespaces
from .applications import Applications
from .cable import plug_in
from .datagramstack import DatagramStack
from .flows import Flows, memory_needed
from .nic import Nic
from .processes import die_with_parent, explained
from .stack import ControlStack, KernelStack
from .wire import Conditions, Wire

__all__ = ["HostConfig", "HostDaemon", "main"]

#: Name of the interface that applications see.
INTERFACE = "eth0"
#: Device memory for rings and for what applications allocate.
_OWN_MEMORY = 512 << 20
#: Flows of a NIC whose URL does not say.
_FLOWS = 256
#: Frames that are read from the wire, or from the kernel, at a time, and device cycles that follow.
_BATCH, _CYCLES = 64, 1024
#: Frames on the way into the NIC, and frames waiting for the other end of the wire, at which no more are read.
_WAITING_MOST, _BACKLOG_MOST = 128, 1024
#: Seconds of the clock on the wall in which no frame comes, after which headers no longer wait to be merged. While a
#: NIC has nothing to do its time stands still, and its peer, simulated too, is far slower than a wire.
_MERGE_WAIT = 0.002
#: Seconds between two looks at the flows.
_TICK = 0.25
#: In front of each frame of a trace: nanoseconds since 1970, and the length of the frame.
TRACE_HEAD = struct.Struct("<QI")


@dataclass(frozen=True)
class HostConfig:
    """What a host's daemon is told. ``wire`` and ``ready`` are inherited descriptors, ``parent`` is a process."""

    host: str
    address: str  # with the length of the network's prefix
    mac: str
    neighbours: dict[str, str]  # addresses to MACs
    device: str
    directory: str
    conditions: dict[str, float] = field(default_factory=dict)
    seed: int = 1
    mtu: int = namespaces.MTU
    coalesce: int = 4096
    cable: str = ""
    wire: int = -1
    ready: int = -1
    parent: int = 0

    def to_json(self) -> str:
        """As a daemon's command line has it."""
        return json.dumps(asdict(self))


class HostDaemon:
    """One simulated host.

    Parameters
    ----------
    config:
        What it is.

    Raises
    ------
    NoHosts
        Namespaces, interfaces or packet sockets cannot be had.
    UsageError, Unavailable
        The device cannot be opened.
    """

    def __init__(self, config: HostConfig):
        self.config = config
        self._stop = False
        self._busy = True
        self._merge_due: float | None = None  # when headers stop waiting, if there may be some
        with contextlib.ExitStack() as stack:
            own = namespaces.make()
            stack.callback(os.close, own)
            self.namespace = namespaces.make()
            namespaces.enter(own)
            interface = namespaces.Interface(INTERFACE, config.mac, config.address, config.mtu, config.neighbours)
            self._port, self._cable = plug_in(self.namespace, interface, config.cable)
            stack.callback(self._port.close)
            self._wire = Wire(socket.socket(fileno=config.wire), Conditions(**config.conditions), config.seed)
            stack.callback(self._wire.close)
            self.device = stack.enter_context(self._open_device())
            self._nic = Nic(self.device, coalesce_cycles=config.coalesce)
            self._flows = Flows(self._nic, coalesce=config.coalesce > 0)
            network = IPv4Interface(config.address)
            self._stack = KernelStack(self._nic, self._flows, self._port, int(network.ip),
                                      bytes.fromhex(config.mac.replace(":", "")))
            datagrams = DatagramStack(self._nic, self._flows, self._port, bytes.fromhex(config.mac.replace(":", "")))
            # Each entry is the first one's that takes it; the kernel takes all.
            self._stacks: list[ControlStack] = [datagrams, self._stack]
            self._applications = Applications(self._nic, self._flows, self._stack, datagrams, self._memory_file,
                                              network.network)
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._selector.register(self._port, selectors.EVENT_READ, self._from_kernel)
            self._selector.register(self._wire, selectors.EVENT_READ, self._from_wire)
            self._wire_events = selectors.EVENT_READ
            for name, accepted in (("flows", self._application_came), ("control", self._control_came)):
                self._listen(stack, f"{config.host}.{name}", accepted)
            self._traces: list[socket.socket] = []
            self._started, self._next_tick, self._now = time.monotonic(), 0.0, 0.0
            self._stack_of_resources = stack.pop_all()

    def _open_device(self) -> Any:
        flows = number("flows", DeviceURL.parse(self.config.device).options.get("flows", _FLOWS))
        size = -(-(memory_needed(flows) + _OWN_MEMORY) // (1 << 20)) * (1 << 20)
        self._memory_file = os.memfd_create("rackgate-zeronic", os.MFD_CLOEXEC)
        os.ftruncate(self._memory_file, size)
        return open_device(self.config.device, memory=size, memory_file=self._memory_file)

    def _listen(self, stack: contextlib.ExitStack, name: str, accepted: Callable[[socket.socket], None]) -> None:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
        listener.bind(str(Path(self.config.directory) / name))
        listener.listen(1024)

        def accept() -> None:
            with contextlib.suppress(OSError):
                end, _ = listener.accept()
                end.setblocking(False)
                accepted(end)

        self._selector.register(listener, selectors.EVENT_READ, accept)

    # The loop

    def stop(self, *_: object) -> None:
        """End :meth:`run` soon."""
        self._stop = True

    def run(self) -> None:
        """Work until :meth:`stop`. Raises ConnectionError when the other end of the wire is gone."""
        while not self._stop:
            self._turn()

    def close(self) -> None:
        """Let go of everything."""
        self._stack_of_resources.close()

    def _turn(self) -> None:
        self._now = time.monotonic()
        due = min(self._next_tick, self._wire.due() or self._next_tick, self._merge_due or self._next_tick)
        for key, events in self._selector.select(0 if self._busy else max(0.0, due - self._now)):
            if key.fileobj is not self._wire or events & selectors.EVENT_READ:
                key.data()
        self._now = time.monotonic()
        if self._now >= self._next_tick:
            self._next_tick = self._now + _TICK
            for stack in self._stacks:
                stack.tick(self._now)
        self._nic.run(_CYCLES if self._busy else 0)
        self._from_nic()
        idle = self._nic.is_idle
        if idle and self._merge_due is not None and self._now >= self._merge_due:
            self._merge_due = None
            self._nic.run(self.config.coalesce + _CYCLES)
            self._from_nic()
        self._busy = not idle
        self._wire.flush(self._now)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._wire.backlog else 0)
        if wanted != self._wire_events:
            self._wire_events = wanted
            self._selector.modify(self._wire, wanted, self._from_wire)

    def _from_nic(self) -> None:
        for entry, content in self._nic.entries():
            any(stack.from_nic(entry, content, self._now) for stack in self._stacks)
        for frame in self._nic.sent():
            self._wire.send(frame, self._now)
        self._applications.answer()
        self._nic.notify()

    def _from_wire(self) -> None:
        if self._nic.waiting >= _WAITING_MOST:
            return
        for frame in self._wire.receive(_BATCH):
            self._nic.receive(frame)
            self._merge_due = self._now + _MERGE_WAIT if self.config.coalesce else None
        self._busy = True

    def _from_kernel(self) -> None:
        if self._wire.backlog < _BACKLOG_MOST:
            self._stack.to_nic(_BATCH, self._now)
            self._busy = True

    # Who talks to it

    def _application_came(self, end: socket.socket) -> None:
        application = self._applications.connected(end)

        def readable() -> None:
            self._busy = True
            if not self._applications.readable(application, self._now):
                self._selector.unregister(end)
                self._applications.left(application)

        self._selector.register(end, selectors.EVENT_READ, readable)

    def _control_came(self, end: socket.socket) -> None:
        def gone() -> None:
            self._selector.unregister(end)
            if end in self._traces:
                self._traces.remove(end)
                self._wire.tap = self._trace if self._traces else None
            end.close()

        def readable() -> None:
            try:
                content = end.recv(1 << 12)
                if not content:
                    gone()
                    return
                self._control(end, json.loads(content)["op"])
            except BlockingIOError:
                pass
            except (OSError, ValueError, KeyError, TypeError):
                gone()

        self._selector.register(end, selectors.EVENT_READ, readable)

    def _control(self, end: socket.socket, operation: str) -> None:
        match operation:
            case "status":
                end.send(json.dumps(self.statistics()).encode())
            case "enter":
                rights = array.array("i", [self.namespace])
                end.sendmsg([b"{}"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            case "trace":
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
                self._traces.append(end)
                self._wire.tap = self._trace
                end.send(b"{}")
            case _:
                end.send(json.dumps({"error": f"unknown operation {operation!r}"}).encode())

    def _trace(self, frame: bytes) -> None:
        head = TRACE_HEAD.pack(time.time_ns(), len(frame))
        for end in self._traces:
            with contextlib.suppress(OSError):  # who is too slow misses frames; who is gone is found by its reading end
                end.sendmsg([head, frame])

    def statistics(self) -> dict[str, Any]:
        """What there is to tell of this host."""
        datagrams, stack = (one.statistics() for one in self._stacks)
        nic = self._nic
        return {"host": self.config.host, "pid": os.getpid(), "address": str(IPv4Address(self._stack.address)),
                "device": self.config.device, "cable": self._cable, "parameters": self.device.parameters,
                "cycles": self.device.cycles,
                "seconds": round(time.monotonic() - self._started, 3), "applications": len(self._applications),
                "nic": nic.counters(), "stack": stack, "datagrams": datagrams, "wire": self._wire.statistics(),
                "costs": _costs(nic, stack)}


def _costs(nic: Nic, stack: dict[str, Any]) -> dict[str, Any]:
    """Bytes that cross to host software for each byte of payload (up: received), and bytes that a CPU copied for it."""
    shared = stack["applications"]

    def ratio(part: int, whole: int) -> float | None:
        return round(part / whole, 6) if whole else None

    return {
        "entry_bytes": nic.entry_bytes, "command_bytes": nic.command_bytes,
        "crossing_up": ratio(nic.entry_bytes, stack["payload_up"]),
        "crossing_down": ratio(nic.command_bytes, stack["payload_down"]),
        "copied_up": ratio(stack["payload_deferred"] + shared["copied_received"], shared["received"]),
        "copied_down": ratio(shared["copied_sent"], shared["sent"]),
    }


def _tell(ready: int, message: dict[str, Any]) -> None:
    os.write(ready, json.dumps(message).encode())
    os.close(ready)


def main() -> None:
    """Be the daemon that the command line describes."""
    config = HostConfig(**json.loads(sys.argv[1]))
    die_with_parent(config.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the supervisor
    try:
        daemon = HostDaemon(config)
    except Exception as error:
        _tell(config.ready, explained(error))
        sys.exit(1)
    signal.signal(signal.SIGTERM, daemon.stop)
    _tell(config.ready, {})
    try:
        daemon.run()
    except ConnectionError:
        pass  # the other host has ended: so does this
    except Exception as error:
        print(f"host {config.host}: {explained(error)['error']}", file=sys.stderr)
        raise
    finally:
        daemon.close()


if __name__ == "__main__":
    main()
