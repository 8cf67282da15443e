# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Commands against a model, and SWERR."""

import random

import pytest
from amaranth.hdl import Module

from rackgate.iaa.abi import Command, CommandError, DeviceState, Status
from rackgate.iaa.commands import Commands
from rackgate.iaa.errors import Errors
from rackgate.verif.stimulus import send, simulate

QUEUES = 3


class Bench:
    """The commands block with the parts around it in software."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut, self.done, self.opened = ctx, dut, 0, []
        self.fits, self.work = True, 0  # whether a queue gets a place; cycles for which queues have work

    async def tick(self):
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.placed, ctx.get(dut.place))
        ctx.set(dut.fits, self.fits)
        placing = ctx.get(dut.place)
        _, _, done, clear = await ctx.tick().sample(dut.done, dut.clear)
        if placing:  # the answer comes a cycle after the question
            ctx.set(dut.placed, 1)
            _, _, done_later, clear_later = await ctx.tick().sample(dut.done, dut.clear)
            done, clear = done | done_later, clear | clear_later
        self.done += done
        if clear:
            self.opened.append(clear)

    async def begin(self, word):
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.command, word)
        ctx.set(dut.written, 1)
        await self.tick()
        ctx.set(dut.written, 0)

    async def finish(self, limit=60):
        for _ in range(limit):
            status = self.ctx.get(self.dut.status)
            if not status >> 31:
                return status
            await self.tick()
        raise AssertionError("the command does not end")

    async def do(self, command, operand=0, *, interrupt=0):
        await self.begin(operand | command << 20 | interrupt << 31)
        before = self.done
        status = await self.finish()
        await self.tick()
        assert self.done - before == interrupt
        return status

    def settle(self, queue, **values):
        for name, value in values.items():
            self.ctx.set(getattr(self.dut.settings[queue], name), value)


GOOD = {"size": 4, "threshold": 4, "priority": 1, "max_transfer_shift": 21, "dedicated": 0}


def run(testbench, *, queues=QUEUES, engines=2):
    dut = Commands(queues=queues, engines=engines)

    async def bench(ctx):
        for queue in range(queues):
            for name, value in GOOD.items():
                ctx.set(getattr(dut.settings[queue], name), value)
        await testbench(Bench(ctx, dut))

    simulate(dut, bench)


def test_errors_in_their_order():
    async def testbench(bench):
        ctx, dut = bench.ctx, bench.dut
        for number in [0, 11, 12, 31]:
            assert await bench.do(number) == CommandError.UNKNOWN_COMMAND
        for command in (Command.DISABLE_DEVICE, Command.DRAIN_ALL, Command.ABORT_ALL):
            assert await bench.do(command) == CommandError.DEVICE_DISABLED
        assert await bench.do(Command.ENABLE_WQ, 99) == CommandError.DEVICE_NOT_ENABLED
        for command in (Command.DRAIN_WQ, Command.ABORT_WQ, Command.DISABLE_WQ, Command.RESET_WQ):
            assert await bench.do(command, 1) == CommandError.QUEUE_NOT_ENABLED
        for members, engines in ((0, 0b11), (0b111, 0)):
            ctx.set(dut.members[2], members)
            ctx.set(dut.engine_masks[2], engines)
            assert await bench.do(Command.ENABLE_DEVICE) == CommandError.NO_GROUPS
        ctx.set(dut.members[2], 0b101)
        ctx.set(dut.engine_masks[2], 0b10)
        assert ctx.get(dut.device) == DeviceState.DISABLED
        assert await bench.do(Command.ENABLE_DEVICE, interrupt=1) == CommandError.NONE
        assert ctx.get(dut.device) == DeviceState.ENABLED
        assert await bench.do(Command.ENABLE_DEVICE) == CommandError.DEVICE_ENABLED
        assert await bench.do(Command.ENABLE_WQ, QUEUES) == CommandError.BAD_QUEUE
        assert await bench.do(Command.ENABLE_WQ, 1 << 19) == CommandError.BAD_QUEUE
        bench.fits = False
        bench.settle(1, priority=0)
        assert await bench.do(Command.ENABLE_WQ, 1) == CommandError.QUEUE_IN_NO_GROUP
        ctx.set(dut.members[0], 0b010)
        assert await bench.do(Command.ENABLE_WQ, 1) == CommandError.QUEUE_IN_NO_GROUP
        ctx.set(dut.engine_masks[0], 0b01)
        assert await bench.do(Command.ENABLE_WQ, 1) == CommandError.BAD_QUEUE_SIZE
        bench.fits = True
        bench.settle(1, threshold=0, max_transfer_shift=22)
        assert await bench.do(Command.ENABLE_WQ, 1, interrupt=1) == CommandError.BAD_QUEUE_PRIORITY
        bench.settle(1, priority=15)
        assert await bench.do(Command.ENABLE_WQ, 1) == CommandError.BAD_QUEUE_MODE
        bench.settle(1, threshold=5)
        assert await bench.do(Command.ENABLE_WQ, 1) == CommandError.BAD_QUEUE_MODE
        bench.settle(1, dedicated=1)
        assert await bench.do(Command.ENABLE_WQ, 1) == CommandError.BAD_TRANSFER_SIZE
        assert ctx.get(dut.is_open) == 0 and not bench.opened
        bench.settle(1, max_transfer_shift=21)
        assert await bench.do(Command.ENABLE_WQ, 1) == CommandError.NONE
        assert ctx.get(dut.is_open) == 0b010 and bench.opened == [0b010]
        assert await bench.do(Command.ENABLE_WQ, 1) == CommandError.QUEUE_ENABLED
        for operand in (0, 0b1000, 0b1010, 0x1_0002):
            assert await bench.do(Command.DISABLE_WQ, operand) == CommandError.BAD_QUEUE
        assert await bench.do(Command.DRAIN_WQ, 0b011) == CommandError.QUEUE_NOT_ENABLED
        assert await bench.do(Command.RESET_WQ, 0b001) == CommandError.NONE, "a reset may name a disabled queue"
        assert ctx.get(dut.is_open) == 0b010

    run(testbench)


@pytest.mark.parametrize("command,operand,aborts,opens,device", [
    (Command.DRAIN_ALL, 0, False, 0b111, DeviceState.DRAINING),
    (Command.ABORT_ALL, 0, True, 0b111, DeviceState.DRAINING),
    (Command.DISABLE_DEVICE, 0, False, 0, DeviceState.DRAINING),
    (Command.DRAIN_WQ, 0b011, False, 0b111, DeviceState.ENABLED),
    (Command.ABORT_WQ, 0b110, True, 0b111, DeviceState.ENABLED),
    (Command.DISABLE_WQ, 0b101, False, 0b010, DeviceState.ENABLED),
    (Command.RESET_WQ, 0b001, True, 0b110, DeviceState.ENABLED),
])
def test_waiting_for_queues(command, operand, aborts, opens, device):
    async def testbench(bench):
        ctx, dut = bench.ctx, bench.dut
        ctx.set(dut.members[0], 0b111)
        ctx.set(dut.engine_masks[0], 0b1)
        assert await bench.do(Command.ENABLE_DEVICE) == 0
        for queue in range(QUEUES):
            assert await bench.do(Command.ENABLE_WQ, queue) == 0
        mask = operand or 0b111
        ctx.set(dut.has_work, 0b111)
        ctx.set(dut.running, 0b111)
        before = bench.done
        await bench.begin(operand | command << 20 | 1 << 31)
        for has_work, running in ((0b111, 0b111), (0b000, 0b111), (0b111, 0b000), (mask & -mask, 0), (0, mask & -mask)):
            ctx.set(dut.has_work, has_work)
            ctx.set(dut.running, running)
            for _ in range(4):
                await bench.tick()
            assert ctx.get(dut.status) >> 31
            assert ctx.get(dut.device) == device
            assert ctx.get(dut.is_open) == 0b111 & ~mask and ctx.get(dut.is_draining) == mask
            assert ctx.get(dut.abort) == (mask if aborts else 0)
            # A command while one is active does nothing.
            await bench.begin(Command.ENABLE_WQ << 20)
        ctx.set(dut.has_work, 0b111 & ~mask)
        ctx.set(dut.running, 0b111 & ~mask)
        assert await bench.finish() == 0
        await bench.tick()
        assert bench.done == before + 1
        assert (ctx.get(dut.is_open), ctx.get(dut.is_draining), ctx.get(dut.abort)) == (opens, 0, 0)
        assert ctx.get(dut.device) == (DeviceState.DISABLED if command == Command.DISABLE_DEVICE
                                       else DeviceState.ENABLED)

    run(testbench)


@pytest.mark.parametrize("waits", [None, Command.ABORT_ALL, Command.ENABLE_WQ])
def test_reset(waits):
    """At rest, while a command waits for queues, and while one is carried out."""
    async def testbench(bench):
        ctx, dut = bench.ctx, bench.dut
        ctx.set(dut.members[0], 0b111)
        ctx.set(dut.engine_masks[0], 0b1)
        assert await bench.do(Command.ENABLE_DEVICE) == 0
        assert await bench.do(Command.ENABLE_WQ, 0) == 0
        ctx.set(dut.has_work, 1)
        if waits:
            await bench.begin(waits << 20 | (1 if waits == Command.ENABLE_WQ else 0))
        await bench.begin(Command.RESET_DEVICE << 20 | 1 << 31)
        before, restarts = bench.done, 0
        for cycle in range(30):
            ctx.set(dut.stopped, cycle == 20)
            restarts += ctx.get(dut.restart)
            assert ctx.get(dut.stop) <= (cycle <= 20)
            if 15 < cycle <= 20:
                assert ctx.get(dut.stop) and ctx.get(dut.status) == 1 << 31
            await bench.tick()
        assert restarts == 1 and bench.done == before + 1
        assert (ctx.get(dut.is_open), ctx.get(dut.is_draining), ctx.get(dut.abort)) == (0, 0, 0)
        assert ctx.get(dut.device) == DeviceState.DISABLED and ctx.get(dut.status) == 0
        ctx.set(dut.has_work, 0)
        assert await bench.do(Command.ENABLE_DEVICE) == 0

    run(testbench)


def test_bad_parameters():
    with pytest.raises(ValueError, match="queues must be 1 to 8, not 9"):
        Commands(queues=9)
    with pytest.raises(ValueError, match="engines must be 1 to 8, not 0"):
        Commands(engines=0)
    with pytest.raises(ValueError, match="queues must be 1 to 8, not 9"):
        Errors(queues=9)
    with pytest.raises(ValueError, match="reporters must be at least 1, not 0"):
        Errors(0)


def report(tag):
    return {"status": Status.COMPLETION_FAULT, "queue": tag % 8, "opcode": tag, "pasid": tag * 3, "write": tag & 1,
            "address": tag << 40 | tag}


def errors_module():
    """Errors with the register as the bank keeps it."""
    dut, m = Errors(2), Module()
    m.submodules.dut = dut
    return dut, m


@pytest.mark.parametrize("delay", range(12))
def test_clearing_meets_an_error(delay):
    """Software clears VALID around the cycle in which a second error comes: it must be told in one way or the other."""
    dut, m = errors_module()

    async def testbench(ctx):
        register = 0
        ctx.set(dut.i[0].payload, report(1))
        ctx.set(dut.i[0].valid, 1)
        for cycle in range(30):
            ctx.set(dut.swerr0, register)
            is_clearing = cycle == 8
            if is_clearing:
                was_overflow = register >> 1 & 1
            gone = (0b11 if is_clearing else 0) | ctx.get(dut.clear)
            following = register & ~gone | ctx.get(dut.set)
            took = ctx.get(dut.i[0].valid & dut.i[0].ready)
            other = ctx.get(dut.i[1].valid & dut.i[1].ready)
            await ctx.tick()
            register = following
            if took:
                ctx.set(dut.i[0].valid, 0)
            if other:
                ctx.set(dut.i[1].valid, 0)
            if cycle == delay:
                ctx.set(dut.i[1].payload, report(2))
                ctx.set(dut.i[1].valid, 1)
        is_second = register & 1
        assert bool(is_second) != bool(was_overflow), "neither OVERFLOW before the clearing nor the error after it"
        if is_second:
            assert register == 0b001101 | Status.COMPLETION_FAULT << 8 | 2 << 16
            assert (ctx.get(dut.swerr1), ctx.get(dut.address)) == (2 | 6 << 8, 2 << 40 | 2)
        else:
            assert register == 0

    simulate(m, testbench)


def test_errors_at_random(seed):
    """The first is kept, later ones set OVERFLOW, a full queue's is told without a descriptor."""
    rng = random.Random(seed)
    dut, m = errors_module()
    raised = []

    async def testbench(ctx):
        for turn in range(20):
            first = turn % 3
            ctx.set(dut.swerr0, 0)
            if first == 2:
                await send(ctx, dut.overflow, [turn % 8])
                expected = 0b1001 | Status.QUEUE_FULL << 8 | turn % 8 << 16, 0, 0
            else:
                await send(ctx, dut.i[first], [report(turn)])
                expected = (0b1101 | (turn & 1) << 5 | Status.COMPLETION_FAULT << 8 | turn % 8 << 16,
                            turn | turn * 3 << 8, turn << 40 | turn)
            for _ in range(8):
                if seen[-1]:
                    ctx.set(dut.swerr0, seen[-1])
                await ctx.tick()
            assert (seen[-1], ctx.get(dut.swerr1), ctx.get(dut.address)) == expected
            raised.append(count[0])
            for _ in range(rng.randrange(3)):
                await send(ctx, dut.i[rng.randrange(2)], [report(rng.randrange(256))])
                await ctx.tick().repeat(6)
                assert seen[-1] == expected[0] | 2
            assert (ctx.get(dut.swerr1), ctx.get(dut.address)) == expected[1:]
            ctx.set(dut.swerr0, 0)
            seen.append(0)
            await ctx.tick().repeat(3)

    seen, count = [0], [0]

    async def bank(ctx):
        while True:
            _, _, bits, strobe = await ctx.tick().sample(dut.set, dut.raised)
            count[0] += strobe
            if bits:
                seen.append(seen[-1] | bits)

    simulate(m, testbench, models=[bank])
    assert count[0] >= 20
