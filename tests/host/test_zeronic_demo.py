# SPDX-License-Identifier: Apache-2.0
"""``rackgate zeronic demo``: shows Redis where it can, and says why where it cannot."""

import json
import shutil

import pytest
from typer.testing import CliRunner
from zeronic_hosts import need_hosts

from rackgate_host.cli import app
from rackgate_host.zeronic import demo, namespaces
from rackgate_host.zeronic.errors import NoHosts

ARGUMENTS = ["zeronic", "demo", "--device", "model:zeronic", "--values", "4", "--json"]


def run(*arguments):
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, json.loads(done.stdout)


def test_shows_redis(seed):
    need_hosts()
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not there: apt-get install redis-server")
    code, found = run(*ARGUMENTS, "--seed", str(seed))
    assert code == 0 and found["shown"] and found["seed"] == seed
    assert found["equal"] == found["values"] == 4 and found["bytes"] > 64 << 10
    for about in found["hosts"].values():
        assert about["stack"]["payload_up"] + about["stack"]["payload_down"] > 2 * found["bytes"]
        assert about["stack"]["whole_bytes"] < 10_000


def test_says_why_not(monkeypatch):
    monkeypatch.setattr(namespaces, "check_possible", lambda: None)
    monkeypatch.setattr(demo.shutil, "which", lambda name: None)
    assert run(*ARGUMENTS) == (0, {"shown": False, "why": "there is no redis-server: apt-get install redis-server"})

    def impossible():
        raise NoHosts("not here")

    monkeypatch.setattr(namespaces, "check_possible", impossible)
    assert run(*ARGUMENTS) == (0, {"shown": False, "why": "not here"})
