# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""RGMII at its three speeds, against models that know what the standard says of pins and edges."""

import random

import pytest

from rackgate.mac.abi import Speed
from rackgate.mac.rgmii import Rgmii
from rackgate.verif.stimulus import simulate
from rackgate_sim.phy import ByteTime, Faults, Phy, from_rgmii, on_the_wire, to_rgmii

#: Of ``eth_tx``: cycles in half a byte time.
HALF = {Speed.MBPS_100: 5, Speed.MBPS_10: 50}


def halves(times, *, rng):
    """Pins in each cycle of the receive clock at 100 or 10 Mb/s: data and control as pairs for both edges."""
    out = []
    for now in times:
        control = now.valid | (now.valid ^ now.error) << 1
        for half in (now.data & 15, now.data >> 4):
            # At the falling edge the data pins may have anything.
            out.append((half | rng.getrandbits(4) << 4, control))
    return out


def bytes_of(seen):
    """Frames in byte times as the MAC sees them: (bytes, whether any was flagged)."""
    out, content, flagged = [], bytearray(), False
    for now in seen:
        if now.valid:
            content.append(now.data)
            flagged |= now.error
        elif content:
            out.append((bytes(content), flagged))
            content, flagged = bytearray(), False
    return out


def receive(pins, *, speed, told=Speed.AUTO, between=(0, 0), settle=8):
    """What comes out of an Rgmii for ``pins``, and the link that it tells."""
    dut, seen, links = Rgmii(), [], []

    async def testbench(ctx):
        ctx.set(dut.gmii.speed, speed)
        for data, control in [between] * settle + pins + [between] * settle:
            ctx.set(dut.rx_data.as_value(), data)
            ctx.set(dut.rx_control.as_value(), control)
            _, _, byte, valid, error, strobe = await ctx.tick("eth_rx").sample(
                dut.gmii.rx_data, dut.gmii.rx_valid, dut.gmii.rx_error, dut.gmii.rx_strobe)
            if strobe:
                seen.append(ByteTime(byte, bool(valid), bool(error)))
        links.append(ctx.get(dut.gmii.link))

    simulate(dut, testbench, clocks={"eth_rx": 1.0, "eth_tx": 1.0})
    return bytes_of(seen), links[0]


@pytest.mark.parametrize("speed", [Speed.MBPS_1000, Speed.AUTO])
def test_receive_at_1000(speed, seed):
    rng = random.Random(seed)
    phy = Phy(rng=rng, faults=Faults(flag=0.4), gap=3)
    frames = [rng.randbytes(60) for _ in range(4)]
    for frame in frames:
        phy.send(frame)
    times = []
    while not phy.is_idle:
        times.append(phy.to_mac())
    found, link = receive([to_rgmii(now) for now in times], speed=speed, between=to_rgmii(ByteTime()))
    assert [content for content, _ in found] == [on_the_wire(frame) for frame in frames]
    assert [flagged for _, flagged in found] == [frame in phy.spoiled for frame in frames]
    assert (link.up, link.speed, link.full_duplex) == (1, Speed.MBPS_1000, 1)


@pytest.mark.parametrize("speed,told", [(Speed.MBPS_100, None), (Speed.MBPS_10, None), (Speed.AUTO, Speed.MBPS_100),
                                        (Speed.AUTO, Speed.MBPS_10)])
@pytest.mark.parametrize("skipped,extra", [(0, 0), (3, 0), (4, 1), (14, 0)])
def test_receive_halves(speed, told, skipped, extra, seed):
    """Some halves of the preamble are swallowed, and half a byte comes behind the frame."""
    rng, status = random.Random(seed), (0, 0) if told is None else ((1 | told << 1 | 8) * 0x11, 0)
    whole = on_the_wire(rng.randbytes(60))
    flagged = [ByteTime(byte, True, place == 40) for place, byte in enumerate(whole)]
    pins = halves([ByteTime(byte, True) for byte in whole], rng=rng)[skipped:] + [(0x77, 3)] * extra + [status] * 3
    pins += halves(flagged, rng=rng)
    found, link = receive(pins, speed=speed, between=status, settle=12)
    assert found == [(whole[7:], False), (whole[7:], True)]  # from the start frame delimiter on
    assert link.up == (told is not None)


def test_receive_keeps_1000_while_there_is_no_link(seed):
    """A PHY without in-band status has 0 there."""
    whole = on_the_wire(random.Random(seed).randbytes(60))
    found, link = receive([to_rgmii(ByteTime(byte, True)) for byte in whole], speed=Speed.AUTO)
    assert found == [(whole, False)] and not link.up


def transmit(times, *, speed, cycles):
    """Pins of each cycle of ``eth_tx``: clock, data and control, bits at the rising edge lowest."""
    dut, pins = Rgmii(), []

    async def testbench(ctx):
        ctx.set(dut.gmii.speed, speed)
        for _ in range(cycles):
            pins.append((await ctx.tick("eth_tx").sample(dut.tx_clock.as_value(), dut.tx_data.as_value(),
                                                         dut.tx_control.as_value()))[2:])

    async def mac(ctx):
        await ctx.tick("eth_tx").repeat(20)
        for now in [ByteTime(), *times]:
            ctx.set(dut.gmii.tx_data, now.data)
            ctx.set(dut.gmii.tx_enable, now.valid)
            ctx.set(dut.gmii.tx_error, now.error)
            strobe = False
            while not strobe:
                _, _, strobe = await ctx.tick("eth_tx").sample(dut.gmii.tx_strobe)
        ctx.set(dut.gmii.tx_enable, 0)
        while True:
            await ctx.tick("eth_tx")

    simulate(dut, testbench, models=[mac], clocks={"eth_rx": 1.0, "eth_tx": 1.0}, limit=1_000_000)
    return pins


def test_transmit_at_1000(seed):
    whole = on_the_wire(random.Random(seed).randbytes(60))
    times = [ByteTime(byte, True, place == 30) for place, byte in enumerate(whole)]
    pins = transmit(times, speed=Speed.MBPS_1000, cycles=200)
    assert {clock for clock, *_ in pins[1:]} == {0b01}
    seen = [from_rgmii(data, control) for _, data, control in pins]
    assert bytes_of(seen) == [(whole, True)]
    assert [now.data for now in seen if now.error] == [whole[30]]


@pytest.mark.parametrize("speed", HALF)
def test_transmit_halves(speed, seed):
    """A PHY that looks at the data and "valid" at each rising edge of the clock, and "error" at the falling one."""
    rng, time = random.Random(seed), HALF[speed]
    content = rng.randbytes(20)
    times = [ByteTime(byte, True, place == 7) for place, byte in enumerate(content)]
    pins = transmit(times, speed=speed, cycles=2 * time * 26 + 40)
    levels = [(clock >> half & 1, data >> 4 * half & 15, control >> half & 1)
              for clock, data, control in pins for half in (0, 1)]
    rises = [place for place in range(1, len(levels)) if levels[place][0] and not levels[place - 1][0]]
    falls = [place for place in range(1, len(levels)) if levels[place - 1][0] and not levels[place][0]]
    settled = [place for place in rises if place > 60]
    assert {after - before for before, after in zip(settled, settled[1:], strict=False)} == {2 * time}
    assert {fall - max(rise for rise in rises if rise < fall) for fall in falls if fall > settled[0]} == {time}
    seen = []
    for rise in rises:
        fall = min((place for place in falls if place > rise), default=None)
        if fall is not None and levels[rise][2]:
            seen.append((levels[rise][1], levels[rise][2] != levels[fall][2]))
    assert [low | high << 4 for (low, _), (high, _) in zip(seen[::2], seen[1::2], strict=True)] == list(content)
    assert [place for place, (_, error) in enumerate(seen) if error] == [14, 15]
