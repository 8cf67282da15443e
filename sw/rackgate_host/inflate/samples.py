# SPDX-License-Identifier: Apache-2.0
"""Real data for a run without files: what lies in the checkout and on the machine, compressed here."""

import random
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

from rackgate.inflate.abi import Format
from rackgate.paths import checkout

__all__ = ["samples"]

_SIZE = 1 << 18
_WBITS = {Format.RAW: -15, Format.ZLIB: 15, Format.GZIP: 31}


def _sources() -> bytes:
    top = checkout() or Path(sysconfig.get_paths()["stdlib"])
    content = b""
    for path in sorted(top.glob("*/**/*.py") if checkout() else top.glob("*.py")):
        if len(content) < _SIZE:
            content += path.read_bytes()
    return content


def _first(*places: str | Path | None) -> bytes:
    """The beginning of the first of ``places`` that can be read, or nothing."""
    for place in places:
        try:
            with open(place or "", "rb") as file:
                return file.read(_SIZE)
        except OSError:
            continue
    return b""


def _memory() -> bytes:
    """Pages of this process's own heap."""
    try:
        with open("/proc/self/maps", encoding="ascii") as maps, open("/proc/self/mem", "rb") as memory:
            for line in maps:
                if line.rstrip().endswith("[heap]"):
                    begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                    memory.seek(begin)
                    return memory.read(min(end - begin, _SIZE))
    except OSError:
        pass
    return b""


def samples() -> Iterator[tuple[str, bytes, Format]]:
    """Names, compressed data and formats: source text, machine code, a process's memory, a word list, random bytes."""
    library = sysconfig.get_config_var("LDLIBRARY")
    folder = sysconfig.get_config_var("LIBDIR")
    code = _first(sys.executable)
    if len(code) < _SIZE // 4 and library and folder:  # a small program in front of a shared library
        code = _first(Path(folder) / library) or code
    text, usual = _sources()[:_SIZE], zlib.Z_DEFAULT_STRATEGY
    found = (
        ("Python source, zlib -6", text, Format.ZLIB, 6, usual),
        ("machine code, gzip -9", code, Format.GZIP, 9, usual),
        ("process memory, raw -6", _memory(), Format.RAW, 6, usual),
        ("word list, gzip -1", _first("/usr/share/dict/words", "/etc/services"), Format.GZIP, 1, usual),
        ("Python source, fixed", text[:_SIZE // 4], Format.ZLIB, 6, zlib.Z_FIXED),
        ("random bytes, stored", random.Random(1).randbytes(_SIZE // 4), Format.ZLIB, 6, usual),
    )
    for name, content, format, level, strategy in found:
        if content:
            encoder = zlib.compressobj(level, zlib.DEFLATED, _WBITS[format], strategy=strategy)
            yield name, encoder.compress(content) + encoder.flush(), format
