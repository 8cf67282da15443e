# SPDX-License-Identifier: Apache-2.0
"""Packet streams: words of bytes with the end of the packet marked."""

import operator

from amaranth.lib import data, stream
from amaranth.utils import ceil_log2

__all__ = ["WIDTHS", "PacketSignature", "packet_layout"]

#: Legal widths of a packet stream, in bytes.
WIDTHS = (1, 2, 4, 8, 16, 32, 64)


def packet_layout(width: int) -> data.StructLayout:
    """Payload of a packet stream ``width`` bytes wide.

    Fields
    ------
    data:
        ``8 * width`` bits; byte 0 of the word, the first on the wire, in bits 7:0.
    count:
        Valid bytes in this word, 1 to ``width``. It is ``width`` on every word but the last.
    last:
        This word ends the packet.
    error:
        On the last word: the packet is damaged and must be dropped.
    """
    width = operator.index(width)
    if width not in WIDTHS:
        raise ValueError(f"width must be one of {WIDTHS} bytes, not {width}")
    return data.StructLayout({"data": 8 * width, "count": ceil_log2(width + 1), "last": 1, "error": 1})


def PacketSignature(width: int) -> stream.Signature:
    """Stream of packets, ``width`` bytes a word (see :func:`packet_layout`)."""
    return stream.Signature(packet_layout(width))
