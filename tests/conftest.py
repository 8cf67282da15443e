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


def pytest_report_header(config):
    return f"seed: {config.getoption('--seed')} (replay with --seed)"


@pytest.fixture
def seed(request):
    """The run's seed, printed into the report of a test that fails."""
    value = request.config.getoption("--seed")
    print(f"seed: {value}")
    return value
