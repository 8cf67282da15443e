# SPDX-License-Identifier: Apache-2.0
"""OnChipMemory under cocotb and cocotbext-axi."""

import pytest

from rackgate_tb.bench_onchip import onchip
from rackgate_tb.launch import run

pytestmark = [pytest.mark.cosim]


@pytest.mark.parametrize("initiators", [pytest.param(1, marks=pytest.mark.soak), 3])
def test_onchip_memory(initiators, seed):
    outcome = run(onchip, name="onchip", module="rackgate_tb.bench_onchip", parameters={"initiators": initiators},
                  seed=seed)
    assert outcome.tests == 3
