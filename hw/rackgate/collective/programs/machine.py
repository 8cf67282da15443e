# SPDX-License-Identifier: Apache-2.0
"""All ranks of a collective at work, segment by segment, without time.

Each rank has up to four moves under way. A segment goes on when its packet has come, the destination has a credit left
for it, and the earlier moves have ended whose memory it shares: the rules of the engine, and no more than its rules. In
which order the ranks and moves that could go on do so is up to ``choose``, so that a rank's luck can be tried out.
Elements are whatever Python values the caller gives; ``None`` is what nothing has written.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rackgate.collective.isa import Local, Other, Target
from rackgate.collective.packets.abi import credit_threshold
from rackgate.collective.programs.error import CollectiveError
from rackgate.collective.programs.interpreter import Pause, Step

__all__ = ["MOVES_UNDER_WAY", "Machine", "Region"]

#: Moves of a call that are under way at a time.
MOVES_UNDER_WAY = 4


class Region(NamedTuple):
    """Elements at an address of a rank's memory."""

    name: str
    address: int
    cells: list[Any]


class _Active:
    """A move under way. ``reads``, ``writes``: its memory; ``before``: moves that it waits for."""

    def __init__(self, step: Step, segments: int, shift: int):
        self.step = step
        self.segments = segments
        self.done = 0
        self.before: list[_Active] = []
        length, control = step.count << shift, step.control
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, int]] = []
        if length:
            if control.local == Local.MEMORY:
                self.reads.append((step.local, step.local + length))
            if control.other == Other.MEMORY:
                self.reads.append((step.other, step.other + length))
            if control.target == Target.MEMORY:
                self.writes.append((step.result, step.result + length))

    def conflicts(self, earlier: "_Active") -> bool:
        """Whether the two share memory that one of them writes."""
        return (any(_overlap(one, other) for one in self.reads + self.writes for other in earlier.writes)
                or any(_overlap(one, other) for one in self.writes for other in earlier.reads))

    @property
    def has_ended(self) -> bool:
        return self.done == self.segments


class Machine:
    """Ranks with their moves, memories and credits.

    Parameters
    ----------
    steps:
        Of each rank (:func:`rackgate.collective.programs.interpreter.moves`).
    memories:
        Of each rank.
    combine:
        ``function(received or second operand, first operand)`` of two elements.
    shift:
        Binary logarithm of an element's bytes; of its bytes on the wire: ``wire_shift``.
    segment:
        Payload bytes of the largest packet.
    credits:
        Packets that a rank may have on its way to another one; None: as many as it likes.
    choose:
        Permutes a list of indices in place: the order in which ranks, and moves of a rank, are looked at.
    """

    def __init__(self, steps: Sequence[Sequence[Step | Pause]], memories: Sequence[Sequence[Region]],
                 combine: Callable[[Any, Any], Any], *, shift: int = 2, wire_shift: int | None = None,
                 segment: int = 1024, credits: int | None = None, choose: Callable[[list[int]], None] | None = None):
        self._steps = [deque(rank) for rank in steps]
        self._memories = memories
        self._combine = combine
        self._shift = shift
        self._wire_shift = shift if wire_shift is None else wire_shift
        self._per_segment = segment >> self._wire_shift
        self._credits: dict[tuple[int, int], int] = {}
        self._limit = credits
        self._owed: dict[tuple[int, int], int] = {}
        self._choose = choose
        self._active: list[list[_Active]] = [[] for _ in steps]
        self._packets: dict[tuple[int, int, int], deque[list[Any]]] = {}
        #: What a rank's kernel gives its stream, and what its stream gives the kernel.
        self.kernel_in: list[deque[Any]] = [deque() for _ in steps]
        self.kernel_out: list[list[Any]] = [[] for _ in steps]
        #: Payload bytes and packets, by source and destination.
        self.bytes_sent: dict[tuple[int, int], int] = {}
        self.packets_sent: dict[tuple[int, int], int] = {}
        self._ready: deque[int] = deque(range(len(steps)))
        self._is_ready = [True] * len(steps)

    def run(self) -> None:
        """Until all ranks have ended. Raises CollectiveError if they cannot."""
        while self._ready:
            waiting = list(self._ready)
            self._ready.clear()
            if self._choose is not None:
                self._choose(waiting)
            for rank in waiting:
                self._is_ready[rank] = False
                self._advance(rank)
        stuck = [rank for rank in range(len(self._steps)) if self._active[rank] or self._steps[rank]]
        if stuck:
            raise CollectiveError(self._explain(stuck[0]))
        left = {key: len(packets) for key, packets in self._packets.items() if packets}
        for (rank, source, tag), count in left.items():
            raise CollectiveError(f"rank {source} sends rank {rank} a message with tag {tag} that it never receives "
                                  f"({count} packets are left)")

    def _wake(self, rank: int) -> None:
        if not self._is_ready[rank]:
            self._is_ready[rank] = True
            self._ready.append(rank)

    def _advance(self, rank: int) -> None:
        """Let ``rank`` go on as far as it can."""
        active = self._active[rank]
        while True:
            self._start(rank)
            order = list(range(len(active)))
            if self._choose is not None:
                self._choose(order)
            has_moved = False
            for index in order:
                while not active[index].has_ended and self._wait(rank, active[index]) is None:
                    self._segment(rank, active[index])
                    has_moved = True
            active[:] = [move for move in active if not move.has_ended]
            if not has_moved:
                return

    def _start(self, rank: int) -> None:
        steps, active = self._steps[rank], self._active[rank]
        while steps:
            step = steps[0]
            if isinstance(step, Pause):
                if len(active) > step.moves:
                    return
                steps.popleft()
                continue
            if len(active) >= MOVES_UNDER_WAY:
                return
            steps.popleft()
            move = _Active(step, max(1, -(-step.count // self._per_segment)), self._shift)
            move.before = [earlier for earlier in active if move.conflicts(earlier)]
            active.append(move)

    def _wait(self, rank: int, move: _Active) -> tuple[str, int] | None:
        """What the next segment of the move waits for, and whom; None: nothing."""
        step = move.step
        for earlier in move.before:
            if not earlier.has_ended:
                return f"{earlier.step}, whose memory it shares", rank
        if step.control.other == Other.RECEIVE and not self._packets.get((rank, step.source, step.tag)):
            return f"a packet with tag {step.tag} of rank {step.source}", step.source
        if step.control.send and self._limit is not None and not self._credits.setdefault((rank, step.destination),
                                                                                          self._limit):
            return f"a credit of rank {step.destination}", step.destination
        return None

    def _segment(self, rank: int, move: _Active) -> None:
        step, control = move.step, move.step.control
        first = move.done * self._per_segment
        count = min(self._per_segment, step.count - first)
        move.done += 1
        local = other = None
        if control.local == Local.MEMORY:
            local = self._read(rank, step, step.local, first, count)
        elif control.local == Local.STREAM:
            local = [self.kernel_in[rank].popleft() for _ in range(count)]
        if control.other == Other.MEMORY:
            other = self._read(rank, step, step.other, first, count)
        elif control.other == Other.RECEIVE:
            other = self._receive(rank, step, count)
        if control.reduce and local is not None and other is not None:
            result = [self._combine(received, own) for received, own in zip(other, local, strict=True)]
        else:
            result = (local if other is None else other) or []
        if control.target == Target.MEMORY and count:
            cells, at = self._cells(rank, step, step.result, first, count)
            cells[at:at + count] = result
        elif control.target == Target.STREAM:
            self.kernel_out[rank].extend(result)
        if control.send:
            self._send(rank, step, result)

    def _receive(self, rank: int, step: Step, count: int) -> list[Any]:
        payload = self._packets[rank, step.source, step.tag].popleft()
        if len(payload) != count:
            raise CollectiveError(f"rank {rank} expects {count} elements of rank {step.source} in a segment of {step}, "
                                  f"and gets {len(payload)}")
        if self._limit is not None:
            link = rank, step.source
            self._owed[link] = self._owed.get(link, 0) + 1
            if self._owed[link] >= credit_threshold(self._limit):
                self._credits[step.source, rank] += self._owed.pop(link)
                self._wake(step.source)
        return payload

    def _send(self, rank: int, step: Step, payload: list[Any]) -> None:
        link = rank, step.destination
        if self._limit is not None and not step.control.put:
            self._credits[link] -= 1
        self.bytes_sent[link] = self.bytes_sent.get(link, 0) + (len(payload) << self._wire_shift)
        self.packets_sent[link] = self.packets_sent.get(link, 0) + 1
        if step.control.put:
            self.kernel_out[step.destination].extend(payload)
            return
        self._packets.setdefault((step.destination, rank, step.tag), deque()).append(payload)
        self._wake(step.destination)

    def _cells(self, rank: int, step: Step, address: int, first: int, count: int) -> tuple[list[Any], int]:
        start = address + (first << self._shift)
        for region in self._memories[rank]:
            index, rest = divmod(start - region.address, 1 << self._shift)
            if 0 <= index and index + count <= len(region.cells) and not rest:
                return region.cells, index
        places = ", ".join(f"{region.name} has {len(region.cells)} elements" for region in self._memories[rank])
        where = min(self._memories[rank], key=lambda region: abs(start - region.address), default=None)
        element = ("" if where is None
                   else f", which is element {(start - where.address) >> self._shift} of {where.name}")
        raise CollectiveError(f"rank {rank} in {step} touches {count} elements at {address:#x}{element}: outside its "
                              f"buffers ({places or 'it has none'})")

    def _read(self, rank: int, step: Step, address: int, first: int, count: int) -> list[Any]:
        if not count:
            return []
        cells, at = self._cells(rank, step, address, first, count)
        values = cells[at:at + count]
        for index, value in enumerate(values):
            if value is None:
                raise CollectiveError(f"rank {rank} in {step} reads element {first + index} of its operand, which "
                                      "nothing has written")
        return values

    def _explain(self, rank: int) -> str:
        """Who waits for whom, in a circle if there is one."""
        texts: dict[int, str] = {}
        while rank not in texts:
            active = self._active[rank]
            if not active:
                texts[rank] = f"rank {rank} has ended"
                break
            waits = [(move, wait) for move in active if (wait := self._wait(rank, move)) is not None]
            move, (what, whom) = next(((move, wait) for move, wait in waits if wait[1] != rank), waits[0])
            texts[rank] = f"rank {rank} waits in {move.step} for {what}"
            rank = whom
        sentence = "; ".join(texts.values())
        if texts[rank].endswith("has ended"):
            return f"the collective cannot end: {sentence}"
        circle = list(texts)[list(texts).index(rank):]
        return f"ranks {', '.join(map(str, circle))} wait for each other in a circle: {sentence}"


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
