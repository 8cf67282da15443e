# SPDX-License-Identifier: Apache-2.0
"""Calls from their beginning to their end, as MPI's requests."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rackgate.collective.abi import Call, Completion
from rackgate.collective.packets.abi import Probed

if TYPE_CHECKING:
    from .engine import Engine
    from .errors import CollectiveError

__all__ = ["Claim", "Kind", "Request", "Status", "wait_all"]


class Kind(enum.Enum):
    """What a call may have to wait for."""

    SEND = "send"  # credit, and thereby its receiver, or a kernel
    RECEIVE = "receive"  # its sender
    COLLECTIVE = "collective"  # all ranks
    LOCAL = "local"  # nothing but memory, or a message that is on its way


class Claim(NamedTuple):
    """What no two calls under way may both claim.

    Collectives of a communicator follow each other, and so do messages to one rank. Receives exclude each other if a
    message could be for either: same communicator, source and tag, ``None`` being any.
    """

    kind: Kind
    communicator: int
    peer: int | None = None
    tag: int | None = None

    def excludes(self, other: "Claim") -> bool:
        """Whether ``other`` has to wait for this one."""
        if (self.kind, self.communicator) != (other.kind, other.communicator):
            return False
        if self.kind is Kind.COLLECTIVE:
            return True
        same_peer = None in (self.peer, other.peer) or self.peer == other.peer
        return same_peer and (self.kind is Kind.SEND or None in (self.tag, other.tag) or self.tag == other.tag)


@dataclass
class Status:
    """What a receive got: ``source`` is a rank, ``bytes`` the size in memory."""

    source: int | None = None
    tag: int | None = None
    bytes: int = 0

    def Get_source(self) -> int | None:
        """Rank that sent."""
        return self.source

    def Get_tag(self) -> int | None:
        """The message's tag."""
        return self.tag

    def Get_count(self, dtype: np.typing.DTypeLike = np.uint8) -> int:
        """Elements of ``dtype`` in the message."""
        return self.bytes // np.dtype(dtype).itemsize


class Request:
    """A call under way. Made by the methods of :class:`.Communicator` whose names begin with I.

    Parameters
    ----------
    engine:
        Where it runs.
    call:
        What is written to it; the id is the engine's.
    claim:
        What it must not share with others; ``None``: nothing.
    what:
        The call as a text, for errors.
    finish:
        Called once, with the completion, when the call has ended well: takes the results to where they belong.
    fail:
        Makes the error for a completion that has not.
    release:
        Called once, however it ends: gives buffers back.

    Attributes
    ----------
    completion:
        What the engine said, when it has ended.
    status:
        Of a receive, when it has ended.
    """

    def __init__(self, engine: "Engine", call: Call, *, kind: Kind, claim: Claim | None, what: str,
                 finish: Callable[[Completion], None], fail: "Callable[[Completion], CollectiveError]",
                 release: Callable[[], None]):
        self.engine, self.call, self.kind, self.claim, self.what = engine, call, kind, claim, what
        self._finish, self._fail, self._release = finish, fail, release
        #: The message, if it was received before the receive was made: the call is then a copy.
        self.received: Probed | None = None
        self.completion: Completion | None = None
        self.status = Status()
        self._error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.completion is not None or self._error is not None

    def complete(self, completion: Completion) -> None:
        """Called by the engine when the call has ended."""
        if self.received is not None and not completion.status:
            completion = completion._replace(node=self.received.node, bytes=self.received.length,
                                             tag=self.received.tag)
        try:
            if completion.status:
                self._error = self._fail(completion)
            else:
                self._finish(completion)
        except BaseException as error:
            self._error = error
        finally:
            self.completion = completion
            self._release()

    def also_release(self, action: Callable[[], None]) -> None:
        """Call ``action``, too, when the request is over."""
        before = self._release

        def release() -> None:
            before()
            action()

        self._release = release

    def give_up(self, error: BaseException) -> None:
        """Called by the engine when the call will never run."""
        self._error = error
        self._release()

    def Wait(self, status: Status | None = None, *, cycles: int | None = None) -> bool:
        """Wait for the end. Always true, as in mpi4py.

        Parameters
        ----------
        status:
            Filled in, if given.
        cycles:
            Most device cycles to wait; by default a limit of the engine.

        Raises
        ------
        CollectiveError
            The call failed; :class:`.CollectiveTimeout` if it took too long.
        """
        if not self.is_over:
            self.engine.wait(self, cycles)
        return self._result(status)

    def Test(self, status: Status | None = None) -> bool:
        """Whether it has ended. Lets others have their turn and a little time pass. Raises as :meth:`Wait` does."""
        if not self.is_over:
            self.engine.glance(self)
        return self.is_over and self._result(status)

    def _result(self, status: Status | None) -> bool:
        if self._error is not None:
            raise self._error
        if status is not None:
            status.source, status.tag, status.bytes = self.status.source, self.status.tag, self.status.bytes
        return True

    wait, test = Wait, Test

    @staticmethod
    def Waitall(requests: "Iterable[Request]", statuses: list[Status] | None = None) -> bool:
        """Wait for all of them, as :func:`wait_all`."""
        return wait_all(requests, statuses)


def wait_all(requests: Iterable[Request], statuses: list[Status] | None = None) -> bool:
    """Wait until all have ended, then raise the error of the first that failed, if one did."""
    errors = []
    for request in requests:
        try:
            request.Wait()
        except Exception as error:
            errors.append(error)
        if statuses is not None:
            statuses.append(request.status)
    if errors:
        raise errors[0]
    return True
