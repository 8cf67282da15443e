# SPDX-License-Identifier: Apache-2.0
"""What a rank is within a communicator, and its messages."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rackgate.collective.abi import Call, Cause, Completion, Scenario
from rackgate.collective.abi import Status as CallStatus
from rackgate.collective.packets.abi import Probe

from ..device import DEFAULT_TIMEOUT_CYCLES
from ..errors import UsageError
from .calls import Arguments, start
from .constants import ANY_SOURCE, ANY_TAG, MAX_TAG, PROC_NULL, Stream
from .engine import Engine
from .errors import CollectiveError, CollectiveTimeout
from .requests import Claim, Kind, Request, Status

__all__ = ["Endpoint", "eager_packets", "size_of"]

#: Cycles between two looks for a message.
_PROBE_CYCLES = 256


def size_of(argument: Any) -> int:
    """Elements of an argument; 0 if it is none."""
    if isinstance(argument, Stream):
        return argument.count
    return argument.size if isinstance(argument, np.ndarray) else 0


class Endpoint:
    """A rank of a communicator, for calls and messages (see :class:`.communicator.Communicator`)."""

    def __init__(self, engine: Engine, number: int, nodes: Sequence[int], rank: int, credits: int,
                 eager: int | str | None = None):
        self.engine, self.number, self.nodes, self.rank, self.credits = engine, number, tuple(nodes), rank, credits
        self.eager = eager
        self.is_open = True
        engine.open(number, rank, nodes, credits, eager_packets(eager, credits=credits, segment=engine.segment))

    @property
    def size(self) -> int:
        """Number of ranks."""
        return len(self.nodes)

    def Get_rank(self) -> int:
        """Own rank."""
        return self.rank

    def Get_size(self) -> int:
        """Number of ranks."""
        return self.size

    @property
    def device(self) -> Any:
        """The own node's device: allocate buffers there."""
        return self.engine.device

    def __repr__(self) -> str:
        return f"<communicator {self.number}, rank {self.rank} of {self.size}>"

    # Calls

    def _start(self, arguments: Arguments, finish: Callable[[Request, Completion], None] | None = None) -> Request:
        if not self.is_open:
            raise UsageError(f"{arguments.name}: the communicator has been freed")
        if arguments.claim is None and arguments.kind is Kind.COLLECTIVE:
            arguments.claim = Claim(Kind.COLLECTIVE, self.number)
        arguments.program = self.engine.variant(arguments.scenario, self.credits)
        return start(self.engine, arguments, communicator=self.number, rank=self.rank, nodes=self.nodes, finish=finish)

    def _checked_rank(self, name: str, what: str, rank: int) -> int:
        if not 0 <= rank < self.size:
            raise ValueError(f"{name}: {what} must be a rank from 0 to {self.size - 1}, not {rank}")
        return rank

    def _root(self, name: str, root: int) -> tuple[int, str]:
        return self._checked_rank(name, "root", root), f", root {root}"

    def _equal(self, name: str, first: int, second: int, relation: str) -> None:
        if first != second:
            raise ValueError(f"{name}: {relation}: {first} and {second} elements were given")

    def _part(self, name: str, total: int) -> int:
        if total % self.size:
            raise ValueError(f"{name}: a buffer for all {self.size} ranks must have a multiple of so many elements, "
                             f"not {total}")
        return total // self.size

    # Messages

    def Isend(self, buf: np.ndarray | Stream, dest: int, tag: int = 0, *, wire: str | None = None) -> Request:
        """Begin to send ``buf`` to a rank. It is over when the link has taken it all.

        That may be before it is received, if it is not longer than ``eager`` (see :class:`.communicator.Communicator`).
        Of a longer one the first packet is sent, and the rest when a receive has begun to take it.
        """
        name = "Send"
        if dest == PROC_NULL:
            return self._null(name)
        self._checked_rank(name, "dest", dest)
        return self._start(Arguments(
            name, Scenario.SEND, operand=buf, count=size_of(buf), peer=dest, tag=_tag(name, tag), wire=wire,
            kind=Kind.SEND, claim=Claim(Kind.SEND, self.number, dest), told=f" to rank {dest}, tag {tag}"))

    def Irecv(self, buf: np.ndarray | Stream, source: int = ANY_SOURCE, tag: int = ANY_TAG, *,
              wire: str | None = None) -> Request:
        """Begin to receive into ``buf`` what a rank sends; a shorter message fills its beginning."""
        name = "Recv"
        if source == PROC_NULL:
            return self._null(name)
        if source != ANY_SOURCE:
            self._checked_rank(name, "source", source)
        if tag != ANY_TAG:
            _tag(name, tag)
        told = ("" if source == ANY_SOURCE else f" from rank {source}") + ("" if tag == ANY_TAG else f", tag {tag}")
        return self._start(Arguments(
            name, Scenario.RECV, result=buf, count=size_of(buf), wire=wire, kind=Kind.RECEIVE,
            peer=Call.ANY_SOURCE if source == ANY_SOURCE else source, tag=Call.ANY_TAG if tag == ANY_TAG else tag,
            claim=Claim(Kind.RECEIVE, self.number, None if source == ANY_SOURCE else source,
                        None if tag == ANY_TAG else tag), told=told))

    def _null(self, name: str) -> Request:
        request = Request(self.engine, Call(0), kind=Kind.SEND, claim=None, what=f"{name} to or from nobody",
                          finish=lambda completion: None, fail=_never, release=lambda: None)
        request.status.source = PROC_NULL
        request.complete(Completion(0, 0, 0, 0, 0, 0, 0))
        return request

    def Send(self, buf: np.ndarray | Stream, dest: int, tag: int = 0, *, wire: str | None = None) -> None:
        """:meth:`Isend`, and wait."""
        self.Isend(buf, dest, tag, wire=wire).Wait()

    def Recv(self, buf: np.ndarray | Stream, source: int = ANY_SOURCE, tag: int = ANY_TAG,
             status: Status | None = None, *, wire: str | None = None) -> None:
        """:meth:`Irecv`, and wait."""
        self.Irecv(buf, source, tag, wire=wire).Wait(status)

    def Iprobe(self, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Status | None = None) -> bool:
        """Whether a message from a rank has begun to come that no receive has asked for; ``status`` tells which."""
        name = "Probe"
        if source != ANY_SOURCE:
            self._checked_rank(name, "source", source)
        if tag != ANY_TAG:
            _tag(name, tag)
        if not self.is_open:
            raise UsageError(f"{name}: the communicator has been freed")
        found = self.engine.probe(Probe(self.number, None if source == ANY_SOURCE else self.nodes[source],
                                        None if tag == ANY_TAG else tag))
        if found is None:
            return False
        if status is not None:
            status.source = self.nodes.index(found.node) if found.node in self.nodes else None
            status.tag = found.tag
            status.bytes = found.length * (2 if found.is_compressed else 1)
        return True

    def Probe(self, source: int = ANY_SOURCE, tag: int = ANY_TAG, status: Status | None = None) -> bool:
        """:meth:`Iprobe`, and wait until there is one. Always true, as in mpi4py.

        Raises :class:`.CollectiveTimeout` when none has come for as long as the engine waits for a packet.
        """
        with self.engine.probing():
            limit = self.engine.timeout or DEFAULT_TIMEOUT_CYCLES
            deadline = self.engine.world.cycle + limit
            while not self.Iprobe(source, tag, status):
                if self.engine.world.cycle >= deadline:
                    peer = "any rank" if source == ANY_SOURCE else f"rank {source}"
                    raise CollectiveTimeout(f"rank {self.rank} of {self.size}: Probe: no message came from {peer} for "
                                            f"{limit} cycles", rank=self.rank, operation="Probe",
                                            status=CallStatus.TIMEOUT, cause=Cause.PACKET)
                self.engine.world.wait(lambda: False, cycles=_PROBE_CYCLES)
        return True

    def Sendrecv(self, sendbuf: np.ndarray | Stream, dest: int, sendtag: int = 0,
                 recvbuf: np.ndarray | Stream | None = None, source: int = ANY_SOURCE, recvtag: int = ANY_TAG,
                 status: Status | None = None, *, wire: str | None = None) -> None:
        """Send one message and receive another at the same time."""
        if recvbuf is None:
            raise TypeError("Sendrecv: recvbuf must be given")
        receive = self.Irecv(recvbuf, source, recvtag, wire=wire)
        send = self.Isend(sendbuf, dest, sendtag, wire=wire)
        try:
            send.Wait()
        finally:
            receive.Wait(status)

    def Put(self, buf: np.ndarray | Stream, dest: int, stream: int = 0, *, wire: str | None = None) -> None:
        """Send ``buf`` straight to the kernel's stream at rank ``dest``; nothing receives it (ACCL's stream put)."""
        name = "Put"
        self._checked_rank(name, "dest", dest)
        self._start(Arguments(
            name, Scenario.STREAM_PUT, operand=buf, count=size_of(buf), peer=dest, tag=_tag(name, stream), wire=wire,
            kind=Kind.SEND, claim=Claim(Kind.SEND, self.number, dest), told=f" to rank {dest}, stream {stream}")).Wait()


def eager_packets(eager: int | str | None, *, credits: int, segment: int) -> int:
    """Packets of the largest message that does not ask, 0 if none does, as the engine is told.

    Raises ValueError for what is neither bytes, ``"all"`` nor ``None``.
    """
    if eager is None:
        return credits
    if eager == "all":
        return 0
    if not isinstance(eager, int) or eager < 0:
        raise ValueError(f"eager must be bytes, 0 or more, or 'all', not {eager!r}")
    return min(255, max(1, eager // segment))


def _tag(name: str, tag: int) -> int:
    if not 0 <= tag <= MAX_TAG:
        raise ValueError(f"{name}: tag must be 0 to {MAX_TAG}, not {tag}")
    return tag


def _never(completion: Completion) -> CollectiveError:
    raise AssertionError("what never runs does not fail")
