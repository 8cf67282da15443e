# SPDX-License-Identifier: Apache-2.0
"""Host side of Rackgate: device access, drivers and the rackgate command.

>>> import rackgate_host
>>> device = rackgate_host.open("model:inflate")
>>> device.parameters["contexts"]
2
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    BadBuffer,
    DeviceFault,
    DeviceMismatch,
    DeviceTimeout,
    OutOfDeviceMemory,
    RackgateError,
    RegisterError,
    TranscriptError,
    Unavailable,
    UsageError,
)

if TYPE_CHECKING:
    from .device import Device
    from .device import open_device as open
    from .memory import Buffer

__all__ = ["BadBuffer", "Buffer", "Device", "DeviceFault", "DeviceMismatch", "DeviceTimeout", "OutOfDeviceMemory",
           "RackgateError", "RegisterError", "TranscriptError", "Unavailable", "UsageError", "open"]

# Imported when they are asked for: a snapshot's monitor, which somebody waits for, needs no device.
_LATER = {"Buffer": "memory:Buffer", "Device": "device:Device", "open": "device:open_device"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _LATER[name].partition(":")
    return globals().setdefault(name, getattr(import_module(f"{__name__}.{module}"), attribute))
