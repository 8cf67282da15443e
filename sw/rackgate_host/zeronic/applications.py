# SPDX-License-Identifier: Apache-2.0
"""What applications on a simulated host ask of its daemon: see :mod:`rackgate_host.zeronic.shared`."""

import array
import ctypes
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

import numpy as np

from rackgate.zeronic.abi import Direction, Right

from ..errors import OutOfDeviceMemory
from ..memory import Buffer
from .datagrams import PORTS
from .datagramstack import PROFILE, DatagramStack
from .errors import FlowTableFull, TooManySegments
from .flows import FIRST_FREE_REGION, Flow, Flows
from .keys import FlowKey
from .nic import Nic
from .shared import VERSION, FlowFlag, FlowState, Operation, Reply, Request
from .stack import KernelStack

__all__ = ["Application", "Applications"]

#: Longest array that an application may have in device memory.
_ALLOCATION_MOST = 1 << 30


class _Refused(Exception):
    """A request cannot be done; the reply tells ``number``."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@dataclass
class Application:
    """A connection of an application, and what it has."""

    number: int
    socket: socket.socket
    listening: set[int] = field(default_factory=set)
    regions: dict[int, Buffer] = field(default_factory=dict)


class Applications:
    """Answers requests.

    Parameters
    ----------
    nic, flows, stack, datagrams:
        What the requests are about.
    memory_file:
        Descriptor of device memory.
    network:
        Addresses that are reached through the NIC.
    """

    def __init__(self, nic: Nic, flows: Flows, stack: KernelStack, datagrams: DatagramStack, memory_file: int,
                 network: IPv4Network):
        self._nic = nic
        self._flows = flows
        self._stack = stack
        self._datagrams = datagrams
        self._memory_file = memory_file
        self._network = network
        self._base = nic.device.transport.memory_base
        self._next = 1
        self._regions = list(reversed(range(FIRST_FREE_REGION, nic.regions)))
        self._applications: dict[int, Application] = {}
        self._waiting: list[tuple[int, Application, Reply]] = []  # replies until the NIC has taken commands

    def __len__(self) -> int:
        return len(self._applications)

    def connected(self, end: socket.socket) -> Application:
        """An application has connected."""
        application = Application(self._next, end)
        self._next += 1
        self._applications[application.number] = application
        return application

    def left(self, application: Application) -> None:
        """An application has gone: what it had is given back."""
        if self._applications.pop(application.number, None) is None:
            return
        application.socket.close()
        for port in list(application.listening):
            self._unlisten(application, port)
        for flow in self._flows:
            flow.claims.discard(application.number)
        for region in list(application.regions):
            self._free(application, region)

    def readable(self, application: Application, now: float) -> bool:
        """Take a request and answer it. False if the application has gone."""
        try:
            content = application.socket.recv(ctypes.sizeof(Request))
        except BlockingIOError:
            return True
        except OSError:
            return False
        if len(content) != ctypes.sizeof(Request):
            return False
        request = Request.from_buffer_copy(content)
        reply = Reply(operation=request.operation, flow=request.flow, generation=request.generation)
        try:
            handler = self._handlers.get(request.operation)
            if handler is None:
                raise _Refused(errno.ENOSYS)
            is_answered = handler(self, application, request, reply, now)
        except _Refused as refused:
            reply.status, is_answered = refused.number, True
        return self._reply(application, reply) if is_answered else True

    def _reply(self, application: Application, reply: Reply, file: int | None = None) -> bool:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))] if file is not None else []
        try:
            application.socket.sendmsg([bytes(reply)], ancillary)
        except OSError:
            return False
        return True

    def answer(self) -> None:
        """Send the replies that waited for the NIC."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for produced, application, reply in waiting:
                if application.number not in self._applications:
                    continue
                if self._nic.is_taken(produced):
                    self._reply(application, reply)
                else:
                    self._waiting.append((produced, application, reply))

    # Operations: whether the reply may go at once

    def _hello(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        if request.length != VERSION:
            raise _Refused(errno.EPROTO)
        reply.length = self._nic.device.transport.memory_size
        reply.place = self._stack.address
        self._reply(application, reply, self._memory_file)
        return False

    def _listen(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        if not request.local_port:
            raise _Refused(errno.EINVAL)
        application.listening.add(request.local_port)
        self._stack.lifetimes.listening[request.local_port] = FlowFlag(request.flags & 3)
        return True

    def _unlistened(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        self._unlisten(application, request.local_port)
        return True

    def _unlisten(self, application: Application, port: int) -> None:
        application.listening.discard(port)
        if not any(port in other.listening for other in self._applications.values()):
            self._stack.lifetimes.listening.pop(port, None)

    def _connect(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        if request.local_address != self._stack.address or not request.local_port \
                or IPv4Address(request.remote_address) not in self._network \
                or request.remote_address == self._stack.address:
            raise _Refused(errno.EADDRNOTAVAIL)
        key, is_datagram = _key(request), bool(request.flags & FlowFlag.DATAGRAM)
        if is_datagram:
            if request.local_port not in PORTS or not request.flags & FlowFlag.POSTED_RECEIVE:
                raise _Refused(errno.EINVAL)
            key = key._replace(profile=PROFILE.profile)
        old = self._flows.find(key)
        if old is not None:
            if old.is_established and not old.is_over:
                raise _Refused(errno.EISCONN)
            old.claims.discard(application.number)
            self._flows.detach(old)
        try:
            flow = self._flows.make(key, FlowFlag(request.flags & 7), now)
        except FlowTableFull:
            raise _Refused(errno.ENOSPC) from None
        if is_datagram:
            self._datagrams.open(flow)
        self._claimed(application, flow, reply)
        return True

    def _claim(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        flow = self._flows.find(_key(request))
        if flow is None or flow.receive_begin is None and not flow.was_claimed:
            raise _Refused(errno.ENOENT)
        self._claimed(application, flow, reply)
        return True

    def _claimed(self, application: Application, flow: Flow, reply: Reply) -> None:
        flow.claims.add(application.number)
        flow.was_claimed = True
        reply.flow, reply.generation, reply.flags = flow.index, flow.generation, flow.flags
        reply.place = self._flows.place(flow)

    def _flow(self, application: Application, request: Request) -> Flow:
        flow = self._flows.claimable(request.flow, request.generation)
        if flow is None or application.number not in flow.claims:
            raise _Refused(errno.ENOENT)
        return flow

    def _release(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        self._flow(application, request).claims.discard(application.number)
        return True

    def _settle(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        flow = self._flow(application, request)
        if flow.receive_begin is None or flow.is_detached:
            return True  # nothing is written there
        self._nic.move_cursor(flow.index, flow.receive_begin + request.position)
        self._nic.fence(lambda: self._answer_if_there(application, reply))
        return False

    def _answer_if_there(self, application: Application, reply: Reply) -> None:
        if application.number in self._applications:
            self._reply(application, reply)

    def _allocate(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        if not 0 < request.length <= _ALLOCATION_MOST:
            raise _Refused(errno.EINVAL)
        if not self._regions:
            raise _Refused(errno.ENOSPC)
        try:
            buffer = self._nic.device.allocate(request.length, alignment=4096)
        except OutOfDeviceMemory:
            raise _Refused(errno.ENOMEM) from None
        buffer.view(np.ndarray)[:] = 0
        region = self._regions.pop()
        self._nic.set_region(region, Right.READ | Right.WRITE, buffer.device_address, buffer.nbytes)
        application.regions[region] = buffer
        reply.region, reply.place, reply.length = region, buffer.device_address - self._base, buffer.nbytes
        return True

    def _freed(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        if request.region not in application.regions:
            raise _Refused(errno.ENOENT)
        self._free(application, request.region)
        return True

    def _free(self, application: Application, region: int) -> None:
        buffer = application.regions.pop(region)
        self._nic.set_region(region, Right(0), 0, 0)

        def unused() -> None:
            buffer.free()
            self._regions.append(region)

        self._nic.fence(unused)

    def _posted_flow(self, application: Application, request: Request) -> Flow:
        """A flow for whose direction segments are posted by its application."""
        flow = self._flow(application, request)
        wanted = {Direction.RECEIVE: FlowFlag.POSTED_RECEIVE, Direction.SEND: FlowFlag.POSTED_SEND}
        if request.direction not in wanted or not flow.flags & wanted[Direction(request.direction)]:
            raise _Refused(errno.EINVAL)
        return flow

    def _post(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        flow = self._posted_flow(application, request)
        buffer = application.regions.get(request.region)
        if flow.page.state == FlowState.OPENING:
            raise _Refused(errno.ENOTCONN)
        if flow.is_detached:
            raise _Refused(errno.ENOENT)
        if buffer is None:
            raise _Refused(errno.EINVAL)
        offset = request.place - (buffer.device_address - self._base)
        if not 0 <= offset <= offset + request.length <= buffer.nbytes:
            raise _Refused(errno.EINVAL)
        try:
            self._flows.post(flow, Direction(request.direction), request.position, request.length, request.region,
                             offset)
        except ValueError:
            raise _Refused(errno.EINVAL) from None
        except TooManySegments:
            raise _Refused(errno.ENOSPC) from None
        self._waiting.append((self._nic.produced, application, reply))
        return False

    def _retire(self, application: Application, request: Request, reply: Reply, now: float) -> bool:
        flow = self._posted_flow(application, request)
        if not flow.is_detached:
            self._flows.retire(flow, Direction(request.direction), request.position)
        return True

    _handlers: dict[int, Callable[["Applications", Application, Request, Reply, float], bool]] = {
        Operation.HELLO: _hello, Operation.LISTEN: _listen, Operation.UNLISTEN: _unlistened,
        Operation.CONNECT: _connect, Operation.CLAIM: _claim, Operation.RELEASE: _release, Operation.SETTLE: _settle,
        Operation.ALLOCATE: _allocate, Operation.FREE: _freed, Operation.POST: _post, Operation.RETIRE: _retire,
    }


def _key(request: Request) -> FlowKey:
    """Of frames that come in for a request's ends."""
    return FlowKey(request.remote_address, request.local_address, request.remote_port, request.local_port)
