# SPDX-License-Identifier: Apache-2.0
"""What commands fill: profiles, keys, flows with their segments and guards, regions."""

from rackgate.zeronic.abi import PROFILES, WAYS, Direction, flow_hash
from rackgate.zeronic.messages import TCP_PROFILE, FlowFlag, Profile
from rackgate_sim.zeronic.guard import FlowGuard
from rackgate_sim.zeronic.parse import FlowKey
from rackgate_sim.zeronic.segments import Regions, SegmentList

__all__ = ["Flow", "Tables"]


class Flow:
    """A flow: its flags, its segments by direction, its guard."""

    def __init__(self, segments: int, intervals: int) -> None:
        self._intervals = intervals
        self.segments = {direction: SegmentList(segments) for direction in Direction}
        self.begin(FlowFlag(0), 0)

    def begin(self, flags: FlowFlag, cursor: int) -> None:
        """Forget what was, and begin at ``cursor``."""
        self.flags = flags
        self.guard = FlowGuard(cursor, self._intervals)
        for one in self.segments.values():
            one.clear()

    @property
    def ring(self) -> int:
        """Ring of its entries."""
        return int(FlowFlag.RING_1 in self.flags)


class Tables:
    """All tables of a NIC with so many flows, and segments and intervals a flow."""

    def __init__(self, flows: int, segments: int, intervals: int) -> None:
        self.profiles = [TCP_PROFILE, *(Profile(number, 0, 0, 0, 0) for number in range(1, PROFILES))]
        self.flows = [Flow(segments, intervals) for _ in range(flows)]
        self.regions = Regions()
        self._sets = 2 * flows // WAYS
        self._places: dict[int, tuple[FlowKey, int]] = {}

    @property
    def places(self) -> int:
        """Places of the flow table."""
        return self._sets * WAYS

    def set_key(self, place: int, key: FlowKey, flow: int | None) -> None:
        """Write a place of the flow table: ``key`` is of ``flow``; with ``None`` the place is empty."""
        if flow is None:
            self._places.pop(place, None)
        else:
            self._places[place] = key, flow

    def lookup(self, key: FlowKey) -> int | None:
        """The flow of a key, if it has one."""
        first = flow_hash(*key) % self._sets * WAYS
        for place in range(first, first + WAYS):
            there = self._places.get(place)
            if there is not None and there[0] == key:
                return there[1]
        return None
