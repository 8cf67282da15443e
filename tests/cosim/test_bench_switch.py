# SPDX-License-Identifier: Apache-2.0
"""A whole switch under cocotb and cocotbext-axi."""

import pytest

from rackgate_tb.axi_pins import switch
from rackgate_tb.launch import run

pytestmark = [pytest.mark.cosim, pytest.mark.timeout(2400), pytest.mark.xdist_group("bench_switch")]


def test_switch(seed):
    outcome = run(switch, name="switch", module="rackgate_tb.bench_switch", seed=seed, limit=900,
                  parameters={"pipeline": "balancer", "width": 8, "slots": 4, "slot_size": 512})
    assert outcome.tests == 8
