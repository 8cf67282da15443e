# SPDX-License-Identifier: Apache-2.0
"""Two small transports with NICs and a bad wire: for tests of whole streams."""

from collections import deque

from zeronic_nic import DATA
from zeronic_packets import ACK, TIMESTAMPS, Tcp

from rackgate.zeronic.abi import Direction
from rackgate.zeronic.messages import Cursor, EntryKind, Fence, FlowFlag, Post, Retire, Send, SendFlag
from rackgate.zeronic.sidestore import SideStore, store_size
from rackgate.zeronic.versions import Reader, Tagger

__all__ = ["StreamReceiver", "StreamSender", "Wire"]

_PLACE = 4096  # of a stream's first byte, in region 0


def _distance(position: int, begin: int) -> int:
    return (position - begin + (1 << 31)) % (1 << 32) - (1 << 31)


class Wire:
    """Loses, doubles, delays and damages frames, each with probability ``rate``."""

    def __init__(self, draw, rate):
        self.draw, self.rate = draw, rate
        self.late = []

    def carry(self, frames):
        """What arrives."""
        out = []
        for frame in frames:
            if self.draw.random() < self.rate:
                continue
            if self.draw.random() < self.rate:
                self.late.append(frame)
            if self.draw.random() < self.rate:
                damaged = bytearray(frame)
                damaged[self.draw.randrange(len(frame))] ^= 1 << self.draw.randrange(8)
                frame = bytes(damaged)
            out.append(frame)
        for frame in [one for one in self.late if self.draw.random() < 0.3]:
            self.late.remove(frame)
            out.insert(self.draw.randrange(len(out) + 1), frame)
        return out


class StreamSender:
    """Sends a stream from NIC memory, in segments of any size, again and again until it is acknowledged."""

    def __init__(self, nic, data, base, begin, draw):
        self.nic, self.size, self.base, self.begin, self.draw = nic, len(data), base, begin, draw
        self.done = 0
        nic.place(DATA + _PLACE, data)
        nic.begin(1, (base.destination, base.source, base.dport, base.sport), flags=FlowFlag.RECEIVE)
        nic.do(Post(1, Direction.SEND, begin, len(data), 0, _PLACE))

    def send(self):
        """Frames with some of what is not acknowledged."""
        offset = self.done + self.draw.choice((0, 0, self.draw.randrange(4000)))
        size = min(self.draw.randrange(1, 6000), self.size - offset)
        if size > 0:
            header = self.base.but(seq=self.begin + offset).header()
            self.nic.do(Send(1, SendFlag.GATHER | SendFlag.OFFLOAD, header, size, self.draw.randrange(200, 1460)))
        return self.nic.sent()

    def hear(self, frames):
        """Take acknowledgements, as the NIC passes them on."""
        for up in self.nic.receive(*frames):
            if up.entry.kind == EntryKind.HEADER:
                assert not up.entry.payload
                self.done = max(self.done, _distance(int.from_bytes(up.content[28:32], "big"), self.begin))


class StreamReceiver:
    """A transport that sees placeholders only, drops frames at random, and an application that reads as it likes."""

    def __init__(self, nic, base, begin, draw, flags):
        self.nic, self.base, self.begin, self.draw = nic, base, begin, draw
        nic.begin(1, base.key, begin, flags)
        self.tagger = Tagger(store := SideStore(bytearray(store_size(400)), begin))
        self.reader = Reader(store)
        self.tags = {}  # that were accepted, by offset in the stream
        self.expected = self.posted = 0
        self.ends = deque()  # of posted segments
        self.content = bytearray()
        self.copied = 0  # bytes that came by the side store

    def post(self):
        """Post segments of any size, with gaps, and retire what has been read."""
        while self.ends and self.ends[0] <= len(self.content):
            self.nic.do(Retire(1, Direction.RECEIVE, 1))
            self.ends.popleft()
        while len(self.ends) < 8:
            size = self.draw.choice((1, 100, 1000, 6000))
            if self.draw.random() < 0.9:
                start = (self.begin + self.posted) % (1 << 32)
                self.nic.do(Post(1, Direction.RECEIVE, start, size, 0, _PLACE + self.posted))
                self.ends.append(self.posted + size)
            self.posted += size

    def hear(self, frames):
        """Take frames; what is acknowledged, if anything."""
        self._take(frames, 0.8)
        return self._acknowledged()

    def overhear(self, frame):
        """Take a frame that the transport refuses, as it refuses one with a timestamp of the past."""
        self._take([frame], 0)

    def _take(self, frames, accepted):
        ups = []
        for frame in frames:
            ups += self.nic.receive(frame)
        self.nic.do(Fence(0, 0))  # what waits to be merged comes up, too
        for entry, content in ups + self.nic.entries():
            if not entry.flags & 1 or entry.kind not in (EntryKind.HEADER, EntryKind.DEFERRED):
                continue
            headers = content if entry.kind == EntryKind.HEADER else content[14:]
            seq = int.from_bytes(headers[24:28], "big")
            if entry.kind == EntryKind.HEADER:
                tags = self.tagger.header(entry.payload, entry.placed_offset, entry.placed)
            else:
                payload = content[entry.headers:entry.headers + entry.payload]
                tags = self.tagger.deferred(seq, payload, entry.placed_offset, entry.placed,
                                            (self.begin + self.expected) % (1 << 32))
            if tags is not None and self.draw.random() < accepted:
                self._accept(_distance(seq, self.begin), tags)

    def _accept(self, offset, tags):
        for at in range(max(offset, self.expected), min(offset + len(tags), self.expected + 30000)):
            self.tags.setdefault(at, tags[at - offset])
        while self.expected in self.tags:
            self.expected += 1

    def _acknowledged(self):
        ack = (self.begin + self.expected) % (1 << 32)
        if self.draw.random() < 0.2:
            self.nic.do(Cursor(1, ack))
        if self.draw.random() < 0.7:
            answer = Tcp(source=self.base.destination, destination=self.base.source, sport=self.base.dport,
                         dport=self.base.sport, flags=ACK, ack=ack, options=TIMESTAMPS)
            flags = SendFlag.OFFLOAD | (SendFlag.SNOOP if self.draw.random() < 0.8 else SendFlag(0))
            self.nic.do(Send(1, flags, answer.header()))
        return self.nic.sent()

    def read(self):
        """Let the application read some of what has been accepted."""
        done = len(self.content)
        size = self.draw.randrange(self.expected - done + 1)
        tags = bytes(self.tags[at] for at in range(done, done + size))
        if self.reader.is_plain(size):
            assert not any(tags)
            self.content += self.nic.memory(DATA + _PLACE + done, size)
        else:
            for part in self.reader.resolve(tags):
                if part.content is None:
                    self.content += self.nic.memory(DATA + _PLACE + len(self.content), part.size)
                else:
                    self.content += part.content
                    self.copied += part.size
        self.reader.consume(size)
