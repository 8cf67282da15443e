# SPDX-License-Identifier: Apache-2.0
"""The boards: which FPGA, clock, links and programmer each has."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["BOARDS", "DEVICES", "Board", "Fpga", "find"]


@dataclass(frozen=True)
class Fpga:
    """An ECP5: its name, what there is of LUT4 and block RAMs (18 kbit), and the speed grade on the board."""

    name: str
    lut4: int
    ebr: int
    speed: int


#: What there is on each device, by the name in nextpnr's report (Lattice FPGA-DS-02012, table of the family).
DEVICES = {"25F": (24288, 56), "45F": (43848, 108), "85F": (83640, 208)}


def _fpga(family: str, size: str, speed: int) -> Fpga:
    return Fpga(f"{family}-{size}", *DEVICES[size], speed)


@dataclass(frozen=True)
class Board:
    """A board that bitstreams are built for.

    Parameters
    ----------
    name:
        How it is asked for.
    title:
        What it is called.
    platform:
        Class of amaranth-boards, as "module:class".
    fpga:
        The device.
    clock_mhz:
        The oscillator behind the platform's default clock.
    loader:
        Arguments of openFPGALoader that name the board and its cable.
    rgmii:
        Number of the RGMII port that is used, or None when the board has no Ethernet.
    receive_delay_ns, transmit_delay_ns:
        By how much the FPGA delays received data and the transmit clock, as the PHY's straps need it.
    uart_note:
        What has to be known of the board's UART.
    """

    name: str
    title: str
    platform: str
    fpga: Fpga
    clock_mhz: float
    loader: tuple[str, ...]
    rgmii: int | None = None
    receive_delay_ns: float = 0.0
    transmit_delay_ns: float = 0.0
    uart_note: str = ""

    @property
    def links(self) -> tuple[str, ...]:
        """Links that a host can use: ``uart``, ``udp``."""
        return ("uart",) if self.rgmii is None else ("uart", "udp")

    def make_platform(self) -> Any:
        """The platform, for one build. Raises ImportError when amaranth-boards is not installed."""
        module, _, name = self.platform.partition(":")
        return getattr(import_module(module), name)()


#: By name.
BOARDS: Mapping[str, Board] = {board.name: board for board in (
    Board("colorlight_5a75b", "Colorlight 5A-75B r7.0",
          "amaranth_boards.colorlight_5a75b_r7_0:Colorlight_5A75B_R70Platform", _fpga("LFE5U", "25F", 6), 25,
          ("--cable", "ft232"), rgmii=0, receive_delay_ns=2.0,
          uart_note="on the connector J19: it transmits on DATA_LED- and receives on KEY+"),
    Board("ecpix5_85", "LambdaConcept ECPIX-5 85F", "amaranth_boards.ecpix5:ECPIX585Platform",
          _fpga("LFE5UM5G", "85F", 8), 100, ("--board", "ecpix5"), rgmii=0, transmit_delay_ns=2.0),
    Board("ulx3s_85", "Radiona ULX3S 85F", "amaranth_boards.ulx3s:ULX3S_85F_Platform", _fpga("LFE5U", "85F", 6), 25,
          ("--board", "ulx3s")),
    Board("versa_ecp5", "Lattice ECP5 Versa", "amaranth_boards.versa_ecp5:VersaECP5Platform",
          _fpga("LFE5UM", "45F", 8), 100, ("--board", "ecp5_versa"), rgmii=0, receive_delay_ns=2.0,
          transmit_delay_ns=2.0),
)}


def find(name: str) -> Board:
    """The board called ``name``, or whose name alone begins so. Raises ValueError if there is no such one."""
    found = [board for board in BOARDS.values() if board.name.startswith(name) and name]
    if name in BOARDS:
        return BOARDS[name]
    if len(found) != 1:
        raise ValueError(f"board must be one of {', '.join(BOARDS)}, not {name!r}")
    return found[0]
