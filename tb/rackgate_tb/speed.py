# SPDX-License-Identifier: Apache-2.0
"""``rackgate bench cosim``: simulated cycles a second of one design under one traffic, on four simulators.

Each case runs in a process of its own, one after the other: Amaranth's simulator, cocotb as its runner builds a
design, cocotb with only the top's ports public, and the native simulation with the host's driver. Jobs, their order
and the memory's latency are the same; how many jobs are done follows from the time given.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rackgate.inflate.top import Inflate
from rackgate_sim.inflate.pages import anonymous_pages

from .speed_host import IN_FLIGHT, INPUTS, LATENCY, OUTPUTS, WRITE_LATENCY, Host, compress

__all__ = ["CASES", "run"]

_PAGES = 8
#: Case: cycles a second aimed at. No floors: what a clock on the wall says depends on the machine.
CASES: Mapping[str, float | None] = {"pysim": None, "cocotb-default": None, "cocotb-tight": 50e3, "native": 1e6}
_RATIO_TARGET = 20
_MOST_OF_ERROR = 300  # characters


def _pysim(design: Mapping[str, int], pages: list[bytes], seconds: float) -> Mapping[str, float]:
    from amaranth.sim import Simulator

    device = Inflate(**design)
    simulator = Simulator(device)
    simulator.add_clock(1e-8)

    def pin(name: str) -> Any:
        value = device
        for part in name.split("__"):
            value = getattr(value, part)
        return value.as_value() if hasattr(value, "as_value") else value

    inputs, outputs = [pin(name) for name in INPUTS], {name: pin(name) for name in OUTPUTS}
    sampled: dict[str, int] = {}
    result: dict[str, float] = {}

    async def testbench(ctx: Any) -> None:
        host = Host(device.mem.signature.id_width, pages, seconds, lambda name: sampled[name],
                    lambda name, value: ctx.set(outputs[name], value))
        host.start()
        while not host.done:
            _, _, *values = await ctx.tick().sample(*inputs)
            sampled.update(zip(INPUTS, values, strict=True))
            host.step()
        result.update(host.result())

    simulator.add_testbench(testbench)
    simulator.run()
    return result


def _cocotb(design: Mapping[str, int], pages: list[bytes], seconds: float, lean: bool) -> Mapping[str, float]:
    from .launch import run as launch

    outcome = launch(Inflate, name="inflate_speed", module="rackgate_tb.bench_cosim", parameters=dict(design),
                     options={"pages": [page.hex() for page in pages], "seconds": seconds,
                              "id_width": Inflate(**design).mem.signature.id_width},
                     lean=lean, limit=10 * seconds + 120)
    return {**outcome.report, "build_seconds": outcome.build_s}


def _native(design: Mapping[str, int], pages: list[bytes], seconds: float) -> Mapping[str, float]:
    import numpy as np

    import rackgate_host
    from rackgate_host.inflate import InflateDriver, Job

    begin = time.perf_counter()
    with rackgate_host.open("sim:inflate", latency=LATENCY, write_latency=WRITE_LATENCY, **design) as device:
        built = time.perf_counter() - begin
        driver = InflateDriver.of(device)
        sources = []
        for page in pages:
            stream = compress(page)
            source = device.allocate(len(stream))
            source[:] = np.frombuffer(stream, np.uint8)
            sources.append((source, np.frombuffer(page, np.uint8)))
        free = [device.allocate(len(pages[0])) for _ in range(IN_FLIGHT)]
        flying: deque = deque()
        jobs, start, cpu, begin = 0, device.cycles, time.process_time(), time.perf_counter()
        for source, page in itertools.cycle(sources):
            if time.perf_counter() - begin < seconds:
                destination = free.pop()
                flying.append((*driver.submit(Job(source, destination)), destination, page))
            if not flying:
                break
            if free and time.perf_counter() - begin < seconds:
                continue
            handle, destination, page = flying.popleft()
            if handle.wait(cycles=1_000_000).status != 1 or not np.array_equal(destination, page):
                raise RuntimeError(f"job {jobs} did not come out as it went in")
            free.append(destination)
            jobs += 1
        return {"cycles": device.cycles - start, "seconds": time.perf_counter() - begin,
                "cpu_seconds": time.process_time() - cpu, "jobs": jobs, "build_seconds": built}


_RUNNERS: Mapping[str, Callable[[Mapping[str, int], list[bytes], float], Mapping[str, float]]] = {
    "pysim": _pysim,
    "cocotb-default": lambda design, pages, seconds: _cocotb(design, pages, seconds, False),
    "cocotb-tight": lambda design, pages, seconds: _cocotb(design, pages, seconds, True),
    "native": _native,
}


def _measure(case: str, design: Mapping[str, int], seconds: float, limit: float) -> Mapping[str, Any]:
    """A case in a process of its own: its result, or why there is none."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-m", __name__, case, json.dumps(dict(design)), str(seconds)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        output, errors = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return {"why": f"building and running took more than {limit:g} s"}
    if child.returncode:
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "it said nothing")
        return {"why": f"it failed: {last[:_MOST_OF_ERROR]}"}
    return json.loads(output.splitlines()[-1])


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, contexts: int = 1, window: int = 4096,
        lanes: int = 8, seconds: float = 10.0, limit: float = 900.0, only: str = "") -> Iterator[dict[str, Any]]:
    """Measure the cases; points as :class:`rackgate_host.bench.record.Result` has them.

    Parameters
    ----------
    contexts, window, lanes:
        The design, the same for all. A small one by default: cocotb's own build makes every signal public, and
        takes very long for the whole engine.
    seconds:
        Wall-clock time of the traffic of each case.
    limit:
        Wall-clock time of each case with its build; what takes longer has no value.
    only:
        Cases to measure, with commas; all by default.
    """
    chosen = [case for case in only.split(",") if case] or list(CASES)
    for case in chosen:
        if case not in CASES:
            raise ValueError(f"only must name cases among {', '.join(CASES)}, not {case!r}")
    for name, value in (("seconds", seconds), ("limit", limit)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, not {value}")
    design = {"contexts": contexts, "window": window, "lanes": lanes}
    common = {"component": "inflate", **design, "pages": _PAGES, "in_flight": IN_FLIGHT, "memory_latency": LATENCY,
              "memory_write_latency": WRITE_LATENCY}
    speeds: dict[str, float] = {}
    for case in chosen:
        report(f"{case}: building and running, at most {limit:g} s")
        measured = dict(_measure(case, design, seconds, limit))
        why = measured.pop("why", "")
        if not why:
            speeds[case] = measured["cycles"] / measured["seconds"]
        yield {"case": case, "metric": "cycles_per_second", "value": speeds.get(case), "unit": "cycle/s",
               "floor": None, "target": CASES[case], "conditions": {**common, **measured}, "why": why,
               "source": "4 KB pages of a Python process, zlib -6, compared"}
    if {"native", "cocotb-default"} <= set(chosen):
        both = {"native", "cocotb-default"} <= set(speeds)
        yield {"case": "native", "metric": "ratio_to_cocotb_default",
               "value": speeds["native"] / speeds["cocotb-default"] if both else None, "unit": "1",
               "floor": None, "target": _RATIO_TARGET, "conditions": common,
               "why": "" if both else "native or cocotb-default was not measured in this run",
               "source": "the two cases of this run"}


def _main() -> None:
    parser = argparse.ArgumentParser(description="Run one case and print its result as JSON.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("design", type=json.loads)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    try:
        result = _RUNNERS[given.case](given.design, anonymous_pages(_PAGES), given.seconds)
    except ModuleNotFoundError as error:
        sys.exit(f"the package of {error.name} is missing: pip install 'rackgate[bench]'; `make bench` does it")
    print(json.dumps(dict(result)))


if __name__ == "__main__":
    _main()
