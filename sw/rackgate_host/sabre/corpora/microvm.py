# SPDX-License-Identifier: Apache-2.0
"""Memory of a microVM: QEMU's ``microvm`` machine boots a kernel with our initramfs, and its RAM is a file of ours.

The RAM is copied twice while the virtual machine stands still: when the function is warm, as it is when its snapshot
is taken, and after it has served a request. The pages in which the two copies differ are what a snapshot of the
changes holds.
"""

import base64
import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import Unavailable
from ..channel import SabreTimeout
from ..errors import SabreError
from ..userfault import PAGE

__all__ = ["Capture", "MicroVM", "find_kernel", "find_qemu", "qemu_version"]

_PACKAGE = "linux-image-cloud-amd64"
# Emulated, a counter of cycles cannot be measured against a timer on a busy machine: the kernel is told what it is.
_MACHINE = "microvm,isa-serial=on,pit=on,pic=on,acpi=off,memory-backend=ram"
_KERNEL_LINE = ("console=ttyS0", "panic=-1", "reboot=t", "quiet", "nokaslr", "norandmaps", "tsc_early_khz=2000000",
                "lpj=4000000", "no_timer_check", "PYTHONHASHSEED=0")
_GET_QEMU = "apt-get install --no-install-recommends qemu-system-x86"


def find_qemu() -> str:
    """The program. Raises :class:`~rackgate_host.errors.Unavailable` with what to install."""
    found = shutil.which("qemu-system-x86_64")
    if found is None:
        raise Unavailable(f"there is no qemu-system-x86_64 here: {_GET_QEMU}")
    return found


def qemu_version() -> str:
    """What the program says it is."""
    done = subprocess.run([find_qemu(), "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].removeprefix("QEMU emulator version ").strip()


def find_kernel(folder: Path, report: Callable[[str], None] = lambda line: None) -> Path:
    """A Debian cloud kernel: the newest of /boot, one that was fetched into ``folder`` before, or one fetched now with
    apt-get (nothing is installed). Raises :class:`~rackgate_host.errors.Unavailable` with the reason."""
    for place in (Path("/boot"), folder):
        found = sorted(place.glob("vmlinuz-*-cloud-amd64"), key=lambda path: [
            int(number) for number in re.findall(r"\d+", path.name)])
        if found:
            return found[-1]
    report(f"fetching {_PACKAGE}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        listed = _tool(["apt-cache", "depends", "--important", _PACKAGE], scratch)
        names = re.findall(r"Depends: (linux-image-\S+)", listed)
        if not names:
            raise Unavailable(f"apt knows no package {_PACKAGE}: apt-get update, or give --kernel FILE")
        _tool(["apt-get", "download", names[0]], scratch)
        package = next(Path(scratch).glob("*.deb"))
        _tool(["dpkg-deb", "--extract", str(package), scratch], scratch)
        image = next(Path(scratch).glob("boot/vmlinuz-*"))
        os.replace(image, folder / image.name)
        return folder / image.name


def _tool(command: list[str], folder: str) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"there is no kernel for a guest: {error}; give --kernel FILE") from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise Unavailable(f"there is no kernel for a guest: {command[0]} says {last[0]}; give --kernel FILE")
    return done.stdout


@dataclass(frozen=True)
class Capture:
    """``memory`` after the request, ``changed`` pages since the function was warm, ``kinds`` a letter a page (see
    :mod:`~rackgate_host.sabre.corpora.guest`), the function's ``result``, and the ``seconds`` that the boot and
    the request took here."""

    memory: np.ndarray
    changed: np.ndarray
    kinds: np.ndarray
    result: str
    seconds: dict[str, float]


class MicroVM:
    """A virtual machine of ``megabytes`` with ``kernel`` and ``initramfs``, that is gone when the block ends.

    ``accelerator`` is "tcg", which works everywhere, or "kvm". ``timeout`` bounds each wait for the guest, in seconds.
    """

    def __init__(self, kernel: Path, initramfs: bytes, parameters: dict[str, str], megabytes: int = 128,
                 accelerator: str = "tcg", timeout: float = 300.0):
        self._folder = tempfile.TemporaryDirectory(prefix="rackgate-microvm-")
        folder = Path(self._folder.name)
        (folder / "initramfs").write_bytes(initramfs)
        self._ram = folder / "ram"
        self._timeout = timeout
        self._text = bytearray()
        self._lines: list[str] = []
        # nokaslr and no hash seeds: what can be the same in each run is.
        line = " ".join([*_KERNEL_LINE, *(f"rackgate.{key}={value}" for key, value in parameters.items())])
        self._process = subprocess.Popen(
            [find_qemu(), "-machine", _MACHINE, "-accel", accelerator, "-cpu", "max",
             "-object", f"memory-backend-file,id=ram,size={megabytes}M,mem-path={self._ram},share=on",
             "-m", f"{megabytes}M", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-serial", "stdio", "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off",
             "-kernel", str(kernel), "-initrd", str(folder / "initramfs"), "-append", line],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._control: socket.socket | None = None

    def __enter__(self) -> "MicroVM":
        return self

    def __exit__(self, *error: object) -> None:
        if self._control is not None:
            self._control.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
        self._folder.cleanup()

    def capture(self, report: Callable[[str], None] = lambda line: None) -> Capture:
        """Boot, serve one request, and take the memory."""
        begin = time.monotonic()
        report("booting")
        self._until("ready")
        ready = time.monotonic()
        with self._standing():
            before = np.fromfile(self._ram, np.uint8).reshape(-1, PAGE)
        report("serving a request")
        again = time.monotonic()
        self._tell()
        result = self._until("done")
        done = time.monotonic()
        with self._standing():
            memory = np.fromfile(self._ram, np.uint8).reshape(-1, PAGE)
        self._tell()
        packed = ""
        while (word := self._next()) != "end":
            if not word.startswith("kinds "):
                raise SabreError(f"the guest said {word!r} in its list of pages")
            packed += word.removeprefix("kinds ")
        kinds = np.full(len(memory), ord("?"), np.uint8)
        told = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)[:len(kinds)]
        kinds[:len(told)] = told
        changed = np.flatnonzero((memory != before).any(axis=1))
        return Capture(memory, changed.astype(np.uint32), kinds, result,
                       {"boot": round(ready - begin, 2), "request": round(done - again, 2)})

    def _tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def _until(self, word: str) -> str:
        """What the guest says after ``word``, which must be the next that it says."""
        said = self._next()
        first, _, rest = said.partition(" ")
        if first != word:
            raise SabreError(f"the guest said {said!r}, not {word!r}")
        return rest

    def _next(self) -> str:
        """The next thing that the guest says. Raises :class:`SabreError` with its last words if it dies."""
        assert self._process.stdout is not None
        end = time.monotonic() + self._timeout
        while True:
            line, newline, rest = bytes(self._text).partition(b"\n")
            if newline:
                self._text[:] = rest
                text = line.decode(errors="replace").strip()
                self._lines.append(text)
                if text.startswith("rackgate failed"):
                    raise SabreError(f"the guest {text.removeprefix('rackgate ')}")
                if text.startswith("rackgate "):
                    return text.removeprefix("rackgate ")
                continue
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], (), (), left)[0]:
                raise SabreTimeout(f"waited {self._timeout:g} s for the guest; it last said {self._last()}")
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                errors = self._process.stderr.read().decode(errors="replace").strip() if self._process.stderr else ""
                raise SabreError(f"the guest ended: {errors or self._last()}")
            self._text += data

    def _last(self) -> str:
        return repr(self._lines[-1]) if self._lines else "nothing"

    @contextlib.contextmanager
    def _standing(self) -> Iterator[None]:
        """The guest stands still within the block."""
        self._order("stop")
        yield
        self._order("cont")

    def _order(self, command: str) -> None:
        """An order by QEMU's machine protocol: a line of JSON each way, greetings and events between."""
        if self._control is None:
            self._control = socket.socket(socket.AF_UNIX)
            self._control.settimeout(self._timeout)
            self._control.connect(str(Path(self._folder.name) / "qmp"))
            self._answers = self._control.makefile("rb")
            self._order("qmp_capabilities")
        self._control.sendall(json.dumps({"execute": command}).encode())
        for line in self._answers:
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise SabreError(f"QEMU refuses {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return
        raise SabreError(f"QEMU ended instead of {command}")
