# SPDX-License-Identifier: Apache-2.0
"""A host on UDP sockets: joining a lock service, and the link to it."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from .control import Address, Peer, decode, encode, parse_address, peers_of, show_address
from .errors import NoService
from .node import Node
from .protocols import PROTOCOLS, Protocol

__all__ = ["Joined", "UdpLink", "join"]

#: Seconds between two tries of HELLO and BYE.
_AGAIN = 0.1
_BYES = 5


@dataclass
class Joined:
    """A host that has joined a service."""

    node: Node
    protocol: Protocol
    locks: int


class _Socket(asyncio.DatagramProtocol):
    """A socket that hands on what it receives."""

    def __init__(self, receive: Callable[[bytes, Address], None]):
        self._receive = receive

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._receive(data, (addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """A port is unreachable: the datagram is lost, as it may be in any network."""


class UdpLink:
    """Two UDP sockets, one for what is meant for agents and one for what is meant for clients."""

    def __init__(self, service: Address):
        self.service = service
        self._switch: Address | None = None
        self.host = 0
        self.peers: dict[int, Peer] = {}
        #: Called when hosts have come or gone, before the service is told that it is known.
        self.changed: Callable[[frozenset[int]], None] = lambda hosts: None
        self._version = -1
        self._id = secrets.token_hex(8)
        self._receive: Callable[[bytes, bool], None] = lambda message, to_client: None
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._sockets: list[asyncio.DatagramTransport] = []

    async def open(self, local: str) -> None:
        """Bind the sockets to any ports of the address ``local``."""
        loop = asyncio.get_running_loop()
        for receive in (self._at_agent, self._at_client):
            transport, _ = await loop.create_datagram_endpoint(
                lambda receive=receive: _Socket(receive), local_addr=(local, 0))
            self._sockets.append(transport)

    # Link

    def attach(self, receive: Callable[[bytes, bool], None]) -> None:
        """Deliver lock packets there."""
        self._receive = receive

    def send(self, message: bytes, host: int | None, to_client: bool) -> None:
        """Send to the switch, or to a host; what is for one that is not known is lost.

        A switch has the service's address, unless that has named another one.
        """
        if host is None:
            self._sockets[0].sendto(message, self._switch or self.service)
        elif peer := self.peers.get(host):
            self._sockets[0].sendto(message, peer.port(to_client))

    async def close(self) -> None:
        """Say BYE, and close the sockets."""
        if self.host and self._sockets:
            for _ in range(_BYES):
                if await self._ask(encode("bye", host=self.host, id=self._id), _AGAIN) is not None:
                    break
        for transport in self._sockets:
            transport.close()
        self._sockets.clear()

    # Joining

    async def hello(self, host: int | None, timeout: float) -> dict[str, Any]:
        """Join. Raises :class:`NoService`."""
        ports = [transport.get_extra_info("sockname")[1] for transport in self._sockets]
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while (left := end - loop.time()) > 0:
            answer = await self._ask(encode("hello", host=host, id=self._id, ports=ports), min(left, _AGAIN))
            if answer is None:
                continue
            if answer["op"] == "refused":
                raise NoService(f"the lock service at {show_address(self.service)} does not take this host: "
                                f"{answer.get('why')}")
            if answer["op"] == "welcome":
                self.host = int(answer["host"])
                if answer.get("switch"):
                    self._switch = str(answer["switch"][0]), int(answer["switch"][1])
                self._know(answer)
                return answer
        raise NoService(f"no lock service answers at {show_address(self.service)} within {timeout:g} s: start one with "
                        f"`rackgate locks serve --listen {show_address(self.service)}`")

    async def _ask(self, message: bytes, timeout: float) -> dict[str, Any] | None:
        self._answer = asyncio.get_running_loop().create_future()
        self._sockets[0].sendto(message, self.service)
        try:
            async with asyncio.timeout(timeout):
                return await self._answer
        except TimeoutError:
            return None
        finally:
            self._answer = None

    def _at_client(self, content: bytes, source: Address) -> None:
        self._receive(content, True)

    def _at_agent(self, content: bytes, source: Address) -> None:
        message = decode(content)
        if message is None:
            # Grants that came at the same time go first: a host that learns that its agentship is over before it learns
            # that it is the next agent sends the requests that it keeps round once more, behind newer ones.
            asyncio.get_running_loop().call_soon(self._receive, content, False)
        elif source != self.service:
            return
        elif message["op"] == "hosts":
            version = message.get("version")
            if self.host and isinstance(version, int) and version > self._version and not self._know(message):
                return
            self._sockets[0].sendto(encode("known", host=self.host, version=self._version), self.service)
        elif message.get("id") == self._id and self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    def _know(self, message: dict[str, Any]) -> bool:
        """Take the hosts that a message lists for those that there are. Whether it lists hosts."""
        try:
            self.peers = peers_of(message.get("hosts"))
        except ValueError:
            return False
        self._version = message["version"]
        self.changed(frozenset(self.peers))
        return True


async def join(address: str, *, host: int | None = None, timeout: float = 5.0) -> Joined:
    """Join the service at ``address`` (``IP:PORT``), as ``host`` or as the first number that is free.

    Raises :class:`NoService`, or :class:`UsageError` for an address that makes no sense.
    """
    service = parse_address(address)
    if host is not None and host < 1:
        raise UsageError(f"host must be at least 1, not {host}")
    if not timeout > 0:
        raise UsageError(f"timeout must be positive, not {timeout}")
    link = UdpLink(service)
    try:
        local, link.service = await _ends(service)
        await link.open(local)
        welcome = await link.hello(host, timeout)
        protocol = PROTOCOLS[welcome["protocol"]]
        participant = protocol.participant(link.host, link.peers, welcome["lives"])
        if hasattr(participant, "hosts"):
            link.changed = lambda hosts: setattr(participant, "hosts", hosts | {link.host})
        return Joined(Node(participant, link), protocol, int(welcome["locks"]))
    except OSError as error:
        await link.close()
        raise NoService(f"{address}: {error.strerror or error}") from None
    except BaseException:
        await link.close()
        raise


async def _ends(service: Address) -> tuple[str, Address]:
    """The address of this machine that reaches the service, and the service's as a number."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=service, family=socket.AF_INET)
    try:
        name, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        return name[0], (peer[0], peer[1])
    finally:
        transport.close()
