# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The NIC's front under cocotb and cocotbext-axi, with frames made by Scapy."""

import json
import random

import pytest
from zeronic_frames import random_frame

from rackgate_tb.frame_intake import frame_intake
from rackgate_tb.launch import run

pytestmark = [pytest.mark.cosim]


def take_in(width, seed, count, folder):
    """Run the bench with as many frames."""
    rng, place = random.Random(seed), folder / "frames.json"
    place.write_text(json.dumps([(random_frame(rng).hex(), rng.random() < 0.02) for _ in range(count)]))
    outcome = run(frame_intake, name="frame_intake", module="rackgate_tb.bench_zeronic_front",
                  parameters={"width": width, "words": 32768 // width}, options={"frames": str(place)}, seed=seed)
    assert outcome.tests == 4
    assert all(outcome.report[name] for name in ("kept", "bad_frame", "bad_ip_checksum", "bad_checksum"))


@pytest.mark.parametrize("width", [8, 32])
def test_front(width, seed, tmp_path):
    take_in(width, seed, 400, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("width", [8, 16, 32])
def test_front_long(width, seed, tmp_path):
    take_in(width, 100 * seed + 1, 6000, tmp_path)
