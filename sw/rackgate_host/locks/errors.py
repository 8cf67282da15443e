# SPDX-License-Identifier: Apache-2.0
"""Errors of locks."""

from ..errors import DeviceTimeout, RackgateError, Unavailable

__all__ = ["LockError", "LockRefused", "LockTimeout", "NoService"]


class LockError(RackgateError):
    """Something is wrong with a lock, or with what a switch or a host says of it."""


class LockRefused(LockError):
    """A request was refused: too many wait for the lock, or nobody answers. The text says which."""


class LockTimeout(LockError, TimeoutError):
    """A lock was not to be had in time. The text names the key, the mode, and what this client holds meanwhile."""

    exit_code = DeviceTimeout.exit_code


class NoService(Unavailable):
    """No lock service answers at an address, or it is not one for this client."""
