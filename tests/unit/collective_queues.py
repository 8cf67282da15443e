# SPDX-License-Identifier: Apache-2.0
"""The receive queues of the collective engine as plain lists: what ReceiveQueues has to do."""

from collections import defaultdict
from dataclasses import dataclass, field

from rackgate.collective.abi import HeaderFlag, PacketType


@dataclass
class Key:
    """What a receive waits for; None: any."""

    communicator: int
    operation: int
    tag: int | None
    node: int | None

    def fits(self, header):
        return (self.communicator == header["communicator"] and self.operation == header["operation"]
                and self.tag in (None, header["tag"]) and self.node in (None, header["node"]))

    def bind(self, header):
        self.tag, self.node = header["tag"], header["node"]

    def overlaps(self, other):
        return (self.communicator == other.communicator and self.operation == other.operation
                and (self.tag is None or other.tag in (None, self.tag))
                and (self.node is None or other.node in (None, self.node)))

    def fields(self):
        return {"communicator": self.communicator, "operation": self.operation, "tag": self.tag or 0,
                "any_tag": self.tag is None, "node": self.node or 0, "any_node": self.node is None}


@dataclass
class QueuesModel:
    """Headers are dictionaries of HeaderFields' names."""

    slots: int
    is_open: set = field(default_factory=set)
    is_broken: set = field(default_factory=set)
    stored: int = 0
    granted: dict = field(default_factory=lambda: defaultdict(int))
    unexpected: dict = field(default_factory=lambda: defaultdict(list))
    streams: list = field(default_factory=list)
    keys: dict = field(default_factory=dict)
    #: Everything that each move got since it was posted, and whether it has got its last.
    got: dict = field(default_factory=lambda: defaultdict(list))

    def open(self, communicator, credits):
        for node in range(16):
            self.granted[communicator, node] = credits
        for queue in (*self.unexpected.values(), self.streams):
            self.stored -= sum(header["communicator"] == communicator for header in queue)
            queue[:] = [header for header in queue if header["communicator"] != communicator]

    def arrive(self, header):
        """The strobe of what becomes of a header; "" if none."""
        communicator, account = header["communicator"], (header["communicator"], header["node"])
        if communicator not in self.is_open:
            return "no_communicator"
        if header["type"] != PacketType.DATA:
            return ""
        if not self.granted[account]:
            return "no_buffer"
        self.granted[account] -= 1
        if communicator in self.is_broken:
            return "no_communicator"
        if self.stored == self.slots:
            return "no_buffer"
        self.stored += 1
        if header["flags"] & HeaderFlag.STREAM:
            self.streams.append(header)
            return ""
        for move, key in self.keys.items():
            if key.fits(header):
                self._give(move, header)
                return "matched_posted"
        self.unexpected[header["node"]].append(header)
        return ""

    def _give(self, move, header):
        self.got[move].append(header)
        self.keys[move].bind(header)
        if header["flags"] & HeaderFlag.LAST:
            del self.keys[move]

    def post(self, move, key):
        """How many unexpected packets it gets."""
        self.keys[move], self.got[move] = key, []
        for node in range(16):
            for header in list(self.unexpected[node]):
                if move in self.keys and key.fits(header):
                    self.unexpected[node].remove(header)
                    self._give(move, header)
        return len(self.got[move])

    def probe(self, key):
        """The first unexpected packet that fits, of the lowest node."""
        return next((header for node in range(16) for header in self.unexpected[node] if key.fits(header)), None)

    def cancel(self, move):
        self.keys.pop(move, None)
