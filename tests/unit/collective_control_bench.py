# SPDX-License-Identifier: Apache-2.0
"""A host and a move unit for the control side of the collective engine."""

import random
from collections import defaultdict

from rackgate.collective.abi import Call, ConfigSpace
from rackgate.collective.control.unit import ControlUnit
from rackgate.verif.stimulus import simulate
from rackgate_sim.collective.sequencer import CommunicatorState, Entry, Move

TYPES = 0x8000000F


class Bench:
    """The unit with a host and a model of the moves around it.

    ``moves`` and ``received`` are by the calls' ids, ``failures`` too: the first that was reported of each, if it
    could have counted. ``beside``: how many of its call were under way when each move was taken.
    """

    def __init__(self, rng: random.Random, *, fails: float = 0, **parameters):
        self.dut = ControlUnit(types=TYPES, **parameters)
        self.rng, self.fails = rng, fails
        self.moves, self.received, self.failures = defaultdict(list), defaultdict(int), defaultdict(list)
        self.beside = defaultdict(list)
        self.completions, self.order = {}, []
        self.stall, self.slow = rng.choice([0, 0.3, 0.8]), rng.choice([0.9, 0.3, 0.05])
        self.now = 0

    async def config(self, ctx, address, value):
        dut = self.dut
        ctx.set(dut.config_address, address)
        ctx.set(dut.config_data, value)
        ctx.set(dut.config_write, 1)
        await ctx.tick()
        ctx.set(dut.config_write, 0)

    async def load(self, ctx, origin, words):
        for number, word in enumerate(words):
            await self.config(ctx, ConfigSpace.PROGRAM + origin + number, word)

    async def enter(self, ctx, scenario, entry: Entry):
        await self.config(ctx, ConfigSpace.ENTRY + scenario, entry.to_int())

    async def open(self, ctx, number, state: CommunicatorState):
        base = ConfigSpace.COMMUNICATOR + 32 * number
        await self.config(ctx, base, state.size | state.rank << 8 | 1 << 31)
        for rank, node in enumerate(state.nodes):
            await self.config(ctx, base + 16 + rank, node)
        await self.config(ctx, base + 1, state.credits)
        await ctx.tick().repeat(3)

    async def post(self, ctx, call: Call, gaps=(0, 0, 0, 1, 5)):
        """Write the words of a call when there is space."""
        dut = self.dut
        for _ in range(20000):
            if ctx.get(dut.call_space):
                break
            await ctx.tick()
        else:
            raise TimeoutError("there is no space for a call")
        for word in call.words():
            ctx.set(dut.call_word, word)
            ctx.set(dut.call_word_write, 1)
            await ctx.tick()
            ctx.set(dut.call_word_write, 0)
            for _ in range(self.rng.choice(gaps)):
                await ctx.tick()
        await ctx.tick()

    async def abort(self, ctx, number):
        ctx.set(self.dut.abort_id, number)
        ctx.set(self.dut.abort_write, 1)
        await ctx.tick()
        ctx.set(self.dut.abort_write, 0)

    async def collect(self, ctx, count, limit=40_000):
        """Read completions until there have been ``count`` in all."""
        dut = self.dut
        for _ in range(limit):
            if len(self.order) >= count:
                return
            if ctx.get(dut.completions) and self.rng.random() < 0.5:
                found = ctx.get(dut.completion)
                assert found.id not in self.completions, "a call ended twice"
                self.completions[found.id] = found
                self.order.append(found.id)
                ctx.set(dut.completion_pop, 1)
            await ctx.tick()
            ctx.set(dut.completion_pop, 0)
        raise TimeoutError(f"{len(self.order)} calls of {count} have ended")

    async def move_unit(self, ctx):
        """Take moves, end them in any order, fail some, stop those of contexts that are killed."""
        dut, rng = self.dut, self.rng
        ctx.set(dut.open.ready, 1)
        under_way = [[] for _ in range(4)]
        owner = [None] * 4
        dying = [0] * 4  # cycles until killed
        while True:
            ready = rng.random() >= self.stall
            ctx.set(dut.move.ready, ready)
            ctx.set(dut.done.valid, 0)
            ctx.set(dut.received.valid, 0)
            ctx.set(dut.failed, 0)
            ctx.set(dut.killed, 0)
            kill = ctx.get(dut.kill)
            for context in range(4):
                if kill >> context & 1:
                    if not dying[context]:
                        dying[context] = rng.choice([1, 2, 30])
                    dying[context] -= 1
                    if not dying[context]:
                        under_way[context].clear()
                        ctx.set(dut.killed, 1 << context)
                        break
            busy = [context for context in range(4) if under_way[context] and not kill >> context & 1]
            if busy and rng.random() < self.slow:
                context = rng.choice(busy)
                number = owner[context]
                event = rng.random()
                if event < self.fails:
                    failure = {"status": rng.choice([7, 8, 9]), "cause": rng.randrange(4), "node": rng.randrange(16)}
                    ctx.set(dut.failed, 1 << context)
                    ctx.set(dut.failure[context], failure)
                    self.failures[number].append(tuple(failure.values()))
                elif event < 0.5:
                    size = rng.choice([0, 1, 1024, 8191])
                    ctx.set(dut.received, {"valid": 1, "context": context, "size": size})
                    self.received[number] += size
                else:
                    under_way[context].pop(rng.randrange(len(under_way[context])))
                    ctx.set(dut.done, {"valid": 1, "context": context})
            _, _, valid, payload, killing = await ctx.tick().sample(dut.move.valid, dut.move.payload, dut.kill)
            self.now += 1
            if valid:
                assert not killing >> payload.context & 1, "a move of a context that is killed"
            if valid and ready:
                move = Move(*(getattr(payload, name) for name in Move._fields))
                self.beside[move.result].append(len(under_way[move.context]))
                under_way[move.context].append(move)
                assert len(under_way[move.context]) <= 4
                owner[move.context] = move.result
                self.moves[move.result].append(move)

    def run(self, *testbenches, limit=40_000):
        simulate(self.dut, *testbenches, models=[self.move_unit], limit=limit)
