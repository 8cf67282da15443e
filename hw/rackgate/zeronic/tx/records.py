# SPDX-License-Identifier: Apache-2.0
"""What the blocks that send tell each other."""

from amaranth.lib import data

from rackgate.zeronic.abi import HEADER_MOST
from rackgate.zeronic.records import FLOW_BITS, FRAME_MOST, LENGTH_BITS

__all__ = ["PAYLOAD_MOST", "SLOTS", "FrameJob", "FrameTag", "GatherRequest", "SendCommand", "SendJob"]

#: Headers that are kept at a time: commands that wait for their payload.
SLOTS = 8
#: Bytes of the longest payload of a frame.
PAYLOAD_MOST = FRAME_MOST - HEADER_MOST


class SendCommand(data.Struct):
    """The head of a SEND command that has been checked as far as it goes."""

    flow: FLOW_BITS
    gather: 1
    offload: 1
    snoop: 1
    headers: 7
    payload: 16
    segment: 16


class SendJob(data.Struct):
    """A SEND command whose header is kept in ``slot``; ``sequence`` and ``identification`` are from it."""

    slot: range(SLOTS)
    flow: FLOW_BITS
    gather: 1
    offload: 1
    headers: 7
    payload: 16
    segment: 16
    sequence: 32
    identification: 16


class FrameJob(data.Struct):
    """A frame to be made: the header of ``slot``, and ``payload`` bytes that are gathered or came with the command.

    ``header_end``: the place of its header's last byte. ``first`` and ``last`` of its command.
    """

    slot: range(SLOTS)
    flow: FLOW_BITS
    gather: 1
    offload: 1
    header_end: 7
    payload: LENGTH_BITS
    sequence: 32
    identification: 16
    first: 1
    last: 1


class GatherRequest(data.Struct):
    """``size`` bytes of a flow's stream, from ``position`` on; not 0."""

    flow: FLOW_BITS
    position: 32
    size: LENGTH_BITS


class FrameTag(data.Struct):
    """What goes with each word of a frame: it gets checksums; it is the last of its command; whose it is."""

    offload: 1
    last: 1
    flow: FLOW_BITS
