# SPDX-License-Identifier: Apache-2.0
"""Which parts of each device a timeline shows, in the order in which data passes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["STAGES", "Stage", "stages"]


@dataclass(frozen=True)
class Stage:
    """A part of a device, as rows of a timeline.

    Attributes
    ----------
    name:
        What it is called there.
    place:
        Names of its submodules in the hierarchy, joined by dots; "" for the device itself.
    streams:
        Its streams that get a row each, and what moves there.
    machine:
        The state machine that gets a row, by the name that ``m.FSM`` was given; "" for none.
    """

    name: str
    place: str
    streams: Mapping[str, str]
    machine: str = ""


_MACHINE = "fsm"


def _inflate(**parameters: int) -> tuple[Stage, ...]:
    """One job, in context 0."""
    slot, pipe = "engine.slot_0", "engine.pipe"
    return (
        Stage("descriptor ring", "ring", {"o__0": "task"}, _MACHINE),
        Stage("context", slot, {"i": "task"}, _MACHINE),
        Stage("source reader", f"{slot}.reader",
              {"ar": "read burst", "r": "word of the source", "o": "word for the input buffer"}),
        Stage("front", f"{slot}.front", {"o_run": "run of the pipe"}, _MACHINE),
        Stage("framing", f"{slot}.front.frame", {}, _MACHINE),
        Stage("block header", f"{slot}.front.block", {}, _MACHINE),
        Stage("runner", f"{slot}.front.runner", {"o_entry": "entry"}, _MACHINE),
        Stage("body decoder", f"{pipe}.body", {"o": "entry"}, _MACHINE),
        Stage("queue of entries", f"{pipe}.queue", {"o": "entry"}),
        Stage("copier", f"{pipe}.copier", {"o": "word of output"}),
        Stage("output", f"{pipe}.output", {"o": "piece"}),
        Stage("writer", "engine.writer", {"aw": "write burst", "w": "word of output", "b": "answer"}),
        Stage("record", "record", {"w": "word of the record"}, _MACHINE),
        Stage("memory port", "", {"mem__ar": "read burst", "mem__r": "word read", "mem__aw": "write burst",
                                  "mem__w": "word written"}),
    )


def _fisslock(**parameters: int) -> tuple[Stage, ...]:
    """Frames in, through the stages, and out. Words of frames, then one header vector a packet."""
    return (
        Stage("frames in", "", {"net_rx": "word of a frame"}),
        Stage("parser", "parser", {"i": "word of a frame", "o": "header vector"}),
        Stage("extractor", "parser.extractor", {"o": "headers"}),
        Stage("pipeline", "core", {"i": "header vector", "o": "header vector of a copy"}),
        Stage("ingress stages", "core.ingress", {"i": "packet", "o": "packet"}),
        Stage("register array of locks", "core.ingress.locks", {"i": "access", "o": "result"}),
        Stage("copies", "core.copies", {"i": "packet", "o": "copy"}),
        Stage("egress stages", "core.egress", {"i": "copy", "o": "copy"}),
        Stage("table of hosts", "core.egress.hosts", {"i": "key", "o": "action"}),
        Stage("deparser", "deparser", {"i": "header vector of a copy", "o": "word of a frame"}),
        Stage("frames out", "", {"net_tx": "word of a frame"}),
    )


#: Stages of each device, by its name in URLs; parameters are the gateware's.
STAGES: dict[str, Callable[..., tuple[Stage, ...]]] = {"fisslock": _fisslock, "inflate": _inflate}


def stages(device: str, **parameters: int) -> tuple[Stage, ...]:
    """What a timeline of ``device`` shows. Raises ValueError for a device that has none."""
    if device not in STAGES:
        raise ValueError(f"device must be one of {', '.join(STAGES)}, not {device!r}")
    return STAGES[device](**parameters)
