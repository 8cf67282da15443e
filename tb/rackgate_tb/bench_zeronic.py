# SPDX-License-Identifier: Apache-2.0
"""Bench of the whole NIC at its pins, with AXI models that nobody here wrote.

The sequence is that of Corundum's core: setting up; a frame each way with its checksums; flows over the rings (there:
over queues); batches of frames of 60, 1514 and 9014 bytes, both ways at a time; several flows that send by turns, cut
into segments; a host that does not take entries (there: pause frames); damaged frames and statistics. Frames come from
the launcher, made by Scapy, as JSON in the file that the option ``frames`` names: by size of the frame, those of one
flow that follow one another.
"""

import contextlib
import json
from pathlib import Path

import cocotb
from cocotb.triggers import ClockCycles

from rackgate.csr.map import MAGIC
from rackgate.net.frames import internet_checksum
from rackgate.zeronic.abi import RINGS, Direction
from rackgate.zeronic.messages import EntryKind, FlowFlag, Post, Retire, Send, SendFlag

from . import session
from .zeronic_host import BASE, DATA, Bench

_LIMIT_NS = 8_000_000
_HEADER = 54
_GATHERED = SendFlag.GATHER | SendFlag.OFFLOAD


def _frames(size: int) -> list[bytes]:
    told = json.loads(Path(session.options()["frames"]).read_text())
    return [bytes.fromhex(frame) for frame in told[str(size)]]


def _key(frame: bytes) -> tuple[int, int, int, int]:
    """Source and destination as a frame has them."""
    source, destination, source_port, destination_port = (
        int.from_bytes(frame[at:at + size], "big") for at, size in ((26, 4), (30, 4), (34, 2), (36, 2)))
    return source, destination, source_port, destination_port


def _of_flow(frame: bytes, number: int) -> bytes:
    """The frame as if it came from another port, with a right checksum."""
    port, total = int.from_bytes(frame[34:36], "big"), int.from_bytes(frame[50:52], "big")
    changed = (total + port - (port + number)) % 0xFFFF or 0xFFFF
    return frame[:34] + (port + number).to_bytes(2, "big") + frame[36:50] + changed.to_bytes(2, "big") + frame[52:]


def _is_right(frame: bytes) -> bool:
    """Whether both checksums of a TCP frame are."""
    pseudo = frame[26:34] + bytes((0, 6)) + (len(frame) - 34).to_bytes(2, "big")
    return not internet_checksum(frame[14:34]) and not internet_checksum(pseudo + frame[34:])


def _sequence(frame: bytes) -> int:
    return int.from_bytes(frame[38:42], "big")


async def _open(bench: Bench, number: int, frames: list[bytes], flags: FlowFlag = FlowFlag.RECEIVE) -> int:
    """Begin the flow of ``frames`` with a segment for each direction, 16 KB behind the flow's number; bytes in all."""
    begin, size = _sequence(frames[0]), sum(len(frame) - _HEADER for frame in frames)
    await bench.begin(number, _key(frames[0]), begin, flags)
    for direction in Direction:
        await bench.do(Post(number, direction, begin, max(size, 1), 0, (number << 14) + 3))
    return size


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.5])
async def setting_up(dut, pause):
    """Identity and parameters; everything again after a reset by register."""
    bench = await Bench.start(dut, f"setting up {pause}", pause=pause)
    assert await bench.read("MAGIC") == MAGIC
    for name, value in bench.parameters.items():
        assert await bench.read(f"PARAM_{name.upper()}") == value
    await bench.set_up()


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.5])
async def a_frame_each_way(dut, pause):
    """A frame is placed, and its headers come up; the same one sent has the same bytes and right checksums."""
    bench, frame = await Bench.start(dut, f"a frame {pause}", pause=pause), _frames(1514)[0]
    size = await _open(bench, 2, [frame])
    (entry, content), = (await bench.receive(frame))[0]
    assert (entry.kind, entry.flow, entry.placed) == (EntryKind.HEADER, 2, size) and content == frame[14:_HEADER]
    at = DATA - BASE + (2 << 14) + 3
    assert bench.bytes.data[at:at + size] == frame[_HEADER:]
    await bench.do(Send(2, _GATHERED, frame[:_HEADER], size, 0))
    sent, = bench.sent
    assert _is_right(sent) and sent[_HEADER:] == frame[_HEADER:] and sent[38:50] == frame[38:50]


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def flows_over_rings(dut):
    """All flows at a time, by turns: each one's entries come in its ring and in order, its bytes in their place."""
    bench, frames = await Bench.start(dut, "flows", pause=0.2), _frames(60)[:4]
    flows, given, step = range(bench.parameters["flows"]), {}, 0
    while len(given) < len(flows):
        number, step = len(given), step + 1
        one = [_of_flow(frame, step) for frame in frames]
        with contextlib.suppress(LookupError):  # of so many keys some find no place
            await _open(bench, number, one, FlowFlag.RECEIVE | FlowFlag.RING_1 * (number % RINGS))
            given[number] = one
    rings = await bench.receive(*(given[number][k] for k in range(len(frames)) for number in flows))
    for ring, entries in enumerate(rings):
        assert {entry.flow for entry, _ in entries} == {number for number in flows if number % RINGS == ring}
        for number in range(ring, len(flows), RINGS):
            sequences = [int.from_bytes(content[24:28], "big") for entry, content in entries if entry.flow == number]
            assert sequences == [_sequence(frame) for frame in frames]


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(size=[60, 1514, 9014], pause=[0.0, 0.4])
async def batches(dut, size, pause):
    """Frames of one size, both ways at a time, in segments that are retired as they are full."""
    bench, frames = await Bench.start(dut, f"batches {size} {pause}", pause=pause), _frames(size)
    payload, half = len(frames[0]) - _HEADER, 7 * len(frames) // 8
    await bench.begin(1, _key(frames[0]), _sequence(frames[0]))
    for direction in Direction:
        for start, count in ((0, half), (half, len(frames) - half)):
            await bench.do(Post(1, direction, (_sequence(frames[0]) + start * payload) % (1 << 32), count * payload, 0,
                                0x4_0000 + 8 * direction + start * payload))
    bench.give(*frames)
    # What goes out stands in memory before: its place is another one's than that of what comes in.
    await bench.queue(*(Send(1, SendFlag.OFFLOAD, frame[:_HEADER], payload, 0, frame[_HEADER:]) for frame in frames))
    entries, _ = await bench.settle()
    assert [entry.placed for entry, _ in entries] == [payload] * len(frames)
    assert len(bench.sent) == len(frames) and all(map(_is_right, bench.sent))
    assert [frame[_HEADER:] for frame in bench.sent] == [frame[_HEADER:] for frame in frames]
    await bench.do(Retire(1, Direction.RECEIVE, 2))


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def senders_by_turns(dut):
    """Several flows send segments of several frames, gathered from memory at odd places, one after the other."""
    bench, frames = await Bench.start(dut, "senders", pause=0.2), _frames(1514)
    header, begin, size = frames[0][:_HEADER], _sequence(frames[0]), 3001
    for number in range(4):
        await bench.begin(number, _key(_of_flow(frames[0], number)), begin)
        await bench.do(Post(number, Direction.SEND, begin, size, 0, number * 4001 + number))
    await bench.do(*(Send(number, _GATHERED, _of_flow(header, number), size, 1448)
                     for _ in range(3) for number in range(4)))
    assert len(bench.sent) == 3 * 4 * 3 and all(map(_is_right, bench.sent))
    for turn in range(12):
        stream = b"".join(frame[_HEADER:] for frame in bench.sent[3 * turn:3 * turn + 3])
        at = DATA - BASE + (turn % 4) * 4002
        assert stream == bench.bytes.data[at:at + size]


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
async def a_host_that_takes_no_entries(dut):
    """When a ring is full the wire waits, and nothing is lost."""
    bench, frames = await Bench.start(dut, "a slow host", ring_log=12), _frames(60)
    await _open(bench, 0, frames)
    bench.give(*(frames[k % len(frames)] for k in range(200)))
    entries, waited = [], 0
    for _ in range(8):
        bench.run_model()
        await ClockCycles(dut.clk, 3000)
        waited += not bench.source.empty()
        entries += await bench.take(0)
    entries += (await bench.settle())[0]
    assert len(entries) == 200 and waited


@cocotb.test(timeout_time=_LIMIT_NS, timeout_unit="ns")
@cocotb.parametrize(pause=[0.0, 0.5])
async def statistics(dut, pause):
    """Damaged frames of each kind leave nothing but a count."""
    bench, frames = await Bench.start(dut, f"statistics {pause}", pause=pause), _frames(1514)[:3]
    await _open(bench, 3, frames)
    await bench.receive(frames[0], is_damaged=True)
    for at in (22, 40, 200):  # IPv4's header, TCP's, payload
        changed = bytearray(frames[1])
        changed[at] ^= 0x10
        assert await bench.receive(bytes(changed)) == [[], []]
    assert await bench.receive(frames[2][:700]) == [[], []]
    entries, _ = await bench.receive(*frames[::-1])
    assert [entry.placed for entry, _ in entries] == [len(frames[0]) - _HEADER] * 3
    counts = {name: await bench.read(f"COUNT_{name}") for name in ("BAD_FRAME", "BAD_IP_CHECKSUM", "BAD_CHECKSUM",
                                                                  "FRAMES_RECEIVED", "PLACED")}
    assert counts == {"BAD_FRAME": 2, "BAD_IP_CHECKSUM": 1, "BAD_CHECKSUM": 2, "FRAMES_RECEIVED": 8, "PLACED": 3}
