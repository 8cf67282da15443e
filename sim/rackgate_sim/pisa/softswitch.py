# SPDX-License-Identifier: Apache-2.0
"""A pipeline as a switch in software: its model behind a UDP socket, for programs that know of datagrams only."""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame
from rackgate.pisa.declare import Pipeline

from .model import PipelineModel

__all__ = ["Counts", "SoftSwitch"]

#: MAC addresses: the switch's, and those of hosts, which have their IPv4 address in the lower bits.
_SWITCH_MAC, _HOST_MAC = 0x0200_0000_00FE, 0x0201_0000_0000

Address = tuple[str, int]


@dataclass
class Counts:
    """What a soft switch has counted: datagrams in and out, those of which nothing came, and what it could not send.

    ``unsendable``: frames that are no UDP over IPv4, or that go to an address which cannot be sent to.
    """

    received: int = 0
    sent: int = 0
    dropped: int = 0
    unsendable: int = 0


class SoftSwitch(asyncio.DatagramProtocol):
    """The model of a pipeline behind a UDP socket. :meth:`open` makes one, ``async with`` closes it.

    A datagram goes through the pipeline as the frame that it would be on a wire: to the switch's own address and port,
    from the sender's, TTL 64, checksums right. A frame that leaves is sent as a datagram to the address and port that
    stand in it. Its source is the switch's socket whatever stands in it, and its MAC addresses and egress port are not
    looked at. Datagrams are worked on one after the other, in the order of their arrival.

    Attributes
    ----------
    model:
        The :class:`PipelineModel`: tables and registers are filled and read there.
    address:
        Where it listens.
    counts:
        What it has counted.
    """

    def __init__(self, pipeline: Pipeline, where: Mapping[int, Address] | None = None):
        self.model = PipelineModel(pipeline)
        self.address: Address = ("", 0)
        self.counts = Counts()
        self._where = dict(where or {})
        self._own = Endpoint(_SWITCH_MAC, 0, 0)
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(cls, pipeline: Pipeline, listen: Address = ("127.0.0.1", 0), *,
                   where: Mapping[int, Address] | None = None) -> "SoftSwitch":
        """Listen.

        Parameters
        ----------
        pipeline:
            The declaration.
        listen:
            IPv4 address and port; port 0 takes any.
        where:
            By IPv4 address, as a number, of a frame that leaves: the address and port to send to instead, for
            addresses that only the pipeline knows.

        Raises
        ------
        OSError
            The address cannot be listened on.
        """
        switch = cls(pipeline, where)
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: switch, local_addr=listen,
                                                                  family=socket.AF_INET)
        return switch

    def connection_made(self, transport: Any) -> None:
        """The socket is there."""
        self._transport = transport
        self.address = transport.get_extra_info("sockname")[:2]
        self._own = Endpoint(_SWITCH_MAC, int(ipaddress.IPv4Address(self.address[0])), self.address[1])

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Take a datagram through the pipeline."""
        self.counts.received += 1
        address = int(ipaddress.IPv4Address(addr[0]))
        left = self.model.process(udp_frame(Endpoint(_HOST_MAC | address, address, addr[1]), self._own, data))
        self.counts.dropped += not left
        for _, frame in left:
            self._send(frame)

    def _send(self, frame: bytes) -> None:
        try:
            _, target, data = split_udp_frame(frame)
        except ValueError:
            self.counts.unsendable += 1
            return
        where = self._where.get(target.address, (str(ipaddress.IPv4Address(target.address)), target.port))
        if where[1] == 0 or self._transport is None:
            self.counts.unsendable += 1
            return
        self.counts.sent += 1
        self._transport.sendto(data, where)

    def error_received(self, exc: Exception) -> None:
        """What was sent last did not go out: no way to there, or nobody at that port."""
        self.counts.sent -= 1
        self.counts.unsendable += 1

    def close(self) -> None:
        """Let go of the socket."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def __aenter__(self) -> "SoftSwitch":
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
