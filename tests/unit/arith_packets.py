# SPDX-License-Identifier: Apache-2.0
"""Packets for the converters, and what becomes of them."""

import numpy as np

from rackgate_sim.arith import compress, expand

__all__ = ["converted", "random_packet", "split"]


def random_packet(rng, dtype, values, *, longest):
    """Bytes of a packet, and whether to convert them: from ``values``, noise or nothing."""
    size = np.dtype(dtype).itemsize
    if rng.random() < 0.3:  # passes, and may end anywhere
        return rng.randbytes(rng.randrange(longest * size)), False
    count = rng.choice([0, 1, 2, 3, rng.randrange(longest)])
    start = rng.randrange(len(values) - count)
    return values[start:start + count].tobytes(), True


def converted(raw, convert, dtype):
    """Bytes of a packet behind the converter that takes ``dtype``."""
    if not convert:
        return raw
    return (compress if dtype == np.float32 else expand)(np.frombuffer(raw, dtype)).tobytes()


def split(raw, width, *, error=0):
    """Words of a packet as (data, count, last, error); an empty one is a word."""
    parts = [raw[k:k + width] for k in range(0, len(raw), width)] or [b""]
    last = len(parts) - 1
    return [(int.from_bytes(part, "little"), len(part), int(k == last), error * (k == last))
            for k, part in enumerate(parts)]
