# SPDX-License-Identifier: Apache-2.0
"""Headers and checksums between bytes and header vectors."""

from collections.abc import Mapping, Sequence

from rackgate.net.frames import internet_checksum
from rackgate.pisa.declare import Checksum, Header, Pipeline
from rackgate.pisa.expr import Field

__all__ = ["Codec", "checksum_of", "ones_complement_sum"]


def ones_complement_sum(content: bytes) -> int:
    """RFC 1071's sum of 16-bit words, folded to 16 bits; an odd last byte counts as the upper half of a word."""
    return internet_checksum(content) ^ 0xFFFF


class Codec:
    """Read and write a pipeline's headers. ``places`` maps the id of a field to its place in a vector."""

    def __init__(self, pipeline: Pipeline, places: Mapping[int, int]):
        self.pipeline = pipeline
        self.places = places
        self._layout: dict[int, list[tuple[int, int, int]]] = {}
        self._size = {id(header): header.size for header in pipeline.headers}
        for header in pipeline.headers:
            left, layout = header.width, []
            for item in header.fields.values():
                left -= item.width
                layout.append((places[id(item)], left, (1 << item.width) - 1))
            self._layout[id(header)] = layout

    def value(self, phv: Sequence[int], item: Field) -> int:
        """A field of a vector."""
        return phv[self.places[id(item)]]

    def extract(self, header: Header, content: bytes, phv: list[int]) -> None:
        """Put a header's bytes into the vector, and mark it valid."""
        whole = int.from_bytes(content, "big")
        for place, low, mask in self._layout[id(header)]:
            phv[place] = whole >> low & mask
        phv[self.places[id(header.is_valid)]] = 1

    def bytes_of(self, header: Header, phv: Sequence[int]) -> bytes:
        """A header's bytes."""
        whole = 0
        for place, low, mask in self._layout[id(header)]:
            whole |= (phv[place] & mask) << low
        return whole.to_bytes(self._size[id(header)], "big")

    def emit(self, phv: Sequence[int], payload: bytes) -> bytes:
        """The frame: valid headers in the deparser's order, their checksums computed, then the payload."""
        sent = list(phv)
        for item in self.pipeline.checksums:
            if self.value(sent, item.target.owner.is_valid):
                sent[self.places[id(item.target)]] = checksum_of(self, item, sent, payload)
        return b"".join(self.bytes_of(header, sent) for header in self.pipeline.emit
                        if self.value(sent, header.is_valid)) + payload


def checksum_of(codec: Codec, item: Checksum, phv: Sequence[int], payload: bytes) -> int:
    """What the checksum must be."""
    without = list(phv)
    without[codec.places[id(item.target)]] = 0
    content = b"".join(codec.bytes_of(header, without) for header in item.headers
                       if codec.value(phv, header.is_valid))
    if item.payload:
        content += payload
    pseudo = b"".join(codec.value(phv, part).to_bytes((part.width + 15) // 16 * 2, "big") for part in item.pseudo)
    answer = ones_complement_sum(pseudo + content) ^ 0xFFFF
    return 0xFFFF if item.zero_is_none and answer == 0 else answer
