# SPDX-License-Identifier: Apache-2.0
"""A rank of a ring: `python zeronic_allreduce.py RANK SIZE RIGHT PORT ELEMENTS SEED`, RIGHT an address."""

import sys
import time

import numpy as np

from rackgate_host.zeronic.connection import Connection
from rackgate_host.zeronic.endpoint import Endpoint
from rackgate_host.zeronic.ring import Ring


def values(seed: int, rank: int, elements: int) -> np.ndarray:
    """What a rank begins with: small integers, whose sums are exact in any order."""
    return np.random.default_rng([seed, rank]).integers(-1000, 1000, elements).astype(np.float32)


def connect(endpoint: Endpoint, address: str, port: int) -> Connection:
    for _ in range(400):
        try:
            return endpoint.connect(address, port)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("the neighbour does not listen")


def main() -> None:
    rank, size, right, port, elements, seed = (sys.argv[k] if k == 3 else int(sys.argv[k]) for k in range(1, 7))
    assert isinstance(rank, int) and isinstance(size, int) and isinstance(port, int)
    assert isinstance(elements, int) and isinstance(seed, int) and isinstance(right, str)
    with Endpoint() as endpoint, endpoint.listen(port + rank) as listener:
        to_right = connect(endpoint, right, port + (rank + 1) % size)
        ring = Ring(endpoint, rank, size, to_right, listener.accept(timeout=30))
        array = endpoint.allocate(elements, "f4")
        for turn in range(2):
            array[:] = values(seed + turn, rank, elements)
            ring.allreduce(array)
            wanted = sum(values(seed + turn, other, elements) for other in range(size))
            if not np.array_equal(array, wanted):
                raise SystemExit(f"{np.count_nonzero(array != wanted)} of {elements} sums are wrong")
        print(ring.copied)
        # The last acknowledgement must leave before the connections do.
        to_right.shutdown(10)


if __name__ == "__main__":
    main()
