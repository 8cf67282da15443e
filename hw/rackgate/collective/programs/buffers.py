# SPDX-License-Identifier: Apache-2.0
"""Buffers of a call and pieces of them, as a collective names them."""

from typing import NamedTuple

from rackgate.collective.isa import Special
from rackgate.collective.programs.error import CollectiveError, author_line
from rackgate.collective.programs.expression import (
    CALL_ADDRESS,
    CALL_WORD,
    SPECIAL,
    Expression,
    Number,
    as_expression,
    operation,
)
from rackgate.collective.programs.statements import BUFFER_WORDS

__all__ = ["COUNT", "Buffer", "Piece", "SHIFT", "SIZE"]

SIZE = Expression(SPECIAL, int(Special.SIZE))
SHIFT = Expression(SPECIAL, int(Special.SHIFT))
COUNT = Expression(CALL_WORD, 1)


class Piece(NamedTuple):
    """``count`` elements of a buffer from element ``first`` on."""

    buffer: "Buffer"
    first: Expression
    count: Expression

    @property
    def address(self) -> Expression:
        """Of its first element."""
        return operation("+", operation("<<", self.first, SHIFT), self.buffer.address)


class Buffer:
    """A buffer that the call names. Where a move takes a piece it stands for its first ``c.count`` elements."""

    def __init__(self, name: str, is_stream: bool = False):
        self.name = name
        self.is_stream = is_stream
        self.address = Expression(CALL_ADDRESS, BUFFER_WORDS[name])

    @property
    def or_stream(self) -> "Buffer":
        """``operand`` or ``result``, or the kernel's stream in its place if the call's stream flags say so.

        A stream must be used whole, by one move of the rank.
        """
        if self.name == "operand_1":
            raise CollectiveError(f"{author_line()}: only operand and result can be streams")
        return Buffer(self.name, is_stream=True)

    def part(self, first: Number, count: Number) -> Piece:
        """``count`` elements from ``first`` on."""
        return Piece(self, as_expression(first), as_expression(count))

    def block(self, index: Number, blocks: Number = 1) -> Piece:
        """Block ``index`` of blocks of ``c.count`` elements each, or so many blocks from it on."""
        return Piece(self, operation("*", COUNT, index), operation("*", COUNT, blocks))

    def chunk(self, index: Number) -> Piece:
        """Chunk ``index`` of ``c.count`` elements split among ``c.size`` chunks: the first ``count % size`` of them
        have one element more than the others.
        """
        index = as_expression(index)
        each = COUNT // SIZE
        longer = COUNT - each * SIZE
        return Piece(self, index * each + operation("min", index, longer), each + (index < longer))
