# SPDX-License-Identifier: Apache-2.0
"""The whole IAA device under cocotb and cocotbext-axi."""

import pytest

from rackgate_tb.axi_pins import iaa
from rackgate_tb.launch import run

pytestmark = [pytest.mark.cosim, pytest.mark.timeout(2400), pytest.mark.xdist_group("bench_iaa")]

# A small design; the number is the bench's own, so that an edit that leaves the Verilog as it is builds nothing.
PARAMETERS = {"contexts": 2, "window": 4096, "lanes": 8, "queues": 2, "entries": 8, "build": 0x0123456789ABCDEF}


def test_iaa(seed):
    outcome = run(iaa, name="iaa", module="rackgate_tb.bench_iaa", parameters=PARAMETERS, seed=seed, limit=600)
    assert outcome.tests == 8
