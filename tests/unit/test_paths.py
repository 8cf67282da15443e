# SPDX-License-Identifier: Apache-2.0
"""Where caches and results go."""

from pathlib import Path

import pytest

from rackgate import paths

TOP = Path(__file__).parents[2]


@pytest.fixture
def bare(monkeypatch):
    """No variable of this machine says anything."""
    for name in ("RACKGATE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_in_the_checkout(bare):
    assert paths.checkout() == TOP
    assert paths.build_root() == TOP / "build"
    assert paths.cache_root() == TOP / "build" / "cache"


def test_the_environment_wins(bare, tmp_path):
    bare.setenv("RACKGATE_CACHE", str(tmp_path))
    assert paths.cache_root() == tmp_path


def test_installed_without_a_checkout(bare, tmp_path):
    bare.setattr(paths, "checkout", lambda: None)
    bare.chdir(tmp_path)
    bare.setenv("HOME", str(tmp_path / "home"))
    assert paths.build_root() == tmp_path / "build"
    assert paths.cache_root() == tmp_path / "home" / ".cache" / "rackgate"
    bare.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert paths.cache_root() == tmp_path / "other" / "rackgate"


def test_a_package_outside_a_checkout(bare, tmp_path):
    place = tmp_path / "site-packages" / "rackgate" / "paths.py"
    bare.setattr(paths, "__file__", str(place))
    assert paths.checkout() is None
