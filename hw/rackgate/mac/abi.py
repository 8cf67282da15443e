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

    ===================  =============================================================================================
    ``RX_FRAMES``        good frames, handed on
    ``RX_BYTES``         their bytes
    ``RX_PHY_ERRORS``    frames within which the PHY has flagged an error
    ``RX_LONG``          else: frames above the longest; they are cut there
    ``RX_RUNTS``         else: frames below 64 bytes with FCS; of those below 5 nothing is handed on
    ``RX_FCS_ERRORS``    else: frames with a wrong check sequence
    ``RX_FALSE_STARTS``  carrier without a start frame delimiter (at 1000 Mb/s only)
    ``RX_LOST``          frames, good or not, that were not taken in time: lost whole, or cut and marked as damaged
    ``TX_FRAMES``        frames handed to the transmitter
    ``TX_BYTES``         their bytes
    ``TX_DROPPED``       frames above the longest, or damaged before they came to the MAC
    ``TX_UNDERRUNS``     frames broken off on the wire, and flagged there: the clock of the system is too slow
    ===================  =============================================================================================

    Errors that are closer to each other than two cycles of the system's clock may be missed: noise, not frames, is.
    """

    RX_FRAMES = 0
    RX_BYTES = 1
    RX_PHY_ERRORS = 2
    RX_LONG = 3
    RX_RUNTS = 4
    RX_FCS_ERRORS = 5
    RX_FALSE_STARTS = 6
    RX_LOST = 7
    TX_FRAMES = 8
    TX_BYTES = 9
    TX_DROPPED = 10
    TX_UNDERRUNS = 11


#: Registers of :class:`~rackgate.mac.mac.Mac`.
MAC_REGISTERS = RegisterMap("EMAC", (1, 0), (
    Register("STATUS", 0x20, Access.RO, "What the PHY says between frames; 0 if it says nothing.", fields=(
        Field("LINK", 0, 1, "The link is up."), Field("SPEED", 1, 2, "Speed of the link: Speed."),
        Field("FULL_DUPLEX", 3, 1, "The link is full duplex."))),
    Register("SPEED", 0x24, Access.RW, "Speed to run at: Speed.", reset=Speed.AUTO, fields=(Field("SPEED", 0, 2),)),
    *(Register(f"COUNT_{counter.name}", 0x40 + 4 * counter, Access.RO, "Counter.") for counter in MacCounter),
))
