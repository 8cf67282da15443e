# SPDX-License-Identifier: Apache-2.0
"""Bitstreams from gateware to file, with clocks that hold: every pair of board and system that is supported."""

import json

import pytest

from rackgate_boards.build import bitstream, report_path
from rackgate_boards.pairs import DoesNotFit, pairs

SUPPORTED = [pair for _, _, pair in pairs() if not isinstance(pair, DoesNotFit)]

pytestmark = [pytest.mark.build, pytest.mark.xdist_group("yowasp")]


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pair", SUPPORTED, ids=lambda pair: pair.name)
def test_each_pair(pair):
    path, figures = bitstream(pair, report=print)
    assert path.stat().st_size > 50_000
    assert figures.fmax_mhz >= figures.clock_mhz == pair.configuration.clock_mhz
    assert all(timing["achieved_mhz"] >= timing["constraint_mhz"] for timing in figures.clocks.values())
    assert len(figures.clocks) == (1 if pair.link_name == "uart" else 3)
    assert all(0 < figures.available[name] >= getattr(figures, name) for name in ("lut4", "ff", "ebr", "dsp"))
    told = json.loads(report_path(pair.name).read_text())
    assert (told["board"], told["system"], told["lut4"]) == (pair.board.name, pair.system, figures.lut4)
