# SPDX-License-Identifier: Apache-2.0
"""The page of collectives."""

from collections.abc import Sequence

from ..papers import HEADLINES
from ..plots import Axis, Level, Plot, Section, Trace, bars, command, lines
from ..records import Measured, Results

__all__ = ["sections"]

_SIZE_TITLE = "bytes of the call"


def sections(results: Results) -> Sequence[Section]:
    """What the page shows."""
    return [
        Section("Of what the links allow", "Cycles that the best algorithm needs on these links, by the cycles that "
                "ours took: 100 % is the bound. By the size of the call and the number of ranks.",
                _fractions(results), compact=True),
        Section("Beside ACCL's algorithms", "The algorithms of ACCL's firmware, loaded into the same engines on the "
                "same links. They compare algorithms, and say nothing of its hardware.",
                [_allreduce(results), _peer(results, "peer_cycles_ratio", "cycles", "Cycles"),
                 _peer(results, "peer_bytes_ratio", "bytes", "Bytes at the busiest port")]),
        Section("Latency", "Cycles of single calls and hops.", [_latencies(results)]),
    ]


def _size(one: Measured) -> float:
    return one.amount("bytes")


def _ranks(one: Measured) -> float:
    return one.amount("ranks")


def _operation(one: Measured) -> str:
    return one.case.rsplit("-p", 1)[0]


def _sizes(points: Sequence[Measured]) -> Axis:
    return Axis(_SIZE_TITLE, log=True, ticks=sorted({_size(one) for one in points}))


def _sized(results: Results, metric: str) -> list[Measured]:
    """Points of an operation at a size, those without bytes left out."""
    return [one for one in results.select("collectives", metric) if _size(one) and _ranks(one)]


def _fractions(results: Results) -> list[Plot]:
    points = _sized(results, "fraction_of_bound")
    plots = []
    for operation in dict.fromkeys(map(_operation, points)) or ("",):
        of = [one for one in points if _operation(one) == operation]
        traces = [Trace(one.name, one.x, [100 * value for value in one.y])
                  for one in lines(sorted(of, key=_ranks), lambda one: f"{_ranks(one)} ranks", _size)]
        title = f"{operation}: fraction of the bound" if operation else "Fraction of the bound"
        plots.append(Plot(title, "", _sizes(of), Axis("per cent", least=0), traces,
                          command("collectives", of), [Level(100, "bound, per cent")]))
    return plots


def _most_ranks(points: Sequence[Measured]) -> float:
    ranks = {_ranks(one) for one in points}
    return 8 if 8 in ranks else max(ranks, default=0)


def _allreduce(results: Results) -> Plot:
    points = [one for one in _sized(results, "cycles") if _operation(one) in ("allreduce", "peer-allreduce")]
    ranks = _most_ranks(points)
    of = [one for one in points if _ranks(one) == ranks]
    names = {"allreduce": "ours", "peer-allreduce": "ACCL's algorithm"}
    return Plot("Allreduce: cycles", f"{ranks} ranks. Less is better." if of else "Less is better.", _sizes(of),
                Axis("cycles", log=True), lines(of, lambda one: names[_operation(one)], _size),
                command("collectives", of))


def _peer(results: Results, metric: str, what: str, title: str) -> Plot:
    points = _sized(results, metric)
    ranks = _most_ranks(points)
    of = [one for one in points if _ranks(one) == ranks]
    return Plot(f"{title} of ACCL's algorithms, over ours", f"{ranks} ranks. Above 1 ours takes fewer {what}." if of
                else f"Above 1 ours takes fewer {what}.", _sizes(of), Axis("times", least=0),
                lines(of, _operation, _size), command("collectives", of), [Level(1, "as many")])


def _latencies(results: Results) -> Plot:
    points = [one for one in results.select("collectives", "cycles")
              if one.case in ("nop", "hop", "hop-reduce", "hop-control") or one.case.startswith("small-")]
    aims = [one for one in points if one.result.target is not None]
    traces = bars(points, lambda one: "measured", lambda one: one.case)
    if aims:
        traces.append(Trace("target", [one.case for one in aims], [one.result.target or 0 for one in aims], "point", 1,
                            1))
    peer = next(one for one in HEADLINES if one.key == "accl-nop")
    return Plot("Calls, hops, and collectives of 64 bytes", "A call that does nothing takes ACCL's firmware "
                f"{peer.figure} ({peer.place}). Less is better.", Axis("case"), Axis("cycles", least=0), traces,
                command("collectives", points), sideways=True)
