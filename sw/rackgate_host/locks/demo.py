# SPDX-License-Identifier: Apache-2.0
"""What ``rackgate locks demo`` shows: a service, two hosts, and clients that need each other's exclusion."""

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

from ..switch import Switch
from .client import LockClient
from .control import show_address
from .errors import LockTimeout
from .protocols import Protocol
from .server import Service

__all__ = ["Lesson", "Worker", "demonstrate"]

_HOSTS = 2
_DEADLOCK_TIMEOUT = 0.3
#: Seconds after which a client of the demonstration gives up.
_PATIENCE = 60.0


@dataclass
class Worker:
    """A client that counted: how many locks it took, its longest wait in seconds, and its last fencing token."""

    host: int
    name: str
    locks: int = 0
    longest: float = 0.0
    token: int = 0


@dataclass
class Lesson:
    """What came of a demonstration."""

    wanted: int
    counted: int
    workers: list[Worker]
    seconds: float
    cycles: int
    packets: int
    late: str

    @property
    def right(self) -> bool:
        """Whether nobody's count was lost."""
        return self.counted == self.wanted

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        workers = [{"host": worker.host, "name": worker.name, "locks": worker.locks,
                    "longest_wait_ms": round(worker.longest * 1e3, 3), "last_token": worker.token}
                   for worker in self.workers]
        return {"right": self.right, **asdict(self), "seconds": round(self.seconds, 3), "workers": workers}


async def demonstrate(protocol: Protocol, switch: Switch, clients: int, rounds: int) -> Lesson:
    """Have ``clients`` clients on each of two hosts count ``rounds`` times each, then two run into a deadlock."""
    service = Service(protocol, switch)
    address = show_address(await service.start(("127.0.0.1", 0)))
    try:
        return await _failing_with(service, _lesson(service, switch, address, clients, rounds))
    finally:
        await service.stop()


async def _failing_with(service: Service, work: Any) -> Lesson:
    """Do the work, unless the service fails before."""
    done = asyncio.ensure_future(work)
    serving = asyncio.ensure_future(service.run())
    await asyncio.wait([done, serving], return_when=asyncio.FIRST_COMPLETED)
    if not done.done():
        done.cancel()
        await serving
    serving.cancel()
    return await done


async def _lesson(service: Service, switch: Switch, address: str, clients: int, rounds: int) -> Lesson:
    counter = [0]
    workers = []

    async def count(client: LockClient, worker: Worker) -> None:
        for _ in range(rounds):
            async with client.lock("counter", timeout=_PATIENCE) as grant:
                seen = counter[0]
                await asyncio.sleep(0)  # others may run: without the lock they would read the same number
                counter[0] = seen + 1
                worker.locks += 1
                worker.longest = max(worker.longest, grant.waited)
                worker.token = grant.fencing_token

    began, cycles = time.monotonic(), switch.device.cycles
    hosts = [await LockClient.connect(address) for _ in range(_HOSTS)]
    try:
        work = []
        for client in hosts:
            for number in range(clients):
                worker = Worker(client.host, f"client {number}")
                workers.append(worker)
                work.append(count(client, worker))
        await asyncio.gather(*work)
        seconds, passed = time.monotonic() - began, switch.device.cycles - cycles
        packets = service.counts.received
        late = await _deadlock(*hosts)
    finally:
        await asyncio.gather(*(client.close() for client in hosts))
    return Lesson(_HOSTS * clients * rounds, counter[0], workers, seconds, passed, packets, late)


async def _deadlock(one: LockClient, other: LockClient) -> str:
    """Two clients that take two locks in opposite order: what the first that gives up is told."""
    both_hold = asyncio.Barrier(2)

    async def cross(client: LockClient, first: str, second: str, timeout: float) -> str:
        async with client.lock(first, timeout=_PATIENCE):
            await both_hold.wait()
            try:
                async with client.lock(second, timeout=timeout):
                    return ""
            except LockTimeout as error:
                return str(error)

    answers = await asyncio.gather(cross(one, "left", "right", _DEADLOCK_TIMEOUT),
                                   cross(other, "right", "left", _PATIENCE))
    return next(filter(None, answers), "no deadlock")
