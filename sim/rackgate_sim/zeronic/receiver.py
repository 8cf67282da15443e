# SPDX-License-Identifier: Apache-2.0
"""From a frame to its entry: rules 7 to 9 of ``rackgate.zeronic.abi``."""

from rackgate.zeronic.abi import ETHERNET_SIZE, Counter, Direction, Right
from rackgate.zeronic.messages import Entry, EntryFlag, EntryKind, FlowFlag
from rackgate_sim.inflate.model import BusError, Memory
from rackgate_sim.zeronic.coalescer import Item
from rackgate_sim.zeronic.parse import Verdict, parse
from rackgate_sim.zeronic.segments import Piece
from rackgate_sim.zeronic.tables import Flow, Tables

__all__ = ["Receiver", "item"]

_SYN = 0x02


def item(ring: int, entry: Entry, content: bytes = b"", may_merge: bool = False) -> Item:
    """An entry with its content, sizes filled in."""
    size = -(-(Entry.SIZE + len(content)) // 8)
    return Item(ring, entry._replace(size=size, content=len(content)), content, may_merge)


class Receiver:
    """Places payload and makes entries."""

    def __init__(self, memory: Memory, tables: Tables, counts: dict[Counter, int]) -> None:
        self._memory, self._tables, self._counts = memory, tables, counts

    def receive(self, frame: bytes, is_bad: bool = False) -> Item | None:
        """Take a frame; its entry, unless the frame is dropped."""
        counts = self._counts
        counts[Counter.FRAMES_RECEIVED] += 1
        verdict = parse(frame, self._tables.profiles, is_bad)
        if isinstance(verdict, Counter):
            counts[verdict] += 1
            return None
        counts[Counter.BYTES_RECEIVED] += len(frame)
        number = self._tables.lookup(verdict.key) if verdict.key else None
        if number is None:
            counts[Counter.UNKNOWN_FLOW] += 1
            flags = EntryFlag.CHECKED if verdict.key else 0
            return item(0, Entry(EntryKind.DEFERRED, flags, frames=1), frame)
        flow = self._tables.flows[number]
        entry = Entry(EntryKind.DEFERRED, EntryFlag.FLOW | EntryFlag.CHECKED, flow=number, payload=verdict.payload,
                      headers=verdict.headers, frames=1)
        if FlowFlag.RECEIVE not in flow.flags:
            counts[Counter.UNKNOWN_FLOW] += 1
        elif not verdict.payload:
            entry = entry._replace(kind=EntryKind.HEADER)
        elif not verdict.flags & _SYN:
            entry = self._place(entry, flow, verdict, frame)
            counts[Counter.DEFERRED] += entry.kind == EntryKind.DEFERRED
        else:
            counts[Counter.DEFERRED] += 1
        if entry.kind == EntryKind.DEFERRED:
            return item(flow.ring, entry, frame)
        is_placed = 0 < entry.placed == entry.payload and not entry.flags & EntryFlag.WRITE_ERROR
        may_merge = is_placed and FlowFlag.COALESCE in flow.flags and bool(verdict.flags)  # of TCP, which has an ACK
        return item(flow.ring, entry, frame[ETHERNET_SIZE:verdict.headers], may_merge)

    def _place(self, entry: Entry, flow: Flow, verdict: Verdict, frame: bytes) -> Entry:
        """Rule 9."""
        counts, position, size = self._counts, verdict.position, verdict.payload
        before_cursor = (flow.guard.cursor - position) % (1 << 32)
        skipped = min(before_cursor, size) if before_cursor < 1 << 31 else 0
        covered = flow.segments[Direction.RECEIVE].cover(
            self._tables.regions, entry.flow, (position + skipped) % (1 << 32), size - skipped, Right.WRITE)
        judged = flow.guard.judge(position, size, covered.size)
        counts[Counter.OLD] += judged.old
        counts[Counter.BAD_REGION] += covered.bad_region
        if not judged.whole:
            counts[Counter.NO_SEGMENT] += covered.no_segment
            counts[Counter.CONFLICT] += judged.conflict
            counts[Counter.NO_INTERVAL] += judged.no_interval
        payload = frame[verdict.headers:verdict.headers + size]
        is_written = all([self._write(piece, position, payload, judged.offset, judged.size)
                          for piece in covered.pieces])
        if is_written:
            counts[Counter.PLACED] += judged.size == size
            counts[Counter.BYTES_PLACED] += judged.size
        else:
            counts[Counter.WRITE_ERROR] += 1
            entry = entry._replace(flags=entry.flags | EntryFlag.WRITE_ERROR)
        kind = EntryKind.HEADER if judged.whole else EntryKind.DEFERRED
        return entry._replace(kind=kind, placed_offset=judged.offset, placed=judged.size)

    def _write(self, piece: Piece, position: int, payload: bytes, offset: int, size: int) -> bool:
        """Write the part of a piece that is among ``size`` bytes of the payload from ``offset`` on."""
        begin = (piece.position - position) % (1 << 32)
        low, high = max(begin, offset), min(begin + piece.size, offset + size)
        if low >= high:
            return True
        try:
            self._memory.write(piece.address + low - begin, payload[low:high])
        except BusError:
            return False
        return True
