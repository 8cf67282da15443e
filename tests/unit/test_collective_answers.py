# SPDX-License-Identifier: Apache-2.0
"""Packets that an engine sends of its own accord: each once, in order, and unchanged while it is offered."""

import random

import pytest

from rackgate.collective.abi import PacketType
from rackgate.collective.packets.answers import Answers
from rackgate.verif.stimulus import send, simulate


@pytest.mark.parametrize("idle", [0, 0.5, 0.9])
@pytest.mark.parametrize("stall", [0, 0.6])
def test_both_take_turns(seed, idle, stall):
    rng = random.Random(seed)
    dut = Answers()
    given = {
        "credit": [{"communicator": k % 8, "node": k % 16, "count": 1 + k} for k in range(60)],
        "clear": [{"communicator": k % 7, "node": k % 15, "handle": k % 16} for k in range(60)]}
    got, longest = {"credit": [], "clear": []}, {"credit": 0, "clear": 0}

    def offer(name, mine):
        async def testbench(ctx):
            await send(ctx, getattr(dut, name), given[name], rng=mine, idle=idle)
        return testbench

    async def take(ctx):
        held, waits = None, {"credit": 0, "clear": 0}
        while sum(map(len, got.values())) < 120:
            ready = rng.random() >= stall
            ctx.set(dut.o.ready, ready)
            _, _, valid, payload, *offered = await ctx.tick().sample(
                dut.o.valid, dut.o.payload, dut.credit.valid, dut.clear.valid)
            waits = {name: waits[name] + (ready and is_offered) if is_offered else 0
                     for (name, is_offered) in zip(waits, offered, strict=True)}
            longest.update({name: max(longest[name], waits[name]) for name in waits})
            if not valid:
                assert held is None, "what was offered is gone"
                continue
            fields = {name: getattr(payload, name) for name, _ in payload.shape()}
            assert held in (None, fields), "what is offered has changed"
            held = None if ready else fields
            if ready:
                kind = {PacketType.CREDIT: "credit", PacketType.CLEAR_TO_SEND: "clear"}[fields.pop("type")]
                number = {"credit": "credit", "clear": "handle"}[kind]
                got[kind].append({"communicator": fields.pop("communicator"), "node": fields.pop("node"),
                                  {"credit": "count", "clear": "handle"}[kind]: fields.pop(number)})
                assert not any(fields.values()), "more is in the header than there should be"
                waits[kind] = 0

    simulate(dut, offer("credit", random.Random(seed + 1)), offer("clear", random.Random(seed + 2)), take)
    assert got == given
    assert max(longest.values()) <= 4, "one of them does not get its turn"
