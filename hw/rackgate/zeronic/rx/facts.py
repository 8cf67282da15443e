# SPDX-License-Identifier: Apache-2.0
"""What a range of a stream has to do with what was placed and judged before it."""

from amaranth.hdl import Mux
from amaranth.lib import data

from rackgate.zeronic.rx.rowscan import before

__all__ = ["Facts", "compare", "question_layout", "state_layout"]


def state_layout(intervals: int, position_bits: int) -> data.StructLayout:
    """Of a flow: all bytes from ``cursor`` to ``low`` have been granted, and those of the intervals in ``used``."""
    return data.StructLayout({"cursor": position_bits, "low": position_bits, "used": intervals})


def question_layout(flows: int, position_bits: int) -> data.StructLayout:
    """A frame's payload, from ``position`` to before ``end``, and what is covered, from ``start`` to before ``stop``.

    Or an update: its cursor is in ``start``.
    """
    return data.StructLayout({
        "is_update": 1, "begin": 1, "flow": range(flows), "has_payload": 1, "has_covered": 1,
        "position": position_bits, "end": position_bits, "start": position_bits, "stop": position_bits})


class Facts(data.Struct):
    """What follows from a question and the state of its flow, as far as the intervals are not needed for it.

    A position is *old* if it is before the cursor. A comparison with ``low`` then means nothing.
    """

    at_low: 1  #: what is to be placed, or an update's cursor, begins at ``low`` or before it
    is_new: 1  #: something may be granted, from ``low`` on or behind it
    raises: 1  #: an update is behind ``low``
    sets_cursor: 1  #: an update does not go back
    needs: 1  #: the intervals are needed
    is_done: 1  #: no byte of the frame is missing
    is_old: 1  #: the frame has bytes before the cursor
    wants: 1  #: of what is covered, some bytes are not before the cursor
    fills: 1  #: if all that is new is granted, the frame misses no byte
    covers: 1  #: if all that is new is granted, what is covered misses none


def compare(question, state) -> dict:
    """Fields of :class:`Facts`."""
    cursor, low, is_update = state.cursor, state.low, question.is_update
    position_old, start_old = before(question.position, cursor), before(question.start, cursor)
    # That the cursor is at or behind a position is not the same as old for one as far away as can be, and for the
    # cursor itself.
    end_done, stop_done = ~before(cursor, question.end), ~before(cursor, question.stop)
    low_is_cursor, has_intervals = low == cursor, state.used.any()
    at_low = start_old | ~before(low, question.start)
    is_new = ~is_update & question.has_covered & ~before(question.stop, cursor) & before(low, question.stop)
    raises = is_update & ~at_low
    # What is new begins with the frame's first byte that is not before the cursor; and with that of what is covered.
    from_frame = Mux(position_old, at_low & low_is_cursor,
                     Mux(at_low, low == question.position, question.start == question.position))
    from_covered = ~at_low | Mux(start_old, low_is_cursor, low == question.start)
    return {
        "at_low": at_low, "is_new": is_new, "raises": raises,
        "sets_cursor": is_update & (question.begin | ~start_old),
        "needs": Mux(is_update, raises & ~question.begin & has_intervals, is_new & (has_intervals | ~at_low)),
        "is_done": ~question.has_payload | position_old & end_done,
        "is_old": question.has_payload & position_old,
        "wants": question.has_covered & ~(start_old & stop_done),
        "fills": from_frame & (question.stop == question.end),
        "covers": from_covered,
    }
