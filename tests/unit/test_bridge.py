# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The bridge against its golden model."""

import random

import pytest
from bridge_rig import IDENTITY, MEMORY_SIZE, Rig, open_message, request
from bridge_traffic import Host

from rackgate.bridge import operations
from rackgate.bridge.abi import (
    BODY_WORDS,
    MEMORY_BASE,
    Kind,
    Message,
    Status,
    StatusWord,
    Terms,
    pack_message,
    unpack_message,
    unpack_words,
)
from rackgate.bridge.bridge import Bridge
from rackgate.bridge.executor import Executor
from rackgate.bridge.operations import Opcode, Operation, Result

READ, WRITE = operations.read, operations.write


def results(raw):
    return operations.unpack_results(unpack_message(raw).body)


def statuses(raw):
    return [result.status for result in results(raw)]


def test_conversation():
    """A session as a host has one, with every operation."""
    messages = [
        open_message(0xABCD),
        request(0xABCD, 0, operations.write_memory(MEMORY_BASE + 5, b"hello, bridge")),
        request(0xABCD, 1, operations.read(Opcode.READ_MEMORY, MEMORY_BASE, 6),
                operations.write(0x20, b"\1\2\3\4\5\6\7\x08"), operations.read(Opcode.READ_REGISTERS, 0x20, 2)),
        request(0xABCD, 2, operations.read(Opcode.READ_IDENTITY, 0, len(IDENTITY.pack()) // 4)),
        request(0xABCD, 3, operations.read(Opcode.READ_STATUS, 0)),
        request(0xABCD, 4),
    ]
    rig = Rig(1)

    async def bench(ctx):
        for raw in messages:
            await rig.give(ctx, raw)

    rig.run(bench)
    opened = unpack_message(rig.answers[0])
    assert opened.kind == Kind.OPENED and Terms.unpack(opened.body).memory_size == MEMORY_SIZE
    assert results(rig.answers[1]) == [Result(Opcode.WRITE_MEMORY, Status.OK)]
    assert results(rig.answers[2])[0].data[5:18] == b"hello, bridge"
    assert results(rig.answers[3])[0].data == IDENTITY.pack()
    assert results(rig.answers[4])[0].data == b"\1\0\0\0"
    assert unpack_message(rig.answers[5]) == Message(Kind.RESPONSE, 0xABCD, 4)
    rig.check(messages)


@pytest.mark.thorough
@pytest.mark.parametrize("stall,window,most,count", [(0, 8, 8, 70), (0.3, 2, 8, 40), (0.2, 8, 180, 12)])
def test_traffic(stall, window, most, count, seed):
    """Whatever comes, in whatever order: what is executed, and how often, is what the golden bridge executes."""
    run_traffic(seed, stall=stall, window=window, most=most, count=count)


@pytest.mark.soak
@pytest.mark.parametrize("variant", range(12))
def test_traffic_long(variant, seed):
    stall, window, most = random.Random(variant).choice([0, 0.2, 0.6]), 1 << variant % 4, [8, 40, 180][variant % 3]
    run_traffic(1000 * seed + variant, stall=stall, window=window, most=most, count=8000 // (most + 10))


def run_traffic(seed, *, stall, window, most, count):
    print(f"seed {seed}")
    host = Host(random.Random(seed), most)
    messages = [host.next() for _ in range(count)]
    rig = Rig(seed, stall=stall, window=window)

    async def bench(ctx):
        for raw in messages:
            await rig.give(ctx, raw)

    rig.run(bench)
    rig.check(messages)


@pytest.mark.thorough
@pytest.mark.parametrize("window", [1, 8])
def test_window(window):
    """What is kept is answered again and not executed again; what is older, or ahead, gets no answer."""
    rig = Rig(3, window=window)
    count = window + 3
    requests = [request(7, number, WRITE(4 * number, bytes(4)), READ(Opcode.READ_REGISTERS, 4 * number))
                for number in range(count + 2)]

    async def bench(ctx):
        await rig.give(ctx, open_message(7))
        for raw in [*requests[:count], *requests[:count], requests[count + 1], open_message(7), *requests[:count]]:
            await rig.give(ctx, raw)

    rig.run(bench)
    again = rig.answers[1 + count - window:1 + count]
    assert rig.answers[1 + count:] == [*again, rig.answers[0], *again]
    assert rig.registers.log == [entry for number in range(count) for entry in ((4 * number, 0), 4 * number)]


def test_late_opening():
    """An OPEN of an old session that comes late does not open it again, so its requests are refused."""
    rig = Rig(4)
    old = [open_message(7), request(7, 0, WRITE(0, b"abcd"))]
    new = [open_message(8, 7), request(8, 0, WRITE(4, b"abcd"))]

    async def bench(ctx):
        for raw in [*old, *new, *old, request(8, 1)]:
            await rig.give(ctx, raw)

    rig.run(bench)
    kinds = [unpack_message(answer).kind for answer in rig.answers]
    assert kinds == [Kind.OPENED, Kind.RESPONSE] * 2 + [Kind.REFUSED] * 2 + [Kind.RESPONSE]
    assert len(rig.registers.log) == 2


def test_dead_registers():
    """A bus that does not answer: TIMEOUT, until it does. Then all is well; what had begun has ended, once."""
    rig, timeout = Rig(5, timeout=32), [Status.TIMEOUT]
    memory = operations.write_memory(MEMORY_BASE, b"alive")

    async def bench(ctx):
        rig.registers.dead = True
        await rig.give(ctx, open_message(7))
        for number, listed in enumerate([[READ(Opcode.READ_REGISTERS, 0)], [WRITE(4, b"abcd")], [memory],
                                         [memory, WRITE(8, b"efgh"), memory]]):
            await rig.give(ctx, request(7, number, *listed))
        await rig.settle(ctx)
        rig.registers.dead = False
        await ctx.tick().repeat(20)
        for number, listed in enumerate([[WRITE(12, b"ijkl")], [READ(Opcode.READ_REGISTERS, 12)]], 4):
            await rig.give(ctx, request(7, number, *listed))

    rig.run(bench)
    assert [statuses(answer) for answer in rig.answers[1:]] == [
        timeout, timeout, [Status.OK], [Status.OK, Status.TIMEOUT], [Status.OK], [Status.OK]]
    # The second access waited for the first to end, and was given up before it began.
    assert rig.registers.log == [0, (12, int.from_bytes(b"ijkl", "little")), 12]
    assert rig.memory.memory.startswith(b"alive")


@pytest.mark.thorough
@pytest.mark.parametrize("count", [1, 100])
def test_dead_memory(count):
    """Reads and writes that the memory does not take, or not to the end, are given up; then all is well."""
    rig = Rig(6, timeout=64)
    content = bytes(range(200)) * 2
    writes = operations.write_memory(MEMORY_BASE + 64, content[:4 * count])
    reads = READ(Opcode.READ_MEMORY, MEMORY_BASE, count)

    async def bench(ctx):
        await rig.give(ctx, open_message(7))
        await rig.settle(ctx)
        rig.memory.stall = 1
        for number, listed in enumerate([[reads], [writes], [writes], [reads], [READ(Opcode.READ_IDENTITY, 0)]]):
            await rig.give(ctx, request(7, number, *listed))
        await rig.settle(ctx)
        rig.memory.stall = 0
        await ctx.tick().repeat(200)
        for number, listed in enumerate([[writes], [READ(Opcode.READ_MEMORY, MEMORY_BASE + 64, count)]], 5):
            await rig.give(ctx, request(7, number, *listed))

    rig.run(bench)
    assert [statuses(answer) for answer in rig.answers[1:6]] == [[Status.TIMEOUT]] * 4 + [[Status.OK]]
    assert statuses(rig.answers[6]) == [Status.OK]
    assert results(rig.answers[7])[0].data == content[:4 * count]


def test_memory_that_refuses():
    """An error of the memory fails its operation, and no other."""
    rig = Rig(7, bad={MEMORY_BASE + 200})
    good = operations.write_memory(MEMORY_BASE + 208, b"good")

    async def bench(ctx):
        await rig.give(ctx, open_message(7))
        for number, one in enumerate([READ(Opcode.READ_MEMORY, MEMORY_BASE, 100), operations.write_memory(
                MEMORY_BASE + 192, bytes(16)), READ(Opcode.READ_MEMORY, MEMORY_BASE + 208, 1)]):
            await rig.give(ctx, request(7, number, good, one, good))

    rig.run(bench)
    assert [statuses(answer) for answer in rig.answers[1:]] == [
        [Status.OK, Status.SLVERR]] * 2 + [[Status.OK] * 3]
    assert results(rig.answers[3])[1].data == b"good"


@pytest.mark.thorough
def test_bounds_of_bodies():
    """Requests and responses that just fit, and that are a word too long."""
    most, write = operations.DATA_WORDS, operations.write_memory(MEMORY_BASE, bytes(range(40))).pack()
    one = READ(Opcode.READ_IDENTITY, 0)

    def reads(count):
        return Operation(Opcode.READ_MEMORY, MEMORY_BASE, count).pack()

    bodies = [write, write[:-4], write[:-8], write[:8], write[:4], WRITE(0, bytes(8)).pack()[:-4],
              *(reads(count) for count in (most - 1, most, most + 1)),
              reads(most) + one.pack(), reads(most - 1) + one.pack(), reads(most - 2) + one.pack(),
              reads(most - 2) + one.pack() * 2,
              one.pack() * 181 + write, one.pack() * 181 + reads(1), one.pack() * 182]
    messages = [open_message(7), *(pack_message(Message(Kind.REQUEST, 7, number, body[:4 * BODY_WORDS]))
                                   for number, body in enumerate(bodies))]
    rig = Rig(10)

    async def bench(ctx):
        for raw in messages:
            await rig.give(ctx, raw)

    rig.run(bench)
    rig.check(messages)
    ends = [statuses(answer)[-1] for answer in rig.answers[1:]]
    assert ends.count(Status.OK) == 4 and ends.count(Status.MALFORMED) == len(bodies) - 4


def test_no_memory():
    """A device without memory: DECERR, and no access. OPENED says that there is none."""
    rig = Rig(9, memory_size=0)

    async def bench(ctx):
        await rig.give(ctx, open_message(7))
        for number, one in enumerate([READ(Opcode.READ_MEMORY, MEMORY_BASE), operations.write_memory(
                MEMORY_BASE, b"abcd"), READ(Opcode.READ_REGISTERS, 0)]):
            await rig.give(ctx, request(7, number, one))

    rig.run(bench)
    assert Terms.unpack(unpack_message(rig.answers[0]).body).memory_size == 0
    assert [statuses(answer) for answer in rig.answers[1:]] == [[Status.DECERR], [Status.DECERR], [Status.OK]]
    assert not rig.memory.reads and not rig.memory.writes


def test_status():
    """Cycles go on, and their halves belong together; each message is counted as what it was."""
    rig, everything = Rig(8), READ(Opcode.READ_STATUS, 0, len(StatusWord))
    messages = [open_message(7), request(7, 0, everything), request(7, 0, everything), request(7, 9), request(3, 0),
                b"what?", request(7, 1, everything)]

    async def bench(ctx):
        ctx.set(rig.dut.link_errors, 77)
        for raw in messages:
            await rig.give(ctx, raw)

    rig.run(bench)
    first, last = (unpack_words(results(answer)[0].data) for answer in (rig.answers[1], rig.answers[-1]))
    assert 0 < first[StatusWord.CYCLES_LO] < last[StatusWord.CYCLES_LO] < 1000 and first[StatusWord.CYCLES_HI] == 0
    assert last == (1, last[1], 0, 1, 1, 1, 1, 1, 77)


@pytest.mark.parametrize("make,rule", [
    (lambda: Bridge(IDENTITY.pack(), window=3), "window must be 1, 2, 4 or 8, not 3"),
    (lambda: Bridge(b"abc"), "table must have 1 to 256 whole words, not 3 bytes"),
    (lambda: Bridge(bytes(4), timeout=15), "timeout must be at least 16 cycles, not 15"),
    (lambda: Bridge(bytes(4), memory_size=12), "size must be a multiple of 8, not 0xc"),
    (lambda: Bridge(bytes(4), memory_base=4), "base must be a multiple of 8, not 0x4"),
    (lambda: Bridge(bytes(4), memory_size=1 << 32), "memory must end within 32 bits of address, not at 0x110000000"),
    (lambda: Bridge(bytes(4), mem_addr_width=28, memory_size=8), "memory must end within 28 bits of address"),
    (lambda: Bridge(bytes(4), csr_addr_width=2), "addr_width must be 3 to 64, not 2"),
    (lambda: Executor([]), "units must have different opcodes, at least one"),
    (lambda: Executor([[1], [1]]), "units must have different opcodes, at least one"),
])
def test_bad_parameters(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
