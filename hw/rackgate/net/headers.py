# SPDX-License-Identifier: Apache-2.0
"""Ethernet, IPv4 and UDP as a pipeline declares them: plain Python.

Sources: IEEE 802.3 3.1.1, RFC 791 3.1, RFC 768, RFC 1071.
"""

from rackgate.pisa.declare import ACCEPT, REJECT, Checksum, Header, Parser, State

__all__ = ["ETHER_TYPE_IPV4", "IPV4_CHECKSUM", "PROTOCOL_UDP", "ethernet", "ipv4", "udp", "udp_checksum", "udp_parser"]

ETHER_TYPE_IPV4 = 0x0800
PROTOCOL_UDP = 17

ethernet = Header("ethernet", destination=48, source=48, ether_type=16)
ipv4 = Header("ipv4", version=4, ihl=4, tos=8, total_length=16, identification=16, reserved=1, dont_fragment=1,
              more_fragments=1, fragment_offset=13, ttl=8, protocol=8, checksum=16, source=32, destination=32)
udp = Header("udp", source_port=16, destination_port=16, length=16, checksum=16)

IPV4_CHECKSUM = Checksum(ipv4.checksum, [ipv4])


def udp_checksum(*headers: Header) -> Checksum:
    """The checksum of UDP whose data begins with ``headers``, in their order on the wire."""
    return Checksum(udp.checksum, [udp, *headers], payload=True, zero_is_none=True,
                    pseudo=[ipv4.source, ipv4.destination, ipv4.protocol, udp.length])


def udp_parser(ports: dict[int, str], states: dict[str, State], *headers: Header) -> Parser:
    """A parser of Ethernet, IPv4 without options and not in fragments, and UDP.

    ``ports`` maps destination ports to names of ``states``, which extract what is behind UDP; other packets are
    rejected, and those with a wrong checksum. ``headers`` are all that the states extract, in the order of the wire.
    """
    return Parser(
        start="ethernet", length=ipv4.total_length, verify=[IPV4_CHECKSUM, udp_checksum(*headers)],
        states={
            "ethernet": State(ethernet, [ethernet.ether_type], {ETHER_TYPE_IPV4: "ipv4"}, REJECT),
            "ipv4": State(ipv4, [ipv4.version, ipv4.ihl, ipv4.more_fragments, ipv4.fragment_offset, ipv4.protocol],
                          {(4, 5, 0, 0, PROTOCOL_UDP): "udp"}, REJECT),
            "udp": State(udp, [udp.destination_port], dict(ports), REJECT) if ports else State(udp, default=ACCEPT),
            **states,
        })
