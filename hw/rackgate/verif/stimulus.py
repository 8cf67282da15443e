# SPDX-License-Identifier: Apache-2.0
"""Drivers for streams and AXI4 targets under Amaranth's simulator."""

import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping

from amaranth.hdl import Elaboratable
from amaranth.lib import stream
from amaranth.sim import Simulator

from rackgate.axi.bus import Burst, Response

__all__ = ["AXI4Memory", "receive", "send", "simulate"]

#: Clock period in seconds; nothing depends on it.
PERIOD = 1e-8


def simulate(dut: Elaboratable, *testbenches: Callable[..., Coroutine], models: Iterable[Callable[..., Coroutine]] = (),
             limit: int = 100_000, clocks: Mapping[str, float] | None = None) -> None:
    """Run ``testbenches`` on ``dut`` with a clock until all have ended.

    ``models`` run beside them and may go on for ever. ``clocks`` are periods of more domains, in cycles of ``sync``,
    which need not exist then; their phases are odd, so that edges of two domains seldom meet. Raises TimeoutError after
    ``limit`` cycles: a design that hangs fails its test.
    """
    simulator = Simulator(dut)
    simulator.add_clock(PERIOD, if_exists=bool(clocks))
    for number, (domain, period) in enumerate((clocks or {}).items()):
        simulator.add_clock(period * PERIOD, domain=domain, phase=(0.31 + 0.23 * number) * period * PERIOD)

    async def watchdog(ctx):
        await ctx.delay(limit * PERIOD)
        raise TimeoutError(f"the testbenches have not ended after {limit} cycles")

    for model in models:
        simulator.add_testbench(model, background=True)
    simulator.add_testbench(watchdog, background=True)
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    simulator.run()


async def send(ctx, target: stream.Interface, items: Iterable, *, rng: random.Random | None = None,
               idle: float = 0, domain: str = "sync") -> None:
    """Offer ``items`` to ``target`` one after the other; before each, pause a cycle with probability ``idle``."""
    for item in items:
        while rng is not None and rng.random() < idle:
            await ctx.tick(domain)
        ctx.set(target.payload, item)
        ctx.set(target.valid, 1)
        ready = False
        while not ready:
            _, _, ready = await ctx.tick(domain).sample(target.ready)
        ctx.set(target.valid, 0)


async def receive(ctx, source: stream.Interface, count: int, *, rng: random.Random | None = None,
                  stall: float = 0, domain: str = "sync") -> list:
    """Take ``count`` payloads from ``source``; in each cycle ``ready`` is low with probability ``stall``."""
    items = []
    while len(items) < count:
        ready = rng is None or rng.random() >= stall
        ctx.set(source.ready, ready)
        _, _, valid, payload = await ctx.tick(domain).sample(source.valid, source.payload)
        if valid and ready:
            items.append(payload)
    ctx.set(source.ready, 0)
    return items


class AXI4Memory:
    """An AXI4 target for simulation: checks what it is asked, answers late and out of order.

    Reads with different ids overtake and interleave each other, reads with one id never do. All channels
    stall at random. Every burst must be INCR, of full beats, within 4 KiB.

    Parameters
    ----------
    memory:
        The bytes, from address ``base`` on.
    rng:
        Source of all delays. Without it nothing is delayed or reordered.
    stall:
        Probability per cycle that a channel pauses.
    bad:
        Byte addresses: a beat that touches one is answered with SLVERR, and not written.
    width:
        Bytes of a word.
    latency:
        Cycles that an answer comes later than it could.
    """

    def __init__(self, memory: bytearray, *, base: int = 0, rng: random.Random | None = None, stall: float = 0,
                 bad: Iterable[int] = (), width: int = 8, latency: int = 0):
        self.memory, self.base, self.rng, self.stall, self.bad = memory, base, rng, stall, frozenset(bad)
        self.width, self.latency = width, latency
        #: (id, address, beats) of every burst accepted.
        self.reads: list[tuple[int, int, int]] = []
        self.writes: list[tuple[int, int, int]] = []
        #: Addresses of the bytes written, in order.
        self.written: list[int] = []

    def _pauses(self) -> bool:
        return self.rng is not None and self.rng.random() < self.stall

    def _pick(self, queues: dict[int, deque], cycle: int) -> deque | None:
        """A queue whose first answer may come; answers lie there with the cycle from which on they may."""
        waiting = [queue for queue in queues.values() if queue and queue[0][0] <= cycle]
        if not waiting or self._pauses():
            return None
        return self.rng.choice(waiting) if self.rng else waiting[0]

    def _accept(self, log: list, request) -> None:
        beats = request.len + 1
        if request.burst != Burst.INCR or 1 << request.size != self.width or request.addr % self.width:
            raise AssertionError(f"not a burst of whole beats: {request!r}")
        if request.addr // 4096 != (request.addr + self.width * beats - 1) // 4096:
            raise AssertionError(f"a burst crosses 4 KiB: {request.addr:#x}, {beats} beats")
        log.append((request.id, request.addr, beats))

    def reader(self, ar: stream.Interface, r: stream.Interface) -> Callable[..., Coroutine]:
        """Model of the read channels; ``ar`` and ``r`` as the initiator has them."""
        async def run(ctx):
            queues: dict[int, deque] = {}
            offered = False
            for cycle in itertools.count():
                ar_ready = not self._pauses()
                ctx.set(ar.ready, ar_ready)
                if not offered and (queue := self._pick(queues, cycle)) is not None:
                    ctx.set(r.payload, queue.popleft()[1])
                    ctx.set(r.valid, 1)
                    offered = True
                _, _, ar_valid, request, r_ready = await ctx.tick().sample(ar.valid, ar.payload, r.ready)
                if offered and r_ready:
                    ctx.set(r.valid, 0)
                    offered = False
                if ar_valid and ar_ready:
                    self._accept(self.reads, request)
                    queues.setdefault(request.id, deque()).extend(
                        (cycle + self.latency, beat) for beat in self._beats(request))
        return run

    def _beats(self, request):
        for beat in range(request.len + 1):
            address = request.addr + self.width * beat
            start = address - self.base
            is_bad = not (0 <= start <= len(self.memory) - self.width
                          and self.bad.isdisjoint(range(address, address + self.width)))
            raw = b"\xD0\xBA" * (self.width // 2) if is_bad else self.memory[start:start + self.width]
            word = int.from_bytes(raw, "little")
            yield {"data": word, "id": request.id, "last": beat == request.len,
                   "resp": Response.SLVERR if is_bad else Response.OKAY}

    def writer(self, aw: stream.Interface, w: stream.Interface, b: stream.Interface) -> Callable[..., Coroutine]:
        """Model of the write channels; the streams as the initiator has them."""
        async def run(ctx):
            requests: deque = deque()
            beats: deque = deque()
            done: dict[int, deque] = {}
            offered = False
            for cycle in itertools.count():
                aw_ready, w_ready = not self._pauses(), not self._pauses()
                ctx.set(aw.ready, aw_ready)
                ctx.set(w.ready, w_ready)
                if not offered and (queue := self._pick(done, cycle)) is not None:
                    ctx.set(b.payload, queue.popleft()[1])
                    ctx.set(b.valid, 1)
                    offered = True
                _, _, aw_valid, request, w_valid, beat, b_ready = await ctx.tick().sample(
                    aw.valid, aw.payload, w.valid, w.payload, b.ready)
                if offered and b_ready:
                    ctx.set(b.valid, 0)
                    offered = False
                if aw_valid and aw_ready:
                    self._accept(self.writes, request)
                    requests.append(request)
                if w_valid and w_ready:
                    beats.append(beat)
                if requests and len(beats) > requests[0].len:
                    request = requests.popleft()
                    response = self._write(request, [beats.popleft() for _ in range(request.len + 1)])
                    done.setdefault(request.id, deque()).append(
                        (cycle + self.latency, {"id": request.id, "resp": response}))
        return run

    def _write(self, request, beats):
        response = Response.OKAY
        for index, beat in enumerate(beats):
            if beat.last != (index == request.len):
                raise AssertionError(f"LAST on beat {index} of {request.len + 1}")
            for lane in range(self.width):
                address = request.addr + self.width * index + lane
                if not beat.strb >> lane & 1:
                    continue
                if address in self.bad or not 0 <= address - self.base < len(self.memory):
                    response = Response.SLVERR
                    continue
                self.memory[address - self.base] = beat.data >> 8 * lane & 0xFF
                self.written.append(address)
        return response
