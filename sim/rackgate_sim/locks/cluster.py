# SPDX-License-Identifier: Apache-2.0
"""A cluster that locks, as discrete events: clients in closed loops, cores, links, one switch.

What is decided is decided by what runs: the hosts' participants and the pipeline's model, message by message. This
module adds time. A run depends on nothing but its arguments.

A client is a coroutine on a core of its host. It takes a transaction's locks one after the other, gives them all back,
thinks, and goes on with the next. A request that waits too long is cancelled; the client then gives everything back
and begins the same transaction anew. Cores work on one thing at a time, in the order in which it came.
"""

import heapq
from array import array
from collections import Counter, deque
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rackgate.fisslock.abi import Mode
from rackgate.fisslock.effects import Granted, Refused, Send

from .messages import MessageSwitch
from .parameters import Parameters
from .workloads import Trace, Workload

__all__ = ["Cluster", "Outcome", "Setup"]

_MODES = (Mode.SHARED, Mode.EXCLUSIVE)

#: Clients begin within this time, spread evenly by multiples of the golden ratio.
_START_NS, _GOLDEN = 10_000.0, 0.6180339887498949

#: Knuth's multiplier for hashing by multiplication.
_HASH = 2654435761


@dataclass
class Setup:
    """A lock manager as the cluster runs it.

    Parameters
    ----------
    name:
        As in results.
    participants:
        By number of the host, from 1 on: :class:`rackgate.fisslock.effects.Participant`.
    switch:
        None: it forwards only.
    port:
        UDP port of the switch, by whether a message is for the client's flow.
    cycles:
        Of the pipeline: from a packet's entry into its stages to its copy's exit. What is only forwarded does without.
    clients:
        The host of each client core.
    server_cores:
        By host: cores that receive what is not for clients.
    lock_at, kind_at:
        Where in a message the lock's number is (4 bytes), by which cores are chosen, and the byte of its kind.
    client_table:
        Whether a client's calls and grants find and change a record of the lock (an agent's), or only its own request.
    """

    name: str
    participants: MutableMapping[int, Any]
    switch: MessageSwitch | None
    port: tuple[int, int]
    cycles: int
    clients: Sequence[int]
    server_cores: dict[int, int]
    lock_at: int
    kind_at: int
    client_table: bool


@dataclass(frozen=True)
class Outcome:
    """What was measured, the time of warming up left out.

    Attributes
    ----------
    grants:
        ns from a client's call to its going on with the lock, for each grant.
    operations, transactions, aborts:
        Locks granted; transactions done; transactions given up because a lock was waited for too long.
    seconds:
        Simulated time in which that happened.
    packets:
        On the links between hosts and switch, each way counted.
    passes, rounds:
        Through the pipeline, those of recirculated packets included; recirculated packets.
    kinds:
        Messages that came to clients, by their kind's byte.
    server_busy:
        Share of the time in which the busiest core that is not a client's worked.
    """

    grants: np.ndarray
    operations: int
    transactions: int
    aborts: int
    seconds: float
    packets: int
    passes: int
    rounds: int
    kinds: Counter
    server_busy: float

    def percentile(self, share: float) -> float:
        """Of the grants, in ns."""
        return float(np.percentile(self.grants, share))

    @property
    def transactions_per_second(self) -> float:
        """Transactions done a simulated second."""
        return self.transactions / self.seconds


class _Core:
    __slots__ = ("busy", "free_at", "idle", "queue")

    def __init__(self) -> None:
        self.idle, self.free_at, self.busy = True, 0.0, 0.0
        self.queue: deque[tuple[float, Callable[[Any], float], Any]] = deque()


class _Client:
    __slots__ = ("asked", "core", "granted", "held", "host", "lock", "number", "place", "transaction")

    def __init__(self, number: int, host: int, core: _Core):
        self.number, self.host, self.core = number, host, core
        self.transaction: list[tuple[int, int]] = []
        self.held: list[int] = []
        self.place, self.lock, self.asked, self.granted = 0, -1, 0.0, False


class _Source:
    """A core's transactions, from the first again when they are used up."""

    __slots__ = ("place", "transactions")

    def __init__(self, trace: Trace):
        self.transactions, self.place = trace.transactions, 0

    def next(self) -> list[tuple[int, int]]:
        self.place = (self.place + 1) % len(self.transactions)
        return self.transactions[self.place - 1]


class Cluster:
    """One lock manager under one workload.

    Parameters
    ----------
    setup:
        The lock manager; its state is changed.
    workload:
        Its coroutines and thinking time.
    traces:
        Of each client core.
    parameters:
        Costs.
    """

    def __init__(self, setup: Setup, workload: Workload, traces: Sequence[Trace], parameters: Parameters):
        self.setup, self.workload, self.parameters = setup, workload, parameters
        self.now, self._order = 0.0, 0
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        hosts = sorted(setup.participants)
        self._grant_cores = {host: [_Core() for _ in range(parameters.grant_cores)] for host in hosts}
        self._server_cores = {host: [_Core() for _ in range(setup.server_cores.get(host, 0))] for host in hosts}
        self._nic = dict.fromkeys(hosts, 0.0)
        self._egress = dict.fromkeys(hosts, 0.0)
        self._pipe = 0.0
        self.packets = self.passes = self.rounds = self.transactions = self.aborts = 0
        self.kinds: Counter = Counter()
        self.grants = array("d")
        self._asked: deque[tuple[float, _Client]] = deque()  # requests in the order in which they were made
        self._clients: list[_Client] = []
        self._sources: dict[int, _Source] = {}
        for host, trace in zip(setup.clients, traces, strict=True):
            core = _Core()
            source = _Source(trace)
            for _ in range(workload.coroutines):
                client = _Client(len(self._clients), host, core)
                self._sources[client.number] = source
                self._clients.append(client)
        self._call_ns = parameters.table_ns if setup.client_table else 0.0
        self._heard_ns = parameters.packet_ns + self._call_ns
        self._served_ns = parameters.packet_ns + parameters.table_ns
        self._pass_ns = parameters.switch_ns + setup.cycles * parameters.cycle_ns

    def run(self, operations: int, *, warm_up_ns: float = 0.0, span_ns: float = 0.0) -> Outcome:
        """Let ``warm_up_ns`` go by, then measure until ``operations`` locks were granted and ``span_ns`` have passed.

        Raises
        ------
        RuntimeError
            Nothing is left to happen, or nobody was granted a lock for a hundred time-outs.
        """
        if not self._events:
            for client in self._clients:  # in no order of hosts: who is first may be the agent of what all want
                self._at(client.number * _GOLDEN % 1 * _START_NS, self._wake, client)
            self._at(self.parameters.tick_ns, self._tick, None)
            self._at(self.parameters.timeout_ns, self._time_out, None)
        self._until(0, self.now + warm_up_ns)
        begin, grants = self.now, len(self.grants)
        before = (self.transactions, self.aborts, self.packets, self.passes, self.rounds)
        kinds = self.kinds.copy()
        cores = [core for group in (self._grant_cores, self._server_cores) for some in group.values() for core in some]
        busy = [core.busy for core in cores]
        self._until(grants + operations, begin + span_ns)
        transactions, aborts, packets, passes, rounds = (
            now - then for now, then in zip(
                (self.transactions, self.aborts, self.packets, self.passes, self.rounds), before, strict=True))
        spent = self.now - begin
        return Outcome(np.array(self.grants[grants:]), len(self.grants) - grants, transactions, aborts, spent * 1e-9,
                       packets, passes, rounds, self.kinds - kinds,
                       max(core.busy - then for core, then in zip(cores, busy, strict=True)) / spent)

    def _until(self, grants: int, when: float) -> None:
        events, pop = self._events, heapq.heappop
        since, seen = self.now, len(self.grants)
        while len(self.grants) < grants or self.now < when:
            if not events:
                raise RuntimeError(f"{self.setup.name}: nothing is left to happen after {len(self.grants)} grants")
            self.now, _, act, argument = pop(events)
            act(argument)
            if len(self.grants) != seen:
                since, seen = self.now, len(self.grants)
            elif self.now - since > 100 * self.parameters.timeout_ns:
                raise RuntimeError(f"{self.setup.name}: nobody was granted a lock since {since * 1e-6:.3f} ms")

    def _at(self, when: float, act: Callable[[Any], None], argument: Any) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, act, argument))

    # Cores

    def _work(self, core: _Core, cost: float, act: Callable[[Any], float], argument: Any) -> None:
        """Have a core do ``cost`` ns of work, then ``act``, which returns how much longer that takes."""
        if core.idle:
            core.idle = False
            core.busy += cost
            self._at(max(self.now, core.free_at) + cost, self._done, (core, act, argument))
        else:
            core.queue.append((cost, act, argument))

    def _done(self, job: tuple[_Core, Callable[[Any], float], Any]) -> None:
        core, act, argument = job
        more = act(argument)
        core.busy += more
        if core.queue:
            cost, act, argument = core.queue.popleft()
            core.busy += cost
            self._at(self.now + more + cost, self._done, (core, act, argument))
        else:
            core.idle, core.free_at = True, self.now + more

    def _carry_out(self, host: int) -> float:
        """What a host's participant has decided; how long sending takes."""
        more, step = 0.0, self.parameters.packet_ns
        for effect in self.setup.participants[host].take():
            if type(effect) is Send:
                more += step
                self._send(host, effect, self.now + more)
            elif type(effect) is Granted:
                client = self._clients[effect.task]
                client.granted = True
                self._work(client.core, self.parameters.wake_ns, self._granted, client)
            elif type(effect) is Refused:
                client = self._clients[effect.task]
                if client.lock == effect.lock:  # else it is the answer to its own cancelling
                    self._work(client.core, self.parameters.wake_ns, self._give_up, client)
        return more

    # Clients

    def _wake(self, client: _Client) -> None:
        self._work(client.core, self.parameters.wake_ns, self._begin, client)

    def _begin(self, client: _Client) -> float:
        client.transaction, client.place = self._sources[client.number].next(), 0
        return self._go_on(client)

    def _go_on(self, client: _Client) -> float:
        """Ask for the next lock; or give all back and think."""
        if client.place < len(client.transaction):
            client.lock, mode = client.transaction[client.place]
            client.asked = self.now
            self._asked.append((self.now, client))
            self.setup.participants[client.host].acquire(client.lock, client.number, _MODES[mode], self.now * 1e-9)
            return self._call_ns + self._carry_out(client.host)
        more = self._release(client)
        self.transactions += 1
        client.lock = -1
        self._at(self.now + more + self.workload.think_ns, self._wake, client)
        return more

    def _release(self, client: _Client) -> float:
        participant, more = self.setup.participants[client.host], 0.0
        for lock in client.held:
            participant.release(lock, client.number, self.now * 1e-9)
            more += self._call_ns
        client.held.clear()
        return more + self._carry_out(client.host)

    def _granted(self, client: _Client) -> float:
        self.grants.append(self.now - client.asked)
        client.held.append(client.lock)
        client.place += 1
        client.lock, client.granted = -1, False
        return self._go_on(client)

    def _give_up(self, client: _Client) -> float:
        """A lock was refused, or waited for too long: give all back, and begin the transaction anew."""
        client.lock, client.place = -1, 0
        self.aborts += 1
        return self._release(client) + self._go_on(client)

    def _tick(self, _nothing: None) -> None:
        """Let participants do what is due."""
        for host, participant in self.setup.participants.items():
            deadline = participant.deadline
            if deadline is not None and deadline <= self.now * 1e-9:
                participant.tick(self.now * 1e-9)
                self._carry_out(host)
        self._at(self.now + self.parameters.tick_ns, self._tick, None)

    def _time_out(self, _nothing: None) -> None:
        """Cancel what waits for too long, and come back when the next request may have."""
        asked, limit = self._asked, self.parameters.timeout_ns
        while asked:
            when, client = asked[0]
            if client.lock >= 0 and not client.granted and client.asked == when:
                if when + limit > self.now:
                    break
                self._work(client.core, self.parameters.wake_ns, self._cancel, (client, when))
            asked.popleft()
        self._at(asked[0][0] + limit if asked else self.now + limit, self._time_out, None)

    def _cancel(self, late: tuple[_Client, float]) -> float:
        client, asked = late
        if client.lock < 0 or client.granted or client.asked != asked:
            return 0.0  # it has come in the meantime
        lock, client.lock = client.lock, -1
        self.setup.participants[client.host].cancel(lock, client.number, self.now * 1e-9)
        return self._call_ns + self._carry_out(client.host) + self._give_up(client)

    # Network

    def _send(self, host: int, effect: Send, when: float) -> None:
        wire = self.parameters.wire_ns(effect.payload)
        self._nic[host] = left = max(when, self._nic[host]) + wire
        self.packets += 1
        self._at(left + self.parameters.link_ns, self._at_switch, (host, effect))

    def _at_switch(self, sent: tuple[int, Send]) -> None:
        host, effect = sent
        if effect.host is not None or self.setup.switch is None:
            assert effect.host is not None, "a message to a switch that forwards only"
            self._leave(effect.host, effect.to_client, effect.payload, self.now + self.parameters.switch_ns)
            return
        packet = self.setup.switch.enter(effect.payload, self.setup.port[effect.to_client], host)
        if packet is not None:
            self._enter(packet)

    def _enter(self, packet: Any) -> None:
        assert self.setup.switch is not None
        begin = max(self.now, self._pipe)
        self._pipe = begin + self.parameters.cycle_ns
        self.passes += 1
        left, again = self.setup.switch.one_pass(packet)
        for one in left:
            self._leave(one.host, one.to_client, one.message, begin + self._pass_ns)
        if again is not None:
            self.rounds += 1
            self._at(begin + self.setup.cycles * self.parameters.cycle_ns, self._enter, again)

    def _leave(self, host: int, to_client: bool, message: bytes, when: float) -> None:
        wire = self.parameters.wire_ns(message)
        self._egress[host] = left = max(when, self._egress[host]) + wire
        self.packets += 1
        self._at(left + self.parameters.link_ns, self._at_host, (host, to_client, message))

    def _at_host(self, arrived: tuple[int, bool, bytes]) -> None:
        host, to_client, message = arrived
        at = self.setup.lock_at
        lock = int.from_bytes(message[at:at + 4], "big")
        if to_client:
            self.kinds[message[self.setup.kind_at]] += 1
            cores, cost = self._grant_cores[host], self._heard_ns
        else:
            cores, cost = self._server_cores[host], self._served_ns
        # As receive-side scaling does: a hash, so that what locks' numbers have in common does not meet on one core.
        self._work(cores[(lock * _HASH >> 16 & 0xFFFF) % len(cores)], cost, self._receive, arrived)

    def _receive(self, arrived: tuple[int, bool, bytes]) -> float:
        host, to_client, message = arrived
        self.setup.participants[host].receive(message, to_client, self.now * 1e-9)
        return self._carry_out(host)
