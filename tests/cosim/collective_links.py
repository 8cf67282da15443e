# SPDX-License-Identifier: Apache-2.0
"""Links over UDP at a crossbar: what is joined there, and what has come through."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from rackgate.collective.abi import Header, PacketType
from rackgate.collective.link.abi import LinkCounter
from rackgate.collective.link.udp import UdpLink
from rackgate_sim.native import Cluster, Route, Simulation, build

__all__ = ["SETTINGS", "CountedLink", "Links", "packet"]

#: LinkSettings: address, port and session.
SETTINGS = 0x0A520000 | 0x5247 << 32 | 5 << 48


class CountedLink(wiring.Component):
    """A link whose events are counted."""

    def __init__(self, width=8, *, segment=256, slots=16):
        self.link = UdpLink(width, segment=segment, slots=slots)
        members = {name: member for name, member in self.link.signature.members.items() if name != "events"}
        super().__init__(members | {f"count_{counter.name.lower()}": Out(32) for counter in LinkCounter})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = link = self.link
        for name in ("i", "net_rx"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(link, name))
        for name in ("o", "net_tx"):
            wiring.connect(m, getattr(link, name), wiring.flipped(getattr(self, name)))
        for name in ("node", "settings", "timeout", "delay"):
            m.d.comb += getattr(link, name).eq(getattr(self, name))
        for counter in LinkCounter:
            name = counter.name.lower()
            count = Signal(32, name=name)
            m.d.sync += count.eq(count + getattr(link.events, name))
            m.d.comb += getattr(self, f"count_{name}").eq(count)
        return m


def packet(rng, source, destination, number, *, segment, size=None):
    """A packet of the engine, with its number in it."""
    if size is None:
        size = rng.choice((0, 1, segment, rng.randrange(segment), rng.randrange(64)))
    kind = PacketType.DATA if size else PacketType.CREDIT
    header = Header(kind, destination=destination, source=source, tag=number, length=size)
    return header.to_bytes() + rng.randbytes(size)


class Links:
    """Nodes with a link each, at a crossbar that may lose, double, delay and damage frames."""

    def __init__(self, nodes, *, width=8, segment=256, slots=16, timeout=3000, delay=100, latency=20, seed=0, threads=1,
                 variant="brief", **faults):
        key = (width, segment, slots)
        library = build(CountedLink(width, segment=segment, slots=slots), name="counted_link", key=key, variant=variant)
        self.nodes = [Simulation(library, seed=seed + k) for k in range(nodes)]
        self.cluster = Cluster(self.nodes, threads=threads)
        self.crossbar = self.cluster.crossbar([(one, "net_tx", "net_rx") for one in self.nodes], latency=latency,
                                              route=Route(5), seed=seed, **faults)
        for node, one in enumerate(self.nodes):
            for name, value in (("node", node), ("timeout", timeout), ("delay", delay), ("settings", SETTINGS)):
                one.poke(name, value)

    def run(self, cycles):
        """Let time pass."""
        self.cluster.run(cycles)

    def received(self, node):
        """Packets that have come to a node, in order."""
        return self.nodes[node].stream("o").pop_all()

    def count(self, node, counter):
        """A counter."""
        return self.nodes[node].peek(f"count_{counter.name.lower()}")

    def total(self, counter):
        """A counter, summed over the nodes."""
        return sum(self.count(node, counter) for node in range(len(self.nodes)))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.cluster.close()
        for one in self.nodes:
            one.close()
