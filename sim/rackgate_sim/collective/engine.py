# SPDX-License-Identifier: Apache-2.0
"""Golden model of the collective engine: what a node does with calls and packets.

Results, packets and matching are those of the gateware. Times are plausible, nothing more: each lane takes a word a
cycle, an instruction takes two, and a packet is at the other side some cycles after its segment was handed out.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from rackgate.arith.abi import ElementType, types_mask
from rackgate.collective.abi import (
    CALL_WORDS,
    COMMUNICATORS,
    CONTEXTS,
    MOVES,
    NODES,
    Call,
    Cause,
    Completion,
    ConfigSpace,
    Counter,
    Header,
    HeaderFlag,
    PacketType,
    Status,
)
from rackgate.collective.isa import MAX_PROGRAM
from rackgate.collective.packets.abi import credit_threshold
from rackgate_sim.collective.moves import MoveState, Segment, SegmentError
from rackgate_sim.collective.receiver import Communicator, Packet, Receiver
from rackgate_sim.collective.sequencer import (
    End,
    Entry,
    Execution,
    Move,
    breaks_communicator,
    check_call,
)
from rackgate_sim.inflate.model import Memory

__all__ = ["CALL_PLACES", "Engine", "Link"]

#: Calls that an engine holds, from their first word until their completion is popped.
CALL_PLACES = 16
_DISPATCH_CYCLES, _INSTRUCTION_CYCLES, _RETIRE_CYCLES = 6, 2, 12
_LANE_GAP = 1  # cycles between two segments of a lane
_FLOATS_CONVERT = 1 << 31


class Link(Protocol):
    """What an engine has around it: the network, and time."""

    @property
    def cycle(self) -> int:
        """Now."""
        ...

    @property
    def idle_at(self) -> int:
        """When the packets that were sent will have left."""
        ...

    def send(self, source: int, destination: int, packet: bytes) -> None:
        """Take a packet."""
        ...

    def after(self, cycles: int, action: Callable[[], None]) -> None:
        """Call ``action`` so many cycles from now."""
        ...


@dataclass
class _Pending:
    """A call that has not begun."""

    call: Call
    since: int
    is_aborted: bool = False


@dataclass
class _Context:
    """A call under way."""

    call: Call
    since: int
    execution: Execution
    ready_at: int
    moves: list[MoveState] = field(default_factory=list)
    bytes: int = 0
    cause: int = 0
    node: int = 0
    tag: int = 0
    failure: Status | None = None


class Engine:
    """One node.

    Parameters
    ----------
    memory:
        What the moves work on.
    link:
        The network.
    width, segment, slots:
        As for the gateware.

    Attributes
    ----------
    node:
        Its number.
    timeout:
        Cycles; 0: none.
    is_enabled:
        Whether calls begin.
    counts:
        Counters, not wrapped.
    completions:
        In order of their ends.
    kernel_out:
        Packets for the kernel's stream.
    """

    def __init__(self, memory: Memory, link: Link, *, width: int, segment: int, slots: int):
        self._memory, self._link = memory, link
        self.width, self.segment, self.slots = width, segment, slots
        self.types = types_mask(ElementType) | _FLOATS_CONVERT
        self.program = [0] * MAX_PROGRAM
        self.reset()

    def reset(self) -> None:
        """Forget everything but the program memory."""
        self.timeout, self.is_enabled = 0, False
        self.receiver = Receiver(self.segment, self.slots, self._deliver, self._clear)
        self.counts = self.receiver.counts
        self.completions: deque[Completion] = deque()
        self.kernel_out: deque[bytes] = deque()
        self._kernel: deque[int] = deque()
        self._arriving: dict[tuple[int, int], bytes] = {}
        self._entries: dict[int, Entry] = {}
        self._tables: dict[int, list[int]] = {}  # communicators as written, open or not
        self._calls: deque[_Pending] = deque()
        self._contexts: list[_Context | None] = [None] * CONTEXTS
        self._sequence = [0] * NODES
        self._lanes = {True: 0, False: 0}  # cycle from which on the send lane, the receive lane take a segment
        self._turn = 0
        self._generation = getattr(self, "_generation", 0) + 1  # what was to happen before a reset does not

    @property
    def node(self) -> int:
        """Number of this node."""
        return self.receiver.node

    @node.setter
    def node(self, number: int) -> None:
        self.receiver.node = number

    # What the host does

    def configure(self, address: int, word: int) -> None:
        """Write a word of :class:`rackgate.collective.abi.ConfigSpace`."""
        if address < MAX_PROGRAM:
            self.program[address] = word
        elif ConfigSpace.ENTRY <= address < ConfigSpace.COMMUNICATOR:
            self._entries[address - ConfigSpace.ENTRY] = Entry.from_int(word)
        elif 0 <= address - ConfigSpace.COMMUNICATOR < 32 * COMMUNICATORS:
            number, place = divmod(address - ConfigSpace.COMMUNICATOR, 32)
            table = self._tables.setdefault(number, [0] * 32)
            table[place] = word
            if place == 1 or place == 0 and not word >> 31:
                self._open(number, table)

    def _open(self, number: int, table: list[int]) -> None:
        communicators = self.receiver.communicators
        self._break(number)
        self.receiver.clear(number)
        communicators.pop(number, None)
        if table[0] >> 31:
            communicators[number] = Communicator(table[0] & 31, table[0] >> 8 & 15,
                                                 [word & NODES - 1 for word in table[16:]], table[1] & 255,
                                                 table[1] >> 8 & 255)

    @property
    def call_space(self) -> int:
        """Calls that :meth:`submit` takes now."""
        return CALL_PLACES - len(self._calls) - len(self.completions) - sum(c is not None for c in self._contexts)

    def submit(self, words: tuple[int, ...]) -> None:
        """Take the words of a call. Without space for it, it is lost."""
        assert len(words) == CALL_WORDS
        if self.call_space:
            self._calls.append(_Pending(Call.from_words(words), self._link.cycle))

    def abort(self, number: int) -> None:
        """End the calls with this id."""
        for pending in self._calls:
            pending.is_aborted |= pending.call.id & 0xFFFF == number
        for context in self._running():
            if context.call.id & 0xFFFF == number:
                self._fail(context, Status.ABORTED)

    def push_kernel(self, content: bytes) -> None:
        """Bytes from a kernel."""
        self._kernel.extend(content)

    def arrive(self, packet: bytes) -> None:
        """A packet from the network."""
        self.receiver.arrive(packet)

    def _deliver(self, packet: Packet) -> None:
        header = packet.header
        key = header.source, header.tag
        content = self._arriving.pop(key, b"") + packet.payload
        if header.offset + len(packet.payload) < header.length:
            self._arriving[key] = content
        elif content:
            self.kernel_out.append(content)

    # What happens by itself

    def _running(self) -> Iterator[_Context]:
        return (context for context in self._contexts if context is not None)

    def advance(self) -> None:
        """Do all that can be done in this cycle."""
        while self._begin() or any([self._run(context) for context in self._running()]) or self._hand_out():
            pass
        self._return_credits()
        self._watch()

    def _return_credits(self) -> None:
        """Send the credits that many packets are owed, and all of them when nothing else wants the link."""
        for threshold in (credit_threshold, lambda credits: 1):
            for communicator, node in list(self.receiver.owing(threshold)):
                if threshold is not credit_threshold and self._link.idle_at > self._link.cycle:
                    self._later(self._link.idle_at - self._link.cycle)
                    return
                self.counts[Counter.CREDIT_PACKETS] += 1
                self._send(Header(PacketType.CREDIT, communicator=communicator, destination=node), b"")

    def _later(self, cycles: int, action: Callable[[], None] = lambda: None) -> None:
        generation = self._generation
        self._link.after(cycles, lambda: action() if generation == self._generation else None)

    def _begin(self) -> bool:
        """Let a call begin, or end at once."""
        if not (self._calls and self.is_enabled and None in self._contexts):
            return False
        pending, place = self._calls.popleft(), self._contexts.index(None)
        call, communicators = pending.call, self.receiver.communicators
        status = check_call(call, self._entries, communicators, types=self.types, is_aborted=pending.is_aborted)
        if status != Status.SUCCESS:
            self._complete(call, pending.since, status)
            return True
        entry, communicator = self._entries[call.scenario], communicators[call.communicator]
        execution = Execution(
            self.program, call, entry, communicator, communicator.take_operation() if entry.is_collective else 0,
            self.types, self.segment, place)
        self._contexts[place] = _Context(call, pending.since, execution, self._link.cycle + _DISPATCH_CYCLES)
        self._later(_DISPATCH_CYCLES)
        return True

    def _complete(self, call: Call, since: int, status: Status, cause: int = 0, node: int = 0, size: int = 0,
                  tag: int = 0) -> None:
        self.counts[Counter.CALLS] += 1
        self.completions.append(Completion(call.id & 0xFFFF, status, cause, node,
                                           self._link.cycle - since & 0xFFFFFFFF, size & 0xFFFFFFFF, tag))

    def _run(self, context: _Context) -> bool:
        """Let a context's program go on. Whether anything came of it."""
        context.moves = [move for move in context.moves if not move.is_over]
        if context.failure is not None:
            if not any(move.in_lane for move in context.moves):
                self._bury(context, context.failure)
                return True
            return False
        if context.ready_at > self._link.cycle:
            return False
        execution = context.execution
        before = execution.instructions
        result = execution.advance(len(context.moves), budget=256)
        cycles = _INSTRUCTION_CYCLES * (execution.instructions - before)
        context.ready_at = self._link.cycle + cycles
        if cycles:
            self._later(cycles)
        if isinstance(result, Move):
            self._install(context, result)
        elif isinstance(result, End):
            context.cause = context.cause or result.cause
            if context.moves:  # only errors end a program with moves under way
                self._fail(context, result.status)
            else:
                self._bury(context, result.status)
        return bool(cycles) or isinstance(result, End)

    def _install(self, context: _Context, move: Move) -> None:
        first = MOVES // CONTEXTS * context.execution.context  # of its moves
        state = MoveState(move, context.ready_at, min({*range(first, first + MOVES // CONTEXTS)}
                                                      - {other.place for other in context.moves}))
        limit = self.receiver.communicators[move.communicator].eager * self.segment
        state.asks = state.may_ask and 0 < limit < state.length
        state.waits_for = [other for other in context.moves if state.conflicts(other)]
        context.moves.append(state)
        if state.posted is not None:
            self.receiver.post(state.posted)

    def _bury(self, context: _Context, status: Status) -> None:
        """End a call of which no segment is under way."""
        for move in context.moves:
            if move.posted is not None:
                self.receiver.withdraw(move.posted)
        execution = context.execution
        self._contexts[execution.context] = None
        if breaks_communicator(status, is_collective=execution.entry.is_collective, has_moved=execution.has_moved):
            self._break(context.call.communicator)
        self._complete(context.call, context.since, status, context.cause, context.node, context.bytes,
                       context.tag)
        self._later(1)

    def _fail(self, context: _Context, status: Status, cause: int = 0, node: int = 0) -> None:
        if context.failure is None:
            context.failure, context.cause, context.node = status, cause or context.cause, node
            self._later(1)

    def _break(self, number: int) -> None:
        communicator = self.receiver.communicators.get(number)
        if communicator is None or communicator.is_broken:
            return
        communicator.is_broken = True
        self.receiver.clear(number)
        for other in self._running():
            if other.call.communicator == number:
                self._fail(other, Status.COMMUNICATOR_BROKEN)

    # Moves

    def _hand_out(self) -> bool:
        """Give a segment to a lane that is free, moves taking turns. Whether there was one."""
        moves = [(context, move) for context in self._running() if context.failure is None for move in context.moves]
        for k in range(len(moves)):
            context, move = moves[(self._turn + k) % len(moves)]
            if self._lanes[move.uses_send_lane] <= self._link.cycle and self._lacks(move) is None:
                self._turn += k + 1
                self._segment(context, move)
                return True
        return False

    def _lacks(self, move: MoveState) -> tuple[Cause, int] | None:
        """What a move waits for, and the node it is about."""
        if move.is_handed_out or any(not other.is_over for other in move.waits_for) or move.progress > self._link.cycle:
            return Cause.NONE, 0
        if move.posted is not None and not move.posted.packets:
            return Cause.PACKET, move.posted.key.node
        if move.waits_clear:
            return Cause.CLEAR_TO_SEND, move.move.destination
        communicator = self.receiver.communicators[move.move.communicator]
        if move.control.send and not communicator.available[move.move.destination]:
            return Cause.CREDIT, move.move.destination
        if move.stream_bytes(self.segment) > len(self._kernel):
            return Cause.LANE, 0
        return None

    def _segment(self, context: _Context, move: MoveState) -> None:
        now, packet = self._link.cycle, None
        move.progress = now
        if move.posted is not None:
            packet = move.posted.packets.popleft()
            context.bytes += len(packet.payload)
            context.node, context.tag = packet.header.source, packet.header.tag
            if packet.header.flags & HeaderFlag.REQUEST_TO_SEND:
                self.counts[Counter.CLEARS] += 1
                self._send(Header(PacketType.CLEAR_TO_SEND, communicator=move.move.communicator,
                                  destination=packet.header.source, handle=packet.header.handle), b"")
        try:
            segment = move.hand_out(self.segment, self._memory, self._kernel, packet)
        except SegmentError as error:
            self._fail(context, error.status, error.cause, error.node)
            if packet is not None:
                self.receiver.free(packet)
            return
        if segment.header is not None:
            self.receiver.communicators[move.move.communicator].available[move.move.destination] -= 1
            self._send(segment.header, segment.payload)
        if segment.is_last and move.posted is not None:
            self.receiver.withdraw(move.posted)
            move.posted = None
        cycles = max(1, -(-segment.size // self.width)) + _LANE_GAP
        self._lanes[move.uses_send_lane] = now + cycles
        self._later(cycles)
        move.in_lane += 1
        self._later(cycles + _RETIRE_CYCLES, lambda: self._retire(move, packet, segment))

    def _clear(self, header: Header) -> None:
        """A message may be sent on, if it is one that has asked."""
        for context in self._running():
            for move in context.moves:
                if (move.place == header.handle and move.move.communicator == header.communicator
                        and move.move.destination == header.source):
                    move.waits_clear = False

    def _retire(self, move: MoveState, packet: Packet | None, segment: Segment) -> None:
        move.in_lane -= 1
        if packet is not None:
            self.receiver.free(packet)
        if segment.stream:
            self._arriving[NODES, id(move)] = content = self._arriving.pop((NODES, id(move)), b"") + segment.stream
            if segment.is_last:
                self.kernel_out.append(content)
                del self._arriving[NODES, id(move)]

    def _send(self, header: Header, payload: bytes) -> None:
        node = header.destination
        header = header._replace(source=self.node, sequence=self._sequence[node],
                                 credit=self.receiver.take_owed(header.communicator, node))
        self._sequence[node] = self._sequence[node] + 1 & 0xFFFF
        self.counts[Counter.PACKETS_SENT] += 1
        self.counts[Counter.BYTES_SENT] += len(payload)
        self._link.send(self.node, node, header.to_bytes() + payload)

    def _watch(self) -> None:
        """Time-outs: fail what is late, and look again when the next one is due."""
        for context in self._running():
            for move in context.moves:
                if context.failure is not None or not self.timeout:
                    break
                lacking = self._lacks(move)
                if lacking is None or lacking[0] == Cause.NONE:
                    move.progress = max(move.progress, self._link.cycle)
                elif self._link.cycle - move.progress > self.timeout:
                    self._fail(context, Status.TIMEOUT, *lacking)
                elif move.alarm <= self._link.cycle:
                    move.alarm = move.progress + self.timeout + 1
                    self._later(move.alarm - self._link.cycle)

    @property
    def is_busy(self) -> bool:
        """Whether calls are under way."""
        return bool(self._calls) or any(context is not None for context in self._contexts)
