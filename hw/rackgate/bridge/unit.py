# SPDX-License-Identifier: Apache-2.0
"""What an executor asks of whoever carries out its operations in one address space."""

from amaranth.hdl import Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.bridge import abi
from rackgate.bridge.operations import DATA_WORDS

__all__ = ["Command", "Status", "UnitSignature", "is_inside"]


class Status(enum.Enum, shape=3):
    """What became of an operation (:class:`rackgate.bridge.abi.Status`)."""

    OK = abi.Status.OK.value
    SLVERR = abi.Status.SLVERR.value
    DECERR = abi.Status.DECERR.value
    MALFORMED = abi.Status.MALFORMED.value
    TIMEOUT = abi.Status.TIMEOUT.value


class Command(data.Struct):
    """An operation: ``count`` words, at least 1, from ``address`` on, a multiple of 4.

    ``skip`` and ``omit``: bytes at the front of the first word and at the end of the last that are not written.
    ``is_fixed``: all words go to one address; for registers.
    """

    address: 32
    count: range(DATA_WORDS + 1)
    is_write: 1
    is_fixed: 1
    skip: 2
    omit: 2


class UnitSignature(wiring.Signature):
    """One address space, as the executor sees it.

    Members
    -------
    command:
        Operations. The next is not offered before ``done``, or ``cancel``.
    w:
        Words of a write, from when its command is taken.
    r:
        Words of a read.
    done:
        What became of the operation, behind its words. With OK that is all of them; with any other the rest neither
        comes nor is taken.
    cancel:
        High for a cycle between command and ``done``, or after a command was offered in vain: the executor waits no
        longer. In this cycle it offers and takes nothing. From the next on ``r`` and ``done`` offer nothing (here, and
        only here, what is offered is withdrawn) until the next command, which the unit takes when what it has begun is
        over.
    """

    def __init__(self):
        super().__init__({
            "command": Out(stream.Signature(Command)), "w": Out(stream.Signature(32)), "r": In(stream.Signature(32)),
            "done": In(stream.Signature(Status)), "cancel": Out(1),
        })

    def __eq__(self, other):
        return isinstance(other, UnitSignature)

    def __repr__(self):
        return "UnitSignature()"


def is_inside(command: Command, first: int, size: int, *, words: Value | None = None) -> Value:
    """Whether all words of a command are in the ``size`` bytes from ``first`` on, both multiples of 4.

    ``words``: how many there are, when there are not ``count``.
    """
    end = (command.address >> 2) + (command.count if words is None else words)
    return (command.address >= first) & (end <= (first + size) >> 2)
