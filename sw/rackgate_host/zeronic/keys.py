# SPDX-License-Identifier: Apache-2.0
"""Which key stands where in the NIC's flow table."""

from typing import NamedTuple

from rackgate.zeronic.abi import WAYS, flow_hash

from .errors import FlowTableFull

__all__ = ["FlowKey", "KeyTable"]


class FlowKey(NamedTuple):
    """A flow as frames that come in name it: their source and destination."""

    source: int
    destination: int
    source_port: int
    destination_port: int
    profile: int = 0


class KeyTable:
    """The host's copy of the flow table, which finds a place for each key.

    Parameters
    ----------
    flows:
        Flows of the NIC: the table has twice as many places, in sets of :data:`~rackgate.zeronic.abi.WAYS`.
    """

    def __init__(self, flows: int):
        self._sets = 2 * flows // WAYS
        self._places: dict[FlowKey, int] = {}
        self._taken: set[int] = set()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: FlowKey) -> bool:
        return key in self._places

    def insert(self, key: FlowKey) -> int:
        """The place for ``key``: the way in bits 1:0, the set above.

        Raises :class:`FlowTableFull`, and ValueError for a key that stands in the table already.
        """
        if key in self._places:
            raise ValueError(f"key must be a new one, not {key}")
        first = (flow_hash(*key) % self._sets) * WAYS
        for place in range(first, first + WAYS):
            if place not in self._taken:
                self._taken.add(place)
                self._places[key] = place
                return place
        raise FlowTableFull(f"the NIC's flow table has no place for {key}: the {WAYS} places of its set are taken")

    def remove(self, key: FlowKey) -> int:
        """The place where ``key`` stood. Raises KeyError if it did not."""
        place = self._places.pop(key)
        self._taken.remove(place)
        return place
