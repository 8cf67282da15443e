# SPDX-License-Identifier: Apache-2.0
"""Commands and entries of the NIC: their bytes are where the docstrings say, and come back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rackgate.csr.map import Access
from rackgate.zeronic.abi import COMMAND_ALIGNMENT, REGISTERS, RINGS, Counter, Direction, Right, before, flow_hash
from rackgate.zeronic.messages import (
    TCP_PROFILE,
    ChecksumKind,
    Command,
    CommandKind,
    Cursor,
    Entry,
    Fence,
    Flow,
    FlowFlag,
    Key,
    Post,
    Profile,
    Region,
    Retire,
    Send,
    SendFlag,
)

U8, U16, U32, U40 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 40))
FLOW = st.integers(0, 1023)


def number(content, first, last):
    """Bytes ``first`` to ``last`` as a number."""
    return int.from_bytes(content[first:last + 1], "little")


def head(content, kind):
    """Check what all commands have in common; the command."""
    command = Command.from_bytes(content)
    assert (content[0], content[1], number(content, 2, 3), number(content, 4, 5), number(content, 6, 7)) == command
    assert command.kind == kind and command.to_bytes() == content[:8]
    assert len(content) == command.units * COMMAND_ALIGNMENT
    return command


@given(FLOW, st.sampled_from(Direction), U32, U32, st.integers(0, 255), U40)
def test_post(flow, direction, start, length, region, offset):
    content = Post(flow, direction, start, length, region, offset).to_bytes()
    assert head(content, CommandKind.POST) == (1, 0, 1, flow, direction)
    assert (number(content, 8, 11), number(content, 12, 15)) == (start, length)
    assert (number(content, 16, 20), number(content, 22, 23)) == (offset, region)
    assert not content[21] and not any(content[24:])


@given(FLOW, st.sampled_from(Direction), U8)
def test_retire(flow, direction, count):
    content = Retire(flow, direction, count).to_bytes()
    assert head(content, CommandKind.RETIRE) == (2, 0, 1, flow, direction | count << 8) and not any(content[8:])


@given(FLOW, U32)
def test_cursor(flow, position):
    content = Cursor(flow, position).to_bytes()
    assert head(content, CommandKind.CURSOR) == (3, 0, 1, flow, 0)
    assert number(content, 8, 11) == position and not any(content[12:])


@given(st.integers(0, RINGS - 1), U16)
def test_fence(ring, cookie):
    content = Fence(ring, cookie).to_bytes()
    assert head(content, CommandKind.FENCE) == (4, ring, 1, 0, cookie) and not any(content[8:])


@given(FLOW, st.integers(0, 7), U32)
def test_flow(flow, flags, cursor):
    content = Flow(flow, FlowFlag(flags), cursor).to_bytes()
    assert head(content, CommandKind.FLOW) == (5, flags, 1, flow, 0)
    assert number(content, 8, 11) == cursor and not any(content[12:])


@given(FLOW, st.integers(0, 2047), st.booleans(), U32, U32, U16, U16, st.integers(0, 3))
def test_key(flow, place, valid, source, destination, source_port, destination_port, profile):
    content = Key(flow, place, valid, source, destination, source_port, destination_port, profile).to_bytes()
    assert head(content, CommandKind.KEY) == (6, valid, 1, flow, place)
    assert (number(content, 8, 11), number(content, 12, 15)) == (source, destination)
    assert (number(content, 16, 17), number(content, 18, 19)) == (source_port, destination_port)
    assert content[20] == profile and not any(content[21:])


@given(st.integers(0, 255), st.integers(0, 3), U40, U40, st.integers(0, 1024))
def test_region(region, rights, base, length, owner):
    content = Region(region, Right(rights), base, length, owner).to_bytes()
    assert head(content, CommandKind.REGION) == (7, rights, 1, 0, region)
    assert (number(content, 8, 12), number(content, 14, 15), number(content, 16, 20)) == (base, owner, length)
    assert not content[13] and not any(content[21:])


@given(st.integers(0, 3), U8, st.sampled_from(ChecksumKind), U8, U8, U16, U16)
def test_profile(profile, protocol, checksum, position, size, port, mask):
    content = Profile(profile, protocol, checksum, position, size, port, mask).to_bytes()
    assert head(content, CommandKind.PROFILE) == (8, 0, 1, 0, profile)
    assert tuple(content[8:12]) == (protocol, checksum, position, size)
    assert (number(content, 12, 13), number(content, 14, 15)) == (port, mask) and not any(content[16:])


def test_the_profile_of_tcp():
    assert TCP_PROFILE == (0, 6, 1, 4, 0, 0, 0)


@given(FLOW, st.integers(0, 7), st.binary(min_size=14, max_size=94), U32, U16, st.binary(max_size=300))
def test_send(flow, flags, header, payload, segment, inline):
    content = Send(flow, SendFlag(flags), header, payload, segment, inline).to_bytes()
    units = -(-(16 + len(header) + len(inline)) // 32)
    assert head(content, CommandKind.SEND) == (16, flags, units, flow, len(header))
    assert (number(content, 8, 11), number(content, 12, 13), number(content, 14, 15)) == (payload, segment, 0)
    body = content[16:]
    assert body[:len(header)] == header and body[len(header):].rstrip(b"\0") == inline.rstrip(b"\0")


ENTRIES = st.builds(
    Entry, kind=U8, flags=U8, size=U16, flow=U16, content=U16, payload=st.integers(0, (1 << 17) - 1),
    placed_offset=st.integers(0, (1 << 15) - 1), placed=st.integers(0, (1 << 17) - 1), headers=st.integers(0, 127),
    frames=U8)


@given(ENTRIES)
def test_entry(entry):
    content = entry.to_bytes()
    assert len(content) == Entry.SIZE and Entry.from_bytes(content + b"more") == entry
    assert (content[0], content[1], number(content, 2, 3), number(content, 4, 5), number(content, 6, 7)) == entry[:5]
    counts = number(content, 8, 15)
    assert (counts & 0x1FFFF, counts >> 17 & 0x7FFF, counts >> 32 & 0x1FFFF, counts >> 49 & 0x7F, counts >> 56) == (
        entry[5:])


@given(U32, U32)
def test_before(a, b):
    distance = (b - a) % (1 << 32)
    assert before(a, b) == (distance > 0 and not distance > 1 << 31)
    assert not before(a, a)


@settings(max_examples=20)
@given(U32, U32, U16, U16, st.integers(0, 3))
def test_flow_hash(source, destination, source_port, destination_port, profile):
    """A sum without carry: each bit of the key changes the same bits of the hash, whatever the rest."""
    key = source, destination, source_port, destination_port, profile
    assert 0 <= flow_hash(*key) < 1 << 16
    for place, bits in enumerate((32, 32, 16, 16, 2)):
        for bit in range(bits):
            flipped = (*key[:place], key[place] ^ 1 << bit, *key[place + 1:])
            zeros = [0] * 5
            zeros[place] = 1 << bit
            assert flow_hash(*key) ^ flow_hash(*flipped) == flow_hash(*zeros) != 0


@pytest.mark.parametrize("name", [f"COUNT_{one.name}" for one in Counter] + ["RING1_PRODUCER", "COMMAND_CONSUMER"])
def test_what_only_the_device_writes(name):
    assert REGISTERS[name].access is Access.RO


def test_registers_of_the_counters_are_in_order():
    assert [REGISTERS[f"COUNT_{one.name}"].offset for one in Counter] == [0xA0 + 4 * k for k in range(len(Counter))]
