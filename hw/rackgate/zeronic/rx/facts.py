# SPDX-License-Identifier: Apache-2.0
"""What a range of a stream has to do with what was placed and judged before it."""

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
    """Comparisons of a question with the state of its flow. A position of which the cursor is compared is *old* if it
    is before it; then its comparison with ``low`` means nothing.

    ``end_done``, ``stop_done``: the cursor is at or behind it. That is not the same as old for a position as far away
    as can be, and for the cursor itself.
    """

    position_old: 1
    end_done: 1
    start_old: 1
    stop_old: 1
    stop_done: 1
    start_low: 1  # not behind ``low``
    stop_low: 1  # not behind ``low``
    low_is_cursor: 1
    low_is_position: 1
    low_is_start: 1
    start_is_position: 1
    stop_is_end: 1
    has_intervals: 1


def compare(question, state) -> dict:
    """Fields of :class:`Facts`."""
    cursor, low = state.cursor, state.low
    return {
        "position_old": before(question.position, cursor),
        "end_done": ~before(cursor, question.end),
        "start_old": before(question.start, cursor),
        "stop_old": before(question.stop, cursor),
        "stop_done": ~before(cursor, question.stop),
        "start_low": ~before(low, question.start),
        "stop_low": ~before(low, question.stop),
        "low_is_cursor": low == cursor,
        "low_is_position": low == question.position,
        "low_is_start": low == question.start,
        "start_is_position": question.start == question.position,
        "stop_is_end": question.stop == question.end,
        "has_intervals": state.used.any(),
    }
