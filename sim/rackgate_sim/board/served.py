# SPDX-License-Identifier: Apache-2.0
"""A simulated board that runs in a thread while a host talks to it."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from rackgate_sim.native import InputStream, OutputStream, Simulation, build

__all__ = ["TIMEOUT", "ServedBoard", "ignore"]

#: Seconds for an answer that the host is to expect of a board as it is simulated on a busy machine.
TIMEOUT = 60
# Cycles between two looks at the line: what an exchange waits for in vain, at most.
_SLICE = 1000
# Cycles in which nothing passes either way, and then the clock rests until the host says something: more than the
# longest operation of a bridge takes.
_REST_AFTER = 500_000
_TICK = 0.1  # seconds between two looks at whether to end


def ignore(line: str) -> None:
    """Report nothing."""


class ServedBoard(ABC):
    """A board that runs in a thread until :meth:`close`. Use as a context.

    Its clock runs as fast as it can while a host talks to it, and rests when nothing has passed for many cycles.

    Attributes
    ----------
    url:
        Where a host opens it.
    simulation:
        The board, for tests: to be looked at when it is closed, or nobody talks to it.
    failure:
        What ended the simulation, if something did: a hardware assertion, say. :meth:`close` raises it.
    """

    url: str

    def __init__(self, world: Any, name: str, *, key: object, variant: str, report: Callable[[str], None]):
        library = build(world, name=name, key=key, variant=variant, progress=report)
        self.simulation = Simulation(library)
        self.failure: BaseException | None = None
        self._i: InputStream = self._stream("i")
        self._o: OutputStream = self._stream("o")
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"board {name}", daemon=True)

    def _stream(self, name: str) -> Any:
        return self.simulation.stream(name)

    def _serve(self) -> None:
        try:
            last = self.simulation.cycle
            while not self._ends.is_set():
                is_resting = self.simulation.cycle - last > _REST_AFTER
                if self._exchange(_TICK if is_resting else 0):
                    last = self.simulation.cycle
                elif is_resting:
                    continue
                self.simulation.run(_SLICE)
        except BaseException as error:
            self.failure = error

    @abstractmethod
    def _exchange(self, patience: float) -> bool:
        """Pass on what has come from the host and what the board has sent. Whether anything passes, either way.

        It waits at most ``patience`` seconds for the host.
        """

    def close(self) -> None:
        """End the thread and free the simulation. Raises what ended it before. A second call does nothing."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()
            self.simulation.close()
            self._close()
        if self.failure is not None:
            raise self.failure

    @abstractmethod
    def _close(self) -> None:
        """Close the host's side."""

    def __enter__(self) -> "ServedBoard":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()  # what broke the board is raised, with what the host made of it behind it
