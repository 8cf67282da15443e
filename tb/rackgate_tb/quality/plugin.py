# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest that puts an engine with faults, or one that counts coverage, in the place of the engine.

Which is said by the environment, as :mod:`.run` sets it: ``RACKGATE_QUALITY`` is the path of a JSON object with
``engine`` and one of: ``record``, a file that the engine's Verilog is written to, which ends the run; ``faults``, with
``verdicts`` and ``budget`` (see :class:`.Server`); ``coverage``, a folder to write to. Only models of that name are
changed, and everything else is as it always is.
"""

import hashlib
import importlib
import itertools
import json
import os
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest

from rackgate import export
from rackgate_sim import native

from .faults import Fault, locate, plant
from .serve import Server

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
        _remember_verilog(Path(setting["verdicts"]).parent / "verilog")
        config.pluginmanager.register(Server(len(setting["faults"]), Path(setting["verdicts"]),
                                             budget=setting["budget"]))
    else:
        _count_coverage(setting["engine"], Path(setting["coverage"]))


def _record(engine: str, file: Path) -> None:
    write = _BUILD._export

    def recorded(component: Any, name: str, *rest: Any) -> str:
        text = write(component, name, *rest)
        if name == engine:
            file.write_text(text)
            pytest.exit("recorded", returncode=0)
        return text

    _BUILD._export = recorded


def _plant_faults(engine: str, faults: list[Fault]) -> None:
    write = _BUILD._export

    def planted(component: Any, name: str, *rest: Any) -> str:
        text = write(component, name, *rest)
        return plant(text, locate(text, faults)) if name == engine else text

    _BUILD._export = planted


def _remember_verilog(folder: Path) -> None:
    """Keep what Yosys writes, by what it was given: a model without a key is exported again in each run."""
    find = export.find_yosys
    folder.mkdir(parents=True, exist_ok=True)

    def found(requirement: Any) -> Any:
        yosys = find(requirement)

        class Remembers:
            @staticmethod
            def run(arguments: list[str], script: str, **options: Any) -> str:
                place = folder / hashlib.sha256(script.encode()).hexdigest()
                if not place.exists():
                    place.write_text(yosys.run(arguments, script, **options))
                return place.read_text()

        return Remembers

    export.find_yosys = found


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
