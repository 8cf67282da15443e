# SPDX-License-Identifier: Apache-2.0
"""Switches as devices, verilated: frames against the model, and against Scapy."""

import functools
import random
from itertools import pairwise

import pytest
from pisa_example import BALANCER
from pisa_tags import fill_tables, packet, tags
from test_pisa_model import datagram
from test_pisa_rim import mutated, random_frames

from rackgate.pisa.abi import COUNTERS, switch_registers
from rackgate.pisa.switch import Switch
from rackgate_host import Device
from rackgate_host import switch as host
from rackgate_host.devices import DeviceType
from rackgate_host.transport import SharedMemory
from rackgate_host.transport.sim import SimTransport
from rackgate_sim.native import Simulation, build
from rackgate_sim.pisa.model import PipelineModel

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("switch")]

KIND = DeviceType("switch", switch_registers("PISA"), (), frozenset(), has_memory=False)


@functools.cache
def library(pipeline, width, **parameters):
    """A switch as a library; its Verilog is written once in a process."""
    return build(Switch(pipeline, width, **parameters), name=f"switch_{pipeline.name}_{width}", variant="brief")


def opened(pipeline, width, *, seed=0, stall=0.0, **parameters):
    """A simulated switch: its driver and its simulation."""
    simulation = Simulation(library(pipeline, width, **parameters), seed=seed)
    for name in ("net_rx", "net_tx"):
        simulation.stream(name).stall(stall)
    return host.Switch(Device(SimTransport(simulation, SharedMemory(None)), KIND, "sim:switch"), pipeline), simulation


class ModelSwitch:
    """A model that is filled as a switch is."""

    def __init__(self, model):
        self.model = model

    def insert(self, table, key, action, **arguments):
        self.model.tables[table].insert(key, action, **arguments)


def expected(model, frames):
    """Frames that the model sends, and its counters."""
    out, counters = [], dict.fromkeys(map(str.lower, COUNTERS), 0)
    for frame, is_damaged in frames:
        found = model.parse(frame, is_damaged=is_damaged)
        counters["received"] += 1
        if found is not None:
            counters["accepted"] += 1
            out += [sent for _, sent in model.step(found)[0]]
    counters |= {f"rejected_{cause.name.lower()}": count for cause, count in model.rejections.items()}
    return out, counters | {"sent": len(out), "dropped": model.dropped}


def compare(pipeline, width, frames, *, seed, stall=0.0, fill=None, slots=8, slot_size=2048):
    """Send frames through a switch and its model, which must agree in what comes out, counters and registers."""
    print(f"seed {seed}")
    switch, simulation = opened(pipeline, width, seed=seed, stall=stall, slots=slots, slot_size=slot_size)
    model = PipelineModel(pipeline, slot_size=slot_size)
    if fill:
        fill(switch, random.Random(seed))
        fill(ModelSwitch(model), random.Random(seed))
    want, counters = expected(model, frames)
    words = 0
    for frame, is_damaged in frames:
        simulation.stream("net_rx").push(frame, error=is_damaged)
        words += len(frame) // width + 2
    before = simulation.cycle
    switch.device.wait(lambda _: switch.counters()["received"] == len(frames) and bool(switch.device.regs.STATUS.idle),
                       cycles=int(8 * words / (1 - stall) ** 2) + 10_000)
    cycles = simulation.cycle - before
    assert [bytes(item) for item in simulation.stream("net_tx").pop_all()] == want
    assert switch.counters() == counters
    for register in pipeline.registers:
        for index in range(register.depth):
            assert switch.read(register.name, index) == model.read(register.name, index)
    simulation.close()
    return cycles


@pytest.mark.parametrize("width", [1, 8, 64])
@pytest.mark.parametrize("stall", [0, 0.4])
def test_random_and_mutated_datagrams(width, stall, seed):
    rng = random.Random(f"{seed} {width} {stall}")
    compare(BALANCER, width, random_frames(400, rng), seed=seed, stall=stall)


@pytest.mark.parametrize("width", [1, 8, 64])
def test_every_length(width, seed):
    """Payloads of every length around the widths of words, and up to the largest frame."""
    rng = random.Random(seed)
    lengths = [*range(200), *range(1400, 1480, 7), *range(2048 - 42 - 66, 2048 - 42 + 4), 5000, 66_000]
    frames = [(datagram(rng.getrandbits(32), rng.getrandbits(16), rng.randbytes(length)), False)
              for length in lengths if length <= 5000]
    frames += [(rng.randbytes(length), False) for length in (*range(1, 70), 66_000)]
    rng.shuffle(frames)
    compare(BALANCER, width, frames, seed=seed, stall=0.05, slots=2)


@pytest.mark.parametrize("width", [1, 8, 64])
@pytest.mark.parametrize("length,zero_is_none", [(True, True), (False, False)])
def test_odd_headers_that_come_and_go(width, length, zero_is_none, seed):
    rng = random.Random(f"{seed} {width} {length}")
    pipeline = tags(length, zero_is_none)
    model = PipelineModel(pipeline)
    frames = []
    for _ in range(600):
        frame = packet(model, rng)
        frames.append((mutated(frame, rng) if rng.random() < 0.2 else frame, rng.random() < 0.02))
    compare(pipeline, width, frames, seed=seed, stall=rng.choice((0, 0.3)), fill=fill_tables)


@pytest.mark.parametrize("width,cycles,slots", [(8, 9, 8), (64, 2, 32)])
def test_a_cycle_a_word_and_one_between_frames(width, cycles, slots, seed):
    """Frames of 64 bytes, back to back: the last words of two that follow each other are so far apart."""
    _, simulation = opened(BALANCER, width, seed=seed, slots=slots, slot_size=2048)
    for number in range(200):
        simulation.stream("net_rx").push(datagram(number, number, bytes(22)))
    simulation.run(200 * cycles + 500)
    ends = [item.cycle for item in simulation.stream("net_tx").pop_all()]
    assert len(ends) == 200
    apart = [after - before for before, after in pairwise(ends)]
    print(apart)
    assert apart[40:] == [cycles] * 159
    simulation.close()
