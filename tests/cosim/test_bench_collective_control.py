# SPDX-License-Identifier: Apache-2.0
"""The control side of the collective engine under cocotb."""

import pytest

from rackgate.collective.control.unit import ControlUnit
from rackgate_tb.launch import run

pytestmark = [pytest.mark.cosim, pytest.mark.timeout(2400), pytest.mark.xdist_group("bench_collective_control")]


def unit(types, calls):
    return ControlUnit(types=types, calls=calls)


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.soak)])
def test_control(seed, rounds):
    outcome = run(unit, name="control", module="rackgate_tb.bench_collective_control",
                  parameters={"types": 0x8000000F, "calls": 8}, options={"rounds": rounds}, seed=seed, limit=1200)
    assert outcome.tests == 2
    report = outcome.report
    assert report["moves"] > 50 * rounds
    assert min(report.get(name, 0) for name in ("SUCCESS", "ABORTED", "COMMUNICATOR_BROKEN")) > 0
