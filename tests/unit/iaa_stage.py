# SPDX-License-Identifier: Apache-2.0
"""A block on a stage: elaborated once for all tests of a module, its outputs held to the rules of streams."""

from amaranth.hdl import Module
from amaranth.sim import Simulator

from rackgate.verif.stimulus import PERIOD
from rackgate.verif.stream_rules import watch

__all__ = ["Stage"]

_PLAYERS = 16


class Stage:
    """Runs coroutines on a block made by ``make``, each time from reset.

    ``outputs`` names the streams that the block drives. A stage on which something went wrong is built anew.
    """

    def __init__(self, make, outputs):
        self._make, self._outputs, self._simulator = make, outputs, None
        self.dut = None

    def _build(self):
        self.dut = self._make()
        m = Module()
        m.submodules.dut = self.dut
        for name in self._outputs:
            watch(m, getattr(self.dut, name), name=name)
        self._simulator = Simulator(m)
        self._simulator.add_clock(PERIOD)
        self._players = [None] * _PLAYERS
        for number in range(_PLAYERS):
            self._seat(number)

    async def _independent(self, ctx):
        """In some cycles, at the clock's falling edge, turn ``ready`` over for a moment: ``valid`` must not follow."""
        streams = [getattr(self.dut, name) for name in self._outputs]
        while True:
            await ctx.delay(5 * PERIOD)
            for source in streams:
                ready, valid = ctx.get(source.ready), ctx.get(source.valid)
                ctx.set(source.ready, not ready)
                assert ctx.get(source.valid) == valid, "valid depends on ready"
                ctx.set(source.ready, ready)

    def _seat(self, number):
        async def play(ctx):
            if self._players[number] is not None:
                await self._players[number](ctx)

        # The upper half are models: they may go on for ever.
        self._simulator.add_testbench(play, background=number >= _PLAYERS // 2)

    def run(self, scene, *, limit=100_000):
        """``scene(dut)`` gives the testbenches and the models; run until all testbenches have ended."""
        if self._simulator is None:
            self._build()
        else:
            self._simulator.reset()
        simulator, self._simulator = self._simulator, None
        benches, models = scene(self.dut)

        async def watchdog(ctx):
            await ctx.delay(limit * PERIOD)
            raise TimeoutError(f"the testbenches have not ended after {limit} cycles")

        half = _PLAYERS // 2
        benches, models = list(benches), [*models, watchdog, self._independent]
        assert len(benches) <= half and len(models) <= half
        self._players[:] = (benches + [None] * half)[:half] + (models + [None] * half)[:half]
        simulator.run()
        self._simulator = simulator
