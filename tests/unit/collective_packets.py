# SPDX-License-Identifier: Apache-2.0
"""Packets of the collective engine as words of a stream, and back."""

from dataclasses import dataclass, replace

from rackgate.collective.abi import HEADER_SIZE, Header, PacketType

__all__ = ["SAME", "Item", "content", "fields", "random_item", "renumbered", "split", "words"]

#: Fields that HeaderFields and Header have in common by name.
SAME = ("type", "flags", "communicator", "credit", "operation", "tag", "length", "offset", "element",
        "handle")


@dataclass(frozen=True)
class Item:
    """A packet: its header and its payload."""

    header: Header
    payload: bytes = b""

    def raw(self, width):
        """All bytes on the link."""
        return self.header.to_bytes().ljust(max(HEADER_SIZE, width), b"\0") + self.payload


def words(content, width, *, error=False):
    """Payloads of PacketSignature(width) that carry the bytes."""
    parts = [content[at:at + width] for at in range(0, len(content), width)]
    return [{"data": int.from_bytes(part, "little"), "count": len(part), "last": part is parts[-1],
             "error": error and part is parts[-1]} for part in parts]


def content(stream):
    """Bytes of one packet's words, and whether the last has an error; checks counts and marks."""
    assert [word.last for word in stream] == [0] * (len(stream) - 1) + [1]
    assert len({word.count for word in stream[:-1]}) <= 1
    joined = b"".join(word.data.to_bytes(64, "little")[:word.count] for word in stream)
    return joined, stream[-1].error


def split(stream):
    """Words cut behind each that is the last of its packet."""
    packets, open_one = [], []
    for word in stream:
        open_one.append(word)
        if word.last:
            packets.append(open_one)
            open_one = []
    assert not open_one, "the last packet is not whole"
    return packets


def fields(header, *, node, size):
    """A Header as the HeaderFields that go into a packetizer, or come out of a depacketizer."""
    return {name: getattr(header, name) for name in SAME} | {"node": node, "size": size}


def random_item(rng, *, source, destination, sequence, segment, sizes=None):
    """A packet with a legal header, full of random values."""
    header = Header(
        PacketType.DATA, rng.getrandbits(5), rng.getrandbits(3), rng.choice((0, rng.getrandbits(8))), destination,
        source, rng.getrandbits(16), sequence & 0xFFFF, rng.getrandbits(32), element=rng.getrandbits(4),
        handle=rng.getrandbits(4))
    if rng.random() < 0.15:
        kind = rng.choice((PacketType.CREDIT, PacketType.CLEAR_TO_SEND))
        return Item(header._replace(type=kind, flags=0, length=rng.getrandbits(20)))
    size = rng.choice(sizes or (0, 1, rng.randrange(1, segment), segment, rng.randrange(1, 80)))
    if size == segment:
        offset = rng.getrandbits(31)
        header = header._replace(offset=offset, length=offset + segment + rng.choice((0, 1, rng.getrandbits(30))))
    else:
        offset = rng.getrandbits(31) // segment * segment
        header = header._replace(offset=offset, length=offset + size)
    return Item(header, rng.randbytes(size))


def renumbered(item, sequence):
    """The packet with another sequence number."""
    return replace(item, header=item.header._replace(sequence=sequence & 0xFFFF))
