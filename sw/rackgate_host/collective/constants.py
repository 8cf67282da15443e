# SPDX-License-Identifier: Apache-2.0
"""Names that MPI has for special arguments."""

import enum
from typing import Any, Final, NamedTuple

from rackgate.arith.abi import Function

__all__ = ["ANY_SOURCE", "ANY_TAG", "IN_PLACE", "InPlace", "MAX", "MAX_TAG", "MIN", "PROC_NULL", "SUM", "Stream",
           "UNDEFINED"]

#: Receive from whoever sends first, or whatever tag comes first.
ANY_SOURCE = ANY_TAG = -1
#: Nobody: messages to and from it end at once, with nothing.
PROC_NULL = -2
#: Color of a rank that :meth:`.Communicator.Split` gives no communicator.
UNDEFINED = -32766
#: Greatest tag of a message.
MAX_TAG = (1 << 31) - 1

SUM, MAX, MIN = Function.SUM, Function.MAX, Function.MIN


class InPlace(enum.Enum):
    """Type of :data:`IN_PLACE`."""

    IN_PLACE = "the operand is in the result's buffer"


IN_PLACE: Final = InPlace.IN_PLACE


class Stream(NamedTuple):
    """In place of an array: ``count`` elements that come from the kernel's stream, or go to it."""

    count: int
    dtype: Any
