# SPDX-License-Identifier: Apache-2.0
"""The language of collectives: what it computes, what it refuses, and what the compiler makes of it."""

import re

import pytest
from collective_microcode import interpreted_steps, microcode_steps
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rackgate.collective.isa import REGISTER_BITS
from rackgate.collective.programs import interpreter
from rackgate.collective.programs.assembler import disassemble
from rackgate.collective.programs.contract import NOTHING
from rackgate.collective.programs.expression import as_expression
from rackgate.collective.programs.interpreter import Place, moves
from rackgate.collective.programs.language import CollectiveError, collective
from rackgate.collective.programs.program import Program, build

CALL = Place(5, 3, 1000, 2, tag=77, segment=256, operand=0x10000, operand_1=0x20000, result=0x30000)
def program_of(function):
    return collective(NOTHING)(function)


def both(function, call=CALL):
    """The steps that statements and instructions agree on."""
    written = program_of(function)
    steps = interpreted_steps(written.trace(), call)
    assert microcode_steps(build(written, ()), call) == steps
    return moves(written.trace(), call)


def values(function, call=CALL):
    """Numbers that a program computes, as tags: both of its forms must agree on them."""
    def program(c):
        for tag in function(c):
            c.signal(0, tag=tag)
    return [step.tag for step in both(program, call)]


def length(function):
    return len(build(program_of(function), ()).words)


LEAVES = st.one_of(st.integers(0, 20), st.integers(0, 1 << 20), st.sampled_from(
    ["rank", "size", "count", "root", "tag", "shift", "segment", "x"]))
#: Operators, with operands that keep the values in range.
OPERATORS = {
    "+": lambda c, a, b: (a & (1 << 36) - 1) + (b & (1 << 36) - 1),
    "-": lambda c, a, b: c.maximum(a, b) - c.minimum(a, b),
    "*": lambda c, a, b: (a & 0xFFFFF) * (b & 0xFFFF),
    "//": lambda c, a, b: a // (b | 1),
    "%": lambda c, a, b: a % (b | 1),
    "<<": lambda c, a, b: (a & 0xFFFFF) << (b & 15),
    ">>": lambda c, a, b: a >> (b & 31),
    "&": lambda c, a, b: a & b,
    "|": lambda c, a, b: a | b,
    "^": lambda c, a, b: a ^ b,
    "min": lambda c, a, b: c.minimum(a, b),
    "max": lambda c, a, b: c.maximum(a, b),
    "<": lambda c, a, b: a < b,
    "<=": lambda c, a, b: a <= b,
    "==": lambda c, a, b: a == b,
    "!=": lambda c, a, b: a != b,
}
TREES = st.recursive(LEAVES, lambda inner: st.tuples(st.sampled_from(sorted(OPERATORS)), inner, inner), max_leaves=12)


def make(c, tree, x):
    """An expression of a tree."""
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return x if tree == "x" else getattr(c, tree)
    kind, first, second = tree[0], make(c, tree[1], x), make(c, tree[2], x)
    if isinstance(first, int) and isinstance(second, int):
        first = c.rank - c.rank + first  # so that Python does not compute it
    return OPERATORS[kind](c, first, second)


@settings(max_examples=150, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=5), st.integers(0, 1000))
def test_expressions(trees, x):
    def program(c):
        variable = c.variable(x)
        with c.loop(2):
            for tree in trees:
                c.signal(0, tag=make(c, tree, variable.value) & 0x7FFF)
            variable.set(variable.value * 2 + 1)
    both(program)


NAMED = st.sampled_from(["v0", "v1", "v2", "k", "let"])
SMALL = st.recursive(LEAVES | NAMED, lambda inner: st.tuples(st.sampled_from(sorted(OPERATORS)), inner, inner),
                     max_leaves=5)
STATEMENTS = st.recursive(
    st.one_of(
        st.tuples(st.just("signal"), SMALL, SMALL),
        st.tuples(st.just("send"), SMALL, SMALL),
        st.tuples(st.just("recv"), SMALL, SMALL),
        st.tuples(st.just("set"), st.integers(0, 2), SMALL),
        st.tuples(st.just("let"), SMALL),
        st.tuples(st.just("sync"), st.integers(0, 3)),
        st.just(("stop",)),
    ),
    lambda inner: st.one_of(
        st.tuples(st.just("loop"), SMALL, st.lists(inner, max_size=4)),
        st.tuples(st.just("when"), SMALL, SMALL, st.lists(inner, max_size=4), st.lists(inner, max_size=4)),
        st.tuples(st.just("while"), st.integers(0, 2), st.lists(inner, max_size=3)),
    ), max_leaves=14)


class Writer:
    """Writes statements as a collective."""

    def __init__(self, c):
        self.c = c
        self.variables = [c.variable(number + 1) for number in range(3)]
        self.named = {"k": c.let(5), "let": c.let(c.rank * 3)}

    def number(self, tree):
        tree = "v0" if tree == "x" else tree
        if isinstance(tree, str) and tree[0] == "v":
            return self.variables[int(tree[1])].value & 0xFFFFF
        if isinstance(tree, str):
            return self.named[tree] if tree in self.named else make(self.c, tree, None)
        if isinstance(tree, int):
            return as_expression(tree)
        return OPERATORS[tree[0]](self.c, self.number(tree[1]), self.number(tree[2]))

    def block(self, statements):
        """Whether the block ends the program; what would follow is left out."""
        kept = dict(self.named)
        ended = any(self.statement(*statement) for statement in self.until_stop(statements))
        self.named = kept
        return ended

    @staticmethod
    def until_stop(statements):
        for statement in statements:
            yield statement
            if statement == ("stop",):
                return

    def statement(self, kind, *operands):
        c = self.c
        if kind == "signal":
            c.signal(self.number(operands[0]) % 5, tag=self.number(operands[1]) & 0xFFFF)
        elif kind == "send":
            c.send(c.operand.part(self.number(operands[0]) & 0xFFFF, self.number(operands[1]) & 0xFFF), to=c.right)
        elif kind == "recv":
            c.recv(c.left, into=c.result.part(self.number(operands[0]) & 0xFFFF, self.number(operands[1]) & 0xFFF))
        elif kind == "set":
            self.variables[operands[0]].set(self.number(operands[1]))
        elif kind == "let":
            self.named["let"] = c.let(self.number(operands[0]) & 0xFFFFF)
        elif kind == "sync":
            c.sync(operands[0])
        elif kind == "stop":
            c.stop()
            return True
        elif kind == "loop":
            with c.loop(self.number(operands[0]) & 3) as k:
                outer, self.named["k"] = self.named["k"], k
                self.block(operands[1])
                self.named["k"] = outer
        elif kind == "while":
            turns = c.variable(operands[0])
            with c.repeat_while(lambda: turns.value != 0):
                turns.set(turns.value - 1)
                self.block(operands[1])
        else:
            first, second, then, other = operands
            with c.when((self.number(first) & 7) < (self.number(second) & 7)):
                then_ends = self.block(then)
            if other:
                with c.otherwise():
                    return self.block(other) and then_ends
        return False


def write(c, statements):
    writer = Writer(c)
    if not writer.block(statements):
        for number in range(3):
            c.signal(1, tag=writer.variables[number].value & 0xFFFF)


def run_statements(statements, rank):
    try:
        build(program_of(lambda c: write(c, statements)), ())
    except CollectiveError as error:
        assume("more than 15 values" not in str(error))
        raise
    both(lambda c: write(c, statements), CALL._replace(rank=rank))


def test_the_end_of_a_loop_is_not_that_of_one_around_it():
    """Found by test_statements: the inner loop took the outer one's end, of a variable that had changed meanwhile."""
    def program(c):
        last = c.variable(3)
        with c.loop(last.value & 3), c.loop(last.value & 3):
            last.set(0)
            c.signal(0)
    assert len(both(program)) == 3


@pytest.mark.thorough
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STATEMENTS, min_size=1, max_size=6), st.integers(0, 4))
def test_statements(statements, rank):
    """Whatever is nested in whatever, instructions do what the statements say."""
    run_statements(statements, rank)


@pytest.mark.soak
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STATEMENTS, min_size=1, max_size=6), st.integers(0, 4))
def test_many_statements(statements, rank):
    run_statements(statements, rank)


def test_numbers():
    assert values(lambda c: [c.rank, c.size, c.count, c.root, c.tag, c.shift, c.segment, c.left, c.right]) == [
        3, 5, 1000, 2, 77, 2, 256, 2, 4]
    assert values(lambda c: [c.plus(c.rank, c.root), c.minus(c.root, c.rank), c.packet]) == [0, 4, 64]
    assert values(lambda c: [c.packet], CALL._replace(is_compressed=True)) == [128]
    assert values(lambda c: [100_000, 1 << 20, (1 << 29) + 5, 8191, 8192]) == [100_000, 1 << 20, (1 << 29) + 5, 8191,
                                                                              8192]


def test_chunks_cover_the_buffer():
    for count in (0, 1, 4, 5, 6, 1000, 1003):
        place = CALL._replace(count=count)

        def program(c):
            with c.loop(c.size) as k:
                c.send(c.operand.chunk(k), to=0, tag=k)
        steps = both(program, place)
        assert [step.count for step in steps] == [count // 5 + (k < count % 5) for k in range(5)]
        assert all(step.local == place.operand + 4 * sum(before.count for before in steps[:step.index])
                   for step in steps)


def test_blocks():
    def program(c):
        c.send(c.operand.block(c.rank), to=0)
        c.send(c.operand.block(1, 2), to=0, tag=1)
        c.send(c.result.part(7, 9), to=0, tag=2)
    assert [(step.local, step.count) for step in both(program)] == [
        (0x10000 + 12000, 1000), (0x10000 + 4000, 2000), (0x30000 + 28, 9)]


@pytest.mark.parametrize("start,stop", [(0, 0), (0, 3), (2, 5), (5, 5), (6, 5)])
def test_loop(start, stop):
    def program(c):
        with c.loop(start, stop) as fixed:
            c.signal(0, tag=fixed)
        with c.loop(c.size - 5 + start, c.size - 5 + stop) as k:
            c.signal(1, tag=k)
            with c.loop(k) as j:
                c.signal(2, tag=k * 10 + j)
        c.signal(3)
    expected = list(range(start, stop))
    for k in range(start, stop):
        expected += [k, *(k * 10 + j for j in range(k))]
    assert [step.tag for step in both(program)] == [*expected, 0]


def test_bound_of_a_loop_is_taken_once():
    def program(c):
        bound = c.variable(3)
        with c.loop(bound.value) as k:
            c.signal(0, tag=k)
            bound.set(bound.value + 5)
        c.signal(0, tag=bound.value)
    assert [step.tag for step in both(program)] == [0, 1, 2, 18]


@pytest.mark.parametrize("rank", range(5))
def test_conditions(rank):
    def program(c):
        for number, condition in enumerate((
                c.rank < 2, c.rank <= 2, c.rank == 2, c.rank != 2, c.rank > 2, c.rank >= 2, ~(c.rank < 2),
                (c.rank > 0) & (c.rank < 3), (c.rank == 0) | (c.rank == 4), ~((c.rank > 0) & (c.rank < 3)),
                (c.rank == 1) | (c.rank > 1) & (c.rank != 3), c.rank & 1)):
            with c.when(condition):
                c.signal(0, tag=2 * number)
            with c.otherwise():
                c.signal(1, tag=2 * number + 1)
    truth = [rank < 2, rank <= 2, rank == 2, rank != 2, rank > 2, rank >= 2, rank >= 2, 0 < rank < 3, rank in (0, 4),
             not 0 < rank < 3, rank == 1 or rank > 1 and rank != 3, rank & 1]
    steps = both(program, CALL._replace(rank=rank))
    assert [step.tag for step in steps] == [2 * number + (not holds) for number, holds in enumerate(truth)]


@pytest.mark.parametrize("rank", range(5))
def test_values_of_branches_are_not_mixed_up(rank):
    """What one branch has computed is not there when the other was taken."""
    def program(c):
        total = c.variable(1)
        with c.when(c.rank > 2):
            c.signal(0, tag=c.count * 3)
            total.set(c.count * 3)
        with c.otherwise():
            c.signal(0, tag=c.count * 5)
            with c.when(c.rank == 1):
                c.signal(0, tag=c.count * 7)
                c.stop()
        c.signal(0, tag=c.count * 3)
        c.signal(0, tag=c.count * 5)
        c.signal(0, tag=total.value)
    both(program, CALL._replace(rank=rank))


def test_stop_and_sync():
    def program(c):
        c.signal(0)
        c.signal(1)
        c.sync(1)
        c.signal(2)
        with c.when(c.rank == 3):
            c.stop()
        c.signal(3)
    assert len(both(program)) == 4
    assert len(both(program, CALL._replace(rank=1))) == 5


def test_fail():
    trace = program_of(lambda c: c.fail(3)).trace()
    with pytest.raises(CollectiveError, match="ends with error 3"):
        moves(trace, CALL)
    with pytest.raises(CollectiveError, match="cause of fail must be 0 to 15, not 16"):
        program_of(lambda c: c.fail(16)).trace()


def test_streams():
    def program(c):
        c.copy(c.operand.or_stream, c.result.or_stream)
    for flags in range(4):
        step, = both(program, CALL._replace(streams=flags))
        assert step.control.local == 1 + (flags & 1) and step.control.target == 1 + (flags >> 1)


def test_a_step_of_a_ring_is_short():
    """Fields that stay the same are written once, and division is made before the loop."""
    def program(c):
        with c.loop(1, c.size) as k:
            chunk = c.minus(c.rank, k)
            c.recv_reduce(c.left, c.operand.chunk(chunk), to=c.right, tag=chunk)
    text = disassemble(build(program_of(program), ()).words)
    body = text.split("L")[-1].split("ret")[0]
    loop = [line for line in text.splitlines() if line.startswith("    ")]
    top = next(number for number, line in enumerate(loop) if "subm" in line and "MV" not in line and number > 10)
    assert "div" not in body and len(loop) - top <= 18


def test_a_move_behind_a_sync_starts_at_once():
    """Its fields are written before the sync, also those that the move before has other values in."""
    def program(c):
        with c.loop(c.size) as k:
            c.signal(k, tag=3)
            c.sync()
            c.wait_for(c.minus(c.rank, k), tag=4, to=c.right)
    steps = both(program, CALL._replace(size=3, rank=1))
    assert len(steps) == 9 and [step.tag for step in steps if isinstance(step, interpreter.Step)] == 3 * [3, 4]
    text = disassemble(build(program_of(program), ()).words)
    assert text.count("sync") == 1 and re.search(r"sync 0\n +go\n", text)


def test_a_comparison_takes_no_shift():
    """A shift takes a cycle for each bit."""
    def program(c):
        c.signal(c.rank < c.count, tag=c.tag <= c.count)
    text = disassemble(build(program_of(program), ()).words)
    assert "sh" not in text
    for count in (0, 1, 7, 8):
        step, = both(program, CALL._replace(rank=1, count=count, tag=7))
        assert (step.destination, step.tag) == (int(1 < count), int(7 <= count))


def test_comparisons_of_all_numbers():
    """Also of those that are further apart than half of what a register can hold."""
    least, most = 0, (1 << REGISTER_BITS) - 1

    def program(c):
        low, high = c.variable(least), c.variable(most)
        return [low.value < high.value, high.value < low.value, high.value <= high.value, high.value <= low.value]
    assert values(program) == [1, 0, 1, 0]


def test_an_exchange_is_short():
    """Four instructions a step besides the move itself would be enough for a mask that doubles."""
    def program(c):
        mask = c.variable(1)
        with c.repeat_while(lambda: mask.value < c.size):
            c.recv_reduce(c.rank ^ mask.value, c.result, into=c.result, to=c.rank ^ (mask.value * 2))
            mask.set(mask.value * 2)
    words = build(program_of(program), ()).words
    text = disassemble(words)
    assert text.index("GO".lower()) > 0 and len(text.split("L")[-1].splitlines()) <= 10


def message(function, **tuning):
    with pytest.raises(CollectiveError) as error:
        program = program_of(function)
        program.trace(**tuning)
        build(program, ())
    return str(error.value)


def test_python_cannot_decide():
    def program(c):
        if c.rank == 0:
            c.signal(1)
    assert "test_collective_language.py:" in message(program)
    assert "cannot decide in Python: use c.when" in message(program)


def test_python_cannot_count():
    def program(c):
        for _ in range(c.size):
            c.signal(1)
    assert "use c.loop(...) to repeat" in message(program)


def test_python_cannot_iterate():
    assert "use c.loop(...) to repeat in a collective" in message(lambda c: list(c.size))


def test_no_number():
    assert "not with 'one'" in message(lambda c: c.signal("one"))
    assert "not with 1.5" in message(lambda c: c.signal(c.rank + 1.5))
    assert "not with True" in message(lambda c: c.signal(c.rank + True))
    assert "a constant must be 0 to 2**40 - 1, not -1" in message(lambda c: c.signal(c.rank + -1))
    assert "a division by zero" in message(lambda c: c.signal(c.rank // 0))
    assert "~ is for comparisons only" in message(lambda c: c.let(~c.rank))


def test_condition_of_python():
    def program(c):
        with c.when(True):
            c.signal(1)
    assert "a condition compares numbers of c; True is Python's" in message(program)


def test_otherwise_without_when():
    def program(c):
        with c.otherwise():
            c.signal(1)
    assert "otherwise must follow the block of a when" in message(program)


def test_stale_value():
    def program(c):
        x = c.variable(1)
        old = x.value + 1
        x.set(5)
        c.signal(0, tag=old)
    assert "was written down before variable 0 changed: keep it with c.let" in message(program)


def test_stale_value_in_a_loop():
    def program(c):
        x = c.variable(1)
        old = x.value + 1
        with c.loop(3):
            c.signal(0, tag=old)
            x.set(x.value + 1)
    assert "this was written down before the loop, in which variable 0 changes" in message(program)


def test_kept_value():
    def program(c):
        x = c.variable(1)
        old = c.let(x.value + 1)
        with c.loop(3) as k:
            c.signal(0, tag=old)
            c.signal(1, tag=x.value)
            x.set(x.value + k)
        c.signal(2, tag=old)
    assert [step.tag for step in both(program)] == [2, 1, 2, 1, 2, 2, 2]


def test_variable_of_a_block():
    def program(c):
        with c.loop(3) as k:
            c.signal(0, tag=k)
        c.signal(1, tag=k)
    assert "uses a variable that ended with its block" in message(program)


def test_variable_set_after_its_block():
    def program(c):
        with c.when(c.rank == 0):
            x = c.variable(0)
        x.set(1)
    assert "this variable ended with its block" in message(program)


def test_statement_after_the_end():
    def program(c):
        c.stop()
        c.signal(0)
    assert "nothing comes here, as the collective has ended before" in message(program)


def test_moves_are_complete():
    assert "recv_reduce needs into=, to=, or both" in message(lambda c: c.recv_reduce(0, c.operand))
    assert "recv_forward without into= needs count=" in message(lambda c: c.recv_forward(0, to=1))
    assert "send takes c.operand, c.operand_1, c.result or a part of them, not 5" in message(
        lambda c: c.send(5, to=1))
    assert "the pieces of a copy must have the same count" in message(
        lambda c: c.copy(c.operand, c.result.part(0, c.rank)))
    assert "sync takes 0 to 3 moves, not 4" in message(lambda c: c.sync(4))
    assert "only operand and result can be streams" in message(lambda c: c.send(c.operand_1.or_stream, to=0))
    assert "only operand can come from a stream" in message(lambda c: c.send(c.result.or_stream, to=0))
    assert "repeat_while takes a function" in message(lambda c: c.repeat_while(c.rank < 1).__enter__())


def test_too_many_variables():
    def program(c):
        kept = [c.let(c.rank + number) for number in range(16)]
        for number in kept:
            c.signal(0, tag=number)
    assert "more than 15 values are needed at a time" in message(program)


def test_too_long():
    def program(c):
        for _ in range(1500):
            c.signal(c.rank, tag=c.rank)
            c.signal(c.left, tag=c.left)
    assert "the program memory has at most 4096" in message(program)


def test_no_end(monkeypatch):
    monkeypatch.setattr(interpreter, "MAX_STATEMENTS", 1000)
    def program(c):
        with c.repeat_while(lambda: c.rank < 5):
            c.sync()
    with pytest.raises(CollectiveError, match="rank 3 of 5, .*: the program goes on after 1000 statements"):
        moves(program_of(program).trace(), CALL)


def test_below_zero():
    trace = program_of(lambda c: c.signal(0, tag=c.rank - 4)).trace()
    with pytest.raises(CollectiveError, match="at rank 3 of 5, count 1000, root 2: .* is 3 - 4, which is not 0 to"):
        moves(trace, CALL)


def test_not_a_rank():
    trace = program_of(lambda c: c.signal(c.plus(c.rank, 7))).trace()
    with pytest.raises(CollectiveError, match="is modulo the size 5, but its operands are 3 and 7"):
        moves(trace, CALL)


def test_tuning():
    @collective(NOTHING)
    def tuned(c, *, limit=3):
        c.signal(0, tag=limit)
    assert tuned.tunables == {"limit": 3} and tuned.name == "tuned"
    assert moves(tuned.trace(limit=9), CALL)[0].tag == 9
    with pytest.raises(CollectiveError, match="tuned has no speed to tune; it has limit"):
        tuned.trace(speed=1)
    with pytest.raises(TypeError, match="collective takes a Contract"):
        collective(None)


def test_program_elsewhere():
    def program(c):
        with c.loop(c.size) as k:
            c.signal(0, tag=k)
    program = build(program_of(program), ())
    assert program.entry_word(100) == 1 << 31 | 100 and program.checked_for is None
    moved = program.placed(100)
    changed = [number for number, (one, other) in enumerate(zip(program.words, moved, strict=True)) if one != other]
    assert len(changed) == 2 and all(moved[number] - program.words[number] == 100 for number in changed)
    assert Program("x", program.words, NOTHING, entry=2).entry_word(1) == 3 << 30 | 3
    with pytest.raises(CollectiveError, match="cannot lie at 4096"):
        program.placed(4096)
