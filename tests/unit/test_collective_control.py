# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The control side of the collective engine against the model of its programs."""

import random

import pytest
from collective_control_bench import TYPES, Bench

from rackgate.collective.abi import Call, ConfigSpace, Status
from rackgate.collective.control.unit import ControlUnit
from rackgate.collective.isa import Instruction, Opcode
from rackgate.collective.programs.assembler import Branch, Label, assemble, parse
from rackgate.verif.stimulus import receive, send, simulate
from rackgate_sim.collective.programs import ProgramMaker, place, random_call, run_alone
from rackgate_sim.collective.sequencer import CommunicatorState, Entry, Execution, breaks_communicator, check_call


def communicators_of(rng, count=8):
    found = []
    for _ in range(count):
        size = rng.randrange(1, 17)
        found.append(CommunicatorState(size, rng.randrange(size), rng.sample(range(16), size), rng.randrange(1, 256)))
    return found


def good_programs(rng, count, length, words):
    """Programs that end with RET for any call, on the smallest communicator."""
    programs = []
    while len(programs) < count:
        program = ProgramMaker(rng, 1).program(rng.randrange(length))
        if sum(map(len, [*programs, program])) < words:
            programs.append(program)
    return programs


@pytest.mark.thorough
@pytest.mark.parametrize("case", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_random_programs(seed, case):
    """Four contexts run programs of which nothing goes wrong: all moves, all completions."""
    rng = random.Random(f"{seed} {case}")
    bench = Bench(rng, calls=rng.choice([2, 4, 16]))
    communicators = communicators_of(rng)
    words, origins = place(good_programs(rng, 6, 60, 2048))
    entries = {number: Entry(origin, rng.random() < 0.5) for number, origin in enumerate(origins, 1)}
    calls = []
    for number in range(1, 25):
        call = random_call(rng, scenario=rng.randrange(1, 7), communicator=rng.randrange(8), id=number)
        calls.append(call)

    async def host(ctx):
        await bench.load(ctx, 0, words)
        for scenario, entry in entries.items():
            await bench.enter(ctx, scenario, entry)
        for number, state in enumerate(communicators):
            await bench.open(ctx, number, state)
        ctx.set(bench.dut.enable, 1)
        for call in calls:
            await bench.post(ctx, call)

    async def reader(ctx):
        await bench.collect(ctx, len(calls))

    bench.run(host, reader)
    moves = 0
    for call in calls:
        entry, state = entries[call.scenario], communicators[call.communicator]
        execution = Execution(words, call, entry, state, state.take_operation() if entry.is_collective else 0, TYPES,
                              strict=True)
        expected, end = run_alone(execution)
        found = bench.moves[call.id]
        assert [move._replace(context=0) for move in found] == expected
        assert len({move.context for move in found}) <= 1
        completion = bench.completions[call.id]
        assert (completion.status, completion.cause, completion.node) == (end.status, end.cause, 0)
        assert end.status == Status.SUCCESS
        assert completion.bytes == bench.received[call.id]
        moves += len(found)
    assert moves > 50


@pytest.mark.thorough
@pytest.mark.parametrize("case", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_errors_of_programs(seed, case):
    """Programs with anything wrong, one after the other: the same moves and the same end; what broke is opened anew."""
    rng = random.Random(f"{seed} errors {case}")
    bench = Bench(rng)
    communicators = communicators_of(rng)
    programs = [ProgramMaker(rng, 4, errors=0.8).program(rng.randrange(40)) for _ in range(12)]
    words, origins = place(programs)
    entries = {number: Entry(origin, rng.random() < 0.5) for number, origin in enumerate(origins, 1)}
    calls = [random_call(rng, scenario=1 + number % 12, communicator=rng.randrange(8), id=number + 1,
                         element=rng.randrange(5), compression=0) for number in range(24)]
    expected, ends = {}, set()

    async def host(ctx):
        dut = bench.dut
        await bench.load(ctx, 0, [*words, *[0] * (2048 - len(words))])
        for scenario, entry in entries.items():
            await bench.enter(ctx, scenario, entry)
        for number, state in enumerate(communicators):
            await bench.open(ctx, number, state)
        ctx.set(dut.enable, 1)
        for count, call in enumerate(calls, 1):
            entry, state = entries[call.scenario], communicators[call.communicator]
            status = check_call(call, entries, dict(enumerate(communicators)), types=TYPES)
            operation = state.take_operation() if entry.is_collective and status == Status.SUCCESS else 0
            execution = Execution([*words, *[0] * (2048 - len(words))], call, entry, state, operation, TYPES,
                                  strict=True)
            moves, end = run_alone(execution) if status == Status.SUCCESS else ([], None)
            await bench.post(ctx, call)
            await bench.collect(ctx, count)
            found = bench.completions[call.id]
            assert [move._replace(context=0) for move in bench.moves[call.id]] == moves
            assert (found.status, found.cause) == ((end.status, end.cause) if end else (status, 0))
            ends.add(found.status)
            if status == Status.SUCCESS and breaks_communicator(
                    end.status, is_collective=entry.is_collective, has_moved=execution.has_moved):
                state.is_broken = True
            assert ctx.get(dut.is_broken) == sum(one.is_broken << n for n, one in enumerate(communicators))
            if state.is_broken and rng.random() < 0.5:
                state.is_broken, state.next_operation = False, 1
                await bench.open(ctx, call.communicator, state)
        expected["done"] = True

    bench.run(host)
    assert expected["done"] and len(ends) >= 3


@pytest.mark.thorough
def test_checks_of_calls(seed):
    """Everything that can be wrong with a call, alone and together: the model's verdict."""
    rng = random.Random(seed)
    bench = Bench(rng)
    dut = bench.dut
    communicators = {0: CommunicatorState(2, 1, [3, 5], 4), 6: CommunicatorState(16, 0, list(range(16)), 1)}
    entries = {1: Entry(0), 31: Entry(1, True), 255: Entry(0), 16: Entry(0, is_valid=False)}
    wrong = {
        "scenario": [0, 2, 16, 0x101, 1 << 31], "communicator": [1, 5, 7, 8, 1 << 30], "element": [5, 15, 16, 1 << 29],
        "function": [3, 16, 1 << 28], "compression": [1, 8, 16, 1 << 31, 9], "streams": [4, 128, 1 << 16, 1 << 31],
    }

    async def host(ctx):
        await bench.load(ctx, 0, assemble("ret\nret"))
        for scenario, entry in entries.items():
            await bench.enter(ctx, scenario, entry)
        for number, state in communicators.items():
            await bench.open(ctx, number, state)
        ctx.set(dut.enable, 1)
        for number in range(1, 120):
            call = random_call(rng, scenario=rng.choice([1, 31, 255]), communicator=rng.choice([0, 6]), id=number)
            for name in rng.sample(list(wrong), rng.choice([0, 1, 1, 2])):
                call = call._replace(**{name: rng.choice(wrong[name])})
            if rng.random() < 0.1:
                call = call._replace(id=number | 1 << rng.randrange(16, 32))
            await bench.post(ctx, call, gaps=[0])
            await bench.collect(ctx, number)
            assert bench.completions[number].status == check_call(call, entries, communicators, types=TYPES), call
        assert ctx.get(dut.is_broken) == 0

    bench.run(host)
    assert {found.status for found in bench.completions.values()} == {0, 1, 2, 4, 5}


@pytest.mark.thorough
@pytest.mark.parametrize("case", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_failures_and_aborts(seed, case):
    """Moves fail and calls are aborted, running or waiting: each call ends once, of a reason that there was."""
    rng = random.Random(f"{seed} chaos {case}")
    bench = Bench(rng, fails=0.03)
    dut = bench.dut
    communicators = communicators_of(rng)
    words, origins = place([*good_programs(rng, 5, 40, 1500), assemble_loop()])
    entries = {number: Entry(origin, rng.random() < 0.5) for number, origin in enumerate(origins, 1)}
    calls = [random_call(rng, scenario=rng.choice([1, 2, 3, 4, 5, 5, 6]), communicator=rng.randrange(8), id=number)
             for number in range(1, 41)]
    aborted = set()
    posted = []

    async def host(ctx):
        await bench.load(ctx, 0, words)
        for scenario, entry in entries.items():
            await bench.enter(ctx, scenario, entry)
        for number, state in enumerate(communicators):
            await bench.open(ctx, number, state)
        ctx.set(dut.enable, 1)
        for call in calls:
            await bench.post(ctx, call, gaps=[0])
            posted.append(call.id)
            if ctx.get(dut.is_broken) and rng.random() < 0.3:
                number = rng.choice([n for n in range(8) if ctx.get(dut.is_broken) >> n & 1])
                await bench.config(ctx, ConfigSpace.COMMUNICATOR + 32 * number + 1, 9)  # the credits

    async def aborter(ctx):
        while len(bench.order) < len(calls):
            for _ in range(rng.choice([5, 50, 200])):
                await ctx.tick()
            # Calls of program 6 run until they are aborted.
            endless = [call.id for call in calls if call.id in posted and call.id not in bench.completions
                       and call.scenario == 6]
            if number := rng.choice([*posted, 1, 999, *endless, *endless]) if posted else 0:
                aborted.add(number)
                await bench.abort(ctx, number)

    async def reader(ctx):
        await bench.collect(ctx, len(calls))

    bench.run(host, reader, aborter)
    seen = set()
    for call in calls:
        found, entry, state = bench.completions[call.id], entries[call.scenario], communicators[call.communicator]
        moves = bench.moves[call.id]
        operations = {move.operation for move in moves}
        assert len(operations) <= 1 and (not entry.is_collective or 0 not in operations)
        execution = Execution(words, call, entry, state, *operations or {0}, TYPES, strict=True)
        expected, end = run_alone(execution) if call.scenario != 6 else ([], None)
        assert [move._replace(context=0) for move in moves] == expected[:len(moves)]
        assert found.bytes == bench.received[call.id]
        seen.add(found.status)
        match found.status:
            case Status.SUCCESS:
                assert len(moves) == len(expected) and end.status == Status.SUCCESS
            case Status.ABORTED:
                assert call.id in aborted
            case Status.COMMUNICATOR_BROKEN:
                pass
            case _:
                assert bench.failures[call.id], found.status
                assert (found.status, found.cause, found.node) == bench.failures[call.id][0]
    assert {Status.SUCCESS, Status.ABORTED, Status.COMMUNICATOR_BROKEN} <= seen
    assert seen & {7, 8, 9}


def assemble_loop():
    """An endless program, with a division under way at most times."""
    return [Label("top"), Instruction(Opcode.DIV + 32, 1, 1, immediate=3), Branch(Opcode.BEQ, 0, 0, "top")]


async def start(bench, ctx, program, entries, communicators=None):
    """Load a program, enter its scenarios, open communicator 0 of two ranks (or others), and enable."""
    words, labels = program
    await bench.load(ctx, 0, words)
    for scenario, label in entries.items():
        await bench.enter(ctx, scenario, Entry(labels[label]))
    for number, state in (communicators or {0: CommunicatorState(2, 0, [5, 9], 7)}).items():
        await bench.open(ctx, number, state)
    ctx.set(bench.dut.enable, 1)


def labelled(text):
    """Words of a text, and its labels' addresses."""
    labels, address = {}, 0
    for statement in parse(text):
        if isinstance(statement, Label):
            labels[statement.name] = address
        else:
            address += 1
    return assemble(text), labels


async def cycles_of(bench, ctx, scenario, number):
    """Cycles from the last word of a call until its completion can be read."""
    dut = bench.dut
    words = Call(scenario, id=number).words()
    for word in words:
        ctx.set(dut.call_word, word)
        ctx.set(dut.call_word_write, 1)
        await ctx.tick()
    ctx.set(dut.call_word_write, 0)
    cycles = 1
    while not ctx.get(dut.completions):
        await ctx.tick()
        cycles += 1
    found = ctx.get(dut.completion)
    assert (found.id, found.status) == (number, Status.SUCCESS)
    ctx.set(dut.completion_pop, 1)
    await ctx.tick()
    ctx.set(dut.completion_pop, 0)
    await ctx.tick().repeat(20)
    return cycles, found.cycles


def test_sync():
    """The next move starts when as many are left as SYNC says, and not before."""
    bench = Bench(random.Random(1))
    bench.stall, bench.slow = 0, 0.05
    text = "ldd r15, 15\n mv RESULT, r15\n mv CONTROL, r0, 17\n go\n go\n go\n go\n"
    program = labelled("".join(f"s{left}: {text} sync {left}\n go\n ret\n" for left in range(4)))

    async def host(ctx):
        await start(bench, ctx, program, {left + 1: f"s{left}" for left in range(4)})
        for number in range(1, 5):
            await bench.post(ctx, Call(number, id=number))
            await bench.collect(ctx, number)

    bench.run(host)
    assert [bench.beside[number][-1] for number in range(1, 5)] == [0, 1, 2, 3]


def test_what_follows_an_illegal_instruction_does_nothing():
    """A GO that would be fetched at once behind an instruction of a kind that it need not wait for."""
    bench = Bench(random.Random(1))
    illegal = [Instruction(Opcode.LDD, 1, immediate=16), Instruction(Opcode.LDA, 1, immediate=15),
               Instruction(Opcode.LDS, 1, immediate=4)]
    text = "ldd r15, 15\n mv RESULT, r15\n mv CONTROL, r0, 17\n li r2, 1\n"
    program = labelled("".join(f"s{number}: {text} .word {word.to_int()}\n go\n ret\n"
                               for number, word in enumerate([*illegal, Instruction(Opcode.LDA, 1, immediate=9)], 1)))

    async def host(ctx):
        await start(bench, ctx, program, {number: f"s{number}" for number in range(1, 5)})
        for number in range(1, 5):
            await bench.post(ctx, Call(number, id=number))
            await bench.collect(ctx, number)

    bench.run(host)
    assert [bench.completions[number].status for number in range(1, 5)] == [Status.PROGRAM_ERROR] * 3 + [Status.SUCCESS]
    assert [len(bench.moves[number]) for number in range(1, 5)] == [0, 0, 0, 1]


@pytest.mark.thorough
def test_latency_and_throughput():
    """Documented cycles: of an empty program, and of each kind of instruction, alone."""
    bench = Bench(random.Random(1))
    bench.stall, bench.slow = 0, 1
    kinds = {
        "alu": ("add r1, r2, 1", 1), "load": ("lda r1, 3", 1), "special": ("lds r1, RANK", 1), "li": ("li r1, 4", 1),
        "field": ("mv COUNT, r1, 3", 1), "needed": ("add r1, r1, 1", 2), "read": ("sub r1, r2, r1", 2),
        "branch": ("beq r0, r0, {next}", 4), "untaken": ("bne r0, r0, 0", 3),
        "sync": ("sync 3", 3), "go": ("go", 4), "mul": ("mul r1, r1, r1", 8), "div": ("div r1, r1, 3", 45),
        "shift": ("shl r1, r1, 2", 8), "far": ("shr r1, r1, 20", 25),
    }
    text = "nop: ret\n"
    for name, (line, _) in kinds.items():
        for count in (1, 3):
            text += f"{name}_{count}: mv CONTROL, r0, 0\n"
            for k in range(count):
                text += line.format(next=f"{name}_{count}_{k}") + f"\n{name}_{count}_{k}: "
            text += "sync 0\n ret\n"
    program = labelled(text)
    scenarios = {100: "nop"}
    for number, name in enumerate(kinds):
        scenarios |= {2 * number: f"{name}_1", 2 * number + 1: f"{name}_3"}

    async def host(ctx):
        await start(bench, ctx, program, scenarios)
        assert await cycles_of(bench, ctx, 100, 1) == (20, 16)
        for number, (name, (_, cycles)) in enumerate(kinds.items()):
            (_, first), (_, second) = [await cycles_of(bench, ctx, 2 * number + k, 7) for k in range(2)]
            if name == "go":  # they also wait for the moves' ends
                assert second - first <= 2 * cycles + 8
            else:
                assert second - first == 2 * cycles, name

    bench.run(host)


@pytest.mark.thorough
def test_kernels():
    """Calls of two kernels and the host at a time: each gets its completions back, ids may be the same."""
    rng = random.Random(4)
    bench = Bench(rng, calls=2, kernels=2)
    dut = bench.dut
    program = labelled("quick: ret\nslow: li r1, 90\n div r1, r1, 3\n div r1, r1, 3\n ret\nbad: err 3")
    found = [[], []]
    count = 12

    def call(kernel, number):
        return Call([1, 2, 3, 4][(number + kernel) % 4], id=number + 1, tag=number)

    def kernel(index):
        async def run(ctx):
            port = dut.kernel_call[index]
            for number in range(count):
                for word in call(index, number).words():
                    await send(ctx, port, [word], rng=rng, idle=0.3)
        return run

    def reader(index):
        async def run(ctx):
            found[index] += await receive(ctx, dut.kernel_completion[index], count, rng=rng, stall=0.5)
        return run

    async def host(ctx):
        await start(bench, ctx, program, {1: "quick", 2: "slow", 3: "bad"})
        for number in range(count):
            await bench.post(ctx, call(0, number))

    async def collector(ctx):
        await bench.collect(ctx, count)

    bench.run(kernel(0), kernel(1), reader(0), reader(1), host, collector)
    statuses = {1: Status.SUCCESS, 2: Status.SUCCESS, 3: Status.PROGRAM_RAISED, 4: Status.NO_SUCH_SCENARIO}
    for index, completions in enumerate([*found, bench.completions.values()]):
        port = [0, 1, 0][index]
        expected = sorted((number + 1, statuses[call(port, number).scenario]) for number in range(count))
        assert sorted((one.id, one.status) for one in completions) == expected


@pytest.mark.thorough
def test_a_call_without_space_is_dropped():
    """All 16 words of it, also if there is space before the last; the calls before and after are whole."""
    bench = Bench(random.Random(2), calls=2)
    dut = bench.dut

    async def host(ctx):
        await start(bench, ctx, labelled("nop: ret"), {1: "nop"})
        for number in (1, 2, 3):
            for word, value in enumerate(Call(1, id=number).words()):
                if number == 3 and word == 5:  # there is space from now on
                    await bench.collect(ctx, 1)
                ctx.set(dut.call_word, value)
                ctx.set(dut.call_word_write, 1)
                await ctx.tick()
                ctx.set(dut.call_word_write, 0)
                await ctx.tick()
        await bench.collect(ctx, 2)
        await ctx.tick().repeat(50)
        assert ctx.get(dut.completions) == 0 and ctx.get(dut.call_space) == 2
        await bench.post(ctx, Call(1, id=4))
        await bench.collect(ctx, 3)

    bench.run(host)
    assert sorted(bench.order) == [1, 2, 4]


def test_programs_are_loaded_while_others_run():
    """The words of a new program are written while an endless one runs, which is then aborted."""
    bench = Bench(random.Random(3))
    words, origins = place([assemble_loop()])
    fresh = assemble("li r1, 3\n top: sub r1, r1, 1\n bne r1, r0, top\n ret", origin=100)

    async def host(ctx):
        await start(bench, ctx, (words, {"loop": origins[0]}), {1: "loop"})
        await bench.post(ctx, Call(1, id=1))
        await bench.post(ctx, Call(2, id=2))
        await bench.collect(ctx, 1)
        assert bench.completions[2].status == Status.NO_SUCH_SCENARIO
        await bench.load(ctx, 100, fresh)
        await bench.enter(ctx, 2, Entry(100))
        await bench.post(ctx, Call(2, id=3))
        await bench.collect(ctx, 2)
        assert bench.completions[3].status == Status.SUCCESS
        await bench.enter(ctx, 2, Entry(100, is_valid=False))
        await bench.post(ctx, Call(2, id=4))
        await bench.collect(ctx, 3)
        assert bench.completions[4].status == Status.NO_SUCH_SCENARIO
        await bench.abort(ctx, 1)
        await bench.collect(ctx, 4)
        assert bench.completions[1].status == Status.ABORTED

    bench.run(host)


@pytest.mark.thorough
def test_disabled_and_aborted_before_it_began():
    """Calls wait while the engine is disabled, and can be aborted there; then ABORTED comes in their turn."""
    bench = Bench(random.Random(5))
    dut = bench.dut

    async def host(ctx):
        await start(bench, ctx, labelled("nop: ret"), {1: "nop"})
        ctx.set(dut.enable, 0)
        for number in range(1, 4):
            await bench.post(ctx, Call(1, id=number))
        await bench.abort(ctx, 2)
        await ctx.tick().repeat(60)
        assert ctx.get(dut.completions) == 0
        ctx.set(dut.enable, 1)
        await bench.collect(ctx, 3)
        # The slot of the one that was aborted is used again.
        for number in range(4, 24):
            await bench.post(ctx, Call(1, id=number))
            await bench.collect(ctx, number)

    bench.run(host)
    assert [number for number, found in bench.completions.items() if found.status] == [2]
    assert bench.completions[2].status == Status.ABORTED


def test_communicators_open_and_close():
    """What is told when; sizes and ranks that do not fit leave it closed."""
    bench = Bench(random.Random(6))
    dut, told = bench.dut, []

    async def listener(ctx):
        while True:
            _, _, valid, payload = await ctx.tick().sample(dut.open.valid, dut.open.payload)
            if valid:
                told.append((payload.communicator, payload.credits))

    async def host(ctx):
        base = ConfigSpace.COMMUNICATOR
        for number, word in enumerate((2 | 1 << 8, 2 | 1 << 31, 2 | 2 << 8 | 1 << 31, 1 << 31, 17 | 1 << 31,
                                       16 | 15 << 8 | 1 << 31)):
            await bench.config(ctx, base + 32 * number, word)
        for number in range(6):  # in a row
            await bench.config(ctx, base + 32 * number + 1, 10 + number)
        await ctx.tick().repeat(30)
        assert told == [(1, 11), (5, 15)] and ctx.get(dut.is_open) == 1 << 1 | 1 << 5
        await bench.config(ctx, base + 32, 2 | 1 << 31)
        await ctx.tick()
        assert ctx.get(dut.is_open) == 1 << 5
        await bench.config(ctx, base + 33, 255)
        await bench.config(ctx, base + 32, 2 | 1 << 31)  # before it has opened: it stays closed
        await ctx.tick().repeat(10)
        assert ctx.get(dut.is_open) == 1 << 5

    simulate(dut, host, models=[bench.move_unit, listener])


@pytest.mark.parametrize("parameters,message", [
    ({"program": 100}, "words must be a power of two from 64 to 4096, not 100"),
    ({"calls": 1}, "calls must be 2 to 64, not 1"),
    ({"kernels": 9}, "kernels must be 0 to 8, not 9"),
    ({"segment": 300}, "segment must be a power of two from 256 to 4096, not 300"),
    ({"types": 1 << 32}, "types must fit 32 bits, not 0x100000000"),
])
def test_parameters(parameters, message):
    with pytest.raises(ValueError) as error:
        ControlUnit(**parameters)
    assert message in str(error.value)
