# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""dma.Fetcher and dma.Placer under cocotb and cocotbext-axi."""

import pytest

from rackgate_tb.launch import run
from rackgate_tb.range_copier import range_copier

pytestmark = [pytest.mark.cosim]


@pytest.mark.parametrize("width", [8, 32])
def test_ranges(width, seed):
    outcome = run(range_copier, name="ranges", module="rackgate_tb.bench_ranges", parameters={"width": width},
                  seed=seed)
    assert outcome.tests == 5


@pytest.mark.soak
@pytest.mark.parametrize("width", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("variant", range(4))
def test_ranges_long(width, variant, seed):
    small = {"fifo_depth": 17, "burst": 16, "outstanding": 2} if variant % 2 else {}
    outcome = run(range_copier, name="ranges", module="rackgate_tb.bench_ranges", parameters={"width": width, **small},
                  seed=100 * seed + variant)
    assert outcome.tests == 5
