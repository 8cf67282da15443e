# SPDX-License-Identifier: Apache-2.0
"""Messages that come before anybody asks for them.

A message waits in the receive buffers of its engine until it is received, and holds credits of its sender; of a long
one only the first packet does, but the sender's next message is behind it. So one that is received late can be in the
way of one that is wanted now. When nothing goes on at a node for a while, the driver
therefore looks for messages that no receive waits for, and takes them out, the oldest first: to the receive that wants
it, if that only lacked a place, or to device memory, from where a later receive has it copied. Whatever the order in
which messages are received, the wanted one comes in the end; what it takes is memory.

The driver does that, as implementations of MPI do, and not the engine, because of both sides' places: four calls are
under way at an engine, so it knows of four messages, and the wanted one may be the fifth.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rackgate.arith.abi import ElementType
from rackgate.collective.abi import Call, CallFlag, Cause, Completion, Scenario, Status, StreamFlag
from rackgate.collective.packets.abi import Probe, Probed

from ..errors import BadBuffer, DeviceFault, OutOfDeviceMemory
from ..memory import Buffer
from .errors import CollectiveError
from .requests import Kind, Request

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Unexpected"]

#: Cycles without the end of a call that receives before a look.
_PATIENCE = 4096
#: After a look that has found something, as there may be more; each look that finds nothing doubles it.
_SHORT_PATIENCE = 256
#: For engines with a short time-out.
_LEAST_PATIENCE = 64
#: Reads of an answer after which the engine has to have it.
_READS = 256


@dataclass(eq=False)
class _Message:
    """A message in device memory, or on its way there. ``receive``: who wants it."""

    communicator: int
    found: Probed
    buffer: Buffer
    is_here: bool = False
    receive: Request | None = None


class Unexpected:
    """What is done for one engine.

    Parameters
    ----------
    engine:
        Whose.
    """

    def __init__(self, engine: "Engine"):
        self._engine = engine
        self._most = min(_PATIENCE, max(_LEAST_PATIENCE, engine.timeout // 4)) if engine.timeout else _PATIENCE
        #: Ranks that wait in a probe.
        self.probes = 0
        self._messages: list[_Message] = []
        self.forget()

    def forget(self) -> None:
        """After a reset nothing is left."""
        error = DeviceFault(f"node {self._engine.node} was reset")
        for message in self._messages:
            self._drop(message)
            if message.receive is not None:
                message.receive.give_up(error)
        self._messages.clear()
        self._helped: Request | None = None
        self._is_idle = True
        self.progress()

    def progress(self, kind: Kind | None = None) -> None:
        """A call has ended. One that sent brings those that receive no further."""
        if kind is Kind.SEND:
            return
        self._since = self._engine.world.cycle
        is_helped = self._helped is not None and self._helped.is_over
        self._patience = min(self._most, _SHORT_PATIENCE) if is_helped else self._most
        if is_helped:
            self._helped = None

    def alarm(self) -> int | None:
        """Cycle from which on :meth:`look` has something to do, if nothing ends before."""
        if self._helped is not None and self._helped.is_over:  # it was given up
            self._helped = None
        is_idle = not (self._engine.is_busy or self.probes)
        if self._is_idle and not is_idle:
            self.progress()
        self._is_idle = is_idle
        is_waiting = not is_idle and self._helped is None and not self._engine.is_accessed
        return self._since + self._patience if is_waiting else None

    def look(self) -> None:
        """If it is time, let a message out of the receive buffers."""
        if self._engine.world.cycle < self._since + self._patience:
            return
        if self._engine.has_place(Kind.LOCAL):
            for communicator in self._engine.communicators:
                found = self._ask(Probe(communicator))
                if found is not None and self._take(communicator, found):
                    return
        self._since, self._patience = self._engine.world.cycle, min(self._most, 2 * self._patience)

    def _ask(self, probe: Probe) -> Probed | None:
        regs = self._engine.device.regs
        regs.PROBE_TAG.value, regs.PROBE.value = probe.words()
        for _ in range(_READS):
            first = regs.PROBE_0.value
            if first & Probed.IS_DONE:
                return Probed.from_words((first, regs.PROBE_1.value, regs.PROBE_2.value))
        raise DeviceFault(f"{self._engine.device.url}: a probe has not ended after {_READS} looks")

    def _take(self, communicator: int, found: Probed) -> bool:
        """Begin a receive for a message, if there is room for it."""
        engine = self._engine
        if found.node not in engine.communicators[communicator].nodes or found.element not in list(ElementType):
            return False  # it is not from a driver
        rank = engine.communicators[communicator].nodes.index(found.node)
        receive = next((request for request in engine.waiting if self._wants(request, communicator, found)), None)
        if receive is not None:
            # This very message: the receive cannot take one that another receive waits for.
            receive.call = receive.call._replace(peer=rank, tag=found.tag)
            engine.waiting.remove(receive)
        else:
            try:
                receive = self._drain(communicator, rank, found)
            except OutOfDeviceMemory:
                return False
        receive.kind, receive.claim = Kind.LOCAL, None
        self._helped = receive
        engine.begin(receive)
        return True

    def _wants(self, request: Request, communicator: int, found: Probed) -> bool:
        """Whether a receive may get a message."""
        claim = request.claim
        if request.kind is not Kind.RECEIVE or claim is None or claim.communicator != communicator:
            return False
        nodes = self._engine.communicators[communicator].nodes
        return claim.peer in (None, nodes.index(found.node)) and claim.tag in (None, found.tag)

    def _drain(self, communicator: int, rank: int, found: Probed) -> Request:
        """A receive to device memory."""
        engine, element = self._engine, ElementType(found.element)
        count = found.length // (2 if found.is_compressed else element.size)
        message = _Message(communicator, found, engine.device.allocate(count, element.dtype))
        call = Call(engine.variant(Scenario.RECV, engine.communicators[communicator].credits), count, communicator,
                    rank, tag=found.tag, element=element, compression=CallFlag.WIRE if found.is_compressed else 0,
                    result=message.buffer.device_address)

        def finish(completion: Completion) -> None:
            message.is_here = True
            if message.receive is not None:
                self._hand_over(message, message.receive)

        def fail(completion: Completion) -> CollectiveError:
            if message in self._messages:
                self._messages.remove(message)
                self._drop(message)
                if message.receive is not None:
                    message.receive.complete(completion)
            return CollectiveError("the message was not received", rank=engine.node, operation="Recv",
                                   status=Status(completion.status))

        self._messages.append(message)
        return Request(engine, call, kind=Kind.LOCAL, claim=None, what=f"a message from node {found.node}",
                       finish=finish, fail=fail, release=lambda: None)

    def _drop(self, message: _Message) -> None:
        try:
            message.buffer.free()
        except BadBuffer:
            pass  # the device is closed

    # Receives

    def claim(self, request: Request) -> bool:
        """Give a new receive the oldest message that it may have, if there is one here."""
        for message in self._messages:
            if message.receive is None and self._wants(request, message.communicator, message.found):
                message.receive = request
                if message.is_here:
                    self._hand_over(message, request)
                return True
        return False

    def _hand_over(self, message: _Message, request: Request) -> None:
        """The receive becomes a copy."""
        self._messages.remove(message)
        found, call = message.found, request.call
        size = ElementType(call.element).size
        is_compressed = bool(call.compression & CallFlag.WIRE)
        if found.length > call.count * (2 if is_compressed else size) or is_compressed != found.is_compressed:
            self._drop(message)
            request.complete(Completion(0, Status.RECEIVE_SIZE, Cause.PACKET, found.node, 0, found.length, found.tag))
            return
        request.call = call._replace(scenario=Scenario.COPY, count=message.buffer.nbytes // size, peer=0, tag=0,
                                     compression=0, operand_0=message.buffer.device_address)
        request.kind = Kind.SEND if call.streams & StreamFlag.RESULT else Kind.LOCAL
        request.claim, request.received = None, found
        request.also_release(lambda: self._drop(message))
        self._engine.queue(request)

    def withdraw(self, request: Request) -> bool:
        """A receive is given up; whether it waited for a message on its way to memory."""
        for message in self._messages:
            if message.receive is request:
                message.receive = None
                return True
        return False

    def close(self, communicator: int) -> None:
        """The communicator is forgotten, and its messages."""
        for message in [message for message in self._messages if message.communicator == communicator]:
            self._messages.remove(message)
            self._drop(message)

    def probe(self, probe: Probe) -> Probed | None:
        """The oldest message that nobody has received, here or in the receive buffers."""
        for message in self._messages:
            found = message.found
            if (message.receive is None and message.communicator == probe.communicator
                    and probe.node in (None, found.node) and probe.tag in (None, found.tag)):
                return found
        return self._ask(probe)
