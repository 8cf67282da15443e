# SPDX-License-Identifier: Apache-2.0
"""The gateware's checks of descriptors against the model's."""

import random
from dataclasses import replace

import pytest
from amaranth.sim import Simulator

from rackgate.iaa.abi import Descriptor, Flag, Opcode, Status
from rackgate.iaa.aecs import AECS_SIZE, saved_size
from rackgate.iaa.check import DescriptorChecker
from rackgate_sim.iaa.model import Rules, check

ASKED = Flag.COMPLETION_ADDRESS_VALID | Flag.REQUEST_COMPLETION
GOOD = {
    Opcode.NOOP: Descriptor(Opcode.NOOP, ASKED, 64),
    Opcode.DRAIN: Descriptor(Opcode.DRAIN, ASKED, 64),
    Opcode.DECOMPRESS: Descriptor(Opcode.DECOMPRESS, ASKED, 64, 0x10000, 0x20000, 100, 0, 0x1D, destination_size=4096),
    Opcode.CRC64: Descriptor(Opcode.CRC64, ASKED, 64, 0x10000, 0, 100, filter_flags=1),
    Opcode.LIST: Descriptor(Opcode.LIST, ASKED, 64, 0x10000, 0, 128),
    Opcode.FILL: Descriptor(Opcode.FILL, ASKED, 64, 0, 0x20000, source2=5, destination_size=100),
}
WITH_AECS = replace(GOOD[Opcode.DECOMPRESS], flags=ASKED | Flag.READ_SOURCE2_AECS, source2=0x1000,
                    source2_size=AECS_SIZE)
WRITES_AECS = replace(GOOD[Opcode.DECOMPRESS], flags=ASKED | Flag.READ_SOURCE2_AECS | Flag.WRITE_SOURCE2_ALWAYS,
                      source2=0x100000, source2_size=saved_size(32768))


def verdicts(cases):
    """The checker's (status, invalid flags) for each (descriptor, rules)."""
    dut, found = DescriptorChecker(), []

    async def bench(ctx):
        for descriptor, rules in cases:
            ctx.set(dut.i.descriptor.as_value(), int.from_bytes(descriptor.pack(), "little"))
            ctx.set(dut.i.max_transfer_shift, rules.max_transfer_shift)
            ctx.set(dut.i.space.block, rules.may_block)
            ctx.set(dut.i.listed, rules.within_list)
            ctx.set(dut.i.space.translate, rules.has_pasid)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await ctx.tick().until(dut.done)
            found.append((ctx.get(dut.o.status), ctx.get(dut.o.invalid)))

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def compare(cases):
    for (descriptor, rules), found in zip(cases, verdicts(cases), strict=True):
        refusal = check(descriptor, rules)
        expected = (Status.IN_PROGRESS, 0) if refusal is None else (refusal.status, refusal.invalid_flags)
        assert found == expected, (descriptor, rules)


def turned(good, bits):
    """A good descriptor, and with each of ``bits`` turned over."""
    raw = int.from_bytes(good.pack(), "little")
    compare([(good, Rules())] + [(Descriptor.unpack((raw ^ 1 << bit).to_bytes(64, "little")), Rules()) for bit in bits])


KINDS = pytest.mark.parametrize("good", [*GOOD.values(), WITH_AECS, WRITES_AECS],
                                ids=[*(opcode.name for opcode in GOOD), "AECS", "WRITES"])
FLAGS = {*range(32, 56), *range(304, 320)}


@KINDS
def test_bits(good, seed):
    """Each flag, and one in eight of the other bits."""
    turned(good, sorted(FLAGS | set(random.Random(seed).sample(range(512), 64))))


@pytest.mark.soak
@KINDS
def test_every_bit(good):
    turned(good, range(512))


def test_random_descriptors(seed):
    rng = random.Random(seed)
    cases = []
    for _ in range(400):
        good = rng.choice([*GOOD.values(), WITH_AECS, WRITES_AECS, WRITES_AECS])
        changed = {name: value for name, value in (
            ("flags", rng.getrandbits(24)), ("flags", ASKED | Flag.BLOCK_ON_FAULT | Flag.REQUEST_INTERRUPT),
            ("operation_flags", rng.getrandbits(16)), ("source_size", rng.choice([0, 1, 4096, 4097, 1 << 31])),
            ("destination_size", rng.choice([0, 1, 4096, 4097])), ("source", rng.getrandbits(rng.choice([20, 48, 64]))),
            ("destination", 0x10000 + rng.randrange(-4200, 4200)), ("destination", rng.getrandbits(64)),
            ("source2", 0x20000 + 32 * rng.randrange(-50, 140)), ("source2", 0x10000 - 32 * rng.randrange(2000)),
            ("source2", (1 << 48) - 32 * rng.randrange(60)),
            ("interrupt_handle", rng.randrange(2)), ("pasid_priv", 1 << rng.randrange(32)),
            ("completion", rng.randrange(256)), ("opcode", rng.randrange(256)),
        ) if rng.random() < 0.15}
        cases.append((replace(good, **changed), Rules(32768, rng.choice([12, 21, 31]), rng.random() < 0.7,
                                                      rng.random() < 0.2, rng.random() < 0.5)))
    compare(cases)
