# SPDX-License-Identifier: Apache-2.0
"""Messages as they come when hosts, networks and attackers do what they should not."""

import zlib

from bridge_rig import MEMORY_SIZE, REGISTERS_END, open_message

from rackgate.bridge import operations
from rackgate.bridge.abi import MEMORY_BASE, MESSAGE_BYTES, Kind, Message, StatusWord, pack_message, pack_words
from rackgate.bridge.operations import Opcode

END = MEMORY_BASE + MEMORY_SIZE


def some_operation(rng, most):
    """A legal operation of at most so many words; also at the ends of its space, and beyond them."""
    count = rng.choice([1, 2, 3, rng.randrange(1, most + 1)])
    opcode = rng.choice([Opcode.READ_REGISTERS, Opcode.WRITE_REGISTERS, *[Opcode.READ_MEMORY, Opcode.WRITE_MEMORY] * 3,
                         Opcode.READ_STATUS, Opcode.READ_IDENTITY])
    if opcode in operations.MEMORY_OPCODES:
        size = 4 * count
        address = rng.choice([MEMORY_BASE, END - size, MEMORY_BASE + 4 * rng.randrange(MEMORY_SIZE // 4 - count)])
        if rng.random() < 0.03:
            address = rng.choice([END, END - size + 4, MEMORY_BASE - 4, 0, 0xFFFF_FFFC, (1 << 32) - size])
        if opcode == Opcode.READ_MEMORY:
            return operations.read(opcode, address, count)
        skip, omit = rng.randrange(4), rng.randrange(4)
        data = rng.randbytes(max(1, size - skip - omit))
        return operations.write_memory(min(address + skip, (1 << 32) - 4), data)
    if opcode in operations.REGISTER_OPCODES:
        count = min(count, 6)
        address = 4 * rng.randrange(REGISTERS_END // 4 - count)
        if rng.random() < 0.08:
            address = rng.choice([REGISTERS_END - 4, REGISTERS_END, 0x1_0000 - 4 * count, 0x1_0000, 0x1000_0000])
        is_fixed = rng.random() < 0.3
        if opcode == Opcode.READ_REGISTERS:
            return operations.read(opcode, address, count, is_fixed=is_fixed)
        return operations.write(address, rng.randbytes(4 * count), is_fixed=is_fixed)
    if opcode == Opcode.READ_STATUS:
        return operations.read(opcode, 4 * rng.choice([StatusWord.FLAGS, *range(StatusWord.EXECUTED, 10)]))
    return operations.read(opcode, 4 * rng.randrange(30), min(count, 6))


def some_body(rng, most):
    """Operations, that may be broken."""
    body = b"".join(some_operation(rng, most).pack() for _ in range(rng.randrange(1 + most // 8, 3 + most // 8)))
    body = body[:4 * rng.choice([364, 364, 364, rng.randrange(1, 364)])]
    if rng.random() < 0.15 and body:
        broken = bytearray(body)
        broken[rng.randrange(min(len(body), 12))] ^= 1 << rng.randrange(8)
        # What the clock says is not to be compared.
        return bytes(broken) if broken[0] != Opcode.READ_STATUS else body
    return body


class Host:
    """Draws messages, knowing what a host would know."""

    def __init__(self, rng, most=8):
        self.rng, self.most = rng, most
        self.sent = []
        self.session, self.sequence = 0, 0

    def next(self):
        """The next message."""
        raw = self._choose()
        self.sent.append(raw)
        return raw

    def _choose(self):
        rng, luck = self.rng, self.rng.random()
        if self.session == 0 or luck < 0.02:
            session = rng.randrange(1, 1 << 32)
            raw = open_message(session, self.session, rng.getrandbits(32))
            self.session, self.sequence = session, 0
            return raw
        if luck < 0.65:
            raw = pack_message(Message(Kind.REQUEST, self.session, self.sequence, some_body(rng, self.most)))
            self.sequence += 1
            return raw
        if luck < 0.85:
            return rng.choice(self.sent[-12:])  # late, or once more
        if luck < 0.88:
            return rng.choice(self.sent)
        return self._wrong()

    def _wrong(self):
        """A message that a host never sends, or that the network has changed."""
        rng = self.rng
        body = some_body(rng, 4)
        header = Message(Kind.REQUEST, self.session, self.sequence, body)
        good = pack_message(header)
        match rng.randrange(14):
            case 0:  # ahead, or of long ago
                return pack_message(header._replace(sequence=(self.sequence + rng.choice([1, 7, 9, -9, -100])) % 2**32))
            case 1:
                return pack_message(header._replace(session=rng.choice([0, self.session ^ 1])))
            case 2:
                return pack_message(header._replace(kind=rng.choice([Kind.RESPONSE, Kind.OPENED, Kind.REFUSED, 0, 9])))
            case 3:
                kind = rng.choice([Kind.REQUEST, Kind.OPEN, Kind.OPENED, 77])
                return pack_message(header._replace(kind=kind), protocol=rng.choice([0, 2, 255]))
            case 4:
                return pack_message(Message(Kind.OPEN, rng.choice([0, self.session, self.session ^ 4]), 3, rng.choice(
                    [b"", pack_words([self.session]), pack_words([self.session] * 2)])))
            case 5:
                return open_message(self.session ^ 1, self.session ^ 1)
            case 6:  # a bit
                raw = bytearray(good)
                raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
                return bytes(raw)
            case 7:  # the end is missing
                return good[:rng.randrange(1, len(good))]
            case 8:
                return good + rng.randbytes(rng.randrange(1, 9))
            case 9:  # too long by a word, with a CRC that is right
                raw = good[:-4] + bytes(MESSAGE_BYTES - len(good) + 4)
                return raw + zlib.crc32(raw).to_bytes(4, "little")
            case 10:
                raw = rng.choice([b"RH", b"QG"]) + good[2:-4]
                return raw + zlib.crc32(raw).to_bytes(4, "little")
            case 11:  # shorter than a header
                raw = good[:4 * rng.randrange(3)]
                return raw + zlib.crc32(raw).to_bytes(4, "little")
            case 12:
                return rng.randbytes(rng.randrange(1, 60))
            case _:  # words in another order
                return good[4:8] + good[:4] + good[8:]
