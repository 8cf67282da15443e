# SPDX-License-Identifier: Apache-2.0
"""The counting load balancer of the manual: UDP datagrams to one address go to one of four servers, by flow."""

from rackgate.net.headers import IPV4_CHECKSUM, ethernet, ipv4, udp, udp_checksum, udp_parser
from rackgate.pisa.declare import (
    Access,
    Action,
    Compute,
    Copy,
    Entry,
    Metadata,
    Pipeline,
    Register,
    RegisterAction,
    Table,
    assign,
)
from rackgate.pisa.expr import crc32, sat_add

__all__ = ["BALANCER", "SEND", "counts", "meta"]

meta = Metadata("meta", server=2)
counts = Register("counts", 4, packets=32, bytes=32)


def _to(address: int) -> Entry:
    return Entry((address & 3,), SEND, {"address": address, "mac": 0x0200_0000_0000 | address})


SEND = Action.with_parameters("send", {"address": 32, "mac": 48}, lambda argument: [
    assign(ipv4.destination, argument.address), assign(ethernet.destination, argument.mac)])

BALANCER = Pipeline(
    "balancer",
    parser=udp_parser({}, {}),
    metadata=[meta],
    ingress=[
        Compute("spread", [assign(meta.server, crc32(ipv4.source, udp.source_port)[0:2])]),
        Table("servers", [meta.server], [_to(0x0A00_0010 + k) for k in range(4)]),
        Access(counts, meta.server, [RegisterAction("count", True, update={
            "packets": counts.word.packets + 1,
            "bytes": sat_add(counts.word.bytes, ipv4.total_length.resize(32)),
        })]),
    ],
    copies=[Copy("out", ipv4.ttl > 1, [assign(ipv4.ttl, ipv4.ttl - 1)])],
    emit=[ethernet, ipv4, udp],
    checksums=[IPV4_CHECKSUM, udp_checksum()],
)
