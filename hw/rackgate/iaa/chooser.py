# SPDX-License-Identifier: Apache-2.0
"""Which work queue is served next."""

import operator

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import GROUPS, QUEUES

__all__ = ["Chooser"]


class Chooser(wiring.Component):
    """Choose among the queues that wait: by priority within a group, then the one not served for longest.

    A queue waits if it has work and one of its groups has a lane free. It is passed over while a queue of a group
    of its own with a higher priority waits. Of those left, whatever their groups, the one granted least
    recently is chosen; so queues of one priority take turns. ``choice`` follows the inputs after a cycle, changes of
    ``priority`` and ``members`` after two. Reset makes queue 0 the one that was served least recently.

    Parameters
    ----------
    queues:
        Number of queues, 1 to 8.

    Members
    -------
    has_work:
        Bit per queue.
    has_lane:
        Bit per group.
    priority:
        Of each queue; 15 is the highest.
    members:
        Mask of the queues of each group.
    choice:
        Bit of the chosen queue; none if no queue waits.
    grant:
        ``choice`` is served, now.
    """

    def __init__(self, queues: int):
        self.queues = operator.index(queues)
        if not 1 <= self.queues <= QUEUES:
            raise ValueError(f"queues must be 1 to {QUEUES}, not {queues}")
        super().__init__({
            "has_work": In(self.queues),
            "has_lane": In(GROUPS),
            "priority": In(4).array(self.queues),
            "members": In(self.queues).array(GROUPS),
            "choice": Out(self.queues),
            "grant": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        numbers = range(self.queues)
        waits, top = Signal(self.queues), Signal(self.queues)
        for one in numbers:
            lanes = Cat(mask[one] & free for mask, free in zip(self.members, self.has_lane, strict=True))
            m.d.comb += waits[one].eq(self.has_work[one] & lanes.any())
        for one in numbers:
            rivals = []
            for other in numbers:
                if other == one:
                    continue
                is_outranked = Signal(name=f"is_{one}_outranked_by_{other}")
                shared = Cat(mask[one] & mask[other] for mask in self.members)
                m.d.sync += is_outranked.eq(shared.any() & (self.priority[other] > self.priority[one]))
                rivals.append(waits[other] & is_outranked)
            m.d.sync += top[one].eq(waits[one] & ~Cat(rivals).any())

        # A bit for each pair: the first was served less recently. Together they are always an order of all queues.
        is_before = {(one, other): Signal(name=f"is_{one}_before_{other}", init=1)
                     for one in numbers for other in numbers if one < other}
        for one in numbers:
            earlier = [top[other] & (is_before[other, one] if other < one else ~is_before[one, other])
                       for other in numbers if other != one]
            m.d.comb += self.choice[one].eq(top[one] & ~Cat(earlier).any())
        for (one, other), bit in is_before.items():
            with m.If(self.grant & (self.choice[one] | self.choice[other])):
                m.d.sync += bit.eq(~self.choice[one])
        m.d.sync += Assert(~self.choice.any() == (top == 0), "queues wait and none is chosen")
        m.d.sync += Assert((self.choice & (self.choice - 1)) == 0, "two queues are chosen")
        return m
