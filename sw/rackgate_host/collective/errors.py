# SPDX-License-Identifier: Apache-2.0
"""Errors of collectives, as a sentence with rank, operation and cause."""

from rackgate.collective.abi import Cause, Status

from ..errors import RackgateError

__all__ = ["CollectiveError", "CollectiveTimeout", "WrongResult", "failure"]


class CollectiveError(RackgateError):
    """A call failed. Its communicator must be freed or opened anew before it can be used again.

    Attributes
    ----------
    rank:
        The rank it failed at.
    operation:
        What was called, for instance ``"Allreduce"``.
    status:
        :class:`rackgate.collective.abi.Status`.
    cause:
        :class:`rackgate.collective.abi.Cause`: what was waited for.
    node:
        Node that the cause is about, or ``None``.
    """

    def __init__(self, text: str, *, rank: int, operation: str, status: Status, cause: Cause = Cause.NONE,
                 node: int | None = None):
        super().__init__(text)
        self.rank, self.operation, self.status, self.cause, self.node = rank, operation, status, cause, node


class CollectiveTimeout(CollectiveError, TimeoutError):
    """A call waited for too long: for a packet, a credit, memory, or all of it together."""

    exit_code = 4


class WrongResult(RackgateError):
    """A collective gave something else than NumPy."""


_TEXT = {
    Status.NO_SUCH_SCENARIO: "the engine has no program for it",
    Status.NO_SUCH_COMMUNICATOR: "the engine knows no such communicator",
    Status.BAD_PEER: "a rank is outside the communicator",
    Status.BAD_TYPE: "the engine was not built for this type or function",
    Status.BAD_FLAGS: "the engine does not know a flag of the call",
    Status.PROGRAM_ERROR: "its program has an illegal instruction or address",
    Status.READ_ERROR: "a buffer is not in device memory (a read had an error), or a packet was damaged",
    Status.WRITE_ERROR: "the memory answered a write with an error: a buffer is not in device memory",
    Status.ABORTED: "it was aborted",
    Status.COMMUNICATOR_BROKEN: "an earlier call on this communicator failed: it has to be opened anew",
}


def failure(status: int, cause: int, node: int, *, rank: int, size: int, operation: str, what: str, peer: str,
            timeout: int) -> CollectiveError:
    """The error for a completion.

    Parameters
    ----------
    status, cause, node:
        As completed.
    rank, size:
        Of the caller in its communicator.
    operation, what:
        What was called, in a word and with its arguments.
    peer:
        How the communicator calls the node.
    timeout:
        The engine's limit, in cycles.
    """
    known = Status(status) if status in list(Status) else Status.PROGRAM_ERROR
    kind, about, reason = CollectiveError, None, Cause.NONE
    if known == Status.TIMEOUT:
        kind = CollectiveTimeout
        reason = Cause(cause) if cause in list(Cause) else Cause.NONE
        text = {
            Cause.PACKET: f"no packet came from {peer}",
            Cause.CREDIT: f"{peer} took no packet out of its receive buffers",
            Cause.CLEAR_TO_SEND: f"{peer} did not begin to receive",
            Cause.LANE: "neither memory nor a kernel's stream took or gave anything",
        }.get(reason, "nothing happened") + f" for {timeout} cycles"
        about = node if reason in (Cause.PACKET, Cause.CREDIT, Cause.CLEAR_TO_SEND) else None
    elif known == Status.RECEIVE_SIZE:
        text, about = f"the message from {peer} is longer than what was to be received, or not of its kind", node
    elif known == Status.PROGRAM_RAISED:
        text = f"its program ended with error {cause}"
    else:
        text = _TEXT.get(known, known.name)
    return kind(f"rank {rank} of {size}: {what}: {text}", rank=rank, operation=operation, status=known, cause=reason,
                node=about)
