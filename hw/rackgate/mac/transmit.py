# SPDX-License-Identifier: Apache-2.0
"""Frames onto the wire: preamble, padding, check sequence, gap."""

from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.checksum.bytecrc32 import ByteCRC32
from rackgate.mac.abi import FCS_SIZE, GAP, LEAST_SIZE, PREAMBLE, PREAMBLE_SIZE, START
from rackgate.stream.packet import PacketSignature

__all__ = ["TransmitMac"]


class TransmitMac(wiring.Component):
    """Send frames, a byte a byte time (IEEE 802.3 3.1.1, 4.2.3.2): the transmit side, in its clock domain alone.

    Seven bytes 0x55 and the start frame delimiter go before a frame, zeros behind its bytes until there are 60, then
    its FCS, then at least 12 byte times of nothing. Frames that are offered in time go with just those 12: that is
    the line rate. The first byte of the preamble is at the pins the cycle after the strobe at which a frame was on
    offer.

    All bytes of a frame must be offered in time. If one is not (an underrun), or the last has ``error``, the frame is
    broken off with ``tx_error`` for a byte time and without an FCS, and what is left of it is dropped. ``i.ready``
    depends on ``tx_strobe``, not on ``i.valid``. Reset breaks off the frame under way, and expects the begin of one.

    Members
    -------
    i:
        Frames without FCS, a byte a word.
    tx_strobe:
        A byte time passes: see :func:`~.pins.GmiiSignature`.
    tx_data, tx_enable, tx_error:
        To the PHY, from registers.
    underrun:
        Strobe: a frame was broken off because a byte was not there.
    """

    i: In(PacketSignature(1))
    tx_strobe: In(1)
    tx_data: Out(8)
    tx_enable: Out(1)
    tx_error: Out(1)
    underrun: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = crc = ByteCRC32()
        # Bytes of what the state is about that are done: no need to count a frame's beyond the shortest.
        count, byte, data = Signal(range(LEAST_SIZE + 1)), self.i.payload, Signal(8)
        drains = Signal()  # of a frame that was broken off there are bytes left to come
        m.d.comb += crc.data.eq(data)

        def put(value, *, last=False):
            """A byte of the frame, which its FCS covers."""
            m.d.comb += [data.eq(value), crc.valid.eq(1)]
            m.d.sync += [self.tx_data.eq(data), self.tx_enable.eq(1)]
            with m.If(count != LEAST_SIZE):
                m.d.sync += count.eq(count + 1)
            with m.If(last):
                with m.If(count >= LEAST_SIZE - 1):
                    m.d.sync += count.eq(0)
                    m.next = "FCS"
                with m.Else():
                    m.next = "PAD"

        with m.If(self.tx_strobe):
            m.d.sync += [self.tx_enable.eq(0), self.tx_error.eq(0), self.tx_data.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.tx_strobe & self.i.valid):
                    m.d.sync += [self.tx_data.eq(PREAMBLE), self.tx_enable.eq(1), count.eq(1)]
                    m.next = "PREAMBLE"
            with m.State("PREAMBLE"):
                m.d.comb += crc.restart.eq(1)
                with m.If(self.tx_strobe):
                    m.d.sync += [self.tx_data.eq(PREAMBLE), self.tx_enable.eq(1), count.eq(count + 1)]
                    with m.If(count == PREAMBLE_SIZE - 1):
                        m.d.sync += [self.tx_data.eq(START), count.eq(0)]
                        m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += self.i.ready.eq(self.tx_strobe)
                with m.If(self.tx_strobe):
                    put(byte.data, last=byte.last)
                    with m.If(~self.i.valid | byte.last & byte.error):
                        m.d.comb += self.underrun.eq(~self.i.valid)
                        m.d.sync += [self.tx_error.eq(1), count.eq(0), drains.eq(~self.i.valid)]
                        m.next = "GAP"
            with m.State("PAD"):
                with m.If(self.tx_strobe):
                    put(0, last=True)
            with m.State("FCS"):
                with m.If(self.tx_strobe):
                    m.d.sync += [
                        self.tx_data.eq(crc.value.word_select(count[:2], 8)), self.tx_enable.eq(1),
                        count.eq(count + 1),
                    ]
                    with m.If(count == FCS_SIZE - 1):
                        m.d.sync += count.eq(0)
                        m.next = "GAP"
            with m.State("GAP"):
                m.d.comb += self.i.ready.eq(drains)
                with m.If(self.i.valid & byte.last):
                    m.d.sync += drains.eq(0)
                with m.If(self.tx_strobe & (count != GAP - 1)):
                    m.d.sync += count.eq(count + 1)
                with m.If(self.tx_strobe & (count == GAP - 1) & ~drains):
                    m.next = "IDLE"
        self._check(m)
        return m

    def _check(self, m):
        """What is at the pins keeps the rules of the wire, whatever the states do."""
        least = PREAMBLE_SIZE + LEAST_SIZE + FCS_SIZE
        size, gap, is_broken = Signal(range(least + 1)), Signal(range(GAP + 1), init=GAP), Signal()
        with m.If(self.tx_strobe):
            with m.If(self.tx_enable):
                m.d.sync += [gap.eq(0), is_broken.eq(is_broken & (gap == 0) | self.tx_error)]
                with m.If(gap != 0):
                    m.d.sync += [size.eq(1), Assert(gap == GAP, "frames are less than 12 byte times apart")]
                with m.Elif(size != least):
                    m.d.sync += size.eq(size + 1)
            with m.Else():
                with m.If(gap != GAP):
                    m.d.sync += gap.eq(gap + 1)
                with m.If(gap == 0):
                    m.d.sync += Assert(is_broken | (size == least), "a frame is below 64 bytes")
