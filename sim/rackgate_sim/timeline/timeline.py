# SPDX-License-Identifier: Apache-2.0
"""From waves to spans: what each stage did, and from which cycle to which."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .fst import Waves, WavesError
from .hierarchy import Part
from .stages import Stage

__all__ = ["Row", "Span", "rows"]

#: Codes of what a stream does in a cycle: payload is offered and taken, or offered and not taken.
_MOVES, _WAITS = "moves", "waits"


@dataclass(frozen=True)
class Span:
    """What a row shows in cycles ``begin`` up to, and without, ``end``."""

    what: str
    begin: int
    end: int

    @property
    def cycles(self) -> int:
        """How long it lasts."""
        return self.end - self.begin


@dataclass(frozen=True)
class Row:
    """One line of a timeline.

    Attributes
    ----------
    stage, name:
        The stage, and which of its streams this is, or "state".
    place, source, meaning:
        The part in the hierarchy, its class, and the first sentence of that class's docstring.
    carries:
        What moves in the stream; "" for a state machine.
    rests:
        The state that is not shown: the one in which a state machine has nothing to do.
    spans:
        In order, without overlap. In a stream ``moves`` (valid and ready: one payload a cycle) and ``waits`` (valid,
        but what follows is not ready); in between nothing is offered. Of a state machine, its states.
    """

    stage: str
    name: str
    place: str
    source: str
    meaning: str
    carries: str
    rests: str
    spans: tuple[Span, ...]

    def cycles(self, what: str | None = None) -> int:
        """Cycles of all spans, or of those that show ``what``."""
        return sum(span.cycles for span in self.spans if what in (None, span.what))

    def totals(self) -> dict[str, int]:
        """Cycles by what they show."""
        return {what: self.cycles(what) for what in dict.fromkeys(span.what for span in self.spans)}


def rows(waves: Waves, shown: Sequence[Stage], known: Mapping[str, Part], begin: int, end: int) -> list[Row]:
    """The rows of a timeline.

    Parameters
    ----------
    waves:
        Waves of the device.
    shown:
        What to show (:func:`.stages.stages`).
    known:
        The device's parts (:func:`.hierarchy.parts`).
    begin, end:
        Cycles to show, the last one excluded.

    Raises
    ------
    ValueError
        If the waves do not hold these cycles.
    WavesError
        If the device has no such stage, stream or state machine.
    """
    if not waves.first <= begin < end <= waves.first + waves.cycles:
        raise ValueError(f"begin and end must be cycles of the waves, {waves.first} to {waves.first + waves.cycles}, "
                         f"not {begin} and {end}")
    window = slice(begin - waves.first, end - waves.first)
    found = []
    for stage in shown:
        if stage.place not in known:
            raise WavesError(f"stage {stage.name}: the device has no part {stage.place}")
        part = known[stage.place]
        if stage.machine:
            found.append(_state_row(waves, stage, part, window))
        found += (_stream_row(waves, stage, part, name, window) for name in stage.streams)
    return found


def _state_row(waves: Waves, stage: Stage, part: Part, window: slice) -> Row:
    if stage.machine not in part.machines:
        raise WavesError(f"stage {stage.name}: {part.source} has no state machine {stage.machine}")
    machine = part.machines[stage.machine]
    rests = stage.rests or machine.states[0]
    if rests not in machine.states:
        raise WavesError(f"stage {stage.name}: {part.source} has states {', '.join(machine.states)}, not {rests}")
    shown = {code: name for code, name in enumerate(machine.states) if name != rests}
    spans = tuple(_spans(waves[machine.signal][window].astype(np.int64), shown, waves.first + window.start))
    return Row(stage.name, "state", stage.place, part.source, part.meaning, "", rests, spans)


def _stream_row(waves: Waves, stage: Stage, part: Part, name: str, window: slice) -> Row:
    if name not in part.streams:
        raise WavesError(f"stage {stage.name}: {part.source} has no stream {name}")
    stream = part.streams[name]
    valid = waves[stream.valid][window] != 0
    ready = np.ones_like(valid) if stream.ready is None else waves[stream.ready][window] != 0
    spans = tuple(_spans(valid * 1 + (valid & ~ready), {1: _MOVES, 2: _WAITS}, waves.first + window.start))
    return Row(stage.name, name, stage.place, part.source, part.meaning, stage.streams[name], "", spans)


def _spans(codes: np.ndarray, names: Mapping[int, str], begin: int) -> Iterator[Span]:
    """Stretches of equal codes, without those that have no name."""
    edges = np.flatnonzero(np.diff(codes)) + 1
    for start, stop in zip([0, *edges], [*edges, len(codes)], strict=True):
        if (name := names.get(int(codes[start]))) is not None:
            yield Span(name, begin + int(start), begin + int(stop))
