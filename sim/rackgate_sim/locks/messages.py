# SPDX-License-Identifier: Apache-2.0
"""A lock switch between hosts that know of messages only: the pipeline's model without frames round them.

What a host sends is the data of a datagram; :class:`MessageSwitch` puts it into the header vector that the parser would
have made, and reads the data off the vectors of the copies. The passes, registers and tables are the model's own; left
out is what neither depends on: Ethernet, IPv4, checksums.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from rackgate.net.headers import ethernet, ipv4, udp
from rackgate.net.hosts import TO_HOST, route
from rackgate.pisa.declare import Header, Pipeline, standard
from rackgate_sim.pisa.model import PipelineModel

__all__ = ["Left", "MessageSwitch", "Passing"]

_SERVER_PORT, _CLIENT_PORT = 1, 2


class Left(NamedTuple):
    """A message that leaves the switch."""

    host: int
    to_client: bool
    message: bytes


class Passing(NamedTuple):
    """A packet before a pass."""

    vector: list[int]
    rest: bytes


class MessageSwitch:
    """``pipeline`` for messages that begin with the header ``lock``.

    Parameters
    ----------
    pipeline:
        One whose egress ends in the table of hosts.
    lock:
        The lock header behind UDP.
    hosts:
        Numbers of the hosts that there are; what is for others is dropped.

    Attributes
    ----------
    model:
        The pipeline's model; its registers and tables are the control plane's.
    """

    def __init__(self, pipeline: Pipeline, lock: Header, hosts: Sequence[int]):
        self.model = PipelineModel(pipeline)
        self._lock, self._size = lock, lock.size
        for host in hosts:
            self.model.tables["hosts"].insert(host, TO_HOST, mac=host, address=host, server_port=_SERVER_PORT,
                                              client_port=_CLIENT_PORT)
        place = {id(item): number for number, item in enumerate(pipeline.phv)}
        self._host, self._drop = place[id(route.host)], place[id(standard.drop)]
        self._port, self._source = place[id(udp.destination_port)], place[id(ipv4.source)]
        self._length = place[id(standard.payload_length)]
        self._empty = self.model.vector(headers=(ethernet, ipv4, udp, lock))
        self._recirculates = [copy.recirculate for copy in pipeline.copies]
        self._carries = [copy.payload for copy in pipeline.copies]

    def enter(self, message: bytes, port: int, host: int = 0) -> Passing | None:
        """A message from ``host`` to one of the switch's ports, before its first pass; None if it is too short."""
        size = self._size
        if len(message) < size:
            return None
        vector = self._empty[:]
        self.model.codec.extract(self._lock, message[:size], vector)
        vector[self._port], vector[self._source], vector[self._length] = port, host, len(message) - size
        return Passing(vector, message[size:])

    def one_pass(self, packet: Passing, registers: Mapping[str, MutableMapping[int, int]] | None = None,
                 ) -> tuple[list[Left], Passing | None]:
        """One pass: the messages that leave, and the packet that goes round again, if one does."""
        left: list[Left] = []
        again: Passing | None = None
        for number, vector in self.model.one_pass(packet.vector, registers):
            rest = packet.rest if self._carries[number] else b""
            if self._recirculates[number]:
                again = Passing(vector, rest)
                continue
            self.model.leave(vector)
            if not vector[self._drop]:
                left.append(Left(vector[self._host], vector[self._port] == _CLIENT_PORT,
                                 self.model.codec.bytes_of(self._lock, vector) + rest))
        return left, again

    def send(self, message: bytes, port: int, host: int = 0,
             passed: Callable[[Any], None] = lambda packet: None) -> list[Left]:
        """Everything that comes of a message, which goes round to its end before anything else enters."""
        packet = self.enter(message, port, host)
        out: list[Left] = []
        while packet is not None:
            left, packet = self.one_pass(packet)
            out += left
            passed(packet)
        return out
