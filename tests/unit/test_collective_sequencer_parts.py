# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic, program memory and call ports of the collective engine's sequencer, each alone."""

import random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal

from rackgate.collective.abi import ConfigSpace
from rackgate.collective.control.aborts import Aborts
from rackgate.collective.control.alu import Alu
from rackgate.collective.control.callport import CallPort
from rackgate.collective.control.divider import Divider, DividerTask
from rackgate.collective.control.fetch import Fetch
from rackgate.collective.control.multicycle import Multicycle
from rackgate.collective.control.multiplier import Multiplier
from rackgate.collective.control.programmemory import ProgramMemory
from rackgate.collective.control.sequencer import Sequencer
from rackgate.collective.isa import REGISTER_BITS, Instruction, Opcode
from rackgate.verif.stimulus import receive, send, simulate
from rackgate_sim.collective.sequencer import Entry

MASK = (1 << REGISTER_BITS) - 1
CORNERS = [0, 1, 2, 15, 16, 31, 40, 63, 1 << 17, 1 << 18, (1 << 36) - 1, 1 << 39, MASK - 1, MASK]


def operands(rng, count):
    for _ in range(count):
        yield [rng.choice([rng.choice(CORNERS), rng.getrandbits(40), rng.getrandbits(rng.randrange(1, 41))])
               for _ in range(2)]


def test_alu(seed):
    """Every operation against Python's integers."""
    rng = random.Random(seed)
    dut = Alu()
    expected = {
        Opcode.ADD: lambda a, b: a + b & MASK, Opcode.SUB: lambda a, b: a - b & MASK, Opcode.AND: lambda a, b: a & b,
        Opcode.OR: lambda a, b: a | b, Opcode.XOR: lambda a, b: a ^ b, Opcode.MIN: min, Opcode.MAX: max,
    }

    async def testbench(ctx):
        for a, b in operands(rng, 300):
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            for opcode, function in expected.items():
                ctx.set(dut.operation, opcode)
                assert ctx.get(dut.result) == function(a, b), (opcode, a, b)
            assert (ctx.get(dut.is_less), ctx.get(dut.is_equal)) == (a < b, a == b)
            assert ctx.get(dut.total) == a + b & MASK
            await ctx.tick()
        for size in range(1, 17):
            ctx.set(dut.size, size)
            for a in range(size):
                for b in range(size):
                    ctx.set(dut.a, a | rng.getrandbits(35) << 5)
                    ctx.set(dut.b, b | rng.getrandbits(35) << 5)
                    ctx.set(dut.operation, Opcode.ADDM)
                    assert ctx.get(dut.result) == (a + b) % size
                    ctx.set(dut.operation, Opcode.SUBM)
                    assert ctx.get(dut.result) == (a - b) % size
        await ctx.tick()

    m = Module()
    m.submodules.dut = dut
    m.d.sync += Signal().eq(1)  # the block has no clock of its own
    simulate(m, testbench)


def test_multiplier(seed):
    """A product a cycle, three cycles later."""
    rng = random.Random(seed)
    dut = Multiplier()
    pairs = [*operands(rng, 400), *([a, b] for a in CORNERS for b in CORNERS)]

    async def testbench(ctx):
        for cycle in range(len(pairs) + 3):
            if cycle >= 3:
                a, b = pairs[cycle - 3]
                assert ctx.get(dut.product) == a * b & MASK
            a, b = pairs[min(cycle, len(pairs) - 1)]
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            await ctx.tick()

    simulate(dut, testbench)


def test_divider(seed):
    """Divisions and shifts, with the documented number of cycles; each is begun anew by the next."""
    rng = random.Random(seed)
    dut = Divider(REGISTER_BITS)

    async def testbench(ctx):
        for a, b in operands(rng, 40):
            task = rng.choice(list(DividerTask))
            b = b or 3
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            ctx.set(dut.task, task)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            cycles = 40 if task == DividerTask.DIVIDE else b & 63
            assert ctx.get(dut.left) == cycles
            if rng.random() < 0.2:
                continue
            for _ in range(cycles):
                assert ctx.get(dut.left)
                await ctx.tick()
            assert ctx.get(dut.left) == 0
            quotient = {DividerTask.DIVIDE: a // b, DividerTask.SHIFT_LEFT: a << (b & 63) & MASK,
                        DividerTask.SHIFT_RIGHT: a >> (b & 63)}[task]
            assert ctx.get(dut.quotient) == quotient
            if task == DividerTask.DIVIDE:
                assert ctx.get(dut.remainder) == a % b

    simulate(dut, testbench)


def test_multicycle(seed):
    """What is asked for, after the documented cycles, and until it is released; whatever stands at the inputs then."""
    rng = random.Random(seed)
    dut = Multicycle()

    async def testbench(ctx):
        for a, b in operands(rng, 40):
            opcode, owner = rng.choice([Opcode.MUL, Opcode.DIV, Opcode.MOD, Opcode.SHL, Opcode.SHR]), rng.randrange(4)
            b = b or 9
            for name, value in (("a", a), ("b", b), ("operation", opcode), ("context", owner), ("start", 1)):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            ctx.set(dut.start, 0)
            expected, cycles = {
                Opcode.MUL: (a * b & MASK, 3), Opcode.DIV: (a // b, 40), Opcode.MOD: (a % b, 40),
                Opcode.SHL: (a << (b & 63) & MASK, b & 63), Opcode.SHR: (a >> (b & 63), b & 63)}[opcode]
            soon = 0
            for _ in range(cycles):
                assert ctx.get(dut.is_busy) and not ctx.get(dut.is_done) and ctx.get(dut.owner) == owner
                soon += ctx.get(dut.is_soon)
                for name in ("a", "b", "operation", "context"):
                    ctx.set(getattr(dut, name), rng.getrandbits(len(getattr(dut, name))))
                await ctx.tick()
            assert soon == min(cycles, 3) and ctx.get(dut.is_soon)
            for _ in range(rng.randrange(5)):
                assert ctx.get(dut.is_done) and ctx.get(dut.result) == expected, (opcode, a, b)
                await ctx.tick()
            assert ctx.get(dut.is_done) and ctx.get(dut.result) == expected, (opcode, a, b)
            ctx.set(dut.release, 1)
            await ctx.tick()
            ctx.set(dut.release, 0)
            assert not ctx.get(dut.is_busy) and not ctx.get(dut.is_done)

    simulate(dut, testbench)


def test_program_memory(seed):
    """Words and entries against dictionaries; writes elsewhere change nothing; entries do not outlive a reset."""
    rng = random.Random(seed)
    dut, reset = ProgramMemory(words=64), Signal()
    words, entries = {}, {}
    boundaries = [0, 63, 64, 65, 4095, ConfigSpace.ENTRY, ConfigSpace.ENTRY + 255, ConfigSpace.COMMUNICATOR]

    async def testbench(ctx):
        for _ in range(2500):
            address = rng.choice([rng.choice(boundaries), rng.randrange(80), ConfigSpace.ENTRY + rng.randrange(256)])
            value = rng.choice([rng.getrandbits(32), Entry(rng.getrandbits(12)).to_int()])
            written = rng.random() < 0.6
            ctx.set(dut.address, address)
            ctx.set(dut.value, value)
            ctx.set(dut.write, written)
            fetch, scenario = rng.randrange(64), rng.randrange(256)
            ctx.set(dut.fetch, fetch)
            ctx.set(dut.scenario, scenario)
            await ctx.tick()
            ctx.set(dut.write, 0)
            collides = written and address in (fetch, ConfigSpace.ENTRY + scenario)
            if not collides:
                if fetch in words:
                    assert ctx.get(dut.instruction) == words[fetch]
                entry = entries.get(scenario)
                assert ctx.get(dut.entry.is_valid) == (entry is not None and entry.is_valid)
                if entry is not None and entry.is_valid:
                    assert (ctx.get(dut.entry.address), ctx.get(dut.entry.is_collective)) == entry[:2]
            if written and address < 64:
                words[address] = value
            elif written and address >> 8 == ConfigSpace.ENTRY >> 8:
                entries[address & 255] = Entry.from_int(value)
            if rng.random() < 0.002:
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                entries.clear()

    simulate(ResetInserter(reset)(dut), testbench)


def test_an_entry_of_before_a_reset_is_not_seen_when_its_row_is_written():
    """Not in the very cycle either in which the row begins to count."""
    dut, reset = ProgramMemory(words=64), Signal()

    async def testbench(ctx):
        async def write(number):
            ctx.set(dut.address, ConfigSpace.ENTRY + number)
            ctx.set(dut.value, Entry(3).to_int())
            ctx.set(dut.write, 1)
            await ctx.tick()
            ctx.set(dut.write, 0)

        ctx.set(dut.scenario, 5)
        await write(5)
        await ctx.tick()
        assert ctx.get(dut.entry.is_valid)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        await write(6)
        for _ in range(3):
            assert not ctx.get(dut.entry.is_valid)
            await ctx.tick()

    simulate(ResetInserter(reset)(dut), testbench)


def test_fetch(seed):
    """Contexts take turns; each goes on where it was, where it jumps to or where its call begins, in whatever cycle.

    One goes on at once when no other is ready and the instruction before the last one says so, and twice in vain if
    the last one says that it should not have.
    """
    rng, dut = random.Random(seed), Fetch()
    pcs, rests, last = [0] * 4, [0] * 4, 0
    led, began, fetched, dropped = [False] * 4, None, None, 0
    followed = 0

    async def testbench(ctx):
        nonlocal last, began, fetched, dropped, followed
        for _ in range(4000):
            # After a fetch a context is not ready for a while, and it may then jump; a call begins in an idle one.
            ready = [rest == 0 and rng.random() < 0.2 for rest in rests]
            idle, jumps = ([k for k in range(4) if rests[k] == rest] for rest in (0, 1))
            start, jump = bool(idle) and rng.random() < 0.1, bool(jumps) and rng.random() < 0.3
            context, address = rng.choice(idle or [0]), rng.getrandbits(12)
            jumping, target = rng.choice(jumps or [0]), rng.getrandbits(14)
            leads, goes_on, running = rng.random() < 0.7, rng.random() < 0.8, rng.getrandbits(4) | rng.getrandbits(4)
            for name, value in (("ready", sum(bit << k for k, bit in enumerate(ready))), ("start", start),
                                ("jump", jump), ("context", context), ("address", address),
                                ("jump_context", jumping), ("target", target), ("clear", 1),
                                ("leads", leads), ("goes_on", goes_on), ("running", running)):
                ctx.set(getattr(dut, name), value)
            chosen = next((k % 4 for k in range(last + 1, last + 5) if ready[k % 4]), None)
            follows = chosen is None and fetched is not None and fetched[1] and running >> fetched[0] & 1
            follows = bool(follows) and not start and not jump
            chosen = None if start or jump else fetched[0] if follows else chosen
            assert ctx.get(dut.taken) == (0 if chosen is None else 1 << chosen)
            assert ctx.get(dut.follows) == follows
            if start or chosen is not None:
                assert ctx.get(dut.pc) == (address - 1 & (1 << 14) - 1 if start else pcs[chosen])
            may = leads if follows or (began is not None and began == chosen) else chosen is not None and led[chosen]
            for read in {began, fetched[0] if fetched else None} - {None}:
                led[read] = leads
            rests[:] = [max(rest - 1, 0) for rest in rests]
            is_dropped = follows and not goes_on
            if chosen is not None and not is_dropped:
                pcs[chosen], rests[chosen] = pcs[chosen] + 1 & (1 << 14) - 1, 3
            last = last if chosen is None else chosen
            if start:
                pcs[context] = address
            if jump:
                pcs[jumping], led[jumping] = target, False
            began, fetched = context if start else None, (chosen, may) if chosen is not None else None
            fetched = None if is_dropped else fetched
            followed, dropped = followed + follows, dropped + is_dropped
            await ctx.tick()
            assert (ctx.get(dut.o.valid), ctx.get(dut.o.clear)) == (fetched is not None, start)
            if start or fetched is not None:
                assert ctx.get(dut.o.context) == (context if start else chosen)

    simulate(dut, testbench)
    assert followed > 100 and dropped > 20


def _may_follow(first, second):
    """Whether an instruction may be fetched in the cycle after another one, by what they are."""
    quick = {*range(Opcode.ADD, Opcode.SUBM + 1)} - {Opcode.SHL, Opcode.SHR, Opcode.MUL, Opcode.DIV, Opcode.MOD}
    first, second = Instruction.from_int(first), Instruction.from_int(second)
    if first.opcode == Opcode.MV:
        return second.opcode != Opcode.GO
    if first.opcode & ~Opcode.IMMEDIATE not in quick and first.opcode not in (
            Opcode.LI, Opcode.LDD, Opcode.LDA, Opcode.LDS):
        return False
    return first.rd == 0 or first.rd not in (second.ra, second.rb)


def test_leads(seed):
    """What an instruction says of the two behind it, if these were written in order; and whatever was written since."""
    rng = random.Random(seed)
    dut = ProgramMemory(words=64)
    words, times, said = {}, {}, 0
    codes = [Opcode.ADD, Opcode.SUB | Opcode.IMMEDIATE, Opcode.LDD, Opcode.LDA, Opcode.LDS, Opcode.MV, Opcode.GO,
             Opcode.BEQ, Opcode.SHL, Opcode.RET]

    async def testbench(ctx):
        nonlocal said
        at = 0
        for time in range(3000):
            # Mostly in order, with a jump now and then; sometimes something else is written in between.
            at = (at + 1) % 64 if rng.random() < 0.9 else rng.randrange(64)
            registers = rng.choice([3, 5]), rng.choice([3, 4]), rng.choice([0, 3])
            word = Instruction(rng.choice(codes), *registers, rng.randrange(3)).to_int()
            words[at], times[at] = word, time
            other = rng.random() < 0.1
            look = rng.randrange(64)
            for name, value in (("address", at), ("value", word), ("write", 1), ("fetch", look)):
                ctx.set(getattr(dut, name), value)
            await ctx.tick()
            ctx.set(dut.address, ConfigSpace.ENTRY + at)
            ctx.set(dut.write, other)
            await ctx.tick()
            found = ctx.get(dut.leads)
            ctx.set(dut.write, 0)
            first, second = look + 1, look + 2
            expected = (second in times and first in times and times[second] == times[first] + 1
                        and _may_follow(words[first], words[second]))
            if second < 64:
                assert found == expected, (look, at)
                said += expected

    simulate(dut, testbench)
    assert said > 200


def test_predecode(seed):
    """What is found out when an instruction is written, of each code, with operands at their limits."""
    rng = random.Random(seed)
    dut = ProgramMemory(words=64)
    operands = {Opcode.LDD: range(16), Opcode.LDA: range(15), Opcode.LDS: range(4)}
    registers = (*range(Opcode.ADD, Opcode.SUBM + 1),)
    slow = {Opcode.SHL, Opcode.SHR, Opcode.MUL, Opcode.DIV, Opcode.MOD}

    async def testbench(ctx):
        for code in range(64):
            for immediate in (0, 3, 4, 14, 15, 16, 1 << 13, (1 << 14) - 1):
                word = code << 26 | rng.getrandbits(12) << 14 | immediate
                plain = code & 31 if code & 31 in registers else code
                limit = operands.get(plain)
                is_legal = plain in set(Opcode) - {Opcode.ILLEGAL, Opcode.IMMEDIATE}
                if limit is not None:
                    is_legal &= immediate in limit
                if plain == Opcode.MV:
                    is_legal &= (word >> 22 & 15) < 8
                for name, value in (("address", 5), ("value", word), ("write", 1), ("fetch", 5)):
                    ctx.set(getattr(dut, name), value)
                await ctx.tick()
                ctx.set(dut.write, 0)
                await ctx.tick()
                found = dut.predecoded
                assert ctx.get(dut.instruction) == word
                assert ctx.get(found.is_legal) == is_legal, (code, immediate)
                if is_legal:
                    is_long = plain == Opcode.LI
                    assert ctx.get(found.sign) == word >> (17 if is_long else 13) & 1
                    assert ctx.get(found.uses_value) == (code >= 32 or is_long or plain == Opcode.MV)
                    assert ctx.get(found.goes_on) == (
                        plain in (Opcode.LI, Opcode.LDD, Opcode.LDA, Opcode.LDS, Opcode.MV)
                        or plain in registers and plain not in slow), code

    simulate(dut, testbench)


@pytest.mark.parametrize("delay", range(12))
def test_abort_of_the_call_before(delay):
    """An id is compared with no words of a call but its own: not while the last of them is being written."""
    slots, old, new = 4, 7, 9
    dut = Aborts(slots)
    ids = [old] * slots  # in the last word of each slot: of calls that have ended

    async def store(ctx):
        async for _clock, _reset, pair, slot in ctx.tick().sample(dut.look_pair, dut.look_slot):
            ctx.set(dut.look, ids[slot] << 32 if pair == 7 else 0)

    async def testbench(ctx):
        ctx.set(dut.may_look, 1)
        for slot in (0, 2):  # begun before
            await begin(ctx, slot, old if slot else new)
        for wanted in (old, new):
            ctx.set(dut.id, wanted)
            ctx.set(dut.write, 1)
            await ctx.tick()
            ctx.set(dut.write, 0)
            if wanted == old:
                for _ in range(delay):
                    await ctx.tick()
                await begin(ctx, 1, new)
            await ctx.tick().repeat(12)
            assert ctx.get(dut.is_aborted) == (0b0100 if wanted == old else 0b0111)

    async def begin(ctx, slot, number):
        ctx.set(dut.begin, 1)
        ctx.set(dut.begin_slot, slot)
        await ctx.tick()
        ids[slot] = number  # what is read in that cycle is the word from before
        ctx.set(dut.begin, 0)

    simulate(dut, testbench, models=[store])


def test_call_port(seed):
    """Random words, stalls and releases: slots in order, never one of a call that is not released; space is honest."""
    rng = random.Random(seed)
    dut = CallPort(5)
    taken, words, count = [], [], 40
    used = set()

    async def writer(ctx):
        for number in range(count):
            while not ctx.get(dut.space):
                await ctx.tick()
            assert ctx.get(dut.i.ready) or not ctx.get(dut.o.ready)
            await send(ctx, dut.i, [number << 8 | word for word in range(16)], rng=rng, idle=0.2)

    async def sink(ctx):
        while len(words) < 16 * count:
            words.extend(await receive(ctx, dut.o, 1, rng=rng, stall=0.3))
            place = words[-1]
            assert (place.word, place.value & 255) == ((len(words) - 1) % 16,) * 2
            if place.word == 0:
                assert place.slot not in used
                used.add(place.slot)
            assert place.slot == words[-1 - place.word].slot

    async def user(ctx):
        held = []
        while len(taken) < count or held:
            if len(taken) < count and rng.random() < 0.5 and ctx.get(dut.call.valid):
                taken.extend(await receive(ctx, dut.call, 1))
                held.append(taken[-1])
            elif held and rng.random() < 0.1:
                slot = held.pop(rng.randrange(len(held)))
                used.discard(slot)
                ctx.set(dut.release, 1)
                ctx.set(dut.release_slot, slot)
                await ctx.tick()
                ctx.set(dut.release, 0)
            else:
                await ctx.tick()

    simulate(dut, writer, sink, user)
    assert taken == [place.slot for place in words[::16]]


@pytest.mark.parametrize("make,message", [
    (lambda: Divider(7), "width must be at least 8, not 7"),
    (lambda: CallPort(1), "slots must be 2 to 64, not 1"),
    (lambda: CallPort(4, words=2), "words must be 3 to 16, not 2"),
    (lambda: Aborts(129), "slots must be 2 to 128, not 129"),
    (lambda: ProgramMemory(words=96), "words must be a power of two from 64 to 4096, not 96"),
    (lambda: Sequencer(words=32), "words must be a power of two from 64 to 4096, not 32"),
])
def test_parameters(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
