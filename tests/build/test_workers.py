# SPDX-License-Identifier: Apache-2.0
"""Tests of one group run on one worker, one after the other, whatever versions pytest and pytest-xdist have."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.build

CONFTEST = Path(__file__).parents[1] / "conftest.py"
OPTIONS = ["-n", "2", "--dist=loadgroup", "-v", "-p", "no:cacheprovider"]
# A group by name, a group by its file, and one test after the other; each long enough for both workers to get some.
TESTS = '''
import time
import pytest

@pytest.mark.xdist_group("named")
@pytest.mark.parametrize("number", range(4))
def test_named(number): time.sleep(0.1)

@pytest.mark.cosim
@pytest.mark.parametrize("number", range(4))
def test_compiled(number): time.sleep(0.1)

@pytest.mark.parametrize("number", range(8))
def test_alone(number): time.sleep(0.1)
'''


def test_a_group_has_one_worker(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = cosim\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run([sys.executable, "-m", "pytest", *OPTIONS], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    workers = {}
    for worker, name in re.findall(r"\[(gw\d)\] .* PASSED test_some\.py::(test_\w+)\[", done.stdout):
        workers.setdefault(name, []).append(worker)
    assert {name: len(of) for name, of in workers.items()} == {"test_named": 4, "test_compiled": 4, "test_alone": 8}
    assert len(set(workers["test_named"])) == len(set(workers["test_compiled"])) == 1
    assert set(workers["test_named"] + workers["test_compiled"] + workers["test_alone"]) == {"gw0", "gw1"}
