# SPDX-License-Identifier: Apache-2.0
"""Which commands are refused, as logic."""

from amaranth.hdl import Module, Mux, Signal, Value, signed

from rackgate.zeronic.abi import COMMAND_ALIGNMENT, ETHERNET_SIZE, HEADER_MOST, PROFILES
from rackgate.zeronic.messages import ChecksumKind, CommandKind, SendFlag
from rackgate.zeronic.records import ADDRESS_BITS
from rackgate.zeronic.tx.records import PAYLOAD_MOST

__all__ = ["ROOM_SHAPE", "SEND_HEAD", "add_check", "field", "room_in_send"]

#: Bytes of a SEND command before its header.
SEND_HEAD = 16
#: Of :func:`room_in_send`.
ROOM_SHAPE = signed(22)
_SEND_MOST = 65535 - 40
_TCP_LEAST = 20


def field(command: Value, first: int, size: int) -> Value:
    """Bytes ``first`` and following of a command, as a number."""
    return command[8 * first:8 * (first + size)]


def room_in_send(command: Value) -> Value:
    """Bytes of payload that fit behind the header of a SEND, as its first 8 bytes say; below 0 not even that fits."""
    return field(command, 2, 2) * COMMAND_ALIGNMENT - SEND_HEAD - field(command, 6, 2)[:7]


def add_check(m: Module, command: Value, room: Value, *, flows: int, regions: int) -> Value:
    """Whether ``command``, its first 32 bytes (16 of SEND), is refused as :mod:`rackgate.zeronic.messages` says.

    ``room``: of :func:`room_in_send`. What only tables and the header of a SEND can tell is not looked at. Adds the
    logic to ``m``.
    """
    is_bad, argument, units = Signal(), field(command, 6, 2), field(command, 2, 2)
    is_no_flow = field(command, 4, 2) >= flows
    with m.Switch(field(command, 0, 1)):
        with m.Case(CommandKind.PAD, CommandKind.FENCE):
            pass
        with m.Case(CommandKind.POST):
            m.d.comb += is_bad.eq(is_no_flow | (field(command, 22, 2) >= regions))
        with m.Case(CommandKind.RETIRE, CommandKind.CURSOR, CommandKind.FLOW):
            m.d.comb += is_bad.eq(is_no_flow)
        with m.Case(CommandKind.KEY):
            m.d.comb += is_bad.eq(is_no_flow | (argument >= 2 * flows))
        with m.Case(CommandKind.REGION):
            end = field(command, 8, 5) + field(command, 16, 5)
            m.d.comb += is_bad.eq((argument >= regions) | (end > 1 << ADDRESS_BITS))
        with m.Case(CommandKind.PROFILE):
            position, size = field(command, 10, 1), field(command, 11, 1)
            is_bad_size = (size != 0) & ((size < 8) | (size > 60))
            is_bad_position = position[0] | (position + 4 > Mux(size == 0, _TCP_LEAST, size))
            m.d.comb += is_bad.eq((argument >= PROFILES) | (field(command, 9, 1) > max(ChecksumKind))
                                  | is_bad_size | is_bad_position)
        with m.Case(CommandKind.SEND):
            m.d.comb += is_bad.eq(is_no_flow | _is_bad_send(command, room))
        with m.Default():
            m.d.comb += is_bad.eq(1)
    return is_bad | (units == 0)


def _is_bad_send(command, room):
    headers, payload, segment = field(command, 6, 2), field(command, 8, 4), field(command, 12, 2)
    gather, offload, snoop = ((field(command, 1, 1) & flag) != 0 for flag in (
        SendFlag.GATHER, SendFlag.OFFLOAD, SendFlag.SNOOP))
    return ((headers < ETHERNET_SIZE) | (headers > HEADER_MOST) | (payload > _SEND_MOST)
            | (payload[:16] > PAYLOAD_MOST) & ((segment == 0) | (segment > PAYLOAD_MOST))
            | ~offload & (gather | snoop | (segment != 0))
            | (Mux(gather, 0, payload[:16]) > room))
