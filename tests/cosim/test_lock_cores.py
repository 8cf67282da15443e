# SPDX-License-Identifier: Apache-2.0
"""Cycles of the lock pipelines, as the bench of locks counts them."""

import pytest

from rackgate_sim.locks.cores import COPIES_LATENCY, fused_core, measure, netlock_core
from rackgate_sim.pisa.model import PipelineModel

pytestmark = pytest.mark.cosim


def test_fused(seed):
    found = measure(fused_core(1024), 1000, seed=seed, variant="brief")
    assert found.packets_per_cycle == 1 and found.passes == found.packets == 1000
    assert found.latency - COPIES_LATENCY <= 8


def test_netlock(seed):
    found = measure(netlock_core(1024, 8), 1000, seed=seed, variant="brief")
    assert found.packets_per_cycle == 1 and found.latency <= 40
    contended = measure(netlock_core(1024, 8, waiting=3), 1000, seed=seed, variant="brief")
    assert contended.passes > 1000 and contended.packets_per_cycle < 1


def test_words_to_begin_with_are_in_both(seed):
    core = fused_core(1024)
    held = core._replace(words={"locks": {0: 3}})  # exclusively, by nobody
    assert measure(held, 200, seed=seed, variant="brief").packets == 200


def test_a_difference_is_told(seed, monkeypatch):
    right = PipelineModel.one_pass

    def one_pass(model, vector, registers=None):
        copies = right(model, vector, registers)
        return copies[:0] if len(model.registers["locks"]) > 2 else copies

    monkeypatch.setattr(PipelineModel, "one_pass", one_pass)
    with pytest.raises(AssertionError, match="output 2 is .*, the model's None"):
        measure(fused_core(1024), 200, seed=seed, variant="brief")
