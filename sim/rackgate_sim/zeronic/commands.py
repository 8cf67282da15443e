# SPDX-License-Identifier: Apache-2.0
"""What each command does to the tables, and which are refused."""

import struct

from rackgate.zeronic.abi import RINGS, Counter, Direction, Right
from rackgate.zeronic.messages import ChecksumKind, Command, CommandKind, Fence, FlowFlag, Profile, Send
from rackgate_sim.zeronic.coalescer import Item
from rackgate_sim.zeronic.parse import FlowKey
from rackgate_sim.zeronic.segments import Region, Segment
from rackgate_sim.zeronic.sender import Sender, is_valid
from rackgate_sim.zeronic.tables import Tables

__all__ = ["Commands"]

_ADDRESS_SPACE = 1 << 40
_ADDRESS = _ADDRESS_SPACE - 1
_SEND_HEADER = 16
_KINDS = frozenset(CommandKind)
_HAS_FLOW = (CommandKind.POST, CommandKind.RETIRE, CommandKind.CURSOR, CommandKind.FLOW, CommandKind.KEY,
             CommandKind.SEND)


def _number(content: bytes, offset: int, size: int) -> int:
    return int.from_bytes(content[offset:offset + size], "little")


class Commands:
    """Does commands, one after the other.

    Parameters
    ----------
    tables, sender, counts:
        What they work on.
    regions:
        Regions that there are.
    """

    def __init__(self, tables: Tables, sender: Sender, regions: int, counts: dict[Counter, int]) -> None:
        self._tables, self._sender, self._regions, self._counts = tables, sender, regions, counts

    def do(self, command: Command, content: bytes) -> Item | Fence | None:
        """Do a command, whose bytes are ``content``; the entry that it asks for."""
        self._counts[Counter.COMMANDS] += 1
        answer = self._do(command, content) if self._is_known(command) else False
        if isinstance(answer, bool):
            self._counts[Counter.BAD_COMMAND] += not answer
            return None
        return answer

    def _is_known(self, command: Command) -> bool:
        is_there = command.flow < len(self._tables.flows) or command.kind not in _HAS_FLOW
        return command.units > 0 and command.kind in _KINDS and is_there

    def _do(self, command: Command, content: bytes) -> Item | Fence | bool | None:
        flow = self._tables.flows[command.flow % len(self._tables.flows)]
        match command.kind:
            case CommandKind.POST:
                return self._post(command, content)
            case CommandKind.RETIRE:
                flow.segments[Direction(command.argument & 1)].retire(command.argument >> 8)
            case CommandKind.CURSOR:
                flow.guard.advance(_number(content, 8, 4))
            case CommandKind.FLOW:
                flow.begin(FlowFlag(command.flags & 7), _number(content, 8, 4))
            case CommandKind.FENCE:
                return Fence(command.flags % RINGS, command.argument)
            case CommandKind.KEY:
                return self._key(command, content)
            case CommandKind.REGION:
                return self._region(command, content)
            case CommandKind.PROFILE:
                return self._profile(command, content)
            case CommandKind.SEND:
                return self._send(command, content)
        return True

    def _post(self, command: Command, content: bytes) -> bool:
        start, length = struct.unpack_from("<II", content, 8)
        segment = Segment(start, length, _number(content, 22, 2), _number(content, 16, 5))
        segments = self._tables.flows[command.flow].segments[Direction(command.argument & 1)]
        return segment.region < self._regions and segments.post(segment)

    def _key(self, command: Command, content: bytes) -> bool:
        if command.argument >= self._tables.places:
            return False
        source, destination, source_port, destination_port, profile = struct.unpack_from("<IIHHB", content, 8)
        key = FlowKey(source, destination, source_port, destination_port, profile & 3)
        self._tables.set_key(command.argument, key, command.flow if command.flags & 1 else None)
        return True

    def _region(self, command: Command, content: bytes) -> bool:
        base, owner, length = _number(content, 8, 5), _number(content, 14, 2), _number(content, 16, 5)
        if command.argument >= self._regions or base + length > _ADDRESS_SPACE:
            return False
        self._tables.regions.register(command.argument, Region(Right(command.flags & 3), base, length, owner))
        return True

    def _profile(self, command: Command, content: bytes) -> bool:
        profile = Profile(command.argument, *struct.unpack_from("<BBBBHH", content, 8))
        has_size = not profile.size or 8 <= profile.size <= 60
        has_position = not profile.position % 2 and profile.position + 4 <= (profile.size or 20)
        if (profile.profile >= len(self._tables.profiles) or profile.checksum > max(ChecksumKind)
                or not has_size or not has_position):
            return False
        self._tables.profiles[profile.profile] = profile
        return True

    def _send(self, command: Command, content: bytes) -> Item | bool | None:
        payload, segment = struct.unpack_from("<IH", content, 8)
        body = content[_SEND_HEADER:]
        header, inline = body[:command.argument], body[command.argument:command.argument + payload]
        send = Send(command.flow, command.flags & 7, header, payload, segment, inline)
        # A header that is not all there must not pass for a shorter one.
        if command.argument > len(body) or not is_valid(send, len(body)):
            return False
        return self._sender.send(send)
