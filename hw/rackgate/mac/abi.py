# SPDX-License-Identifier: Apache-2.0
"""The MAC as software sees it: registers, counters, and the numbers of IEEE 802.3 that it keeps. Plain Python.

Sources: IEEE 802.3 3.1.1, 3.2, 4.2.7.1, 4.4.2; Reduced Gigabit Media Independent Interface (RGMII) 2.0, 3.4.1.
"""

import enum

from rackgate.csr.map import Access, Field, Register, RegisterMap

__all__ = [
    "FCS_SIZE", "GAP", "LEAST_SIZE", "MAC_REGISTERS", "PREAMBLE", "PREAMBLE_SIZE", "START", "MacCounter", "Speed",
]

#: Each of the bytes before a frame, and the last of them, the start frame delimiter; how many there are in all.
PREAMBLE, START, PREAMBLE_SIZE = 0x55, 0xD5, 8
#: Bytes of the frame check sequence; of the shortest frame, without it; least byte times between two frames.
FCS_SIZE, LEAST_SIZE, GAP = 4, 60, 12


class Speed(enum.IntEnum):
    """Megabits per second, with the numbers of RGMII's in-band status."""

    MBPS_10 = 0
    MBPS_100 = 1
    MBPS_1000 = 2
    AUTO = 3  # as the PHY's in-band status says; 1000 while it says of no link


class MacCounter(enum.IntEnum):
    """Counters, registers COUNT_*; 32 bits, wrapping. Bytes are counted without preamble and FCS, padding included.

    Each frame on the wire counts in one of ``RX_FRAMES`` to ``RX_FALSE_STARTS``; a lost one counts in ``RX_LOST`` too,
    and not in ``RX_FRAMES``.
    """

    RX_FRAMES = 0  # good ones, handed on
    RX_BYTES = 1  # of the good ones
    RX_PHY_ERRORS = 2  # the PHY has flagged an error within the frame
    RX_LONG = 3  # above the longest frame; cut there
    RX_RUNTS = 4  # below 64 bytes with FCS; below 5 nothing is handed on
    RX_FCS_ERRORS = 5  # of the right size, with a wrong check sequence
    RX_FALSE_STARTS = 6  # carrier without a start frame delimiter
    RX_LOST = 7  # there was no room: not taken in time
    TX_FRAMES = 8  # handed to the transmitter
    TX_BYTES = 9  # of those
    TX_DROPPED = 10  # damaged before they came to the MAC, or above the longest frame
    TX_UNDERRUNS = 11  # broken off on the wire, flagged as an error: the clock ``sync`` is too slow


#: Registers of :class:`~rackgate.mac.mac.Mac`.
MAC_REGISTERS = RegisterMap("EMAC", (1, 0), (
    Register("STATUS", 0x20, Access.RO, "What the PHY says between frames; 0 if it says nothing.", fields=(
        Field("LINK", 0, 1, "The link is up."), Field("SPEED", 1, 2, "Speed of the link: Speed."),
        Field("FULL_DUPLEX", 3, 1, "The link is full duplex."))),
    Register("SPEED", 0x24, Access.RW, "Speed to run at: Speed.", reset=Speed.AUTO, fields=(Field("SPEED", 0, 2),)),
    *(Register(f"COUNT_{counter.name}", 0x40 + 4 * counter, Access.RO, "Counter.") for counter in MacCounter),
))
