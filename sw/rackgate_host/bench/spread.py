# SPDX-License-Identifier: Apache-2.0
"""Units spread over the workers of a Dask cluster, on this machine or on others."""

import queue
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import Unavailable, UsageError
from .apart import Outcome, measure_apart
from .benches import Unit
from .store import identity
from .suite import LIMIT

__all__ = ["Spread"]

#: Seconds to wait for the scheduler and for a first worker, and for another once all have gone.
_JOIN, _RETURN = 30.0, 60.0
_LOOK = 1.0
_OTHER = "has other"


def _differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """What two identities do not have in common, in words."""
    told = [f"{_OTHER} Rackgate sources"] if mine["code"] != theirs["code"] else []
    for name in sorted({*mine["versions"], *theirs["versions"]}):
        ours, its = (about["versions"].get(name, "none") for about in (mine, theirs))
        if ours != its:
            told.append(f"has {name} {its}, not {ours}")
    return told


def _on_worker(unit: Mapping[str, Any], wanted: Mapping[str, Any], limit: float) -> tuple[Any, ...]:
    """Run a unit in a process beside the worker. It ends when the worker does.

    Raises
    ------
    Unavailable
        If the worker's sources or tools are not those of who asks.
    """
    from distributed import get_worker

    where = get_worker().address
    if told := _differences(wanted, identity()):
        raise Unavailable(f"the worker {where} {', '.join(told)}: results would not be those of one design")
    outcome = measure_apart(Unit(**unit), lambda line: None, limit=limit)
    if outcome.died:
        raise RuntimeError(outcome.why)  # a task that is tried again
    return tuple(outcome._replace(where=where))


class Spread:
    """Runs units on the workers that a Dask scheduler has, each in a process of its own.

    A worker that is lost loses nothing: its units go to another. One whose sources or tools are not those of this
    machine ends the run, as it would mix results of two designs.

    Parameters
    ----------
    address:
        Of the scheduler, as ``tcp://host:8786``.
    limit:
        Seconds that a unit may take.
    """

    def __init__(self, address: str, limit: float = LIMIT):
        self.address, self.limit = address, limit

    def __call__(self, units: Sequence[Unit], report: Callable[[str], None]) -> Iterator[tuple[int, Outcome]]:
        """Yield the place and the outcome of each unit, as they come.

        Raises
        ------
        TimeoutError
            If the scheduler does not answer, or there is no worker for a minute.
        Unavailable
            If dask.distributed is missing, or a worker has other sources or tools.
        """
        try:
            from distributed import Client
        except ModuleNotFoundError:
            raise Unavailable("a scheduler takes dask.distributed: pip install 'rackgate[bench]'") from None
        report(f"joining the scheduler {self.address}")
        try:
            client = Client(self.address, timeout=_JOIN, set_as_default=False, name="rackgate-bench")
        except (OSError, TimeoutError):
            raise TimeoutError(f"no Dask scheduler answered at {self.address} within {_JOIN:g} s") from None
        except ValueError as error:
            raise UsageError(f"the scheduler's address must look like tcp://host:8786: {error}") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=_JOIN)
            except TimeoutError:
                raise TimeoutError(f"no worker joined the scheduler {self.address} within {_JOIN:g} s") from None
            yield from self._results(client, units, report)

    def _results(self, client: Any, units: Sequence[Unit],
                 report: Callable[[str], None]) -> Iterator[tuple[int, Outcome]]:
        about, run = identity(), uuid.uuid4().hex
        futures = [client.submit(_on_worker, unit.as_dict(), about, self.limit, key=f"rackgate-{run}-{place}",
                                 retries=1) for place, unit in enumerate(units)]
        done: queue.Queue[Any] = queue.Queue()
        places = {future.key: place for place, future in enumerate(futures)}
        for future in futures:
            future.add_done_callback(done.put)
        waiting, alone = len(futures), 0.0
        while waiting:
            try:
                future = done.get(timeout=_LOOK)
            except queue.Empty:
                workers = len(client.scheduler_info()["workers"])
                report(f"{waiting} units on {workers} workers of {self.address}")
                alone = 0.0 if workers else alone + _LOOK
                if alone > _RETURN:
                    raise TimeoutError(f"all workers of {self.address} have gone for {_RETURN:g} s; {waiting} units "
                                       "are still to be measured, the others are kept") from None
                continue
            waiting -= 1
            yield places[future.key], self._outcome(future)

    @staticmethod
    def _outcome(future: Any) -> Outcome:
        error = future.exception()
        if isinstance(error, Unavailable):
            raise error
        if error is not None:
            return Outcome(None, 0.0, " ".join(f"{type(error).__name__}: {error}".split()), 1)
        return Outcome(*future.result())
