# SPDX-License-Identifier: Apache-2.0
"""The echo device as software sees it. Plain Python: gateware, driver, model and manual all read it from here.

A host writes SOURCE, DESTINATION and SIZE, then START: the device copies SIZE bytes, counts the copy in COPIES and
sets IRQ_STATUS. With CHANGE other than 0 each 32-bit word is changed by an exclusive or on its way. A START while a
copy is under way is lost.
"""

import enum

from rackgate.csr.map import Access, Field, Register, RegisterMap

__all__ = ["REGISTERS", "WORD_BYTES", "Cause"]

#: Addresses and sizes are multiples of this.
WORD_BYTES = 8


class Cause(enum.IntFlag):
    """Bits of IRQ_STATUS and IRQ_ENABLE."""

    DONE = 1 << 0  # a copy has ended
    FAULT = 1 << 1  # the memory answered with an error; the copy went on, and its words there mean nothing
    REFUSED = 1 << 2  # an address or the size is no multiple of WORD_BYTES, or beyond 40 bits: nothing was copied


_CAUSES = (Field("DONE", 0, 1, "A copy has ended."), Field("FAULT", 1, 1, "The memory answered with an error."),
           Field("REFUSED", 2, 1, "An address or the size is no multiple of 8, or beyond 40 bits."))

REGISTERS = RegisterMap("ECHO", (1, 0), (
    Register("SCRATCH", 0x20, Access.RW, "Keeps what is written; nothing else happens."),
    Register("SOURCE_LO", 0x24, Access.RW, "First byte to copy; a multiple of 8, as are the next two."),
    Register("SOURCE_HI", 0x28, Access.RW, "Its high word."),
    Register("DESTINATION_LO", 0x2C, Access.RW, "Where it goes."),
    Register("DESTINATION_HI", 0x30, Access.RW, "Its high word."),
    Register("SIZE", 0x34, Access.RW, "Bytes to copy."),
    Register("CHANGE", 0x38, Access.RW, "Added to each 32-bit word by an exclusive or."),
    Register("START", 0x3C, Access.WO, "Written with any value: copy."),
    Register("STATUS", 0x40, Access.RO, "What goes on.", fields=(Field("BUSY", 0, 1, "A copy is under way."),)),
    Register("COPIES", 0x44, Access.RO, "Copies that have ended."),
    Register("IRQ_STATUS", 0x48, Access.W1C, "Causes of the interrupt.", fields=_CAUSES),
    Register("IRQ_ENABLE", 0x4C, Access.RW, "Causes that raise it.", fields=_CAUSES),
    Register("CYCLES_LO", 0x50, Access.RO, "Cycles since reset. Reading it latches CYCLES_HI."),
    Register("CYCLES_HI", 0x54, Access.RO, "High word of the cycles at the last read of CYCLES_LO."),
    Register("BUSY_CYCLES", 0x58, Access.RO, "Cycles in which a copy was under way."),
))
