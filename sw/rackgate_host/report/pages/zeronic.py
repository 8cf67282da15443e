# SPDX-License-Identifier: Apache-2.0
"""The page of the NIC."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..papers import LOSS_CURVE, LOSS_SOURCE
from ..plots import Axis, Level, Plot, Section, Trace, bars, command, lines
from ..records import Measured, Results

__all__ = ["sections"]

_PAYLOAD = "bytes of payload a frame"
#: Figures of hosts, by metric: title, what it is, unit, whether a logarithmic axis shows it better.
_COSTS = {
    "host_bytes_per_payload_byte": ("Received through the host", "Bytes of headers, entries and payload that its "
                                    "software takes from the NIC.", "bytes a byte of payload", True),
    "host_bytes_sent_per_payload_byte": ("Sent through the host", "Bytes of commands, headers and payload that its "
                                         "software gives to the NIC.", "bytes a byte of payload", True),
    "cpu_copied_bytes_per_payload_byte": ("Copied by a processor", "At both ends together.", "bytes a byte of payload",
                                          False),
    "cpu_seconds_per_gb": ("Processor time of the applications", "Both ends. The hosts' daemons simulate the NICs: "
                           "their time is not in it.", "s/GB", True),
}
_TRANSPORTS = {"tcp": "split, posted segments", "tcp_unsplit": "unsplit"}


def sections(results: Results) -> Sequence[Section]:
    """What the page shows."""
    return [
        Section("The NIC, in cycles", "Made-up frames through the gateware, without a transport.",
                [_rate(results, "rx", "Received"), _rate(results, "tx", "Sent"), _bubbles(results, "rx", "received"),
                 _bubbles(results, "tx", "sent"), _orders(results), _lone(results)], compact=True),
        Section("Bytes that the host touches", "A stream of Linux' TCP between two network namespaces of one machine, "
                "by the size of messages. Unsplit: as ever. Shim: under unmodified programs. Posted: between arrays. "
                "Less is better.", [_cost(results, metric) for metric in _COSTS], compact=True),
        Section("Redis", "An unmodified server and redis-benchmark, payload split off by the shim and not, by the size "
                "of values. Less is better.", [_redis(results, metric) for metric in _COSTS if "sent" not in metric],
                compact=True),
        Section("On a bad wire", "How much of its goodput a stream keeps.", [_loss(results)]),
    ]


def _width(one: Measured) -> float:
    return one.amount("width")


def _payload(one: Measured) -> float:
    return one.amount("payload")


def _label(one: Measured) -> str:
    return f"{_width(one)} bytes a cycle"


def _frames(results: Results, way: str, metric: str) -> list[Measured]:
    return [one for one in results.select("zeronic", metric, f"{way}-") if _width(one) and _payload(one)]


def _sizes(points: Sequence[Measured], size: Callable[[Measured], float], title: str) -> Axis:
    return Axis(title, log=True, ticks=sorted({size(one) for one in points}))


def _rate(results: Results, way: str, word: str) -> Plot:
    points = _frames(results, way, "payload_bytes_per_cycle")
    traces = []
    for width in sorted({_width(one) for one in points}):
        for one in lines([one for one in points if _width(one) == width], _label, _payload):
            traces.append(replace(one, y=[100 * value / width for value in one.y]))
    return Plot(f"{word}: payload, of what the port carries", "The rest are headers, and cycles between frames.",
                _sizes(points, _payload, _PAYLOAD), Axis("per cent", least=0), traces,
                command("zeronic", points))


def _bubbles(results: Results, way: str, word: str) -> Plot:
    points = _frames(results, way, "bubbles_per_packet")
    return Plot(f"Cycles of a frame above its words, {word}", "Less is better.", _sizes(points, _payload, _PAYLOAD),
                Axis("cycles"), lines(points, _label, _payload), command("zeronic", points),
                [Level(1, "target")])


def _orders(results: Results) -> Plot:
    points = results.select("zeronic", "ratio_to_in_order", "window-")
    return Plot("A window of frames in another order", "Speed by that in order.", Axis("order"), Axis("times", least=0),
                bars(points, _label, lambda one: re.sub(r"^window-w\d+-", "", one.case).replace("-", " ")),
                command("zeronic", points), sideways=True)


def _lone(results: Results) -> Plot:
    points = results.select("zeronic", "cycles", "lone-")
    aims = [one.result.target for one in points if one.result.target is not None]

    def name(one: Measured) -> str:
        return re.sub(r"^lone-w\d+-\d+-", f"{_payload(one):,} bytes, ", one.case).replace("first-write", "first write")

    return Plot("A lone frame, from its last word in", "Until the first write to memory, and until its entry is there. "
                "Less is better.", Axis("until"), Axis("cycles", least=0), bars(points, _label, name),
                command("zeronic", points), [Level(aims[0], "target")] if aims else [], sideways=True)


def _cost(results: Results, metric: str) -> Plot:
    title, about, unit, is_log = _COSTS[metric]
    own = [one for one in results.select("zeronic", metric, "tcp-") if one.amount("message")]
    beside = [one for one in results.select("zeronic", f"{metric}_unsplit", "tcp-") if one.amount("message")]

    def name(one: Measured) -> str:
        mode, _, rest = one.case.split("-", 2)[2].partition("-")
        return mode + (", headers one by one" if rest else "")

    # The unsplit stream is measured beside each of the others.
    traces = [*lines(own, name, lambda one: one.amount("message")),
              *lines([one for one in beside if name(one) == "posted"], lambda one: "unsplit",
                     lambda one: one.amount("message"))]
    return Plot(title, about, _sizes([*own, *beside], lambda one: one.amount("message"), "bytes of a message"),
                Axis(unit, log=is_log, least=None if is_log else 0), traces, command("zeronic", own))


def _redis(results: Results, metric: str) -> Plot:
    title, about, unit, is_log = _COSTS[metric]
    if metric == "cpu_seconds_per_gb":
        title, about = "Processor time of the server", "User and system."
    points = [one for which in (metric, f"{metric}_unsplit") for one in results.select("zeronic", which, "redis-")
              if one.amount("value")]
    traces = lines(points, lambda one: f"{one.case.split('-')[1].upper()}, "
                   f"{'unsplit' if one.metric.endswith('_unsplit') else 'split'}", lambda one: one.amount("value"))
    return Plot(f"Redis: {title[0].lower()}{title[1:]}", about,
                _sizes(points, lambda one: one.amount("value"), "bytes of a value"),
                Axis(unit, log=is_log, least=None if is_log else 0), traces, command("zeronic", points))


def _loss(results: Results) -> Plot:
    points = [one for one in results.select("zeronic", "goodput_fraction", "loss-") if one.amount("loss")]
    traces = [replace(one, x=[100 * place for place in one.x]) for one in
              lines(points, lambda one: _TRANSPORTS.get(one.case.split("-", 2)[2], one.case),
                    lambda one: one.amount("loss"))]
    if traces:
        traces.append(Trace("the paper's", [100 * loss for loss in LOSS_CURVE], list(LOSS_CURVE.values())))
    return Plot("Goodput by loss", f"Of that without loss. {LOSS_SOURCE}.", Axis("frames lost, per cent"),
                Axis("of that without loss", least=0), traces, command("zeronic", points))
