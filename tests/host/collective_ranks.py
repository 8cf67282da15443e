# SPDX-License-Identifier: Apache-2.0
"""Clusters of ranks for the driver tests, and data that differs from rank to rank."""

import numpy as np

from rackgate_host.collective import SUM, open_cluster

#: Types of elements, and the greatest whole number that sums of 16 of them still hold exactly.
DTYPES = {"int32": 1 << 20, "int64": 1 << 40, "float16": 64, "float32": 1 << 16, "float64": 1 << 40}


#: Cycles of a link. Simulations whose links are shorter than that have to be looked after more often.
LATENCY = 20


def make(count, rank, dtype="float32", seed=0):
    """Whole numbers, so that sums are exact in any order."""
    most = DTYPES[np.dtype(dtype).name]
    random = np.random.default_rng([seed, rank, count])
    return random.integers(-most, most, count).astype(dtype)


def reduced(arrays, op=SUM):
    """What a reduction gives."""
    stacked = np.stack(arrays)
    return {"SUM": stacked.sum(axis=0, dtype=stacked.dtype), "MAX": stacked.max(axis=0),
            "MIN": stacked.min(axis=0)}[op.name]


class Clusters:
    """Clusters that were opened, by their options: a test may use one that another has left."""

    def __init__(self):
        self._open = {}

    def get(self, world, ranks, **options):
        """A cluster of ``ranks`` in which all communicators but the first are free."""
        options = {"link_latency": LATENCY, **options}
        key = world, ranks, tuple(sorted(options.items()))
        if key not in self._open:
            self._open[key] = open_cluster(f"{world}:collective", ranks, memory=16 << 20, **options)
        return self._open[key]

    def drop(self, world, ranks, **options):
        """Close a cluster that a test may have broken."""
        options = {"link_latency": LATENCY, **options}
        self._open.pop((world, ranks, tuple(sorted(options.items())))).close()

    def close(self):
        for cluster in self._open.values():
            cluster.close()
