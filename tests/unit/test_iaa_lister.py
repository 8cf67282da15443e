# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The lister against lists in a memory that stalls and fails, and lanes in software."""

import random

import pytest
from iaa_stage import Stage

from rackgate.iaa.abi import DESCRIPTOR_SIZE, Descriptor
from rackgate.iaa.lister import Lister
from rackgate.verif.stimulus import AXI4Memory, send

BASE, SIZE, LANES = 0x40000, 0x4000, 3
STAGE = Stage(lambda: Lister(lanes=LANES), ["o", "o_result", "ar"])
SPACE = {"translate": 1, "block": 1, "table": 0x1234, "queue": 5}
SHIFT = 13


def carry_out(lists, *, seed, stall=0.0, bad=(), fails=0.0, hold=8):
    """Carry out lists (offset, descriptors). Of each (descriptors handed out, failed, its result), and the memory."""
    rng = random.Random(seed)
    raw = bytearray(rng.randbytes(SIZE))
    for offset, descriptors in lists:
        raw[offset:offset + DESCRIPTOR_SIZE * len(descriptors)] = b"".join(one.pack() for one in descriptors)
    memory = AXI4Memory(raw, base=BASE, rng=random.Random(seed + 1) if stall else None, stall=stall, bad=bad)
    handed, failed, results, spaces = [[]], [0], [], []
    pending = []  # cycle in which a descriptor may retire

    def scene(dut):
        async def give(ctx):
            await send(ctx, dut.i, [{"address": BASE + offset, "size": DESCRIPTOR_SIZE * len(descriptors),
                                     "space": SPACE, "max_transfer_shift": SHIFT} for offset, descriptors in lists],
                       rng=rng, idle=stall)

        async def lanes(ctx):
            cycle, last = 0, -100
            while True:
                cycle += 1
                ready = rng.random() >= stall
                ctx.set(dut.o.ready, ready)
                # Several may retire at once, also in the cycle in which another is handed out.
                due = [end for end in pending if end <= cycle][:rng.randrange(LANES + 1)]
                ends = rng.sample(range(LANES), len(due))
                for end in due:
                    pending.remove(end)
                broken = [lane for lane in ends if rng.random() < fails]
                failed[-1] += len(broken)
                ctx.set(dut.retired, sum(1 << lane for lane in ends))
                ctx.set(dut.succeeded, rng.getrandbits(LANES) & ~sum(1 << lane for lane in ends)
                        | sum(1 << lane for lane in set(ends) - set(broken)))
                _, _, valid, work = await ctx.tick().sample(dut.o.valid, dut.o.payload)
                if valid and ready:
                    raw_descriptor = work.descriptor.as_bits().to_bytes(64, "little")
                    handed[-1].append(Descriptor.unpack(raw_descriptor))
                    assert (work.listed, work.aborted, work.max_transfer_shift) == (1, 0, SHIFT)
                    spaces.append(work.space)
                    assert cycle - last >= 9
                    last = cycle
                    pending.append(cycle + 1 + rng.randrange(hold))

        async def take(ctx):
            while len(results) < len(lists):
                ready = rng.random() >= stall
                ctx.set(dut.o_result.ready, ready)
                space = ctx.get(dut.space.as_value())
                _, _, valid, result = await ctx.tick().sample(dut.o_result.valid, dut.o_result.payload)
                if valid:
                    assert not pending, "a list has ended before its descriptors"
                    assert space == dut.space.shape().const(SPACE).as_bits()
                if valid and ready:
                    results.append(result)
                    handed.append([])
                    failed.append(0)
            for _ in range(30):
                await ctx.tick()
                assert not ctx.get(dut.o_result.valid) and not ctx.get(dut.o.valid)

        return [give, take], [memory.reader(dut.ar, dut.r), lanes]

    STAGE.run(scene)
    expected = STAGE.dut.space.shape().const(SPACE).as_bits()
    assert all(space.as_bits() == expected for space in spaces)
    return list(zip(handed, failed, results, strict=False)), memory


def descriptors_of(rng, count):
    return [Descriptor.unpack(rng.randbytes(DESCRIPTOR_SIZE)) for _ in range(count)]


@pytest.mark.parametrize("stall", [0, 0.5])
@pytest.mark.parametrize("fails", [0, 0.1])
def test_lists(seed, stall, fails):
    """Every descriptor once and in order, nothing read beside the list, the result after all have retired."""
    rng = random.Random(f"{seed} {stall} {fails}")
    lists, place = [], 0
    for count in (1, 9, 2, 3, 64, 5):
        place += DESCRIPTOR_SIZE * rng.randrange(4)
        lists.append((place, descriptors_of(rng, count)))
        place += DESCRIPTOR_SIZE * count
    done, memory = carry_out(lists, seed=seed, stall=stall, fails=fails, hold=rng.choice([1, 40]))
    for (_, descriptors), (handed, failed, result) in zip(lists, done, strict=True):
        assert handed == descriptors
        assert (result.count, result.member_failed, result.failed) == (len(descriptors), failed > 0, 0)
    assert [address + 8 * beat for _, address, beats in memory.reads for beat in range(beats)] == [
        BASE + offset + at for offset, descriptors in lists for at in range(0, DESCRIPTOR_SIZE * len(descriptors), 8)]
    assert fails == 0 or any(result.member_failed for _, _, result in done)


@pytest.mark.parametrize("word", range(24))
@pytest.mark.parametrize("stall", [0, 0.4])
def test_error_at_a_word(seed, word, stall):
    """The descriptors before it are carried out, it and those behind it are not; the next list is whole."""
    rng = random.Random(seed)
    lists = [(64, descriptors_of(rng, 3)), (64 * 8, descriptors_of(rng, 2))]
    done, _ = carry_out(lists, seed=seed, stall=stall, bad=[BASE + 64 + 8 * word + rng.randrange(8)])
    (handed, _, result), (others, _, other) = done
    assert handed == lists[0][1][:word // 8]
    assert (result.count, result.failed) == (word // 8, 1)
    assert others == lists[1][1] and (other.count, other.failed) == (2, 0)


def test_no_result_before_the_last_retires(seed):
    """However long that takes."""
    done, _ = carry_out([(0, descriptors_of(random.Random(seed), 2))], seed=seed, hold=2000)
    assert done[0][2].count == 2


def test_a_descriptor_that_was_not_handed_out():
    def scene(dut):
        async def play(ctx):
            ctx.set(dut.retired, 1)
            for _ in range(3):
                await ctx.tick()

        return [play], []

    with pytest.raises(AssertionError, match="retires that was not handed out"):
        STAGE.run(scene)


def test_bad_lanes():
    with pytest.raises(ValueError, match="lanes must be at least 1, not 0"):
        Lister(lanes=0)
