# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The whole inflate device under cocotb and cocotbext-axi."""

import pytest

from rackgate.stream.queue import Queue
from rackgate_tb.axi_pins import AxiPins, inflate
from rackgate_tb.launch import run

pytestmark = [pytest.mark.cosim, pytest.mark.timeout(2400), pytest.mark.xdist_group("bench_inflate")]

# The number is the bench's own, so that an edit that leaves the Verilog as it is builds nothing.
PARAMETERS = {"contexts": 2, "build": 0x0123456789ABCDEF}


def test_inflate(seed):
    outcome = run(inflate, name="inflate", module="rackgate_tb.bench_inflate", parameters=PARAMETERS, seed=seed,
                  limit=600)
    assert outcome.tests == 8


def test_speed(seed):
    outcome = run(inflate, name="inflate", module="rackgate_tb.bench_speed", parameters=PARAMETERS, seed=seed,
                  options={"cycles": 20_000, "bytes": 2000})
    print(outcome.report)
    # A build with all signals public does a tenth of it; far below the target, as other tests run beside it.
    assert outcome.report["idle_cpu"] > 15_000


def test_pins_are_for_axi_only():
    with pytest.raises(TypeError, match="members must be AXI, packets or plain signals, not i"):
        AxiPins(Queue(8, depth=4))
