# SPDX-License-Identifier: Apache-2.0
"""Locks between hosts: a service before a switch, clients in asyncio and in threads."""

from .client import Grant, LockClient
from .errors import LockError, LockRefused, LockTimeout, NoService
from .threads import Lock, ThreadClient

__all__ = ["Grant", "Lock", "LockClient", "LockError", "LockRefused", "LockTimeout", "NoService", "ThreadClient"]
