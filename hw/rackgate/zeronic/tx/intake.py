# SPDX-License-Identifier: Apache-2.0
"""SEND commands come in: headers are kept, payload goes on."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from rackgate.zeronic.abi import HEADER_MOST
from rackgate.zeronic.records import FlowUpdate, check_width
from rackgate.zeronic.tx.records import SLOTS, SendCommand, SendJob

__all__ = ["Intake", "header_address"]

_TCP = 34  # where TCP's header begins
_ACK = 4  # bit of TCP's flags
#: Bytes of a header that are looked at: ethertype, IPv4's version and header length, identification, protocol; TCP's
#: sequence and acknowledgement numbers, data offset, flags.
_FIELDS = (12, 13, 14, 18, 19, 23, *range(38, 48))
#: What OFFLOAD demands: IPv4 without options, and TCP.
_DEMANDED = {12: 0x08, 13: 0x00, 14: 0x45, 23: 6}


def header_address(width: int) -> data.StructLayout:
    """Where a word of a header is kept."""
    return data.StructLayout({"word": ceil_log2(-(-HEADER_MOST // width)), "slot": range(SLOTS)})


class Intake(wiring.Component):
    """Take the bytes of SEND commands: keep the header, look at its fields, pass on the payload that follows.

    The cursor of SNOOP is offered when the header is there, before the job. With OFFLOAD a header that is not of IPv4
    without options and TCP, and as long as TCP's data offset says, is refused: nothing of its command goes on.

    A word a cycle; a job is offered 1 cycle after the last word of its header. A command costs 1 cycle more than its
    words (2 with SNOOP). ``i.ready`` and ``words.ready`` depend on no input, but that payload passes combinationally.
    Reset forgets the command under way.

    Parameters
    ----------
    width:
        Bytes of a word: 8, 16 or 32.

    Members
    -------
    i:
        Commands.
    words:
        Their bytes (see :class:`~rackgate.zeronic.commands.CommandDecoder`).
    address, content, write:
        Of the memory of headers.
    freed:
        Strobe: the oldest header is no longer needed.
    o:
        Jobs.
    cursor:
        What acknowledgements say.
    payload:
        Bytes of payload in the command, from the word on that has the first one.
    bad_command:
        Strobe: a command is refused.
    pending:
        A command is not yet wholly dealt with, but for its payload.
    """

    i: stream.Interface
    words: stream.Interface
    o: stream.Interface
    cursor: stream.Interface
    payload: stream.Interface

    def __init__(self, width: int = 8):
        self.width = check_width(width)
        words = stream.Signature(data.StructLayout({"data": 8 * self.width, "last": 1}))
        super().__init__({
            "i": In(stream.Signature(SendCommand)), "words": In(words),
            "address": Out(header_address(self.width)), "content": Out(8 * self.width), "write": Out(1),
            "freed": In(1),
            "o": Out(stream.Signature(SendJob)), "cursor": Out(stream.Signature(FlowUpdate)), "payload": Out(words),
            "bad_command": Out(1), "pending": Out(1),
        })
        self._kept = Signal(range(SLOTS + 1))

    def elaborate(self, platform):
        m = Module()
        command, slot, index, is_over = Signal(SendCommand), Signal(range(SLOTS)), Signal(3 + 1), Signal()
        is_end, is_inline, stays, keeps = Signal(), Signal(), Signal(), Signal()
        fields = {place: Signal(8, name=f"byte_{place}") for place in _FIELDS}
        shift, word = exact_log2(self.width), self.words.payload
        m.d.comb += [
            is_end.eq(index == (command.headers - 1) >> shift),
            is_inline.eq(~command.gather & (command.payload != 0)),
            # The last word of the header may have the first bytes of payload.
            stays.eq(is_end & is_inline & (command.headers[:shift] != 0)),
            self.address.slot.eq(slot), self.address.word.eq(index), self.content.eq(word.data),
            self.payload.payload.eq(word),
        ]
        job, cursor = self.o.payload, self.cursor.payload
        for name in ("flow", "gather", "offload", "headers", "payload", "segment"):
            m.d.comb += job[name].eq(command[name])
        m.d.comb += [
            job.slot.eq(slot), job.identification.eq(Cat(fields[19], fields[18])),
            job.sequence.eq(Cat(*(fields[place] for place in reversed(range(38, 42))))),
            cursor.flow.eq(command.flow),
            cursor.cursor.eq(Cat(*(fields[place] for place in reversed(range(42, 46))))),
        ]
        is_wrong = Signal()
        is_other = Cat(fields[place] != value for place, value in _DEMANDED.items()).any()
        m.d.comb += is_wrong.eq(command.offload & (
            is_other | (fields[46][4:] < 5) | (command.headers != _TCP + (fields[46][4:] << 2))))
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(self._kept != SLOTS)
                m.d.sync += [command.eq(self.i.payload), index.eq(0), is_over.eq(0)]
                with m.If(self.i.valid & self.i.ready):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [self.words.ready.eq(~stays), self.write.eq(self.words.valid)]
                with m.If(self.words.valid):
                    m.d.sync += [index.eq(index + 1), is_over.eq(word.last & ~stays)]
                    for place, field in fields.items():
                        with m.If(index == place // self.width):
                            m.d.sync += field.eq(word.data.word_select(place % self.width, 8))
                    with m.If(is_end):
                        m.next = "JOB"
            with m.State("JOB"):
                with m.If(is_wrong):
                    m.d.comb += self.bad_command.eq(1)
                    m.next = "SKIP"
                with m.Elif(command.snoop & fields[47][_ACK]):
                    m.d.comb += self.cursor.valid.eq(1)
                    with m.If(self.cursor.ready):
                        m.d.sync += command.snoop.eq(0)
                with m.Else():
                    m.d.comb += self.o.valid.eq(1)
                    with m.If(self.o.ready):
                        m.d.comb += keeps.eq(1)
                        m.next = "SKIP"
                        with m.If(is_inline):
                            m.next = "PAYLOAD"
            with m.State("PAYLOAD"):
                m.d.comb += [self.payload.valid.eq(self.words.valid), self.words.ready.eq(self.payload.ready)]
                with m.If(self.words.valid & self.words.ready & word.last):
                    m.next = "IDLE"
            with m.State("SKIP"):
                m.d.comb += self.words.ready.eq(~is_over)
                with m.If(is_over | self.words.valid & word.last):
                    m.next = "IDLE"
        m.d.comb += self.pending.eq(~fsm.ongoing("IDLE") & ~fsm.ongoing("PAYLOAD"))
        m.d.sync += self._kept.eq(self._kept + keeps - self.freed)
        with m.If(keeps):
            m.d.sync += slot.eq(Mux(slot == SLOTS - 1, 0, slot + 1))
        return m
