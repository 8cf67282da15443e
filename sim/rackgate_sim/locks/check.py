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


#: Ordered by what the network does: nothing wrong, other orders, cancelled requests, repeated and lost messages.
CASES = (
    _case(1596, "1S 2X 3S"),
    _case(21825, "1S 2S 2S 2X", word=_ONE_BIT),
    _case(28123, "1X 2S 3S 3X"),
    _case(51981, "1S 2S 3X 3S", bypasses=0),
    _case(1732, "1S 2X 3S", _FLOWS),
    _case(2350, "1S 2X 3S", _UNORDERED),
    _case(1580, "1X 2X 3X", _UNORDERED),
    _case(708151, "1S 2S 3X 3S 3X"),
    _case(8948, "1S 2X 3X", cancels=1),
    _case(17823, "1S 2X 2S", _FLOWS, cancels=1),
    _case(43980, "1S 2X 3S", cancels=3),
    _case(4986, "1X 2X", _UNORDERED, duplicates=1),
    _case(5764, "1S 2X", _UNORDERED, duplicates=1, word=_ONE_BIT),
    _case(40123, "1S 2S 2X", duplicates=1),
    _case(3420, "1S 2X?", _UNORDERED, losses=1),
    _case(2390, "1S 2S", _UNORDERED, losses=1),
    _case(4794, "1S 2X", _UNORDERED, losses=1),
    _case(12615, "1X 2S", losses=1, hasty=1),
    _case(7828, "1S 2X", losses=1, cancels=1),
    _case(1717, "1X 2S", losses=1, memory=False),
    _case(3402, "1S 1X", losses=2),
    _case(6341, "1S 2S", losses=2),
    _case(23409, "1S 2S", losses=2, cancels=1),
    _case(70653, "1S 2S", _UNORDERED, losses=1, hasty=1),
    _case(66858, "1S 2S 2X", losses=1),
    _case(110649, "1S 2X", _UNORDERED, losses=1, duplicates=1),
    _case(155358, "1X 2S 3S", losses=1),
)

#: States above which a case is left to `make soak`.
QUICK = 22_000
