# SPDX-License-Identifier: Apache-2.0
"""A simulated board that a host reaches as it would reach a real one: over a serial port, or over UDP."""

import os
import select
import socket
import threading
import tty
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from rackgate.board.device import board_device
from rackgate.board.links import Uart, Udp
from rackgate.board.top import BoardTop
from rackgate.bridge.abi import MESSAGE_BYTES, UDP_PORT
from rackgate_sim.native import InputStream, OutputStream, Simulation, build
from rackgate_sim.phy import ByteTime, Phy

from .datagrams import Datagrams
from .worlds import EthernetWorld, SerialWorld

__all__ = ["CLOCK_HZ", "ServedBoard", "UartBoard", "UdpBoard", "serve"]

#: What a simulated board says that its clock is.
CLOCK_HZ = 50_000_000
#: Bytes of its memory.
MEMORY = 256 << 10
# The fastest line that bridge and terminal can do: a simulated bit costs what a cycle does, however long.
_DIVISOR = 4
# Cycles between two looks at the line: what an exchange waits for in vain, at most.
_SLICE = 1000
# Cycles in which nothing passes either way, and then the clock rests until the host says something: more than the
# longest operation of a bridge takes.
_REST_AFTER = 500_000
# Bits a second and seconds for an answer that the host is to expect of a line as it is simulated on a busy machine. A
# pseudo-terminal loses nothing, so a host that waits too long loses nothing either, but one that sends again too early
# fills the line with requests that were not lost.
_PACE, _TIMEOUT = 1200, 60
_TICK = 0.1  # seconds between two looks at whether to end


def _ignore(line: str) -> None:
    pass


class ServedBoard(ABC):
    """A board that runs in a thread until :meth:`close`. Use as a context.

    Its clock runs as fast as it can while a host talks to it, and rests when nothing has passed for many cycles.

    Attributes
    ----------
    url:
        Where a host opens it.
    simulation:
        The board, for tests: to be looked at when it is closed, or nobody talks to it.
    failure:
        What ended the simulation, if something did: a hardware assertion, say. :meth:`close` raises it.
    """

    url: str

    def __init__(self, world: Any, name: str, *, key: object, variant: str, report: Callable[[str], None]):
        library = build(world, name=name, key=key, variant=variant, progress=report)
        self.simulation = Simulation(library)
        self.failure: BaseException | None = None
        self._i: InputStream = self._stream("i")
        self._o: OutputStream = self._stream("o")
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"board {name}", daemon=True)

    def _stream(self, name: str) -> Any:
        return self.simulation.stream(name)

    def _serve(self) -> None:
        try:
            last = self.simulation.cycle
            while not self._ends.is_set():
                is_resting = self.simulation.cycle - last > _REST_AFTER
                if self._exchange(_TICK if is_resting else 0):
                    last = self.simulation.cycle
                elif is_resting:
                    continue
                self.simulation.run(_SLICE)
        except BaseException as error:
            self.failure = error

    @abstractmethod
    def _exchange(self, patience: float) -> bool:
        """Pass on what has come from the host and what the board has sent. Whether anything passes, either way.

        It waits at most ``patience`` seconds for the host.
        """

    def close(self) -> None:
        """End the thread and free the simulation. Raises what ended it before. A second call does nothing."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()
            self.simulation.close()
            self._close()
        if self.failure is not None:
            raise self.failure

    @abstractmethod
    def _close(self) -> None:
        """Close the host's side."""

    def __enter__(self) -> "ServedBoard":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()  # what broke the board is raised, with what the host made of it behind it


class UartBoard(ServedBoard):
    """A board whose serial line is a pseudo-terminal.

    Parameters
    ----------
    board:
        The board.
    key:
        As for :func:`rackgate_sim.native.build`.
    variant:
        As for :func:`rackgate_sim.native.build`.
    report:
        Called with a line at each long step.

    Attributes
    ----------
    path:
        The device file for the host.
    """

    def __init__(self, board: BoardTop, *, key: object = None, variant: str = "fast",
                 report: Callable[[str], None] = _ignore):
        super().__init__(SerialWorld(board), "board_uart", key=key, variant=variant, report=report)
        self._line, self._host = os.openpty()
        tty.setraw(self._host)
        os.set_blocking(self._line, False)
        self.path = os.ttyname(self._host)
        self.url = f"uart:{self.path}?baud={_PACE}&timeout={_TIMEOUT}"
        self._outgoing = bytearray()
        self._thread.start()

    def _exchange(self, patience: float) -> bool:
        sent = bytes(int(byte) for byte in self._o.pop_all())
        self._outgoing += sent
        readable, writable, _ = select.select([self._line], [self._line] if self._outgoing else [], [], patience)
        if writable:
            del self._outgoing[:os.write(self._line, self._outgoing)]
        if readable:
            self._i.push(os.read(self._line, 4096))
        return bool(readable or sent or self._i.pending)

    def _close(self) -> None:
        os.close(self._line)
        os.close(self._host)


class UdpBoard(ServedBoard):
    """A board whose PHY is joined to a UDP socket: what comes there goes to the board's bridge as a datagram.

    Parameters
    ----------
    board, key, variant, report:
        As for :class:`UartBoard`.
    phy:
        The cable; a perfect one by default.

    Attributes
    ----------
    address:
        Host and port of the socket.
    """

    def __init__(self, board: BoardTop, *, key: object = None, variant: str = "fast",
                 report: Callable[[str], None] = _ignore, phy: Phy | None = None):
        if not isinstance(board.link, Udp):
            raise TypeError(f"board must have Ethernet, not {board.link!r}")
        super().__init__(EthernetWorld(board), "board_udp", key=key, variant=variant, report=report)
        self._phy, self._datagrams = phy or Phy(), Datagrams(board.link, UDP_PORT)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self.url = f"udp:{self.address[0]}:{self.address[1]}?timeout={_TIMEOUT}"
        self._thread.start()

    def _exchange(self, patience: float) -> bool:
        sent = self._o.pop_all()
        for payload in sent:
            fields = self._o.unpack(int(payload))
            for _ in range(fields["gap"]):
                self._phy.from_mac(ByteTime())
            self._phy.from_mac(ByteTime(fields["data"], bool(fields["valid"]), bool(fields["error"])))
        while self._phy.taken:
            if (answer := self._datagrams.unpack(self._phy.taken.popleft())) is not None:
                message, host = answer
                self._socket.sendto(message, host)
        readable, _, _ = select.select([self._socket], [], [], patience)
        if readable:
            message, host = self._socket.recvfrom(MESSAGE_BYTES + 1)
            self._phy.send(self._datagrams.pack(message, host))
        self._feed()
        return bool(readable or sent or self._i.pending)

    def _feed(self) -> None:
        """Give the simulation what the PHY has to send."""
        times = []
        while self._phy.is_sending:
            times.append(self._phy.to_mac())
        if times:
            self._i.push([{"data": now.data, "valid": int(now.valid), "error": int(now.error)} for now in times])

    def _close(self) -> None:
        self._socket.close()


def serve(system: str, link: str, parameters: Mapping[str, int], report: Callable[[str], None] = _ignore,
          *, variant: str = "fast") -> ServedBoard:
    """Simulate ``system`` on a board of no brand, at its pins; it is built if the cache does not have it.

    Parameters
    ----------
    system, parameters:
        As for :func:`rackgate.systems.component`, and ``memory``, the bytes of the board's.
    link:
        ``uart``: a pseudo-terminal. ``udp``: a UDP socket.
    report:
        Called with a line at each long step.
    variant:
        As for :func:`rackgate_sim.native.build`.
    """
    links: dict[str, Uart | Udp] = {"uart": Uart(CLOCK_HZ // _DIVISOR), "udp": Udp()}
    if link not in links:
        raise ValueError(f"link must be uart or udp, not {link!r}")
    own = dict(parameters)
    board = board_device(system, own, board="simulation", link=links[link], clock_hz=CLOCK_HZ,
                         memory=own.pop("memory", MEMORY))
    kind = UartBoard if link == "uart" else UdpBoard
    return kind(board, key=[system, sorted(parameters.items())], variant=variant, report=report)
