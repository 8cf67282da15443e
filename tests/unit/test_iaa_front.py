# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""iaa.Front between a host and lanes in software."""

import random

import pytest
from amaranth.hdl import Module
from iaa_front_bench import Host, Lanes, noop

from rackgate.axi.bus import Response
from rackgate.iaa.abi import (
    BAR0,
    PORTAL_SIZE,
    PORTALS,
    Command,
    CommandError,
    Descriptor,
    DeviceState,
    InterruptCause,
    Opcode,
    QueueState,
    Status,
)
from rackgate.iaa.front import Front
from rackgate.iaa.top import Iaa
from rackgate.verif.stimulus import simulate
from rackgate.verif.stream_rules import watch


def run(testbench, *, hold=lambda handed: 5, rng=None, stall=0.0, memory=None, **parameters):
    """Run ``await testbench(ctx, dut, host, lanes)``; the lanes."""
    dut = Front(**parameters)
    lanes = Lanes(dut.work, dut.retired, hold=hold, rng=rng, stall=stall)
    m = Module()
    m.submodules.dut = dut
    for name in ("r", "b"):
        watch(m, getattr(dut.csr, name), name=name)
    for lane, o in enumerate(dut.work):
        watch(m, o, name=f"work_{lane}")

    async def bench(ctx):
        await testbench(ctx, dut, Host(ctx, dut.csr), lanes)

    async def device(ctx):
        await memory(ctx, dut)

    simulate(m, bench, models=[lanes.run, device] if memory else [lanes.run])
    return lanes


async def settle(ctx, dut):
    """Wait until nothing is queued or running."""
    for _ in range(5000):
        await ctx.tick()
        if not ctx.get(dut.is_busy):
            return
    raise AssertionError("the front does not come to rest")


def test_first_descriptor():
    """The thin slice: one descriptor in, to a lane, with what its queue adds; and how long it takes."""
    cycles = {}

    async def testbench(ctx, dut, host, lanes):
        assert await host.get("WQCAP_LO") == 64 | 4 << 16 | 1 << 24
        assert (await host.get("GENSTS")) == DeviceState.DISABLED
        table = 0x1234_5678_9000
        await host.configure(2, size=8, block=True, pasid=0xABCDE, pasid_enable=True, privileged=True, shift=13,
                             table=table)
        await host.configure(0, size=4)
        await host.start([2, 0])
        assert await host.get("GENSTS") == DeviceState.ENABLED
        assert await host.get("WQ2_STATE") == QueueState.ENABLED << 30
        assert await host.get("WQ1_STATE") == QueueState.DISABLED << 30
        descriptor = Descriptor(Opcode.DECOMPRESS, 0x123456, 0x40, 1 << 63 | 1, 2 << 60, 3, 4, 5, 6, 7, 8, 9, 10,
                                pasid_priv=0x7FF0_0001)
        assert await host.submit(2, descriptor, words=range(15)) == Response.OKAY
        raw = descriptor.pack()
        ctx.set(dut.csr.aw.payload.addr, PORTALS + 2 * PORTAL_SIZE + 60)
        ctx.set(dut.csr.w.payload, {"data": int.from_bytes(raw[60:], "little"), "strb": 15})
        ctx.set(dut.csr.aw.valid, 1)
        ctx.set(dut.csr.w.valid, 1)
        ctx.set(dut.csr.b.ready, 1)
        cycles["taken"] = lanes.cycle
        for _ in range(40):
            await ctx.tick()
            ctx.set(dut.csr.aw.valid, 0)
            ctx.set(dut.csr.w.valid, 0)
        first, = lanes.handed
        cycles["handed"] = first.cycle
        got = {name: getattr(first.work.descriptor, name) for name in (
            "opcode", "flags", "completion", "source", "destination", "source_size", "interrupt_handle",
            "operation_flags", "source2", "destination_size", "source2_size", "filter_flags", "elements")}
        assert Descriptor(**got, pasid_priv=descriptor.pasid_priv) == descriptor
        assert first.work.descriptor.pasid_priv == 0xFFFA_BCDE & ~0x000F_0000 | 0xA_0000, "reserved bits stay"
        space = first.work.space
        assert (space.translate, space.block, space.table, space.queue) == (1, 1, table >> 12, 2)
        assert (first.work.max_transfer_shift, first.aborted) == (13, 0)
        assert await host.submit(0, noop(5, pasid_priv=7)) == Response.OKAY
        await settle(ctx, dut)
        second = lanes.handed[1].work
        assert (second.space.translate, second.space.block, second.descriptor.pasid_priv) == (0, 0, 7)

    run(testbench)
    assert cycles["handed"] - cycles["taken"] == 14


@pytest.mark.thorough
def test_order_and_account(seed):
    """Random descriptors into all kinds of queues: each that was taken is handed out once, in its queue's order."""
    rng = random.Random(seed)
    taken, answers = {queue: [] for queue in range(4)}, set()
    kinds = {0: {"size": 3, "threshold": 1}, 1: {"size": 1, "priority": 9}, 2: {"size": 1, "dedicated": True},
             3: {"size": 7, "dedicated": True, "priority": 3}}
    groups = ((0b0011, 0b01), (0b1100, 0b10))
    lost = 0

    async def testbench(ctx, dut, host, lanes):
        nonlocal lost
        for queue, kind in kinds.items():
            await host.configure(queue, **kind)
        await host.start(kinds, groups=groups)
        staged = {}  # queue: (descriptor, next word); clients take turns word by word
        tag = 0
        while tag < 28 or staged:
            queue = rng.randrange(4)
            if queue not in staged:
                if tag >= 28:
                    continue
                tag += 1
                staged[queue] = (noop(tag, opcode=rng.choice([Opcode.NOOP, Opcode.NOOP, Opcode.DRAIN, Opcode.FILL])), 0,
                                 rng.randrange(64))
            descriptor, word, place = staged[queue]
            count = rng.randint(1, 16 - word)
            answer = await host.submit(queue, descriptor, place=place, words=range(word, word + count))
            if word + count < 16:
                assert answer == Response.OKAY
                staged[queue] = (descriptor, word + count, place)
                continue
            del staged[queue]
            answers.add((bool(kinds[queue].get("dedicated")), answer))
            is_overflow = queue >= 2 and bool(await host.get("SWERR0"))
            if is_overflow:
                assert await host.get("SWERR0") == 0b1001 | Status.QUEUE_FULL << 8 | queue << 16
                await host.put("SWERR0", 3)
                assert await host.get("SWERR0") == 0
                lost += 1
            elif answer == Response.OKAY:
                taken[queue].append(descriptor.source)
        await settle(ctx, dut)
        for queue in range(4):
            assert await host.get(f"WQ{queue}_STATE") == QueueState.ENABLED << 30

    lanes = run(testbench, hold=lambda handed: rng.randrange(1500), rng=rng, stall=0.3, engines=2, contexts=2,
                queues=4, entries=16)
    for queue in range(4):
        assert [handed.tag for handed in lanes.handed if handed.queue == queue] == taken[queue]
        engine = 0 if queue < 2 else 1
        assert all(handed.lane // 2 == engine for handed in lanes.handed if handed.queue == queue)
    assert lost and (False, Response.SLVERR) in answers and (True, Response.SLVERR) not in answers


def test_abort_and_drain():
    async def testbench(ctx, dut, host, lanes):
        await host.configure(0, size=8, dedicated=True)
        await host.configure(1, size=8, dedicated=True)
        await host.start([0, 1])
        for tag in range(6):
            assert await host.submit(0, noop(tag, opcode=Opcode.DRAIN if tag == 3 else Opcode.NOOP)) == Response.OKAY
        assert await host.submit(1, noop(100)) == Response.OKAY
        # Both lanes are held by queue 0, the rest waits.
        assert [handed.tag for handed in lanes.handed] == [0, 1]
        assert await host.get("WQ0_STATE") == QueueState.ENABLED << 30 | 4
        await host.command(Command.ABORT_WQ, 0b01, interrupt=True)
        assert await host.get("CMDSTS") == 1 << 31
        assert ctx.get(dut.abort) == 0b01
        assert await host.get("WQ0_STATE") == QueueState.DRAINING << 30 | 4
        assert await host.submit(0, noop(50)) == Response.SLVERR
        lanes.hold = lambda handed: 3
        lanes.release()
        assert await host.finish() == 0
        assert ctx.get(dut.abort) == 0
        assert await host.get("INTCAUSE") == InterruptCause.COMMAND_DONE
        assert [(h.tag, h.aborted) for h in lanes.handed if h.queue == 0] == [
            (0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)]
        assert [(h.tag, h.aborted) for h in lanes.handed if h.queue == 1] == [(100, 0)]
        assert await host.get("WQ0_STATE") == QueueState.ENABLED << 30

        lanes.hold = lambda handed: 200
        assert await host.submit(0, noop(7)) == Response.OKAY
        await host.command(Command.DRAIN_ALL)
        assert await host.get("GENSTS") == DeviceState.DRAINING
        assert await host.finish() == 0
        assert not lanes.running and lanes.handed[-1].tag == 7 and not lanes.handed[-1].aborted
        assert await host.get("GENSTS") == DeviceState.ENABLED
        assert await host.submit(0, noop(8)) == Response.OKAY
        assert await host.do(Command.DISABLE_WQ, 1) == 0
        assert lanes.handed[-1].tag == 8 and not lanes.running
        assert await host.submit(0, noop(9)) == Response.SLVERR
        assert await host.do(Command.DISABLE_WQ, 1) == CommandError.QUEUE_NOT_ENABLED
        assert await host.do(Command.DISABLE_DEVICE) == 0
        assert await host.get("GENSTS") == DeviceState.DISABLED
        assert await host.get("WQ1_STATE") == 0

    run(testbench, hold=lambda handed: None)


@pytest.mark.parametrize("actions", [16, pytest.param(600, marks=pytest.mark.soak)])
def test_commands_amid_traffic(seed, actions):
    """Queues are drained, aborted, disabled, reset and enabled at random: no descriptor that was taken is lost."""
    rng = random.Random(f"{seed} {actions}")
    kinds = [{"size": 3}, {"size": 4, "priority": 2}, {"size": 2, "dedicated": True}, {"size": 6, "threshold": 5}]
    taken, aborted = [[] for _ in kinds], set()
    done = {command: 0 for command in Command}

    def handed(lanes, queue):
        return [handed.tag for handed in lanes.handed if handed.queue == queue]

    async def finish(host, lanes, is_open, command, mask, before):
        error = await host.finish()
        queues = [queue for queue in range(4) if mask >> queue & 1]
        if command == Command.ENABLE_WQ:
            assert error == (CommandError.QUEUE_ENABLED if is_open[queues[0]] else 0)
            is_open[queues[0]] = True
        elif command != Command.RESET_WQ and not all(is_open[queue] for queue in queues):
            assert error == CommandError.QUEUE_NOT_ENABLED
            return
        else:
            assert error == 0
            for queue in queues:
                # Those that were taken before the command; a quick command is done before the next submission.
                old = taken[queue][:before[queue]]
                assert handed(lanes, queue)[:len(old)] == old, "a descriptor is left"
                assert all(work.queue != queue or work.tag not in old for work, _ in lanes.running.values())
                is_open[queue] &= command in (Command.DRAIN_WQ, Command.ABORT_WQ)
        done[command] += 1

    async def testbench(ctx, dut, host, lanes):
        for queue, kind in enumerate(kinds):
            await host.configure(queue, **kind)
        await host.start(range(4))
        is_open, under_way = [True] * 4, None
        for tag in range(actions):
            if under_way is None and rng.random() < 0.3:
                command = rng.choice([Command.ENABLE_WQ, Command.ENABLE_WQ, Command.DISABLE_WQ, Command.DRAIN_WQ,
                                      Command.ABORT_WQ, Command.RESET_WQ])
                operand = rng.randrange(4) if command == Command.ENABLE_WQ else rng.randrange(1, 16)
                mask = 1 << operand if command == Command.ENABLE_WQ else operand
                await host.command(command, operand)
                if command in (Command.ABORT_WQ, Command.RESET_WQ):
                    aborted.update(queue for queue in range(4) if mask >> queue & 1)
                under_way = command, mask, [len(tags) for tags in taken]
            queue = rng.randrange(4)
            opcode = rng.choice([Opcode.NOOP, Opcode.DECOMPRESS, Opcode.DRAIN])
            if await host.submit(queue, noop(tag, opcode=opcode), place=tag % 64) == Response.OKAY:
                if kinds[queue].get("dedicated") and await host.get("SWERR0"):
                    await host.put("SWERR0", 3)
                else:
                    taken[queue].append(tag)
            if under_way and rng.random() < 0.5:
                await finish(host, lanes, is_open, *under_way)
                under_way = None
        if under_way:
            await finish(host, lanes, is_open, *under_way)
        await settle(ctx, dut)
        for queue in range(4):
            assert handed(lanes, queue) == taken[queue]

    lanes = run(testbench, hold=lambda handed: rng.randrange(250), rng=rng, stall=0.2, engines=2, contexts=1,
                queues=4, entries=16)
    assert all(handed.queue in aborted for handed in lanes.handed if handed.aborted)
    if actions > 500:
        assert any(handed.aborted for handed in lanes.handed)
        assert all(done[command] for command in (Command.ENABLE_WQ, Command.DISABLE_WQ, Command.DRAIN_WQ,
                                                 Command.ABORT_WQ, Command.RESET_WQ))


def test_reset_ends_a_drain_that_hangs():
    stopped = []

    async def quiet(ctx, dut):
        while True:
            *_, stop = await ctx.tick().sample(dut.stop)
            stopped.append(stop)
            ctx.set(dut.stopped, stop and len(stopped) % 7 == 0)

    async def testbench(ctx, dut, host, lanes):
        await host.configure(0, size=4, dedicated=True)
        await host.put("IRQ_ENABLE", 0xFF)
        await host.start([0])
        for tag in range(4):
            assert await host.submit(0, noop(tag)) == Response.OKAY
        await host.command(Command.DRAIN_WQ, 1)
        await ctx.tick().repeat(50)
        assert await host.get("CMDSTS") >> 31
        await host.command(Command.ABORT_WQ, 1)  # not carried out
        assert ctx.get(dut.abort) == 0
        await host.command(Command.RESET_DEVICE, interrupt=True)
        lanes.running.clear()  # the device resets the lanes with the front
        assert await host.finish() == 0
        assert any(stopped) and not ctx.get(dut.is_busy)
        for name in ("IRQ_ENABLE", "WQ0_SIZE", "CMD", "GENSTS", "WQ0_STATE", "SWERR0"):
            assert await host.get(name) == 0, name
        assert await host.get("INTCAUSE") == InterruptCause.COMMAND_DONE
        lanes.hold = lambda handed: 0
        count = len(lanes.handed)
        await host.configure(0, size=2)
        await host.start([0])
        assert await host.submit(0, noop(77)) == Response.OKAY
        await settle(ctx, dut)
        assert [handed.tag for handed in lanes.handed[count:]] == [77]

    run(testbench, hold=lambda handed: None, memory=quiet, contexts=1)


def test_errors_and_interrupts():
    async def testbench(ctx, dut, host, lanes):
        await host.configure(0, size=4)
        await host.start([0])
        await host.put("IRQ_ENABLE", InterruptCause.SOFTWARE_ERROR)
        assert not ctx.get(dut.irq)
        report = {"status": Status.COMPLETION_FAULT, "queue": 0, "opcode": 0x42, "pasid": 0x98765, "write": 1,
                  "address": 0x1122_3344_5566_7788}
        ctx.set(dut.error[1].payload, report)
        ctx.set(dut.error[1].valid, 1)
        await ctx.tick().until(dut.error[1].ready)
        ctx.set(dut.error[1].payload.status, Status.COMPLETION_MISALIGNED)
        await ctx.tick().until(dut.error[1].ready)
        ctx.set(dut.error[1].valid, 0)
        await ctx.tick().repeat(10)
        assert ctx.get(dut.irq)
        assert await host.get("SWERR0") == 0b101111 | Status.COMPLETION_FAULT << 8
        assert await host.get("SWERR1") == 0x42 | 0x98765 << 8
        assert (await host.get("SWERR_ADDRESS_LO"), await host.get("SWERR_ADDRESS_HI")) == (0x55667788, 0x11223344)
        await host.put("SWERR0", 1)
        assert await host.get("SWERR0") == 0
        await host.put("INTCAUSE", 1)
        await ctx.tick().repeat(2)
        assert not ctx.get(dut.irq)
        # Occupancy: two lanes hold a descriptor each, then the queue fills to 3 and falls below 2.
        for limit, cause in ((2, 0), (2 | 1 << 16, InterruptCause.OCCUPANCY)):
            await host.put("WQ0_OCCUPANCY_LIMIT", limit)
            for tag in range(5):
                assert await host.submit(0, noop(tag)) == Response.OKAY
            assert await host.get("INTCAUSE") == 0
            assert await host.get("WQ0_STATE") == QueueState.ENABLED << 30 | 3
            lanes.release()
            await ctx.tick().repeat(60)
            assert await host.get("WQ0_STATE") == QueueState.ENABLED << 30 | 1
            assert await host.get("INTCAUSE") == cause
            lanes.release()
            await ctx.tick().repeat(60)
            lanes.release()
            await settle(ctx, dut)
        ctx.set(dut.irq_set, InterruptCause.PAGE_REQUEST)
        await ctx.tick()
        ctx.set(dut.irq_set, 0)
        assert await host.get("INTCAUSE") == InterruptCause.OCCUPANCY | InterruptCause.PAGE_REQUEST

    run(testbench, hold=lambda handed: None)


def test_unmapped():
    async def testbench(ctx, dut, host, lanes):
        for address in (0x3FFC, 0x7FFC, BAR0 + 0x500 + 0x40 * 3, BAR0 + 0x7FC):
            assert await host.write(address, 0) == Response.SLVERR
        assert await host.write(PORTALS + 3 * PORTAL_SIZE, 0) == Response.SLVERR
        assert await host.read(PORTALS + 3 * PORTAL_SIZE) == 0
        assert await host.read(PORTALS) == 0
        assert await host.write(PORTALS, 0) == Response.SLVERR
        assert await host.get("PARAM_WINDOW") == 4096
        assert await host.get("PARAM_QUEUES") == 3

    run(testbench, queues=3, values={"PARAM_WINDOW": 4096})


def test_bad_parameters():
    with pytest.raises(ValueError, match="engines must be 1, 2, 4 or 8, not 3"):
        Front(engines=3)
    with pytest.raises(ValueError, match="contexts must be 1 to 8, not 9"):
        Front(contexts=9)
    with pytest.raises(ValueError, match="queues must be 1 to 8, not 0"):
        Front(queues=0)
    with pytest.raises(ValueError, match="entries must be 2 to 1024, not 1"):
        Front(entries=1)
    with pytest.raises(ValueError, match="reporters must be at least 1, not 0"):
        Front(reporters=0)


@pytest.mark.thorough
@pytest.mark.parametrize("engines, ports", [(1, 2), (2, 4), (4, 3), (8, 0)])
def test_wrong_ports(engines, ports):
    with pytest.raises(ValueError, match=f"ports must be 1, 2, 4 or 8 and at most {engines}, one an engine, not"):
        Iaa(engines=engines, window=4096, lanes=8, ports=ports)


@pytest.mark.thorough
def test_ports():
    """Each port has ids for the engines that share it."""
    one, some = Iaa(engines=4, window=4096, lanes=8), Iaa(engines=4, window=4096, lanes=8, ports=2)
    assert one.signature.members["mem"].dimensions == () and some.signature.members["mem"].dimensions == (2,)
    assert one.mem.signature.id_width == some.mem[0].signature.id_width + 1
