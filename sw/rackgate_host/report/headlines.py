# SPDX-License-Identifier: Apache-2.0
"""Our figure beside each paper's headline, taken from the records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .papers import HEADLINES, Headline
from .records import Measured, Results
from .words import conditions_of, number

__all__ = ["Beside", "Ours", "beside"]


#: Messages of 64 KB on posted segments.
_STREAM = "tcp-65536-posted"


@dataclass(frozen=True)
class Ours:
    """Our figure.

    Attributes
    ----------
    figure:
        As text, with its unit.
    value:
        What is compared with the paper's number; None where the measures are not the same. Of a range it is the lower
        end, and ``upper`` the other.
    about:
        What was measured, and what else the records say of it.
    points:
        The points that the figure comes from, the first of which says under which conditions.
    shown:
        Names of the conditions that matter.
    """

    figure: str
    about: str
    points: Sequence[Measured]
    value: float | None = None
    upper: float | None = None
    shown: Sequence[str] = ()

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """Names and values of the conditions that matter."""
        return conditions_of(self.points[0].result.conditions, self.shown)


@dataclass(frozen=True)
class Beside:
    """A published headline with our figure, or without one."""

    headline: Headline
    ours: Ours | None

    @property
    def verdict(self) -> str:
        """How the two compare: ``reached``, ``within`` (the paper's range, not up to its end), ``short``, ``other``
        (not the same measure), ``missing`` (not measured here), ``beyond`` (nothing here can)."""
        if self.ours is None:
            return "missing" if self.headline.command else "beyond"
        published, own = self.headline.value, self.ours.value
        if published is None or own is None:
            return "other"
        if self.headline.less_is_better:
            return "reached" if own <= published else "short"
        if own < published:
            return "short"
        most, own_most = self.headline.upper, self.ours.upper
        return "within" if most is not None and own_most is not None and own_most < most else "reached"


def _most(points: Iterable[Measured]) -> Measured | None:
    return max(points, key=_value, default=None)


def _least(points: Iterable[Measured]) -> Measured | None:
    return min(points, key=_value, default=None)


def _value(point: Measured) -> float:
    assert point.value is not None
    return point.value


def _ratio(results: Results) -> Ours | None:
    points = results.select("sabre", "compression_ratio", "ratio-")
    best, worst = _most(points), _least(points)
    if best is None or worst is None:
        return None
    about = (f"best of {len(points)} functions ({best.case.removeprefix('ratio-')}); the least is "
             f"{number(worst.value)} ({worst.case.removeprefix('ratio-')}). Pages that a request has changed, by the "
             "size of the whole file")
    return Ours(f"{number(best.value)} times", about, [best, worst], best.value,
                shown=("origin", "pages", "window", "level"))


def _restore(results: Results) -> Ours | None:
    serial = results.find("sabre", "restore-best", "saving_percent_serial")
    if serial is None:
        return None
    about = f"one stage after the other, as the paper's ({serial.condition('of')})"
    pipelined = results.find("sabre", "restore-best", "saving_percent_pipelined")
    if pipelined is not None:
        about += f"; pipelined {number(pipelined.value)} % ({pipelined.condition('of')})"
    worst = results.find("sabre", "restore-worst", "saving_percent_serial")
    if worst is not None:
        about += f". At worst {number(worst.value)} % ({worst.condition('of')}): compression does not always pay"
    shown = ("timing", "storage_gb_per_s", "clock_mhz", "clock_source", "origin", "pages")
    return Ours(f"{number(serial.value)} %", about, [serial], serial.value, shown=shown)


def _median(results: Results) -> Ours | None:
    least, most = (results.find("locks", case, "median_grant_cut_percent") for case in ("micro-least", "micro-most"))
    if least is None or most is None:
        return None
    about = f"least with {least.condition('of')}, most with {most.condition('of')}; simulated cluster"
    return Ours(f"{number(least.value)} to {number(most.value)} %", about, [least, most], least.value, most.value,
                ("clock_mhz", "link_ns", "operations", "netlock_locks"))


def _transactions(case: str) -> Callable[[Results], Ours | None]:
    def find(results: Results) -> Ours | None:
        point = results.find("locks", case, "throughput_ratio_netlock")
        if point is None:
            return None
        server = results.find("locks", case, "throughput_ratio_server")
        about = "simulated cluster" + ("" if server is None else f"; over one server {number(server.value)} times")
        return Ours(f"{number(point.value)} times", about, [point], point.value,
                    shown=("clock_mhz", "link_ns", "operations", "span_ns"))

    return find


def _locks(results: Results) -> Ours | None:
    point = results.find("locks", "fissfused", "locks_simulated")
    if point is None:
        return None
    return Ours(f"{number(point.value)} locks", point.result.source, [point], point.value, shown=("word", "every"))


def _bound(results: Results) -> Ours | None:
    points = [one for one in results.select("collectives", "fraction_of_bound", "allreduce-p")
              if one.amount("ranks") and one.amount("bytes")]
    if not points:
        return None
    ranks = 8 if any(one.amount("ranks") == 8 for one in points) else max(one.amount("ranks") for one in points)
    best = max((one for one in points if one.amount("ranks") == ranks), key=lambda one: one.amount("bytes"))
    about = f"allreduce, of what the links allow; {number(ranks)} ranks, {number(best.condition('bytes'))} bytes"
    peer = results.find("collectives", best.case, "peer_cycles_ratio")
    if peer is not None:
        about += f". ACCL's own algorithm takes {number(peer.value)} times our cycles on the same engines"
    return Ours(f"{number(100 * _value(best))} %", about, [best],
                shown=("device", "link_latency", "width", "segment", "slots"))


def _programs(results: Results) -> Ours | None:
    points = [one for one in results.select("collectives", "cycles", "peer-") if one.condition("algorithm")]
    names = {str(one.condition("algorithm")) for one in points}
    if not names:
        return None
    about = "ACCL's own, loaded into running engines and measured there: no gateware was built for them"
    return Ours(f"{len(names)} algorithms", about, points, shown=("device", "link_latency"))


def _nop(results: Results) -> Ours | None:
    point = results.find("collectives", "nop", "cycles")
    if point is None:
        return None
    return Ours(f"{number(point.value)} cycles", point.result.source, [point], point.value, shown=("device", "width"))


def _wire(results: Results) -> Ours | None:
    points = [one for one in results.select("zeronic", "payload_bytes_per_cycle", "rx-") if one.amount("width")]
    best = max(points, key=lambda one: (_value(one) / one.amount("width"), -one.amount("width")), default=None)
    if best is None:
        return None
    about = f"payload that the NIC places, of what its port carries; {number(best.condition('payload'))} bytes a " \
            "frame, no transport in the way"
    return Ours(f"{number(100 * _value(best) / best.condition('width'))} %", about, [best],
                shown=("width", "payload", "memory_latency"))


def _cpu(results: Results) -> Ours | None:
    ratio = results.find("zeronic", _STREAM, "cpu_ratio_unsplit_to_split")
    if ratio is None:
        return None
    about = "processor time of both applications by byte of payload, unsplit by split, on posted segments: below 1 " \
            "the split stream costs more. That of the hosts' daemons, which simulate the NICs, is not in it"
    return Ours(f"{number(ratio.value)} times", about, [ratio], shown=("device", "message", "total"))


def _copies(results: Results) -> Ours | None:
    point = results.find("zeronic", _STREAM, "cpu_copied_bytes_per_payload_byte")
    if point is None:
        return None
    shim = results.find("zeronic", _STREAM.replace("posted", "shim"), point.metric)
    about = "bytes copied a byte of payload, both ends, on posted segments"
    if shim is not None:
        about += f"; by unmodified programs {number(shim.value)}, one at each end"
    return Ours(f"{number(point.value)} bytes", about, [point], point.value, shown=("device", "message", "total"))


def _redis(results: Results) -> Ours | None:
    points = results.select("zeronic", "cpu_ratio_unsplit_to_split", "redis-set-")
    best, worst = _most(points), _least(points)
    if best is None or worst is None:
        return None
    about = f"processor time of the server by byte of values, unsplit by split: {number(worst.value)} to " \
            f"{number(best.value)} by size; below 1 split costs more. Requests a second through simulated NICs would " \
            "say how fast the simulation is"
    return Ours(f"{number(best.value)} times", about, [best], shown=("value", "clients", "pipeline", "device"))


_FINDERS: Mapping[str, Callable[[Results], Ours | None]] = {
    "sabre-ratio": _ratio, "sabre-restore": _restore,
    "fisslock-median": _median, "fisslock-tatp": _transactions("tatp"), "fisslock-tpcc": _transactions("tpcc"),
    "fisslock-locks": _locks,
    "accl-bound": _bound, "accl-programs": _programs, "accl-nop": _nop,
    "zeronic-wire": _wire, "zeronic-cpu": _cpu, "zeronic-copies": _copies,
    "zeronic-redis": _redis,
}


def beside(results: Results, headlines: Iterable[Headline] = HEADLINES) -> list[Beside]:
    """Each headline with our figure, or with None where the records have none."""
    return [Beside(one, _FINDERS[one.key](results) if one.key in _FINDERS else None) for one in headlines]
