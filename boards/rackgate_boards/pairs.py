# SPDX-License-Identifier: Apache-2.0
"""Which system goes on which board, built how; and why one does not."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network

from rackgate.board.links import Uart, Udp, address_text
from rackgate.systems import NAMES

from .boards import BOARDS, Board, Fpga, find

__all__ = ["SYSTEMS", "Configuration", "DoesNotFit", "Pair", "choose", "name_of", "pairs"]

# Bytes of a block RAM of 18 kbit when bytes are written one by one: 2048 x 8, parity bits unused.
_EBR_BYTES = 2048
# Of a device's LUTs, how many a design may be estimated at: placement of a fuller one takes hours, or fails.
_FILL = 0.85
_NO_STATION = IPv4Network("0.0.0.0/8")  # addresses of "this network" (RFC 1122 3.2.1.3)


class DoesNotFit(ValueError):
    """A system cannot be on a board. The text says why."""

    exit_code = 1


@dataclass(frozen=True)
class Configuration:
    """One way to build a system.

    Parameters
    ----------
    parameters:
        Of the system.
    memory:
        Bytes of on-chip memory; 0 for a system that works on none.
    clock_mhz:
        Frequency of its clock, what the slowest of the boards that it fits reaches. With words of 8 bytes 37.5 MHz are
        300 MB/s, more than the 125 of gigabit Ethernet.
    lut4, ebr:
        What it takes without memory, bridge and link, estimated from routed parts: for choosing, not for telling.
    """

    parameters: Mapping[str, int]
    memory: int
    clock_mhz: float
    lut4: int
    ebr: int


@dataclass(frozen=True)
class _System:
    """A system's configurations, the one that is wanted most first; whether it has packet streams."""

    about: str
    configurations: tuple[Configuration, ...]
    needs_ethernet: bool = False

    @property
    def link(self) -> str:
        """How a host reaches it unless it is said otherwise."""
        return "udp" if self.needs_ethernet else "uart"


# What bridge and link take beside the system, by link.
_RIM = {"uart": (6500, 9), "udp": (11500, 20)}

#: What is built of each system, by its name.
SYSTEMS: Mapping[str, _System] = {
    "echo": _System("memory and registers, to bring a board up", (
        Configuration({}, 64 << 10, 50, 2200, 2),
        Configuration({}, 16 << 10, 50, 2200, 2),
    )),
    "inflate": _System("decompression of pages in on-chip memory", (
        Configuration({"contexts": 1, "window": 4096, "lanes": 8}, 128 << 10, 50, 28000, 16),
        Configuration({"contexts": 1, "window": 4096, "lanes": 8}, 64 << 10, 50, 28000, 16),
    )),
    "iaa": _System("the accelerator with one engine", (
        Configuration({"engines": 1, "queues": 1, "entries": 8, "contexts": 1, "window": 4096, "lanes": 8},
                      64 << 10, 37.5, 48000, 30),
    )),
    "fisslock": _System("a lock switch with one arm", (
        Configuration({"locks": 32768, "word": 18, "width": 4, "slots": 16, "slot_size": 512}, 0, 50, 7000, 42),
        Configuration({"locks": 16384, "word": 18, "width": 4, "slots": 16, "slot_size": 512}, 0, 50, 7000, 26),
        Configuration({"locks": 8192, "word": 18, "width": 4, "slots": 16, "slot_size": 512}, 0, 50, 7000, 18),
    ), needs_ethernet=True),
    "collective": _System("a rank of collectives, its packets in UDP", (
        Configuration({"width": 8, "ports": 1, "link": 1}, 64 << 10, 37.5, 45000, 60),
    ), needs_ethernet=True),
    "zeronic": _System("header-only TCP's data path", (
        Configuration({"width": 8, "flows": 64, "segments": 16, "intervals": 16}, 64 << 10, 37.5, 40000, 40),
    ), needs_ethernet=True),
}


@dataclass(frozen=True)
class Pair:
    """A system on a board, built in one way."""

    board: Board
    system: str
    configuration: Configuration
    link: Uart | Udp
    memory: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", self.configuration.memory)

    @property
    def name(self) -> str:
        """Name of its files."""
        return name_of(self.board.name, self.system, self.link_name)

    @property
    def link_name(self) -> str:
        """``uart`` or ``udp``."""
        return "uart" if isinstance(self.link, Uart) else "udp"

    @property
    def mac(self) -> str:
        """The station's MAC address as it is written; empty with a UART."""
        return "" if isinstance(self.link, Uart) else self.link.mac.to_bytes(6, "big").hex(":")

    @property
    def address(self) -> str:
        """The station's IPv4 address as it is written; empty with a UART."""
        return "" if isinstance(self.link, Uart) else address_text(self.link.address)


def name_of(board: str, system: str, link: str) -> str:
    """Name of the files of a pair: with its link, if that is not the one that the system has by itself."""
    return f"{board}-{system}" if link == SYSTEMS[system].link else f"{board}-{system}-{link}"


def _needs(configuration: Configuration, link: str) -> tuple[int, int]:
    lut4, ebr = _RIM[link]
    return configuration.lut4 + lut4, configuration.ebr + ebr + -(-configuration.memory // _EBR_BYTES)


def _why_not(configuration: Configuration, link: str, fpga: Fpga) -> str:
    """What there is too little of, or nothing."""
    lut4, ebr = _needs(configuration, link)
    if lut4 > _FILL * fpga.lut4:
        return f"about {lut4} LUT4, of which {fpga.name} has {fpga.lut4} ({_FILL:.0%} of them can be placed in time)"
    if ebr > fpga.ebr:
        return f"about {ebr} block RAMs, {configuration.memory >> 10} KB of memory among them, and {fpga.name} " \
               f"has {fpga.ebr}"
    return ""


def _station(mac: str | None, address: str | None) -> Udp:
    """Ethernet whose station has these addresses. Raises ValueError if one is none of a station."""
    given = {}
    if mac is not None:
        if not re.fullmatch("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", mac):
            raise ValueError(f"mac must look like 02:52:47:00:00:01, not {mac!r}")
        given["mac"] = int(mac.replace(":", ""), 16)
        if given["mac"] == 0 or given["mac"] >> 40 & 1:
            raise ValueError(f"mac must be the address of one station, not {mac}")
    if address is not None:
        try:
            found = IPv4Address(address)
        except AddressValueError:
            raise ValueError(f"address must look like 192.168.1.50, not {address!r}") from None
        if found in _NO_STATION or found.is_loopback or found.is_multicast or found.is_reserved:
            raise ValueError(f"address must be the IPv4 address of one station, not {address}")
        given["address"] = int(found)
    return Udp(**given)


def choose(board: str, system: str, *, link: str | None = None, mac: str | None = None,
           address: str | None = None) -> Pair:
    """The largest way to build ``system`` that fits ``board``.

    Parameters
    ----------
    board, system:
        Their names; a board's may be cut short.
    link:
        ``uart`` or ``udp``; unless given, Ethernet for a system with packet streams, else the UART.
    mac, address:
        Of the board on Ethernet, as ``02:52:47:00:00:01`` and ``192.168.1.50``; those of
        :class:`~rackgate.board.links.Udp` unless given.

    Raises
    ------
    ValueError
        There is no such board, system or link; an address is wrong, or given for a UART.
    DoesNotFit
        There is, but not together; the text says why.
    """
    found = find(board)
    if system not in NAMES:
        raise ValueError(f"system must be one of {', '.join(NAMES)}, not {system!r}")
    if system not in SYSTEMS:
        raise DoesNotFit(f"system {system} is not built for boards: there are {', '.join(SYSTEMS)}")
    wanted = SYSTEMS[system]
    link = link or wanted.link
    if link not in _RIM:
        raise ValueError(f"link must be one of {', '.join(_RIM)}, not {link!r}")
    if wanted.needs_ethernet and link == "uart":
        raise DoesNotFit(f"system {system} has packet streams: its link must be udp")
    if link not in found.links:
        raise DoesNotFit(f"board {found.name} has no Ethernet, which system {system} was to have as its link")
    station = _station(mac, address)
    if link == "uart" and (mac, address) != (None, None):
        raise ValueError(f"system {system} has a UART as its link: mac and address are for link udp")
    for configuration in wanted.configurations:
        if not (why := _why_not(configuration, link, found.fpga)):
            return Pair(found, system, configuration, Uart() if link == "uart" else station)
    raise DoesNotFit(f"system {system} does not fit board {found.name}: the smallest way to build it takes {why}")


def pairs() -> Iterator[tuple[str, str, Pair | DoesNotFit]]:
    """Board, system, and how it is built there or why not, for all."""
    for board in BOARDS:
        for system in SYSTEMS:
            try:
                yield board, system, choose(board, system)
            except DoesNotFit as error:
                yield board, system, error
