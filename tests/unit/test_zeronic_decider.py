# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a frame: its headers' answer meets its end."""

import random

import pytest
from iaa_stage import Stage

from rackgate.verif.stimulus import receive, send
from rackgate.zeronic.rx.decider import Decider

STAGE = Stage(Decider, ("guard", "order", "o"))


@pytest.mark.parametrize("idle,stall", [(0, 0), (0.3, 0.4)])
def test_dropped_frames_leave_nothing(idle, stall, seed):
    """Of a frame that is dropped the guard is not asked, its pieces go by an empty order, and nobody hears of it."""
    rng, count = random.Random(seed), 120
    items = []
    for number in range(count):
        is_fence, asks, keep = rng.random() < 0.1, rng.random() < 0.7, rng.random() < 0.6
        items.append({"is_fence": is_fence, "asks": asks and not is_fence, "keep": keep or is_fence, "number": number})
    frames = [item for item in items if not item["is_fence"]]
    asked = [item for item in frames if item["asks"]]
    granted = [item for item in asked if item["keep"]]
    kept = [item for item in items if item["keep"]]
    unknown, seen = [0], {}

    def question(item):
        frame = {"has_flow": 1, "split": item["asks"], "flow": item["number"], "payload": 100, "position": 7}
        return {"what": {"is_fence": item["is_fence"], "cookie": item["number"], "frame": frame}, "asks": item["asks"],
                "deferred": not item["asks"]}

    def ending(item):
        return {"keep": item["keep"], "word": item["number"], "length": 1000 + item["number"]}

    def scene(dut):
        streams = [
            (dut.i, [question(item) for item in items]),
            (dut.covered, [{"covered": item["number"]} for item in asked]),
            (dut.endings, [ending(item) for item in frames]),
            (dut.judged, [{"position": 7, "size": item["number"] % 50, "whole": 1} for item in granted]),
        ]

        def sender(number, port, payloads):
            async def run(ctx):
                await send(ctx, port, payloads, rng=random.Random(seed + number), idle=idle)
            return run

        def taker(number, name, total):
            async def run(ctx):
                seen[name] = await receive(ctx, getattr(dut, name), total, rng=random.Random(-seed - number),
                                           stall=stall)
            return run

        async def watcher(ctx):
            while True:
                _, _, pulse = await ctx.tick().sample(dut.unknown_flow)
                unknown[0] += pulse

        sinks = {"guard": len(granted), "order": len(asked), "o": len(kept)}
        return ([sender(number, *one) for number, one in enumerate(streams)]
                + [taker(number, *one) for number, one in enumerate(sinks.items())]), [watcher]

    STAGE.run(scene, limit=8000)
    assert [one.flow for one in seen["guard"]] == [item["number"] for item in granted]
    assert [one.covered_size for one in seen["guard"]] == [item["number"] for item in granted]
    assert [one.size for one in seen["order"]] == [item["number"] % 50 if item["keep"] else 0 for item in asked]
    for one, item in zip(seen["o"], kept, strict=True):
        assert one.is_fence == item["is_fence"]
        if item["is_fence"]:
            assert one.position == item["number"]
        else:
            assert (one.word, one.length, one.flow) == (item["number"], 1000 + item["number"], item["number"])
            assert one.placed == (item["number"] % 50 if item["asks"] else 0)
    assert unknown[0] == sum(item["keep"] and not item["asks"] for item in frames)
    assert 0 < len(granted) < len(asked) and len(kept) < count
