# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The parts of the NIC's front by themselves: sums and profiles."""

import random

import pytest
from zeronic_frames import tcp_frame, udp_frame

from rackgate.net.frames import internet_checksum
from rackgate.verif.stimulus import simulate
from rackgate.zeronic.messages import TCP_PROFILE, Profile
from rackgate.zeronic.rx.fields import FrameFields
from rackgate.zeronic.rx.profiles import ProfileTable
from rackgate.zeronic.rx.sums import FrameSums, header_beats


@pytest.mark.parametrize("part", [FrameFields, FrameSums, ProfileTable])
@pytest.mark.parametrize("width,error", [(4, ValueError), (64, ValueError), ("8", TypeError)])
def test_parameters(part, width, error):
    with pytest.raises(error):
        part(width)


def beats(frame, width):
    """Words and their numbers."""
    for number, at in enumerate(range(0, len(frame), width)):
        yield {"data": int.from_bytes(frame[at:at + width], "little"), "beat": min(number, header_beats(width)),
               "last": at + width >= len(frame)}


@pytest.mark.parametrize("width", [8, 16, 32])
def test_sums(width, seed):
    """Right and wrong checksums, bytes behind IPv4's end, frames back to back; each answer after the same time."""
    rng, dut, frames = random.Random(seed), FrameSums(width), []
    for _ in range(60):
        frame = bytearray(tcp_frame(rng, rng.randbytes(rng.randrange(50))) + rng.randbytes(rng.choice((0, 0, 3, 40))))
        if rng.random() < 0.5:
            frame[rng.randrange(14, len(frame))] ^= rng.randrange(1, 256)
        frame[16:18] = (len(frame) - 14 - rng.randrange(4)).to_bytes(2, "big")
        if rng.random() < 0.5:  # right for the length that it has now
            frame[24:26] = b"\0\0"
            frame[24:26] = internet_checksum(bytes(frame[14:34])).to_bytes(2, "big")
        body = 14 + int.from_bytes(frame[16:18], "big")
        if rng.random() < 0.5:
            frame[50:52] = b"\0\0"
            frame[50:52] = internet_checksum(pseudo(frame, body)).to_bytes(2, "big")
        frames.append((bytes(frame), body))
    wanted = [(not internet_checksum(frame[14:34]), not internet_checksum(pseudo(frame, end))) for frame, end in frames]
    got, ends, came = [], [], []

    async def bench(ctx):
        words = [(word, end - at * width) for frame, end in frames for at, word in enumerate(beats(frame, width))]
        for cycle in range(len(words) + 20):
            ctx.set(dut.i.valid, cycle < len(words))
            if cycle < len(words):
                word, left = words[cycle]
                ctx.set(dut.i.payload, {**word, "below": (1 << max(min(left, width), 0)) - 1})
                if word["last"]:
                    ends.append(cycle)
            _, _, valid, answer = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                got.append((bool(answer.header), bool(answer.transport)))
                came.append(cycle)

    simulate(dut, bench)
    assert got == wanted and len(set(wanted)) == 4
    assert {after - before for before, after in zip(ends, came, strict=True)} == {dut.latency}


def pseudo(frame, end):
    """What a transport's checksum covers."""
    return bytes(frame[26:34]) + bytes((0, frame[23])) + (end - 34).to_bytes(2, "big") + bytes(frame[34:end])


@pytest.mark.parametrize("width", [8, 16, 32])
def test_profiles(width, seed):
    """The lowest that matches is chosen 2 cycles after the word with the port, and what it says."""
    rng, dut = random.Random(seed), ProfileTable(width)
    profiles = [TCP_PROFILE, *(TCP_PROFILE._replace(profile=k, protocol=0) for k in (1, 2, 3))]

    async def bench(ctx):
        hits = 0
        for _ in range(150):
            if rng.random() < 0.3:
                new = Profile(rng.randrange(4), rng.choice((0, 6, 17)), rng.randrange(3), 2 * rng.randrange(30),
                              rng.choice((0, 24, 60)), rng.randrange(4), rng.choice((0, 1, 3, 0xFFFF)))
                profiles[new.profile] = new
                ctx.set(dut.update.payload, new._asdict())
                ctx.set(dut.update.valid, 1)
                await ctx.tick()
                ctx.set(dut.update.valid, 0)
            port, make = rng.randrange(1, 5), rng.choice((tcp_frame, udp_frame))
            frame = make(rng, bytes(30), dport=port) if make is tcp_frame else make(rng, bytes(30), port)
            for word in beats(frame[:38], width):
                ctx.set(dut.i.payload, {name: word[name] for name in ("data", "beat")})
                ctx.set(dut.i.valid, 1)
                await ctx.tick()
            ctx.set(dut.i.valid, 0)
            await ctx.tick()
            found = [one for one in profiles if one.protocol and one.protocol == frame[23]
                     and not (port ^ one.port) & one.mask]
            chosen = ctx.get(dut.chosen)
            assert chosen.any == bool(found)
            if found:
                first, hits = found[0], hits + 1
                assert (chosen.number, chosen.size, chosen.least) == (first.profile, first.size, first.position + 4)
                assert (chosen.is_tcp, chosen.has_sum, chosen.is_udp) == (
                    first.size == 0, first.checksum != 0, first.checksum == 2)
                assert (2 * chosen.high, 2 * chosen.low) == (34 + first.position, 36 + first.position)
        assert 20 < hits < 150

    simulate(dut, bench)
