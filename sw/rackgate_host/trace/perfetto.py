# SPDX-License-Identifier: Apache-2.0
"""Timelines as trace events, the JSON that Perfetto and Chrome's tracing page open.

A unit of time there is a microsecond; here it is a clock cycle.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .job import Job

if TYPE_CHECKING:
    from ..transport.timeline import Row

__all__ = ["trace_events"]

# Names of colours that the viewers have; others they choose by the name of the span.
_COLOURS = {"moves": "good", "waits": "bad"}


def trace_events(job: Job, nodes: Mapping[str, Sequence["Row"]]) -> dict[str, Any]:
    """One object with all spans of ``nodes``: a process a node, a thread a row."""
    events: list[dict[str, Any]] = []
    for number, (node, rows) in enumerate(nodes.items(), 1):
        events += _named("process", number, 0, node, number)
        for index, row in enumerate(rows, 1):
            events += _named("thread", number, index, f"{row.stage}: {row.name}", index)
            events += _spans(row, number, index)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {"title": job.title, "device": job.url, "build": job.build, "unit of time": "one clock cycle",
                      **{name: str(value) for name, value in (*job.parameters.items(), *job.reported.items())}},
    }


def _named(what: str, process: int, thread: int, name: str, place: int) -> Iterator[dict[str, Any]]:
    for key, values in ((f"{what}_name", {"name": name}), (f"{what}_sort_index", {"sort_index": place})):
        yield {"ph": "M", "name": key, "pid": process, "tid": thread, "args": values}


def _spans(row: "Row", process: int, thread: int) -> Iterator[dict[str, Any]]:
    for span in row.spans:
        event: dict[str, Any] = {
            "ph": "X", "name": span.what, "cat": row.stage, "ts": span.begin, "dur": span.end - span.begin,
            "pid": process, "tid": thread,
            "args": {"first cycle": span.begin, "last cycle": span.end - 1, "cycles": span.end - span.begin,
                     "place": row.place, "carries": row.carries, "source": row.source},
        }
        if span.what in _COLOURS:
            event["cname"] = _COLOURS[span.what]
        yield event
