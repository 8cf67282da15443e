# SPDX-License-Identifier: Apache-2.0
"""The NIC's gateware and its model side by side: the same frames and commands, and all that comes of them."""

import random
from itertools import zip_longest

from zeronic_nic import DATA, MEMORY_SIZE, REGION_SIZE, SMALL, Nic
from zeronic_packets import ACK, CWR, FIN, PSH, RST, SYN, TIMESTAMPS, URG, Tcp, udp_frame

from rackgate.zeronic.abi import Counter, Direction, Right, flow_hash
from rackgate.zeronic.messages import (
    ChecksumKind,
    Cursor,
    EntryKind,
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
from rackgate_host.device import Device
from rackgate_host.devices import DEVICES
from rackgate_host.transport import MEMORY_BASE, SharedMemory
from rackgate_host.transport.model import ModelTransport
from rackgate_sim.inflate.model import FlatMemory
from rackgate_sim.zeronic.device import ZeronicModel

__all__ = ["Pair", "Traffic"]

_PARAMETERS = ("width", *SMALL)


def _check(got, wanted, what):
    for k, (one, other) in enumerate(zip_longest(got, wanted)):
        assert one == other, f"{what} {k} of {len(wanted)}: {one}, not {other}"


class Pair:
    """A device of some world, and the model; all is done to both, and compared when both are quiet."""

    def __init__(self, world, **options):
        self.given = Nic(world, **options)
        shared = SharedMemory(MEMORY_SIZE)
        self._model = ZeronicModel(FlatMemory(shared.array, MEMORY_BASE),
                                   **{name: self.given.device.parameters[name] for name in _PARAMETERS})
        transport = ModelTransport(self._model, shared)
        self.model = Nic(device=Device(transport, DEVICES["zeronic"], "model:zeronic"))
        self.nics = (self.given, self.model)
        self.compared = dict.fromkeys(("entries", "frames", "bytes"), 0)

    def place(self, offset, content):
        """Store bytes in both memories."""
        for nic in self.nics:
            nic.place(offset, content)

    def write(self, name, value):
        """Write a register of both."""
        for nic in self.nics:
            nic.write(name, value)

    def do(self, commands):
        """Do commands."""
        for nic in self.nics:
            nic.queue(*commands)
            nic.ring()
        self.compare()

    def receive(self, frames):
        """Give frames with their marks of errors, back to back."""
        stream = self.given.transport.simulation.stream("net_rx")
        for frame, error in frames:
            stream.push(frame, error=error)
            self._model.push("net_rx", frame, error=error)
        self.compare()

    def compare(self):
        """Wait for both, and compare entries, frames sent, memory and counters."""
        for nic in self.nics:
            nic.settle()
        for ring in range(2):
            # An UNSENT comes another way than the rest; among themselves both kinds have an order.
            parts = [([up for up in ups if up.entry.kind != EntryKind.UNSENT],
                      [up for up in ups if up.entry.kind == EntryKind.UNSENT])
                     for ups in (nic.entries(ring) for nic in self.nics)]
            for got, wanted in zip(*parts, strict=True):
                _check(got, wanted, f"entry of ring {ring}")
                self.compared["entries"] += len(got)
        got, wanted = (nic.sent() for nic in self.nics)
        _check(got, wanted, "frame")
        assert not any(getattr(frame, "error", False) for frame in got)
        self.compared["frames"] += len(got)
        self.compared["bytes"] += sum(map(len, got))
        got, wanted = (nic.memory(DATA, REGION_SIZE) for nic in self.nics)
        if got != wanted:
            at = next(k for k in range(len(got)) if got[k] != wanted[k])
            raise AssertionError(f"memory differs at {at:#x}: {got[at:at + 16].hex()}, not {wanted[at:at + 16].hex()}")
        left_out = (Counter.RING_FULL,)
        got, wanted = ({one.name: nic.count(one) for one in Counter if one not in left_out} for nic in self.nics)
        assert got == wanted


class Traffic:
    """Random commands and frames for a NIC of the parameters ``SMALL``. Each method makes some.

    ``merging``: flows may have COALESCE.
    """

    def __init__(self, seed, merging=False):
        self.draw = draw = random.Random(seed)
        self.merging = merging
        self.peers = [Tcp(source=0x0A4D0000 | draw.randrange(1 << 16), sport=draw.randrange(1 << 16),
                          dport=draw.randrange(1 << 16)) for _ in range(6)]
        self.cursors = [draw.choice((0, 1000, (1 << 32) - 500, draw.randrange(1 << 32))) for _ in self.peers]
        self.posted = {}  # by flow and direction: where the next segment begins,
        self.held = {}  # and how many there are

    def _flow(self):
        return self.draw.randrange(len(self.peers))

    def _flags(self):
        flags = self.draw.choice((FlowFlag.RECEIVE,) * 8 + (FlowFlag(0),))
        if self.draw.random() < 0.3:
            flags |= FlowFlag.RING_1
        if self.merging and self.draw.random() < 0.8:
            flags |= FlowFlag.COALESCE
        return flags

    def setup(self, base):
        """Commands that begin all flows."""
        ways = {}
        commands = [
            Profile(1, 17, ChecksumKind.UDP, 12, 24, 0x4700, 0xFF00), Profile(2, 253, ChecksumKind.NONE, 0, 8),
            Region(1, Right.READ, base + DATA, REGION_SIZE), Region(2, Right.WRITE, base + DATA, REGION_SIZE, owner=2),
            Region(3, Right.READ | Right.WRITE, base + DATA + 1000, 3000),
        ]
        for number, peer in enumerate(self.peers):
            profile = 0
            if number == 5:  # a transport over UDP
                self.peers[5] = peer = peer.but(dport=0x4712)
                profile = 1
            bucket = flow_hash(*peer.key, profile) % (SMALL["flows"] // 2)
            way = ways[bucket] = ways.get(bucket, -1) + 1
            commands += [self._begin(number, FlowFlag.RECEIVE), Key(number, bucket * 4 + way, True, *peer.key, profile)]
        return commands

    def _begin(self, number, flags):
        self.cursors[number] = self.draw.choice((self.cursors[number], self.draw.randrange(1 << 32)))
        for direction in Direction:
            self.posted[number, direction] = self.cursors[number]
            self.held[number, direction] = 0
        return Flow(number, flags, self.cursors[number])

    def commands(self):
        """Some commands, most of them good."""
        return [self._command() for _ in range(self.draw.randrange(1, 12))]

    def _command(self):
        draw, flow = self.draw, self._flow()
        direction = draw.choice(tuple(Direction))
        match draw.choice(("post",) * 12 + ("send",) * 5 + ("cursor",) * 4 + ("rare",) * 2 + ("retire", "begin")):
            case "post":
                if draw.random() < 0.7:  # the list that has least
                    flow, direction = min(self.held, key=lambda which: (self.held[which], draw.random()))
                return self._post(flow, direction)
            case "retire":
                return self._retire(flow, direction, draw.choice((0, 1, 1, 2, 8, 255)))
            case "cursor":
                to = self.cursors[flow] + draw.choice((-100, 0, 1, draw.randrange(500), draw.randrange(3000)))
                if to > self.cursors[flow]:
                    self.cursors[flow] = to % (1 << 32)
                return Cursor(flow, to % (1 << 32))
            case "send":
                return self._send(flow)
            case "begin":
                return self._begin(flow, self._flags())
            case _:
                return draw.choice((
                    Fence(draw.randrange(2), draw.randrange(1 << 16)),
                    Region(draw.randrange(4, 10), Right(draw.randrange(4)), draw.getrandbits(40), draw.getrandbits(40)),
                    bytes([draw.choice((0, 9, 15, 17, 255)), 0, 1, 0]) + bytes(28),
                    bytes([draw.choice((0, 1, 3, 16)), 0, 0, 0]) + bytes(28),
                    Cursor(draw.choice((16, 1023, 65535)), 5), Flow(16, 1, 7), Post(3, 2, 0, 1, 0, 0),
                    Key(16, 0, True), Key(0, 32, True), Post(1, 0, 0, 0, 0, 0), Post(1, 0, 0, 1, 8, 0),
                    Profile(3, 1, 3, 0, 8), Profile(4, 1, 0, 0, 8), Profile(3, 1, 0, 2, 5)))

    def _retire(self, flow, direction, count):
        self.held[flow, direction] = max(0, self.held[flow, direction] - count)
        return Retire(flow, direction, count)

    def _post(self, flow, direction):
        draw, which = self.draw, (flow, direction)
        if self.held[which] == SMALL["segments"] and draw.random() < 0.9:
            return self._retire(flow, direction, 2)
        jump = draw.choice((0,) * 20 + (50, -1))
        start = self.posted[which] + jump
        length = draw.choice((1, 2, draw.randrange(1, 64), draw.randrange(1, 3000), 3000, 6000))
        if jump >= 0 and self.held[which] < SMALL["segments"]:
            self.posted[which] = (start + length) % (1 << 32)
            self.held[which] += 1
        region = draw.choice((0,) * 30 + (1, 2, 3, 7))
        return Post(flow, direction, start % (1 << 32), length, region, draw.randrange(REGION_SIZE - 6000))

    def _send(self, flow):
        draw, peer = self.draw, self.peers[flow]
        header = peer.but(
            seq=(self.posted[flow, Direction.SEND] - draw.randrange(6000)) % (1 << 32),
            ack=(self.cursors[flow] + draw.choice((0, 0, 10))) % (1 << 32), identification=draw.randrange(1 << 16),
            flags=draw.randrange(256), options=draw.choice((b"", TIMESTAMPS, bytes(40)))).header()
        gathered = SendFlag.GATHER | SendFlag.OFFLOAD
        flags = draw.choice((*(gathered,) * 5, SendFlag.OFFLOAD, SendFlag(0), SendFlag.GATHER))
        if SendFlag.OFFLOAD in flags and draw.random() < 0.2:
            flags |= SendFlag.SNOOP
        payload = draw.choice((0, 1, draw.randrange(100), draw.randrange(1500), draw.randrange(4000)))
        segment = draw.choice((0, 0, 1, 536, 1448, draw.randrange(1, 2000))) if SendFlag.OFFLOAD in flags else 0
        if segment == 1:
            payload %= 40
        if flags == gathered and draw.random() < 0.1:  # the most that a command may have, and one more
            payload, segment = draw.choice((65495, 65496)), 1448
        if draw.random() < 0.04:
            header = header[:draw.choice((13, 14, 40, 53))]
        inline = b"" if SendFlag.GATHER in flags else draw.randbytes(payload)
        return Send(flow, flags, header, payload, segment, inline)

    def frames(self, most=12):
        """Some frames with their marks of errors."""
        return [(self._frame(), self.draw.random() < 0.02) for _ in range(self.draw.randrange(1, most))]

    def _frame(self):
        draw, flow = self.draw, self._flow()
        size = draw.choice((0, 0, 1, 2, draw.randrange(64), draw.randrange(600), 1448))
        if draw.random() < 0.01:
            size = draw.randrange(9300)
        position = self.cursors[flow] + draw.choice((0, 0, draw.randrange(-300, 300), draw.randrange(-1000, 9000)))
        payload = draw.randbytes(size)
        if flow == 5:
            head = draw.randbytes(4) + (position % (1 << 32)).to_bytes(4, "big") + draw.randbytes(8)
            frame = udp_frame(head + payload, self.peers[5], draw.random() < 0.8)
        else:
            frame = self.peers[flow].but(
                seq=position % (1 << 32), ack=draw.randrange(1 << 32), payload=payload,
                flags=draw.choice((ACK,) * 8 + (ACK | PSH, ACK | FIN, SYN, RST, ACK | URG, ACK | CWR)),
                options=draw.choice((b"", TIMESTAMPS, bytes(40))), padding=draw.choice((0, 0, 0, 6, 46)),
                fragment=draw.choice((0x4000,) * 30 + (0x2000, 1)), tos=draw.choice((0, 2))).frame()
        return self._odd(frame) if draw.random() < 0.1 else frame

    def _odd(self, frame):
        draw = self.draw
        match draw.randrange(4):
            case 0:
                at = draw.randrange(len(frame))
                return frame[:at] + bytes([frame[at] ^ 1 << draw.randrange(8)]) + frame[at + 1:]
            case 1:
                return frame[:draw.randrange(1, len(frame))]
            case 2:
                return frame[:12] + draw.choice((b"\x81\x00\x00\x01", b"\x86\xdd")) + frame[12:]
            case _:
                return draw.randbytes(draw.choice((1, 13, 14, 34, 60, 1514)))

    def holes(self):
        """Small frames of a flow in any order, with holes between them."""
        draw, flow = self.draw, self.draw.randrange(5)
        places = list(range(draw.randrange(1, 40)))
        draw.shuffle(places)
        return [(self.peers[flow].but(
            seq=(self.cursors[flow] + 20 * place + draw.choice((0, 0, 5))) % (1 << 32),
            payload=draw.randbytes(draw.choice((1, 10, 20, 45)))).frame(), False) for place in places]

    def run_of_frames(self):
        """Frames of one or two flows that go on from each other, as they can be merged."""
        draw, frames = self.draw, []
        flows = [draw.randrange(5) for _ in range(draw.randrange(1, 12))]
        options = draw.choice((b"", TIMESTAMPS))
        at = dict(enumerate(self.cursors))
        for _ in range(draw.randrange(1, 30)):
            flow, size = draw.choice(flows), draw.choice((1, 100, 300))
            flags = draw.choice((ACK,) * 12 + (ACK | PSH, ACK | FIN))
            frames.append((self.peers[flow].but(
                seq=at[flow] % (1 << 32), payload=draw.randbytes(size), flags=flags, options=options,
                window=draw.choice((500,) * 8 + (501,))).frame(), False))
            at[flow] += size + draw.choice((0,) * 12 + (1,))
        return frames
