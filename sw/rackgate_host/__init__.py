# SPDX-License-Identifier: Apache-2.0
"""Host side of Rackgate: device access, drivers and the rackgate command.

>>> import rackgate_host
>>> device = rackgate_host.open("model:inflate")
>>> device.parameters["contexts"]
2
"""

from .device import Device
from .device import open_device as open
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
from .memory import Buffer

__all__ = ["BadBuffer", "Buffer", "Device", "DeviceFault", "DeviceMismatch", "DeviceTimeout", "OutOfDeviceMemory",
           "RackgateError", "RegisterError", "TranscriptError", "Unavailable", "UsageError", "open"]
