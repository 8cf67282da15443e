# SPDX-License-Identifier: Apache-2.0
"""The table of hosts that a one-arm switch answers to: numbers of 8 bits become addresses.

The switch is a host among hosts: packets are addressed to it, and leave it addressed to whom the pipeline chose, from
the address that they came to. Plain Python.
"""

from rackgate.net.headers import ethernet, ipv4, udp
from rackgate.pisa.declare import Action, Key, Metadata, Table, assign, standard
from rackgate.pisa.expr import mux

__all__ = ["HOSTS", "TO_HOST", "host_table", "route"]

#: ``host``: number of the host that a copy goes to. ``to_client``: to its port for grants, else to its port for agents.
route = Metadata("route", host=8, to_client=1)

TO_HOST = Action.with_parameters(
    "to_host", {"mac": 48, "address": 32, "server_port": 16, "client_port": 16}, lambda argument: [
        assign(ethernet.destination, argument.mac), assign(ethernet.source, ethernet.destination),
        assign(ipv4.destination, argument.address), assign(ipv4.source, ipv4.destination),
        assign(ipv4.ttl, 64),
        assign(udp.destination_port, mux(route.to_client, argument.client_port, argument.server_port)),
        assign(udp.source_port, udp.destination_port),
    ])

_NOBODY = Action.of("nobody", assign(standard.drop, 1))

#: Hosts that the table has room for.
HOSTS = 256


def host_table() -> Table:
    """The egress stage. A host that is not in the table gets nothing: its copies are dropped."""
    return Table("hosts", [route.host], kind=Key.INDEX, size=HOSTS, actions=[TO_HOST], default=_NOBODY)
