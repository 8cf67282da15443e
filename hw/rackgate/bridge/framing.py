# SPDX-License-Identifier: Apache-2.0
"""Frames on a UART: SLIP (RFC 1055). Plain Python.

A frame ends with END, and begins with one too, so that noise before it becomes a frame of its own, which its CRC
rejects. END within a frame is sent as ESC ESC_END, ESC as ESC ESC_ESC; an ESC before any other byte damages the frame.
Nothing between two ENDs is no frame.

SLIP rather than COBS: a sender in hardware needs no buffer (COBS has to know the next 254 bytes), and a receiver of
either finds the next frame after any damage. A frame of random bytes grows by 0.8 %, one that is all END doubles.
"""

__all__ = ["END", "ESC", "ESC_END", "ESC_ESC", "FrameDecoder", "encode_frame", "uart_divisor"]

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD


def encode_frame(message: bytes) -> bytes:
    """The frame of a message, with END at both sides."""
    body = message.replace(bytes([ESC]), bytes([ESC, ESC_ESC])).replace(bytes([END]), bytes([ESC, ESC_END]))
    return bytes([END]) + body + bytes([END])


class FrameDecoder:
    """Messages from the bytes of a UART.

    Parameters
    ----------
    most:
        Bytes of the longest message; a longer one is damaged.

    Attributes
    ----------
    damaged:
        Frames that were dropped.
    """

    def __init__(self, most: int):
        if most < 1:
            raise ValueError(f"most must be at least 1, not {most}")
        self.most = most
        self.damaged = 0
        self._body = bytearray()
        self._is_escaped = False
        self._is_damaged = False

    def feed(self, raw: bytes) -> list[bytes]:
        """Take bytes as they come; return the messages that end with them."""
        messages = []
        for byte in raw:
            if byte == END:
                if self._is_damaged or self._is_escaped:
                    self.damaged += 1
                elif self._body:
                    messages.append(bytes(self._body))
                self._body.clear()
                self._is_damaged = self._is_escaped = False
            elif self._is_escaped:
                self._is_escaped = False
                self._take({ESC_END: END, ESC_ESC: ESC}.get(byte))
            elif byte == ESC:
                self._is_escaped = True
            else:
                self._take(byte)
        return messages

    def _take(self, byte: int | None) -> None:
        if byte is None or len(self._body) == self.most:
            self._is_damaged = True
        elif not self._is_damaged:
            self._body.append(byte)


def uart_divisor(clock: int, baud: int) -> int:
    """Clock cycles of a bit at ``baud`` bits a second, with a ``clock`` of so many Hz.

    Raises
    ------
    ValueError
        When there are fewer than 4, or the whole number nearest is off by more than 2 %: sender and receiver may be
        off by 5 % together, half a bit in ten.
    """
    if clock < 1 or baud < 1:
        raise ValueError(f"clock and baud must be at least 1, not {clock} and {baud}")
    divisor = round(clock / baud)
    if divisor < 4:
        raise ValueError(f"baud must be at most a quarter of the clock ({clock // 4}), not {baud}")
    if abs(clock / divisor - baud) > 0.02 * baud:
        raise ValueError(f"baud must be within 2 % of clock / {divisor} = {clock // divisor}, not {baud}")
    return divisor
