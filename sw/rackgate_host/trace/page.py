# SPDX-License-Identifier: Apache-2.0
"""A timeline as one HTML page, which needs no viewer and no network."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .job import Job

if TYPE_CHECKING:
    from ..transport.timeline import Row

__all__ = ["page"]


def page(system: str, job: Job, nodes: Mapping[str, Sequence["Row"]]) -> str:
    """The page of a job: its spans to zoom into, and its cycles as a table."""
    parts = {
        "@TITLE@": escape(f"{system}: {job.title}"),
        "@FACTS@": escape(_facts(job)),
        "@TABLE@": "\n".join(_row(node if len(nodes) > 1 else "", row) for node, rows in nodes.items() for row in rows),
        # "<" would let text end the script that the data stands in.
        "@DATA@": json.dumps(_data(job, nodes), separators=(",", ":")).replace("<", "\\u003c"),
    }
    text = Path(__file__).with_suffix(".html").read_text()
    for mark, content in parts.items():
        text = text.replace(mark, content)
    return text


def _facts(job: Job) -> str:
    def listed(values: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in values.items())

    return (f"Simulated gateware {job.url} ({listed(job.parameters)}; build {job.build}), cycles {job.begin} to "
            f"{job.end - 1}. The driver reports: {listed(job.reported)}.")


def _data(job: Job, nodes: Mapping[str, Sequence["Row"]]) -> dict[str, Any]:
    return {
        "begin": job.begin, "end": job.end,
        "nodes": [{"name": node, "rows": [
            {"stage": row.stage, "name": row.name, "place": row.place, "source": row.source, "meaning": row.meaning,
             "carries": row.carries, "rests": row.rests,
             "spans": [(span.what, span.begin, span.end) for span in row.spans]}
            for row in rows]} for node, rows in nodes.items()],
    }


def _row(node: str, row: "Row") -> str:
    first, last = (row.spans[0].begin, row.spans[-1].end - 1) if row.spans else ("", "")
    spent = ", ".join(f"{name}&nbsp;{cycles}" for name, cycles in
                      ((escape(name), cycles) for name, cycles in row.totals().items()))
    stage = escape(f"{node} {row.stage}".strip())
    return (f"<tr><td>{stage}</td><td>{escape(row.name)}</td><td>{escape(row.carries)}</td><td class=n>{first}</td>"
            f"<td class=n>{last}</td><td>{spent}</td><td>{escape(row.meaning)}</td></tr>")
