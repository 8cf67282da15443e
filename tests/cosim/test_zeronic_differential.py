# SPDX-License-Identifier: Apache-2.0
"""The NIC's gateware does what its model does: rings, memory, frames and counters, byte for byte."""

import pytest
from zeronic_differential import Pair, Traffic
from zeronic_nic import DATA, REGION_SIZE

pytestmark = pytest.mark.cosim

#: How the memories and the wire behave.
WORLDS = {
    "quick": {},
    "slow": {"latency": 60, "write_latency": 40, "jitter": 30, "reorder": 1, "interleave": 1, "stall": 0.2},
}


def play(seed, rounds, merging, **options):
    """Rounds of commands and frames, compared after each; what was compared."""
    traffic = Traffic(seed, merging)
    pair = Pair("sim", seed=traffic.draw.randrange(1 << 30), **options)
    if "stall" in options:
        for name in ("net_rx", "net_tx"):
            pair.given.transport.simulation.stream(name).stall(options["stall"])
    pair.place(DATA, traffic.draw.randbytes(REGION_SIZE))
    if merging:
        pair.write("COALESCE_CYCLES", (1 << 31) - 1)  # never by time, which is not the same for both
        pair.write("COALESCE_BYTES", 3000)
    pair.do(traffic.setup(pair.model.base))
    for _ in range(rounds):
        pair.do(traffic.commands())
        kinds = [traffic.frames, traffic.frames, traffic.holes, *[traffic.run_of_frames] * (4 if merging else 0)]
        pair.receive(traffic.draw.choice(kinds)())
    assert pair.compared["entries"] > rounds and pair.compared["frames"] > rounds / 4
    return pair


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("merging", [False, True], ids=["each", "merged"])
def test_gateware_and_model_agree(seed, world, merging):
    play(f"{seed}/{world}/{merging}", 150, merging, **WORLDS[world])


@pytest.mark.soak
@pytest.mark.parametrize("width", [8, 16, 32])
@pytest.mark.parametrize("merging", [False, True], ids=["each", "merged"])
@pytest.mark.parametrize("world", WORLDS)
def test_gateware_and_model_agree_for_long(seed, width, world, merging):
    for run in range(10):
        play(f"{seed}/{width}/{world}/{merging}/{run}", 1500, merging, width=width, **WORLDS[world])
