# SPDX-License-Identifier: Apache-2.0
"""Requests to receive into an array, or to send one: see :mod:`.endpoint`."""

from typing import TYPE_CHECKING

import numpy as np

from rackgate.zeronic.abi import Direction

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Request"]


class Request:
    """A segment that was posted. ``array`` must be left alone until it is done.

    Attributes
    ----------
    position:
        Bytes of the stream before the segment.
    """

    def __init__(self, connection: "Connection", direction: Direction, position: int, array: np.ndarray):
        self._connection = connection
        self.direction = direction
        self.array = array
        self.position = position
        self.end = position + array.nbytes

    @property
    def done(self) -> bool:
        """Whether all bytes have been received, or sent and acknowledged by the peer."""
        return self._connection.reached(self.direction) >= self.end

    def wait(self, timeout: float | None = None) -> np.ndarray:
        """Wait until it is done: its array. All connections of the endpoint move on meanwhile.

        Raises
        ------
        StreamTimeout
            It is not done after ``timeout`` seconds; it may be waited for again.
        StreamClosed
            The stream has ended, or was reset, before.
        """
        self._connection.wait_for(self, timeout)
        return self.array

    def describe(self) -> str:
        """What there is to be told of it, for messages."""
        count = min(max(0, self._connection.reached(self.direction) - self.position), self.array.nbytes)
        verb = "received" if self.direction is Direction.RECEIVE else "acknowledged"
        return f"{count} of {self.array.nbytes} bytes were {verb}"
