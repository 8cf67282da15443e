# SPDX-License-Identifier: Apache-2.0
"""How fast this way of simulating is: cycles a second of the inflate device, idle and at work."""

import time

import cocotb
from cocotb.triggers import ClockCycles, Timer

from rackgate.inflate.abi import Format, Status

from . import session
from .inflate_host import PERIOD_NS, Bench, compress, text


@cocotb.test()
async def speed(dut):
    """Reports cycles per second of wall and (``_cpu``) of processor time.

    ``clock``: Python sleeps. ``idle``: it counts each cycle. ``busy``: a job runs, on the bus models.
    """
    cycles = session.options().get("cycles", 20_000)
    bench = await Bench.start(dut, "speed")
    await bench.set_up()
    for name, wait in (("clock", Timer(cycles * PERIOD_NS, "ns")), ("idle", ClockCycles(dut.clk, cycles))):
        wall, cpu = time.perf_counter(), time.process_time()
        await wait
        session.report(**{name: cycles / (time.perf_counter() - wall),
                          f"{name}_cpu": cycles / (time.process_time() - cpu)})
    data = text(bench.rng, session.options().get("bytes", 20_000))
    destination = bench.allocate(len(data))
    source = bench.source(compress(data, Format.GZIP, "dynamic"))
    before, wall, cpu = await bench.now(), time.perf_counter(), time.process_time()
    await bench.submit(source, (destination, len(data)), form=Format.GZIP, context=0)
    (record,) = await bench.results()
    worked = await bench.now() - before
    session.report(busy=worked / (time.perf_counter() - wall), busy_cpu=worked / (time.process_time() - cpu),
                   busy_cycles=worked)
    assert record.status == Status.SUCCESS and bench.get(destination, len(data)) == data
    await bench.finish()
