# SPDX-License-Identifier: Apache-2.0
import shutil
from pathlib import Path

import pytest

from rackgate import provenance
from rackgate.provenance import build_hash, sources


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A copy of the package to change."""
    copy = tmp_path / "rackgate"
    shutil.copytree(Path(provenance.__file__).parent, copy)
    monkeypatch.setattr(provenance, "_PACKAGE", copy)
    return copy


def test_sources_are_what_is_imported():
    found = sources("rackgate.inflate.top")
    assert {"inflate/top.py", "inflate/abi.py", "csr/map.py", "axi/bus.py"} <= set(found)
    assert not {"export.py", "paths.py", "provenance.py"} & set(found)
    assert set(sources("rackgate.csr.map")) == {"csr/map.py"}


def test_relative_imports_count(package):
    (package / "inner").mkdir()
    (package / "inner" / "__init__.py").write_text("from . import a\n")
    (package / "inner" / "a.py").write_text("from .b import x\nfrom ..csr import map\n")
    (package / "inner" / "b.py").write_text("from .. import paths\n")
    assert {"inner/a.py", "inner/b.py", "csr/map.py", "paths.py"} <= set(sources("rackgate.inner"))
    assert {"pisa/matchaction.py", "pisa/lower.py", "pisa/declare.py"} <= set(sources("rackgate.pisa.switch"))


@pytest.mark.parametrize("module", ["os.path", "rackgate.nothing", "rackgate.inflate.abi.Status"])
def test_no_module(module):
    with pytest.raises(ValueError, match="module must be one of package rackgate, not"):
        sources(module)


def test_what_changes_it(package):
    before = build_hash("rackgate.inflate.abi", {"contexts": 2})
    assert before == build_hash("rackgate.inflate.abi", {"contexts": 2}) and 0 < before < 1 << 64
    assert before != build_hash("rackgate.inflate.abi", {"contexts": 1})
    abi, csr = package / "inflate" / "abi.py", package / "csr" / "map.py"
    abi.write_text(abi.read_text().replace('"""A job.', '"""Some job.') + "\n# a comment\n")
    assert before == build_hash("rackgate.inflate.abi", {"contexts": 2})
    csr.write_text(csr.read_text().replace('b"RGAT"', 'b"TAGR"'))  # what it imports counts
    assert before != build_hash("rackgate.inflate.abi", {"contexts": 2})


def test_parsed_sources_are_kept(package, monkeypatch, tmp_path):
    """And read again, whatever the cache has come to: another process gets the same number."""
    monkeypatch.setenv("RACKGATE_CACHE", str(tmp_path / "cache"))
    kept, parsed = tmp_path / "cache" / "sources", []
    parse = provenance._parse
    monkeypatch.setattr(provenance, "_parse", lambda text: parsed.append(text) or parse(text))

    def number():
        provenance._read.cache_clear()  # as another process begins
        parsed.clear()
        return build_hash("rackgate.csr.map", {}), len(parsed)

    (package / "csr" / "map.py").write_text("from .. import paths\n")
    fresh, files = number()
    assert files == 3 and len(list(kept.iterdir())) == 3
    assert number() == (fresh, 0)
    damaged, other, _ = sorted(kept.iterdir())
    damaged.write_bytes(b"\xff")
    other.write_text("")
    assert number() == (fresh, 2) and number() == (fresh, 0)
    (package / "csr" / "map.py").write_text("from .. import paths\nx = 1\n")
    changed, files = number()
    assert changed != fresh and files == 1
    shutil.rmtree(kept)
    kept.touch()  # no folder can be made here
    assert number() == (changed, 3)
