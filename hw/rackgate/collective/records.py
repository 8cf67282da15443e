# SPDX-License-Identifier: Apache-2.0
"""What the blocks of the collective engine hand to each other."""

from amaranth.lib import data

__all__ = ["ADDRESS_BITS", "MOVE_BITS", "SIZE_BITS", "SLOT_BITS", "STREAM_MOVE", "CallFields", "CallInfo",
           "Clear", "CompletionFields", "Credit", "CreditPacket", "Done", "Failure", "HeaderFields", "Key", "Move",
           "Opening", "Packet", "ProbedPacket", "ReceiveSegment", "Received", "Retired", "SendSegment"]

ADDRESS_BITS = 40
#: In the place of a move: a packet for the kernel's stream, for which there is none.
STREAM_MOVE = 16
_NODE = 4
#: Number of a move, or STREAM_MOVE.
MOVE_BITS = 5
SLOT_BITS = 8
#: Bytes of one segment in memory: up to 8192, as 4096 on the wire may be twice that.
SIZE_BITS = 14


class HeaderFields(data.Struct):
    """A packet's header (:class:`rackgate.collective.abi.Header`), as far as it is not the same in every packet.

    ``size``: payload bytes of this packet, 0 to 4096. On its way out the packetizer adds source, sequence and CRC; on
    its way in they have been checked and ``node`` is the source; out, ``node`` is the destination.
    """

    type: 4
    flags: 8
    communicator: 3
    credit: 8
    node: _NODE
    operation: 16
    tag: 32
    length: 32
    offset: 32
    element: 4
    handle: 4
    size: SIZE_BITS


class Key(data.Struct):
    """What a receive waits for."""

    communicator: 3
    operation: 16
    tag: 32
    any_tag: 1
    node: _NODE
    any_node: 1


class Packet(data.Struct):
    """A packet in a receive buffer."""

    slot: SLOT_BITS
    size: SIZE_BITS
    flags: 8
    node: _NODE
    tag: 32
    length: 32
    element: 4
    handle: 4


class ProbedPacket(data.Struct):
    """What a probe has found, if anything: of the first packet of a message that nobody waits for."""

    found: 1
    compressed: 1
    node: _NODE
    element: 4
    tag: 32
    length: 32


class Credit(data.Struct):
    """``count`` more packets may be sent to ``node`` on ``communicator``."""

    communicator: 3
    node: _NODE
    count: 8


class CreditPacket(data.Struct):
    """A packet to be sent that has nothing but credit."""

    communicator: 3
    node: _NODE
    count: 8


class Clear(data.Struct):
    """The message that is ``handle`` to ``node`` may be sent on: a receive for it has begun, there or here."""

    communicator: 3
    node: _NODE
    handle: 4


class Move(data.Struct):
    """A move, as the sequencer gives it out at GO. ``control`` as isa.MoveControl; nodes, not ranks."""

    context: 2
    communicator: 3
    operation: 16
    control: 9
    function: 4
    element: 4
    compressed: 1
    count: 32
    local: ADDRESS_BITS
    other: ADDRESS_BITS
    result: ADDRESS_BITS
    source: _NODE
    any_source: 1
    destination: _NODE
    tag: 32
    any_tag: 1


class SendSegment(data.Struct):
    """A packet's worth of memory (or of a kernel's stream) for the link: a command of the send lane.

    ``size``: bytes in memory; ``header.size`` is that, or half of it if ``compress``. ``last``: of its move.
    """

    move: MOVE_BITS
    last: 1
    address: ADDRESS_BITS
    from_stream: 1
    size: SIZE_BITS
    compress: 1
    header: HeaderFields


class ReceiveSegment(data.Struct):
    """A packet's worth of a move that receives, reduces or copies: a command of the receive lane.

    The second operand is a packet (``has_packet``: buffer ``slot`` with ``packet_size`` bytes, ``expand``: of 16-bit
    floats) or memory (``has_other``); the first is memory or a kernel's stream. ``size``: bytes of the result in
    memory. It goes to memory (``to_memory``), a kernel's stream, and the link (``send``), any of them at a time.
    """

    move: MOVE_BITS
    last: 1
    has_packet: 1
    slot: SLOT_BITS
    packet_size: SIZE_BITS
    expand: 1
    has_other: 1
    other: ADDRESS_BITS
    has_local: 1
    from_stream: 1
    local: ADDRESS_BITS
    reduce: 1
    function: 4
    element: 4
    size: SIZE_BITS
    to_memory: 1
    to_stream: 1
    result: ADDRESS_BITS
    send: 1
    compress: 1
    header: HeaderFields


class Retired(data.Struct):
    """A segment is done: its bytes are in memory, or handed to the link."""

    move: MOVE_BITS
    read_error: 1
    write_error: 1


class Failure(data.Struct):
    """Why a context's call has failed: abi.Status, abi.Cause and the node that the cause is about."""

    status: 8
    cause: 4
    node: _NODE


class Done(data.Struct):
    """``valid``: a move of ``context`` has ended."""

    valid: 1
    context: 2


class Received(data.Struct):
    """``valid``: a packet of ``size`` payload bytes and ``tag``, from ``node``, was taken for a move of ``context``."""

    valid: 1
    context: 2
    size: SIZE_BITS
    node: 4
    tag: 32


class Opening(data.Struct):
    """A communicator opens: each of its nodes gets ``credits``; messages of more than ``eager`` packets ask first."""

    communicator: 3
    credits: 8
    eager: 8


class CompletionFields(data.Struct):
    """What is said of a call that has ended: abi.Completion."""

    id: 16
    status: 8
    cause: 4
    node: _NODE
    cycles: 32
    bytes: 32
    tag: 32


class CallFields(data.Struct):
    """A call, as the 16 words of :class:`rackgate.collective.abi.Call`, the first one lowest."""

    scenario: 32
    count: 32
    communicator: 32
    peer: 32
    function: 32
    tag: 32
    element: 32
    compression: 32
    streams: 32
    operand_0: 64
    operand_1: 64
    result: 64
    id: 32


class CallInfo(data.Struct):
    """What a context knows of its call.

    ``slot``: where its words are. ``operation``: number of the collective, 0 if it is none. ``shift``: binary
    logarithm of an element's bytes. ``size``, ``rank``: of the communicator.
    """

    slot: 8
    id: 16
    communicator: 3
    operation: 16
    is_collective: 1
    function: 4
    element: 4
    shift: 2
    compressed: 1
    size: 5
    rank: 4
