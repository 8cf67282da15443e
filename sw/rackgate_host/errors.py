# SPDX-License-Identifier: Apache-2.0
"""Errors of the host side. Each knows the exit code of the command that ends with it."""

__all__ = ["BadBuffer", "DeviceFault", "DeviceMismatch", "DeviceTimeout", "OutOfDeviceMemory", "RackgateError",
           "RegisterError", "TranscriptError", "Unavailable", "UsageError"]


class RackgateError(Exception):
    """Base of this package's errors. ``exit_code`` is the ``rackgate`` command's: 1 failed, 2 usage, 3 environment,
    4 time-out."""

    exit_code = 1


class UsageError(RackgateError, ValueError):
    """What was asked for makes no sense: a wrong URL, an unknown option, a missing file."""

    exit_code = 2


class RegisterError(RackgateError, AttributeError):
    """No such register or field, or an access that the register does not allow."""

    exit_code = 2


class Unavailable(RackgateError):
    """The environment lacks something: a tool, a board, a backend. The text says what to do."""

    exit_code = 3


class DeviceMismatch(Unavailable):
    """The device is not the one that this driver was written for. The text says what to do."""


class OutOfDeviceMemory(RackgateError, MemoryError):
    """Device memory is used up."""


class BadBuffer(RackgateError, ValueError):
    """A buffer is used after it was freed, or has no place in device memory."""


class DeviceFault(RackgateError):
    """The device reported a fault that is no result of a job: a bus error on its own structures."""


class DeviceTimeout(RackgateError, TimeoutError):
    """A wait ended without its event. The text says what was waited for and shows the registers."""

    exit_code = 4


class TranscriptError(RackgateError):
    """A transcript cannot be read, or its replay differs from it."""
