# SPDX-License-Identifier: Apache-2.0
"""Streams through two models of the NIC and a bad wire come out exactly, by the rule of version tags."""

import random

import pytest
from zeronic_nic import Nic
from zeronic_packets import TIMESTAMPS, Tcp
from zeronic_transport import StreamReceiver, StreamSender, Wire

from rackgate.zeronic.messages import FlowFlag


def carry(seed, size, rate, flags=FlowFlag.RECEIVE, liar=0.0):
    """A stream from one NIC to another; the receiver at its end.

    ``liar``: probability that a frame of the right flow with other bytes comes along, which the transport refuses.
    """
    draw = random.Random(seed)
    begin = draw.choice((0, (1 << 32) - size // 2, draw.randrange(1 << 32)))
    data = draw.randbytes(size)
    base = Tcp(options=TIMESTAMPS, sport=draw.randrange(1, 60000))
    near, far = Nic(), Nic()
    far.write("COALESCE_CYCLES", 300)
    sender = StreamSender(near, data, base, begin, draw)
    receiver = StreamReceiver(far, base, begin, draw, flags)
    there, back = Wire(draw, rate), Wire(draw, rate)
    for _ in range(2000):
        receiver.post()
        frames = there.carry(sender.send())
        if draw.random() < liar:
            offset = max(0, receiver.expected + draw.randrange(-500, 3000))
            lie = base.but(seq=begin + offset, payload=draw.randbytes(draw.randrange(1, 1400)))
            receiver.overhear(lie.frame())
        sender.hear(back.carry(receiver.hear(frames)))
        receiver.read()
        if len(receiver.content) == size:
            break
    assert receiver.content == data, f"{len(receiver.content)} of {size} bytes"
    return receiver


@pytest.mark.parametrize("flags", [FlowFlag.RECEIVE, FlowFlag.RECEIVE | FlowFlag.COALESCE], ids=["each", "merged"])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.2])
def test_a_stream_over_a_bad_wire(seed, rate, flags):
    assert carry(f"{seed}/{rate}/{flags}", 40_000, rate, flags).copied < 40_000


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_a_stream_among_lies(seed, rate):
    """Frames with other bytes, before and after the true ones: the transport refuses them, the NIC cannot."""
    assert carry(f"{seed}/{rate}", 30_000, rate, liar=0.5).copied


@pytest.mark.soak
def test_many_streams(seed):
    for run in range(60):
        carry(f"{seed}/{run}", 100_000, (run % 7) / 20, FlowFlag(1 | 4 * (run % 2)), liar=(run % 3) / 3)
