# SPDX-License-Identifier: Apache-2.0
"""The stages of a pipeline one by one, in Amaranth's simulator, against the model."""

import random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from pisa_example import BALANCER
from pisa_random import access, pipeline, vectors

from rackgate.pisa.bankedmemory import Geometry
from rackgate.pisa.chain import stage_component
from rackgate.pisa.compute import hand_on
from rackgate.pisa.declare import (
    ACCEPT,
    Access,
    Action,
    Copy,
    Entry,
    Header,
    Key,
    Metadata,
    Parser,
    Pipeline,
    Register,
    RegisterAction,
    Stage,
    State,
    Table,
    assign,
    standard,
)
from rackgate.pisa.expr import Const
from rackgate.pisa.layout import carried_layout, name_of, packet_layout
from rackgate.pisa.liveness import carried, deparsed, live_behind_ingress
from rackgate.pisa.matchaction import FEW_ENTRIES, MatchAction
from rackgate.pisa.pipeline import PipelineCore
from rackgate.pisa.registerarray import RegisterArray
from rackgate.verif.stimulus import simulate
from rackgate_sim.pisa.model import PipelineModel

header = Header("h", op=2, index=6, value=8)
WORDS = Register("words", 40, init=0x2A5, total=8, last=2)


def machine(stage, header=header):
    """A pipeline of one stage."""
    return Pipeline("one", Parser({"s": State(header)}, "s"), [stage], [Copy("out", Const(1, 1))], [header])


ACCESS = Access(WORDS, header.index, [
    RegisterAction("add", header.op == 1, update={"total": WORDS.word.total + header.value, "last": header.op},
                   out=[assign(header.value, WORDS.word.total)]),
    RegisterAction("look", header.op == 2, out=[assign(header.value, WORDS.word.total)]),
    RegisterAction("count", header.op == 3, update={"last": WORDS.word.last + 1}),
])


def run_array(dut, slots):
    """Offer a payload or None in each cycle. Returns what comes out, each with its cycle after it was offered."""
    seen, sent = [], []
    ahead = {name for name, _ in dut.ahead.payload.shape()} if dut.lead else set()

    async def bench(ctx):
        cycle = 0
        while not ctx.get(dut.ready):
            await ctx.tick()
        end = [None] * (dut.latency + 2)
        for early, slot in zip([*slots, *[None] * dut.lead, *end], [*[None] * dut.lead, *slots, *end], strict=True):
            if dut.lead:
                ctx.set(dut.ahead.valid, early is not None)
                ctx.set(dut.ahead.payload, {name: (early or {}).get(name, 0) for name in ahead})
            ctx.set(dut.i.valid, slot is not None)
            if slot is not None:
                ctx.set(dut.i.payload, slot)
                sent.append(cycle)
            _, _, valid, payload, found = await ctx.tick().sample(dut.o.valid, dut.o.payload, dut.found)
            cycle += 1
            if valid:
                seen.append((cycle - 1 - sent[len(seen)],
                             {name: int(payload[name]) for name, _ in dut.o.payload.shape()}, found))

    simulate(dut, bench)
    return seen


@pytest.mark.parametrize("geometry,known_ahead", [
    (None, 0), (None, 7), (Geometry(10, 40, row_depth=4, rows_in_bank=4), 0),
    (Geometry(10, 40, row_depth=16, rows_in_bank=1), 1), (Geometry(10, 40, row_depth=16, rows_in_bank=1), 7)])
def test_words_meet_at_any_distance(seed, geometry, known_ahead):
    """A few words, accessed at all distances, by packets and by the control plane."""
    rng, one = random.Random(seed), machine(ACCESS)
    layout = carried_layout(header.fields.values())
    dut = RegisterArray(ACCESS, layout, layout, geometry=geometry, known_ahead=known_ahead)
    cycles = 4 if geometry is None else 6
    assert (dut.lead, dut.latency) == (min(known_ahead, cycles - 3), cycles - dut.lead)
    model, slots, wanted = PipelineModel(one), [], []
    for _ in range(600):
        if rng.random() < 0.3:
            slots.append(None)
            continue
        packet = {"op": rng.randrange(4), "index": rng.choice([3, 3, 4, 39, 40, 63]), "value": rng.getrandbits(8)}
        vector = [1, packet["op"], packet["index"], packet["value"], 0, 0, 0, 0, 0]
        slots.append({**{f"h__{name}": value for name, value in packet.items()}, "is_control": 0})
        wanted.append(model.one_pass(vector)[0][1][3])
    seen = run_array(dut, slots)
    assert [out["h__value"] for _, out, _ in seen] == wanted
    assert {latency for latency, _, _ in seen} == {dut.latency}


def test_the_control_plane_takes_its_turn(seed):
    rng = random.Random(seed)
    layout = carried_layout(header.fields.values())
    dut = RegisterArray(ACCESS, layout, layout)
    words, slots, wanted = {}, [], []
    for _ in range(60):  # one access at a time, packets before and behind it
        for _ in range(rng.randrange(4)):
            index = rng.choice([5, 6])
            word = words.get(index, WORDS.init)
            words[index] = word & 0x300 | (word + 9) & 0xFF
            words[index] = words[index] & 0xFF | 1 << 8
            slots.append({"h__op": 1, "h__index": index, "h__value": 9, "is_control": 0})
        index, data = rng.choice([5, 6, 39, 40, 64 + 5]), rng.choice([None, rng.getrandbits(10)])
        select = rng.random() < 0.8
        slots.append({"is_control": 1, "h__index": 5, "h__op": 1, "access": {
            "select": select, "write": data is not None, "index": index, "data": data or 0}})
        if select and index < 40:
            if data is not None:
                words[index] = data
            wanted.append(words.get(index, WORDS.init))
        else:
            wanted.append((0 if data is None else None) if select else None)
        for _ in range(dut.latency + 1):
            slots.append(None)
    found = []

    async def bench(ctx):
        while not ctx.get(dut.ready):
            await ctx.tick()
        for slot in slots:
            is_access = slot is not None and slot["is_control"]
            ctx.set(dut.i.valid, slot is not None)
            if slot is not None:
                if is_access:
                    for name, value in slot.pop("access").items():
                        ctx.set(getattr(dut.access, name), value)
                ctx.set(dut.i.payload, slot)
            await ctx.tick()
            if is_access:
                after = dut.latency + 1
            elif slot is None:
                after -= 1
                if after == 0:
                    found.append(ctx.get(dut.found))

    simulate(dut, bench)
    assert len(found) == len(wanted) == 60
    assert [(got, want) for got, want in zip(found, wanted, strict=True) if want is not None and got != want] == []


def test_reset_initialises_words_again():
    layout = carried_layout(header.fields.values())
    dut = RegisterArray(ACCESS, layout, layout)
    m = Module()
    reset = Signal()
    m.submodules.dut = ResetInserter(reset)(dut)
    counts, values = [], []

    async def bench(ctx):
        for _ in range(2):
            cycles = 0
            while not ctx.get(dut.ready):
                await ctx.tick()
                cycles += 1
            counts.append(cycles)
            for value in (1, 2):
                ctx.set(dut.i.payload, {"h__op": 1, "h__index": 7, "h__value": value, "is_control": 0})
                ctx.set(dut.i.valid, 1)
                await ctx.tick()
            ctx.set(dut.i.valid, 0)
            await ctx.tick().repeat(dut.latency - 1)
            values.append(ctx.get(dut.o.payload.h__value))
            await ctx.tick().repeat(9)
            ctx.set(reset, 1)
            await ctx.tick()
            ctx.set(reset, 0)

    simulate(m, bench)
    assert counts == [40, 40]
    assert values == [(WORDS.init + 1) & 0xFF] * 2, "the second reset has left old words"


def test_geometry():
    cuts = {(18, 65536): (2048, 4, 8), (18, 1024): (1024, 1, 1), (36, 65536): (2048, 4, 8), (1, 65536): (16384, 4, 1),
            (8, 65536): (16384, 4, 1), (5, 3): (4, 1, 1), (18, 6000): (2048, 3, 1)}
    for (width, depth), cut in cuts.items():
        geometry = Geometry(width, depth)
        assert (geometry.row_depth, geometry.rows, geometry.banks) == cut
        assert geometry.row_depth * geometry.rows * geometry.banks >= depth
    with pytest.raises(ValueError, match="width and depth must be at least 1, not 0 and 4"):
        Geometry(0, 4)
    with pytest.raises(ValueError, match="rows_in_bank must be a power of two, not 3"):
        Geometry(8, 40, row_depth=4, rows_in_bank=3)
    layout = carried_layout([])
    with pytest.raises(ValueError, match="geometry must be of 40 words of 10 bits"):
        RegisterArray(ACCESS, layout, layout, geometry=Geometry(10, 41))
    with pytest.raises(ValueError, match="known_ahead must not be negative: -1"):
        RegisterArray(ACCESS, layout, layout, known_ahead=-1)


def test_a_table_takes_its_first_match():
    meta = Metadata("m", x=8)
    one = Action.with_parameters("one", {"a": 8}, lambda given: [assign(meta.x, given.a)])
    two = Action.of("two", assign(meta.x, header.value), assign(header.op, 3))
    for entries in ([Entry((1, None), one, {"a": 7}), Entry((None, 2), two), Entry((1, 2), one, {"a": 9})],
                    [*(Entry((0, k), one, {"a": k}) for k in range(20)), Entry((None, 2), two)]):
        table = Table("t", [header.op, header.index], entries, default=two)
        pipeline = Pipeline("t", Parser({"s": State(header)}, "s"), [table], [], [header], metadata=[meta])
        layout = carried_layout([*header.fields.values(), meta.x])
        dut = MatchAction(table, layout, layout)
        assert dut.latency == (1 if len(entries) <= FEW_ENTRIES else 2)
        model = PipelineModel(pipeline)
        cases = [(op, index) for op in (0, 1, 2) for index in (0, 2, 19, 20)]

        async def bench(ctx, dut=dut, model=model, cases=cases):
            for op, index in cases:
                vector = [1, op, index, 200, *[0] * 5, 5]
                model._ingress[0](vector, {})
                ctx.set(dut.i.payload, {"h__op": op, "h__index": index, "h__value": 200, "m__x": 5, "is_control": 0})
                ctx.set(dut.i.valid, 1)
                await ctx.tick().repeat(dut.latency)
                out = ctx.get(dut.o.payload)
                assert (out.h__op, out.m__x) == (vector[1], vector[-1]), (op, index)

        simulate(dut, bench)


def test_errors_name_the_stage():
    layout = carried_layout([])
    action = Action.of("nothing")
    runtime = Table("many", [header.op], kind=Key.EXACT, size=4, actions=[action])
    with pytest.raises(ValueError, match="table many must have constant entries"):
        MatchAction(runtime, layout, layout)
    with pytest.raises(ValueError, match="table many is filled at run time: make_table must be given"):
        stage_component(runtime, layout, layout)
    with pytest.raises(TypeError, match="no such stage"):
        stage_component(Stage(), layout, layout)


class Fixed(wiring.Component):
    """Stands for a table that is filled at run time."""

    latency = 1

    def __init__(self, i_layout, o_layout):
        super().__init__({"i": In(stream.Signature(i_layout, always_ready=True)),
                          "o": Out(stream.Signature(o_layout, always_ready=True)),
                          "entries": In(wiring.Signature({"request": Out(1), "value": Out(8), "ready": In(1)}))})

    def elaborate(self, platform):
        m = Module()
        value = Signal(8)
        m.d.sync += self.entries.ready.eq(1)
        with m.If(self.entries.request):
            m.d.sync += value.eq(self.entries.value)
        m.d.sync += self.o.valid.eq(self.i.valid)
        hand_on(m, self.i.payload, self.o.payload)
        m.d.sync += self.o.payload.h__value.eq(value)
        return m


def test_tables_of_the_control_plane_come_out_of_the_core():
    set_value = Action.with_parameters("set", {"a": 8}, lambda given: [assign(header.value, given.a)])
    table = Table("many", [header.op], size=4, actions=[set_value])
    core = PipelineCore(machine(table), make_table=lambda table, i, o: Fixed(i, o))
    assert core.latency == 2 and core.egress_latency == 0
    out = []

    async def bench(ctx):
        ctx.set(core.i.payload, {"h__op": 2, "h__value": 1})
        ctx.set(core.i.valid, 1)
        ctx.set(core.o.ready, 1)
        assert not ctx.get(core.i.ready), "a packet enters before the table is ready"
        ctx.set(core.entries_many.value, 77)
        ctx.set(core.entries_many.request, 1)
        await ctx.tick()
        assert not ctx.get(core.i.ready), "a packet enters while an entry is written"
        ctx.set(core.entries_many.request, 0)
        await ctx.tick()
        assert ctx.get(core.i.ready)
        await ctx.tick()
        ctx.set(core.i.valid, 0)
        for _ in range(8):
            _, _, valid, payload = await ctx.tick().sample(core.o.valid, core.o.payload)
            if valid:
                out.append((payload.h__op, payload.h__value))

    simulate(core, bench)
    assert out == [(2, 77)]


def test_what_is_carried():
    """The balancer's stages take only what they need past them."""
    stages = BALANCER.ingress
    carry = carried(stages, live_behind_ingress(BALANCER), clears_metadata=True)
    names = [sorted(map(name_of, fields)) for fields in carry.at]
    rewritten = ["ethernet__destination", "ipv4__destination"]
    assert names[0] == sorted([*rewritten, "ipv4__source", "udp__source_port", "ipv4__total_length"])
    assert names[1] == sorted([*rewritten, "ipv4__total_length", "meta__server"])
    assert names[3] == rewritten
    assert "ipv4__source" in map(name_of, carry.aside) and "ipv4__destination" not in map(name_of, carry.aside)
    assert deparsed(BALANCER) == carry.aside | carry.at[3]
    layout = packet_layout(carry.aside, {"slot": 3})
    assert layout["slot"].width == 3 and layout["is_control"].width == 1
    assert ACCEPT and standard.drop in carry.aside


def test_random_accesses_are_declarations(seed):
    """The generator of the differential tests makes what the language takes."""
    rng = random.Random(seed)
    kinds = set()
    for _ in range(20):
        one = pipeline(rng)
        kinds |= {type(stage).__name__ for stage in one.ingress}
        model = PipelineModel(one)
        for vector, _ in zip(vectors(rng, one), range(5), strict=False):
            model.one_pass(vector)
    assert kinds == {"Access", "Compute", "Table"}
    assert isinstance(access(rng, "a", list(header.fields.values()), list(header.fields.values())), Access)
