# SPDX-License-Identifier: Apache-2.0
"""The ``uart:`` world: a board at a serial port, each message a SLIP frame."""

import os
import select
import time
from typing import Any

from rackgate.bridge.abi import MESSAGE_BYTES
from rackgate.bridge.framing import FrameDecoder, encode_frame

from ..errors import DeviceFault, Unavailable, UsageError
from ..url import number
from .remote import RemoteTransport, remote_options

__all__ = ["BAUD", "UartLink", "attach"]

#: Bits a second unless the URL says ``baud=``.
BAUD = 3_000_000


def attach(place: str, options: dict[str, Any]) -> RemoteTransport:
    """The device at serial port ``place``. Takes the options ``baud`` and ``timeout`` (seconds) out of ``options``."""
    timeout, baud = remote_options(options), number("baud", options.pop("baud", BAUD))
    if baud < 1:
        raise UsageError(f"option baud must be at least 1, not {baud}")
    return RemoteTransport(UartLink(place, baud), timeout)


class UartLink:
    """Frames at a serial port: 8 bits, no parity, one stop bit, no flow control."""

    is_reliable = False

    def __init__(self, path: str, baud: int):
        try:
            import serial
        except ModuleNotFoundError:
            raise Unavailable("uart: devices need the package pyserial: pip install 'rackgate[board]'") from None
        self.name = f"uart:{path}"
        self.bytes_per_second = baud / 10
        self._decoder = FrameDecoder(MESSAGE_BYTES)
        self._messages: list[bytes] = []
        self._waiting = bytearray()  # what the port has not yet taken
        try:
            self._port = serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
            self._file = self._port.fileno()
        except (serial.SerialException, OSError, ValueError) as error:
            number_of_error = getattr(error, "errno", None)
            reason = os.strerror(number_of_error) if number_of_error else str(error)
            raise Unavailable(f"{self.name}: the serial port cannot be opened: {reason}") from None
        self._port.reset_input_buffer()  # answers to whoever used it before

    def send(self, message: bytes) -> None:
        """Queue a frame; it goes out as the port takes it, while an answer is waited for."""
        self._waiting += encode_frame(message)
        self._pump(0.0)

    def receive(self, seconds: float) -> bytes | None:
        """The next frame's content."""
        end = time.monotonic() + seconds
        while not self._messages:
            left = end - time.monotonic()
            self._pump(max(left, 0.0))
            if left <= 0:
                break
        return self._messages.pop(0) if self._messages else None

    def _pump(self, seconds: float) -> None:
        """Move what can be moved, waiting at most so long until something can."""
        try:
            readable, writable, _ = select.select([self._file], [self._file] if self._waiting else [], [], seconds)
            if writable:
                del self._waiting[:os.write(self._file, self._waiting)]
            if readable:
                raw = os.read(self._file, 1 << 16)
                if not raw:
                    raise DeviceFault(f"{self.name}: the serial port has gone")
                self._messages += self._decoder.feed(raw)
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise DeviceFault(f"{self.name}: the serial port has gone: {reason}") from None

    def hint(self) -> str:
        """Why nothing comes."""
        damaged = f"{self._decoder.damaged} damaged frames came: " if self._decoder.damaged else ""
        return f"{damaged}check port, cable and baud rate, and that the board is programmed"

    def close(self) -> None:
        """Close the port."""
        self._port.close()
