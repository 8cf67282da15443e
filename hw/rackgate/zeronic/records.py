# SPDX-License-Identifier: Apache-2.0
"""What the NIC's blocks tell each other."""

import operator

from amaranth.hdl import unsigned
from amaranth.lib import data

from rackgate.zeronic.abi import HEADER_MOST

__all__ = [
    "ADDRESS_BITS", "FLOW_BITS", "FRAME_MOST", "LENGTH_BITS", "REGION_BITS", "Ending", "FlowKey", "FlowUpdate",
    "FrameRecord", "Judged", "KeyUpdate", "LookedUp", "Piece", "PostUpdate", "ProfileUpdate", "RegionUpdate",
    "RetireUpdate", "Verdict", "check_width",
]

#: Bits of an address in memory, and of an offset in a region.
ADDRESS_BITS = 40
#: Bits of a flow's number; a NIC may have fewer flows.
FLOW_BITS = 10
REGION_BITS = 8
#: Bytes of the longest frame: 9,216 of payload behind the longest headers.
FRAME_MOST = 9216 + HEADER_MOST
#: Bits of a frame's length, and of a piece's.
LENGTH_BITS = 14


def check_width(width: int) -> int:
    """``width`` if a NIC may have words of so many bytes, else ValueError; TypeError if it is no integer."""
    if operator.index(width) not in (8, 16, 32):
        raise ValueError(f"width of a NIC must be one of (8, 16, 32) bytes, not {width}")
    return operator.index(width)


class FlowKey(data.Struct):
    """What tells flows apart, as on the wire that comes in; as numbers."""

    source: 32
    destination: 32
    source_port: 16
    destination_port: 16
    profile: 2


class Verdict(data.Struct):
    """What the headers of a frame say, while the rest of it may still be on its way: it counts if the frame is kept.

    ``split``: a profile matched; without it nothing else counts. ``headers``: bytes before the payload. ``flags``: byte
    13 of a TCP header, with other profiles 0.
    """

    split: 1
    key: FlowKey
    position: 32
    headers: 7
    payload: LENGTH_BITS
    flags: 8


class Ending(data.Struct):
    """How a frame ended: whether it is kept, so all that had to be checked was right.

    ``word``: its first word in the frame buffer; ``length``: its bytes.
    """

    keep: 1
    word: 16
    length: LENGTH_BITS


class FrameRecord(data.Struct):
    """A verdict with what the tables said: which flow, and where its cursor was (it may have gone on since).

    ``checked``: a profile matched, so a frame that is kept has the right checksums. ``has_flow``: it belongs to
    ``flow``. ``split``: its payload may be placed. ``ring``, ``coalesce``: of the flow.
    """

    checked: 1
    has_flow: 1
    split: 1
    flow: FLOW_BITS
    ring: 1
    coalesce: 1
    cursor: 32
    position: 32
    headers: 7
    payload: LENGTH_BITS
    flags: 8


class LookedUp(data.Struct):
    """A frame, or a fence between frames: with ``is_fence`` only ``ring`` and ``cookie`` count, else only ``frame``."""

    is_fence: 1
    ring: 1
    cookie: 16
    frame: FrameRecord


class Piece(data.Struct):
    """Bytes of a flow's stream that stand in one segment: ``size`` from ``position`` on, at ``address`` of memory.

    The address has been checked against region and rights. ``last`` ends the pieces of a frame; the last may be of size
    0, the others are not.
    """

    position: 32
    size: LENGTH_BITS
    address: ADDRESS_BITS
    last: 1


class Judged(data.Struct):
    """How much of a frame may be written: ``size`` bytes from ``position`` on (perhaps 0).

    ``whole``: all other bytes of the frame are before the cursor, so its header suffices. ``old``: some are.
    ``conflict``, ``no_interval``: why not all of what is covered may be written.
    """

    position: 32
    size: LENGTH_BITS
    whole: 1
    old: 1
    conflict: 1
    no_interval: 1


class PostUpdate(data.Struct):
    """A segment for the end of a flow's list (:class:`~rackgate.zeronic.abi.Post`)."""

    flow: FLOW_BITS
    start: 32
    length: 32
    region: REGION_BITS
    offset: ADDRESS_BITS


class RetireUpdate(data.Struct):
    """Segments to take from the head of a flow's list (:class:`~rackgate.zeronic.abi.Retire`)."""

    flow: FLOW_BITS
    count: 8


class FlowUpdate(data.Struct):
    """A flow that begins (``begin``: flags and lists, too), or whose cursor goes on."""

    flow: FLOW_BITS
    begin: 1
    flags: 8
    cursor: 32


class KeyUpdate(data.Struct):
    """A place of the flow table: ``place`` is the way in bits 1:0 and the set above."""

    place: 16
    valid: 1
    flow: FLOW_BITS
    key: FlowKey


class RegionUpdate(data.Struct):
    """A memory region (:class:`~rackgate.zeronic.abi.Region`)."""

    region: REGION_BITS
    rights: 2
    base: ADDRESS_BITS
    length: ADDRESS_BITS
    owner: unsigned(FLOW_BITS + 1)


class ProfileUpdate(data.Struct):
    """A header profile (:class:`~rackgate.zeronic.abi.Profile`)."""

    profile: 2
    protocol: 8
    checksum: 2
    position: 8
    size: 8
    port: 16
    mask: 16
