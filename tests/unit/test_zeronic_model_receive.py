# SPDX-License-Identifier: Apache-2.0
"""What the model of the NIC does with frames: each rule of the interface by itself."""

import random

import pytest
from zeronic_nic import DATA, REGION_SIZE, Nic
from zeronic_packets import ACK, FIN, PSH, RST, SYN, TIMESTAMPS, Tcp, ones_complement, udp_frame

from rackgate.zeronic.abi import Counter, Direction, Right, StatusFlag, flow_hash
from rackgate.zeronic.messages import (
    ChecksumKind,
    EntryFlag,
    EntryKind,
    Flow,
    FlowFlag,
    Key,
    Post,
    Profile,
    Region,
)
from rackgate_host.errors import UsageError

BASE = Tcp(seq=1000)
SPLIT = EntryFlag.FLOW | EntryFlag.CHECKED
WRAP = 1 << 32


@pytest.fixture
def nic():
    made = Nic()
    made.begin(3, BASE.key, cursor=1000)
    return made


def stream(seed, size=4096):
    """Bytes without a zero, so that memory shows what was written."""
    draw = random.Random(seed)
    return bytes(draw.randrange(1, 256) for _ in range(size))


def segment(data, begin, end, **changes):
    """The frame with bytes ``begin`` to ``end`` of a stream whose first is at 1000."""
    return BASE.but(seq=1000 + begin, payload=data[begin:end], **changes).frame()


def placed(nic, begin, size):
    """Memory at bytes of that stream."""
    return nic.memory(DATA + 1000 + begin, size)


def is_header(up, payload, offset, size, frame):
    entry = up.entry
    return (entry.kind == EntryKind.HEADER and entry.flags == SPLIT and entry.flow == 3
            and (entry.payload, entry.placed_offset, entry.placed) == (payload, offset, size)
            and entry.frames == 1 and up.content == frame[14:entry.headers])


def is_deferred(up, payload, offset, size, frame):
    entry = up.entry
    return (entry.kind == EntryKind.DEFERRED and entry.flags == SPLIT and entry.flow == 3
            and (entry.payload, entry.placed_offset, entry.placed) == (payload, offset, size)
            and entry.frames == 1 and up.content == frame)


# The cases of the paper's figure 8


def test_a_at_the_cursor_over_several_segments(nic):
    data = stream(1)
    for start, length in ((1000, 1), (1001, 99), (1100, 3000)):
        nic.post(3, start, length)
    frame = segment(data, 0, 1448, options=TIMESTAMPS)
    assert is_header(nic.one(frame), 1448, 0, 1448, frame)
    assert placed(nic, 0, 1460) == data[:1448] + bytes(12)
    assert nic.counts() == {"FRAMES_RECEIVED": 1, "BYTES_RECEIVED": len(frame), "PLACED": 1, "BYTES_PLACED": 1448}


def test_b_old_bytes_are_not_written_but_the_header_goes_up(nic):
    """The acknowledgement of a segment was lost: the transport must hear of its retransmission."""
    data = stream(2)
    nic.post(3, 1000, 4000)
    nic.receive(segment(data, 0, 1000))
    nic.cursor(3, 2000)
    again = BASE.but(seq=1000, payload=bytes(1000)).frame()
    assert is_header(nic.one(again), 1000, 0, 0, again)
    assert placed(nic, 0, 1000) == data[:1000]
    assert nic.count(Counter.OLD) == 1 and nic.count(Counter.BYTES_PLACED) == 1000


def test_c_partly_old(nic):
    data = stream(3)
    nic.post(3, 1000, 4000)
    nic.cursor(3, 1500)
    frame = segment(data, 0, 1000)
    assert is_header(nic.one(frame), 1000, 500, 500, frame)
    assert placed(nic, 0, 1000) == bytes(500) + data[500:1000]
    assert nic.count(Counter.OLD) == 1 and not nic.count(Counter.PLACED)


def test_d_beyond_a_hole(nic):
    data = stream(4)
    nic.post(3, 1000, 1000)
    nic.post(3, 2000, 1000)
    frame = segment(data, 900, 2000)
    assert is_header(nic.one(frame), 1100, 0, 1100, frame)
    frame = segment(data, 0, 900)
    assert is_header(nic.one(frame), 900, 0, 900, frame)
    assert placed(nic, 0, 2000) == data[:2000]


def test_e_no_segment(nic):
    data = stream(5)
    frame = segment(data, 0, 700)
    assert is_deferred(nic.one(frame), 700, 0, 0, frame)
    assert nic.counts() == {"FRAMES_RECEIVED": 1, "BYTES_RECEIVED": len(frame), "DEFERRED": 1, "NO_SEGMENT": 1}


# At most once


def test_a_segment_with_other_bytes_does_not_overwrite(nic):
    """The paper's design loses bytes that were acknowledged selectively here."""
    data, other = stream(6), bytes(4096)
    nic.post(3, 1000, 4000)
    nic.receive(segment(data, 1000, 2000))
    stale = segment(other, 500, 2500)
    up = nic.one(stale)
    assert is_deferred(up, 2000, 0, 500, stale)
    assert placed(nic, 0, 4000) == bytes(1000) + data[1000:2000] + bytes(2000)
    assert nic.count(Counter.CONFLICT) == 1
    # The other way round: what came first stays, and the true bytes come up whole.
    up = nic.one(segment(data, 0, 1000))
    assert is_deferred(up, 1000, 0, 500, segment(data, 0, 1000))
    assert placed(nic, 0, 1000) == data[:500] + bytes(500)


def test_only_one_range_of_a_frame_is_placed(nic):
    data = stream(7)
    nic.post(3, 1000, 4000)
    nic.receive(segment(data, 100, 200), segment(data, 300, 400))
    frame = segment(data, 150, 450)
    assert is_deferred(nic.one(frame), 300, 50, 100, frame)
    assert placed(nic, 0, 500) == bytes(100) + data[100:400] + bytes(100)
    frame = segment(data, 0, 500)  # 100 to 400 is one range now
    assert is_deferred(nic.one(frame), 500, 0, 100, frame)
    frame = segment(data, 0, 500)
    assert is_deferred(nic.one(frame), 500, 400, 100, frame)
    frame = segment(data, 0, 500)
    assert is_deferred(nic.one(frame), 500, 0, 0, frame)
    assert placed(nic, 0, 500) == data[:500]


def test_a_frame_at_the_edges_of_a_placed_range_is_whole(nic):
    data = stream(8)
    nic.post(3, 1000, 4000)
    for begin, end in ((100, 200), (0, 100), (200, 300)):
        frame = segment(data, begin, end)
        assert is_header(nic.one(frame), end - begin, 0, end - begin, frame)
    assert not nic.count(Counter.CONFLICT)


def test_as_many_holes_as_can_be_remembered(nic):
    data = stream(9)
    nic.post(3, 1000, 4000)
    for hole in range(8):
        assert nic.one(segment(data, 20 * hole + 10, 20 * hole + 15)).entry.kind == EntryKind.HEADER
    frame = segment(data, 500, 510)
    assert is_deferred(nic.one(frame), 10, 0, 0, frame)
    assert nic.count(Counter.NO_INTERVAL) == 1 and not placed(nic, 500, 10).strip(b"\0")
    frame = segment(data, 15, 20)  # goes with one that is there
    assert nic.one(frame).entry.kind == EntryKind.HEADER
    frame = segment(data, 20, 30)  # joins two: then there is room
    assert nic.one(frame).entry.kind == EntryKind.HEADER
    assert nic.one(segment(data, 500, 510)).entry.kind == EntryKind.HEADER
    assert nic.one(segment(data, 600, 610)).entry.kind == EntryKind.DEFERRED
    nic.cursor(3, 1000 + 60)  # and when one is before the cursor
    assert nic.one(segment(data, 600, 610)).entry.kind == EntryKind.HEADER


def test_a_cursor_only_goes_forward(nic):
    data = stream(10)
    nic.post(3, 1000, 4000)
    nic.cursor(3, 1200)
    nic.cursor(3, 1100)
    frame = segment(data, 100, 300)
    assert is_header(nic.one(frame), 200, 100, 100, frame)
    nic.cursor(3, 1250)  # into what is placed: the rest of it stays so
    frame = segment(bytes(4096), 200, 320)
    assert is_deferred(nic.one(frame), 120, 100, 20, frame)


def test_a_flow_that_begins_anew_forgets(nic):
    data = stream(11)
    nic.post(3, 1000, 4000)
    nic.receive(segment(bytes(100), 0, 100))
    nic.do(Flow(3, FlowFlag.RECEIVE, 1000))
    assert nic.one(segment(data, 0, 100)).entry.kind == EntryKind.DEFERRED  # its segments are gone, too
    nic.post(3, 1000, 4000)
    assert nic.one(segment(data, 0, 100)).entry.kind == EntryKind.HEADER
    assert placed(nic, 0, 100) == data[:100]


# Segments


def test_partly_covered(nic):
    data = stream(12)
    nic.post(3, 1000, 300)
    nic.post(3, 1400, 300)
    frame = segment(data, 200, 600)  # covered, not, covered: the first only
    assert is_deferred(nic.one(frame), 400, 0, 100, frame)
    frame = segment(data, 300, 500)  # its first byte is in none
    assert is_deferred(nic.one(frame), 200, 0, 0, frame)
    assert placed(nic, 0, 700) == bytes(200) + data[200:300] + bytes(400)
    assert nic.count(Counter.NO_SEGMENT) == 2


def test_segments_of_one_byte_anywhere(nic):
    data = stream(13)
    for k in range(8):
        nic.post(3, 1000 + k, 1, offset=7777 * k)
    frame = segment(data, 0, 8)
    assert is_header(nic.one(frame), 8, 0, 8, frame)
    assert b"".join(nic.memory(DATA + 7777 * k, 1) for k in range(8)) == data[:8]


def test_retired_segments_and_full_lists(nic):
    data = stream(14)
    for k in range(9):
        nic.post(3, 1000 + 100 * k, 100)
    assert nic.count(Counter.BAD_COMMAND) == 1  # a list has 8
    nic.retire(3, 2)
    frame = segment(data, 100, 300)
    assert is_deferred(nic.one(frame), 200, 0, 0, frame)
    nic.post(3, 1799, 10)  # overlaps the last
    nic.post(3, 1800, 0)
    nic.post(3, 1800, 1 << 31)
    assert nic.count(Counter.BAD_COMMAND) == 4
    nic.post(3, 1800, (1 << 31) - 1)
    frame = segment(data, 700, 1000)
    assert is_header(nic.one(frame), 300, 0, 300, frame)
    nic.retire(3, 255)
    assert nic.one(segment(data, 1000, 1100)).entry.kind == EntryKind.DEFERRED
    nic.post(3, 0, 10)  # an empty list begins anywhere
    assert nic.count(Counter.BAD_COMMAND) == 4


def test_lists_of_the_two_directions_are_apart(nic):
    nic.post(3, 1000, 100, direction=Direction.SEND)
    assert nic.one(segment(stream(1), 0, 10)).entry.kind == EntryKind.DEFERRED
    nic.post(3, 1000, 100)
    nic.retire(3, 1, Direction.SEND)
    assert nic.one(segment(stream(1), 0, 10)).entry.kind == EntryKind.HEADER


def test_the_sequence_number_wraps(nic):
    begin, data = WRAP - 1500, stream(15)
    nic.begin(4, BASE.but(sport=9).key, cursor=begin)
    for k in range(3):
        nic.post(4, begin + 1000 * k, 1000, offset=1000 * k)
    order = list(range(0, 3000, 250))
    random.Random(1).shuffle(order)
    for at in order:
        up = nic.one(BASE.but(sport=9, seq=begin + at, payload=data[at:at + 250]).frame())
        assert up.entry.kind == EntryKind.HEADER and up.entry.placed == 250
    assert nic.memory(DATA, 3000) == data[:3000]
    nic.cursor(4, begin + 2000)
    up = nic.one(BASE.but(sport=9, seq=begin + 1400, payload=bytes(700)).frame())
    assert up.entry.kind == EntryKind.DEFERRED and up.entry.placed == 0
    assert nic.count(Counter.OLD) == 1 and nic.count(Counter.CONFLICT) == 1


# Regions


@pytest.mark.parametrize("region", [
    Region(1, Right.READ, 0, REGION_SIZE), Region(1, Right(0), 0, REGION_SIZE),
    Region(1, Right.WRITE, 0, REGION_SIZE, owner=3), Region(1, Right.WRITE, 0, 149),
], ids=["read only", "no right", "of another flow", "too short"])
def test_what_a_region_forbids_is_not_written(nic, region):
    nic.do(region._replace(base=nic.base + DATA))
    nic.post(3, 1000, 100, offset=1000)
    nic.post(3, 1100, 100, offset=50, region=1)
    frame = segment(stream(16), 0, 200)
    assert is_deferred(nic.one(frame), 200, 0, 100, frame)
    assert nic.memory(DATA, 1000) == bytes(1000)
    assert nic.counts()["BAD_REGION"] == 1 and nic.counts()["DEFERRED"] == 1
    owned = Region(1, Right.WRITE, nic.base + DATA, 150, owner=4)
    nic.do(owned)
    frame = segment(stream(16), 100, 200)
    assert is_header(nic.one(frame), 100, 0, 100, frame)


def test_memory_that_refuses_a_write(nic):
    nic.do(Region(1, Right.WRITE, 1 << 39, 1000))
    nic.post(3, 1000, 100, offset=0, region=1)
    up = nic.one(segment(stream(17), 0, 100))
    assert up.entry.flags == SPLIT | EntryFlag.WRITE_ERROR
    assert nic.count(Counter.WRITE_ERROR) == 1 and not nic.count(Counter.BYTES_PLACED)


# Kinds of frames


def test_frames_without_payload(nic):
    for flags in (ACK, SYN, SYN | ACK, FIN | ACK, RST):
        for seq in (0, 1000, 5000):
            frame = BASE.but(seq=seq, flags=flags, padding=6).frame()
            up = nic.one(frame)
            assert is_header(up, 0, 0, 0, frame) and len(up.content) == 40
    assert nic.counts() == {"FRAMES_RECEIVED": 15, "BYTES_RECEIVED": 15 * 60}


def test_syn_with_payload_is_deferred(nic):
    nic.post(3, 1000, 4000)
    for flags in (SYN, SYN | ACK):
        frame = segment(stream(18), 0, 100, flags=flags)
        assert is_deferred(nic.one(frame), 100, 0, 0, frame)
    assert nic.counts()["DEFERRED"] == 2 and not placed(nic, 0, 100).strip(b"\0")


def test_fin_and_rst_with_payload_are_placed(nic):
    data = stream(19)
    nic.post(3, 1000, 4000)
    for k, flags in enumerate((FIN | ACK | PSH, RST)):
        frame = segment(data, 100 * k, 100 * k + 100, flags=flags)
        assert is_header(nic.one(frame), 100, 0, 100, frame)
    assert placed(nic, 0, 200) == data[:200]


def _options_of_ip(frame):
    ip = bytearray(frame[14:34]) + bytes(4)
    ip[0] = 0x46
    return frame[:14] + bytes(ip) + frame[34:]


@pytest.mark.parametrize("change", [
    lambda frame: frame[:12] + b"\x81\x00\x00\x05" + frame[12:],
    lambda frame: frame[:12] + b"\x86\xdd" + frame[14:],
    lambda frame: frame[:12] + b"\x08\x06" + bytes(28),
    _options_of_ip,
    lambda frame: frame[:14],
], ids=["VLAN", "IPv6", "ARP", "IP options", "nothing else"])
def test_other_protocols_go_up_whole(nic, change):
    frame = change(segment(stream(20), 0, 100))
    if len(frame) == 14:
        frame = frame[:12] + b"\x12\x34"
    up = nic.one(frame)
    assert up.content == frame and up.entry._replace(size=0) == (EntryKind.DEFERRED, 0, 0, 0, len(frame), 0, 0, 0, 0, 1)
    assert nic.counts() == {"FRAMES_RECEIVED": 1, "BYTES_RECEIVED": len(frame), "UNKNOWN_FLOW": 1}


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x1FFF, 0x6000])
def test_fragments_go_up_whole(nic, fragment):
    nic.post(3, 1000, 4000)
    frame = BASE.but(payload=b"x" * 10, fragment=fragment).frame()
    up = nic.one(frame)
    assert up.content == frame and not up.entry.flags
    assert nic.counts()["UNKNOWN_FLOW"] == 1


def test_a_transport_header_that_does_not_fit_goes_up_whole(nic):
    frame = bytearray(BASE.frame())
    frame[46] = 0x40  # a data offset of 4
    short = Tcp().frame()[:14 + 20 + 12]
    short = short[:16] + (32).to_bytes(2, "big") + short[18:24] + bytes(2) + short[26:]
    beyond = bytearray(BASE.frame())
    beyond[46] = 0x60
    short = short[:24] + ones_complement(short[14:34]).to_bytes(2, "big") + short[26:]
    for one in (bytes(frame), short, bytes(beyond)):
        up = nic.one(one)
        assert up.content == one and not up.entry.flags


def test_damaged_frames_are_dropped(nic):
    nic.post(3, 1000, 4000)
    frame = segment(stream(21), 0, 101)
    for bit in range(8 * 14, 8 * len(frame)):
        if bit // 8 in (14, 20, 21, 46):  # they may make it another protocol's, a fragment, or no whole TCP header
            continue
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not nic.receive(bytes(damaged))
    counts = nic.counts()
    assert counts["BAD_IP_CHECKSUM"] and counts["BAD_FRAME"] and counts["BAD_CHECKSUM"] == 8 * (len(frame) - 34 - 1)
    assert counts["FRAMES_RECEIVED"] == 8 * (len(frame) - 14 - 4) and "BYTES_RECEIVED" not in counts
    assert placed(nic, 0, 101) == bytes(101)


def test_short_and_long_frames_are_dropped(nic):
    frame = segment(stream(22), 0, 100)
    bad = [b"\0", frame[:13], frame[:33], frame[:-1], bytes(9311)]
    assert not nic.receive(*bad)
    assert nic.counts() == {"FRAMES_RECEIVED": 5, "BAD_FRAME": 5}
    assert len(nic.receive(bytes(9310), bytes(14))) == 2


def test_padding_is_no_payload(nic):
    nic.post(3, 1000, 4000)
    frame = segment(b"ab", 0, 2, padding=4)
    assert is_header(nic.one(frame), 2, 0, 2, frame)
    assert placed(nic, 0, 6) == b"ab" + bytes(4)


def test_a_checksum_that_is_all_ones_or_zero(nic):
    """0xFFFF and 0 are the same number to a receiver of TCP."""
    nic.post(3, 1000, 4000)
    tail = int.from_bytes(segment(bytes(2), 0, 2)[50:52], "big")
    frame = segment(tail.to_bytes(2, "big"), 0, 2)
    assert frame[50:52] == bytes(2)
    assert nic.one(frame).entry.kind == EntryKind.HEADER
    assert nic.one(frame[:50] + b"\xff\xff" + frame[52:]).entry.kind == EntryKind.DEFERRED  # a conflict, not dropped


# Flows


def test_unknown_flows_and_those_not_split(nic):
    frame = BASE.but(sport=77, payload=b"hello").frame()
    up = nic.one(frame)
    assert up.content == frame
    assert up.entry._replace(size=0) == (EntryKind.DEFERRED, EntryFlag.CHECKED, 0, 0, len(frame), 0, 0, 0, 0, 1)
    nic.begin(5, BASE.but(sport=77).key, flags=FlowFlag(0))
    entry = nic.one(frame).entry
    assert entry._replace(size=0) == (EntryKind.DEFERRED, SPLIT, 0, 5, len(frame), 5, 0, 0, 54, 1)
    assert nic.counts()["UNKNOWN_FLOW"] == 2 and "DEFERRED" not in nic.counts()
    nic.do(Flow(5, FlowFlag.RECEIVE | FlowFlag.RING_1, 0))
    assert not nic.receive(frame)
    (up,) = nic.entries(ring=1)
    assert up.entry.flow == 5 and up.entry.kind == EntryKind.DEFERRED


def test_four_keys_of_one_set_and_their_removal(nic):
    keys = [key for port in range(1, 2000) if flow_hash(*(key := BASE.but(sport=port).key), 0) % 8 == 5][:4]
    for way, key in enumerate(keys):
        nic.begin(8 + way, key, way=way)
    for way, key in enumerate(keys):
        assert nic.one(BASE.but(sport=key[2]).frame()).entry.flow == 8 + way
    nic.do(Key(9, 5 * 4 + 1, False))
    assert [nic.one(BASE.but(sport=key[2]).frame()).entry.kind for key in keys] == [
        EntryKind.HEADER, EntryKind.DEFERRED, EntryKind.HEADER, EntryKind.HEADER]


def test_other_profiles(nic):
    """A datagram transport whose position is at byte 12 of its 24 bytes, UDP's included."""
    nic.do(Profile(2, 17, ChecksumKind.UDP, 12, 24, port=0x1000, mask=0xF000))
    data = stream(23)
    peer = BASE.but(dport=0x1234)
    nic.begin(6, peer.key, cursor=50, profile=2)
    nic.post(6, 50, 1000, offset=0)
    for k, has_checksum in enumerate((True, False)):
        head = bytes(4) + (50 + 100 * k).to_bytes(4, "big") + bytes(8)
        frame = udp_frame(head + data[100 * k:100 * k + 100], peer, has_checksum)
        up = nic.one(frame)
        assert up.entry.kind == EntryKind.HEADER and up.entry.headers == 34 + 24 and up.entry.placed == 100
        assert up.content == frame[14:58]
    assert nic.memory(DATA, 200) == data[:200]
    bad = bytearray(udp_frame(bytes(40), peer))
    bad[-1] ^= 1
    assert not nic.receive(bytes(bad)) and nic.count(Counter.BAD_CHECKSUM) == 1
    assert nic.one(udp_frame(bytes(40), peer.but(dport=0x2234))).entry.flags == 0
    assert nic.one(udp_frame(bytes(15), peer)).entry.flags == 0  # its header is not all there
    length = bytearray(udp_frame(bytes(40), peer))
    length[39] -= 1
    assert nic.one(bytes(length)).entry.flags == 0
    nic.do(Profile(2, 0, 0, 0, 0))
    assert nic.one(udp_frame(bytes(40), peer)).entry.flags == 0


@pytest.mark.parametrize("profile", [
    Profile(4, 17, 0, 8, 16), Profile(1, 17, 3, 8, 16), Profile(1, 17, 0, 7, 16), Profile(1, 17, 0, 14, 16),
    Profile(1, 17, 0, 8, 61), Profile(1, 17, 0, 0, 7), Profile(1, 6, 1, 18, 0),
])
def test_profiles_that_are_refused(nic, profile):
    nic.do(profile)
    assert nic.count(Counter.BAD_COMMAND) == 1


@pytest.mark.parametrize("command", [
    Post(16, 0, 0, 10, 0, 0), Post(3, 0, 5000, 10, 8, 0), Flow(16, 0, 0), Key(16, 0, True), Key(3, 32, True),
    Region(8, 1, 0, 10), Region(1, 1, (1 << 40) - 10, 11), bytes([99, 0, 1, 0]) + bytes(28), bytes(32),
], ids=str)
def test_commands_that_are_refused(nic, command):
    before = nic.count(Counter.COMMANDS)
    nic.do(command)
    assert nic.count(Counter.BAD_COMMAND) == 1 and nic.count(Counter.COMMANDS) == before + 1
    nic.post(3, 1000, 100)  # the next is found
    assert nic.one(segment(stream(1), 0, 10)).entry.kind == EntryKind.HEADER


# Rings, fences, merging


def test_rings_wrap_with_pads_and_wait_for_room():
    nic = Nic(log_size=12)
    nic.begin(3, BASE.key)
    frames = [BASE.but(payload=bytes([k] * (size - 54))).frame() for k, size in enumerate(range(54, 1514, 37))]
    for frame in frames:
        nic.transport.push("net_rx", frame)
    nic.transport.run(1000, False)
    assert not nic.is_quiet() and nic.count(Counter.RING_FULL)
    got = []
    while len(got) < len(frames):
        more = nic.entries()
        assert more
        got += more
        nic.transport.run(1000, False)
    assert [up.content for up in got[1:]] == frames[1:]
    assert nic.is_quiet() and nic.count(Counter.ENTRIES) == len(frames)


def test_what_has_no_ring_is_lost(nic):
    nic.write("RING0_SIZE", 0)
    nic.receive(segment(b"x", 0, 1))
    assert nic.count(Counter.RING_FULL) == 1 and not nic.count(Counter.ENTRIES)
    small = Nic(log_size=12)
    assert not small.receive(bytes(5000)) and small.count(Counter.RING_FULL) == 1
    assert small.one(bytes(4080)).content == bytes(4080)


def test_a_ring_in_no_memory(nic):
    nic.write("RING1_BASE_HI", 0xFF)
    nic.fence(1, ring=1)
    assert nic.count(Counter.WRITE_ERROR) == nic.count(Counter.ENTRIES) == 1


def test_fences_in_both_rings(nic):
    nic.fence(0xBEEF)
    nic.fence(2, ring=1)
    assert [(up.entry.kind, up.entry.flow, up.entry.size) for up in nic.entries()] == [(EntryKind.FENCE, 0xBEEF, 2)]
    assert [(up.entry.kind, up.entry.flow) for up in nic.entries(1)] == [(EntryKind.FENCE, 2)]


@pytest.fixture
def merging(nic):
    nic.write("COALESCE_CYCLES", 1000)
    nic.do(Flow(3, FlowFlag.RECEIVE | FlowFlag.COALESCE, 1000))
    nic.post(3, 1000, 100000)
    return nic


def test_headers_are_merged_until_a_push(merging):
    data = stream(24)
    frames = [segment(data, 100 * k, 100 * k + 100, identification=k, options=TIMESTAMPS, flags=ACK | PSH * (k == 4))
              for k in range(5)]
    (up,) = merging.receive(*frames)
    assert up.entry == (EntryKind.HEADER, SPLIT, 2 + 7, 3, 52, 500, 0, 500, 66, 5)
    first = bytearray(frames[0][14:66])
    first[33] |= PSH
    assert up.content == first
    assert placed(merging, 0, 500) == data[:500] and merging.count(Counter.MERGED) == 4


def test_headers_go_up_in_time(merging):
    data = stream(25)
    for k in range(2):
        merging.transport.push("net_rx", segment(data, 10 * k, 10 * k + 10))
    merging.transport.run(900, False)
    assert not merging.entries()
    merging.transport.run(200, False)
    (up,) = merging.entries()
    assert (up.entry.payload, up.entry.frames) == (20, 2)


@pytest.mark.parametrize("change", [
    {"ack": 1}, {"window": 7}, {"options": TIMESTAMPS[:-1] + b"x"}, {"options": b""}, {"tos": 3},
    {"flags": ACK | FIN}, {"flags": ACK | 0x40}, {"seq": 1011}, {"payload": b""}, {"fragment": 0}],
    ids=str)
def test_what_is_not_merged_goes_up_behind(merging, change):
    first = BASE.but(payload=b"0123456789", options=TIMESTAMPS)
    second = first.but(**{"seq": 1010, **change})
    ups = merging.receive(first.frame(), second.frame())
    merging.fence(1)
    *more, fence = merging.entries()
    ups += more
    assert [(up.entry.frames, up.content) for up in ups] == [
        (1, one.frame()[14:54 + len(one.options)]) for one in (first, second)]
    assert fence.entry.kind == EntryKind.FENCE and not merging.count(Counter.MERGED)


def test_deferred_frames_go_up_behind_merged_ones(merging):
    first = BASE.but(payload=b"0123456789")
    ups = merging.receive(first.frame(), first.but(payload=b"xxxxx", seq=1005).frame())
    assert [up.entry.kind for up in ups] == [EntryKind.HEADER, EntryKind.DEFERRED]


def test_bounds_of_merging(merging):
    merging.write("COALESCE_BYTES", 250)
    data = stream(26)
    ups = merging.receive(*(segment(data, 100 * k, 100 * k + 100) for k in range(5)))
    merging.fence(1)
    assert [up.entry.payload for up in ups + merging.entries()] == [200, 200, 100, 0]
    merging.write("COALESCE_BYTES", 65000)
    ups = merging.receive(*(segment(data, 500 + k, 501 + k) for k in range(300)))
    merging.fence(2)
    assert [up.entry.frames for up in ups + merging.entries()] == [255, 45, 0]


def test_a_position_that_looks_like_tcp_s_flags_is_none(merging):
    """Headers of other transports are not merged, whatever is where TCP has its flags."""
    merging.do(Profile(2, 17, ChecksumKind.UDP, 12, 24, port=0x1000, mask=0xF000))
    peer, start = BASE.but(dport=0x1234), 0x50100000
    merging.begin(6, peer.key, start, FlowFlag.RECEIVE | FlowFlag.COALESCE, profile=2)
    merging.post(6, start, 1000)
    merging.entries()
    for k in range(2):
        merging.transport.push("net_rx", udp_frame(bytes(4) + (start + 100 * k).to_bytes(4, "big") + bytes(108), peer))
    merging.transport.run(100, False)
    assert [(up.entry.flow, up.entry.placed, up.entry.frames) for up in merging.entries()] == [(6, 100, 1)] * 2
    assert not merging.count(Counter.MERGED)


def test_eight_flows_are_merged_at_a_time(merging):
    for k in range(9):
        peer = BASE.but(sport=100 + k)
        merging.begin(k, peer.key, 1000, FlowFlag.RECEIVE | FlowFlag.COALESCE, way=k % 4)
        merging.post(k, 1000, 1000)
    merging.entries()
    for k in range(9):
        merging.transport.push("net_rx", BASE.but(sport=100 + k, payload=b"x").frame())
    merging.transport.run(100, False)
    assert [up.entry.flow for up in merging.entries()] == [0]
    merging.fence(1)
    assert [up.entry.flow for up in merging.entries()] == [1, 2, 3, 4, 5, 6, 7, 8, 1]


# The device


@pytest.mark.parametrize("name, value, rule", [
    ("width", 4, "width must be 8, 16 or 32 bytes, not 4"),
    ("flows", 24, "flows must be a power of two from 16 to 1024, not 24"),
    ("segments", 128, "segments must be a power of two from 8 to 64, not 128"),
    ("regions", 4, "regions must be a power of two from 8 to 256, not 4"),
    ("intervals", 24, "intervals must be a power of two from 8 to 64, not 24"),
])
def test_parameters_are_checked(name, value, rule):
    with pytest.raises(UsageError, match=rule):
        Nic(**{name: value})


def test_nothing_is_taken_before_it_is_switched_on(nic):
    nic.write("CONTROL", 0)
    nic.transport.push("net_rx", segment(b"x", 0, 1))
    nic.queue(Flow(3, 0, 0))
    nic.ring()
    nic.transport.run(100, False)
    assert not nic.count(Counter.FRAMES_RECEIVED) and nic.read("COMMAND_CONSUMER") != nic.produced
    nic.write("CONTROL", 3)
    nic.settle()
    assert nic.count(Counter.FRAMES_RECEIVED) == 1


def test_a_command_ring_that_cannot_be_read(nic):
    nic.write("COMMAND_BASE_HI", 0xFF)
    nic.queue(Flow(3, 0, 0))
    nic.ring()
    nic.transport.run(1000, False)
    assert nic.read("STATUS") & StatusFlag.SEND_HALTED and nic.read("COMMAND_CONSUMER") != nic.produced
    assert nic.one(segment(b"x", 0, 1)).entry.flow == 3  # frames go on
    nic.start()
    assert not nic.read("STATUS") & StatusFlag.SEND_HALTED


def test_reset_forgets(nic):
    nic.receive(segment(b"x", 0, 1))
    nic.start()
    assert not nic.counts() and nic.one(segment(b"x", 0, 1)).entry.flags == EntryFlag.CHECKED


def test_interrupts(nic):
    nic.write("IRQ_STATUS", 3)
    nic.write("IRQ_ENABLE", 3)
    assert not nic.transport.irq
    nic.receive(segment(b"x", 0, 1))
    assert nic.transport.irq and nic.read("IRQ_STATUS") == 1
    nic.write("IRQ_STATUS", 1)
    nic.do(Flow(3, 0, 0))
    assert nic.transport.irq and nic.read("IRQ_STATUS") == 2


def test_streams_have_their_directions(nic):
    for call in (lambda: nic.transport.push("net_tx", b""), lambda: nic.transport.pop("net_rx")):
        with pytest.raises(ValueError, match="the device"):
            call()
