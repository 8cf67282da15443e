# SPDX-License-Identifier: Apache-2.0
"""Which locks the switch has, and how many slots each: decided before, from what is known of the load. Plain Python."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Demand", "Slice", "place", "uniform"]


class Demand(NamedTuple):
    """What is known of a lock: its requests (in any unit), and how many are made at a time at most."""

    lock: int
    rate: float
    contention: int


class Slice(NamedTuple):
    """A lock's place in the switch: its ``index`` there, and its slots, ``left`` to ``right``."""

    lock: int
    index: int
    left: int
    right: int

    @property
    def registers(self) -> Mapping[str, Mapping[str, int]]:
        """Words, at ``index``, of a lock that nobody holds. They are written before the entry of the table."""
        return {
            "bounds": {"left": self.left, "right": self.right, "shrink": 0},
            "spaces": {"empty": self.right - self.left + 1, "server": 0},
            "tail": {"position": self.left}, "head": {"position": self.left},
            "counts": {"shared": 0, "exclusive": 0, "granting": 0},
        }


def place(demands: Iterable[Demand], locks: int, slots: int) -> list[Slice]:
    """Give the switch's ``slots`` to ``locks`` locks at most.

    Those with the most requests for each slot that they need come first, as in NetLock's placement; a lock needs as
    many slots as requests can be made at a time. The last may get fewer than it needs.
    """
    chosen: list[Slice] = []
    left = 0
    for demand in sorted(demands, key=lambda one: (-one.rate / max(1, one.contention), one.lock)):
        if len(chosen) == locks or left == slots:
            break
        count = min(max(1, demand.contention), slots - left)
        chosen.append(Slice(demand.lock, len(chosen), left, left + count - 1))
        left += count
    return chosen


def uniform(numbers: Iterable[int], slots: int) -> list[Slice]:
    """Give each of these locks ``slots`` slots."""
    return [Slice(number, k, k * slots, (k + 1) * slots - 1) for k, number in enumerate(numbers)]
