# SPDX-License-Identifier: Apache-2.0
"""The counting load balancer of the manual: UDP datagrams to one address go to one of four servers, by flow."""

from rackgate.pisa.declare import (
    ACCEPT,
    REJECT,
    Access,
    Action,
    Checksum,
    Compute,
    Copy,
    Entry,
    Header,
    Metadata,
    Parser,
    Pipeline,
    Register,
    RegisterAction,
    State,
    Table,
    assign,
)
from rackgate.pisa.expr import crc32, sat_add

ethernet = Header("ethernet", destination=48, source=48, ether_type=16)
ipv4 = Header("ipv4", version=4, ihl=4, tos=8, total_length=16, identification=16, flags=3, fragment_offset=13,
              ttl=8, protocol=8, checksum=16, source=32, destination=32)
udp = Header("udp", source_port=16, destination_port=16, length=16, checksum=16)
meta = Metadata("meta", server=2)
counts = Register("counts", 4, packets=32, bytes=32)

HEADER_CHECKSUM = Checksum(ipv4.checksum, [ipv4])
UDP_CHECKSUM = Checksum(udp.checksum, [udp], pseudo=[ipv4.source, ipv4.destination, ipv4.protocol, udp.length],
                        payload=True, zero_is_none=True)


def to(address):
    return Entry((address & 3,), SEND, {"address": address, "mac": 0x0200_0000_0000 | address})


SEND = Action.with_parameters("send", {"address": 32, "mac": 48}, lambda argument: [
    assign(ipv4.destination, argument.address), assign(ethernet.destination, argument.mac)])

BALANCER = Pipeline(
    "balancer",
    parser=Parser(
        start="ethernet", verify=[HEADER_CHECKSUM, UDP_CHECKSUM],
        states={
            "ethernet": State(ethernet, [ethernet.ether_type], {0x0800: "ipv4"}, REJECT),
            "ipv4": State(ipv4, [ipv4.version, ipv4.ihl, ipv4.protocol], {(4, 5, 17): "udp"}, REJECT),
            "udp": State(udp, default=ACCEPT),
        }),
    metadata=[meta],
    ingress=[
        Compute("spread", [assign(meta.server, crc32(ipv4.source, udp.source_port)[0:2])]),
        Table("servers", [meta.server], [to(0x0A00_0010 + k) for k in range(4)]),
        Access(counts, meta.server, [RegisterAction("count", True, update={
            "packets": counts.word.packets + 1,
            "bytes": sat_add(counts.word.bytes, ipv4.total_length.resize(32)),
        })]),
    ],
    copies=[Copy("out", ipv4.ttl > 1, [assign(ipv4.ttl, ipv4.ttl - 1)])],
    emit=[ethernet, ipv4, udp],
    checksums=[HEADER_CHECKSUM, UDP_CHECKSUM],
)
