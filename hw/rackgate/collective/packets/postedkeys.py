# SPDX-License-Identifier: Apache-2.0
"""What receives wait for, all compared with a packet at a time."""

import operator

from amaranth.hdl import Assert, Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import MOVES
from rackgate.collective.records import Key

__all__ = ["PacketKey", "PostedKeys", "agreements", "matches"]


class PacketKey(data.Struct):
    """What of a packet a receive may wait for."""

    communicator: 3
    operation: 16
    tag: 32
    node: 4


def agreements(key: data.View, packet: data.View):
    """What all must be so that a receive with that ``key`` (:class:`~rackgate.collective.records.Key`) waits for it.

    The communicator comes first. Four bits a comparison: the packet's key may come late from block RAM.
    """
    return Cat(
        key.communicator == packet.communicator,
        *((key.operation[place:place + 4] == packet.operation[place:place + 4]) for place in range(0, 16, 4)),
        *(key.any_tag | (key.tag[place:place + 4] == packet.tag[place:place + 4]) for place in range(0, 32, 4)),
        key.any_node | (key.node == packet.node))


def matches(key: data.View, packet: data.View):
    """Whether a receive with that ``key`` waits for the packet."""
    return agreements(key, packet).all()


class PostedKeys(wiring.Component):
    """Keep a key a move.

    Any one of the operations a cycle, seen in the next. Reset forgets all keys.

    Two keys that match the same packet are the user's mistake: an assertion tells, and the lower move gets it.

    Parameters
    ----------
    moves:
        Number of moves, 1 to 16.

    Members
    -------
    packet:
        A packet's key.
    match:
        Bit per move: it waits for that packet; combinational.
    move:
        Move that is meant by what follows.
    post, key:
        From now on it waits for packets that match ``key``.
    bind:
        From now on it waits only for packets of the node and with the tag of ``packet``, which matches.
    withdraw:
        It waits for none.
    """

    def __init__(self, moves: int = MOVES):
        self.moves = operator.index(moves)
        if not 1 <= self.moves <= MOVES:
            raise ValueError(f"moves must be 1 to {MOVES}, not {moves}")
        super().__init__({
            "packet": In(PacketKey), "match": Out(self.moves),
            "move": In(range(self.moves)),
            "post": In(1), "key": In(Key), "bind": In(1), "withdraw": In(1),
        })
        self._is_posted = Signal(self.moves)
        self._keys = [Signal(Key, name=f"key_{k}") for k in range(self.moves)]

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.match[k].eq(self._is_posted[k] & matches(self._keys[k], self.packet))
                     for k in range(self.moves)]
        for k, key in enumerate(self._keys):
            with m.If(self.move == k):
                with m.If(self.post):
                    m.d.sync += [key.eq(self.key), self._is_posted[k].eq(1)]
                with m.Elif(self.withdraw):
                    m.d.sync += self._is_posted[k].eq(0)
                with m.Elif(self.bind):
                    m.d.sync += [
                        key.node.eq(self.packet.node), key.any_node.eq(0),
                        key.tag.eq(self.packet.tag), key.any_tag.eq(0),
                    ]
            m.d.sync += Assert(~(self.post & self._is_posted[k] & ((self.move == k) | (key == self.key))),
                               "a key is posted twice")
        m.d.sync += Assert((self.match & (self.match - 1)) == 0, "two receives wait for the same packet")
        return m
