# SPDX-License-Identifier: Apache-2.0
"""A simulated board that a host reaches as it would reach a real one: over a serial port, or over UDP."""

import os
import select
import tty
from collections.abc import Callable, Mapping
from typing import Any

from rackgate.board.device import board_device
from rackgate.board.links import Uart, Udp
from rackgate.board.top import BoardTop
from rackgate.fisslock.abi import AGENT_PORT

from .ethernet import UdpBoard
from .served import TIMEOUT, ServedBoard, ignore
from .worlds import SerialWorld

__all__ = ["CLOCK_HZ", "UartBoard", "UdpBoard", "serve"]

#: What a simulated board says that its clock is.
CLOCK_HZ = 50_000_000
#: Bytes of its memory.
MEMORY = 256 << 10
# The fastest line that bridge and terminal can do: a simulated bit costs what a cycle does, however long.
_DIVISOR = 4
# Bits a second that the host is to expect of a line. A pseudo-terminal loses nothing, so a host that waits too long
# loses nothing either, but one that sends again too early fills the line with requests that were not lost.
_PACE = 1200
# UDP ports of a system, beside the bridge's, that this machine's sockets reach at a simulated board.
_PORTS = {"fisslock": (AGENT_PORT,)}


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
                 report: Callable[[str], None] = ignore):
        super().__init__(SerialWorld(board), "board_uart", key=key, variant=variant, report=report)
        self._line, self._host = os.openpty()
        tty.setraw(self._host)
        os.set_blocking(self._line, False)
        self.path = os.ttyname(self._host)
        self.url = f"uart:{self.path}?baud={_PACE}&timeout={TIMEOUT}"
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


def serve(system: str, link: str, parameters: Mapping[str, int], report: Callable[[str], None] = ignore,
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
    options: dict[str, Any] = {"key": [system, sorted(parameters.items())], "variant": variant, "report": report}
    if link == "uart":
        return UartBoard(board, **options)
    return UdpBoard(board, ports=_PORTS.get(system, ()), **options)
