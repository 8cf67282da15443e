# SPDX-License-Identifier: Apache-2.0
"""A second control stack: the kernel's UDP, whose datagrams carry pieces of a stream (:mod:`.datagrams`).

The NIC splits them by header profile 1. Nothing of TCP's control stack takes part: positions stand in the datagrams'
own header, and what was received is judged by the application that reads the socket.
"""

import secrets
from dataclasses import asdict, dataclass
from typing import Any

from rackgate.zeronic.abi import ETHERNET_SIZE
from rackgate.zeronic.messages import ChecksumKind, Entry, EntryFlag, EntryKind, FlowFlag, Profile

from .datagrams import HEADER, MARK, PORT_MASK, PORTS
from .flows import Flow, Flows
from .nic import Nic
from .ports import Port

__all__ = ["PROFILE", "DatagramStack"]

_UDP = 8
_HEADERS = ETHERNET_SIZE + 20 + _UDP + HEADER.size
#: The profile: UDP to certain ports; the stream position stands in bytes 4 to 7 behind UDP's header.
PROFILE = Profile(1, protocol=17, checksum=ChecksumKind.UDP, position=_UDP + 4, size=_UDP + HEADER.size,
                  port=PORTS.start, mask=PORT_MASK)
_ZEROS = memoryview(bytes(1 << 16))


@dataclass
class _Counts:
    """What was counted. Payload is of datagrams that were received."""

    headers: int = 0  # datagrams whose payload had been placed
    deferred: int = 0  # that came up whole
    payload_up: int = 0
    payload_deferred: int = 0
    lost: int = 0  # whose payload the memory refused


class DatagramStack:
    """Hands datagrams of split flows to the kernel, with a mark on those whose payload is in memory.

    The mark is a number that only the daemon and the flow's application know, so that no peer can forge it.

    Parameters
    ----------
    nic, flows, port:
        What it works on. The NIC's profile 1 is set.
    mac:
        The host's MAC, 6 bytes.
    """

    def __init__(self, nic: Nic, flows: Flows, port: Port, mac: bytes):
        self.nic, self.flows, self.port = nic, flows, port
        self._ethernet = mac + bytes(6) + b"\x08\0"
        self.counts = _Counts()
        nic.set_profile(PROFILE)

    def open(self, flow: Flow) -> None:
        """Split a new flow: its positions begin at 0."""
        flow.receive_begin = flow.send_begin = 0
        flow.is_established = True
        flow.page.mark = secrets.randbits(32) or 1
        self.nic.begin_flow(flow.index, FlowFlag.RECEIVE, 0)
        self.flows.opened(flow)

    def from_nic(self, entry: Entry, content: bytes, now: float) -> bool:
        """Take an entry of a flow of this transport."""
        flow = self.flows.at(entry.flow) if entry.flags & EntryFlag.FLOW else None
        if flow is None or flow.key.profile != PROFILE.profile or entry.kind not in (EntryKind.HEADER,
                                                                                   EntryKind.DEFERRED):
            return False
        flow.changed = now
        if entry.flags & EntryFlag.WRITE_ERROR:
            self.counts.lost += 1  # as if the wire had lost it
            return True
        is_placed = entry.kind == EntryKind.HEADER and entry.placed == entry.payload
        self.counts.payload_up += entry.payload
        if entry.kind == EntryKind.DEFERRED:
            self.counts.deferred += 1
            self.counts.payload_deferred += entry.payload
            head, payload = bytearray(content[:_HEADERS]), content[_HEADERS:_HEADERS + entry.payload]
        else:
            self.counts.headers += is_placed
            head, payload = bytearray(self._ethernet + content), _ZEROS[:entry.payload]
        MARK.pack_into(head, _HEADERS - MARK.size, flow.page.mark if is_placed else 0)
        if is_placed or entry.kind == EntryKind.DEFERRED:  # a header alone says of old payload what was said before
            self.port.write_udp(head, [payload], entry.payload)
        return True

    def to_nic(self, most: int, now: float) -> bool:
        """What the kernel sends goes the way of all that is not split: through the control stack of TCP."""
        return False

    def tick(self, now: float) -> None:
        """Forget flows that nobody uses any more."""
        for flow in self.flows:
            if flow.key.profile == PROFILE.profile and not flow.claims:
                self.flows.close(flow)

    def statistics(self) -> dict[str, Any]:
        """Counts."""
        return asdict(self.counts)
