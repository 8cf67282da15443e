# SPDX-License-Identifier: Apache-2.0
"""Random programs, a host and a move unit for the control side of the collective engine."""

import random
from collections import defaultdict

from rackgate.collective.abi import Call, ConfigSpace
from rackgate.collective.assembler import Branch, Label, assemble
from rackgate.collective.control import ControlUnit
from rackgate.collective.isa import Field, Instruction, Local, MoveControl, Opcode, Other, Special, Target
from rackgate.verif.stimulus import simulate
from rackgate_sim.collective.sequencer import CommunicatorState, Entry, Execution, Move

TYPES = 0x8000000F
ID = 15  # register with the call's id; all moves have it as their RESULT
COUNTER = 14
_ALU = [Opcode.ADD, Opcode.SUB, Opcode.AND, Opcode.OR, Opcode.XOR, Opcode.SHL, Opcode.SHR, Opcode.MIN, Opcode.MAX,
        Opcode.MUL, Opcode.ADDM, Opcode.SUBM]
_BRANCHES = [Opcode.BEQ, Opcode.BNE, Opcode.BLT, Opcode.BGE]


class ProgramMaker:
    """Programs that end, of all instructions. ``errors``: how often something is wrong with one."""

    def __init__(self, rng: random.Random, ranks: int, errors: float = 0):
        self.rng, self.ranks, self.errors = rng, ranks, errors
        self.labels = 0

    def program(self, length: int, moves: bool = True):
        rng = self.rng
        out = [Instruction(Opcode.LI, k, immediate=rng.choice([rng.randrange(16), rng.randrange(-1 << 17, 1 << 17)]))
               for k in range(1, COUNTER)]
        out += [Instruction(Opcode.LDD, ID, immediate=15), Instruction(Opcode.MV, Field.RESULT, ID),
                *(Instruction(Opcode.MV, field, 0, immediate=rng.randrange(self.ranks))
                  for field in (Field.SOURCE, Field.DESTINATION))]
        while length > 0:
            size = rng.randrange(1, 8)
            length -= size
            match rng.randrange(4):
                case 0:
                    out += self._loop([self._one(moves) for _ in range(size)])
                case 1:
                    out += self._skip([self._one(moves) for _ in range(size)])
                case _:
                    out += [self._one(moves) for _ in range(size)]
        if rng.random() < self.errors:
            return [*out, rng.choice([Instruction(Opcode.ERR, immediate=rng.randrange(-8, 100)), Instruction(0),
                                      Instruction(Opcode.BEQ, immediate=rng.randrange(2048, 1 << 14)),
                                      Instruction(Opcode.MOD + 32, 1, 1, immediate=0)])]
        return [*out, Instruction(Opcode.RET)]

    def _label(self):
        self.labels += 1
        return Label(f"label_{self.labels}")

    def _loop(self, body):
        label = self._label()
        return [Instruction(Opcode.LI, COUNTER, immediate=self.rng.randrange(1, 4)), label, *body,
                Instruction(Opcode.SUB + 32, COUNTER, COUNTER, immediate=1),
                Branch(Opcode.BNE, COUNTER, 0, label.name)]

    def _skip(self, body):
        label, rng = self._label(), self.rng
        return [Branch(rng.choice(_BRANCHES), rng.randrange(COUNTER), rng.randrange(COUNTER), label.name), *body, label]

    def _one(self, moves):
        rng = self.rng
        rd, ra, rb = (rng.randrange(COUNTER) for _ in range(3))
        immediate = rng.choice([rng.randrange(-4, 64), rng.randrange(-1 << 13, 1 << 13)])
        kind = rng.random()
        if rng.random() < self.errors / 20:
            return rng.choice([
                Instruction(Opcode.LDD, rd, immediate=16), Instruction(Opcode.LDA, rd, immediate=15),
                Instruction(Opcode.LDS, rd, immediate=4), Instruction(Opcode.MV, 8, ra), Instruction(29),
                Instruction(Opcode.DIV, rd, ra, 0),
                Instruction(Opcode.MV, Field.CONTROL, 0, immediate=rng.getrandbits(9)),
                Instruction(Opcode.MV, Field.SOURCE, ra), Instruction(Opcode.MV, Field.DESTINATION, ra)])
        if kind < 0.3:
            opcode = rng.choice(_ALU)
            return (Instruction(opcode, rd, ra, rb) if rng.random() < 0.5
                    else Instruction(opcode + 32, rd, ra, immediate=immediate))
        if kind < 0.35:
            return Instruction(rng.choice([Opcode.DIV, Opcode.MOD]) + 32, rd, ra, immediate=immediate or 1)
        if kind < 0.5:
            return rng.choice([
                Instruction(Opcode.LDD, rd, immediate=rng.randrange(16)),
                Instruction(Opcode.LDA, rd, immediate=rng.randrange(15)),
                Instruction(Opcode.LDS, rd, immediate=rng.choice(list(Special))),
                Instruction(Opcode.LI, rd, immediate=rng.randrange(-1 << 17, 1 << 17))])
        if kind < 0.75 or not moves:
            return self._field(ra, immediate)
        return Instruction(Opcode.GO) if rng.random() < 0.75 else Instruction(Opcode.SYNC, immediate=rng.randrange(5))

    def _field(self, ra, immediate):
        rng = self.rng
        match rng.randrange(4):
            case 0:
                control = MoveControl(rng.choice(list(Local)), rng.choice(list(Other)), rng.choice(list(Target)),
                                      *(rng.random() < 0.5 for _ in range(3)))
                return Instruction(Opcode.MV, Field.CONTROL, 0, immediate=control.to_int())
            case 1:
                return Instruction(Opcode.MV, rng.choice([Field.SOURCE, Field.DESTINATION]), 0,
                                   immediate=rng.randrange(self.ranks))
            case 2 if rng.random() < 0.3:
                return Instruction(Opcode.MV, Field.TAG, 0, immediate=-1)
        return Instruction(Opcode.MV, rng.choice([Field.COUNT, Field.LOCAL, Field.OTHER, Field.TAG]), ra,
                           immediate=immediate)


def run_alone(execution: Execution):
    """Moves and end of a program of which nothing goes wrong."""
    moves = []
    while isinstance(found := execution.advance(0), Move):
        moves.append(found)
    return moves, found


def random_call(rng, **fields):
    values = {name: rng.getrandbits(32) for name in ("count", "peer", "tag")}
    values |= {name: rng.getrandbits(64) for name in ("operand_0", "operand_1", "result")}
    values |= {"function": rng.randrange(3), "element": rng.randrange(4), "streams": rng.choice([0, 1, 3, 0xFF02])}
    if values["element"] == 3:
        values["compression"] = rng.choice([0, 8])
    return Call(**values | fields)


class Bench:
    """The unit with a host and a model of the moves around it.

    ``moves`` and ``received`` are by the calls' ids, ``failures`` too: the first that was reported of each, if it
    could have counted.
    """

    def __init__(self, rng: random.Random, *, fails: float = 0, **parameters):
        self.dut = ControlUnit(types=TYPES, **parameters)
        self.rng, self.fails = rng, fails
        self.moves, self.received, self.failures = defaultdict(list), defaultdict(int), defaultdict(list)
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
                under_way[move.context].append(move)
                assert len(under_way[move.context]) <= 4
                owner[move.context] = move.result
                self.moves[move.result].append(move)

    def run(self, *testbenches, limit=40_000):
        simulate(self.dut, *testbenches, models=[self.move_unit], limit=limit)


def place(programs):
    """Words of several programs one after the other, and where each begins."""
    words, origins = [], []
    for program in programs:
        origins.append(len(words))
        words += assemble(program, origin=len(words))
    return words, origins
