# SPDX-License-Identifier: Apache-2.0
"""UDP datagrams as frames: bytes written by hand, a round trip, and everything that may be wrong."""

import random

import pytest

from rackgate.net.frames import Endpoint, internet_checksum, split_udp_frame, udp_frame

A = Endpoint(0x020000000001, 0x0A000001, 4000)
B = Endpoint(0x0200000000FE, 0x0A0000FE, 20001)


def test_a_frame_by_hand():
    frame = udp_frame(A, B, b"hello")
    assert frame[:14] == bytes.fromhex("0200000000fe 020000000001 0800")
    # Length 33, no fragment, TTL 64, UDP. The sum by hand: 4500+21+4000+4011+0a00+1+0a00+fe = da31.
    assert frame[14:34] == bytes.fromhex("45000021 00004000 4011 25ce 0a000001 0a0000fe")
    # Pseudo header 0a00+1+0a00+fe+11+d, header fa0+4e21+d, data 6865+6c6c+6f00 = 1b6bc, folded b6bd.
    assert frame[34:] == bytes.fromhex("0fa0 4e21 000d 4942") + b"hello"


def test_the_checksum_of_the_rfc():
    content = bytes.fromhex("0001f203f4f5f6f7")  # RFC 1071, section 3: the sum is ddf2
    assert internet_checksum(content) == 0xDDF2 ^ 0xFFFF
    assert internet_checksum(b"\x12") == 0x1200 ^ 0xFFFF


def test_round_trip(seed):
    rng = random.Random(seed)
    for _ in range(200):
        ends = [Endpoint(rng.getrandbits(48), rng.getrandbits(32), rng.getrandbits(16)) for _ in range(2)]
        data = rng.randbytes(rng.randrange(100))
        frame = udp_frame(*ends, data)
        assert split_udp_frame(frame) == (*ends, data)
        assert split_udp_frame(frame + bytes(rng.randrange(20))) == (*ends, data), "padding must be cut off"
        without = bytearray(frame)
        without[40:42] = b"\0\0"
        assert split_udp_frame(bytes(without)) == (*ends, data), "a checksum of 0 says that there is none"


def test_a_checksum_that_is_computed_as_zero_is_sent_as_ones():
    for first in range(1 << 16):
        data = first.to_bytes(2, "big")
        if udp_frame(A, B, data)[40:42] == b"\xff\xff":
            assert split_udp_frame(udp_frame(A, B, data))[2] == data
            return
    pytest.fail("some word must bring the sum to zero")


@pytest.mark.parametrize(("place", "value", "message"), [
    (slice(12, 14), b"\x86\xdd", "no UDP over IPv4"),
    (slice(14, 15), b"\x46", "no UDP over IPv4"),
    (slice(20, 21), b"\x20", "no UDP over IPv4"),
    (slice(23, 24), b"\x06", "no UDP over IPv4"),
    (slice(22, 23), b"\x3f", "IPv4 header is wrong"),
    (slice(38, 40), b"\x00\x0c", "UDP header counts 12 bytes, there are 13"),
    (slice(46, 47), b"!", "checksum of the datagram is wrong"),
    (slice(46, 47), b"", "IPv4 header counts 33 bytes, the frame has 32"),
    (slice(30, None), b"", "a frame of 30 bytes is too short"),
])
def test_what_is_no_datagram(place, value, message):
    frame = bytearray(udp_frame(A, B, b"hello"))
    frame[place] = value
    with pytest.raises(ValueError, match=message):
        split_udp_frame(bytes(frame))


def test_too_much_data():
    with pytest.raises(ValueError, match="at most 65507 bytes of data, not 65508"):
        udp_frame(A, B, bytes(65508))
    assert split_udp_frame(udp_frame(A, B, bytes(65507)))[2] == bytes(65507)
