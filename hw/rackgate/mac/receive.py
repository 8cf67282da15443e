# SPDX-License-Identifier: Apache-2.0
"""Frames from the wire: preamble, sizes, check sequence."""

import operator

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.checksum.bytecrc32 import RESIDUE, ByteCRC32
from rackgate.mac.abi import FCS_SIZE, LEAST_SIZE, PREAMBLE, START
from rackgate.stream.packet import packet_layout

__all__ = ["RECEIVE_ERRORS", "ReceiveMac", "check_longest"]

#: Why a frame is bad, the first that applies; a member of :attr:`ReceiveMac.errors` each.
RECEIVE_ERRORS = ("phy_errors", "long", "runts", "fcs_errors", "false_starts")


def check_longest(longest: int) -> int:
    """The bytes of the longest frame without FCS, if they can be that: 60 to 9600."""
    if not LEAST_SIZE <= (value := operator.index(longest)) <= 9600:
        raise ValueError(f"longest must be {LEAST_SIZE} to 9600 bytes, not {longest}")
    return value


class ReceiveMac(wiring.Component):
    """Receive frames, a byte a byte time (IEEE 802.3 3.1.1, 3.4, 4.2.4): the receive side, in its clock domain alone.

    A frame begins behind a start frame delimiter that follows on any number of bytes 0x55, as a PHY may swallow some;
    carrier with anything else first is a false start, and ignored until it ends. No gap is needed but a byte time
    without ``rx_valid``. The last four bytes are the FCS, and are not handed on.

    A bad frame has ``error`` on its last word: one that the PHY has flagged, of more than ``longest`` bytes and the FCS
    (it is cut there), of less than 60 and the FCS, or with a wrong FCS. Of one with no more than an FCS nothing is
    handed on.

    Latency: a byte comes out the cycle after that in which the fifth byte behind it, or the end, was there. ``o``
    cannot be stalled. Reset forgets the frame under way; what is left of it is a false start.

    Parameters
    ----------
    longest:
        Bytes of the longest frame without FCS, 60 to 9600.

    Members
    -------
    rx_data, rx_valid, rx_error, rx_strobe:
        From the PHY: see :func:`~.pins.GmiiSignature`.
    o:
        Frames without FCS, a byte a word.
    errors:
        Strobes: a bad frame has ended (:data:`RECEIVE_ERRORS`).
    """

    o: stream.Interface

    def __init__(self, *, longest: int = 1518):
        self.longest = check_longest(longest)
        super().__init__({
            "rx_data": In(8), "rx_valid": In(1), "rx_error": In(1), "rx_strobe": In(1),
            "o": Out(stream.Signature(packet_layout(1), always_ready=True)),
            "errors": Out(data.StructLayout({name: 1 for name in RECEIVE_ERRORS})),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = ByteCRC32()
        # The last bytes wait until it is known that they are no FCS. ``size``: bytes of the frame so far.
        held = [Signal(8, name=f"held_{number}") for number in range(FCS_SIZE + 1)]
        size, is_flagged = Signal(range(self.longest + FCS_SIZE + 1)), Signal()
        # Of ``size``, from registers: there are 8 ns for all that follows from them.
        is_full, is_short, has_more = Signal(), Signal(), Signal()
        byte, is_long, ends, bad, word = Signal(), Signal(), Signal(), Signal(self.errors.shape()), self.o.payload
        m.d.comb += [
            byte.eq(self.rx_strobe & self.rx_valid), crc.data.eq(self.rx_data),
            is_long.eq(byte & is_full),
        ]
        m.d.sync += [self.o.valid.eq(0), self.errors.eq(0)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += crc.restart.eq(1)
                m.d.sync += [size.eq(0), is_flagged.eq(0), is_full.eq(0), is_short.eq(1), has_more.eq(0)]
                with m.If(byte):
                    with m.If(self.rx_error | (self.rx_data != PREAMBLE) & (self.rx_data != START)):
                        m.d.sync += self.errors.false_starts.eq(1)
                        m.next = "SKIP"
                    with m.Elif(self.rx_data == START):
                        m.next = "FRAME"
                    with m.Else():
                        m.next = "PREAMBLE"
            with m.State("PREAMBLE"):
                m.d.comb += crc.restart.eq(1)
                with m.If(self.rx_strobe):
                    with m.If(self.rx_valid & ~self.rx_error & (self.rx_data == START)):
                        m.next = "FRAME"
                    with m.Elif(~self.rx_valid | self.rx_error | (self.rx_data != PREAMBLE)):
                        m.d.sync += self.errors.false_starts.eq(1)
                        m.next = "SKIP"
                        with m.If(~self.rx_valid):
                            m.next = "IDLE"
            with m.State("FRAME"):
                m.d.comb += crc.valid.eq(byte)
                with m.If(byte):
                    m.d.sync += [
                        size.eq(size + 1), is_flagged.eq(is_flagged | self.rx_error),
                        is_full.eq(size == self.longest + FCS_SIZE - 1),
                        is_short.eq(size < LEAST_SIZE + FCS_SIZE - 1), has_more.eq(size >= FCS_SIZE),
                    ]
                    for older, newer in zip(held, [*held[1:], self.rx_data], strict=True):
                        m.d.sync += older.eq(newer)
                m.d.comb += ends.eq(self.rx_strobe & ~self.rx_valid | is_long)
                with m.If(ends):
                    m.d.sync += self.errors.eq(bad)
                    m.next = "IDLE"
                with m.If(is_long):
                    m.next = "SKIP"
                with m.If(has_more & (byte | ends)):
                    m.d.sync += [
                        self.o.valid.eq(1), word.data.eq(held[0]), word.count.eq(1), word.last.eq(ends),
                        word.error.eq(ends & bad.as_value().any()),
                    ]
            with m.State("SKIP"):
                with m.If(self.rx_strobe & ~self.rx_valid):
                    m.next = "IDLE"
        self._judge(m, bad, is_flagged, is_long, is_short, crc.value != RESIDUE)
        return m

    def _judge(self, m, bad, is_flagged, is_long, is_short, is_wrong):
        """The first of the reasons that applies to a frame that ends now."""
        with m.If(is_flagged):
            m.d.comb += bad.phy_errors.eq(1)
        with m.Elif(is_long):
            m.d.comb += bad.long.eq(1)
        with m.Elif(is_short):
            m.d.comb += bad.runts.eq(1)
        with m.Else():
            m.d.comb += bad.fcs_errors.eq(is_wrong)
