# SPDX-License-Identifier: Apache-2.0
"""Hosts, links and a switch in virtual time: the very clients that users run, on a network made of a seed."""

import asyncio
import contextlib
import random
import selectors
from collections import Counter
from dataclasses import dataclass

from rackgate.fisslock import hardened
from rackgate.fisslock.abi import AGENT_PORT, CLIENT_PORT, WORD_FORMATS, Message, Mode, State, Type
from rackgate.fisslock.participant import HardenedParticipant
from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame
from rackgate.net.hosts import TO_HOST
from rackgate.netlock import pipeline as netlock
from rackgate.netlock.abi import PORT
from rackgate.netlock.participant import Participant
from rackgate.netlock.placement import uniform
from rackgate_host.locks.client import LockClient
from rackgate_host.locks.errors import LockRefused, LockTimeout
from rackgate_host.locks.node import Node
from rackgate_host.locks.protocols import PROTOCOLS, SERVER_HOST
from rackgate_host.switch import Switch
from rackgate_sim.locks.history import History, Kind, check
from rackgate_sim.locks.messages import Left, MessageSwitch

__all__ = ["DeviceSwitch", "ModelSwitch", "Network", "Result", "simulate", "virtual_run"]


# Time


class _Selector(selectors.SelectSelector):
    """Never sleeps: where nothing is ready, time passes."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self):
        return self._virtual.now


def virtual_run(work):
    """Run a coroutine in virtual time: the same every time, whatever the machine does."""
    loop = _Loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


# Network


@dataclass(frozen=True)
class Network:
    """Seconds that a message is under way at least, and at most more; chances that it is lost, and comes twice."""

    delay: float = 10e-6
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0

    @property
    def keeps_order(self):
        return not self.jitter


class ModelSwitch:
    """The switch of a protocol on its pipeline's reference model."""

    def __init__(self, protocol, hosts, locks, rng):
        self.protocol = protocol
        self.token_bits = 0
        if protocol == "fisslock":
            word = rng.choice([18, 36])
            self.switch = MessageSwitch(hardened.pipeline(locks=locks, word=word), hardened.lock, hosts)
            self.token_bits = WORD_FORMATS[word].epoch
        else:
            slots = rng.choice([1, 2, 8])
            self.switch = MessageSwitch(netlock.pipeline(locks=locks, slots=slots), netlock.lock, hosts)
            tables = self.switch.model.tables
            for number in range(netlock.PARTITIONS):
                tables["servers"].insert(number, netlock.SERVER, host=SERVER_HOST)
            for one in uniform(range(locks - 1), slots):  # the last lock is the server's
                for register, fields in one.registers.items():
                    self.switch.model.write(register, one.index, **fields)
                tables["locks"].insert(one.lock, netlock.LOCAL, index=one.index)

    def send(self, message, host):
        """Everything that comes of a message, as (host, for grants, message)."""
        return self.switch.send(message, AGENT_PORT if self.protocol == "fisslock" else PORT, host)

    def leftovers(self):
        """What a switch has left of locks that should all be free."""
        model = self.switch.model
        if self.protocol == "fisslock":
            return [f"lock {lock} is {State(model.read('locks', lock)['state']).name}"
                    for lock in model.registers["locks"] if model.read("locks", lock)["state"]]
        return [f"lock {lock} has requests" for lock in model.registers["counts"]
                if any(model.read("counts", lock).values())]


class DeviceSwitch:
    """The hardened switch of a device, behind frames. Call it to have it as new."""

    def __init__(self, device):
        self.switch = Switch(device)
        self.locks = device.parameters["locks"]
        self.token_bits = WORD_FORMATS[device.parameters["word"]].epoch

    def __call__(self, protocol, hosts, locks, rng):
        assert protocol == "fisslock" and locks <= self.locks
        self.switch.reset()
        for number in hosts:
            at = self._endpoint(number)
            self.switch.insert("hosts", number, TO_HOST, mac=at.mac, address=at.address, server_port=AGENT_PORT,
                               client_port=CLIENT_PORT)
        return self

    @staticmethod
    def _endpoint(number):
        return Endpoint(0x0200_0000_0000 | number, 0x0A00_0000 | number, AGENT_PORT)

    def send(self, message, host):
        out = []
        for frame in self.switch.process(udp_frame(self._endpoint(host), self._endpoint(0xFE), message)):
            _, target, content = split_udp_frame(frame)
            out.append(Left(target.address & 0xFF, target.port == CLIENT_PORT, content))
        return out

    def leftovers(self):
        words = {lock: self.switch.read("locks", lock)["state"] for lock in range(4)}
        return [f"lock {lock} is {State(state).name}" for lock, state in words.items() if state]


class _World:
    """The network between nodes and the switch."""

    def __init__(self, rng, network, switch, seen):
        self.rng, self.network, self.switch, self.seen = rng, network, switch, seen
        self.loop = asyncio.get_running_loop()
        self.links = {}
        self.latest = {}
        self.counts = Counter()

    def carry(self, source, target, deliver, *content):
        """Have ``deliver`` called with ``content`` when a message arrives: once, twice or never."""
        net, rng = self.network, self.rng
        if rng.random() < net.loss:
            self.counts["lost"] += 1
            return
        copies = 1 + (rng.random() < net.duplicate)
        self.counts["sent"] += 1
        self.counts["duplicated"] += copies - 1
        for _ in range(copies):
            at = self.loop.time() + net.delay + rng.random() * net.jitter
            if net.keeps_order:
                at = self.latest[source, target] = max(at, self.latest.get((source, target), 0))
            self.loop.call_at(at, deliver, *content)

    def at_switch(self, host, message):
        self.seen(host, message)
        for left in self.switch.send(message, host):
            self.carry(0, left.host, self.at_host, left.host, left.message, left.to_client)

    def at_host(self, host, message, to_client):
        if host in self.links:
            self.links[host].receive(message, to_client)


class _Link:
    def __init__(self, world, host):
        self.world, self.host = world, host
        world.links[host] = self

    def attach(self, receive):
        self.receive = receive

    def send(self, message, host, to_client):
        if host is None:
            self.world.carry(self.host, 0, self.world.at_switch, self.host, message)
        else:
            self.world.carry(self.host, host, self.world.at_host, host, message, to_client)

    async def close(self):
        pass


def _participant(protocol, host, hosts, rng):
    if protocol == "fisslock":
        return HardenedParticipant(host, hosts, timeout=200e-6, longest=5e-3, retries=None,
                                   first_attempt=rng.choice([1, 5, 0xFFFF_FFF0]))
    return Participant(host, server=SERVER_HOST if protocol == "server" else None)


# Clients


@dataclass
class Result:
    """What came of a run: what is wrong with it, and what happened."""

    wrong: list
    history: History
    counts: Counter
    seconds: float


class _Recorder:
    """Writes down what clients see. A request is known to the network by host, lock and task."""

    def __init__(self, history):
        self.history = history
        self.under_way = {}

    def seen(self, host, message):
        content = Message.from_bytes(message)
        if content.type == Type.ACQUIRE:
            number = self.under_way.get((content.machine_id, content.lock, content.task_id))
            if number is not None:
                self.history.add(asyncio.get_running_loop().time(), Kind.SEEN, number)


class _Client:
    """One client: it takes and gives back locks, gives up at times, and is shot at times."""

    def __init__(self, client, recorder, rng, locks, rounds, patient, tries):
        self.client, self.recorder, self.rng = client, recorder, rng
        self.locks, self.rounds, self.patient, self.tries = locks, rounds, patient, tries
        self.readers = rng.choice([0.0, 0.5, 0.9])
        self.counts = Counter()

    async def run(self):
        rng = self.rng
        for _ in range(self.rounds):
            await asyncio.sleep(rng.expovariate(1 / 100e-6))
            lock = rng.randrange(self.locks)
            mode = Mode.SHARED if rng.random() < self.readers else Mode.EXCLUSIVE
            what = rng.random()
            if self.patient or what < 0.7:
                await self._take(lock, mode, None)
            elif what < 0.8:
                await self._take(lock, mode, rng.uniform(10e-6, 2e-3))
            elif what < 0.9 and self.tries:
                await self._try(lock, mode)
            else:
                task = asyncio.ensure_future(self._take(lock, mode, None))
                await asyncio.sleep(rng.expovariate(1 / 300e-6))
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _begin(self, lock, mode):
        now = self.client.node._loop.time()
        number = self.recorder.history.request(now, lock, mode)
        self.recorder.under_way[self.client.host, lock, self.client.node._next_task] = number
        return number

    def _add(self, kind, number, token=0):
        self.recorder.history.add(self.client.node._loop.time(), kind, number, token)

    async def _take(self, lock, mode, timeout):
        number = self._begin(lock, mode)
        try:
            grant = await self.client.acquire(lock, mode, timeout)
        except LockTimeout:
            self._add(Kind.WITHDRAWN, number)
            self.counts["late"] += 1
        except LockRefused:
            self._add(Kind.REFUSED, number)
            self.counts["refused"] += 1
        except asyncio.CancelledError:
            self._add(Kind.WITHDRAWN, number)
            self.counts["cancelled"] += 1
            raise
        else:
            await self._hold(grant, number)

    async def _try(self, lock, mode):
        number = self._begin(lock, mode)
        grant = await self.client.try_lock(lock, mode, timeout=60)
        if grant is None:
            self._add(Kind.REFUSED, number)
            self.counts["busy"] += 1
        else:
            await self._hold(grant, number)

    async def _hold(self, grant, number):
        self._add(Kind.GRANT, number, grant.fencing_token)
        self.counts["granted"] += 1
        try:
            await asyncio.sleep(self.rng.expovariate(1 / 50e-6))
        finally:
            self._add(Kind.RELEASE, number)
            self.client.release(grant)


async def _simulate(seed, protocol, network, hosts, clients, locks, rounds, patient, switch, most_bypasses):
    rng = random.Random(f"{seed} {protocol}")
    loop = asyncio.get_running_loop()
    numbers = range(1, hosts + 1)
    history = History()
    recorder = _Recorder(history)
    made = switch(protocol, numbers, locks, rng)
    world = _World(rng, network, made, recorder.seen if protocol == "fisslock" else lambda host, message: None)
    nodes = [Node(_participant(protocol, number, numbers, rng), _Link(world, number)) for number in numbers]
    ends = [LockClient(node, PROTOCOLS[protocol], 1 << 32) for node in nodes]
    # A client on the server's host is as good as any other.
    workers = [_Client(rng.choice(ends), recorder, random.Random(rng.random()), locks, rounds, patient,
                       protocol == "fisslock") for _ in range(clients)]
    wrong = []
    try:
        async with asyncio.timeout(600):
            await asyncio.gather(*(worker.run() for worker in workers))
    except (TimeoutError, RuntimeError) as error:
        wrong.append(f"the clients have not come to their end: {str(error) or 'ten minutes went by'}")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    began = loop.time()
    await asyncio.sleep(1)  # what is still under way arrives
    # A grant that nobody wants any more may have been lost. Whoever asks next must get the lock all the same.
    world.network = Network()
    world.counts["dangling"] = len(made.leftovers())
    if not wrong:
        for lock in range(locks):
            async with ends[-1].lock(lock, timeout=60):
                pass
    left = await asyncio.gather(*(end.close(timeout=60) for end in ends))
    wrong += [f"host {number} does not come to rest" for number, done in zip(numbers, left, strict=True) if not done]
    wrong += made.leftovers()
    wrong += check(history, token_bits=made.token_bits, most_bypasses=most_bypasses)
    counts = sum((worker.counts for worker in workers), Counter(world.counts))
    return Result(wrong, history, counts, began)


def simulate(seed, protocol="fisslock", network=None, *, hosts=3, clients=6, locks=2, rounds=12, patient=False,
             switch=ModelSwitch, most_bypasses=None):
    """Let clients at it until they have done their rounds, and check what they saw; all from the seed."""
    print(f"seed {seed}, {protocol}, {network}")
    return virtual_run(_simulate(seed, protocol, network or Network(), hosts, clients, locks, rounds, patient, switch,
                                 most_bypasses))
