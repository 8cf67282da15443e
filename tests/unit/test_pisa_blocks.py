# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""Blocks of a switch's rim by themselves: sums, checksums, frames at a restart, slots, wrong parameters."""

import dataclasses
import random

import pytest
from pisa_example import BALANCER
from pisa_tags import check, inner, outer, packet, tag, tags, wide

from rackgate.net.headers import IPV4_CHECKSUM, ipv4, udp_checksum
from rackgate.pisa.abi import switch_registers
from rackgate.pisa.checksum import ChecksumUnit, WordSum
from rackgate.pisa.declare import Checksum, Header
from rackgate.pisa.deparser import Deparser
from rackgate.pisa.extract import extracted_layout
from rackgate.pisa.graph import always_valid, emitted_sizes, nodes, payload_starts
from rackgate.pisa.layout import name_of
from rackgate.pisa.payload import FrameStore, SlotPool
from rackgate.pisa.switch import Switch
from rackgate.stream.edge import FrameEntry, FrameExit
from rackgate.verif.stimulus import simulate
from rackgate_sim.pisa.model import PipelineModel
from rackgate_sim.pisa.wire import checksum_of, ones_complement_sum


@pytest.mark.parametrize("width", [1, 2, 8, 64])
def test_sums_of_rows_of_bytes(width, seed):
    rng = random.Random(seed)
    rows = [rng.randbytes(width * rng.randint(1, 6)) for _ in range(20)]
    rows += [bytes([255]) * 6 * width, bytes(width), bytes(width - 1) + b"\1"]
    dut, found = WordSum(width, 6), []

    async def source(ctx):
        for row in rows:
            for place in range(0, len(row), width):
                while rng.random() < 0.2:
                    ctx.set(dut.i.valid, 0)
                    await ctx.tick()
                ctx.set(dut.i.valid, 1)
                ctx.set(dut.i.payload, {"data": int.from_bytes(row[place:place + width], "little"),
                                        "last": place + width == len(row)})
                await ctx.tick()
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(dut.latency + 1)

    async def sink(ctx):
        while len(found) < len(rows):
            _, _, valid, total = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                found.append(total)

    simulate(dut, source, sink, limit=2000)
    for row, total in zip(rows, found, strict=True):
        want = ones_complement_sum(row)
        assert total == want or {total, want} == {0, 0xFFFF}


@pytest.mark.parametrize("late", [0, 2, 9])
@pytest.mark.parametrize("zero_is_none", [False, True])
def test_checksums_over_headers_that_may_be_missing(late, zero_is_none, seed):
    rng, pipeline = random.Random(seed), tags(False, zero_is_none)
    item, model = check(outer, tag, wide, inner, zero_is_none=zero_is_none), PipelineModel(pipeline)
    layout = extracted_layout(pipeline)
    dut = ChecksumUnit(item, layout, {outer}, payload_late=late)
    cases = []
    while len(cases) < 150:
        found = model.parse(packet(model, rng))
        if found is not None:
            cases.append(found)
    results = []

    async def source(ctx):
        for cycle in range(len(cases) + late):
            ctx.set(dut.i.valid, cycle < len(cases))
            if cycle < len(cases):
                ctx.set(dut.i.payload, {name_of(part): value
                                        for part, value in zip(model.fields, cases[cycle].phv, strict=True)})
            if cycle >= late:
                ctx.set(dut.payload_sum, ones_complement_sum(cases[cycle - late].payload))
            await ctx.tick()
        ctx.set(dut.i.valid, 0)

    async def sink(ctx):
        while len(results) < len(cases):
            _, _, valid, out = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                results.append((out.answer, out.applies, out.agrees))

    simulate(dut, source, sink, limit=2000)
    for case, (answer, applies, agrees) in zip(cases, results, strict=True):
        want, is_there = checksum_of(model.codec, item, case.phv, case.payload), model.get(case.phv, inner.is_valid)
        there = model.get(case.phv, inner.check)
        assert applies == is_there and (not is_there or answer == want)
        assert agrees == (not is_there or there == want or zero_is_none and there == 0)


def test_what_is_known_of_a_parser():
    pipeline = tags()
    assert [node.way for node in nodes(pipeline.parser)][:3] == [
        ("outer",), ("outer", "tag"), ("outer", "tag", "wide")]
    assert payload_starts(pipeline.parser) == [3, 5, 8, 10, 20, 22, 25, 27]
    assert always_valid(pipeline) == set() and always_valid(BALANCER) == set(BALANCER.emit)
    assert emitted_sizes(BALANCER) == [42]


async def _offer(ctx, stream, data, last):
    ctx.set(stream.valid, 1)
    ctx.set(stream.payload, {"data": data, "count": 1, "last": last, "error": 0})
    _, _, ready = await ctx.tick().sample(stream.ready)
    return ready


def test_the_rest_of_a_frame_is_not_let_in_after_a_restart():
    dut, out = FrameEntry(1), []

    async def bench(ctx):
        ctx.set(dut.o.ready, 1)
        assert await _offer(ctx, dut.i, 1, 0)
        ctx.set(dut.stop, 1)
        assert not await _offer(ctx, dut.i, 2, 0)
        ctx.set(dut.restart, 1)
        assert not await _offer(ctx, dut.i, 2, 0)
        ctx.set(dut.restart, 0)
        ctx.set(dut.stop, 0)
        ctx.set(dut.o.ready, 0)  # what is skipped needs no room
        assert await _offer(ctx, dut.i, 2, 0) and await _offer(ctx, dut.i, 3, 1)
        ctx.set(dut.o.ready, 1)
        assert await _offer(ctx, dut.i, 4, 1)

    async def watch(ctx):
        while True:
            _, _, valid, ready, word = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready:
                out.append(word.data)

    simulate(dut, bench, models=[watch])
    assert out == [1, 4]


@pytest.mark.parametrize("is_within", [False, True])
def test_a_frame_that_is_leaving_ends_as_damaged(is_within):
    dut, out = FrameExit(1), []

    async def bench(ctx):
        assert await _offer(ctx, dut.i, 1, not is_within)
        ctx.set(dut.stop, 1)
        for _ in range(4):
            assert not await _offer(ctx, dut.i, 2, 1), "taken although it is stopped"
            assert not ctx.get(dut.quiet), "quiet with a word on offer"
        ctx.set(dut.o.ready, 1)
        await ctx.tick().until(dut.quiet)
        ctx.set(dut.stop, 0)
        assert await _offer(ctx, dut.i, 3, 1)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(2)

    async def watch(ctx):
        while True:
            _, _, valid, ready, word = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready:
                out.append((word.data, word.last, word.error))

    simulate(dut, bench, models=[watch])
    assert out == ([(1, 0, 0), (0, 1, 1)] if is_within else [(1, 1, 0)]) + [(3, 1, 0)]


def test_a_slot_that_comes_back_twice_is_noticed():
    dut = SlotPool(4)

    async def bench(ctx):
        ctx.set(dut.free.ready, 1)
        await ctx.tick().repeat(3)
        ctx.set(dut.free.ready, 0)
        ctx.set(dut.put[0].payload, 0)
        ctx.set(dut.put[0].valid, 1)
        for _ in range(3):
            await ctx.tick()

    with pytest.raises(AssertionError, match="given back that nobody has"):
        simulate(dut, bench)


def test_wrong_parameters_are_told():
    odd = Header("odd", a=8, sum=8)
    other = dataclasses.replace(BALANCER, checksums=[IPV4_CHECKSUM, udp_checksum(), Checksum(
        BALANCER.emit[2].source_port, [ipv4])])
    for make, text in (
        (lambda: Switch(BALANCER, 3), r"width must be one of .* not 3"),
        (lambda: Switch(BALANCER, slots=3), "slots must be a power of two from 2 to 64, not 3"),
        (lambda: Switch(BALANCER, slots=128), "slots must be a power of two from 2 to 64, not 128"),
        (lambda: Switch(BALANCER, slot_size=1000), "slot_size must be a power of two of at least 64, not 1000"),
        (lambda: FrameStore(8, 2, 32), "slot_size must be a power of two of at least 64, not 32"),
        (lambda: Switch(BALANCER, build=-1), "build must fit 64 bits, not -0x1"),
        (lambda: SlotPool(4, returns=0), "returns must be at least 1, not 0"),
        (lambda: WordSum(3, 4), "width must be one of .* not 3"),
        (lambda: WordSum(4, 0), "most must be at least 1, not 0"),
        (lambda: ChecksumUnit(Checksum(odd.sum, [odd]), extracted_layout(BALANCER)), "a checksum has 16 bits"),
        (lambda: ChecksumUnit(IPV4_CHECKSUM, extracted_layout(BALANCER), payload_late=-1), "must not be negative"),
        (lambda: Deparser(other, width=8, slot_bits=2, slot_size=2048), "must not cover ipv4.checksum"),
        (lambda: switch_registers("PISA", ["a", "b", "c", "d", "e"]), "at most 4 parameters, not 5"),
    ):
        with pytest.raises(ValueError, match=text):
            make()
