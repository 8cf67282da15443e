# SPDX-License-Identifier: Apache-2.0
"""A folder of workloads: memory of each function, which of its pages a request has changed, and where all came from.

``corpus.json`` holds one entry a workload with the SHA-256 of its files; ``NAME.ram`` the memory (sparse where it is
zero), ``NAME.kinds`` a letter a page (a: anonymous, f: file, k: kernel, z: free, ?: unknown), and ``NAME.changed`` page
numbers of 4 bytes, little-endian.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RackgateError, Unavailable, UsageError
from ..errors import SabreError
from ..userfault import PAGE
from . import initramfs, microvm
from .functions import FUNCTIONS
from .process import capture_process

__all__ = ["KIND_NAMES", "Corpus", "Workload", "from_process", "guest_image", "make"]

#: What the letters of page kinds mean.
KIND_NAMES = {"a": "anonymous", "f": "file", "k": "kernel", "z": "free", "?": "unknown"}
_MANIFEST = "corpus.json"
_PIECE = 1 << 20


@dataclass(frozen=True)
class Workload:
    """Memory that a function has left. ``about`` says where it came from: ``origin`` is "microvm" or "process"."""

    name: str
    memory: np.ndarray
    kinds: np.ndarray
    changed: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)

    def shares(self, pages: np.ndarray | None = None) -> dict[str, float]:
        """Per cent of pages by what they are for and of those that are zero and that repeat an earlier one. ``pages``
        are numbers; all if left out."""
        numbers = np.arange(len(self.memory)) if pages is None else pages
        found = {f"{name}_percent": float(np.mean(self.kinds[numbers] == ord(letter)) * 100)
                 for letter, name in KIND_NAMES.items()}
        seen: set[bytes] = set()
        zero = repeated = 0
        for number in numbers.tolist():
            page = self.memory[number]
            if not page.any():
                zero += 1
                continue
            digest = hashlib.blake2b(page, digest_size=16).digest()
            repeated += digest in seen
            seen.add(digest)
        count = max(len(numbers), 1)
        return {**found, "zero_percent": zero * 100 / count, "duplicate_percent": repeated * 100 / count}

    def in_use(self) -> np.ndarray:
        """Numbers of the pages that are not zero and that the guest had not given back."""
        return np.flatnonzero(self.memory.any(axis=1) & (self.kinds != ord("z")))

    @staticmethod
    def spread(numbers: np.ndarray, limit: int) -> np.ndarray:
        """All of ``numbers``, or so many runs of 16 of them as ``limit`` has room for, spread evenly."""
        if len(numbers) <= limit:
            return numbers
        run = min(16, limit)
        starts = np.linspace(0, len(numbers) - run, limit // run).astype(np.int64)
        return numbers[np.unique((starts[:, None] + np.arange(run)).ravel())]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_sparse(path: Path, memory: np.ndarray) -> None:
    """Write pages; runs of zeros become holes."""
    flat = memory.reshape(-1)
    with path.open("wb") as file:
        for start in range(0, len(flat), _PIECE):
            piece = flat[start:start + _PIECE]
            if piece.any():
                file.seek(start)
                file.write(piece.data)
        file.truncate(len(flat))


class Corpus:
    """An opened folder."""

    def __init__(self, folder: Path, manifest: dict[str, Any]):
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "Corpus":
        """Read the list. Raises :class:`~rackgate_host.errors.UsageError` if there is none."""
        path = Path(folder) / _MANIFEST
        try:
            manifest = json.loads(path.read_text())
            names = [entry["name"] for entry in manifest["workloads"]]
        except FileNotFoundError:
            raise UsageError(f"{folder} holds no corpus: rackgate sabre corpus make {folder}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise SabreError(f"{path} is no list of workloads: {error!r}") from None
        if not all(isinstance(name, str) and name in FUNCTIONS for name in names):
            raise SabreError(f"{path} names a workload that there is not: {names}")
        return cls(Path(folder), manifest)

    @property
    def names(self) -> list[str]:
        """Names of the workloads."""
        return [entry["name"] for entry in self.manifest["workloads"]]

    def load(self, name: str, check: bool = False) -> Workload:
        """A workload, mapped and not read; with ``check`` its hashes are compared first. Raises
        :class:`~rackgate_host.sabre.errors.SabreError` for files that are not those that were made."""
        entry = next((entry for entry in self.manifest["workloads"] if entry["name"] == name), None)
        if entry is None:
            raise UsageError(f"there is no workload {name!r} in {self.folder}; there are {', '.join(self.names)}")
        places = {part: self.folder / f"{name}.{part}" for part in ("ram", "kinds", "changed")}
        if check:
            for part, path in places.items():
                if _digest(path) != entry["sha256"][part]:
                    raise SabreError(f"{path} is not the file that was made: its SHA-256 differs from {_MANIFEST}'s")
        memory = np.memmap(places["ram"], np.uint8, mode="r").reshape(-1, PAGE)
        kinds = np.fromfile(places["kinds"], np.uint8)
        changed = np.fromfile(places["changed"], "<u4")
        if len(kinds) != len(memory) or len(changed) and int(changed.max()) >= len(memory):
            raise SabreError(f"{self.folder}: the files of {name} do not go together")
        return Workload(name, memory, kinds, changed, entry)

    @classmethod
    def add(cls, folder: Path, workload: Workload) -> "Corpus":
        """Write a workload's files and enter it into the list; one of the same name is replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        places = {part: folder / f"{workload.name}.{part}" for part in ("ram", "kinds", "changed")}
        _write_sparse(places["ram"], workload.memory)
        workload.kinds.tofile(places["kinds"])
        workload.changed.astype("<u4").tofile(places["changed"])
        entry = {"name": workload.name, **workload.about, "pages": len(workload.memory),
                 "pages_not_zero": int(workload.memory.any(axis=1).sum()), "pages_changed": len(workload.changed),
                 "sha256": {part: _digest(path) for part, path in places.items()}}
        try:
            others = [other for other in cls.open(folder).manifest["workloads"] if other["name"] != workload.name]
        except UsageError:
            others = []
        manifest = {"version": 1, "workloads": sorted([*others, entry], key=lambda one: one["name"])}
        part = folder / f".{_MANIFEST}"
        part.write_text(json.dumps(manifest, indent=2) + "\n")
        part.replace(folder / _MANIFEST)
        return cls(folder, manifest)


def guest_image() -> bytes:
    """The initramfs with this machine's Python, the functions, and the program that runs them."""
    here = Path(__file__).parent
    files, interpreter = initramfs.python_files(here, ("guest", "functions"))
    program = f"#!{interpreter} -S\n".encode() + (here / "guest.py").read_bytes()
    return initramfs.archive([*files, ("functions.py", (here / "functions.py").read_bytes(), 0o644),
                              ("init", program, 0o755)])


def from_process(name: str, seed: int = 1, why: str = "") -> Workload:
    """The workload as a process of this machine; ``why`` it is no microVM."""
    memory, kinds, result = capture_process(name, seed)
    changed = np.flatnonzero(kinds == ord("a")).astype(np.uint32)
    return Workload(name, memory, kinds, changed, {"origin": "process", "why": why, "seed": seed, "result": result,
                                                  "python": platform.python_version()})


def make(folder: Path, names: Iterable[str], *, origin: str = "auto", seed: int = 1, megabytes: int = 128,
         accelerator: str = "tcg", kernel: Path | None = None, kernels: Path | None = None, timeout: float = 300.0,
         report: Callable[[str], None] = lambda line: None, warn: Callable[[str], None] = lambda line: None,
         progress: Callable[[int, int], None] = lambda done, of: None) -> Corpus:
    """Make workloads and keep them in ``folder``.

    ``origin`` is "microvm", "process", or "auto": microVMs, and a process with the reason told to ``warn`` where one
    cannot be had. ``kernel`` is the guest's, else one is looked for and fetched into ``kernels``.
    """
    wanted = list(names)
    for name in wanted:
        if name not in FUNCTIONS:
            raise UsageError(f"there is no workload {name!r}; there are {', '.join(FUNCTIONS)}")
    if origin not in ("auto", "microvm", "process"):
        raise UsageError(f"origin must be auto, microvm or process, not {origin!r}")
    if not wanted:
        raise UsageError("there must be at least one workload to make")
    why, image, version = "asked for", b"", ""
    if origin != "process":
        try:
            version, image = microvm.qemu_version(), guest_image()
            kernel = kernel or microvm.find_kernel(kernels or folder, report)
            why = ""
        except Unavailable as error:
            if origin == "microvm":
                raise
            why = str(error)
            warn(f"no microVM: {why}")
    made: Corpus | None = None
    for number, name in enumerate(wanted):
        workload = None
        if not why and kernel is not None:
            try:
                with microvm.MicroVM(kernel, image, {"function": name, "seed": str(seed)}, megabytes, accelerator,
                                     timeout) as machine:
                    took = machine.capture(lambda line, name=name: report(f"{name}: {line}"))
            except (RackgateError, OSError) as error:
                if origin == "microvm":
                    raise
                why = str(error)
                warn(f"no microVM: {why}")
            else:
                about = {"origin": "microvm", "seed": seed, "result": took.result, "qemu": version,
                         "kernel": kernel.name, "python": platform.python_version(), "accelerator": accelerator,
                         "megabytes": megabytes, "seconds": took.seconds}
                workload = Workload(name, took.memory, took.kinds, took.changed, about)
        if workload is None:
            report(f"{name}: running it in a process")
            workload = from_process(name, seed, why)
        made = Corpus.add(folder, workload)
        progress(number + 1, len(wanted))
    assert made is not None
    return made
