# SPDX-License-Identifier: Apache-2.0
"""Parts of the simulated hosts that need neither root nor a device: wire, keys, headers, layout, captures."""

import ctypes
import random
import shutil
import socket
import struct
import subprocess
from collections import Counter

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.utils import PcapReader

from rackgate.zeronic.abi import WAYS, flow_hash
from rackgate_host.errors import UsageError
from rackgate_host.zeronic import headers, shared
from rackgate_host.zeronic.errors import FlowTableFull
from rackgate_host.zeronic.flows import unwrap
from rackgate_host.zeronic.hosts import HostsConfig
from rackgate_host.zeronic.keys import FlowKey, KeyTable
from rackgate_host.zeronic.pcap import Capture
from rackgate_host.zeronic.rundirectory import default_directory
from rackgate_host.zeronic.wire import Conditions, Wire

# The wire


@pytest.fixture
def wire():
    """Make wires: two ends each, closed after the test."""
    made = []

    def make(conditions=None, seed=1):
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pair = Wire(ends[0], conditions or Conditions(), seed), Wire(ends[1], Conditions(), seed)
        made.extend(pair)
        return pair

    yield make
    for end in made:
        end.close()


def through(near, far, frames, step=0.0):
    """Send frames, and take what arrives until nothing is held back."""
    got, now = [], 0.0
    for frame in frames:
        near.send(frame, now)
        now += step
        near.flush(now)
        got += far.receive(1000)
    while (due := near.due()) is not None:
        near.flush(due)
        got += far.receive(1000)
    near.flush(now)
    return got + list(far.receive(1 << 20))


def numbered(count):
    return [struct.pack("<I", k) * 20 for k in range(count)]


def test_a_good_wire_delivers_all_in_order(wire):
    near, far = wire()
    frames = numbered(500)
    assert through(near, far, frames) == frames
    assert near.counts.sent == far.counts.received == 500 and near.backlog == 0


def test_loss_duplication_reordering_and_corruption_are_as_told(wire, seed):
    frames = numbered(4000)
    for name, low, high in (("loss", 300, 500), ("duplicate", 300, 500), ("reorder", 300, 500), ("corrupt", 300, 500)):
        near, far = wire(Conditions(**{name: 0.1}), seed)
        got = through(near, far, frames)
        counts = {"loss": near.counts.lost, "duplicate": near.counts.duplicated, "reorder": near.counts.reordered,
                  "corrupt": near.counts.corrupted}
        assert low < counts.pop(name) < high and not any(counts.values()), name
        came, sent = Counter(got), Counter(frames)
        if name == "loss":
            assert len(got) == 4000 - near.counts.lost and not came - sent and got == sorted(got, key=frames.index)
        elif name == "duplicate":
            assert len(got) == 4000 + near.counts.duplicated and set(came) == set(sent) and max(came.values()) == 2
        elif name == "reorder":
            assert came == sent and got != frames
            # None is overtaken by more than eight; one is not counted that is held while another is.
            assert all(abs(k - frames.index(frame)) <= 32 for k, frame in enumerate(got))
        else:
            wrong = [(a, b) for a, b in zip(frames, got, strict=True) if a != b]
            assert len(wrong) == near.counts.corrupted
            assert all(sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True)) == 1 for a, b in wrong)


def test_the_same_seed_does_the_same(wire, seed):
    conditions = Conditions(loss=0.1, duplicate=0.1, reorder=0.3, corrupt=0.1)
    runs = [through(*wire(conditions, seed), numbered(500)) for _ in range(2)]
    other = through(*wire(conditions, seed + 1), numbered(500))
    assert runs[0] == runs[1] != other


def test_frames_that_nobody_overtakes_go_in_time(wire):
    near, far = wire(Conditions(reorder=1.0))
    near.send(b"alone" * 5, 10.0)
    near.flush(10.0)
    assert not list(far.receive(9))
    assert near.due() == pytest.approx(10.01)
    near.flush(10.02)
    assert list(far.receive(9)) == [b"alone" * 5] and near.due() is None


def test_delay(wire):
    near, far = wire(Conditions(delay=0.5))
    near.send(b"first", 1.0)
    near.send(b"second", 1.2)
    near.flush(1.49)
    assert not list(far.receive(9)) and near.due() == 1.5
    near.flush(1.5)
    assert list(far.receive(9)) == [b"first"]
    near.flush(2.0)
    assert list(far.receive(9)) == [b"second"]


def test_a_slow_end_loses_nothing(wire):
    near, far = wire()
    frames = [struct.pack("<I", k) * 2000 for k in range(4000)]
    for frame in frames:
        near.send(frame, 0.0)
    near.flush(0.0)
    assert near.backlog > 0
    got = []
    while near.backlog:
        got += far.receive(100)
        near.flush(0.0)
    assert got + list(far.receive(5000)) == frames


def test_the_other_end_is_gone(wire):
    near, far = wire()
    far.close()
    with pytest.raises(ConnectionError):
        list(near.receive(1))
    near.send(b"x", 0.0)
    with pytest.raises(ConnectionError):
        near.flush(0.0)


@pytest.mark.parametrize("wrong", [{"loss": 1.1}, {"duplicate": -0.1}, {"delay": 61}, {"corrupt": float("nan")}])
def test_conditions_are_checked(wrong):
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be 0 to"):
        Conditions(**wrong)


# Keys


def test_keys_have_places_of_their_set(seed):
    rng = random.Random(seed)
    table, taken = KeyTable(64), {}
    for _ in range(2000):
        if taken and rng.random() < 0.45:
            key = rng.choice(list(taken))
            assert table.remove(key) == taken.pop(key)
            continue
        key = FlowKey(*(rng.getrandbits(bits) for bits in (32, 32, 16, 16, 2)))
        of_set = [other for other in taken if flow_hash(*other) % 32 == flow_hash(*key) % 32]
        if len(of_set) == WAYS:
            with pytest.raises(FlowTableFull, match="no place"):
                table.insert(key)
        else:
            place = table.insert(key)
            assert place >> 2 == flow_hash(*key) % 32 and place not in taken.values()
            taken[key] = place
        assert len(table) == len(taken) and (key in table) == (key in taken)


def test_a_key_stands_once():
    table, key = KeyTable(16), FlowKey(1, 2, 3, 4)
    table.insert(key)
    with pytest.raises(ValueError, match="key must be a new one"):
        table.insert(key)
    table.remove(key)
    with pytest.raises(KeyError):
        table.remove(key)


# Headers


def test_headers_are_read_as_scapy_writes_them(seed):
    rng = random.Random(seed)
    for _ in range(200):
        payload = rng.randbytes(rng.choice([0, 1, 536, 1448]))
        options = rng.choice([[], [("Timestamp", (1, 2))], [("MSS", 1460), ("SAckOK", b""), ("WScale", 7)]])
        tcp = TCP(sport=rng.getrandbits(16), dport=rng.getrandbits(16), seq=rng.getrandbits(32),
                  ack=rng.getrandbits(32), flags=rng.choice(["S", "SA", "A", "PA", "FA", "R"]), options=options)
        frame = bytes(Ether() / IP(src="10.77.0.1", dst="10.77.0.2") / tcp / payload)
        found = headers.parse_tcp(frame[:94])
        assert found is not None
        read = Ether(frame)[TCP]
        assert found == (0x0A4D0001, 0x0A4D0002, read.sport, read.dport, read.seq, read.ack, int(read.flags),
                         len(frame) - len(payload), len(payload))


@pytest.mark.parametrize("frame", [
    Ether() / IP() / UDP() / (b"x" * 40),
    Ether() / IP() / ICMP() / (b"x" * 40),
    Ether() / IP(options=[b"\x01\x01\x01\x01"]) / TCP() / (b"x" * 40),
    Ether(type=0x86DD) / (b"x" * 60),
    fragment(Ether() / IP() / TCP() / (b"x" * 3000), 1000)[0],
    Ether() / IP(len=39) / TCP(),
    Ether() / IP() / TCP(dataofs=4) / (b"x" * 40),
])
def test_what_is_no_plain_tcp(frame):
    assert headers.parse_tcp(bytes(frame)) is None


def test_finished_headers_are_those_of_a_frame_to_be_checksummed(seed):
    rng = random.Random(seed)
    for _ in range(50):
        payload = rng.randbytes(rng.randrange(3000))
        tcp = TCP(sport=1, dport=2, seq=rng.getrandbits(32), flags="A")
        whole = Ether() / IP(src="10.77.0.1", dst="10.77.0.2") / tcp
        head = bytearray(bytes(whole))
        head[16:18] = head[24:26] = head[50:52] = b"\xff\xff"
        headers.finish_tcp(head, len(payload))
        frame = head + payload
        headers.put_checksum(frame, 34, 16)
        assert bytes(frame) == bytes(whole / payload)


def test_urgent_data_becomes_ordinary():
    head = bytearray(bytes(Ether() / IP() / TCP(flags="UA", urgptr=7)))
    headers.finish_tcp(head, 0)
    read = Ether(bytes(head))[TCP]
    assert read.flags == "A" and read.urgptr == 0


def test_positions_do_not_wrap(seed):
    rng = random.Random(seed)
    for _ in range(1000):
        true = rng.randrange(1 << 40)
        near = max(0, true + rng.randrange(-(1 << 31) + 1, 1 << 31))
        assert unwrap(true % (1 << 32), near) == true or near == 0


# Layout


def test_the_c_header_has_the_layout_of_python(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "shared.h").write_text(shared.c_header())
    structures = {"zn_page": shared.FlowPage, "zn_request": shared.Request, "zn_reply": shared.Reply}
    lines = [f'printf("{name} {field[0]} %zu %zu\\n", offsetof(struct {name}, {field[0]}), '
             f"sizeof(((struct {name} *)0)->{field[0]}));"
             for name, structure in structures.items() for field in structure._fields_]
    (tmp_path / "main.c").write_text('#include <stddef.h>\n#include <stdio.h>\n#include "shared.h"\nint main(void) {\n'
                                     + "\n".join(lines) + "\nreturn 0; }\n")
    subprocess.run([compiler, "-std=c11", "-Wall", "-Werror", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.splitlines()
    expected = [f"{name} {field[0]} {getattr(structure, field[0]).offset} {ctypes.sizeof(field[1])}"
                for name, structure in structures.items() for field in structure._fields_]
    assert printed == expected
    assert ctypes.sizeof(shared.FlowPage) <= shared.PAGE_SIZE
    # What the two sides write is in different cache lines.
    assert shared.FlowPage.written.offset % 64 == 0


# Captures


def test_a_capture_is_read_by_scapy_in_order(tmp_path):
    path = tmp_path / "wire.pcap"
    frames = [bytes(Ether() / IP() / UDP() / bytes([k])) for k in range(5)]
    start = 1_700_000_000_123_456_789
    with Capture(path) as capture:
        for k in (1, 0, 3, 2, 4):
            capture.add(start + k, frames[k])
        capture.write(start + 2)
        assert capture.frames == 3
    with PcapReader(str(path)) as reader:
        read = list(reader)
    assert [bytes(one) for one in read] == frames
    assert [round(float(one.time) * 1e9 / 1e3) for one in read] == [round(start / 1e3)] * 5


def test_a_capture_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError):
        Capture(tmp_path / "no folder" / "wire.pcap")


# Configuration


def test_configuration_is_checked():
    with pytest.raises(UsageError, match="mtu must be 576 to 9216"):
        HostsConfig(mtu=100)
    with pytest.raises(UsageError, match="coalesce must be 0 to"):
        HostsConfig(coalesce=-1)
    with pytest.raises(UsageError, match="there is no host 'c'"):
        HostsConfig(conditions={"c": Conditions()})
    for name in ("", "../x", "a b"):
        with pytest.raises(UsageError, match="a name of hosts must be of letters"):
            default_directory(name)
