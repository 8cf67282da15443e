# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the seed of a run, and the environment's tools on PATH."""

import os
import sys
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=int(os.environ.get("RACKGATE_SEED") or 1),
                     help="seed of random tests (default: $RACKGATE_SEED, else 1)")


def pytest_configure(config):
    # cocotb and sby look their tools up by name; an environment need not be activated for that.
    tools = str(Path(sys.prefix) / "bin")
    if tools not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = tools + os.pathsep + os.environ["PATH"]


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_collection_modifyitems(config, items):
    """Let one worker run what shares a build, so that no worker waits for another's compiler.

    A test that compiles a model belongs to its file's group unless it names one. The group is the end of the test's
    name, from which the scheduler reads it; pytest-xdist 3.8 writes it where pytest 9.2 does not look any more.
    """
    for item in items:
        if item.get_closest_marker("cosim") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    yield
    for item in items if getattr(config.option, "loadgroup", False) else []:
        group = "@" + "_".join(sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")}))
        if group != "@" and not item.nodeid.endswith(group):
            item._id = type(item.id).parse(item.nodeid + group)


def pytest_report_header(config):
    return f"seed: {config.getoption('--seed')} (replay with --seed)"


@pytest.fixture
def seed(request):
    """The run's seed, printed into the report of a test that fails."""
    value = request.config.getoption("--seed")
    print(f"seed: {value}")
    return value
