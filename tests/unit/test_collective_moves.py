# SPDX-License-Identifier: Apache-2.0
"""Moves into segments: the unit between sequencer, queues and lanes, against what a move means."""

import random
from collections import Counter, deque
from functools import partial

import pytest
from amaranth.sim import Simulator

from rackgate.arith.abi import ElementType
from rackgate.collective.abi import COMMUNICATORS, NODES, Cause, HeaderFlag, Status
from rackgate.collective.isa import Local, MoveControl, Other, Target
from rackgate.collective.moves.credits import Credits
from rackgate.collective.moves.lifecycle import Lifecycle
from rackgate.collective.moves.moveunit import MoveUnit
from rackgate.verif.stimulus import send, simulate

SEGMENT = 256
SEND = MoveControl(local=Local.MEMORY, send=True)
RECEIVE = MoveControl(other=Other.RECEIVE, target=Target.MEMORY)
FUSED = MoveControl(Local.MEMORY, Other.RECEIVE, Target.MEMORY, send=True, reduce=True)
COPY = MoveControl(local=Local.MEMORY, target=Target.MEMORY)
COMBINE = MoveControl(Local.MEMORY, Other.MEMORY, Target.MEMORY, reduce=True)


def move(control, count, *, context=0, element=ElementType.INT32, **fields):
    return {
        "control": control.to_int(),
        "count": count,
        "context": context,
        "element": element,
        "communicator": 1,
        "operation": 5,
        "tag": 9,
        "function": 0,
        "compressed": 0,
        "local": 0,
        "other": 0,
        "result": 0,
        "source": 2,
        "any_source": 0,
        "destination": 3,
        "any_tag": 0,
        **fields,
    }


def wire_size(item):
    return 2 if item["compressed"] else ElementType(item["element"]).size


def cuts(item):
    """Elements of each segment."""
    most, left = SEGMENT // wire_size(item), item["count"]
    sizes = []
    while True:
        sizes.append(min(most, left))
        left -= sizes[-1]
        if not left:
            return sizes


def _values(record):
    """The fields of a record that are numbers."""
    return {name: getattr(record, name) for name, _ in record.shape() if isinstance(getattr(record, name), int)}


class Bench:
    """The unit with queues, lanes and a sequencer that are random but right."""

    def __init__(self, seed=0, *, credits=4, timeout=0, stall=0.3, eager=0):
        print("seed", seed)
        self.random, self.dut, self.credits, self.timeout, self.stall = (
            random.Random(seed),
            MoveUnit(SEGMENT),
            credits,
            timeout,
            stall,
        )
        self.moves, self.issued, self.done, self.failed, self.killed = [], [], [], [], []
        self.posts, self.cancelled = [], []
        self.arrivals = {}  # of a post's tag: packets that come
        self.lists = [deque() for _ in range(17)]
        self.given, self.taken = 0, 0
        self.outstanding = [0] * 4
        self.lanes = {"send": deque(), "receive": deque()}
        self.kill, self.kill_at = 0, None  # contexts that are being ended; the cycle in which context 0 is
        self.errors = {}
        # Messages of more packets ask: moves that have, their answers, and those that this node has given.
        self.eager, self.asking, self.answers, self.answered = eager, set(), {}, []

    def packets(self, item, *, length=None, compressed=None):
        """What a peer sends for a receive."""
        sizes = cuts(item)
        size = wire_size(item)
        length = item["count"] * size if length is None else length
        flag = HeaderFlag.COMPRESSED if (item["compressed"] if compressed is None else compressed) else 0
        return [
            {
                "slot": self.random.randrange(64),
                "size": n * size,
                "node": 2,
                "tag": item["tag"],
                "length": length,
                "element": 0,
                "flags": flag | (HeaderFlag.FIRST if k == 0 else 0) | (HeaderFlag.LAST if k == len(sizes) - 1 else 0),
            }
            for k, n in enumerate(sizes)
        ]

    def run(self, moves, *, limit=20000, until=None):
        self.moves = list(moves)
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(partial(self._main, limit=limit, until=until))
        simulator.run()

    async def _main(self, ctx, limit, until):
        dut, rng = self.dut, self.random
        ctx.set(dut.timeout, self.timeout)
        for lane in ("send", "receive"):
            ctx.set(getattr(dut, lane).ready, 0)
        await self._until(ctx, dut.open, {"communicator": 1, "credits": self.credits, "eager": self.eager})
        self.given = self.credits
        waiting, coming, quiet = deque(self.moves), [], 0
        for cycle in range(limit):
            # What the unit says in this cycle, before the edge.
            ready = {name: rng.random() > self.stall for name in ("post", "cancel", "send", "receive")}
            ready["clear"] = rng.random() < 0.02
            ctx.set(dut.clear.ready, ready["clear"])
            answer = self.answers.pop(cycle, None)
            ctx.set(dut.is_cleared, int(answer is not None))
            if answer is not None:
                ctx.set(dut.cleared, answer)
            ctx.set(dut.post.ready, ready["post"])
            is_cancelled = ready["cancel"] and ctx.get(dut.cancel.valid)
            ctx.set(dut.cancel.ready, ready["cancel"])
            offer = (
                next(
                    (m for m in waiting if self.outstanding[m["context"]] < 4 and not self.kill >> m["context"] & 1),
                    None,
                )
                if not ctx.get(dut.move.valid)
                else None
            )
            if offer is not None and rng.random() > self.stall:
                ctx.set(dut.move.payload, offer)
                ctx.set(dut.move.valid, 1)
                self.outstanding[offer["context"]] += 1
                waiting.remove(offer)
            give = self.taken > 0 and rng.random() < 0.05
            if give:
                ctx.set(dut.credit.payload, {"communicator": 1, "node": 3, "count": 1})
            ctx.set(dut.credit.valid, int(give))
            for lane, queue in self.lanes.items():
                ctx.set(getattr(dut, lane).ready, int(ready[lane] and len(queue) < 6))
                port = getattr(dut, f"retired_{lane}")
                retire = bool(queue) and rng.random() < 0.2
                ctx.set(port.valid, int(retire))
                if retire:
                    entry = queue[0]
                    ctx.set(
                        port.payload,
                        {"move": entry["move"], "read_error": self.errors.get(entry["move"], 0), "write_error": 0},
                    )
            if cycle == self.kill_at:
                self.kill |= 1
            ctx.set(dut.kill, self.kill)
            ctx.set(dut.owed, 0)
            # What happens at the edge.
            if ctx.get(dut.move.valid) and ctx.get(dut.move.ready):
                accepted = True
            else:
                accepted = False
            if ctx.get(dut.post.valid) and ready["post"]:
                post = ctx.get(dut.post.payload)
                self.posts.append((post.move, post.key.tag))
                coming.append([post.move, deque(self.arrivals.get(post.key.tag, ()))])
            if is_cancelled:
                number = ctx.get(dut.cancel.payload.move)
                self.cancelled.append(number)
                self.lists[number].clear()
                coming = [c for c in coming if c[0] != number]
            if ctx.get(dut.clear.valid) and ready["clear"]:
                given = _values(ctx.get(dut.clear.payload))
                self.answered.append((given["communicator"], given["node"], given["handle"]))
            took = None
            if ctx.get(dut.take):
                took = self.lists[ctx.get(dut.front)].popleft()
            if ctx.get(dut.take_credit):
                self.taken += 1
                assert self.taken <= self.given, "more sent than credited"
            if give and ctx.get(dut.credit.ready):
                self.given += 1
                gave = True
            else:
                gave = False
            for lane, queue in self.lanes.items():
                port = getattr(dut, lane)
                if ctx.get(port.valid) and ctx.get(port.ready):
                    segment = ctx.get(port.payload)
                    entry = {"lane": lane, **_values(segment), "header": _values(segment.header), "cycle": cycle}
                    self.issued.append(entry)
                    self._ask(entry)
                    queue.append(entry)
                if ctx.get(getattr(dut, f"retired_{lane}").valid):
                    queue.popleft()
            for context in range(4):
                if ctx.get(dut.failed) >> context & 1:
                    failure = ctx.get(dut.failure[context])
                    self.failed.append((context, failure.status, failure.cause, failure.node))
                    self.kill |= 1 << context
                if ctx.get(dut.killed) >> context & 1:
                    self.killed.append(context)
                    left = [entry for queue in self.lanes.values() for entry in queue if entry["move"] // 4 == context]
                    assert not left, "a context is reported ended of which a segment is in a lane"
                    self.kill &= ~(1 << context)
                    self.outstanding[context] = 0
            done = ctx.get(dut.done)
            if done.valid:
                self.done.append((cycle, done.context))
                if not self.kill >> done.context & 1:
                    self.outstanding[done.context] -= 1
            await ctx.tick()
            if answer is not None and (answer["communicator"], answer["node"]) == (1, 3):
                self.asking.discard(answer["handle"])
            if accepted:
                ctx.set(dut.move.valid, 0)
            if gave:
                ctx.set(dut.credit.valid, 0)
            if took is not None:
                ctx.set(dut.taken, took)
            for entry in coming:
                if entry[1] and rng.random() < 0.1:
                    self.lists[entry[0]].append(entry[1].popleft())
            ctx.set(dut.has_packet, sum(1 << k for k, items in enumerate(self.lists) if items))
            idle = (
                not waiting
                and not any(self.outstanding)
                and not ctx.get(dut.move.valid)
                and not any(self.lanes.values())
                and not self.lists[16]
            )
            quiet = quiet + 1 if idle else 0
            if quiet > 20 or until is not None and until(self):
                return
        raise AssertionError(f"not at rest after {limit} cycles: {self.outstanding}, {len(waiting)} moves wait")

    def _ask(self, entry):
        """A message that has asked is answered some time later, after answers that are not for it."""
        assert entry["move"] not in self.asking, "a message goes on that has asked"
        header, move = entry["header"], entry["move"]
        if header["flags"] & HeaderFlag.REQUEST_TO_SEND:
            assert header["handle"] == move and header["flags"] & HeaderFlag.FIRST
            self.asking.add(move)
            right = {"communicator": 1, "node": 3, "handle": move}
            wrong = self.random.choice([{"communicator": 2}, {"node": 2}])
            for answer, least in ((right | wrong, 5), (right, 150)):
                due = entry["cycle"] + least + self.random.randrange(100)
                while due in self.answers:
                    due += 1
                self.answers[due] = answer
        else:
            assert not header["handle"]

    async def _until(self, ctx, port, payload):
        ctx.set(port.payload, payload)
        ctx.set(port.valid, 1)
        while not ctx.get(port.ready):
            await ctx.tick()
        await ctx.tick()
        ctx.set(port.valid, 0)


def expected(item, number_of_segments):
    """(local, other, result, memory bytes, wire bytes, offset, first, last) of each segment."""
    size, wire, at = ElementType(item["element"]).size, wire_size(item), 0
    for k, n in enumerate(cuts(item)):
        yield (
            item["local"] + at * size,
            item["other"] + at * size,
            item["result"] + at * size,
            n * size,
            n * wire,
            at * wire,
            k == 0,
            k == number_of_segments - 1,
        )
        at += n


def asks(bench, item):
    """Whether a message asks before it is sent: of send, from memory, and longer than so many packets."""
    control = MoveControl.from_int(item["control"])
    length = item["count"] * wire_size(item)
    return control == SEND and not item["operation"] and 0 < bench.eager * SEGMENT < length


def check(bench, item, segments):
    control = MoveControl.from_int(item["control"])
    assert len(segments) == len(cuts(item))
    for segment, want in zip(segments, expected(item, len(segments)), strict=True):
        local, other, result, size, wire, offset, first, last = want
        assert segment["size"] == size and segment["last"] == last
        if segment["lane"] == "send":
            assert segment["address"] == local
        else:
            assert segment["has_packet"] == (control.other == Other.RECEIVE)
            assert segment["has_other"] == (control.other == Other.MEMORY)
            assert segment["has_local"] == (control.local == Local.MEMORY)
            assert segment["send"] == control.send and segment["reduce"] == control.reduce
            assert not segment["has_local"] or segment["local"] == local
            assert not segment["has_other"] or segment["other"] == other
            assert segment["to_memory"] == (control.target == Target.MEMORY)
            assert not segment["to_memory"] or segment["result"] == result
        if control.send:
            header = segment["header"]
            flags = (
                (HeaderFlag.FIRST if first else 0)
                | (HeaderFlag.LAST if last else 0)
                | (HeaderFlag.COMPRESSED if item["compressed"] else 0)
                | (HeaderFlag.STREAM if control.put else 0)
                | (HeaderFlag.REQUEST_TO_SEND if first and asks(bench, item) else 0)
            )
            assert (
                header["flags"],
                header["size"],
                header["offset"],
                header["length"],
                header["node"],
                header["tag"],
            ) == (flags, wire, offset, item["count"] * wire_size(item), 3, item["tag"])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "control", [SEND, RECEIVE, FUSED, COPY, COMBINE], ids=["send", "receive", "fused", "copy", "combine"]
)
@pytest.mark.parametrize(
    ("count", "element", "compressed"),
    [
        (0, ElementType.INT32, 0),
        (1, ElementType.INT64, 0),
        (64, ElementType.INT32, 0),
        (65, ElementType.INT32, 0),
        (500, ElementType.FLOAT16, 0),
        (300, ElementType.FLOAT32, 1),
    ],
)
def test_a_move_is_cut_as_it_should_be(control, count, element, compressed):
    bench = Bench(seed=count)
    item = move(control, count, element=element, compressed=compressed, local=0x1000, other=0x8000, result=0x20000)
    bench.arrivals[9] = bench.packets(item)
    bench.run([item])
    check(bench, item, bench.issued)
    assert len(bench.done) == 1 and not bench.failed


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(2))
def test_moves_of_all_contexts(seed):
    """Every move is cut right whatever else goes on, and waits for those that it shares memory with, and no others."""
    rng = random.Random(seed)
    bench = Bench(seed=seed, credits=3)
    items = []
    for tag in range(40):
        control = rng.choice([SEND, RECEIVE, FUSED, COPY, COMBINE])
        item = move(
            control,
            rng.choice([0, 1, 64, 100, 200]),
            context=rng.randrange(4),
            tag=tag,
            **{name: 0x400 * rng.randrange(6) for name in ("local", "other", "result")},
        )
        bench.arrivals[tag] = bench.packets(item)
        items.append(item)
    # In the place of a tag, where there is no header to tell moves apart by, the function.
    for number, item in enumerate(items):
        item["function"] = number % 16
    bench.run(items, limit=60000)
    assert len(bench.done) == len(items) and not bench.failed
    for context in range(4):
        mine = [item for item in items if item["context"] == context]
        segments = [entry for entry in bench.issued if entry["move"] // 4 == context]
        assert sum(len(cuts(item)) for item in mine) == len(segments)


@pytest.mark.parametrize("eager", range(4))
def test_messages_that_ask(seed, eager):
    """Only long ones of send do; and what has asked is answered once, as soon as its first packet has been taken."""
    rng = random.Random(seed)
    bench = Bench(seed=rng.randrange(1 << 30), credits=rng.choice([3, 250]), eager=eager)
    kinds = [(control, count, compressed, operation) for count in (1, 64, 65, 128, 129, 192, 193, 500)
             for compressed in (0, 1) for control, operation in ((SEND, 0), (SEND, 5), (SEND._replace(put=True), 0))]
    kinds += [(rng.choice([RECEIVE, FUSED]), rng.choice([1, 64, 65, 200]), 0, 0) for _ in range(20)]
    rng.shuffle(kinds)
    items, answers = [], []
    for tag, (control, count, compressed, operation) in enumerate(kinds):
        item = move(control, count, context=rng.randrange(4), tag=tag, operation=operation, compressed=compressed,
                    element=ElementType.FLOAT32)
        bench.arrivals[tag] = packets = bench.packets(item)
        if control.other == Other.RECEIVE and rng.random() < 0.7:
            packets[0] |= {"flags": packets[0]["flags"] | HeaderFlag.REQUEST_TO_SEND, "handle": rng.randrange(16)}
            answers.append((1, 2, packets[0]["handle"]))
        items.append(item)
    for packet in bench.packets(move(RECEIVE, 100)):  # for the kernel's stream, where it means nothing
        bench.lists[16].append(packet | {"flags": packet["flags"] | HeaderFlag.REQUEST_TO_SEND, "handle": 9})
    bench.run(items, limit=100_000)
    assert len(bench.done) == len(items) and not bench.failed and not bench.asking
    assert sorted(bench.answered) == sorted(answers)
    for item in items:
        if MoveControl.from_int(item["control"]).other != Other.RECEIVE:
            check(bench, item, [entry for entry in bench.issued
                                if entry["lane"] == "send" and entry["header"]["tag"] == item["tag"]])
    assert any(asks(bench, item) for item in items) == (eager > 0)


def test_a_move_waits_for_the_memory_that_it_shares():
    bench = Bench(seed=1, stall=0)
    first = move(COPY, 400, local=0x1000, result=0x2000)
    reads = move(SEND, 10, local=0x2000 + 4 * 399, tag=1)
    free = move(SEND, 10, local=0x2000 + 4 * 400, other=0x2000, result=0x2000, tag=2)  # fields that it does not use
    other = move(SEND, 10, local=0x2000, tag=3, context=1)
    bench.run([first, reads, free, other])
    at = {entry["header"]["tag"]: entry["cycle"] for entry in bench.issued if entry["lane"] == "send"}
    end = bench.done[[context for _, context in bench.done].index(0)][0]
    last = max(entry["cycle"] for entry in bench.issued if entry["lane"] == "receive")
    assert at[1] > last and at[1] > end - 40
    assert at[2] < last and at[3] < last


@pytest.mark.thorough
@pytest.mark.parametrize(("control", "cause", "node"), [(RECEIVE, Cause.PACKET, 2), (SEND, Cause.CREDIT, 3)])
def test_time_is_up(control, cause, node):
    bench = Bench(seed=2, credits=0, timeout=500, eager=1)
    bench.run([move(control, 4, context=2), move(COPY, 4, context=1)])
    assert bench.failed == [(2, Status.TIMEOUT, cause, node)]
    assert bench.killed == [2]
    assert bench.cancelled == ([8] if control is RECEIVE else [])


def test_time_is_up_for_an_answer():
    """The messages have credits, and their call fails all the same. What has their places next does not wait."""
    bench = Bench(seed=3, credits=40, timeout=500, eager=1)
    bench._ask = lambda entry: None  # nobody answers
    asking = [move(SEND, 65, context=1, operation=0) for _ in range(4)]
    bench.run([*asking, move(COPY, 4, context=2), *(move(SEND, 64, context=1, operation=0, tag=7) for _ in range(8))])
    assert bench.failed == [(1, Status.TIMEOUT, Cause.CLEAR_TO_SEND, 3)] and bench.killed == [1]
    tags = [entry["header"]["tag"] for entry in bench.issued if entry["lane"] == "send"]
    assert tags == [9] * 4 + [7] * 8


@pytest.mark.thorough
@pytest.mark.parametrize("control", [COPY, SEND])
def test_nothing_is_left_of_what_was_killed(control):
    """A segment that was decided on when its context is ended is still handed out, and waited for."""
    for kill_at in range(4, 22):
        bench = Bench(seed=kill_at, stall=0, credits=8)
        bench.kill_at = kill_at
        bench.run([move(control, 400)], limit=500)
        assert bench.killed == [0] and all(entry["cycle"] < 400 for entry in bench.issued)


def test_a_message_that_is_too_long_is_refused():
    bench = Bench(seed=3)
    item = move(RECEIVE, 4)
    bench.arrivals[9] = bench.packets(move(RECEIVE, 10))
    bench.run([item])
    assert bench.failed == [(0, Status.RECEIVE_SIZE, Cause.PACKET, 2)]
    (segment,) = bench.issued
    assert segment["has_packet"] and not segment["to_memory"] and not segment["size"]


def test_a_shorter_message_ends_the_receive():
    bench = Bench(seed=3)
    short = move(RECEIVE, 10)
    bench.arrivals[9] = bench.packets(short)
    bench.run([move(RECEIVE, 500)])
    assert not bench.failed and len(bench.done) == 1
    assert [segment["size"] for segment in bench.issued] == [40]


@pytest.mark.parametrize(("element", "compressed", "sizes"), [
    (ElementType.FLOAT16, 0, [252, 42]), (ElementType.INT32, 0, [252, 40]), (ElementType.INT64, 0, [248, 40]),
    (ElementType.FLOAT32, 1, [504, 84]),
])
def test_what_is_no_whole_element_is_left_out(element, compressed, sizes):
    """Packets of a foreign sender, cut anywhere: each gives its whole elements, and is read to its end."""
    bench = Bench(seed=6)
    item = move(RECEIVE, 200, element=element, compressed=compressed)
    first, last = (dict(packet) for packet in bench.packets(move(RECEIVE, 65), length=296, compressed=compressed))
    bench.arrivals[9] = [{**first, "size": 253}, {**last, "size": 43}]
    bench.run([item])
    assert not bench.failed and len(bench.done) == 1
    assert [segment["size"] for segment in bench.issued] == sizes
    assert [segment["packet_size"] for segment in bench.issued] == [253, 43]


@pytest.mark.parametrize("count", [1 << 29, (1 << 32) - 1])
def test_gigabytes_are_not_cut_short(count):
    """A move in memory may be longer than 4 GB, which the length in a header cannot say."""
    bench = Bench(seed=8, stall=0)
    bench.run([move(COPY, count, element=ElementType.INT64)], until=lambda bench: len(bench.issued) == 3)
    assert [(segment["size"], segment["last"]) for segment in bench.issued] == [(SEGMENT, 0)] * 3


def test_more_than_was_announced_is_refused():
    """The second packet of a message holds more than is left of what the first one's header said."""
    bench = Bench(seed=7)
    bench.arrivals[9] = bench.packets(move(RECEIVE, 66), length=260)
    bench.run([move(RECEIVE, 200)])
    assert bench.failed == [(0, Status.RECEIVE_SIZE, Cause.PACKET, 2)]
    assert [segment["size"] for segment in bench.issued] == [256, 0]


def test_a_read_error_fails_the_call():
    bench = Bench(seed=4)
    bench.errors[4] = 1
    bench.run([move(COPY, 1000, context=1), move(COPY, 100, context=0)])
    assert bench.failed == [(1, Status.READ_ERROR, Cause.NONE, 0)] and bench.killed == [1]


@pytest.mark.parametrize(("element", "compressed", "sizes"), [
    (ElementType.INT32, 0, [256, 144]), (ElementType.FLOAT32, 1, [400]),
])
def test_packets_for_the_kernels_stream(element, compressed, sizes):
    bench = Bench(seed=5)
    bench.lists[16].extend(bench.packets(move(RECEIVE, 100, element=element, compressed=compressed)))
    bench.run([move(COPY, 4)])
    streamed = [entry for entry in bench.issued if entry["to_stream"]]
    assert [entry["size"] for entry in streamed] == sizes
    assert [entry["last"] for entry in streamed] == [0] * (len(sizes) - 1) + [1]
    assert all(entry["expand"] == compressed for entry in streamed)


@pytest.mark.parametrize(("sends", "receives"), [(0, 13), (13, 0), (4, 5), (8, 7)])
def test_moves_that_end_in_the_same_cycle(sends, receives):
    """Both lanes retire a last segment at once: each move is told, the lower one first, one a cycle."""
    dut, done = Lifecycle(), []

    async def strobe(ctx, name, **values):
        for member, value in {name: 1, **values}.items():
            ctx.set(getattr(dut, member), value)
        await ctx.tick()
        ctx.set(getattr(dut, name), 0)

    async def testbench(ctx):
        for number in (sends, receives):
            await strobe(ctx, "install", place=number)
        for number in (sends, receives):
            await strobe(ctx, "issued", issued_move=number, issued_last=1)
        for port, number in ((dut.retired_send, sends), (dut.retired_receive, receives)):
            ctx.set(port.payload.move, number)
            ctx.set(port.valid, 1)
        for cycle in range(8):
            await ctx.tick()
            ctx.set(dut.retired_send.valid, 0)
            ctx.set(dut.retired_receive.valid, 0)
            if ctx.get(dut.done.valid):
                done.append((cycle, ctx.get(dut.done.context)))
        assert not ctx.get(dut.active)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert done == [(1, min(sends, receives) // 4), (2, max(sends, receives) // 4)]


@pytest.mark.parametrize("segment", [0, 100, 8192])
def test_wrong_segments_are_refused(segment):
    with pytest.raises(ValueError, match="segment must be 256"):
        MoveUnit(segment)


def test_credits(seed):
    """Counts by the model's arithmetic, with credits that come back in every cycle, that of a look or a take, too."""
    rng = random.Random(seed)
    dut = Credits()
    counts = Counter()

    async def testbench(ctx):
        await ctx.tick().repeat(COMMUNICATORS * NODES + 1)
        for communicator in range(2):
            await send(ctx, dut.open, [{"communicator": communicator, "credits": 3}])
            counts.update({(communicator, node): 3 for node in range(NODES)})
            await ctx.tick().repeat(NODES)
        looked, added = None, None
        for _ in range(1_000):
            communicator, node = account = rng.randrange(3), rng.randrange(3)
            takes = looked is not None and rng.random() < 0.7
            looks = not takes and rng.random() < 0.6
            if added is None and rng.random() < 0.8:
                added = rng.randrange(2), rng.randrange(3), rng.randrange(1, 3)
                ctx.set(dut.add.payload, dict(zip(("communicator", "node", "count"), added, strict=True)))
            for name, value in (("communicator", communicator), ("node", node), ("look", looks), ("take", takes)):
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.add.valid, added is not None)
            if looks:
                assert ctx.get(dut.available) == (counts[account] > 0), account
            if takes:
                counts[looked] -= 1
            looked = account if looks and counts[account] else None
            if added is not None and ctx.get(dut.add.ready):
                assert not looks and not takes
                counts[added[:2]] += added[2]
                added = None
            await ctx.tick()
        ctx.set(dut.add.valid, 0)
        ctx.set(dut.take, 0)
        for (communicator, node), count in counts.items():
            ctx.set(dut.communicator, communicator)
            ctx.set(dut.node, node)
            for left in reversed(range(count + 1)):
                ctx.set(dut.look, 1)
                assert ctx.get(dut.available) == (left > 0)
                await ctx.tick()
                ctx.set(dut.look, 0)
                ctx.set(dut.take, left > 0)
                await ctx.tick()
                ctx.set(dut.take, 0)

    simulate(dut, testbench)
