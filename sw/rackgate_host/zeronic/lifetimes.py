# SPDX-License-Identifier: Apache-2.0
"""When connections begin and end: what handshakes, FINs, resets and silence mean for the flows of a control stack."""

from .errors import FlowTableFull
from .flows import End, Flow, Flows, unwrap
from .headers import TcpFlag, TcpHeader
from .keys import FlowKey
from .shared import FlowFlag, FlowState

__all__ = ["Lifetimes", "incoming_key", "outgoing_key"]

#: Seconds after which a flow is forgotten: whose handshake does not end; that nobody claimed before it was over; that
#: its application has left, when no frame comes or goes.
_OPENING_LIMIT, _UNCLAIMED_LIMIT, _ORPHAN_LIMIT = 75.0, 60.0, 150.0
#: Seconds of quiet after a reset. The kernel may not believe it: see :meth:`Lifetimes.refuses`.
_RESET_LIMIT = 2.0
#: Seconds in which a copy of a SYN may come (twice RFC 9293's maximum segment lifetime).
_DECLINED_LIMIT = 240.0
#: Seconds of silence after which the kernel has nothing left to send: more than twice its longest time to a
#: retransmission or probe, which is 120 s.
_PLACEHOLDER_LIMIT = 300.0


def incoming_key(tcp: TcpHeader) -> FlowKey:
    """The key of a frame that comes in."""
    return FlowKey(tcp.source, tcp.destination, tcp.source_port, tcp.destination_port)


def outgoing_key(tcp: TcpHeader) -> FlowKey:
    """The key of the flow that a frame goes out for."""
    return FlowKey(tcp.destination, tcp.source, tcp.destination_port, tcp.source_port)


class Lifetimes:
    """Begins and ends the flows of one host as its kernel's connections begin and end.

    Parameters
    ----------
    flows:
        The flows.
    address:
        The host's.

    Attributes
    ----------
    listening:
        Ports whose connections are to be split, and how.
    begun, unsplit:
        Flows that were split so far; that were to be, but found no room.
    """

    def __init__(self, flows: Flows, address: int):
        self.flows = flows
        self.address = address
        self.listening: dict[int, FlowFlag] = {}
        self.begun = self.unsplit = 0
        self._declined: dict[tuple[FlowKey, int], float] = {}
        self._closed: dict[FlowKey, float] = {}

    # What comes in

    def syn_received(self, flow: Flow | None, tcp: TcpHeader, now: float) -> Flow | None:
        """A SYN, or a SYN-ACK, has come: the flow, if it is to be split.

        A SYN alone splits nothing. It may be a late copy of one whose connection has been there for long, unsplit; only
        the kernel's SYN-ACK says that there is none. A connection that was not split once stays so.
        """
        if tcp.destination != self.address:
            return flow
        is_answer = bool(tcp.flags & TcpFlag.ACK)
        begin = (tcp.sequence + 1) % (1 << 32)
        if flow is not None and flow.is_over and not is_answer:
            # The same ends connect anew. Whoever still reads what the old connection brought keeps its memory.
            self._detach(flow, now)
            flow = None
        if flow is None:
            key = incoming_key(tcp)
            if is_answer or tcp.destination_port not in self.listening or (key, begin) in self._declined:
                return None
            try:
                flow = self.flows.make(key, self.listening[tcp.destination_port], now)
            except FlowTableFull:
                self.unsplit += 1
                self._declined[key, begin] = now
                return None
        if flow.is_established:
            return flow
        if not is_answer:
            flow.offered = begin
        elif tcp.acknowledgement == flow.send_begin:
            self._begin(flow, begin)
        return flow

    def received(self, flow: Flow, tcp: TcpHeader, now: float) -> None:
        """A frame of a flow has come, and goes on to the kernel."""
        flow.changed = now
        self.flows.post_receive(flow)
        if not tcp.flags & TcpFlag.SYN:
            flow.is_established = True
        if tcp.flags & TcpFlag.RST:
            _ended(flow, End.RESET)
        if tcp.flags & TcpFlag.FIN:
            _ended(flow, End.RECEIVED)
        if flow.fin is not None and flow.send_begin is not None and tcp.flags & TcpFlag.ACK:
            if unwrap(tcp.acknowledgement - flow.send_begin, flow.fin) > flow.fin:
                _ended(flow, End.ACKNOWLEDGED)

    def _begin(self, flow: Flow, begin: int) -> None:
        if flow.receive_begin != begin:
            self.flows.begin_receive(flow, begin)
            self.begun += 1

    # What goes out

    def syn_sent(self, flow: Flow | None, tcp: TcpHeader) -> None:
        """The kernel sends a SYN, or a SYN-ACK."""
        self._closed.pop(outgoing_key(tcp), None)  # a new connection: the old one is gone
        if flow is None or flow.is_established:
            return
        begin = (tcp.sequence + 1) % (1 << 32)
        if flow.send_begin != begin:
            self.flows.begin_send(flow, begin)
        if tcp.flags & TcpFlag.ACK and tcp.acknowledgement == flow.offered:
            self._begin(flow, tcp.acknowledgement)

    def sent(self, flow: Flow, tcp: TcpHeader, now: float) -> None:
        """The kernel sends a frame of a flow that is split: what it needs is posted."""
        assert flow.send_begin is not None and flow.receive_begin is not None
        flow.changed = now
        start = unwrap(tcp.sequence - flow.send_begin, flow.sent)
        self.flows.post_send(flow, start + tcp.payload)
        if tcp.flags & TcpFlag.ACK:
            flow.expected = max(flow.expected, unwrap(tcp.acknowledgement - flow.receive_begin, flow.expected))
            self.flows.post_receive(flow)
        if tcp.flags & TcpFlag.FIN:
            flow.fin = start + tcp.payload
            _ended(flow, End.SENT)
        if tcp.flags & TcpFlag.RST:
            _ended(flow, End.RESET)
        else:
            flow.end &= ~End.RESET  # what came was not believed

    def refuses(self, tcp: TcpHeader, now: float) -> bool:
        """Whether a frame of no flow must not leave: its payload would be placeholders.

        A flow is forgotten when its connection seems to be over. The kernel may know better: a reset that it has not
        believed, say. So what it still sends for these ends is held back, until it begins a new connection or has been
        silent for so long that nothing is left.
        """
        key = outgoing_key(tcp)
        if not tcp.payload or key not in self._closed:
            return False
        self._closed[key] = now
        return True

    # Time

    def tick(self, now: float) -> None:
        """Forget flows that are over, and post what applications have made room for."""
        self._declined = {key: since for key, since in self._declined.items() if now - since < _DECLINED_LIMIT}
        self._closed = {key: since for key, since in self._closed.items() if now - since < _PLACEHOLDER_LIMIT}
        for flow in self.flows:
            quiet = now - flow.changed
            if flow.claims:
                if not flow.is_detached:
                    self.flows.post_receive(flow)
            elif flow.is_over or flow.is_detached:
                if quiet >= _kept(flow):
                    self._close(flow, now)
            elif not flow.is_established and quiet > _OPENING_LIMIT or flow.was_claimed and quiet > _ORPHAN_LIMIT:
                self._close(flow, now)

    def _close(self, flow: Flow, now: float) -> None:
        self._remember(flow, now)
        self.flows.close(flow)

    def _detach(self, flow: Flow, now: float) -> None:
        self._remember(flow, now)
        self.flows.detach(flow)

    def _remember(self, flow: Flow, now: float) -> None:
        """What the kernel may still have to send for a flow that an application has used are placeholders."""
        if flow.was_claimed and not flow.is_detached:
            self._closed[flow.key] = now


def _ended(flow: Flow, what: End) -> None:
    flow.end |= what
    if flow.is_over:
        flow.page.state = FlowState.CLOSED


def _kept(flow: Flow) -> float:
    """Seconds that a flow stays that is over and that nobody uses any more."""
    if not flow.was_claimed:
        return _UNCLAIMED_LIMIT
    return _RESET_LIMIT if flow.end & End.RESET and not flow.is_detached else 0.0
