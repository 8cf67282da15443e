# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""A kernel in the fabric that calls the collective engine."""

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.arith.abi import ElementType
from rackgate.collective.abi import REGISTERS, Call, Completion, ConfigSpace, Control, Scenario, Status, StreamFlag
from rackgate.collective.control.kernelport import KernelPort
from rackgate.collective.programs.shipped import programs
from rackgate.collective.records import CallFields, CompletionFields
from rackgate.collective.top import Collective
from rackgate.stream.packet import PacketSignature
from rackgate.verif.stimulus import AXI4Memory, receive, send, simulate

BASE, SIZE = 0x1000, 1024
TAG, WORDS = 7, 5


class Squares(wiring.Component):
    """A kernel: when it is told to, sends the squares of 1 to 2 * WORDS to rank 0, and keeps how that ended."""

    go: In(1)
    words: Out(PacketSignature(8))
    call: Out(stream.Signature(CallFields))
    completion: In(stream.Signature(CompletionFields))
    ended: Out(data.StructLayout({"valid": 1, "fields": CompletionFields}))

    def elaborate(self, platform):
        m = Module()
        number, squares = Signal(range(2 * WORDS + 1)), [Signal(32, name=f"square_{k}") for k in range(2)]
        call = Call(Scenario.SEND, 2 * WORDS, peer=0, tag=TAG, element=ElementType.INT32, streams=StreamFlag.OPERAND_0,
                    id=9)
        m.d.comb += [
            *(self.call.payload[name].eq(value) for name, value in call._asdict().items()),
            squares[0].eq((number + 1) * (number + 1)), squares[1].eq((number + 2) * (number + 2)),
            self.words.payload.data.eq(Cat(squares)),
            self.words.payload.count.eq(8), self.words.payload.last.eq(number == 2 * WORDS - 2),
            self.completion.ready.eq(1),
        ]
        with m.If(self.go):
            m.d.sync += [self.call.valid.eq(1), self.words.valid.eq(1), number.eq(0)]
        with m.If(self.call.valid & self.call.ready):
            m.d.sync += self.call.valid.eq(0)
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += [number.eq(number + 2), self.words.valid.eq(~self.words.payload.last)]
        with m.If(self.completion.valid):
            m.d.sync += [self.ended.valid.eq(1), self.ended.fields.eq(self.completion.payload)]
        return m


class Host:
    """Registers over AXI4-Lite."""

    def __init__(self, bus):
        self.bus = bus

    async def write(self, ctx, **registers):
        bus = self.bus
        for name, value in registers.items():
            ctx.set(bus.w.payload, {"data": value, "strb": 15})
            ctx.set(bus.w.valid, 1)  # taken together with the address
            await send(ctx, bus.aw, [{"addr": REGISTERS[name].offset}])
            ctx.set(bus.w.valid, 0)
            await receive(ctx, bus.b, 1)

    async def read(self, ctx, name):
        await send(ctx, self.bus.ar, [{"addr": REGISTERS[name].offset}])
        answer, = await receive(ctx, self.bus.r, 1)
        return answer.data

    async def configure(self, ctx, address, words):
        await self.write(ctx, CONFIG_ADDRESS=address)
        for word in words:
            await self.write(ctx, CONFIG_DATA=word)

    async def set_up(self, ctx):
        """A communicator of this node alone, and the programs of send and recv."""
        await self.write(ctx, NODE=3, TIMEOUT=5000, CONTROL=Control.ENABLE)
        at = 0
        for scenario in (Scenario.SEND, Scenario.RECV):
            program = programs(width=8)[scenario]
            await self.configure(ctx, at, program.placed(at))
            await self.configure(ctx, ConfigSpace.ENTRY + scenario, [program.entry_word(at)])
            at += len(program.words)
        await self.configure(ctx, ConfigSpace.COMMUNICATOR + 16, [3])
        await self.configure(ctx, ConfigSpace.COMMUNICATOR, [1 << 31 | 1, 4])

    async def call(self, ctx, call):
        for word in call.words():
            await self.write(ctx, CALL_WORD=word)
        for _ in range(500):
            if await self.read(ctx, "COMPLETIONS"):
                break
        else:
            raise TimeoutError("the call has not ended")
        words = [await self.read(ctx, f"COMPLETION_{k}") for k in range(4)]
        await self.write(ctx, COMPLETION_POP=0)
        return Completion.from_words(tuple(words))


@pytest.mark.thorough
def test_a_kernel_sends_what_it_computes():
    """From its stream, by a call of its own, to a receive of the host; then again, after a reset amid a call."""
    m = Module()
    m.submodules.dut = dut = Collective(segment=256, slots=16, program=256, types=1 << ElementType.INT32, calls=4,
                                        ports=1, kernels=2)
    m.submodules.port, m.submodules.kernel = port, kernel = KernelPort(), Squares()
    wiring.connect(m, dut.net_tx, dut.net_rx)
    wiring.connect(m, kernel.call, port.i)
    wiring.connect(m, port.o, dut.kernel_call[1])
    wiring.connect(m, dut.kernel_completion[1], kernel.completion)
    m.d.comb += port.restart.eq(dut.restart)
    wiring.connect(m, kernel.words, dut.kernel)
    content = bytearray(SIZE)
    memory = AXI4Memory(content, base=BASE)
    wanted = b"".join((k * k).to_bytes(4, "little") for k in range(1, 2 * WORDS + 1))

    async def testbench(ctx):
        host = Host(dut.csr)
        await host.set_up(ctx)
        for turn in range(2):
            content[:] = bytes(SIZE)
            ctx.set(kernel.go, 1)
            await ctx.tick()
            ctx.set(kernel.go, 0)
            got = await host.call(ctx, Call(Scenario.RECV, 2 * WORDS, peer=Call.ANY_SOURCE, tag=Call.ANY_TAG,
                                            element=ElementType.INT32, result=BASE + 256, id=33))
            assert got[:4] == (33, Status.SUCCESS, 0, 3) and (got.bytes, got.tag) == (8 * WORDS, TAG)
            assert content[256:256 + len(wanted)] == wanted and not any(content[256 + len(wanted):])
            ended = ctx.get(kernel.ended)
            assert ended.valid and (ended.fields.id, ended.fields.status) == (9, Status.SUCCESS)
            assert await host.read(ctx, "COMPLETIONS") == 0, "a kernel's completion came to the host"
            if turn == 0:
                await host.write(ctx, CONTROL=Control.RESET)
                await host.set_up(ctx)

    simulate(m, testbench, models=[memory.reader(dut.mem.ar, dut.mem.r),
                                   memory.writer(dut.mem.aw, dut.mem.w, dut.mem.b)], limit=50_000)


def test_kernels_are_checked():
    with pytest.raises(ValueError, match="kernels must be 0 to 8, not 9"):
        Collective(kernels=9)
    assert "restart" not in Collective().signature.members
    assert not Collective().signature.members["kernel_call"].dimensions[0]


def test_port():
    """Words of a call, in order, with a restart in between."""
    dut = KernelPort()
    calls = [Call(*range(1, 14)), Call(255, 1 << 31, operand_0=(1 << 64) - 2, id=0xFFFF)]

    async def offer(ctx):
        await send(ctx, dut.i, [call._asdict() for call in calls])

    async def take(ctx):
        first = await receive(ctx, dut.o, 5)
        assert tuple(first) == calls[0].words()[:5]
        ctx.set(dut.restart, 1)
        await ctx.tick()
        ctx.set(dut.restart, 0)
        for call in calls:
            assert tuple(await receive(ctx, dut.o, 16)) == call.words()
        await ctx.tick()
        assert not ctx.get(dut.o.valid)

    simulate(dut, offer, take, limit=200)
