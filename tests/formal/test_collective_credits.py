# SPDX-License-Identifier: Apache-2.0
"""Proofs that credits and slots of receive buffers are conserved, and that no header is accepted twice.

Each is also shown to be able to fail.
"""

import struct

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Mux, Signal
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.collective.abi import Header, HeaderFlag, PacketType
from rackgate.collective.packets.depacketizer import Depacketizer
from rackgate.collective.packets.owed import OwedCredits
from rackgate.collective.packets.receivequeues import ReceiveQueues
from rackgate.verif.stream_rules import watch

pytestmark = pytest.mark.formal


def looks(memory, count):
    """What is in each place of a memory."""
    ports = [memory.read_port(domain="comb") for _ in range(count)]
    return ports, [port.data for port in ports]


def balance(m, accounts, fault, *, opened, opens, credits, spends, comes_back, unsettled):
    """Of each node: what it was opened with is what it has, is owed, and has in buffers."""
    ports, entries = looks(accounts._entries, 2)
    step, has_step = accounts._step, accounts._has_step
    for node, (port, stored) in enumerate(zip(ports, entries, strict=True)):
        is_mine = has_step & (step.account.node[0] == node)
        entry = Signal(stored.shape(), name=f"entry_{node}")  # with the change that is under way
        opened_with, held = Signal(9, name=f"opened_{node}", init=opened), Signal(9, name=f"held_{node}")
        with m.If(opens(node)):
            m.d.sync += [opened_with.eq(credits), held.eq(0)]
        with m.Else():
            m.d.sync += held.eq(held + spends(node) - (comes_back(node) & (fault != "a credit kept")))
        m.d.comb += [
            port.addr.eq(node),
            entry.eq(Mux(is_mine, accounts._after, stored)),
            Assert(entry.granted + entry.owed + held == opened_with + unsettled(node), "a credit is lost or made up"),
            Assert(~is_mine | (accounts._entry.as_value() == stored.as_value())),
            Assert((accounts._uncleared == 0) & ~(is_mine & step.clear)
                   | (opened_with == 0) & (held == 0) & (stored.as_value() == 0)),
        ]
        yield entry, held, opened_with


def accounts(fault=None):
    """Two accounts, and any use that the contract allows."""
    m = specification()
    m.submodules.dut = dut = OwedCredits(communicators=1, nodes=2)
    for name in ("change", "owe"):
        drive(m, getattr(dut, name), name=name)
    stall(m, dut.packet, name="packet")
    change, step = dut.change.payload, dut._step
    is_changed, is_owed = dut.change.valid & dut.change.ready, dut.owe.valid & dut.owe.ready
    m.d.comb += [
        dut.take.eq(AnySeq(1)), dut.idle.eq(AnySeq(1)),
        dut.account.node.eq(AnySeq(4)),
        Assume((change.account.communicator == 0) & (dut.owe.payload.communicator == 0)),
        Assume(change.open + change.spend <= 1),
        Assume(~change.owe | change.spend),
    ]
    together = list(balance(
        m, dut, fault, opened=0, credits=change.credits,
        opens=lambda node: is_changed & change.open & (change.account.node[0] == node),
        spends=lambda node: is_changed & change.spend & ~change.owe & (change.account.node[0] == node),
        comes_back=lambda node: is_owed & (dut.owe.payload.node[0] == node),
        unsettled=lambda node: 0))
    threshold = dut._thresholds[0]
    ports, stored = looks(dut._entries, 2)
    m.d.comb += [
        *(port.addr.eq(place) for place, port in enumerate(ports)),
        Assert((dut._total + dut._added)[:16] == stored[0].owed + stored[1].owed, "owed credits are miscounted"),
        Cover(dut.packet.valid & (threshold == 3) & (dut.packet.payload.count == 1)),
    ]
    for node, (entry, held, opened) in enumerate(together):
        mine, changes = dut.owe.payload.node[0] == node, is_changed & (change.account.node[0] == node)
        m.d.comb += [
            Assume(~(dut.owe.valid & mine) | (held != 0)),
            Assume(~(changes & change.spend) | (entry.granted != 0)),
            # The accounts of a communicator are opened one after the other; here the others are then owed nothing.
            Assume(~(is_changed & change.open & ~changes) | (entry.owed == 0)),
            # Whoever is owed enough waits for a packet.
            Assert((threshold == 0) | (entry.owed < threshold) | entry.is_queued, "owed credits are forgotten"),
            Assert(opened < 256),
        ]
    # Each account that is marked is in the queue once, or about to be put there.
    ports, queued = looks(dut._due._memory, 2)
    level, first = dut._due.level, dut._due._r_addr
    entries = [entry for entry, _, _ in together]
    m.d.comb += [
        *(port.addr.eq(place) for place, port in enumerate(ports)),
        *(Assert(account.communicator == 0) for account in queued),
        Assert(level + dut._due.i.valid == entries[0].is_queued + entries[1].is_queued,
               "an account waits twice, or not at all"),
        Assert((level[0] == 0) == (first == dut._due._w_addr)),
        Assert((level != 2) | (queued[0].node[0] != queued[1].node[0])),
        Assert(dut._uncleared <= 2),
        Assert((dut._uncleared == 0) | ~dut.packet.valid & (~dut._has_step | step.clear | step.give)),
        Assert(~(dut._has_step & step.pay) | ~dut.packet.valid),
        Assert(~dut._has_step | (step.account.communicator == 0)),
        Assert(~dut._has_step | (step.give + step.pay + (step.spend | step.owe) + step.open + step.clear <= 1)),
    ]
    for place, account in enumerate(queued):
        is_used = (level == 2) | (level == 1) & (first == place)
        m.d.comb += Assert(~is_used | Mux(account.node[0], entries[1].is_queued, entries[0].is_queued))
    m.d.comb += Cover(dut.packet.valid & (dut.packet.payload.count == 2) & (level == 1))
    return m


def test_accounts():
    """For all time: credits are conserved, and who is owed enough will get them."""
    prove(accounts(), "collective_accounts", depth=3)


def test_accounts_can_pay():
    prove(accounts(), "collective_accounts_cover", mode="cover", depth=18)


def test_accounts_fault():
    with pytest.raises(ProofFailed, match="test_collective_credits.py"):
        prove(accounts("a credit kept"), "collective_accounts_fault", mode="bmc", depth=12)


def queues(fault=None):
    """Two slots, two nodes, one move and communicator, which is open; anything may happen that the contract allows."""
    m = specification()
    m.submodules.dut = dut = ReceiveQueues(2, moves=1, nodes=2, communicators=1)
    store, accounts, keys, change = dut._store, dut._accounts, dut._keys, dut._accounts.change
    # It begins where the accounts have been cleared and opened, with a credit each.
    accounts._uncleared, accounts._thresholds = Signal(2), Array([Signal(8, init=1)])
    accounts._entries.init = [{"granted": 1}, {"granted": 1}]
    header, key, freed = dut.header.payload, dut.post.payload.key, dut.free.payload.slot
    probe = dut.probe.payload
    for name, free in (("header", (header.type[0], header.flags[:3], header.credit[0], header.node[0], header.tag[0],
                                   header.size[0])),
                       ("post", (key.tag[0], key.any_tag, key.node[0], key.any_node)),
                       ("probe", (probe.tag[0], probe.any_tag, probe.node[0], probe.any_node)),
                       ("cancel", ()), ("free", (freed[0],))):
        port = getattr(dut, name)
        m.d.comb += [port.valid.eq(AnySeq(1)), *(field.eq(AnySeq(len(field))) for field in free)]
        watch(m, port, name=name, assume=True)
    for name in ("admit", "credit", "credit_packet"):
        stall(m, getattr(dut, name), name=name)
    lent = store._is_lent.bit_select(freed[0], 1)
    m.d.comb += [
        dut.is_open.eq(AnySeq(1)), dut.is_broken.eq(AnySeq(1)),
        dut.take.eq(AnySeq(1)), dut.take_move.eq(AnySeq(1)),
        dut.owe_take.eq(AnySeq(1)), dut.owe_node[0].eq(AnySeq(1)), dut.idle.eq(AnySeq(1)),
        Assume(~dut.take | dut.has_packet.bit_select(dut.take_move, 1)),
        Assume(~dut.free.valid | lent),
        # A move is posted when it has nothing, and is not cancelled while it is, nor while its packets are taken.
        Assume(~dut.post.valid | ~keys._is_posted[0] & ((dut.has_packet[0] == 0) | dut._scanner.has_last)),
        Assume(~dut.post.valid | ~dut.cancel.valid),
        Assume(~dut.take | ~dut.cancel.valid | (dut.take_move != 0)),
    ]
    settles = dut._settles
    list(balance(
        m, accounts, fault, opened=1, credits=0, opens=lambda node: 0,
        spends=lambda node: store.fill & (header.node == node) & (fault != "a slot forgotten"),
        comes_back=lambda node: store.owe.valid & store.owe.ready & (store.owe.payload.node == node),
        unsettled=lambda node: dut._has_settles & ~settles.owe & (settles.account.node == node)))
    m.d.comb += [
        Assert(~dut._has_settles | settles.spend),
        Assume(~change.payload.open),
        Cover((store._listed == 1) & (store._lent == 1) & dut.post.ready),
        # A probe shows a packet that stays where it is, in the queue of its node.
        Assert(~dut._scanner.peek | store._is_listed.bit_select(store.slot[0], 1) & ~store.remove),
        Cover(dut.probe.ready & dut._has_peeked),
    ]
    return m


def test_queues():
    """Credits and slots are conserved, and none is in two places: the block's own assertions too."""
    prove(queues(), "collective_queues", mode="bmc", depth=10)


def test_queues_can_fill():
    prove(queues(), "collective_queues_cover", mode="cover", depth=13)


@pytest.mark.parametrize("fault", ["a credit kept", "a slot forgotten"])
def test_queues_fault(fault):
    with pytest.raises(ProofFailed, match="test_collective_credits.py"):
        prove(queues(fault), f"collective_queues_fault_{fault.replace(' ', '_')}", mode="bmc", depth=12)


def headers(fault=None, *, known=()):
    """A source is picked: the k-th header accepted of it has the sequence k, whatever comes in.

    To find headers with a right CRC is hard; where some are needed, nothing but words of ``known`` ones comes in.
    """
    m = specification()
    m.submodules.dut = dut = Depacketizer(4, segment=256)
    drive(m, dut.i, name="i")
    for name in ("header", "o"):
        stall(m, getattr(dut, name), name=name)
    m.d.comb += dut.node.eq(AnyConst(4))
    if known:
        words = {word for header in known for word, in struct.iter_unpack("<I", header.to_bytes())}
        m.d.comb += Assume(Cat(dut.i.payload.data == word for word in sorted(words)).any())
    source, count, wanted = Signal(4), Signal(16), Signal(16)
    wire = dut._wire
    accepts = dut.received & (wire.source == source)
    port = dut._sequences.read_port(domain="comb")
    m.d.comb += [
        source.eq(AnyConst(4)),
        port.addr.eq(source),
        wanted.eq(count + (fault is not None)),
        Assert(~accepts | (wire.sequence == wanted), "a header is accepted twice, or out of order"),
        Assert(count == port.data),
        Assert((count == 0) | dut._is_known.bit_select(source, 1)),
        Assert(~dut.received | (wire.type <= max(PacketType)) & (wire.destination == dut.node)),
        Cover(accepts),
    ]
    m.d.sync += count.eq(count + accepts)
    return m


KNOWN = [Header(0, HeaderFlag.LAST, destination=5, source=9)]


def test_headers():
    prove(headers(), "collective_headers", depth=2)


def test_headers_can_come():
    prove(headers(known=KNOWN), "collective_headers_cover", mode="cover", depth=11)


def test_headers_fault():
    with pytest.raises(ProofFailed, match="test_collective_credits.py"):
        prove(headers("fault", known=KNOWN), "collective_headers_fault", mode="bmc", depth=11)
