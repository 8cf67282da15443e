# SPDX-License-Identifier: Apache-2.0
"""The configurations in which the hardened protocol is explored, and what was found: the table of the manual."""

from dataclasses import dataclass
from typing import Any

from rackgate.fisslock.abi import Mode, WordFormat

from .explore import Outcome, explore
from .hardened_state import Configuration, Network, Task
from .hardened_system import HardenedSystem

__all__ = ["CASES", "QUICK", "Case"]

S, X = Mode.SHARED, Mode.EXCLUSIVE
_LINKS, _FLOWS, _UNORDERED = Network.LINKS, Network.FLOWS, Network.UNORDERED
#: A count of one bit saturates at once.
_ONE_BIT = WordFormat(2, 2, 1, 5)


@dataclass(frozen=True)
class Case:
    """A configuration, and how many states it has. ``most_states`` bounds the search."""

    configuration: Configuration
    states: int
    most_states: int = 5_000_000

    @property
    def name(self) -> str:
        """The configuration's."""
        return self.configuration.name

    @property
    def is_quick(self) -> bool:
        """Whether it is a matter of seconds."""
        return self.states <= QUICK

    def explore(self, **limits: Any) -> Outcome:
        """Visit its states."""
        system = HardenedSystem(self.configuration)
        return explore([system.initial()], system.successors, invariants=system.invariants, good_end=system.good_end,
                       **{"most_states": self.most_states, **limits})


def _tasks(text: str) -> tuple[Task, ...]:
    """``"1S 2X?"``: host, mode, ``?``: does not wait, ``+``: comes twice."""
    return tuple(Task(int(word[0]), X if word[1] == "X" else S, "?" not in word, 2 if "+" in word else 1)
                 for word in text.split())


def _case(states: int, tasks: str, network: Network = _LINKS, **options: Any) -> Case:
    named = {"word": {_ONE_BIT: "count of 1 bit"}, "timers": {True: "timers"}, "memory": {False: "no memory"}}
    words = [named.get(key, {}).get(value, f"{key} {value}") for key, value in options.items()]
    if options.get("losses") or options.get("duplicates") or options.get("hasty"):
        options["timers"] = True
    name = "; ".join([tasks, network.value, *filter(None, words)])
    return Case(Configuration(name, _tasks(tasks), network, **options), states)


#: Ordered by what the network does: nothing wrong, other orders, cancelled requests, repeated and lost messages; those
#: in which epochs are renewed at the end.
CASES = (
    _case(1596, "1S 2X 3S"),
    _case(26389, "1S 2S 2S 2X", word=_ONE_BIT),
    _case(28123, "1X 2S 3S 3X"),
    _case(51981, "1S 2S 3X 3S", bypasses=0),
    _case(1848, "1S 2X 3S", _FLOWS),
    _case(2630, "1S 2X 3S", _UNORDERED),
    _case(1580, "1X 2X 3X", _UNORDERED),
    _case(701665, "1S 2S 3X 3S 3X"),
    _case(8948, "1S 2X 3X", cancels=1),
    _case(18423, "1S 2X 2S", _FLOWS, cancels=1),
    _case(44680, "1S 2X 3S", cancels=3),
    _case(5012, "1X 2X", _UNORDERED, duplicates=1),
    _case(6025, "1S 2X", _UNORDERED, duplicates=1, word=_ONE_BIT),
    _case(40921, "1S 2S 2X", duplicates=1),
    _case(3317, "1S 2X?", _UNORDERED, losses=1),
    _case(2400, "1S 2S", _UNORDERED, losses=1),
    _case(4697, "1S 2X", _UNORDERED, losses=1),
    _case(13007, "1X 2S", losses=1, hasty=1),
    _case(7881, "1S 2X", losses=1, cancels=1),
    _case(1737, "1X 2S", losses=1, memory=False),
    _case(3430, "1S 1X", losses=2),
    _case(6395, "1S 2S", losses=2),
    _case(23653, "1S 2S", losses=2, cancels=1),
    _case(73311, "1S 2S", _UNORDERED, losses=1, hasty=1),
    _case(67327, "1S 2S 2X", losses=1),
    _case(125305, "1S 2X", _UNORDERED, losses=1, duplicates=1),
    _case(158928, "1X 2S 3S", losses=1),
    # Readers that overlap: the count is full at once, and the epoch is renewed.
    _case(2363, "1S 2S 2S", word=_ONE_BIT),
    _case(3983, "1S 2S 3S", _FLOWS, word=_ONE_BIT),
    _case(14033, "1S 2S 2S", _UNORDERED, word=_ONE_BIT),
    _case(94066, "1S 2S 2S 2S", _FLOWS, word=_ONE_BIT),
    _case(39902, "1S 2S 2S", cancels=2, word=_ONE_BIT),
    _case(311385, "1S 2S 2X 2S", cancels=1, bypasses=0, word=_ONE_BIT),
    _case(50469, "1S 2S 2S", losses=1, word=_ONE_BIT),
    _case(73854, "1S 2S 2S", duplicates=1, word=_ONE_BIT),
    _case(215398, "1S 2S 2S", _UNORDERED, losses=1, word=_ONE_BIT),
    _case(1207441, "1S 2S 2S", _UNORDERED, duplicates=1, word=_ONE_BIT),
)

#: States above which a case is left to `make soak`.
QUICK = 22_000
