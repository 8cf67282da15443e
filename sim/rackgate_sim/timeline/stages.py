# SPDX-License-Identifier: Apache-2.0
"""Which parts of each device a timeline shows, in the order in which data passes them."""

from collections.abc import Mapping
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
    rests:
        The state in which it has nothing to do, and which is not shown: by default the first.
    """

    name: str
    place: str
    streams: Mapping[str, str]
    machine: str = ""
    rests: str = ""


_MACHINE = "fsm"


def _inflate() -> tuple[Stage, ...]:
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


def _fisslock() -> tuple[Stage, ...]:
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


def _zeronic() -> tuple[Stage, ...]:
    """The way of a frame that is received."""
    unit, delivery = "receive", "receive.delivery"
    return (
        Stage("frames in", "", {"net_rx": "word of a frame"}),
        Stage("front", f"{unit}.front", {"write": "word of a frame", "verdicts": "headers of a frame",
                                         "endings": "end of a frame"}),
        Stage("lookup of flows", f"{unit}.lookup", {"i": "headers of a frame", "o": "frame and its flow"}),
        Stage("planner", f"{unit}.planner", {"o": "frame and its flow", "cover": "range of the stream"}),
        Stage("cover", f"{unit}.cover", {"request": "range of the stream", "piece": "piece of memory",
                                         "result": "whether all is covered"}),
        Stage("segment lists", f"{unit}.cover.lists", {"search": "position", "found": "segment"}, _MACHINE,
              rests="CHOOSE"),
        Stage("decider", f"{unit}.decider", {"guard": "range to place", "o": "decision", "order": "range to cut to"}),
        Stage("guard", f"{unit}.guard", {"request": "range to place", "o": "bytes that may be written",
                                         "update": "bytes that were"}),
        Stage("trimmer", f"{unit}.trimmer", {"pieces": "piece of memory", "o": "move to memory"}),
        Stage("frame buffer", f"{unit}.frames", {"read": "range of a frame", "o": "word of payload"}),
        Stage("placement", f"{delivery}.placement", {"i": "move to memory", "aw": "write burst", "w": "word of payload",
                                                     "placed": "frame whose payload is there"}),
        Stage("coalescer", f"{delivery}.coalescer", {"i": "decision", "o": "entry"}, _MACHINE),
        Stage("entry writer", f"{delivery}.entries", {"aw": "write burst", "w": "word of an entry"}, _MACHINE),
        Stage("payload port", "", {"mem__0__aw": "write burst", "mem__0__w": "word written", "mem__0__b": "answer"}),
        Stage("ring port", "", {"mem__1__aw": "write burst", "mem__1__w": "word written", "mem__1__b": "answer"}),
    )


def _collective() -> tuple[Stage, ...]:
    """From a call to its completion, and what comes from other nodes in between."""
    moves, send, receive = "datapath.moves", "datapath.send_lane", "datapath.receive_lane"
    return (
        Stage("calls", "control.calls", {"call": "call"}),
        Stage("context 0", "control.sequencer.context_0", {}, _MACHINE),
        Stage("sequencer", "control.sequencer", {"move": "move"}),
        Stage("installer", f"{moves}.installer", {"i": "move", "post": "receive"}, _MACHINE),
        Stage("scheduler", f"{moves}.scheduler", {"send": "segment to send", "receive": "segment to take"}, _MACHINE),
        Stage("lifecycle", f"{moves}.lifecycle", {"retired_send": "segment", "retired_receive": "segment"}, _MACHINE),
        Stage("send lane", send, {"i": "segment", "header": "header", "payload": "word of payload"}),
        Stage("operand reader", f"{send}.fetcher", {"ar": "read burst", "r": "word of memory", "o": "packed word"}),
        Stage("packetizer", "datapath.packetizer", {"o": "word of a packet"}, _MACHINE),
        Stage("link out", "", {"net_tx": "word of a packet"}),
        Stage("link in", "", {"net_rx": "word of a packet"}),
        Stage("depacketizer", "datapath.receiver.depacketizer", {"header": "header", "o": "word of payload"}, _MACHINE),
        Stage("receive queues", "datapath.receiver.queues", {"open": "packet for a move"}, _MACHINE),
        Stage("receive lane", receive, {"i": "segment"}),
        Stage("unloader", f"{receive}.unloader", {"o": "word of a packet"}),
        Stage("local operand", f"{receive}.local", {"ar": "read burst", "r": "word of memory", "o": "packed word"}),
        Stage("join", f"{receive}.join", {"o": "word of both operands"}),
        Stage("reducer", f"{receive}.reducer", {"o": "word of the result"}),
        Stage("delivery", f"{receive}.delivery", {"link": "word to pass on", "memory": "word to keep"}),
        Stage("placer", f"{receive}.placer", {"aw": "write burst", "w": "word to memory", "done": "range written"}),
        Stage("completer", "control.completer", {"o": "completion"}, _MACHINE),
    )


#: Stages of each device, by its name in URLs.
STAGES: Mapping[str, tuple[Stage, ...]] = {
    "collective": _collective(), "fisslock": _fisslock(), "inflate": _inflate(), "zeronic": _zeronic(),
}


def stages(device: str) -> tuple[Stage, ...]:
    """What a timeline of ``device`` shows. Raises ValueError for a device that has none."""
    if device not in STAGES:
        raise ValueError(f"device must be one of {', '.join(STAGES)}, not {device!r}")
    return STAGES[device]
