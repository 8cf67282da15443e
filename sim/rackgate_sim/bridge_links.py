# SPDX-License-Identifier: Apache-2.0
"""Links that bring messages to a golden bridge: a UDP socket, and a pseudo-terminal that looks like a UART.

Both lose, double, reorder and damage what they are asked to, in both directions, by a seed.
"""

import importlib.metadata
import os
import random
import select
import socket
import threading
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rackgate.bridge.abi import MEMORY_BASE, MESSAGE_BYTES, StatusWord
from rackgate.bridge.framing import FrameDecoder, encode_frame
from rackgate.bridge.identity import Identity

from .bridge import GoldenBridge, ModelDevice
from .devices import model
from .inflate.model import FlatMemory

__all__ = ["CLOCK_KHZ", "MEMORY", "Faults", "PtyBridge", "UdpBridge", "serve"]

#: Clock that a model behind a bridge says it has; it means nothing.
CLOCK_KHZ = 50_000
#: Bytes of its memory, unless asked otherwise.
MEMORY = 16 << 20

_TICK = 0.2  # seconds between two looks at whether to end


@dataclass
class Faults:
    """What happens to messages on their way, each with a probability: by ``seed``, so a run can be repeated.

    A message that is reordered is overtaken by the next one.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")

    def path(self, direction: int) -> Callable[[bytes], list[bytes]]:
        """One direction: takes a message that is sent and gives those that arrive then."""
        draw = random.Random(f"{self.seed} {direction}")
        held: list[bytes] = []

        def send(message: bytes) -> list[bytes]:
            arriving = []
            if draw.random() >= self.loss:
                if draw.random() < self.corrupt:
                    place = draw.randrange(8 * len(message))
                    message = message[:place // 8] + bytes([message[place // 8] ^ 1 << place % 8]) \
                        + message[place // 8 + 1:]
                arriving = [message] * (2 if draw.random() < self.duplicate else 1)
            if arriving and not held and draw.random() < self.reorder:
                held.extend(arriving)
                return []
            arriving += held
            held.clear()
            return arriving

        return send


class _Serving(ABC):
    """A thread that serves a bridge until :meth:`close`. Use as a context."""

    def __init__(self, bridge: GoldenBridge, faults: Faults | None):
        faults = faults or Faults()
        self.bridge = bridge
        self._in, self._out = faults.path(0), faults.path(1)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=type(self).__name__, daemon=True)

    def _answers(self, message: bytes) -> list[bytes]:
        """What comes back for a message that was sent to the bridge, faults and all."""
        answers = (self.bridge.answer(one) for one in self._in(message))
        return [one for answer in answers if answer is not None for one in self._out(answer)]

    @abstractmethod
    def _serve(self) -> None:
        """Take messages and send what comes back, until :attr:`_ends` is set."""

    def close(self) -> None:
        """End the thread and close what it had open. A second call does nothing."""
        self._ends.set()
        self._thread.join()

    def __enter__(self) -> "_Serving":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class UdpBridge(_Serving):
    """A bridge at a UDP socket.

    Parameters
    ----------
    bridge:
        The bridge, which belongs to the thread from now on.
    faults:
        What happens on the way; by default nothing.
    address:
        Where to listen; port 0 takes any.

    Attributes
    ----------
    address, url:
        Host and port where it listens, and the URL for a host.
    """

    def __init__(self, bridge: GoldenBridge, faults: Faults | None = None, address: tuple[str, int] = ("127.0.0.1", 0)):
        super().__init__(bridge, faults)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(address)
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(_TICK)
        self.address: tuple[str, int] = self._socket.getsockname()
        self.url = "udp:{}:{}".format(*self.address)
        self._thread.start()

    def _serve(self) -> None:
        with self._socket:
            while not self._ends.is_set():
                try:
                    message, sender = self._socket.recvfrom(MESSAGE_BYTES + 1)
                    for answer in self._answers(message):
                        self._socket.sendto(answer, sender)
                except (TimeoutError, ConnectionError):  # nobody sent; or who did is gone
                    continue


class PtyBridge(_Serving):
    """A bridge at a pseudo-terminal, which a host opens as it would a serial port.

    Parameters
    ----------
    bridge, faults:
        As for :class:`UdpBridge`; faults are those of whole frames.

    Attributes
    ----------
    path, url:
        The device file for the host, and the URL.
    """

    def __init__(self, bridge: GoldenBridge, faults: Faults | None = None):
        super().__init__(bridge, faults)
        self._line, host = os.openpty()
        tty.setraw(host)
        self._host = host  # kept open: without it the line would end whenever the host's program does
        self.path = os.ttyname(host)
        self.url = f"uart:{self.path}"
        os.set_blocking(self._line, False)
        self._thread.start()

    def _serve(self) -> None:
        decoder, waiting = FrameDecoder(MESSAGE_BYTES), bytearray()
        try:
            while not self._ends.is_set():
                # While answers wait to be read no more requests are taken: the line's own buffers hold them.
                reading = [] if waiting else [self._line]
                readable, writable, _ = select.select(reading, [self._line] if waiting else [], [], _TICK)
                if readable:
                    for message in decoder.feed(os.read(self._line, 4096)):
                        for answer in self._answers(message):
                            waiting += encode_frame(answer)
                    self.bridge.counters[StatusWord.LINK] = decoder.damaged
                elif writable:
                    del waiting[:os.write(self._line, waiting)]
        finally:
            os.close(self._line)
            os.close(self._host)


def serve(system: str, link: str, parameters: Mapping[str, int],
          report: Callable[[str], None]) -> UdpBridge | PtyBridge:
    """The model of a system behind a bridge, at a ``link`` (udp or uart): a context, with the ``url`` for a host.

    Besides the system's, ``memory`` is a parameter: bytes of memory. Raises ValueError for a wrong one.
    """
    links = {"udp": UdpBridge, "uart": PtyBridge}
    if link not in links:
        raise ValueError(f"link must be one of {', '.join(links)}, not {link!r}")
    own = dict(parameters)
    size = own.pop("memory", MEMORY)
    if size < 4096 or size % 4096:
        raise ValueError(f"memory must be a multiple of 4096 bytes, at least one, not {size}")
    report(f"model of {system}")
    memory = FlatMemory(np.zeros(size, np.uint8), MEMORY_BASE)
    device = model(system, memory, **own)
    major, minor, patch = (int(part) for part in importlib.metadata.version("rackgate").split(".")[:3])
    identity = Identity(system=system, board="golden", clock_khz=CLOCK_KHZ, memory_base=MEMORY_BASE, memory_size=size,
                        release=(major, minor, patch), parameters=own)
    return links[link](GoldenBridge(ModelDevice(device, memory), identity))
