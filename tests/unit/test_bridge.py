# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The bridge against its golden model."""

import random

import pytest
from bridge_rig import IDENTITY, MEMORY_SIZE, Rig, open_message, request
from bridge_traffic import Host

from rackgate.bridge import operations
from rackgate.bridge.abi import MEMORY_BASE, Kind, Message, Status, Terms, unpack_message
from rackgate.bridge.operations import Opcode, Result


def results(raw):
    return operations.unpack_results(unpack_message(raw).body)


def test_conversation():
    """A session as a host has one, with every operation."""
    messages = [
        open_message(0xABCD),
        request(0xABCD, 0, operations.write_memory(MEMORY_BASE + 5, b"hello, bridge")),
        request(0xABCD, 1, operations.read(Opcode.READ_MEMORY, MEMORY_BASE, 6),
                operations.write(0x20, b"\1\2\3\4\5\6\7\x08"), operations.read(Opcode.READ_REGISTERS, 0x20, 2)),
        request(0xABCD, 2, operations.read(Opcode.READ_IDENTITY, 0, len(IDENTITY.pack()) // 4)),
        request(0xABCD, 3, operations.read(Opcode.READ_STATUS, 0)),
        request(0xABCD, 4),
    ]
    rig = Rig(1)

    async def bench(ctx):
        for raw in messages:
            await rig.give(ctx, raw)

    rig.run(bench)
    opened = unpack_message(rig.answers[0])
    assert opened.kind == Kind.OPENED and Terms.unpack(opened.body).memory_size == MEMORY_SIZE
    assert results(rig.answers[1]) == [Result(Opcode.WRITE_MEMORY, Status.OK)]
    assert results(rig.answers[2])[0].data[5:18] == b"hello, bridge"
    assert results(rig.answers[3])[0].data == IDENTITY.pack()
    assert results(rig.answers[4])[0].data == b"\1\0\0\0"
    assert unpack_message(rig.answers[5]) == Message(Kind.RESPONSE, 0xABCD, 4)
    rig.check(messages)


@pytest.mark.thorough
@pytest.mark.parametrize("stall,window,most,count", [(0, 8, 8, 120), (0.3, 2, 8, 60), (0.2, 8, 180, 20)])
def test_traffic(stall, window, most, count, seed):
    """Whatever comes, in whatever order: what is executed, and how often, is what the golden bridge executes."""
    run_traffic(seed, stall=stall, window=window, most=most, count=count)


def run_traffic(seed, *, stall, window, most, count):
    print(f"seed {seed}")
    host = Host(random.Random(seed), most)
    messages = [host.next() for _ in range(count)]
    rig = Rig(seed, stall=stall, window=window)

    async def bench(ctx):
        for raw in messages:
            await rig.give(ctx, raw)

    rig.run(bench)
    rig.check(messages)
