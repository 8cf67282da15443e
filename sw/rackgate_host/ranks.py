# SPDX-License-Identifier: Apache-2.0
"""Programs of several ranks in one process: threads that take turns, always in the same order."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from .world import World

__all__ = ["Scheduler", "run_ranks"]


class _Cancelled(BaseException):
    """Unwinds a rank whose run was given up."""


class _Rank:
    """A rank's thread, and what it waits for."""

    def __init__(self, number: int):
        self.number = number
        self.turn = threading.Semaphore(0)
        self.thread: threading.Thread | None = None
        self.event: Callable[[], bool] | None = None
        self.deadline = 0
        self.is_over = False
        self.result: Any = None
        self.error: BaseException | None = None

    def is_ready(self, cycle: int) -> bool:
        """Whether it can go on."""
        if self.event is None or cycle >= self.deadline:
            return True
        try:
            return self.event()
        except Exception:
            return True  # the rank calls it again, and has the exception


class Scheduler:
    """Gives ranks their turns.

    A rank keeps its turn until it waits or ends; then the next one that can go on has it. Device time passes only
    when none can. So a run depends on nothing but the programs and the devices.

    Parameters
    ----------
    world:
        The devices. It knows its scheduler while this runs.
    count:
        Ranks.
    """

    def __init__(self, world: World, count: int):
        self._world = world
        self._ranks = [_Rank(number) for number in range(count)]
        self._back = threading.Semaphore(0)
        self._current: _Rank | None = None
        self._is_cancelled = False

    @property
    def has_turn(self) -> bool:
        """Whether the calling thread is a rank of this scheduler."""
        return self._current is not None and self._current.thread is threading.current_thread()

    def wait(self, event: Callable[[], bool], deadline: int) -> bool:
        """Called by a rank: let the others run until ``event()`` is true. False if cycle ``deadline`` came before."""
        rank = self._current
        assert rank is not None
        while not event():
            if self._world.cycle >= deadline:
                return False
            rank.event, rank.deadline = event, deadline
            self._back.release()
            self._await_turn(rank)
            rank.event = None
        return True

    def _await_turn(self, rank: _Rank) -> None:
        rank.turn.acquire()
        if self._is_cancelled:
            raise _Cancelled
        self._current = rank

    def run(self, functions: Sequence[Callable[[], Any]]) -> list[_Rank]:
        """Run one function a rank to their ends."""
        for rank, function in zip(self._ranks, functions, strict=True):
            rank.thread = threading.Thread(target=self._work, args=(rank, function), name=f"rank {rank.number}",
                                           daemon=True)
            rank.thread.start()
        try:
            self._give_turns()
        finally:
            self._is_cancelled = True
            for rank in self._ranks:
                if not rank.is_over:
                    rank.turn.release()
                if rank.thread is not None:
                    rank.thread.join()
        return self._ranks

    def _work(self, rank: _Rank, function: Callable[[], Any]) -> None:
        try:
            self._await_turn(rank)
            rank.result = function()
        except _Cancelled:
            pass
        except BaseException as error:
            rank.error = error
        finally:
            rank.is_over = True
            self._back.release()

    def _give_turns(self) -> None:
        last = len(self._ranks) - 1
        while waiting := [rank for rank in self._ranks if not rank.is_over]:
            cycle = self._world.cycle
            in_order = sorted(waiting, key=lambda rank: (rank.number - last - 1) % len(self._ranks))
            ready = next((rank for rank in in_order if rank.is_ready(cycle)), None)
            if ready is None:
                self._world.step(min(rank.deadline for rank in waiting) - cycle)
                continue
            last = ready.number
            ready.turn.release()
            self._take_back()
            self._current = None

    def _take_back(self) -> None:
        """Wait until the turn is given up; upon ^C as well, because two ranks must never run at a time."""
        try:
            self._back.acquire()
        except KeyboardInterrupt:
            self._back.acquire()
            raise


def run_ranks(world: World, functions: Sequence[Callable[[], Any]], *, return_exceptions: bool = False) -> list[Any]:
    """Run ``functions``, one a rank, each in its own thread but only one at a time: their results.

    All run to their ends, also when some raise. Then the exception of the lowest rank that raised is raised, and tells
    its rank and which others did in a note; or with ``return_exceptions`` exceptions stand among the results, as with
    :func:`asyncio.gather`.
    """
    if world.scheduler is not None:
        raise RuntimeError("ranks are running in this world already")
    scheduler = Scheduler(world, len(functions))
    world.scheduler = scheduler
    try:
        ranks = scheduler.run(functions)
    finally:
        world.scheduler = None
    failed = [rank for rank in ranks if rank.error is not None]
    if failed and not return_exceptions:
        error = failed[0].error
        assert error is not None
        others = ", ".join(f"{rank.number} ({type(rank.error).__name__})" for rank in failed[1:])
        error.add_note(f"raised in rank {failed[0].number}" + (f", and in {others}" if others else ""))
        raise error
    return [rank.result if rank.error is None else rank.error for rank in ranks]
