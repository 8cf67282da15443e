# SPDX-License-Identifier: Apache-2.0
"""The MAC's bench."""

import pytest

from rackgate.mac.mac import Mac
from rackgate_tb.launch import run

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("width", [4, pytest.param(8, marks=pytest.mark.soak)])
def test_mac(width, seed):
    outcome = run(Mac, name="mac", module="rackgate_tb.bench_mac", parameters={"width": width}, seed=seed, limit=600)
    assert outcome.tests == 7
