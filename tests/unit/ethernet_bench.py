# SPDX-License-Identifier: Apache-2.0
"""Frames as words of packet streams, and drivers of a MAC's pins."""

from rackgate.axi.bus import Response
from rackgate_sim.phy import ByteTime


def words(frame, width, *, is_damaged=False):
    """A frame's words as payloads of a packet stream."""
    out = []
    for place in range(0, len(frame), width):
        part = frame[place:place + width]
        last = place + width >= len(frame)
        out.append({"data": int.from_bytes(part, "little"), "count": len(part), "last": last,
                    "error": last and is_damaged})
    return out


class Gathered:
    """Words of a packet stream put together to ``(frame, is_damaged)``; raises if they break a rule of packets."""

    def __init__(self, width):
        self.width, self.frames, self._coming = width, [], bytearray()

    def put(self, word):
        assert 1 <= word.count <= self.width, f"a word of {word.count} bytes"
        assert word.last or word.count == self.width, "a short word within a packet"
        assert word.last or not word.error, "an error within a packet"
        self._coming += (word.data & (1 << 8 * self.width) - 1).to_bytes(self.width, "little")[:word.count]
        if word.last:
            self.frames.append((bytes(self._coming), bool(word.error)))
            self._coming.clear()

    @property
    def is_between(self):
        """No packet has begun."""
        return not self._coming


async def take_all(ctx, source, gathered, *, rng=None, stall=0, domain="sync"):
    """Take what ``source`` offers, for ever: a model. In each cycle it stalls with a probability."""
    while True:
        ready = rng is None or rng.random() >= stall
        ctx.set(source.ready, ready)
        _, _, valid, word = await ctx.tick(domain).sample(source.valid, source.payload)
        if valid and ready:
            gathered.put(word)


async def drive_receive(ctx, pins, phy, *, every=1, domain="eth_rx"):
    """Put what a PHY sends at the pins, for ever: a byte time in every so many cycles."""
    while True:
        now = phy.to_mac()
        ctx.set(pins.rx_data, now.data)
        ctx.set(pins.rx_valid, now.valid)
        ctx.set(pins.rx_error, now.error)
        for cycle in range(every):
            ctx.set(pins.rx_strobe, cycle == every - 1)
            await ctx.tick(domain)


async def drive_transmit(ctx, pins, phy, *, every=1, domain="eth_tx"):
    """Give a PHY what is at the pins, for ever."""
    while True:
        for cycle in range(every):
            ctx.set(pins.tx_strobe, cycle == every - 1)
            _, _, data, enable, error = await ctx.tick(domain).sample(pins.tx_data, pins.tx_enable, pins.tx_error)
        phy.from_mac(ByteTime(data, bool(enable), bool(error)))


async def read_register(ctx, bus, offset):
    """A register that exists, at an AXI4-Lite target."""
    ctx.set(bus.ar.payload.addr, offset)
    ctx.set(bus.ar.valid, 1)
    ctx.set(bus.r.ready, 1)
    await ctx.tick().until(bus.ar.ready)
    ctx.set(bus.ar.valid, 0)
    answer, = await ctx.tick().sample(bus.r.payload).until(bus.r.valid)
    assert answer.resp == Response.OKAY
    return answer.data


async def write_register(ctx, bus, offset, value):
    """Write a register that may be written, at an AXI4-Lite target."""
    ctx.set(bus.aw.payload.addr, offset)
    ctx.set(bus.w.payload, {"data": value, "strb": 0xF})
    ctx.set(bus.aw.valid, 1)
    ctx.set(bus.w.valid, 1)
    ctx.set(bus.b.ready, 1)
    await ctx.tick().until(bus.aw.ready & bus.w.ready)
    ctx.set(bus.aw.valid, 0)
    ctx.set(bus.w.valid, 0)
    answer, = await ctx.tick().sample(bus.b.payload).until(bus.b.valid)
    assert answer.resp == Response.OKAY
