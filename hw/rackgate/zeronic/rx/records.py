# SPDX-License-Identifier: Apache-2.0
"""What the back half of the receive chain tells itself: moves, decisions, entries."""

from amaranth.lib import data, enum

from rackgate.zeronic.abi import HEADER_MOST
from rackgate.zeronic.records import ADDRESS_BITS, FLOW_BITS, LENGTH_BITS

__all__ = [
    "HEADERS_BITS", "SLOT_BITS", "UNITS_BITS", "ContentRequest", "ContentSource", "Decision", "EntryJob", "Fence",
    "Move", "Notice", "RawEntry", "TrimOrder",
]

#: Bits of the number of bytes of headers.
HEADERS_BITS = HEADER_MOST.bit_length()
#: Bits of the number of a slot for the headers of an entry.
SLOT_BITS = 4
#: Bits of an entry's size in multiples of 8 bytes.
UNITS_BITS = 11


class Fence(data.Struct):
    """A token that follows the frames before it (:class:`~rackgate.zeronic.messages.Fence`)."""

    ring: 1
    cookie: 16


class Notice(data.Struct):
    """A SEND of ``flow`` that was not sent (to the end), for the flow's ``ring``."""

    ring: 1
    flow: FLOW_BITS


class TrimOrder(data.Struct):
    """What of a frame may be written: ``size`` bytes (perhaps none) from stream position ``position`` on.

    ``word``: the frame's first word in the frame buffer; ``offset``: where in the frame the byte of ``position`` is.
    """

    position: 32
    size: LENGTH_BITS
    word: 16
    offset: LENGTH_BITS


class Move(data.Struct):
    """``size`` bytes, at least 1, from byte ``offset`` of the frame at ``word`` of the frame buffer to ``address``.

    ``last`` of those of its frame.
    """

    word: 16
    offset: LENGTH_BITS
    size: LENGTH_BITS
    address: ADDRESS_BITS
    last: 1


class Decision(data.Struct):
    """A frame whose way is known, or with ``is_fence`` a fence: then ``ring``, and ``position`` is its cookie.

    ``word`` and ``length`` in the frame buffer. ``deferred``: it goes up whole. ``split``: it belongs to a flow that is
    split. ``placed`` bytes of its ``payload``, from ``placed_offset`` on, are being written to memory. Others: of the
    frame (:class:`~rackgate.zeronic.records.FrameRecord`), and why (:class:`~rackgate.zeronic.records.Judged`,
    :class:`~rackgate.zeronic.abi.Counter`).
    """

    is_fence: 1
    word: 16
    length: LENGTH_BITS
    checked: 1
    has_flow: 1
    split: 1
    flow: FLOW_BITS
    ring: 1
    coalesce: 1
    position: 32
    headers: HEADERS_BITS
    payload: LENGTH_BITS
    flags: 8
    deferred: 1
    placed_offset: LENGTH_BITS
    placed: LENGTH_BITS
    old: 1
    no_segment: 1
    conflict: 1
    no_interval: 1
    bad_region: 1


class RawEntry(data.Struct):
    """The first 16 bytes of an entry (:class:`~rackgate.zeronic.messages.Entry`), lowest address first."""

    kind: 8
    flags: 8
    size: 16
    flow: 16
    content: 16
    payload: 17
    placed_offset: 15
    placed: 17
    headers: 7
    frames: 8


class ContentSource(enum.Enum, shape=1):
    """Where the content of an entry is."""

    SLOT = 0  # headers, in a slot of HeaderSlots
    FRAME = 1  # a frame, in the frame buffer


class ContentRequest(data.Struct):
    """``size`` bytes, from the begin of slot or frame ``place``, are wanted. With size 0 it is only let go."""

    source: ContentSource
    place: 16
    size: LENGTH_BITS


class EntryJob(data.Struct):
    """An entry for ``ring``. Its content, if any, is at ``place`` of ``source``. ``entry.size`` does not count."""

    ring: 1
    entry: RawEntry
    source: ContentSource
    place: 16

