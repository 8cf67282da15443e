# SPDX-License-Identifier: Apache-2.0
"""How an engine shares its lanes between the front and a list: nothing is lost, doubled or held up for ever.

Of the engine only that part is elaborated; lanes, lister and translator are their ports, which the test drives.
"""

import random

import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import Opcode
from rackgate.iaa.engine import IaaEngine
from rackgate.iaa.lister import ListJob, ListResult
from rackgate.iaa.misses import Fault
from rackgate.iaa.work import Space, Work
from rackgate.verif.stimulus import simulate

CONTEXTS = 2


class Translator:
    """What of one is connected there."""

    def __init__(self, users):
        self.fault = Signal(data.ArrayLayout(Fault, users))
        self.space = Signal(data.ArrayLayout(Space, users))
        self.clear, self.cut = Signal(users), Signal(users)


class Lister(wiring.Component):
    """The ports of one."""

    i: In(stream.Signature(ListJob))
    o: Out(stream.Signature(Work))
    o_result: Out(stream.Signature(ListResult))
    retired: In(CONTEXTS)
    succeeded: In(CONTEXTS)

    def elaborate(self, platform):
        return Module()


class Shared(Elaboratable):
    """The part of the engine."""

    def __init__(self):
        self.engine = engine = IaaEngine(contexts=CONTEXTS, window=4096, lanes=8)
        for part in [engine, *vars(engine).values(), *engine._lanes]:
            if isinstance(part, Elaboratable):
                part._MustUse__used = True  # they are only ports here
        engine._lister = self.lister = Lister()
        self.lanes, self.list_lane = engine._lanes, engine._list_lane

    def elaborate(self, platform):
        m = Module()
        self.engine._list(m, Translator(CONTEXTS + 3))
        return m


@pytest.mark.parametrize("busy", [0.1, 0.5, 0.9])
def test_every_descriptor_goes_to_one_lane(seed, busy):
    """Of front and list, each in its order, and both get their turn."""
    rng = random.Random(f"{seed} {busy}")
    dut = Shared()
    given = {"list": [], **{lane: [] for lane in range(CONTEXTS)}}  # by whom, as it was taken
    done = {lane: [] for lane in range(CONTEXTS)}
    lists = []

    async def play(ctx):
        number, offered = 0, dict.fromkeys(given)
        ports = {"list": dut.lister.o, **dict(enumerate(dut.engine.i))}
        for _ in range(600):
            for lane in dut.lanes:
                ctx.set(lane.i.ready, rng.random() >= busy)
            ctx.set(dut.list_lane.i.ready, rng.random() >= busy)
            for who, port in ports.items():
                if offered[who] is None and rng.random() < 0.6:
                    number += 1
                    is_list = who != "list" and rng.random() < 0.2
                    offered[who] = (number, is_list)
                    ctx.set(port.payload.descriptor.source, number)
                    ctx.set(port.payload.descriptor.opcode, Opcode.LIST if is_list else Opcode.NOOP)
                    ctx.set(port.payload.listed, who == "list")
                    ctx.set(port.valid, 1)
            await ctx.delay(0)
            taken = {who: ctx.get(port.valid) and ctx.get(port.ready) for who, port in ports.items()}
            got = [ctx.get(lane.i.payload.descriptor.source) if ctx.get(lane.i.valid) and ctx.get(lane.i.ready) else 0
                   for lane in dut.lanes]
            for lane, source in enumerate(got):
                if source:
                    done[lane].append(source)
            if ctx.get(dut.list_lane.i.valid) and ctx.get(dut.list_lane.i.ready):
                lists.append(ctx.get(dut.list_lane.i.payload.descriptor.source))
            await ctx.tick()
            for who, port in ports.items():
                if taken[who]:
                    given[who].append(offered[who])
                    offered[who] = None
                    ctx.set(port.valid, 0)

    simulate(dut, play)
    sent = [source for some in given.values() for source, is_list in some if not is_list]
    assert sorted(source for some in done.values() for source in some) == sorted(sent)
    for lane in range(CONTEXTS):
        mine = [source for source, is_list in given[lane] if not is_list]
        listed = {source for source, _ in given["list"]}
        assert [source for source in done[lane] if source not in listed] == mine
        assert len(mine) > 5 and listed & set(done[lane])
    assert sorted(lists) == sorted(source for lane in range(CONTEXTS) for source, is_list in given[lane] if is_list)
