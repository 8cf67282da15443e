# SPDX-License-Identifier: Apache-2.0
"""A lock service: a UDP socket before a switch, which may be a model, a simulation or a board.

Lock packets from hosts go to the switch as Ethernet frames, what it sends goes to the hosts' sockets; with a board they
go there without the service. Beside that the service knows the hosts, and writes them into the switch's table.
"""

import asyncio
import ipaddress
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from rackgate.fisslock.abi import WORD_FORMATS
from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame
from rackgate.net.hosts import TO_HOST

from ..errors import UsageError
from ..switch import Switch
from .control import Address, Peer, decode, encode, show_address
from .errors import NoService
from .neighbours import check_network, find, is_loopback
from .netlock import place_locks
from .node import Node
from .protocols import SERVER_HOST, Protocol
from .udp import join

__all__ = ["Service", "ServiceCounts"]

_SWITCH_MAC = 0x0200_0000_00FE
_HOST_MAC = 0x0200_0000_0100
#: Device cycles that a batch of frames may take.
_BATCH_CYCLES = 1_000_000
_MOST_AT_ONCE = 32

#: Seconds between two tellings of a change, and until the hosts must have answered.
_TELL_AGAIN, _TELL_LIMIT = 0.05, 3.0


@dataclass
class ServiceCounts:
    """What a service has counted."""

    received: int = 0
    sent: int = 0
    strangers: int = 0
    joined: int = 0
    left: int = 0


@dataclass
class _Host:
    peer: Peer
    id: str
    lives: int = 0
    known: int = -1
    welcome: bytes | None = None


@dataclass
class _Join:
    """A host that has said HELLO and was not yet answered."""

    source: Address
    message: dict[str, Any]
    asked: set[str] = field(default_factory=set)


class Service(asyncio.DatagramProtocol):
    """The service; :meth:`start` it in an event loop.

    Parameters
    ----------
    protocol:
        What the hosts speak.
    switch:
        The switch; None for a protocol without one.
    most_hosts:
        Numbers that are given to hosts are 1 to this.
    placed:
        NetLock: this many locks, from 0 on, are the switch's; the others are the server's.
    board:
        Where hosts send lock packets, if the switch is on a board: its own address, and the protocol's port.

    Raises
    ------
    UsageError
        The switch is not the protocol's, ``most_hosts`` is out of range, or ``board`` lacks or is one too many.
    """

    def __init__(self, protocol: Protocol, switch: Switch | None, *, most_hosts: int | None = None, placed: int = 64,
                 board: Address | None = None):
        self.protocol = protocol
        self.switch = switch
        self.board = board
        if (switch.device.name if switch else None) != protocol.device:
            raise UsageError(f"protocol {protocol.name} needs {protocol.device or 'no'} switch, not "
                             f"{switch.device.name if switch else 'none'}")
        if (switch is not None and switch.device.transport.memory is None) != (board is not None):
            raise UsageError("board must be given for a switch on a board, and for no other")
        largest = protocol.largest_host
        if switch and "word" in switch.device.parameters:
            largest = WORD_FORMATS[switch.device.parameters["word"]].hosts
        self.most_hosts = largest if most_hosts is None else most_hosts
        if not 1 <= self.most_hosts <= largest:
            raise UsageError(f"protocol {protocol.name} has 1 to {largest} hosts"
                             f"{' with this switch' if largest < protocol.largest_host else ''}, not {most_hosts}")
        self.locks = 1 << 32
        if switch and not protocol.has_server:
            self.locks = switch.device.parameters["locks"]
        elif switch:
            place_locks(switch, placed, SERVER_HOST)
        self.counts = ServiceCounts()
        #: Called with a line about each host that comes or goes.
        self.report: Callable[[str], None] = lambda line: None
        self.failed: asyncio.Future[None] | None = None
        self._hosts: dict[int, _Host] = {}
        self._lives: dict[int, int] = {}
        self._by_address: dict[Address, int] = {}
        self._version = 0
        self._joins: deque[_Join] = deque()
        self._joining: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._frames: list[bytes] = []
        self._pump_is_due = False
        self._transport: asyncio.DatagramTransport | None = None
        self._server: Node | None = None
        self._endpoint = Endpoint(_SWITCH_MAC, 0, protocol.port)

    # Life

    async def start(self, listen: Address) -> Address:
        """Bind to an address, port 0: any. Returns it. Raises :class:`NoService` if that cannot be done."""
        loop = asyncio.get_running_loop()
        check_network(listen, self.board)
        self.failed = loop.create_future()
        try:
            self._transport, _ = await loop.create_datagram_endpoint(
                lambda: self, local_addr=listen, family=socket.AF_INET)
        except OSError as error:
            raise NoService(f"{show_address(listen)}: {error.strerror or error}") from None
        name = self._transport.get_extra_info("sockname")
        self._endpoint = Endpoint(_SWITCH_MAC, int(ipaddress.IPv4Address(name[0])), self.protocol.port)
        if self.protocol.has_server:
            self._server = (await join(show_address((name[0], name[1])), host=SERVER_HOST)).node
        return name[0], name[1]

    async def stop(self) -> None:
        """End: let go of the socket. The switch's device is the caller's to close."""
        if self._joining:
            self._joining.cancel()
        if self._server:
            await self._server.close(timeout=0.1)
        if self._transport:
            self._transport.close()
            self._transport = None

    async def run(self, seconds: float | None = None) -> None:
        """Serve for ever, or for some seconds. Raises what the device raises."""
        assert self.failed is not None, "the service was not started"
        await asyncio.wait([self.failed], timeout=seconds)
        if self.failed.done():
            self.failed.result()

    def statistics(self) -> dict[str, Any]:
        """What was counted, here and in the switch."""
        out: dict[str, Any] = {**asdict(self.counts), "hosts": sorted(self._hosts)}
        if self.switch:
            out["switch"] = self.switch.counters()
        return out

    # Packets

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Take a datagram: of a host that is known, or about hosts."""
        source = addr[0], addr[1]
        message = decode(data)
        if message is not None:
            self._control(message, source)
            return
        number = self._by_address.get(source)
        if number is None or self.switch is None or self.board:
            self.counts.strangers += 1
            return
        self.counts.received += 1
        sender = Endpoint(_HOST_MAC | number, int(ipaddress.IPv4Address(source[0])), source[1])
        self._frames.append(udp_frame(sender, self._endpoint, data))
        if not self._pump_is_due:
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def error_received(self, exc: Exception) -> None:
        """A host's port is unreachable: the datagram is lost."""

    def _pump(self) -> None:
        """Take the frames that have come through the switch."""
        self._pump_is_due = False
        frames, self._frames = self._frames, []
        try:
            while frames:
                batch, frames = frames[:_MOST_AT_ONCE], frames[_MOST_AT_ONCE:]
                for frame in self._through_switch(batch):
                    _, target, content = split_udp_frame(frame)
                    if self._transport:
                        self.counts.sent += 1
                        self._transport.sendto(content, (str(ipaddress.IPv4Address(target.address)), target.port))
        except Exception as error:  # a callback has nobody to raise to: run() does
            if self.failed and not self.failed.done():
                self.failed.set_exception(error)

    def _through_switch(self, frames: list[bytes]) -> list[bytes]:
        assert self.switch is not None
        regs, device = self.switch.device.regs, self.switch.device
        received, sent = regs.RECEIVED.value, regs.SENT.value
        for frame in frames:
            self.switch.push(frame)
        wanted = received + len(frames) & 0xFFFFFFFF
        device.wait(lambda _: regs.RECEIVED.value == wanted and bool(regs.STATUS.idle), cycles=_BATCH_CYCLES,
                    what=f"end of {len(frames)} frames' processing")
        return [self.switch.pop() for _ in range(regs.SENT.value - sent & 0xFFFFFFFF)]

    # Hosts

    def _control(self, message: dict[str, Any], source: Address) -> None:
        match message["op"]:
            case "hello":
                self._hello(message, source)
            case "known":
                host = self._host_of(message)
                if host and host.peer.port(False) == source and isinstance(message.get("version"), int):
                    host.known = max(host.known, message["version"])
                    self._changed.set()
            case "bye":
                self._bye(message, source)

    def _host_of(self, message: dict[str, Any]) -> _Host | None:
        number = message.get("host")
        return self._hosts.get(number) if isinstance(number, int) else None

    def _send(self, target: Address, operation: str, **fields: Any) -> None:
        if self._transport:
            self._transport.sendto(encode(operation, **fields), target)

    def _hello(self, message: dict[str, Any], source: Address) -> None:
        own = next((host for host in self._hosts.values() if host.id == message.get("id")), None)
        if own is not None:
            if own.welcome and self._transport:
                self._transport.sendto(own.welcome, source)
            return
        if any(one.message.get("id") == message.get("id") for one in self._joins):
            return
        self._joins.append(_Join(source, message))
        if self._joining is None or self._joining.done():
            self._joining = asyncio.get_running_loop().create_task(self._take_in())

    async def _take_in(self) -> None:
        """Take in those that have said HELLO, one after the other."""
        while self._joins:
            one = self._joins[0]
            why = await self._join_one(one)
            if why:
                self._send(one.source, "refused", id=one.message.get("id"), why=why)
                self.report(f"host at {show_address(one.source)} refused: {why}")
            self._joins.popleft()

    async def _join_one(self, one: _Join) -> str:
        """Take a host in. Why not, if it is not."""
        ports, wanted, name = one.message.get("ports"), one.message.get("host"), one.message.get("id")
        if not (isinstance(ports, list) and len(ports) == 2 and isinstance(name, str)
                and all(isinstance(port, int) and 0 < port < 1 << 16 for port in ports)):
            return "its message makes no sense"
        reserved = {SERVER_HOST} if self.protocol.has_server else set()
        free = [number for number in range(1, self.most_hosts + 1) if number not in self._hosts]
        if wanted is None:
            number = next((number for number in free if number not in reserved), None)
            if number is None:
                return f"all {self.most_hosts} numbers are taken"
        elif wanted not in free:
            return f"number {wanted} is taken" if wanted in self._hosts else f"numbers are 1 to {self.most_hosts}"
        else:
            number = wanted
        lives = self._lives.get(number, 0)
        host = _Host(Peer(one.source[0], *ports), name, lives)
        mac = _HOST_MAC | number
        if self.board and not is_loopback(self.board[0]):  # the kernel asks for it when something is sent
            mac = await find(one.source[0], lambda: self._send(one.source, "wait"))
        if mac is None:
            return "its hardware address is not known: it must be in the board's network"
        self._enter(number, host, mac)
        silent = await self._tell({number})
        if silent:
            del self._hosts[number]
            del self._by_address[host.peer.port(False)]
            self._version += 1
            return f"hosts {', '.join(map(str, silent))} do not answer, and may hold locks: restart the service"
        self._lives[number] = lives + 1
        host.known = self._version
        host.welcome = encode("welcome", id=name, host=number, protocol=self.protocol.name, locks=self.locks,
                              lives=lives, version=self._version, hosts=self._peers(), switch=self.board)
        if self._transport:
            self._transport.sendto(host.welcome, one.source)
        self.counts.joined += 1
        self.report(f"host {number} joined from {show_address(one.source)}")
        return ""

    def _enter(self, number: int, host: _Host, mac: int) -> None:
        self._hosts[number] = host
        self._by_address[host.peer.port(False)] = number
        self._version += 1
        if self.switch:
            self.switch.insert("hosts", number, TO_HOST, mac=mac,
                               address=int(ipaddress.IPv4Address(host.peer.address)),
                               server_port=host.peer.agent_port, client_port=host.peer.client_port)

    def _peers(self) -> dict[int, Peer]:
        return {number: host.peer for number, host in self._hosts.items()}

    async def _tell(self, but: set[int]) -> list[int]:
        """Tell all hosts, save some, who there is, until they know. Those that do not answer."""
        loop = asyncio.get_running_loop()
        end, version = loop.time() + _TELL_LIMIT, self._version
        while True:
            open_ = [number for number, host in self._hosts.items() if number not in but and host.known < version]
            if not open_ or loop.time() > end:
                return open_
            for number in open_:
                self._send(self._hosts[number].peer.port(False), "hosts", version=self._version, hosts=self._peers())
            self._changed.clear()
            try:
                async with asyncio.timeout(_TELL_AGAIN):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _bye(self, message: dict[str, Any], source: Address) -> None:
        number, name = message.get("host"), message.get("id")
        host = self._host_of(message)
        if host is not None and isinstance(number, int) and host.id == name:
            del self._hosts[number]
            del self._by_address[host.peer.port(False)]
            self._version += 1
            if self.switch:
                self.switch.remove("hosts", number)
            self.counts.left += 1
            self.report(f"host {number} left")
            for other in self._hosts.values():
                self._send(other.peer.port(False), "hosts", version=self._version, hosts=self._peers())
        self._send(source, "gone", id=name)
