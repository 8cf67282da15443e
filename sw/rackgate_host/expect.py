# SPDX-License-Identifier: Apache-2.0
"""Whether a board is what its user takes it for: compared with what it says of itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rackgate.bridge.identity import Identity

from .devices import DEVICES, DeviceType
from .errors import DeviceMismatch, UsageError
from .url import number

if TYPE_CHECKING:
    from .device import Device

__all__ = ["check_expected", "expected_kind"]

#: Digits of a hash that are enough to ask for.
_LEAST_DIGITS = 8


def expected_kind(identity: Identity, options: Mapping[str, Any], url: str) -> DeviceType:
    """The kind of device that a board says it is.

    Raises
    ------
    DeviceMismatch
        It is another than the option ``system`` says, or one that this package does not know.
    """
    wanted = options.get("system", identity.system)
    if identity.system != wanted:
        raise DeviceMismatch(f"{url}: the board carries system {identity.system}, not {wanted}: program it with "
                             f"{wanted}, or leave the option system out")
    kind = DEVICES.get(identity.system)
    if kind is None:
        raise DeviceMismatch(f"{url}: the board carries system {identity.system!r}, which this package does not know: "
                             f"there are {', '.join(DEVICES)}; it was built from version "
                             f"{'.'.join(map(str, identity.release))}")
    return kind


def check_expected(device: "Device", identity: Identity, options: Mapping[str, Any]) -> None:
    """Compare a board with the options that its URL has besides those of its transport.

    Raises
    ------
    DeviceMismatch
        A parameter or the hash of the build is not what an option says.
    UsageError
        There is no such option, or it has no such value.
    """
    known = {**identity.parameters, **device.parameters}
    for name, value in options.items():
        if name == "system":
            continue
        if name == "build":
            _check_build(device, identity, str(value).lower())
        elif name not in known:
            raise UsageError(f"unknown option {name!r} of {device.url}: besides the transport's there are system, "
                             f"build, {', '.join(known)}")
        elif (number(name, value) if isinstance(known[name], int) else value) != known[name]:
            raise DeviceMismatch(f"{device.url}: the board was built with {name}={known[name]}, not {value}: build it "
                                 "so, or leave the option out")


def _check_build(device: "Device", identity: Identity, wanted: str) -> None:
    if len(wanted) < _LEAST_DIGITS or not set(wanted) <= set("0123456789abcdef"):
        raise UsageError(f"option build must be {_LEAST_DIGITS} or more hexadecimal digits, not {wanted!r}")
    hashes = device.build, identity.build.hex()
    if not any(one.startswith(wanted) for one in hashes):
        raise DeviceMismatch(f"{device.url}: the board has the build {hashes[1]} (the system's is {hashes[0]}), not "
                             f"{wanted}: program it anew, or leave the option build out")
