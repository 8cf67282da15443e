# SPDX-License-Identifier: Apache-2.0
"""What a device was built from: the number in its BUILD registers, and the commit. Plain Python."""

import ast
import functools
import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rackgate.paths import cache_root, checkout

__all__ = ["Source", "build_hash", "commit", "sources"]

_PACKAGE = Path(__file__).parent


def _file(module: str) -> Path | None:
    """Source of a module of this package; ``None`` for another one, and for names that are no module."""
    first, *rest = module.split(".")
    if first != _PACKAGE.name:
        return None
    place = _PACKAGE.joinpath(*rest)
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@dataclass(frozen=True)
class Source:
    """What one file says: the hash of its code, and the names that it may import (relative ones begin with dots)."""

    digest: str
    imports: tuple[str, ...]


def _parse(text: bytes) -> Source:
    """Code without its docstrings: what they say builds nothing."""
    tree = ast.parse(text)
    imports = tuple(_imports(tree))
    for node in ast.walk(tree):
        is_documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        if is_documented and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return Source(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports)


@functools.cache
def _recipe() -> bytes:
    """What a parsed source depends on beside its text: this file, and the version of Python."""
    return sys.version.encode() + Path(__file__).read_bytes()


@functools.cache
def _read(text: bytes) -> Source:
    """What one file says, from the cache if it was parsed before: a command opens a device of a hundred files."""
    place = cache_root() / "sources" / hashlib.sha256(_recipe() + text).hexdigest()
    try:
        digest, *imports = place.read_text().split("\n")
        if re.fullmatch("[0-9a-f]{64}", digest):
            return Source(digest, tuple(imports))
    except (OSError, UnicodeDecodeError):
        pass
    source = _parse(text)
    _keep(place, "\n".join([source.digest, *source.imports]))
    return source


def _keep(place: Path, text: str) -> None:
    """Write a file whole or not at all; a cache that cannot be written is no error."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False) as part:
            part.write(text)
        Path(part.name).rename(place)
    except OSError:
        pass


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base, dots = node.module or "", "." * node.level
            yield dots + base
            yield from (f"{dots}{base}{'.' if base else ''}{alias.name}" for alias in node.names)


def _absolute(name: str, path: Path) -> str:
    """A name that the file at ``path`` imports, without its dots."""
    rest = name.lstrip(".")
    if not (dots := len(name) - len(rest)):
        return name
    folder = path.relative_to(_PACKAGE).parents[dots - 1]
    return ".".join([_PACKAGE.name, *folder.parts, *([rest] if rest else [])])


def sources(module: str) -> dict[str, Source]:
    """Sources of ``module`` and of everything of this package that it imports, by file name within the package.

    Raises ``ValueError`` when there is no such module.
    """
    if _file(module) is None:
        raise ValueError(f"module must be one of package {_PACKAGE.name}, not {module!r}")
    found: dict[str, Source] = {}
    waiting = [module]
    while waiting:
        path = _file(waiting.pop())
        if path is not None and (name := path.relative_to(_PACKAGE).as_posix()) not in found:
            found[name] = _read(path.read_bytes())
            waiting += [_absolute(item, path) for item in found[name].imports]
    return found


def build_hash(module: str, parameters: Mapping[str, int]) -> int:
    """64 bits that change with the code that ``module`` is made of, and with its parameters.

    Comments, docstrings and layout do not count. The same sources give the same number on every machine with the same
    version of Python.
    """
    total = hashlib.sha256(repr(sorted(parameters.items())).encode())
    for name, source in sorted(sources(module).items()):
        total.update(f"\n{name} {source.digest}".encode())
    return int.from_bytes(total.digest()[:8], "little")


def commit(folder: Path | None = None) -> str | None:
    """The checkout's commit, with "-dirty" behind it if tracked files have changed; None outside a checkout."""
    folder = folder or checkout()
    if folder is None:
        return None
    try:
        done = subprocess.run(["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"],
                              capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
