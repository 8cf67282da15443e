# SPDX-License-Identifier: Apache-2.0
"""The station as software sees it: addresses, registers, counters. Plain Python.

Addresses are numbers: their first byte on the wire is the highest.
"""

import enum

from rackgate.csr.map import Access, Register, RegisterMap

__all__ = ["DEFAULT_ADDRESS", "DEFAULT_MAC", "STATION_REGISTERS", "StationCounter"]

#: What a board is called unless told otherwise: a locally administered MAC address, and the first address for
#: documentation and examples (RFC 5737) that is no network's.
DEFAULT_MAC = 0x02_52_47_42_00_01
DEFAULT_ADDRESS = 0xC0_00_02_0A  # 192.0.2.10


class StationCounter(enum.IntEnum):
    """Counters, registers COUNT_*; 32 bits, wrapping.

    ===================  =============================================================================================
    ``ARP_REPLIES``      replies to ARP requests
    ``ECHO_REPLIES``     replies to echo requests
    ``ANSWERS``          datagrams with an answer of the bridge
    ``MESSAGES``         datagrams stored for the bridge
    ``DAMAGED``          for the station, with a wrong length or checksum, empty, or damaged on the way: dropped
    ``NO_ROOM``          for the station, good, dropped for want of room
    ``SYSTEM_FRAMES``    good frames that the system has taken
    ``SYSTEM_LOST``      for the system, lost whole, or cut and marked: it did not take them in time
    ===================  =============================================================================================
    """

    ARP_REPLIES = 0
    ECHO_REPLIES = 1
    ANSWERS = 2
    MESSAGES = 3
    DAMAGED = 4
    NO_ROOM = 5
    SYSTEM_FRAMES = 6
    SYSTEM_LOST = 7


#: Registers of :class:`~rackgate.net.station.station.Station`.
STATION_REGISTERS = RegisterMap("STAT", (1, 0), (
    Register("MAC_LOW", 0x20, Access.RW, "Own MAC address, its last four bytes."),
    Register("MAC_HIGH", 0x24, Access.RW, "Bits 15:0: own MAC address, its first two bytes."),
    Register("ADDRESS", 0x28, Access.RW, "Own IPv4 address."),
    Register("PORT", 0x2C, Access.RW, "Bits 15:0: UDP port of messages."),
    *(Register(f"COUNT_{counter.name}", 0x40 + 4 * counter, Access.RO, "Counter.") for counter in StationCounter),
))
