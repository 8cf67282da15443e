# SPDX-License-Identifier: Apache-2.0
"""Packets that have come: when their credits go back, and how a host looks for those that no receive waits for.

Plain Python. A host that looks writes PROBE_TAG if it means one, then PROBE, and reads PROBE_0 until the search is
over. Nothing is taken: a receive with the node and the tag of the answer then gets that very message.
"""

from typing import NamedTuple

from rackgate.csr.map import Access, Field, Register

__all__ = ["PROBE_REGISTERS", "Probe", "Probed", "credit_threshold"]


def credit_threshold(credits: int) -> int:
    """Packets taken from a peer's buffers after which their credits are sent back by a packet of their own.

    Fewer wait for a packet that goes there anyway. The peer then still has one: none is ever lost by waiting.
    """
    return (credits + 1) // 2


class Probe(NamedTuple):
    """A question for messages that have come and that nobody receives: PROBE_TAG and PROBE. ``None``: any."""

    communicator: int
    node: int | None = None
    tag: int | None = None

    def words(self) -> tuple[int, int]:
        """As registers."""
        return (self.tag or 0, (self.node or 0) | (self.node is None) << 4 | (self.tag is None) << 5
                | self.communicator << 8)

    @classmethod
    def from_words(cls, words: tuple[int, int]) -> "Probe":
        """From the registers' values."""
        tag, word = words
        return cls(word >> 8 & 7, None if word >> 4 & 1 else word & 15, None if word >> 5 & 1 else tag)


class Probed(NamedTuple):
    """The message that a probe has found: PROBE_0 to PROBE_2.

    ``element``, ``is_compressed``, ``tag`` and ``length`` (bytes of payload) are those of its first packet's header.
    """

    node: int
    element: int
    is_compressed: bool
    tag: int
    length: int

    #: Bits of PROBE_0.
    IS_DONE = 1 << 31
    IS_FOUND = 1 << 30

    def words(self) -> tuple[int, int, int]:
        """As registers."""
        return (self.node | self.element << 4 | self.is_compressed << 8 | self.IS_FOUND | self.IS_DONE, self.tag,
                self.length)

    @classmethod
    def from_words(cls, words: tuple[int, int, int]) -> "Probed | None":
        """From the registers' values; ``None`` if nothing was found."""
        first, tag, length = words
        if not first & cls.IS_FOUND:
            return None
        return cls(first & 15, first >> 4 & 15, bool(first >> 8 & 1), tag, length)


PROBE_REGISTERS = (
    Register("PROBE_TAG", 0x110, Access.RW, "Tag that a probe looks for."),
    Register("PROBE", 0x114, Access.WO, "Look for the oldest message of send that has begun to come and that no "
             "receive waits for. Not before the last answer.",
             fields=(Field("NODE", 0, 4, "That it is from."), Field("ANY_NODE", 4, 1, "From any; the lowest goes "
                     "first."), Field("ANY_TAG", 5, 1, "With any tag."), Field("COMMUNICATOR", 8, 3, "Its own."))),
    Register("PROBE_0", 0x118, Access.RO, "The answer.",
             fields=(Field("NODE", 0, 4, "That it is from."), Field("ELEMENT", 4, 4, "Element type."),
                     Field("COMPRESSED", 8, 1, "Floats have 16 bits on the wire."),
                     Field("FOUND", 30, 1, "There is such a message."), Field("DONE", 31, 1, "The search is over."))),
    Register("PROBE_1", 0x11C, Access.RO, "Its tag."),
    Register("PROBE_2", 0x120, Access.RO, "Payload bytes of the whole message."),
)
