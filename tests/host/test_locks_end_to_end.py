# SPDX-License-Identifier: Apache-2.0
"""Clients, hosts and a switch on links that lose, reorder and repeat: what the clients see is what locks may show."""

import pytest
from lock_world import DeviceSwitch, ModelSwitch, Network, simulate

from rackgate_host.device import open_device

#: By name, and how many later shared requests may overtake an exclusive one that the switch has seen.
NETWORKS = {
    "ordered": (Network(), 16),
    "reordered": (Network(jitter=100e-6), 16),
    "repeated": (Network(jitter=100e-6, duplicate=0.2), 16),
    "lossy": (Network(jitter=100e-6, loss=0.1, duplicate=0.1), 64),
    "awful": (Network(jitter=300e-6, loss=0.3, duplicate=0.3), 64),
}


def run(seed, name, **options):
    network, bypasses = NETWORKS[name]
    result = simulate(seed, network=network, most_bypasses=bypasses, **options)
    assert not result.wrong, (seed, result.wrong, result.counts)
    return result


def story(seeds, name):
    """Several seeds, with all that can happen in them."""
    total = sum((run(seed, name, clients=4 + seed % 6, hosts=2 + seed % 3, locks=1 + seed % 3, patient=seed % 4 == 0)
                 .counts for seed in seeds), start=run(seeds[0], name).counts)
    for what in ("granted", "busy", "cancelled", "late"):
        assert total[what], f"nothing was {what} in {len(seeds)} seeds"
    assert bool(total["lost"]) == bool(NETWORKS[name][0].loss)
    assert bool(total["duplicated"]) == bool(NETWORKS[name][0].duplicate)


@pytest.mark.parametrize("name", NETWORKS)
def test_fifty_seeds(seed, name):
    story([1000 * seed + number for number in range(10)], name)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("name", NETWORKS)
def test_a_thousand_seeds(seed, name, part):
    story([1000 * seed + 10 + 20 * part + number for number in range(20)], name)


@pytest.mark.parametrize("protocol", ["netlock", "server"])
def test_the_others_on_ordered_links(seed, protocol):
    for number in range(5):
        result = simulate(seed + number, protocol, Network(), clients=8)
        assert not result.wrong, (seed + number, result.wrong)
        assert result.counts["granted"] and result.counts["cancelled"] + result.counts["late"]


@pytest.mark.soak
@pytest.mark.parametrize("protocol", ["netlock", "server"])
def test_the_others_at_length(seed, protocol):
    for number in range(100):
        result = simulate(1000 * seed + number, protocol, Network(), clients=8, rounds=30)
        assert not result.wrong, (1000 * seed + number, result.wrong)


def test_a_run_is_the_same_every_time(seed):
    first, second = (run(seed, "awful") for _ in range(2))
    assert first.history.events == second.history.events and first.counts == second.counts
    assert run(seed + 1, "awful").history.events != first.history.events


# What must be found


class Generous(ModelSwitch):
    """Thinks every lock free that is asked for."""

    def send(self, message, host):
        if message[1] == 1:
            self.switch.model.registers["locks"].clear()
        return super().send(message, host)


def test_a_switch_that_grants_everything_is_found_out(seed):
    result = simulate(seed, network=Network(), switch=Generous)
    assert any("while request" in line for line in result.wrong), result.wrong


def test_a_protocol_that_sends_nothing_again_is_found_out(seed):
    result = simulate(seed, "netlock", Network(loss=0.1), rounds=30)
    assert "the clients have not come to their end: ten minutes went by" in result.wrong


# Devices


def on_device(device, seeds):
    with device:
        switch = DeviceSwitch(device)
        for number in seeds:
            result = run(number, list(NETWORKS)[number % len(NETWORKS)], switch=switch, rounds=8)
            assert result.counts["granted"]


def test_behind_the_model_device(seed):
    on_device(open_device("model:fisslock", locks=64), range(seed, seed + 3))


@pytest.mark.cosim
@pytest.mark.xdist_group("fisslock")
def test_behind_the_verilated_switch(seed):
    on_device(open_device("sim:fisslock", locks=1024, variant="brief"), range(seed, seed + 5))


@pytest.mark.cosim
@pytest.mark.soak
def test_behind_the_verilated_switch_at_length(seed):
    on_device(open_device("sim:fisslock", locks=1024, variant="brief"), range(1000 * seed, 1000 * seed + 50))
