# SPDX-License-Identifier: Apache-2.0
"""A simulated PHY's cable, plugged into the kernel's network."""

import errno
import fcntl
import os
import struct

__all__ = ["Tap"]

# linux/if_tun.h: attach to an interface; frames with Ethernet headers and nothing before them.
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_MOST = 65535


class Tap:
    """A network interface of the kernel's, in the network namespace of the thread that makes it.

    It is there, and down, until it is closed: whoever wants to use it sets its address and brings it up.

    Parameters
    ----------
    name:
        Name of the interface, at most 15 bytes.

    Raises
    ------
    OSError
        There is no /dev/net/tun, or it may not be used: that takes CAP_NET_ADMIN.
    """

    def __init__(self, name: str):
        if not 0 < len(name.encode()) <= 15:
            raise ValueError(f"name must have 1 to 15 bytes, not {name!r}")
        self.name = name
        self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self._file, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        except OSError:
            os.close(self._file)
            raise

    def receive(self) -> bytes | None:
        """A frame that the kernel has sent, or None."""
        try:
            return os.read(self._file, _MOST)
        except BlockingIOError:
            return None

    def send(self, frame: bytes) -> None:
        """Hand a frame to the kernel. While the interface is down, it is lost, as on a cable that is not plugged in."""
        try:
            os.write(self._file, frame)
        except OSError as error:
            if error.errno != errno.EIO:  # the interface is down
                raise

    def fileno(self) -> int:
        """The descriptor."""
        return self._file

    def close(self) -> None:
        """Take the interface away."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> "Tap":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
