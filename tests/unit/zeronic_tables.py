# SPDX-License-Identifier: Apache-2.0
"""Lookups and updates of a table, in any order, against what a model says of each."""

from collections import deque

__all__ = ["DEPTHS", "Bench", "random_key"]

#: Bits of a key's fields.
DEPTHS = {"source": 32, "destination": 32, "source_port": 16, "destination_port": 16, "profile": 2}


def random_key(rng):
    """Any key."""
    return {name: rng.getrandbits(size) for name, size in DEPTHS.items()}


class Bench:
    """Drive a table with streams ``i``, ``o``, ``update`` and a signal ``ready``.

    ``lookup(number)`` makes an input, ``expected(input)`` says what comes out (only the fields named are compared), at
    the time the input is taken; ``update()`` makes an update, ``apply(update)`` does it in the model when it is taken.
    """

    def __init__(self, dut, rng, *, count, lookup, expected, update=lambda: None,
                 apply=lambda item: None):
        self.dut, self.rng, self.count = dut, rng, count
        self.lookup, self.expected, self.update, self.apply = lookup, expected, update, apply
        self.wanted, self.taken, self.came = [], [], []
        self.cleared = 0
        self.updated = 0

    def run(self, *, idle, stall, updates, first=0):
        """The testbench. ``updates``: probability a cycle that there is one, until ``first`` have been made alone."""
        async def bench(ctx):
            dut, rng, now, got = self.dut, self.rng, 0, deque()
            offer = change = None
            while len(self.came) < self.count:
                if not ctx.get(dut.ready):
                    self.cleared += 1
                    assert not ctx.get(dut.i.ready) and not ctx.get(dut.update.ready)
                if change is None and rng.random() < updates and (not first or self.updated < first):
                    change = self.update()
                    ctx.set(dut.update.payload, change)
                alone = self.updated < first
                if offer is None and len(self.taken) < self.count and not alone and rng.random() >= idle:
                    offer = self.lookup(len(self.taken))
                    ctx.set(dut.i.payload, offer)
                ready = rng.random() >= stall
                ctx.set(dut.i.valid, offer is not None)
                ctx.set(dut.update.valid, change is not None)
                ctx.set(dut.o.ready, ready)
                _, _, takes, updated, valid, payload = await ctx.tick().sample(
                    dut.i.ready, dut.update.ready, dut.o.valid, dut.o.payload)
                if offer is not None and takes:
                    one = self.expected(offer)
                    self.wanted.append(one)
                    got.append(one)
                    self.taken.append(now)
                    offer = None
                if change is not None and updated:
                    self.apply(change)
                    self.updated += 1
                    change = None
                if valid and ready:
                    self.came.append(now)
                    for name, value in got.popleft().items():
                        assert payload[name] == value, (len(self.came), name)
                now += 1
            ctx.set(dut.o.ready, 1)
            for _ in range(8):
                assert not ctx.get(dut.o.valid), "more came out than went in"
                await ctx.tick()
        return bench

    def latency(self):
        """Cycles of the first lookup, and from the first result to the last; all the same, or it fails."""
        each = {came - taken for taken, came in zip(self.taken, self.came, strict=True)}
        assert len(each) == 1, each
        return each.pop(), self.came[-1] - self.came[0] + 1
