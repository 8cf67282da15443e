# SPDX-License-Identifier: Apache-2.0
"""What is between the MAC and whatever drives the pins of a PHY."""

from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["GmiiSignature", "LinkStatus"]


class LinkStatus(data.Struct):
    """RGMII's in-band status, in the order of its bits (RGMII 2.0, 3.4.1)."""

    up: 1
    speed: 2
    full_duplex: 1


def GmiiSignature() -> wiring.Signature:
    """Bytes to and from a PHY, as the MAC sees them: GMII (IEEE 802.3 clause 35) with a strobe a byte time.

    Members
    -------
    rx_data, rx_valid, rx_error, rx_strobe:
        Domain ``eth_rx``. In each cycle with ``rx_strobe`` a byte time passes: with ``rx_valid`` there is a byte, which
        the PHY may flag with ``rx_error``. Frames are apart by at least one byte time without ``rx_valid``.
    tx_data, tx_enable, tx_error, tx_strobe:
        Domain ``eth_tx``. What is there from a cycle behind ``tx_strobe`` to the next one with it is sent in this byte
        time (1000: each cycle is one).
    speed:
        :class:`~.abi.Speed`, of the domain ``sync``; it changes seldom.
    link:
        :class:`LinkStatus`, of the domain ``eth_rx``; it changes seldom.
    """
    return wiring.Signature({
        "rx_data": In(8), "rx_valid": In(1), "rx_error": In(1), "rx_strobe": In(1),
        "tx_data": Out(8), "tx_enable": Out(1), "tx_error": Out(1), "tx_strobe": In(1),
        "speed": Out(2), "link": In(LinkStatus),
    })
