# SPDX-License-Identifier: Apache-2.0
"""RGMII: bytes on four pins each way, at both edges of a clock.

Source: Reduced Gigabit Media Independent Interface (RGMII) 2.0. At 1000 Mb/s a byte goes in each cycle of 125 MHz, its
low half at the rising edge and its high half at the falling one; at 100 and 10 Mb/s a half goes in each cycle of 25 and
2.5 MHz, the low one first. The control pin carries "valid" at the rising edge, and "valid" xor "error" at the falling.
"""

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from rackgate.mac.abi import START, Speed
from rackgate.mac.pins import GmiiSignature, LinkStatus

__all__ = ["Rgmii"]

#: Cycles of ``eth_tx``, 125 MHz, in half a byte time.
_HALF_TIMES = {Speed.MBPS_100: 5, Speed.MBPS_10: 50}
_NIBBLE, _PIN = data.ArrayLayout(4, 2), data.ArrayLayout(1, 2)


class _Receive(wiring.Component):
    """The receive half of :class:`Rgmii`, in the domain ``sync``; ``speed`` is in it too, and so is ``active``."""

    def __init__(self):
        super().__init__({
            "rx_data": In(_NIBBLE), "rx_control": In(_PIN), "speed": In(2), "active": Out(2, init=Speed.MBPS_1000),
            "data": Out(8), "valid": Out(1), "error": Out(1), "strobe": Out(1), "link": Out(LinkStatus),
        })

    def elaborate(self, platform):
        m = Module()
        valid, error = self.rx_control[0], self.rx_control[0] ^ self.rx_control[1]
        link, before, is_aligned, is_second = self.link, Signal(4), Signal(), Signal()
        byte = Cat(before, self.rx_data[0])
        m.d.sync += [
            self.active.eq(Mux(self.speed != Speed.AUTO, self.speed,
                               Mux(link.up & (link.speed != Speed.AUTO), link.speed, Speed.MBPS_1000))),
            self.valid.eq(valid), self.error.eq(error),
        ]
        with m.If(~valid & ~error):
            m.d.sync += link.eq(self.rx_data[0])
        with m.If(self.active == Speed.MBPS_1000):
            m.d.sync += [self.data.eq(Cat(self.rx_data[0], self.rx_data[1])), self.strobe.eq(1)]
        with m.Else():
            # The first byte that is told is the start frame delimiter: it shows which halves belong together.
            m.d.sync += [
                before.eq(Mux(valid, self.rx_data[0], 0)), self.data.eq(byte),
                is_aligned.eq(valid & (is_aligned | (byte == START))), is_second.eq(is_aligned & ~is_second),
                self.strobe.eq(~valid | Mux(is_aligned, is_second, byte == START)),
            ]
            # An error flagged at one half of a byte is the byte's.
            with m.If(valid & is_second):
                m.d.sync += self.error.eq(error | self.error)
        return m


class _Transmit(wiring.Component):
    """The transmit half of :class:`Rgmii`, in the domain ``sync``; ``active`` is in it too."""

    def __init__(self):
        super().__init__({
            "active": In(2), "data": In(8), "enable": In(1), "error": In(1), "strobe": Out(1, init=1),
            "tx_clock": Out(_PIN), "tx_data": Out(_NIBBLE), "tx_control": Out(_PIN),
        })

    def elaborate(self, platform):
        m = Module()
        place, is_second, low, high = Signal(range(max(_HALF_TIMES.values()))), Signal(), self.data[:4], self.data[4:]
        with m.If(self.active == Speed.MBPS_10):
            self._halves(m, place, is_second, _HALF_TIMES[Speed.MBPS_10])
        with m.Elif(self.active == Speed.MBPS_100):
            self._halves(m, place, is_second, _HALF_TIMES[Speed.MBPS_100])
        with m.Else():
            m.d.sync += [
                place.eq(0), is_second.eq(0), self.strobe.eq(1),
                self.tx_clock[0].eq(1), self.tx_clock[1].eq(0),
                self.tx_data[0].eq(low), self.tx_data[1].eq(high),
                self.tx_control[0].eq(self.enable), self.tx_control[1].eq(self.enable ^ self.error),
            ]
        return m

    def _halves(self, m, place, is_second, time):
        """Half a byte takes ``time`` cycles; the clock is high in the first half of them."""
        nibble, is_end = Mux(is_second, self.data[4:], self.data[:4]), Signal()
        is_high = [2 * place + half < time for half in range(2)]
        m.d.comb += is_end.eq(place >= time - 1)
        m.d.sync += [
            # From a register, high in the last cycle: what it lets go on in the MAC has all of 8 ns.
            self.strobe.eq((place == time - 2) & is_second),
            place.eq(Mux(is_end, 0, place + 1)), is_second.eq(is_second ^ is_end),
            *(self.tx_clock[half].eq(is_high[half]) for half in range(2)),
            *(self.tx_data[half].eq(nibble) for half in range(2)),
            *(self.tx_control[half].eq(self.enable ^ (self.error & ~is_high[half])) for half in range(2)),
        ]


class Rgmii(wiring.Component):
    """Turn GMII's bytes into what RGMII has at the two edges of a cycle, and back; in the domains of the PHY.

    ``eth_rx`` is the PHY's receive clock, whatever its speed; ``eth_tx`` runs at 125 MHz at all speeds. Two cycles pass
    from ``rx_data`` to ``gmii``, one from ``gmii`` to ``tx_data``. Data changes with the transmit clock: delays are the
    PHY's business, or the board's.

    Between frames a PHY may say what its link is (in-band status); ``gmii.link`` holds it. At 100 and 10 Mb/s halves
    are put together to bytes from the start frame delimiter on, and half a byte too many at the end is dropped. At
    these speeds a false start is not told. Reset expects a gap, and tells of no link.

    Members
    -------
    gmii:
        The MAC (see :func:`~.pins.GmiiSignature`).
    rx_data, rx_control, tx_clock, tx_data, tx_control:
        The pins, as double data rate registers have them: element 0 at the rising edge, 1 at the falling edge behind
        it. Such registers are the platform's; a simulation drives these members.
    """

    def __init__(self):
        super().__init__({
            "gmii": In(GmiiSignature()),
            "rx_data": In(_NIBBLE), "rx_control": In(_PIN),
            "tx_clock": Out(_PIN), "tx_data": Out(_NIBBLE), "tx_control": Out(_PIN),
        })

    def elaborate(self, platform):
        m = Module()
        gmii, receive, transmit = self.gmii, _Receive(), _Transmit()
        m.submodules.receive = DomainRenamer("eth_rx")(receive)
        m.submodules.transmit = DomainRenamer("eth_tx")(transmit)
        # Both change seldom, and a frame that is under way then is lost anyway: their bits may cross one by one.
        m.submodules.speed = FFSynchronizer(gmii.speed, receive.speed, o_domain="eth_rx", init=Speed.AUTO)
        m.submodules.active = FFSynchronizer(receive.active, transmit.active, o_domain="eth_tx", init=Speed.MBPS_1000)
        m.d.comb += [
            receive.rx_data.eq(self.rx_data), receive.rx_control.eq(self.rx_control),
            gmii.rx_data.eq(receive.data), gmii.rx_valid.eq(receive.valid), gmii.rx_error.eq(receive.error),
            gmii.rx_strobe.eq(receive.strobe), gmii.link.eq(receive.link),
            transmit.data.eq(gmii.tx_data), transmit.enable.eq(gmii.tx_enable), transmit.error.eq(gmii.tx_error),
            gmii.tx_strobe.eq(transmit.strobe),
            self.tx_clock.eq(transmit.tx_clock), self.tx_data.eq(transmit.tx_data),
            self.tx_control.eq(transmit.tx_control),
        ]
        return m
