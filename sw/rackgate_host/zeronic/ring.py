# SPDX-License-Identifier: Apache-2.0
"""All-reduce over a ring of streams, on posted segments: the payload is moved by NICs alone."""

import numpy as np

from ..errors import UsageError
from .connection import Connection
from .endpoint import Endpoint

__all__ = ["Ring"]


class Ring:
    """A rank of a ring.

    Parameters
    ----------
    endpoint:
        Of the host that the rank runs on.
    rank, size:
        Which of how many it is.
    right, left:
        Streams to the next rank and from the one before. With two ranks they are two streams all the same.
    timeout:
        Most seconds for a step.

    A rank tells its left neighbour by a credit of one byte that the segment for the next step is posted, so nothing
    comes that has no place. Raises ``UsageError`` for a rank that is not one of ``size``.
    """

    def __init__(self, endpoint: Endpoint, rank: int, size: int, right: Connection, left: Connection,
                 timeout: float = 60.0):
        if not 0 <= rank < size or size < 2:
            raise UsageError(f"rank must be 0 to size - 1, and size at least 2, not {rank} of {size}")
        self.rank, self.size = rank, size
        self._endpoint = endpoint
        self._right, self._left, self._timeout = right, left, timeout
        self._credits = endpoint.allocate(2)

    @property
    def copied(self) -> int:
        """Bytes of elements that a CPU had to copy: 0 unless the wire lost or repeated some."""
        return self._left.copied

    def _step(self, send: np.ndarray, receive: np.ndarray) -> None:
        """Send one part to the right while another comes from the left."""
        given, taken = self._credits[:1], self._credits[1:]
        credit = self._right.post_receive(taken)
        come = self._left.post_receive(receive)
        allowed = self._left.post_send(given)
        credit.wait(self._timeout)
        gone = self._right.post_send(send)
        come.wait(self._timeout)
        gone.wait(self._timeout)
        allowed.wait(self._timeout)

    def allreduce(self, array: np.ndarray) -> None:
        """Replace ``array``, of :meth:`Endpoint.allocate`, by the sum over all ranks, element by element.

        All ranks must call it with arrays of one shape and type. Additions are in the order of the ring, which is
        another for each part; ranks get the same bytes. Raises ``UsageError`` for an array with fewer elements than
        ranks, and what :meth:`.connection.Request.wait` raises.
        """
        flat = array.reshape(-1)
        if flat.size < self.size or not np.may_share_memory(flat, array):
            raise UsageError(f"an array must be C-contiguous and have an element for each of {self.size} ranks")
        bounds = [flat.size * k // self.size for k in range(self.size + 1)]
        parts = [flat[begin:end] for begin, end in zip(bounds, bounds[1:], strict=False)]
        incoming = self._endpoint.allocate(max(part.size for part in parts), flat.dtype)
        for step in range(self.size - 1):
            target = parts[(self.rank - step - 1) % self.size]
            arrived = incoming[:target.size]
            self._step(parts[(self.rank - step) % self.size], arrived)
            target += arrived
        for step in range(self.size - 1):
            self._step(parts[(self.rank + 1 - step) % self.size], parts[(self.rank - step) % self.size])
        self._endpoint.free(incoming)
