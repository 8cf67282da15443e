# SPDX-License-Identifier: Apache-2.0
"""Errors of the NIC and its simulated hosts."""

from ..errors import RackgateError, Unavailable

__all__ = ["FlowTableFull", "HostFailed", "NoHosts", "StreamClosed", "StreamTimeout", "TooManySegments",
           "ZeronicError"]


class ZeronicError(RackgateError):
    """Something is wrong with the NIC, or with what uses it."""


class FlowTableFull(ZeronicError):
    """The NIC's flow table has no place for a key: its set is full."""


class TooManySegments(ZeronicError):
    """A flow has as many segments posted as the NIC remembers."""


class HostFailed(ZeronicError):
    """A simulated host has ended while it was in use. The text says what is known of it."""


class NoHosts(Unavailable):
    """The simulated hosts are not up, or cannot be here. The text says what to do."""


class StreamClosed(ZeronicError, ConnectionError):
    """A stream has ended, or was reset, before what was asked of it was done. The text says how far it came."""


class StreamTimeout(ZeronicError, TimeoutError):
    """What was waited for did not happen in time. The text says what it was and how far it came."""

    exit_code = 4
