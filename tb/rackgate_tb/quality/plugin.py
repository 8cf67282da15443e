# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest that puts an engine with faults, or one that counts coverage, in the place of the engine.

Which is said by the environment, as :mod:`.run` sets it: ``RACKGATE_QUALITY`` is the path of a JSON object with
``engine`` and one of: ``record``, a file that the engine's Verilog is written to; ``faults``; ``coverage``, a folder to
write to. Only models of that name are changed, and everything else is as it always is.
"""

import importlib
import itertools
import json
import os
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest

from rackgate_sim import native

from .faults import Fault, locate, plant

__all__ = ["SETTING", "pytest_configure"]

SETTING = "RACKGATE_QUALITY"

# The package's attribute of that name is the function.
_BUILD = importlib.import_module("rackgate_sim.native.build")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test is imported."""
    setting = json.loads(Path(os.environ[SETTING]).read_text())
    if "record" in setting:
        _record(setting["engine"], Path(setting["record"]))
    elif "faults" in setting:
        _plant_faults(setting["engine"], [Fault(**fault) for fault in setting["faults"]])
    else:
        _count_coverage(setting["engine"], Path(setting["coverage"]))


def _record(engine: str, file: Path) -> None:
    export = _BUILD._export

    def recorded(component: Any, name: str, *rest: Any) -> str:
        text = export(component, name, *rest)
        if name == engine and not file.exists():
            file.write_text(text)
        return text

    _BUILD._export = recorded


def _plant_faults(engine: str, faults: list[Fault]) -> None:
    export = _BUILD._export

    def planted(component: Any, name: str, *rest: Any) -> str:
        text = export(component, name, *rest)
        return plant(text, locate(text, faults)) if name == engine else text

    _BUILD._export = planted


def _count_coverage(engine: str, folder: Path) -> None:
    """Build the engine with coverage; each simulation writes what it has covered when it is closed or forgotten."""
    build, start = native.build, native.Simulation.__init__
    numbers = itertools.count()

    def covered(component: Any, *, name: str, variant: str = "fast", **rest: Any) -> native.Library:
        return build(component, name=name, variant="coverage" if name == engine else variant, **rest)

    def started(simulation: native.Simulation, library: native.Library, **options: Any) -> None:
        start(simulation, library, **options)
        if library.variant == "coverage":
            place = folder / f"{os.getpid()}-{next(numbers)}"
            place.with_suffix(".library").write_bytes(pickle.dumps(library))
            handle = simulation.handle
            simulation._finalizer.detach()
            simulation._finalizer = weakref.finalize(simulation, _end, simulation._lib, handle,
                                                     place.with_suffix(".dat"))

    native.build = covered
    native.Simulation.__init__ = started


def _end(library: Any, handle: int, place: Path) -> None:
    library.rg_coverage(handle, os.fsencode(place))
    library.rg_free(handle)
