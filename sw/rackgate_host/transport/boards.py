# SPDX-License-Identifier: Apache-2.0
"""Devices behind cables that are driven together, each at its own pace."""

from collections.abc import Sequence

from ..errors import Unavailable
from . import Transport, Turns

__all__ = ["JoinedBoards"]

#: Cycles between two looks at the interrupts.
_GLANCE = 10_000


class JoinedBoards:
    """Boards, whose time passes by itself: it is told by the first one's cycles.

    Parameters
    ----------
    transports:
        Access to each; closed by who has opened them.

    Attributes
    ----------
    turns:
        Of no effect: an access does not wait for device time.
    """

    def __init__(self, transports: Sequence[Transport]):
        if not transports:
            raise ValueError("transports must not be empty")
        self.transports: Sequence[Transport] = tuple(transports)
        self.turns: Turns | None = None

    @property
    def cycle(self) -> int:
        """Cycles of the first board since it was opened."""
        return self.transports[0].cycle

    def run(self, cycles: int, until_interrupt: bool = True) -> None:
        """Wait until ``cycles`` have passed at the first board, with ``until_interrupt`` until an interrupt is high."""
        end = self.cycle + cycles
        while not (until_interrupt and any(one.irq for one in self.transports)):
            left = end - self.cycle
            if left <= 0:
                return
            self.transports[0].run(min(left, _GLANCE), until_interrupt)

    def traffic(self, source: int, destination: int) -> tuple[int, int]:
        """Not to be had: nobody counts what is on the cables. Raises :class:`Unavailable`."""
        raise Unavailable(f"boards do not count what they send to each other: what node {source} has sent to node "
                          f"{destination} is not known")

    def close(self) -> None:
        """Nothing: each device has its own link."""
