# SPDX-License-Identifier: Apache-2.0
"""A switch as software sees it: registers, commands of the control plane, entries of tables.

Plain Python: gateware, host and model read it from here. All pipelines have the same registers but for ``PARAM_``
registers of their own, so that a driver can ask a device what it is before it knows its tables.

A command reads or writes one word of a register array, or one entry of a table: the host writes TARGET, INDEX and, to
write, DATA_0 and so on (the lowest bits first), then COMMAND; when STATUS.BUSY is low, RESULT_0 and so on hold what was
read. A word or an entry changes in one step between two packets.
"""

import enum
import zlib
from collections.abc import Mapping, Sequence

from rackgate.csr.map import Access, Field, Register, RegisterMap
from rackgate.pisa.declare import Pipeline
from rackgate.pisa.expr import Expr

__all__ = [
    "COUNTERS", "MAX_WORD", "Command", "CommandError", "Rejection", "data_words", "fingerprint", "from_words",
    "switch_registers", "to_words",
]

#: Bits of the widest word or entry that a command carries.
MAX_WORD = 512

#: Parameters of their own that pipelines may have.
_MOST_PARAMETERS = 4


class Command(enum.IntEnum):
    """What COMMAND.OPERATION asks for. TARGET counts the register arrays, or the tables, in the order of the stages."""

    READ_REGISTER = 1
    WRITE_REGISTER = 2
    READ_ENTRY = 3
    WRITE_ENTRY = 4


class CommandError(enum.IntEnum):
    """STATUS.ERROR: why the last command did nothing."""

    NONE = 0
    BAD_OPERATION = 1
    BAD_TARGET = 2
    BAD_INDEX = 3


class Rejection(enum.IntEnum):
    """Why the parser does not let a frame in. Where several hold, the first is counted."""

    DAMAGED = 0  # the stream said that it has an error
    OVERSIZE = 1  # it is larger than a slot
    TRUNCATED = 2  # it ends within a header
    REFUSED = 3  # the parser's declaration rejects it
    LENGTH = 4  # its length field counts fewer bytes than its headers have, or more than there are
    CHECKSUM = 5


#: Counters in the order of their registers, all modulo 2**32: frames received, accepted, and rejected by cause;
#: packets dropped (no copy was made) and copies that the egress stages dropped or that are empty; frames sent; copies
#: recirculated.
COUNTERS = ("RECEIVED", "ACCEPTED", *(f"REJECTED_{cause.name}" for cause in Rejection),
            "DROPPED", "SENT", "RECIRCULATED")

_COUNTER_DOCS = ("Frames that have come in whole.", "Frames that the parser let in.",
                 *(f"Frames rejected: {text}" for text in (
                     "marked as damaged.", "larger than a slot.", "ended within a header.",
                     "refused by the parser's declaration.", "length field below the headers' or above the frame's.",
                     "wrong checksum.")),
                 "Packets of which no copy was made, and copies that the egress stages dropped or that are empty.",
                 "Frames sent.", "Copies that went through the pipeline again.")


def switch_registers(code: str, parameters: Sequence[str] = ()) -> RegisterMap:
    """Registers of a switch with device code ``code``, whose pipeline has ``parameters``.

    Raises ValueError when there are more than four.
    """
    if len(parameters) > _MOST_PARAMETERS:
        raise ValueError(f"a pipeline has at most {_MOST_PARAMETERS} parameters, not {len(parameters)}")
    words = MAX_WORD // 32
    return RegisterMap(code, (1, 0), (
        Register("PARAM_WIDTH", 0x20, Access.CONST, "Bytes a cycle of the packet streams."),
        Register("PARAM_SLOTS", 0x24, Access.CONST, "Frames that the switch holds at a time."),
        Register("PARAM_SLOT_SIZE", 0x28, Access.CONST, "Bytes of the largest frame."),
        Register("PIPELINE", 0x2C, Access.CONST, "Fingerprint of the pipeline's registers and tables."),
        *(Register(f"PARAM_{name.upper()}", 0x30 + 4 * k, Access.CONST, "Parameter of the pipeline.")
          for k, name in enumerate(parameters)),
        Register("CONTROL", 0x40, Access.RW, "Device control.",
                 fields=(Field("RESET", 0, 1, "Forget all packets, words and entries; one until that is done."),)),
        Register("STATUS", 0x44, Access.RO, "State of the device.",
                 fields=(Field("READY", 0, 1, "All words and entries are as after reset; packets are let in."),
                         Field("BUSY", 1, 1, "A command is under way."),
                         Field("IDLE", 2, 1, "Ready, and no packet, nor a part of one, is in the device."),
                         Field("FRESH", 3, 1, "No entry has been written since reset."),
                         Field("ERROR", 8, 4, "Why the last command did nothing."))),
        Register("TARGET", 0x48, Access.RW, "Number of the register array, or of the table.",
                 fields=(Field("NUMBER", 0, 8),)),
        Register("INDEX", 0x4C, Access.RW, "Number of the word, or of the entry."),
        Register("COMMAND", 0x50, Access.WO, "Begin a command.", fields=(Field("OPERATION", 0, 4),)),
        Register("IRQ_STATUS", 0x54, Access.W1C, "Causes of the interrupt.",
                 fields=(Field("DONE", 0, 1, "A command has ended."),
                         Field("READY", 1, 1, "The device has become ready."),
                         Field("REFUSED", 2, 1, "A command came while one was under way, and was not done."))),
        Register("IRQ_ENABLE", 0x58, Access.RW, "Causes that raise the interrupt; bits as in IRQ_STATUS.",
                 fields=(Field("DONE", 0, 1), Field("READY", 1, 1), Field("REFUSED", 2, 1))),
        *(Register(name, 0x60 + 4 * k, Access.RO, f"{text} Modulo 2**32.")
          for k, (name, text) in enumerate(zip(COUNTERS, _COUNTER_DOCS, strict=True))),
        *(Register(f"DATA_{k}", 0x100 + 4 * k, Access.RW, "What a command writes.") for k in range(words)),
        *(Register(f"RESULT_{k}", 0x180 + 4 * k, Access.RO, "What a command has read.") for k in range(words)),
    ))


def data_words(bits: int) -> int:
    """DATA (or RESULT) registers that ``bits`` take."""
    return (bits + 31) // 32


def to_words(value: int, bits: int) -> list[int]:
    """``value`` of ``bits`` bits as words of 32 bits, the lowest first."""
    return [value >> 32 * k & 0xFFFFFFFF for k in range(data_words(bits))]


def from_words(words: Sequence[int]) -> int:
    """The value of words of 32 bits, the lowest first."""
    return sum(word << 32 * k for k, word in enumerate(words))


def _widths(fields: Mapping[str, Expr]) -> str:
    return " ".join(f"{name}:{part.width}" for name, part in fields.items())


def fingerprint(pipeline: Pipeline) -> int:
    """32 bits that change with what the control plane sees of a pipeline: its register arrays, tables and actions."""
    lines = [f"pipeline {pipeline.name}"]
    for register in pipeline.registers:
        lines.append(f"register {register.name} {register.depth} {register.init} {_widths(register.word.fields)}")
    for table in pipeline.tables:
        lines.append(f"table {table.name} {table.kind} {table.size} {' '.join(str(key.width) for key in table.keys)}")
        for action in table.actions:
            lines.append(f"  action {action.name} {_widths(action.parameters.fields if action.parameters else {})}")
    return zlib.crc32("\n".join(lines).encode())
