# SPDX-License-Identifier: Apache-2.0
"""A regression run once a fault: what is told of each end that a test can come to, and which tests go first."""

import json
import subprocess
import sys

import pytest

from rackgate_tb.quality.serve import Order

CONFTEST = """
from pathlib import Path

from rackgate_tb.quality import serve

serve._LEAST_PATIENCE, serve._SILENCE = 0.5, 8.0


def pytest_configure(config):
    config.pluginmanager.register(serve.Server({count}, Path("verdicts.jsonl"), budget={budget}))
"""

TESTS = """
import os
import time

import pytest

FAULT = lambda: int(os.environ["RACKGATE_FAULT"])


@pytest.fixture(scope="module")
def ready():
    assert FAULT() != 5, "no fixture"


def test_quick(ready):
    with open("ran", "a") as file:
        file.write(f"{FAULT()}")
    assert FAULT() != BROKEN and FAULT() != 1


def test_ends(ready):
    if FAULT() == 2:
        os.abort()
    while FAULT() == 3:
        pass
    if FAULT() == 4:
        time.sleep(100)
"""


def serve(folder, count, broken=-1, budget="serve.math.inf"):
    (folder / "conftest.py").write_text(CONFTEST.format(count=count, budget=budget))
    (folder / "test_small.py").write_text(TESTS.replace("BROKEN", str(broken)))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_small.py"], cwd=folder,
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 5), done.stdout + done.stderr
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text().splitlines()]


@pytest.mark.thorough
def test_every_end_of_a_test_is_told(tmp_path):
    found = serve(tmp_path, 6)
    assert [one["fault"] for one in found] == list(range(7))
    assert [one["caught"] for one in found] == [False, True, True, True, True, True, False]
    assert [one["timed_out"] for one in found] == [False, False, False, True, True, False, False]
    for number, words in ((1, "test_quick: assert"), (2, "test_ends: the process ended with -6"),
                          (3, "test_ends: no end"), (4, "test_ends: no end"), (5, "no fixture")):
        assert words in found[number]["by"].replace("AssertionError: ", ""), found[number]
    # Without a fault and with the last both ran; with fault 5 no test did.
    ran = (tmp_path / "ran").read_text()
    assert ran[0] == "0" and ran[-1] == "6" and "5" not in ran


@pytest.mark.thorough
def test_what_fails_without_a_fault_is_all_that_is_told(tmp_path):
    (only,) = serve(tmp_path, 3, broken=0)
    assert only["fault"] == 0 and only["caught"] and "test_quick" in only["by"]


@pytest.mark.thorough
def test_a_budget_ends_it_in_time(tmp_path):
    found = serve(tmp_path, 3, budget=-1.0)
    assert [one["fault"] for one in found] == [0]


def test_the_order_is_that_of_catches_for_their_time():
    order = Order({"long": 30.0, "short": 1.0, "middle": 3.0})
    assert order() == ["short", "middle", "long"]
    for _ in range(20):
        order.ran("short", caught=False)
        order.ran("middle", caught=True)
    assert order() == ["middle", "short", "long"]


def test_a_test_may_take_four_times_as_long_and_no_less_than_some_seconds():
    order = Order({"long": 30.0, "short": 1.0})
    assert (order.tests["long"].limit, order.tests["short"].limit) == (120.0, 20.0)
